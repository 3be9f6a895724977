"""Let Python answer with vectors, where it answered with their texts."""

from pageformer.migrations.script import run

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Drop the functions of texts; the install makes those of vectors."""
    run("0010_vectors.up.sql")


def downgrade() -> None:
    """Do nothing: a downgrade drops all functions first."""
