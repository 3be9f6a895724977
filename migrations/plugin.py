"""What Alembic finds when Pageformer is installed: operations, their rendering, autogenerate.

Registered under the entry point `alembic.plugins`, by a name that Alembic's default choice of
autogenerate plugins takes in. Alembic loads it while it is being imported itself: what needs more
of Alembic than operations is imported when it is needed.
"""

from typing import TYPE_CHECKING

from alembic.autogenerate.render import renderers
from alembic.util import DispatchPriority, PriorityDispatchResult

from pageformer.migrations import operations
from pageformer.migrations.operations import DeployModel, ModelOperation

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from alembic.operations.ops import UpgradeOps
    from alembic.runtime.plugins import Plugin

OURS = ("pageformer", "pageformer_op")


def setup(plugin: "Plugin") -> None:
    """Register everything; called by Alembic once."""
    plugin.add_autogenerate_comparator(know_vectors, "schema", priority=DispatchPriority.FIRST)
    plugin.add_autogenerate_comparator(leave_our_schemas, "schema", priority=DispatchPriority.FIRST)
    plugin.add_autogenerate_comparator(compare_models, "autogenerate")
    for operation in vars(operations).values():
        if isinstance(operation, type) and issubclass(operation, ModelOperation):
            renderers.dispatch_for(operation, replace=True)(render)


def know_vectors(
    context: "AutogenContext", changes: "UpgradeOps", schemas: set[str | None]
) -> PriorityDispatchResult:
    """Let tables with vectors be read without a warning."""
    from pageformer.migrations import vector

    vector.register()
    return PriorityDispatchResult.CONTINUE


def leave_our_schemas(
    context: "AutogenContext", changes: "UpgradeOps", schemas: set[str | None]
) -> PriorityDispatchResult:
    """Keep our tables out of the comparison, whatever a project compares."""
    schemas.difference_update(OURS)
    return PriorityDispatchResult.CONTINUE


def compare_models(context: "AutogenContext", changes: "UpgradeOps") -> PriorityDispatchResult:
    """Compare models, where a project declares some."""
    from pageformer.migrations.autogenerate import compare

    compare(context, changes)
    return PriorityDispatchResult.CONTINUE


def render(context: "AutogenContext", operation: ModelOperation) -> list[str]:
    """Write an operation as a line of a revision."""
    named = [(name, value) for name, value in vars(operation).items() if value]
    first = [repr(value) for _, value in named[:2]]
    arguments = ", ".join([*first, *(f"{name}={value!r}" for name, value in named[2:])])
    lines = [f"op.{operation.directive}({arguments})"]
    if isinstance(operation, DeployModel) and operation.resize:
        lines.append("# the vectors of these columns are gone: pageformer embed --stale")
    return lines
