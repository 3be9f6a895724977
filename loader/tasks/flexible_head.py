"""Read the head that the `adapters` library saves beside an adapter, of either of its two sorts.

A flexible head is a run of linear layers of its own; a static one is that of a transformers class.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pageformer.loader.families.heads import ENDINGS, HEADS, POOLER, Task
from pageformer.loader.tasks.base import Base
from pageformer.loader.tasks.bottlenecks import FUNCTIONS
from pageformer.loader.tasks.edits import Edits
from pageformer.loader.tasks.head import Wishes, base_tensor, family_head
from pageformer.loader.tasks.modules import Modules
from pageformer.loader.tasks.saved import Saved, Settings, numbers, refuse_any

CONFIG = "head_config.json"
WEIGHTS = "model_head.safetensors"
PICKLED = "pytorch_model_head.bin"
TYPES: Mapping[str, tuple[Task, str]] = {
    "classification": ("sequence", "softmax"),
    "multilabel_classification": ("sequence", "sigmoid"),
    "tagging": ("tokens", ""),
}
KNOWN = (
    "head_type", "num_labels", "layers", "activation_function", "label2id", "id2label",
    "use_pooler", "bias", "dropout_prob",
)  # fmt: skip


def read(directory: Path, base: Base, wishes: Wishes, edits: Edits) -> dict[str, Any]:
    """Read the head of a directory and describe it; {}: there is none."""
    if not (directory / CONFIG).exists():
        return {}
    outer = Settings.read(directory / CONFIG)
    saved = Saved.read(directory / WEIGHTS, PICKLED)
    inner = outer.values.get("config")
    if inner is None:
        return _static(outer, saved, base, wishes, edits)
    settings = Settings(CONFIG, inner)
    settings.refuse_others(KNOWN, {})
    task, scores = TYPES[settings.choice("head_type", *TYPES)]
    content: dict[str, Any] = {"task": task, "labels": _labels(settings)}
    content["steps"] = _steps(settings, saved, str(outer.values.get("name")), base, edits)
    if task == "sequence":
        # One number is a regression there.
        content["scores"] = (
            "none" if scores == "softmax" and len(content["labels"]) == 1 else scores
        )
        content["pooling"] = "cls"
    return content


def _static(
    outer: Settings, saved: Saved, base: Base, wishes: Wishes, edits: Edits
) -> dict[str, Any]:
    """Read the head of a class of transformers, named like a checkpoint's."""
    name = str(outer.values.get("model_class"))
    task = next((t for ending, t in ENDINGS.items() if name.endswith(ending)), None)
    if task not in ("sequence", "tokens"):
        raise outer.refused("model_class", f"expected a class that ends in {', '.join(ENDINGS)}")
    plain = Modules(base.config).family.plain_name
    found = {
        plain(key): partial(lambda t: (numbers(t), t.form), tensor)
        for key, tensor in saved.tensors.items()
    }
    names = {str(number): label for label, number in (outer.values.get("label2id") or {}).items()}
    return family_head(base, task, found, {"id2label": names} if names else {}, wishes, edits)


def _labels(settings: Settings) -> list[str]:
    numbers = {number: name for name, number in (settings.values.get("label2id") or {}).items()}
    return [str(numbers.get(i, f"LABEL_{i}")) for i in range(settings.count("num_labels"))]


def _steps(
    settings: Settings, saved: Saved, name: str, base: Base, edits: Edits
) -> list[dict[str, Any]]:
    """Read the linear layers, each behind a dropout, all but the last before an activation."""
    activation = _activation(settings)
    hidden, layers = base.config.hidden, settings.count("layers")
    steps, at, taken = _pooler(settings, base, edits), 0, set()
    for layer in range(layers):
        last = layer == layers - 1
        width = settings.count("num_labels") if last else hidden
        bias = settings.flag("bias", True) if last else True
        number = len(steps)
        for part, shape in (("weight", (width, hidden)), ("bias", (width,))):
            key = f"heads.{name}.{at + 1}.{part}"
            if part == "weight" or bias:
                saved.check_shape(key, shape)
                values = saved.numbers(key)
                edits.put(f"head.{number}.{part}", values.T, saved.tensors[key].form)
                taken.add(key)
        function = None if last else activation
        steps.append({"activation": function, "norm": False, "bias": bias, "width": width})
        at += 3 if activation else 2
    refuse_any(saved.tensors.keys() - taken, f"{saved.file} has tensors that are not known")
    return steps


def _activation(settings: Settings) -> str | None:
    name = settings.values.get("activation_function")
    if name and str(name).lower() not in FUNCTIONS:
        raise settings.refused("activation_function", f"expected one of {', '.join(FUNCTIONS)}")
    return FUNCTIONS[str(name).lower()] if name else None


def _pooler(settings: Settings, base: Base, edits: Edits) -> list[dict[str, Any]]:
    """Put the model's own pooler in front, where the head uses it."""
    if not settings.flag("use_pooler"):
        return []
    if HEADS.get(base.config.family, {}).get("sequence") != POOLER:
        raise settings.refused("use_pooler", f"expected false for {base.config.family}")
    for part in ("weight", "bias"):
        values, form = base_tensor(base, "sequence", f"pooler.dense.{part}", f"head.0.{part}")
        edits.put(f"head.0.{part}", values.T, form)
    return [{"activation": "tanh", "norm": False, "bias": True, "width": base.config.hidden}]
