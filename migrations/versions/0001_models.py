"""Create the tables that hold models."""

from pageformer.migrations.script import run

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    run("0001_models.up.sql")


def downgrade() -> None:
    """Drop the tables, with every model in them."""
    run("0001_models.down.sql")
