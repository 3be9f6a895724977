"""Ask transformers and sentence-transformers what heads answer; run by `record.py`."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers import CrossEncoder, SparseEncoder
from texts import DOCUMENTS, MASKED, QUERY, SOME, TEXTS
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

Arrays = dict[str, npt.NDArray[Any]]
CLASSES = {
    "sequence": AutoModelForSequenceClassification,
    "tokens": AutoModelForTokenClassification,
    "words": AutoModelForMaskedLM,
}


def head_readings(directory: Path, head: str) -> Arrays:
    """Take the logits of a head: of texts, of their tokens, or of every word at the masks."""
    tokenizer = AutoTokenizer.from_pretrained(str(directory))
    model = CLASSES[head].from_pretrained(str(directory), dtype=torch.float32).eval()
    texts = [TEXTS[name] for name in SOME]
    if head == "words":
        texts = [text.replace("MASK", tokenizer.mask_token) for text in MASKED]
    found = []
    for text in texts:
        inputs = tokenizer(text, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            logits = model(**inputs).logits[0].numpy()
        chosen = inputs["input_ids"][0].numpy() == tokenizer.mask_token_id
        found.append(logits[chosen] if head == "words" else np.atleast_2d(logits))
    return {"logits": np.concatenate(found)}


def rank_readings(directory: Path) -> Arrays:
    """Take the scores that a cross-encoder gives documents for a query, one by one."""
    model = CrossEncoder(str(directory), device="cpu", model_kwargs={"dtype": torch.float32})
    scores = [model.predict([(QUERY, text)], batch_size=1)[0] for text in DOCUMENTS]
    return {"scores": np.array(scores, np.float32)}


def sparse_readings(directory: Path) -> Arrays:
    """Take the weights that a SPLADE model gives every word."""
    model = SparseEncoder(str(directory), device="cpu", model_kwargs={"dtype": torch.float32})
    texts = [TEXTS[name] for name in SOME]
    rows = [model.encode([text], convert_to_sparse_tensor=False)[0].numpy() for text in texts]
    return {"weights": np.stack(rows)}
