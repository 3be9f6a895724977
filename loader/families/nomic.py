"""NomicBERT (Nussbaum et al., 2024): BERT with rotary positions and gates, without biases.

As transformers 5 saves it, and as the model's own code on the hub does, under other names.
"""

from collections.abc import Mapping
from typing import Any

from pageformer.loader.families import raw_config as read
from pageformer.loader.families.family import Family, embedding, fused, linear, norm
from pageformer.udfs.config import Config

EMBEDDINGS = (
    *embedding("embeddings.word_embeddings", "embeddings.word"),
    *embedding("embeddings.token_type_embeddings", "embeddings.token_type"),
)
ATTENTION = tuple(f"layer.{{i}}.attention.{part}" for part in ("query", "key", "value"))
RULES = (
    *EMBEDDINGS,
    *norm("embeddings.LayerNorm", "embeddings.norm"),
    *linear("layers.{i}.self_attn.q_proj", "layer.{i}.attention.query"),
    *linear("layers.{i}.self_attn.k_proj", "layer.{i}.attention.key"),
    *linear("layers.{i}.self_attn.v_proj", "layer.{i}.attention.value"),
    *linear("layers.{i}.self_attn.o_proj", "layer.{i}.attention.output"),
    *norm("layers.{i}.post_attention_layernorm", "layer.{i}.attention.norm"),
    *linear("layers.{i}.mlp.gate_proj", "layer.{i}.feed_forward.gate"),
    *linear("layers.{i}.mlp.up_proj", "layer.{i}.feed_forward.up"),
    *linear("layers.{i}.mlp.down_proj", "layer.{i}.feed_forward.down"),
    *norm("layers.{i}.post_mlp_layernorm", "layer.{i}.feed_forward.norm"),
)
HUB_RULES = (
    *EMBEDDINGS,
    *norm("emb_ln", "embeddings.norm"),
    *fused("encoder.layers.{i}.attn.Wqkv", *ATTENTION),
    *linear("encoder.layers.{i}.attn.out_proj", "layer.{i}.attention.output"),
    *norm("encoder.layers.{i}.norm1", "layer.{i}.attention.norm"),
    *linear("encoder.layers.{i}.mlp.fc12", "layer.{i}.feed_forward.gate"),
    *linear("encoder.layers.{i}.mlp.fc11", "layer.{i}.feed_forward.up"),
    *linear("encoder.layers.{i}.mlp.fc2", "layer.{i}.feed_forward.down"),
    *norm("encoder.layers.{i}.norm2", "layer.{i}.feed_forward.norm"),
)
IGNORED = ("pooler.*", "cls.*", "classifier.*")
HUB_KEYS = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "intermediate_size": "n_inner",
    "max_position_embeddings": "n_positions",
    "layer_norm_eps": "layer_norm_epsilon",
    "rope_theta": "rotary_emb_base",
}
HUB_HARMLESS: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("activation_function", ("swiglu",)),
    ("prenorm", (False,)),
    ("parallel_block", (False,)),
    ("use_rms_norm", (False, None)),
    ("rotary_emb_fraction", (1.0,)),
    ("rotary_emb_interleaved", (False,)),
    ("rotary_emb_scale_base", (None,)),
    ("rotary_scaling_factor", (None,)),
    ("causal", (False,)),
    ("num_experts", (0, None)),
    ("moe_every_n_layers", (0, None)),
)


def config(raw: Mapping[str, Any]) -> Config:
    """Translate a NomicBertConfig; raise InvalidCheckpoint for what this pass does not compute."""
    read.refuse_other_models(raw, known=("auto_map",))
    read.refuse_other_code(raw, "NomicBert")
    for key, harmless in HUB_HARMLESS:
        read.choice(raw, key, *harmless)
    raw = {**{name: raw[key] for name, key in HUB_KEYS.items() if key in raw}, **raw}
    hidden = read.integer(raw, "hidden_size", 768)
    read.refuse_other_embedding_size(raw, hidden)
    heads = read.rotary_heads(raw, "num_attention_heads", 12, hidden)
    return Config(
        family="nomic_bert",
        hidden=hidden,
        layers=read.integer(raw, "num_hidden_layers", 12),
        heads=heads,
        intermediate=read.integer(raw, "intermediate_size", 3072),
        activation=read.activation(raw, "hidden_act", "silu"),
        norm_eps=read.positive(raw, "layer_norm_eps", 1e-12),
        vocabulary=read.integer(raw, "vocab_size", 30528),
        positions=read.integer(raw, "max_position_embeddings", 2048),
        token_types=read.integer(raw, "type_vocab_size", 2),
        position_table=False,
        gated=True,
        attention_bias=read.flag(raw, "qkv_proj_bias", False),
        up_bias=read.flag(raw, "mlp_fc1_bias", False),
        down_bias=read.flag(raw, "mlp_fc2_bias", False),
        rotary_theta=read.rotary_theta(raw, 1000.0, "rope_theta"),
    )


NOMIC_BERT = Family(
    ("nomic_bert",),
    RULES,
    config,
    other_rules=HUB_RULES,
    prefixes=("nomic_bert.", "bert."),
    ignored=IGNORED,
)
