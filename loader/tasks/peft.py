"""Read what PEFT saves: `adapter_config.json` and `adapter_model.safetensors`.

LoRA (Hu et al. 2022) with rsLoRA and DoRA (Liu et al. 2024), IA3 (Liu et al. 2022), tuned layer
norms, prefixes (Li and Liang 2021) and prompts (Lester et al. 2021).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pageformer.errors import InvalidTask
from pageformer.loader.families.heads import Task as HeadTask
from pageformer.loader.json_file import read_object_if_present
from pageformer.loader.safetensors_file import FileTensor
from pageformer.loader.tasks import lora, scaled, virtual_tokens
from pageformer.loader.tasks.base import Base
from pageformer.loader.tasks.edits import Edits, Task
from pageformer.loader.tasks.head import Wishes, family_head
from pageformer.loader.tasks.modules import Modules
from pageformer.loader.tasks.saved import Saved, Settings, numbers, refuse_any
from pageformer.loader.tasks.tuned import Tuned
from pageformer.udfs.tasks.task import TaskConfig

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PICKLED = "adapter_model.bin"
PREFIXES = ("base_model.model.", "base_model.")
HEAD_TASKS: Mapping[str, HeadTask] = {"SEQ_CLS": "sequence", "TOKEN_CLS": "tokens"}

# Keys that say nothing of what is computed, in every kind.
COMMON = (
    "peft_type", "task_type", "auto_mapping", "base_model_name_or_path", "revision",
    "inference_mode", "peft_version", "modules_to_save",
)  # fmt: skip

Reader = Callable[[Tuned], int]  # returns where positions of tokens begin
READERS: Mapping[str, Reader] = {
    "LORA": lora.read,
    "IA3": scaled.read_ia3,
    "LN_TUNING": scaled.read_norms,
    "PREFIX_TUNING": virtual_tokens.read_prefix,
    "PROMPT_TUNING": virtual_tokens.read_prompt,
}


def read(directory: Path, base: Base, wishes: Wishes) -> Task:
    """Read a directory; raise InvalidTask naming the key or the tensor that stops it."""
    settings = Settings.read(directory / CONFIG)
    kind = settings.choice("peft_type", *READERS)
    if settings.values.get("task_type") not in (None, "FEATURE_EXTRACTION", *HEAD_TASKS):
        raise settings.refused("task_type", f"expected {', '.join(HEAD_TASKS)} or none")
    saved = Saved.read(directory / WEIGHTS, PICKLED)
    tensors = _plain(saved.tensors)
    raw = read_object_if_present(directory / "config.json")
    edits = Edits(base)
    head = _head(settings, base, replace(saved, tensors=tensors), raw, wishes, edits)
    modules = Modules(base.config._replace(head=head or base.config.head))
    tuned = Tuned(settings, Saved(WEIGHTS, tensors), modules, edits, COMMON)
    first_position = READERS[kind](tuned)
    _replace(tuned.left, modules, edits, bool(head))
    told = TaskConfig(kind.lower(), first_position=first_position, head=head)
    return Task(told, edits.finished())


def _plain(tensors: Mapping[str, FileTensor]) -> dict[str, FileTensor]:
    """Take off what PEFT puts around the names of the model, and leave out what it replaced."""
    found = {}
    for name, tensor in tensors.items():
        for prefix in PREFIXES:
            name = name.removeprefix(prefix)
        if ".original_module." not in name:
            plain = name.replace(".base_layer.", ".").replace(".modules_to_save.", ".")
            found[plain] = tensor
    return found


def _head(
    settings: Settings,
    base: Base,
    saved: Saved,
    raw: Mapping[str, Any],
    wishes: Wishes,
    edits: Edits,
) -> dict[str, Any]:
    """Read the head that was saved along, if one was."""
    kind = HEAD_TASKS.get(settings.values.get("task_type") or "")
    own = base.config.head.get("task")
    task = kind or (own if own in HEAD_TASKS.values() else None)
    if task is None:
        return {}
    plain = Modules(base.config).family.plain_name
    found = {
        plain(name): partial(lambda t: (numbers(t), t.form), tensor)
        for name, tensor in saved.tensors.items()
    }
    return family_head(base, task, found, raw, wishes, edits)


def _replace(left: Saved, modules: Modules, edits: Edits, has_head: bool) -> None:
    """Follow tensors that were saved whole: biases, norms, and what modules_to_save names."""
    unknown = []
    for name, tensor in left.tensors.items():
        rules = modules.tensors(name)
        if not rules and not modules.passes_by(name):
            unknown.append(name)
        for rule in rules:
            if rule.name.startswith("head."):
                continue  # read with the head, or the bias of a head that is not used
            values = numbers(tensor).reshape(rule.parts, -1, *tensor.shape[1:])[rule.part]
            wanted = edits.base.shapes[rule.name]
            stored = values.T if rule.kind == "linear" else values
            if stored.shape != wanted:
                raise InvalidTask(
                    f"{name} has shape {list(tensor.shape)}, and {edits.base.name} has "
                    f"{list(wanted)} there",
                    hint="Was the adapter made for another model?",
                )
            edits.replace(rule.name, stored, tensor.form)
    refuse_any(unknown, f"{left.file} has tensors that {edits.base.name} has no place for")
