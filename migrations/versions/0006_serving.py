"""Let the owner choose who computes: backends, or the process that serves them all."""

from pageformer.migrations.script import run

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the setting `executor`."""
    run("0006_serving.up.sql")


def downgrade() -> None:
    """Let backends compute."""
    run("0006_serving.down.sql")
