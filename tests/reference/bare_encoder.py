"""The encoder paper's model, written with PyTorch's own modules, for recording."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn


class Block(nn.Module):
    """One pre-norm block, with PyTorch's attention and without dropout."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        hidden, wide = config["hidden_size"], config["intermediate_size"]
        eps = config.get("layer_norm_eps", 1e-5)
        self.norm1 = nn.LayerNorm(hidden, eps)
        self.attention = nn.MultiheadAttention(
            hidden, config["num_attention_heads"], batch_first=True
        )
        self.norm2 = nn.LayerNorm(hidden, eps)
        steps: list[nn.Module] = []
        if wide:
            steps = [nn.Linear(hidden, wide), nn.ReLU(), nn.Linear(wide, hidden)]
        if config.get("final_activation"):
            steps.append(nn.ReLU())
        self.feed_forward = nn.Sequential(*steps) if steps else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the block.  # [batch, sequence, hidden] -> the same"""
        normed = self.norm1(x)
        x = x + self.attention(normed, normed, normed, need_weights=False)[0]
        return x if self.feed_forward is None else x + self.feed_forward(self.norm2(x))

    def fill(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take the tensors of one layer, named as in docs/encoder-family.md."""
        parts = [f"attention.{part}" for part in ("query", "key", "value")]
        for kind in ("weight", "bias"):
            joined = torch.cat([tensors.pop(f"{part}.{kind}") for part in parts])
            tensors[f"attention.in_proj_{kind}"] = joined
        renamed = {
            name.replace("attention.output", "attention.out_proj")
            .replace("feed_forward.up", "feed_forward.0")
            .replace("feed_forward.down", "feed_forward.2"): tensor
            for name, tensor in tensors.items()
        }
        self.load_state_dict(renamed)


class BareEncoder(nn.Module):
    """A stack of blocks."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.hidden = int(config["hidden_size"])
        self.blocks = nn.ModuleList(Block(config) for _ in range(config["num_hidden_layers"]))

    @classmethod
    def load(cls, directory: Path) -> "BareEncoder":
        """Read a model directory."""
        model = cls(json.loads((directory / "config.json").read_text()))
        tensors = load_file(directory / "model.safetensors")
        for index, block in enumerate(model.blocks):
            start = f"layers.{index}."
            held = {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
            block.fill(held)
        return model.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the stack.  # [batch, sequence, hidden] -> the same"""
        for block in self.blocks:
            x = block(x)
        return x
