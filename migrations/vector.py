"""pgvector's type for SQLAlchemy, which warns of columns whose type it does not know."""

from typing import Any

from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.types import UserDefinedType


class Vector(UserDefinedType[Any]):
    """A vector as autogenerate meets it; the package pgvector has one to compute with."""

    cache_ok = True

    def __init__(self, dimension: int | None = None) -> None:
        self.dimension = dimension

    def get_col_spec(self, **options: Any) -> str:
        """Write the type."""
        return "vector" if self.dimension is None else f"vector({self.dimension})"


def register() -> None:
    """Make the type known, unless another package has made its own known."""
    ischema_names.setdefault("vector", Vector)
