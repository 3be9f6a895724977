"""A task: a small set of edits over one version, in the one form that every format is read into.

A task is its config and named arrays. `<site>/<edit>/<part>` names an array of an edit; a site is
a linear map, a norm, a table, or a place of ours. A head that a task brings has the names that a
version's head has (`head.0.weight`). With y = x W + b at a linear site, the edits are, in order:

    scale_in    x := factor * x, at this site alone
    low_rank    product += (x down) up
    sparse      product += x S, S by columns: how many, in which rows, which values
    mask        product := x (W where kept)
    scale_out   product := factor * product
    bias        bias += difference

At a norm, `norm` replaces it. At a table, `rows` replaces rows, and `low_rank` and `sparse` (by
rows of the table) add to them. At `layer.i.attention` and `layer.i.feed_forward` stands a
`bottleneck`, at `layer.i` a `prefix` of further keys and values, at `embeddings` a `prompt`.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from pageformer.errors import InvalidTask

Shape = tuple[int, ...]
Parts = Mapping[str, tuple[str, ...]]  # a part of an edit -> its axes, by name

LINEAR: Mapping[str, Parts] = {
    "scale_in": {"factor": ("in",)},
    "low_rank": {"down": ("in", "rank"), "up": ("rank", "out")},
    "sparse": {"counts": ("out",), "indices": ("entries",), "values": ("entries",)},
    "mask": {"kept": ("in", "out")},
    "scale_out": {"factor": ("out",)},
    "bias": {"difference": ("out",)},
}
NORM: Mapping[str, Parts] = {"norm": {"weight": ("width",), "bias": ("width",)}}
TABLE: Mapping[str, Parts] = {
    "rows": {"numbers": ("replaced",), "values": ("replaced", "width")},
    "low_rank": {"down": ("rows", "rank"), "up": ("rank", "width")},
    "sparse": {"counts": ("rows",), "indices": ("entries",), "values": ("entries",)},
}
BOTTLENECK: Parts = {
    "down.weight": ("hidden", "rank"),
    "down.bias": ("rank",),
    "up.weight": ("rank", "hidden"),
    "up.bias": ("hidden",),
    "before.weight": ("hidden",),  # a norm of the bottleneck's own, in front of it
    "before.bias": ("hidden",),
    "after.weight": ("hidden",),  # and one behind it
    "after.bias": ("hidden",),
}
OPTIONAL = ("before.weight", "before.bias", "after.weight", "after.bias")
PLACE: Mapping[str, Parts] = {"bottleneck": BOTTLENECK}
LAYER: Mapping[str, Parts] = {
    "prefix": {"keys": ("tokens", "hidden"), "values": ("tokens", "hidden")}
}
EMBEDDINGS: Mapping[str, Parts] = {"prompt": {"embeddings": ("tokens", "width")}}

# What a bottleneck takes in and adds to: the sub-layer's own product, that and its residual, the
# norm of both, or the residual alone, which a parallel one is fed with.
State = Literal["product", "added", "normed", "residual"]


@dataclass(frozen=True)
class Bottleneck:
    """Tell where a bottleneck stands: y = a(input) + base, then norm(y + residual) if it closes.

    a(x) = up(activation(down(before(x)))), its scale being part of `up`.
    """

    activation: str
    input: State = "product"
    base: State = "product"
    base_before_norm: bool = True  # base is added before the norm `after`, or behind it
    closes: bool = True  # the sub-layer's own residual and norm follow; False: y is its output


@dataclass(frozen=True)
class TaskConfig:
    """Describe a task beside its arrays.

    kind: what it is called in views. first_position: where positions of tokens begin (prefixes of
    peft move them). head: as Config.head; {}: the version's own.
    """

    kind: str
    bottlenecks: dict[str, Bottleneck] = field(default_factory=dict)  # by site
    first_position: int = 0
    head: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Write canonical JSON: sorted keys, no spaces, so that equal configs have equal hashes."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "TaskConfig":
        """Read what `to_json` wrote."""
        content = json.loads(text)
        places = content.pop("bottlenecks")
        return cls(bottlenecks={at: Bottleneck(**place) for at, place in places.items()}, **content)


class ArrayName(NamedTuple):
    """Name an array of an edit."""

    site: str
    edit: str
    part: str

    def __str__(self) -> str:
        return "/".join(self)

    @classmethod
    def parse(cls, name: str) -> "ArrayName":
        """Read a name; raise InvalidTask when it is not one."""
        pieces = name.split("/")
        if len(pieces) != 3:
            raise InvalidTask(f"array {name} is not named site/edit/part")
        return cls(*pieces)


def check(task: TaskConfig, base: Mapping[str, Shape], arrays: Mapping[str, Shape]) -> None:
    """Raise InvalidTask, naming the array, unless arrays of these shapes edit such a version.

    base: the shape of every tensor of the version, its head being the task's where it brings one.
    """
    found: dict[tuple[str, str], dict[str, Shape]] = {}
    for name, shape in arrays.items():
        if name.startswith("head.") and "/" not in name:
            check_replaced(name, shape, base)
            continue
        site, edit, part = ArrayName.parse(name)
        found.setdefault((site, edit), {})[part] = shape
    for (site, edit), parts in found.items():
        edits, axes = what_stands_at(site, base)
        if edit not in edits:
            raise InvalidTask(f"{site} has no edit {edit}", hint=f"it has: {', '.join(edits)}")
        check_parts(f"{site}/{edit}", edits[edit], parts, axes)
    check_bottlenecks(task, {site for site, edit in found if edit == "bottleneck"})


def what_stands_at(
    site: str, base: Mapping[str, Shape]
) -> tuple[Mapping[str, Parts], Mapping[str, int]]:
    """Tell the edits that a site may have and the lengths of its axes; raise InvalidTask."""
    weight, table = base.get(f"{site}.weight"), base.get(site)
    if weight and len(weight) == 2:
        return LINEAR, {"in": weight[0], "out": weight[1]}
    if weight and site.endswith("norm"):
        return NORM, {"width": weight[0]}
    if table and len(table) == 2:
        return TABLE, {"rows": table[0], "width": table[1]}
    if site == "embeddings" and "embeddings.word" in base:
        return EMBEDDINGS, {"width": base["embeddings.word"][1]}
    layer, _, place = site.removeprefix("layer.").partition(".")
    query = base.get(f"layer.{layer}.attention.query.weight")
    if query and site.startswith("layer.") and place in ("", "attention", "feed_forward"):
        return (PLACE if place else LAYER), {"hidden": query[0]}
    raise InvalidTask(f"the version has no {site}", hint="was the task made for another model?")


def check_parts(
    where: str, wanted: Parts, parts: Mapping[str, Shape], axes: Mapping[str, int]
) -> None:
    """Raise InvalidTask unless an edit has the parts that it needs, and their axes agree."""
    for part in (parts.keys() - wanted.keys()) or (wanted.keys() - parts.keys() - {*OPTIONAL}):
        missing = "is missing" if part in wanted else "is not known"
        raise InvalidTask(f"{where}/{part} {missing}", hint=f"its parts: {', '.join(wanted)}")
    lengths = dict(axes)
    for part, shape in sorted(parts.items()):
        for axis, length in zip(wanted[part], shape, strict=False):
            lengths.setdefault(axis, length)
        expected = [lengths.get(axis, 0) for axis in wanted[part]]
        if list(shape) != expected:
            raise InvalidTask(f"{where}/{part} has shape {list(shape)}, not {expected}")


def check_bottlenecks(task: TaskConfig, sites: set[str]) -> None:
    """Raise InvalidTask unless the config describes just the bottlenecks that have arrays."""
    for site in sites ^ task.bottlenecks.keys():
        what = "arrays" if site in task.bottlenecks else "description"
        raise InvalidTask(f"the bottleneck at {site} has no {what}")


def check_replaced(name: str, shape: Shape, base: Mapping[str, Shape]) -> None:
    """Raise InvalidTask unless a tensor of a head fits the head."""
    if base.get(name) != shape:
        expected = list(base[name]) if name in base else "none"
        raise InvalidTask(f"{name} has shape {list(shape)}, but its head wants {expected}")
