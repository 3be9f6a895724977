"""Read LoRA: x W + (x A) B, A and B being small; of tables of embeddings, too.

DoRA scales each output by its magnitude over the length of its changed weights. What depends on
the version's weights is computed here, once, in float64.
"""

from collections.abc import Mapping
from math import sqrt
from typing import Any

import numpy as np

from pageformer.errors import InvalidTask
from pageformer.loader.safetensors_file import FileTensor
from pageformer.loader.tasks.modules import Site
from pageformer.loader.tasks.saved import Numbers, Settings, numbers, refuse_any
from pageformer.loader.tasks.targets import by_pattern
from pageformer.loader.tasks.tuned import Tuned

LINEAR = ("lora_A.weight", "lora_B.weight")
TABLE = ("lora_embedding_A", "lora_embedding_B")
MAGNITUDE = "lora_magnitude_vector"
BIAS = "lora_B.bias"

KNOWN = (
    "r", "lora_alpha", "target_modules", "exclude_modules", "layers_to_transform",
    "layers_pattern", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora", "lora_bias",
    "lora_dropout", "fan_in_fan_out", "megatron_core", "runtime_config", "qalora_group_size",
    "loftq_config", "eva_config", "corda_config", "lora_ga_config", "ensure_weight_tying",
)  # fmt: skip
HARMLESS: Mapping[str, tuple[Any, ...]] = {
    "bias": ("none", "all", "lora_only"),
    # Others change the weights of the model that is adapted.
    "init_lora_weights": (True, False, "gaussian", "eva", "orthogonal"),
    "use_qalora": (False, None),
    "layer_replication": (None,),
    "target_parameters": (None, []),
    "trainable_token_indices": (None,),
    "alora_invocation_tokens": (None,),
    "megatron_config": (None,),
    "use_bdlora": (None,),
    "arrow_config": (None,),
    "kasa_config": (None,),
    "velora_config": (None,),
    "monteclora_config": (None,),
}


def read(tuned: Tuned) -> int:
    """Read the pairs of every module."""
    tuned.check_keys(KNOWN, HARMLESS)
    found = tuned.by_module((*LINEAR, *TABLE, f"{MAGNITUDE}.weight", MAGNITUDE, BIAS), "linear")
    refuse_any([] if found else ["lora_A"], f"{tuned.saved.file} adapts no module of the encoder")
    for module, parts in found.items():
        _read_module(tuned, module, parts)
    return 0


def _read_module(tuned: Tuned, module: str, parts: dict[str, FileTensor]) -> None:
    sites = tuned.modules.at(module)
    is_table = sites[0].kind == "table"
    first, second = TABLE if is_table else LINEAR
    refuse_any(
        [f"{module}.{part}" for part in (first, second) if part not in parts],
        f"{tuned.saved.file} lacks",
    )
    if is_table and tuned.settings.flag("use_dora"):
        raise tuned.settings.refused("use_dora", f"{module} is a table of embeddings")
    rank, scale = rank_and_scale(tuned.settings, module)
    inputs, outputs = tuned.sizes(sites)
    tuned.saved.check_shape(f"{module}.{first}", (rank, inputs))
    tuned.saved.check_shape(f"{module}.{second}", (outputs, rank))
    up = numbers(parts[second])  # [out, r]
    for site in sites:
        down, part = numbers(parts[first]).T, scale * site.cut(up).T
        tuned.edits.low_rank(site.name, down, part, parts[first].form)
        if BIAS in parts:
            tuned.edits.add_bias(site.name, scale * site.cut(numbers(parts[BIAS])))
        if tuned.settings.flag("use_dora"):
            _scale(tuned, module, site, parts, down @ part)


def rank_and_scale(settings: Settings, module: str) -> tuple[int, float]:
    """Return the rank that the config gives a module, and what its product is multiplied by."""
    rank = by_pattern(settings.values.get("rank_pattern"), module, settings.values.get("r", 8))
    alpha = by_pattern(
        settings.values.get("alpha_pattern"), module, settings.values.get("lora_alpha", 8)
    )
    for key, value in (("r", rank), ("lora_alpha", alpha)):
        if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
            raise settings.refused(key, f"expected a number above 0 for {module}")
    return rank, alpha / (sqrt(rank) if settings.flag("use_rslora") else rank)


def _scale(
    tuned: Tuned, module: str, site: Site, parts: dict[str, FileTensor], added: Numbers
) -> None:
    """Scale each output as DoRA does.  # added: [in, out]"""
    magnitude = parts.get(MAGNITUDE, parts.get(f"{MAGNITUDE}.weight"))
    if magnitude is None:
        raise InvalidTask(f"{tuned.saved.file} lacks {module}.{MAGNITUDE}")
    changed = weight_of(tuned, site) + added
    lengths = np.sqrt((changed * changed).sum(axis=0))
    factor = site.cut(numbers(magnitude).ravel()) / lengths
    tuned.edits.put(f"{site.name}/scale_out/factor", factor)


def weight_of(tuned: Tuned, site: Site) -> Numbers:
    """Return the matrix that is edited: the version's, or that of a head that comes along."""
    if site.weight in tuned.edits.arrays:
        return tuned.edits.arrays[site.weight].read().astype(np.float64)
    return tuned.edits.base.tensor(site.weight).astype(np.float64)
