"""What is recorded of a model with a task, whichever library made it."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from texts import SOME, TEXTS
from tokenizers import Tokenizer

LIMIT = 12  # tokens of a text
TASKS = Path(__file__).resolve().parent / "tasks"


def folder_of(library: str, base: str, name: str) -> Path:
    """Make an empty folder for a task."""
    folder = TASKS / library / base / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def randomise(model: Any, seed: int) -> None:
    """Draw what was trained: norms and factors around what they are, the rest around 0."""
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            around = "norm" in name.lower() or "ia3" in name or "magnitude" in name
            noise = 0.1 * torch.randn_like(parameter)
            with torch.no_grad():
                parameter.copy_(parameter * (1 + 2 * noise) + noise if around else noise)


def write_outputs(folder: Path, model: Any, base: Path) -> None:
    """Write the states and logits of some texts, one by one; virtual tokens are left out."""
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    tokenizer.enable_truncation(LIMIT)
    every = [tokenizer.encode(TEXTS[name]).ids for name in SOME]
    states, logits = [], []
    for ids in every:
        given = torch.tensor([ids])
        with torch.inference_mode():
            out = model(given, attention_mask=torch.ones_like(given), output_hidden_states=True)
        states.append(out.hidden_states[-1][0].numpy()[-len(ids) :])
        if "logits" in out:
            logits.append(np.atleast_2d(out.logits[0].numpy()))
    arrays = {
        "ids": np.concatenate(every).astype(np.uint16),
        "lengths": np.array([len(ids) for ids in every], np.uint16),
        "states": np.concatenate(states),
    }
    if logits:
        arrays["logits"] = np.concatenate(logits)
    np.savez(folder / "expected.npz", **arrays)
    for extra in folder.glob("README.md"):
        extra.unlink()
    print(folder.relative_to(TASKS), sum(f.stat().st_size for f in folder.iterdir()))
