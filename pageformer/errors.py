"""One family of errors: what was wrong, what was expected, what to do, and its SQLSTATE.

Raised anywhere below the CLI and the SQL surface, and translated once at each of these two
boundaries: `udfs/spi.py` turns them into `plpy.error`, `pageformer/cli.py` into one line.
"""


class PageformerError(Exception):
    """A failure that a user can act on.

    `message` says what was wrong and what was expected, `hint` what to do. `sqlstate` is a class
    attribute: one PostgreSQL error code (appendix A of its manual) per subclass.
    """

    sqlstate = "XX000"

    def __init__(self, message: str, *, hint: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.detail = detail


class UnknownName(PageformerError):
    """A model, version or role that does not exist."""

    sqlstate = "42704"


class DuplicateName(PageformerError):
    """A name that is taken by something else."""

    sqlstate = "42710"


class MissingGrant(PageformerError):
    """The current role may not use this model."""

    sqlstate = "42501"


class InvalidInput(PageformerError):
    """An argument outside its domain."""

    sqlstate = "22023"


class NotBuilt(PageformerError):
    """Something that this version of Pageformer does not do."""

    sqlstate = "0A000"


class InvalidCheckpoint(PageformerError):
    """Files that are not a model that can be loaded."""

    sqlstate = "22000"


class InvalidTask(PageformerError):
    """Files or arrays that are not a task, or not one of this version."""

    sqlstate = "22000"


class DamagedPage(PageformerError):
    """Bytes that differ from the hash that names them."""

    sqlstate = "XX001"


class ServerUnready(PageformerError):
    """A PostgreSQL server, cluster or folder that lacks a prerequisite."""

    sqlstate = "55000"


class DuplicateContent(PageformerError):
    """Bytes that are stored already and mean something else there."""

    sqlstate = "23505"


class ObjectsInUse(PageformerError):
    """Something that cannot go because others depend on it."""

    sqlstate = "2BP01"


class RefusedByServer(PageformerError):
    """A statement that PostgreSQL refused; tells the server's own message, hint and SQLSTATE."""

    def __init__(self, message: str, *, sqlstate: str, hint: str = "", detail: str = "") -> None:
        super().__init__(message, hint=hint, detail=detail)
        self.sqlstate = sqlstate


class InvalidPacking(PageformerError):
    """Pages that do not give every tensor exactly its blocks; a fault of ours, never written."""

    sqlstate = "XX000"
