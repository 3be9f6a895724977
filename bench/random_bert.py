"""A BERT-base with random weights: the sizes of a larger model, without downloading one.

Run with the interpreter of build/bench: `random_bert.py FOLDER`.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from bench.peer import PYTHON

TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json")


def folder(target: Path, tokenizer_of: Path) -> Path:
    """Return the folder of the model, made once; it tokenises as another model does."""
    if not (target / "model.safetensors").exists():
        target.mkdir(parents=True, exist_ok=True)
        for name in TOKENIZER:
            if (tokenizer_of / name).exists():
                shutil.copy(tokenizer_of / name, target)
        subprocess.run([PYTHON, "-m", "bench.random_bert", str(target)], check=True)
    return target


def main(target: str) -> None:
    """Write a BERT-base with random weights."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    BertModel(BertConfig(), add_pooling_layer=False).save_pretrained(target)


if __name__ == "__main__":
    main(sys.argv[1])
