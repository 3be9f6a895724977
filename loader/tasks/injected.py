"""Read LoRA, DoRA and IA3 as the `adapters` library does them, which is not quite as PEFT does.

Its DoRA measures weights without LoRA's scale, and scales biases, too; so does its IA3.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from pageformer.errors import InvalidTask
from pageformer.loader.tasks.method import Method
from pageformer.loader.tasks.modules import Site
from pageformer.loader.tasks.saved import Numbers, refuse_any
from pageformer.udfs.tasks.task import Bottleneck

GROUP = "loras"
MATRICES = {"q": "attention.query", "k": "attention.key", "v": "attention.value"}
KNOWN = (
    "architecture", "selfattn_lora", "intermediate_lora", "output_lora", "leave_out", "r",
    "alpha", "dropout", "attn_matrices", "init_weights_seed", "use_dora", "dtype",
)  # fmt: skip
HARMLESS: Mapping[str, tuple[Any, ...]] = {
    "composition_mode": ("add", "scale"),
    "init_weights": ("lora", "bert", "ia3"),
    "use_gating": (False, None),
    "vera_d": (None,),
    "vera_b": (None,),
}


def read_injected(method: Method) -> dict[str, Bottleneck]:
    """Read the parts of every linear map; there are no bottlenecks."""
    settings = method.settings
    settings.refuse_others(KNOWN, HARMLESS)
    scales = settings.choice("composition_mode", "add", "scale") == "scale"
    found = set()
    for module in method.parts(GROUP):
        for site in method.modules.at(module):
            if site.parts > 1 or site.kind != "linear":
                raise InvalidTask(f"{module} is not a linear map of its own")
            (_read_factor if scales else _read_pair)(method, module, site)
            found.add(site.name)
    refuse_any(set(_expected(method)) - found, f"{method.saved.file} lacks what edits")
    return {}


def _expected(method: Method) -> Iterator[str]:
    settings = method.settings
    matrices = settings.values.get("attn_matrices") or []
    names = [MATRICES[m] for m in matrices if m in MATRICES]
    switches = (
        ("selfattn_lora", names),
        ("intermediate_lora", ["feed_forward.up"]),
        ("output_lora", ["feed_forward.down"]),
    )
    for layer in method.adapted_layers():
        for switch, sites in switches:
            if settings.flag(switch, switch == "selfattn_lora"):
                yield from (f"layer.{layer}.{site}" for site in sites)


def _read_factor(method: Method, module: str, site: Site) -> None:
    """Read a factor of each output."""
    outputs = method.modules.shapes[site.weight][1]
    factor = method.take(GROUP, module, "lora_B", outputs, 1).ravel()
    _scale(method, site, factor * method.settings.number("alpha", 1.0))


def _read_pair(method: Method, module: str, site: Site) -> None:
    """Read x A B, and DoRA's magnitude where there is one."""
    settings = method.settings
    inputs, outputs = method.modules.shapes[site.weight]
    rank = settings.count("r")
    down = method.take(GROUP, module, "lora_A", rank, inputs).T
    up = method.take(GROUP, module, "lora_B", outputs, rank).T
    scale = settings.number("alpha", 8.0) / rank
    method.edits.low_rank(site.name, down, scale * up, method.form(GROUP, module, "lora_A"))
    if settings.flag("use_dora"):
        magnitude = method.take(GROUP, module, "m.weight", outputs, 1).ravel()
        changed = method.edits.base.tensor(site.weight).astype(np.float64) + down @ up
        _scale(method, site, magnitude / np.sqrt((changed * changed).sum(axis=0)))


def _scale(method: Method, site: Site, factor: Numbers) -> None:
    """Scale a map's outputs, its bias among them."""
    method.edits.put(f"{site.name}/scale_out/factor", factor)
    base, bias = method.edits.base, f"{site.name}.bias"
    if base.has(bias):
        method.edits.add_bias(site.name, base.tensor(bias).astype(np.float64) * (factor - 1))
