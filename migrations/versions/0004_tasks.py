"""Keep tasks: small sets of edits over a version."""

from pageformer.migrations.script import run

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add tasks and the arrays that they share."""
    run("0004_tasks.up.sql")


def downgrade() -> None:
    """Drop them; their files can be added again."""
    run("0004_tasks.down.sql")
