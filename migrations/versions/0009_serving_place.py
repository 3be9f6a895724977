"""Let the serving process know the limits of the page cache as well."""

from pageformer.migrations.script import run

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Drop the function whose columns change; the install makes it anew."""
    run("0009_serving_place.up.sql")


def downgrade() -> None:
    """Do nothing: a downgrade drops all functions first."""
