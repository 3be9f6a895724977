"""What changes the tables, once and in order, and what installs everything around them."""

# While Alembic is imported it loads our plugin, which is in here: so Alembic always comes first.
import alembic as alembic
