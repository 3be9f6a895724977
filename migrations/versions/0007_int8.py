"""Let models be computed in int8."""

from pageformer.migrations.script import run

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Allow `int8` as the compute setting of a model."""
    run("0007_int8.up.sql")


def downgrade() -> None:
    """Compute in bfloat16 what was computed in int8."""
    run("0007_int8.down.sql")
