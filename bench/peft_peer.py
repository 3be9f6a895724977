"""PEFT's mixed batches of LoRA tasks, and PyTorch's full models one after another.

Run with an interpreter that has torch, transformers and peft: sizes, tasks and token ids come in as
one JSON object, queries a second go out as another.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

TASKS = (1, 8, 32)
RANK, BATCH, MODELS = 8, 32, 8


def main() -> None:
    """Measure what stdin asks for."""
    import peft
    import torch
    import transformers

    asked = json.load(sys.stdin)
    torch.manual_seed(0)
    with torch.inference_mode():
        found = {"peft": mixed(asked), "torch": one_after_another(asked)}
    names = (torch, transformers, peft)
    told = ", ".join(f"{name.__name__} {name.__version__}" for name in names)
    print(json.dumps({**found, "versions": told}))


def model(asked: dict[str, Any]) -> Any:
    """Make a BERT of the size that is asked for."""
    from transformers import BertConfig, BertModel

    hidden = asked["hidden"]
    config = BertConfig(
        vocab_size=asked["words"], hidden_size=hidden, num_hidden_layers=asked["layers"],
        num_attention_heads=hidden // 64, intermediate_size=4 * hidden,
    )  # fmt: skip
    return BertModel(config, add_pooling_layer=False).eval()


def mixed(asked: dict[str, Any]) -> float:
    """Run sorted batches, each query with the LoRA of its task."""
    import torch
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(r=RANK, target_modules=["query", "value"], init_lora_weights=False)
    names = [f"task{i}" for i in range(asked["tasks"])]
    tuned = get_peft_model(model(asked), lora, adapter_name=names[0])
    for name in names[1:]:
        tuned.add_adapter(name, lora)
    tuned.eval()
    ids = asked["ids"]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))

    def run() -> None:
        for start in range(0, len(order), BATCH):
            own = order[start : start + BATCH]
            longest = max(len(ids[i]) for i in own)
            padded = torch.tensor([ids[i] + [0] * (longest - len(ids[i])) for i in own])
            mask = torch.tensor([[1] * len(ids[i]) + [0] * (longest - len(ids[i])) for i in own])
            tuned(padded, mask, adapter_names=[names[i % len(names)] for i in own])

    return rate(len(ids), run)


def one_after_another(asked: dict[str, Any]) -> float:
    """Run each query alone, in full models by turns."""
    import torch

    models = [model(asked) for _ in range(min(asked["tasks"], MODELS))]

    def run() -> None:
        for i, ids in enumerate(asked["ids"]):
            models[i % len(models)](torch.tensor([ids]))

    return rate(len(asked["ids"]), run)


def rate(queries: int, run: Callable[[], None]) -> float:
    """Time one run, behind one that is not counted."""
    run()
    begin = time.perf_counter()
    run()
    return queries / (time.perf_counter() - begin)


if __name__ == "__main__":
    main()
