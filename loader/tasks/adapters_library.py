"""Read what the `adapters` library saves: `adapter_config.json` and `adapter.safetensors`.

Bottlenecks as Houlsby et al. (2019), Pfeiffer et al. (2020) and He et al. (2021, parallel ones) put
them, LoRA, DoRA and IA3; heads stand beside, in `head_config.json` and `model_head.safetensors`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pageformer.loader.tasks import bottlenecks, flexible_head
from pageformer.loader.tasks.base import Base
from pageformer.loader.tasks.edits import Edits, Task
from pageformer.loader.tasks.head import Wishes, wished
from pageformer.loader.tasks.injected import read_injected
from pageformer.loader.tasks.method import Method
from pageformer.loader.tasks.modules import Modules
from pageformer.loader.tasks.saved import Saved, Settings, refuse_any
from pageformer.udfs.tasks.task import Bottleneck, TaskConfig

CONFIG = "adapter_config.json"
WEIGHTS = "adapter.safetensors"
PICKLED = "pytorch_adapter.bin"
KNOWN = ("config", "hidden_size", "model_type", "model_class", "model_name", "name", "version",
         "config_id", "label2id", "num_labels")  # fmt: skip

Reader = Callable[[Method], dict[str, Bottleneck]]
READERS: Mapping[str | None, Reader] = {None: bottlenecks.read, "lora": read_injected}


def read(directory: Path, base: Base, wishes: Wishes) -> Task:
    """Read a directory; raise InvalidTask naming the key or the tensor that stops it."""
    outer = Settings.read(directory / CONFIG)
    outer.refuse_others(KNOWN, {"hidden_size": (base.config.hidden, None)})
    inner = outer.values["config"]
    if not isinstance(inner, Mapping):
        raise outer.refused("config", "expected an object")
    settings = Settings(CONFIG, dict(inner))
    architecture = settings.choice("architecture", *READERS)
    edits = Edits(base)
    head = wished(flexible_head.read(directory, base, wishes, edits), wishes)
    modules = Modules(base.config._replace(head=head or base.config.head))
    name = str(outer.values.get("name"))
    method = Method(settings, name, Saved.read(directory / WEIGHTS, PICKLED), modules, edits)
    places = READERS[architecture](method)
    refuse_any(method.left, f"{WEIGHTS} has tensors that {base.name} has no place for")
    config = TaskConfig(_kind(settings.values), bottlenecks=places, head=head)
    return Task(config, edits.finished())


def _kind(values: Mapping[str, Any]) -> str:
    """Name the method as the library does."""
    if values.get("architecture") == "lora":
        scales = values.get("composition_mode") == "scale"
        return "ia3" if scales else "lora"
    if values.get("is_parallel"):
        return "par_bn"
    return "double_seq_bn" if values.get("mh_adapter") else "seq_bn"
