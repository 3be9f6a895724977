"""The head that a task brings: the layers that it saved, the rest from the version or its files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pageformer.errors import InvalidCheckpoint, InvalidTask
from pageformer.loader.families import expected_shapes
from pageformer.loader.families.heads import HEADS, Task, head_content, head_rules
from pageformer.loader.tasks.base import Base
from pageformer.loader.tasks.edits import Edits
from pageformer.loader.tasks.modules import Modules
from pageformer.loader.tasks.saved import Numbers, numbers

Tensors = Mapping[str, Callable[[], tuple[Numbers, str]]]  # plain checkpoint name -> it, its form


@dataclass(frozen=True)
class Wishes:
    """Say what a head's files may not: the names of its labels, and what makes scores of logits."""

    labels: Sequence[str] = ()
    scores: str | None = None  # softmax, sigmoid or none


def family_head(
    base: Base, task: Task, saved: Tensors, raw: Mapping[str, Any], wishes: Wishes, edits: Edits
) -> dict[str, Any]:
    """Read the head that the version's family has for a task; return its description.

    saved: what the task has of it. raw: a config.json that stands beside it. {}: it has none.
    Raises InvalidTask naming the layers that neither it nor the version has.
    """
    head = HEADS.get(base.config.family, {}).get(task)
    last = f"{head.steps[-1].linear}.weight" if head and head.steps else ""
    if head is None or last not in saved:
        return {}
    labels = len(saved[last]()[0])
    content = described(base, task, labels, raw, wishes)
    shapes = expected_shapes(base.config._replace(head=content))
    rules = [rule for rule in head_rules(head) if rule.name in shapes]
    for rule in rules:
        found = saved.get(rule.pattern)
        values, form = found() if found else base_tensor(base, task, rule.pattern, rule.name)
        edits.put(rule.name, values.T if rule.kind == "linear" else values, form)
    return content


def described(
    base: Base, task: Task, labels: int, raw: Mapping[str, Any], wishes: Wishes
) -> dict[str, Any]:
    """Describe a head: as the version's own where that is alike, else as transformers does."""
    own = base.config.head
    if own.get("task") == task and len(own.get("labels", ())) == labels and not raw:
        content = dict(own)
    else:
        try:
            content = head_content(task, raw, base.config, label_names(raw, labels))
        except InvalidCheckpoint as error:
            raise InvalidTask(error.message, hint=error.hint) from error
    return wished(content, wishes)


def wished(content: dict[str, Any], wishes: Wishes) -> dict[str, Any]:
    """Put in what the user said; raise InvalidTask for another number of labels."""
    if wishes.labels:
        if len(wishes.labels) != len(content.get("labels", ())):
            raise InvalidTask(
                f"{len(wishes.labels)} labels were named, and the head has "
                f"{len(content.get('labels', ()))}"
            )
        content = {**content, "labels": list(wishes.labels)}
    if wishes.scores is not None and content.get("task") == "sequence":
        content = {**content, "scores": wishes.scores}
    return content


def label_names(raw: Mapping[str, Any], labels: int) -> list[str]:
    """Read the names of labels from a config.json, if it has as many."""
    named = raw.get("id2label") or {}
    return [str(named.get(str(i), f"LABEL_{i}")) for i in range(labels)]


def base_tensor(base: Base, task: str, pattern: str, name: str) -> tuple[Numbers, str]:
    """Find a tensor of a head in the version's own head for that task, or in its files.

    pattern: what it is called in a checkpoint; name: in the version. A matrix comes `[out, in]`.
    Raises InvalidTask where neither has it.
    """
    if base.config.head.get("task") == task and base.has(name):
        return base.tensor(name).astype(np.float64).T, "f32"
    plain = Modules(base.config).family.plain_name
    try:
        found = {plain(key): tensor for key, tensor in base.files.items()}
    except InvalidCheckpoint as error:
        raise _missing(pattern, base, error.message) from error
    if pattern not in found:
        raise _missing(pattern, base, "its files do not either")
    return numbers(found[pattern]), found[pattern].form


def _missing(pattern: str, base: Base, why: str) -> InvalidTask:
    return InvalidTask(
        f"the task's head needs {pattern}, which neither it nor {base.model}@{base.label} has: "
        f"{why}",
        hint="Save it with the task (modules_to_save), or name a directory of the same model "
        "that has it by --base.",
    )
