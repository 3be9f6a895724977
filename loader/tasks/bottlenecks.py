"""Read bottlenecks: where each stands, what it is fed with, and what it is added to."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pageformer.loader.families.raw_config import ACTIVATIONS
from pageformer.loader.tasks.method import Method
from pageformer.loader.tasks.saved import Numbers, Settings, refuse_any
from pageformer.udfs.tasks.task import Bottleneck, State

GROUP = "adapters"
MODULE = re.compile(r".*?\b(?:layer|albert_layer_groups)\.(\d+)\.(?:albert_layers\.0\.)?(.+)")
# Where modules of the library stand, in all families that it adapts.
PLACES = {
    "attention.output": "attention",
    "attention_adapters": "attention",
    "attention.attention_adapters": "attention",
    "output": "feed_forward",
    "output_adapters": "feed_forward",
}
SWITCHES = {"attention": "mh_adapter", "feed_forward": "output_adapter"}
FUNCTIONS: Mapping[str, str] = {**ACTIVATIONS, "tanh": "tanh", "sigmoid": "sigmoid"}

KNOWN = (
    "architecture", "mh_adapter", "output_adapter", "reduction_factor", "non_linearity",
    "original_ln_before", "original_ln_after", "ln_before", "ln_after", "init_weights",
    "init_weights_seed", "is_parallel", "scaling", "residual_before_ln",
    "adapter_residual_before_ln", "leave_out", "dropout", "stochastic_depth", "phm_dim",
    "factorized_phm_W", "shared_W_phm", "shared_phm_rule", "factorized_phm_rule", "phm_c_init",
    "phm_init_range", "learn_phm", "hypercomplex_nonlinearity", "phm_rank", "phm_bias",
    "inv_adapter_reduction_factor",
)  # fmt: skip
HARMLESS: Mapping[str, tuple[Any, ...]] = {
    "use_gating": (False, None),
    "inv_adapter": (None,),
    "cross_adapter": (False, None),
    "phm_layer": (False, None),
}


def read(method: Method) -> dict[str, Bottleneck]:
    """Read the bottlenecks of every layer; return what describes them, by site."""
    method.settings.refuse_others(KNOWN, HARMLESS)
    place = description(method.settings)
    found = {}
    for module in method.parts(GROUP):
        site = _site(module)
        if site:
            _read_one(method, module, site)
            found[site] = swapped(method, place) if _is_swapped(method, site) else place
    refuse_any(
        set(_expected(method)) - found.keys(), f"{method.saved.file} lacks the bottlenecks at"
    )
    return found


def description(settings: Settings) -> Bottleneck:
    """Tell from the config what a bottleneck takes in and what it is added to."""
    activation = _activation(settings)
    after = settings.flag("original_ln_after", True)
    if settings.flag("is_parallel"):
        return Bottleneck(activation, "residual", "product", False, after)
    normed = settings.flag("original_ln_before")
    base: State = "product"
    choice = settings.choice("residual_before_ln", True, False, "post_add")
    if normed and choice is not True:
        base = "added" if choice == "post_add" else "normed"
    return Bottleneck(
        activation,
        "normed" if normed else "product",
        base,
        settings.flag("adapter_residual_before_ln") or not settings.flag("ln_after"),
        after,
    )


def _is_swapped(method: Method, site: str) -> bool:
    """Tell whether the library hands a bottleneck the residual for the product, and vice versa.

    It does so behind ALBERT's attention.
    """
    return method.modules.config.family == "albert" and site.endswith("attention")


def swapped(method: Method, place: Bottleneck) -> Bottleneck:
    """Exchange product and residual; where the sub-layer closes, both are added in the end."""
    inner = place.base_before_norm and method.settings.flag("ln_after")
    if inner and place.closes:
        raise method.settings.refused("adapter_residual_before_ln", "expected false for albert")
    other: dict[State, State] = {"product": "residual", "residual": "product"}
    base = place.base if place.closes else other.get(place.base, place.base)
    return replace(place, input=other.get(place.input, place.input), base=base)


def _activation(settings: Settings) -> str:
    name = str(settings.values.get("non_linearity")).lower()
    if name not in FUNCTIONS:
        raise settings.refused("non_linearity", f"expected one of {', '.join(FUNCTIONS)}")
    return FUNCTIONS[name]


def _site(module: str) -> str:
    """Name the place of ours where a module stands; nothing: not one of them."""
    match = MODULE.fullmatch(module)
    place = PLACES.get(match[2]) if match else None
    return f"layer.{match[1]}.{place}" if match and place else ""


def _expected(method: Method) -> Iterator[str]:
    for layer in method.adapted_layers():
        for place, switch in SWITCHES.items():
            if method.settings.flag(switch):
                yield f"layer.{layer}.{place}"


def _read_one(method: Method, module: str, site: str) -> None:
    """Read one bottleneck, its scale folded into what comes up."""
    settings, hidden = method.settings, method.modules.config.hidden
    width = _width(settings, int(site.split(".")[1]), hidden)
    down = "adapter_down.0"
    if settings.flag("ln_before"):
        down = "adapter_down.1"
        method.pass_over(GROUP, module, "adapter_down.0.weight", "adapter_down.0.bias")
        _put(method, module, site, "before", "adapter_norm_before", (hidden,))
    _put(method, module, site, "down", down, (width, hidden))
    _put(method, module, site, "up", "adapter_up", (hidden, width), _scale(method, module, hidden))
    if settings.flag("ln_after"):
        _put(method, module, site, "after", "adapter_norm_after", (hidden,))


def _put(
    method: Method,
    module: str,
    site: str,
    ours: str,
    theirs: str,
    shape: tuple[int, ...],
    scale: Numbers | float = 1.0,
) -> None:
    """Keep a linear map or a norm of a bottleneck."""
    weight = method.take(GROUP, module, f"{theirs}.weight", *shape)
    bias = method.take(GROUP, module, f"{theirs}.bias", shape[0])
    form = method.form(GROUP, module, f"{theirs}.weight")
    at = f"{site}/bottleneck/{ours}"
    method.edits.put(f"{at}.weight", scale * (weight.T if weight.ndim == 2 else weight), form)
    method.edits.put(f"{at}.bias", scale * bias, form)


def _scale(method: Method, module: str, hidden: int) -> Numbers | float:
    """Return what the bottleneck's output is multiplied by: a number, or one per element."""
    scaling = method.settings.values.get("scaling", 1.0)
    if scaling == "learned":
        return float(method.take(GROUP, module, "scaling", 1)[0])
    if scaling == "channel":
        return method.take(GROUP, module, "scaling", hidden)
    return method.settings.number("scaling", 1.0)


def _width(settings: Settings, layer: int, hidden: int) -> int:
    """Compute a bottleneck's width, as the library does, from its reduction factor."""
    factor = settings.values.get("reduction_factor")
    if isinstance(factor, Mapping):
        factor = factor.get(str(layer), factor.get("default"))
    if not isinstance(factor, int | float) or isinstance(factor, bool) or factor <= 0:
        raise settings.refused("reduction_factor", f"expected a number above 0 for layer {layer}")
    return max(int(hidden // factor), 1)
