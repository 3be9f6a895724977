"""Fast runtimes as processes of their own, each at its best: length-sorted batches, fused graphs.

Run by `Peer` with the interpreter of build/bench: `runtime_peer.py MODEL KIND FOLDER`. KIND is one
of onnx-float32, onnx-int8 (dynamic), torch-float32, torch-bfloat16, ctranslate2-float32,
ctranslate2-int8, sentence-float32 and sentence-bfloat16 (sentence-transformers); converted models
are kept in FOLDER. Speaks as `peer.py` does.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

Encode = Callable[[Sequence[str], int], Any]  # texts, batch -> vectors
States = Callable[[Any, Any], Any]  # ids [b, n], mask [b, n] -> last hidden states [b, n, hidden]
THREADS = int(os.environ.get("BENCH_THREADS", os.cpu_count() or 1))


def onnx(model: Path, folder: Path, quantized: bool) -> tuple[States, str]:
    """Open the model in ONNX Runtime, exported and optimised for it once."""
    import onnxruntime

    file = folder / "model.onnx"
    if not file.exists():
        export(model, file)
    if quantized:
        file = quantize(file, folder / "int8.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def states(ids: Any, mask: Any) -> Any:
        return session.run(None, {"input_ids": ids, "attention_mask": mask})[0]

    return states, f"ONNX Runtime {onnxruntime.__version__}"


def export(model: Path, file: Path) -> None:
    """Export the model, then fuse its attention, GELU and layer norms."""
    import torch
    from onnxruntime.transformers import optimizer
    from transformers import AutoModel

    class States(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = AutoModel.from_pretrained(model, attn_implementation="eager").eval()

        def forward(self, ids: Any, mask: Any) -> Any:
            return self.inner(input_ids=ids, attention_mask=mask).last_hidden_state

    loaded = States()
    ids = torch.ones(2, 8, dtype=torch.long)
    names = {"input_ids": {0: "b", 1: "n"}, "attention_mask": {0: "b", 1: "n"}}
    torch.onnx.export(
        loaded, (ids, ids), str(file), input_names=[*names], output_names=["states"],
        dynamic_axes=names, opset_version=17, dynamo=False,
    )  # fmt: skip
    config = loaded.inner.config
    fused = optimizer.optimize_model(
        str(file),
        model_type="bert",
        num_heads=config.num_attention_heads,
        hidden_size=config.hidden_size,
    )
    fused.save_model_to_file(str(file))


def quantize(file: Path, target: Path) -> Path:
    """Quantise weights to int8, activations as they come."""
    if not target.exists():
        import onnx as format
        from onnxruntime.quantization import QuantType, quantize_dynamic

        untold = {"DefaultTensorType": format.TensorProto.FLOAT}  # fused nodes hide their types
        quantize_dynamic(file, target, weight_type=QuantType.QInt8, extra_options=untold)
    return target


def torch_states(model: Path, bfloat16: bool) -> tuple[States, str]:
    """Open the model in transformers, with PyTorch's own fused attention."""
    import torch
    from transformers import AutoModel

    torch.set_num_threads(THREADS)
    form = torch.bfloat16 if bfloat16 else torch.float32
    loaded = AutoModel.from_pretrained(model, dtype=form).eval()

    def states(ids: Any, mask: Any) -> Any:
        with torch.inference_mode():
            found = loaded(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask))
        return found.last_hidden_state.float().numpy()

    return states, f"PyTorch {torch.__version__.partition('+')[0]}"


def ctranslate2_states(model: Path, folder: Path, form: str) -> tuple[States, str]:
    """Open the model in CTranslate2, converted once."""
    import ctranslate2
    from ctranslate2.converters import TransformersConverter

    target = folder / f"ctranslate2-{form}"
    if not target.exists():
        TransformersConverter(str(model)).convert(str(target), quantization=form)
    encoder = ctranslate2.Encoder(str(target), device="cpu", intra_threads=THREADS)

    def states(ids: Any, mask: Any) -> Any:
        lists = [row[: int(kept.sum())].tolist() for row, kept in zip(ids, mask, strict=True)]
        return np.array(encoder.forward_batch(lists).last_hidden_state)

    return states, f"CTranslate2 {ctranslate2.__version__}"


def sentence_encode(model: Path, form: str) -> tuple[Encode, str]:
    """Open the model in sentence-transformers, which sorts and pads by itself."""
    import sentence_transformers
    import torch

    torch.set_num_threads(THREADS)
    options = {"dtype": getattr(torch, form)}
    loaded = sentence_transformers.SentenceTransformer(
        str(model), device="cpu", model_kwargs=options
    )

    def encode(texts: Sequence[str], batch: int) -> Any:
        found = loaded.encode(list(texts), batch_size=batch, show_progress_bar=False)
        return np.asarray(found, np.float32)

    return encode, f"sentence-transformers {sentence_transformers.__version__}"


def open_states(model: Path, kind: str, folder: Path) -> tuple[States, str]:
    """Open the model in the library and the precision that `kind` names."""
    library, _, form = kind.partition("-")
    if library == "onnx":
        return onnx(model, folder, form == "int8")
    if library == "torch":
        return torch_states(model, form == "bfloat16")
    return ctranslate2_states(model, folder, form)


def open_kind(model: Path, kind: str, folder: Path) -> tuple[Encode, str]:
    """Open the model, ready to make vectors of texts."""
    from tokenizers import Tokenizer

    if kind.startswith("sentence-"):
        return sentence_encode(model, kind.partition("-")[2])
    states, versions = open_states(model, kind, folder)
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    return partial(encode, states, tokenizer), versions


def encode(states: States, tokenizer: Any, texts: Sequence[str], batch: int) -> Any:
    """Encode texts in batches of like length: mean of the tokens, scaled to length 1."""
    ids = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    vectors: list[Any] = [None] * len(ids)
    for start in range(0, len(order), batch):
        members = order[start : start + batch]
        padded = np.zeros((len(members), max(len(ids[i]) for i in members)), np.int64)
        mask = np.zeros_like(padded)
        for row, i in enumerate(members):
            padded[row, : len(ids[i])] = ids[i]
            mask[row, : len(ids[i])] = 1
        weight = mask[:, :, None].astype(np.float32)
        pooled = (states(padded, mask) * weight).sum(1) / weight.sum(1)
        pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
        for row, i in enumerate(members):
            vectors[i] = pooled[row]
    return np.array(vectors)


def main(model: Path, kind: str, folder: Path) -> None:
    """Answer commands until the input ends."""
    folder.mkdir(parents=True, exist_ok=True)
    answer = os.fdopen(os.dup(1), "w")  # exporters print to the standard output
    os.dup2(2, 1)
    compute, versions = open_kind(model, kind, folder)
    for line in sys.stdin:
        command = json.loads(line)
        result: Any = f"{versions}, {THREADS} threads"
        if command:
            begin = time.perf_counter()
            vectors = compute(command["texts"], command["batch"])
            seconds = time.perf_counter() - begin
            result = vectors.tolist() if command.get("vectors") else seconds
        print(json.dumps(result), file=answer, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
