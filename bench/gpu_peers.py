"""PyTorch and ONNX Runtime on a GPU, with the weights that ours has: the peers of bench/gpu.py.

Each is opened once for a shape, and computes the states of a padded batch on the device.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

States = Callable[[list[Any]], None]
NAMES = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.output": "attention.output.dense",
    "attention.norm": "attention.output.LayerNorm",
    "feed_forward.up": "intermediate.dense",
    "feed_forward.down": "output.dense",
    "feed_forward.norm": "output.LayerNorm",
}


def checkpoint_name(name: str) -> str:
    """Return a tensor's name in BERT's checkpoints, of its name here."""
    first, _, rest = name.partition(".")
    if first == "layer":
        number, _, rest = rest.partition(".")
        part, _, kind = rest.rpartition(".")
        return f"encoder.layer.{number}.{NAMES[part]}.{kind}"
    if rest.startswith("norm."):
        return f"embeddings.LayerNorm.{rest.removeprefix('norm.')}"
    return f"embeddings.{rest}_embeddings.weight"


def bert(shape: Any, weights: dict[str, Any], attention: str) -> Any:
    """Build transformers' BERT with these weights, in float32."""
    import torch
    from transformers import BertConfig, BertModel

    config = BertConfig(
        num_hidden_layers=shape.layers, hidden_size=shape.hidden,
        num_attention_heads=shape.heads, intermediate_size=shape.intermediate,
        attn_implementation=attention,
    )  # fmt: skip
    model = BertModel(config, add_pooling_layer=False).eval()
    linear = {name for name, w in weights.items() if w.ndim == 2 and name.endswith(".weight")}
    state = {
        checkpoint_name(name): torch.from_numpy(np.ascontiguousarray(w.T if name in linear else w))
        for name, w in weights.items()
    }
    model.load_state_dict(state)
    return model


def padded(sequences: list[Any]) -> tuple[Any, Any]:
    """Pad a batch to its longest sequence: ids and mask.  # 2 x [batch, longest]"""
    longest = max(map(len, sequences))
    ids = np.zeros((len(sequences), longest), np.int64)
    mask = np.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
        mask[row, : len(sequence)] = 1
    return ids, mask


def torch_states(shape: Any, weights: dict[str, Any]) -> States:
    """Open PyTorch: its own attention, bfloat16, compiled; no mask where lengths are equal."""
    import torch

    model = bert(shape, weights, "sdpa").to("cuda", torch.bfloat16)
    compiled = torch.compile(model, dynamic=True)

    @torch.inference_mode()
    def states(sequences: list[Any]) -> None:
        ids, mask = (torch.from_numpy(t).cuda() for t in padded(sequences))
        compiled(input_ids=ids, attention_mask=None if bool(mask.all()) else mask)
        torch.cuda.synchronize()

    return states


def onnx_states(shape: Any, weights: dict[str, Any]) -> States:
    """Open ONNX Runtime on the device, its graph fused and in half precision."""
    import onnxruntime
    import torch
    from onnxruntime.transformers import optimizer

    model = bert(shape, weights, "eager")
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder, "model.onnx"))
        ids = torch.ones(2, 8, dtype=torch.long)
        axes = {name: {0: "b", 1: "n"} for name in ("input_ids", "attention_mask")}
        torch.onnx.export(
            model, (ids, ids), file, input_names=[*axes], output_names=["states"],
            dynamic_axes=axes, opset_version=17, dynamo=False,
        )  # fmt: skip
        fused = optimizer.optimize_model(
            file, "bert", num_heads=shape.heads, hidden_size=shape.hidden, use_gpu=True
        )
    fused.convert_float_to_float16()
    session = onnxruntime.InferenceSession(
        fused.model.SerializeToString(), providers=["CUDAExecutionProvider"]
    )
    if session.get_providers()[0] != "CUDAExecutionProvider":
        raise RuntimeError("ONNX Runtime does not find the device: install onnxruntime-gpu")

    def states(sequences: list[Any]) -> None:
        ids, mask = padded(sequences)
        binding = session.io_binding()
        binding.bind_cpu_input("input_ids", ids)
        binding.bind_cpu_input("attention_mask", mask)
        binding.bind_output("states", "cuda")
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()

    return states


PEERS: dict[str, Callable[[Any, dict[str, Any]], States]] = {
    "PyTorch": torch_states,
    "ONNX Runtime": onnx_states,
}
