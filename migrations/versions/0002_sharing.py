"""Let versions share blocks that are alike, not only equal ones."""

from pageformer.migrations.script import run

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the format of differences, signatures of blocks, and what a version was shared by."""
    run("0002_sharing.up.sql")


def downgrade() -> None:
    """Take these back; refused while a page of differences is stored."""
    run("0002_sharing.down.sql")
