"""Ask sentence-transformers for the vectors of tokens that late interaction compares."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sentence_transformers import MultiVectorEncoder
from texts import LATE


def late_readings(directory: Path) -> dict[str, npt.NDArray[Any]]:
    """Take the vectors of queries, of documents and of neither, and every query's scores."""
    model = MultiVectorEncoder(str(directory), device="cpu")
    kinds = {
        "query": [model.encode_query(text, convert_to_numpy=True) for text in LATE],
        "document": [model.encode_document(text, convert_to_numpy=True) for text in LATE],
        "neither": [model.encode(text, prompt="x: ", convert_to_numpy=True) for text in LATE[:5]],
    }
    arrays: dict[str, npt.NDArray[Any]] = {}
    for kind, vectors in kinds.items():
        arrays[kind] = np.concatenate(vectors)
        arrays[f"{kind} counts"] = np.array([len(v) for v in vectors], np.int32)
    arrays["scores"] = model.similarity(kinds["query"], kinds["document"]).numpy()
    return arrays
