"""Read IA3, which scales what goes into or comes out of a module, and tuned layer norms."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pageformer.loader.safetensors_file import FileTensor
from pageformer.loader.tasks.modules import Site
from pageformer.loader.tasks.saved import Numbers, numbers, refuse_any
from pageformer.loader.tasks.tuned import Tuned

FACTOR = "ia3_l"
NORM = {"weight": "ln_tuning_layers.weight", "bias": "ln_tuning_layers.bias"}
KNOWN = ("target_modules", "exclude_modules", "feedforward_modules", "fan_in_fan_out")
HARMLESS: Mapping[str, tuple[Any, ...]] = {"init_ia3_weights": (True, False)}


def read_ia3(tuned: Tuned) -> int:
    """Read a factor for each input, or each output, of every module."""
    tuned.check_keys(KNOWN, HARMLESS)
    for module, parts in tuned.by_module((FACTOR,), "linear").items():
        sites, factor = tuned.modules.at(module), parts[FACTOR]
        inputs, outputs = tuned.sizes(sites)
        scales_inputs = factor.shape == (1, inputs) and factor.shape != (outputs, 1)
        wanted = (1, inputs) if scales_inputs else (outputs, 1)
        tuned.saved.check_shape(f"{module}.{FACTOR}", wanted)
        for site in sites:
            _scale(tuned, site, factor, scales_inputs)
    return 0


def _scale(tuned: Tuned, site: Site, factor: FileTensor, scales_inputs: bool) -> None:
    values = numbers(factor).ravel()
    if scales_inputs:
        tuned.edits.put(f"{site.name}/scale_in/factor", values, factor.form)
        return
    values = site.cut(values)
    tuned.edits.put(f"{site.name}/scale_out/factor", values, factor.form)
    bias = _bias(tuned, site)
    if bias is not None:
        tuned.edits.add_bias(site.name, bias * (values - 1))


def _bias(tuned: Tuned, site: Site) -> Numbers | None:
    """Return the bias that a site has, which IA3 scales, too."""
    name = f"{site.name}.bias"
    if name in tuned.edits.arrays:
        return tuned.edits.arrays[name].read().astype(np.float64)
    return tuned.edits.base.tensor(name).astype(np.float64) if tuned.edits.base.has(name) else None


def read_norms(tuned: Tuned) -> int:
    """Read the weight and the bias of every layer norm that was tuned."""
    tuned.check_keys(("target_modules", "exclude_modules"), {})
    for module, parts in tuned.by_module(NORM.values(), "norm").items():
        for site in tuned.modules.at(module):
            for part, ending in NORM.items():
                lacks = [f"{module}.{ending}"] if ending not in parts and part == "weight" else []
                refuse_any(lacks, f"{tuned.saved.file} lacks")
                if ending in parts:
                    shape = tuned.modules.shapes[site.weight]
                    tuned.saved.check_shape(f"{module}.{ending}", shape)
                    values = numbers(parts[ending])
                    tuned.edits.replace_norm(site.name, part, values, parts[ending].form)
    return 0
