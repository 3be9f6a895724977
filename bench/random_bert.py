"""A BERT-base with random weights: the sizes of a larger model, without downloading one.

Run with the interpreter of build/bench: `random_bert.py FOLDER`.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from bench.peer import PYTHON

TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json")
SENTENCES = ("modules.json", "sentence_bert_config.json")  # what is cut off, pooled, normalised
POOLING = Path("1_Pooling") / "config.json"
HIDDEN = 768


def folder(target: Path, tokenizer_of: Path) -> Path:
    """Return the folder of the model, made once; it tokenises and pools as another model does."""
    if not (target / "model.safetensors").exists():
        (target / POOLING).parent.mkdir(parents=True, exist_ok=True)
        for name in (*TOKENIZER, *SENTENCES):
            shutil.copy(tokenizer_of / name, target)
        pooling = json.loads((tokenizer_of / POOLING).read_text())
        pooling["word_embedding_dimension"] = HIDDEN
        (target / POOLING).write_text(json.dumps(pooling))
        subprocess.run([PYTHON, "-m", "bench.random_bert", str(target)], check=True)
    return target


def main(target: str) -> None:
    """Write a BERT-base with random weights."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    # CTranslate2 asks for the kind of positions by name.
    config = BertConfig(hidden_size=HIDDEN, position_embedding_type="absolute")
    BertModel(config, add_pooling_layer=False).save_pretrained(target)


if __name__ == "__main__":
    main(sys.argv[1])
