"""Alembic operations for models: `op.load_model(…)` and the like, each with its reverse.

A revision names models, labels and content hashes; weights never stand in it. Alembic loads this
module while it is being imported itself: only `alembic.operations` is there by then, so what an
operation does stands in `implementations.py`, which is imported when the first one runs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from alembic.operations import MigrateOperation, Operations


class ModelOperation(MigrateOperation):
    """One change of models."""

    directive: ClassVar[str]

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Tell `alembic check` what is different."""
        return (type(self).__name__, *vars(self).values())


Made = TypeVar("Made", bound=ModelOperation)


def run(operations: Operations, operation: ModelOperation) -> None:
    """Do what an operation says, or write it out when Alembic works offline."""
    from pageformer.migrations.implementations import run

    run(operation, operations)


def operation(name: str) -> Callable[[type[Made]], type[Made]]:
    """Make a dataclass of arguments callable as `op.<name>(…)`."""

    def register(made: type[Made]) -> type[Made]:
        def invoke(cls: type, operations: Operations, *args: Any, **kwargs: Any) -> Any:
            return operations.invoke(cls(*args, **kwargs))

        invoke.__name__, invoke.__doc__ = name, made.__doc__
        setattr(made, name, classmethod(invoke))
        made.directive = name
        Operations.implementation_for(made)(run)
        return Operations.register_operation(name)(made)

    return register


@operation("install_pageformer")
@dataclass
class InstallPageformer(ModelOperation):
    """Install Pageformer, unless the database has it at `revision` or later."""

    revision: str

    def reverse(self) -> MigrateOperation:
        """Take it out again."""
        return UninstallPageformer(self.revision)


@operation("uninstall_pageformer")
@dataclass
class UninstallPageformer(ModelOperation):
    """Take Pageformer out of the database; refused while a model is loaded."""

    revision: str

    def reverse(self) -> MigrateOperation:
        """Install it again."""
        return InstallPageformer(self.revision)


@operation("load_model")
@dataclass
class LoadModel(ModelOperation):
    """Load a version whose content has the hash `sha256`; the first of a model is deployed."""

    name: str
    version: str
    source: str
    sha256: str

    def reverse(self) -> MigrateOperation:
        """Drop it."""
        return DropModelVersion(self.name, self.version, self.source, self.sha256)


@operation("drop_model_version")
@dataclass
class DropModelVersion(ModelOperation):
    """Drop a version; source and hash are for the way back."""

    name: str
    version: str
    source: str
    sha256: str

    def reverse(self) -> MigrateOperation:
        """Load it again."""
        return LoadModel(self.name, self.version, self.source, self.sha256)


@operation("deploy_model")
@dataclass
class DeployModel(ModelOperation):
    """Deploy a version; `previous` is for the way back.

    resize: (table, column, dimension, previous dimension) of columns of vectors that follow the
    model into another dimension; what they held is gone.
    """

    name: str
    version: str
    previous: str
    resize: Sequence[tuple[str, str, int, int]] = ()

    def reverse(self) -> MigrateOperation:
        """Deploy the version before, and give the columns the dimension that they had."""
        back = [(table, column, old, new) for table, column, new, old in self.resize]
        return DeployModel(self.name, self.previous, self.version, back)


@operation("grant_model")
@dataclass
class GrantModel(ModelOperation):
    """Let a role, or 'public', use a model."""

    name: str
    role: str

    def reverse(self) -> MigrateOperation:
        """Take it back."""
        return RevokeModel(self.name, self.role)


@operation("revoke_model")
@dataclass
class RevokeModel(ModelOperation):
    """Let a role use a model no longer."""

    name: str
    role: str

    def reverse(self) -> MigrateOperation:
        """Grant it again."""
        return GrantModel(self.name, self.role)


@operation("load_task")
@dataclass
class LoadTask(ModelOperation):
    """Add a task whose content has the hash `sha256`; the first version of a task is deployed.

    model: as minilm, or minilm@v1. kind: bitfit, diff or mask, of a fine-tuned checkpoint.
    """

    model: str
    name: str
    version: str
    source: str
    sha256: str
    kind: str | None = None

    def reverse(self) -> MigrateOperation:
        """Drop it."""
        return DropTask(*vars(self).values())


@operation("drop_task")
@dataclass
class DropTask(ModelOperation):
    """Drop a version of a task; source, hash and kind are for the way back."""

    model: str
    name: str
    version: str
    source: str
    sha256: str
    kind: str | None = None

    def reverse(self) -> MigrateOperation:
        """Add it again."""
        return LoadTask(*vars(self).values())


@operation("deploy_task")
@dataclass
class DeployTask(ModelOperation):
    """Deploy a version of a task; `previous` is for the way back."""

    model: str
    name: str
    version: str
    previous: str

    def reverse(self) -> MigrateOperation:
        """Deploy the version before."""
        return DeployTask(self.model, self.name, self.previous, self.version)
