"""JinaBERT v2 written with PyTorch's modules, for recording: its own code is on the hub alone.

After "Jina Embeddings 2" (Guenther et al., 2023) and the names of its checkpoints; loaded as the
code of a model directory.
"""

import math

import torch
from torch import nn
from transformers import BertConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput


def slopes(heads: int) -> list[float]:
    """Compute the slopes of ALiBi as its paper's code does."""
    if math.log2(heads).is_integer():
        start = 2 ** (-(2 ** -(math.log2(heads) - 3)))
        return [start * start**i for i in range(heads)]
    near = 2 ** math.floor(math.log2(heads))
    return slopes(near) + slopes(2 * near)[0::2][: heads - near]


class Embeddings(nn.Module):
    """Words and types, no positions."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, ids: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        """Add up and normalise.  # [batch, sequence] -> [batch, sequence, hidden]"""
        return self.LayerNorm(self.word_embeddings(ids) + self.token_type_embeddings(types))


class SelfAttention(nn.Module):
    """Attention with a bias."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """Mix the values.  # [batch, sequence, hidden] -> the same"""
        q, k, v = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + bias
        return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


class Output(nn.Module):
    """The map behind attention, with its norm."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """Map, add, normalise."""
        return self.LayerNorm(self.dense(x) + residual)


class Attention(nn.Module):
    """Both parts of attention."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.self = SelfAttention(config)
        self.output = Output(config)

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """Run both."""
        return self.output(self.self(x, bias), x)


class Gated(nn.Module):
    """The feed-forward part: the first half through an activation, times the second."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.gated_layers = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=False)
        self.act = nn.ReLU() if config.feed_forward_type == "reglu" else nn.GELU()
        self.wo = nn.Linear(config.intermediate_size, config.hidden_size)
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run it with its residual and norm."""
        gated, other = self.gated_layers(x).chunk(2, dim=-1)
        return self.layernorm(self.wo(self.act(gated) * other) + x)


class Layer(nn.Module):
    """One layer."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.mlp = Gated(config)

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """Run it."""
        return self.mlp(self.attention(x, bias))


class Encoder(nn.Module):
    """The layers, with one bias for all."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.slopes = slopes(config.num_attention_heads)
        self.layer = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run them."""
        place = torch.arange(x.shape[1])
        apart = (place[None, :] - place[:, None]).abs()
        bias = torch.tensor(self.slopes)[:, None, None] * -apart
        for layer in self.layer:
            x = layer(x, bias)
        return x


class JinaBertModel(PreTrainedModel):
    """The model, for single texts without padding."""

    config_class = BertConfig
    base_model_prefix = "bert"
    _keys_to_ignore_on_load_unexpected = ("pooler",)

    def __init__(self, config: BertConfig, **kwargs: object) -> None:
        super().__init__(config)
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        **kwargs: object,
    ) -> BaseModelOutput:
        """Compute the last hidden states."""
        types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        return BaseModelOutput(last_hidden_state=self.encoder(self.embeddings(input_ids, types)))
