"""The SQL that an install is made of, apart from the revisions."""

from importlib.resources import files


def script(file: str) -> str:
    """Read a script of `sql/`."""
    return files("pageformer.migrations").joinpath("sql", file).read_text(encoding="utf-8")


def surface() -> str:
    """Return the SQL of all views and functions, and of who may use them."""
    folder = files("pageformer.udfs").joinpath("sql")
    entries = sorted((e for e in folder.iterdir() if e.name.endswith(".sql")), key=lambda e: e.name)
    texts = [entry.read_text(encoding="utf-8") for entry in entries]
    return "\n".join([*texts, script("privileges.sql")])
