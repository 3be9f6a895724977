"""Limit the page cache."""

from pageformer.migrations.script import run

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the settings of the page cache's limit and policy."""
    run("0008_cache.up.sql")


def downgrade() -> None:
    """Let it grow as before."""
    run("0008_cache.down.sql")
