"""Remember which version made which vector."""

from pageformer.migrations.script import run

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns that `pageformer embed` fills, and who made each of their rows."""
    run("0003_embedding.up.sql")


def downgrade() -> None:
    """Forget it; the vectors stay."""
    run("0003_embedding.down.sql")
