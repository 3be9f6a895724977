"""Let pg_dump carry models where Pageformer is an extension."""

from pageformer.migrations.script import run

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Leave to a trigger what a circle of foreign keys did."""
    run("0005_extension.up.sql")


def downgrade() -> None:
    """Close the circle again."""
    run("0005_extension.down.sql")
