"""Tiny random models of every family, written as transformers and sentence-transformers save them.

Made with NumPy and JSON alone, the same bytes every time: the recorded vectors in `reference/` were
computed from these files by the real libraries, and the tests load the same files into PostgreSQL.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import tiny_families
import tiny_heads
import tiny_tokenizers
from tiny_files import (
    Format,
    Json,
    Step,
    write_json,
    write_new_sentence_files,
    write_rank_files,
    write_safetensors,
    write_sentence_files,
    write_shards,
    write_sparse_files,
    write_steps,
)
from tiny_weights import (
    HEADS,
    HIDDEN,
    POSITIONS,
    WIDE,
    Array,
    Ids,
    encoder_shapes,
    model_tensors,
    random_tensors,
    with_legacy,
)

LIMIT = 128  # tokens
SHARDS = 3

ALL_MODES = "cls+max+mean+mean_sqrt_len_tokens+weightedmean+lasttoken"
PROMPTS: Json = {
    "prompts": {"query": "query: ", "passage": "This is a passage.  "},
    "default_prompt_name": "query",
}


def dense(
    inputs: int, outputs: int, activation: str, bias: bool = True, residual: bool = False
) -> Step:
    """Describe a Dense module."""
    settings: Json = {
        "in_features": inputs,
        "out_features": outputs,
        "bias": bias,
        "activation_function": f"torch.nn.modules.{activation}",
    }
    shapes: dict[str, tuple[int, ...]] = {"linear.weight": (outputs, inputs)}
    if bias:
        shapes["linear.bias"] = (outputs,)
    if residual:
        settings["use_residual"] = True
        if inputs != outputs:
            shapes["residual.weight"] = (outputs, inputs)
    return "Dense", settings, shapes


def layer_norm(width: int) -> Step:
    """Describe a LayerNorm module."""
    shape = (width,)
    return "LayerNorm", {"dimension": width}, {"norm.weight": shape, "norm.bias": shape}


@dataclass(frozen=True)
class TinyModel:
    """Describe one model directory."""

    family: str
    seed: int
    layers: int = 2
    pooling: str | None = "mean"  # None: no sentence-transformers files
    normalized: bool = False
    format: Format = "F32"
    sharded: bool = False
    prefix: str = ""  # as classes with a head save the encoder
    legacy: bool = False  # old names and buffers
    lowercase: bool = True  # in the tokenizer
    config: Json = field(default_factory=dict)
    transformer: Json = field(default_factory=lambda: {"max_seq_length": LIMIT})
    sentence: Json = field(default_factory=dict)
    head: str = ""  # sequence, tokens or words
    labels: int = 0
    new_dialect: bool = False  # sentence-transformers 6 changed its files
    include_prompt: bool = True  # in pooling
    steps: tuple[Step, ...] = ()  # modules behind pooling


MODELS: dict[str, TinyModel] = {
    "bert-mean": TinyModel("bert", 11),
    "bert-cls-normalized": TinyModel(
        "bert", 12, pooling="cls", normalized=True, config={"hidden_act": "gelu_new"}, layers=3
    ),
    "bert-head-legacy": TinyModel("bert", 13, prefix="bert.", legacy=True, pooling=None),
    "bert-f16": TinyModel("bert", 14, normalized=True, format="F16"),
    "bert-bf16": TinyModel("bert", 15, pooling="cls", format="BF16"),
    "bert-sharded": TinyModel("bert", 16, layers=3, sharded=True, config={"hidden_act": "relu"}),
    "bert-prompts": TinyModel("bert", 17, normalized=True, sentence=PROMPTS),
    "bert-max": TinyModel("bert", 71, pooling="max", normalized=True),
    "bert-all-modes": TinyModel("bert", 72, pooling=ALL_MODES),
    "bert-prompt-not-pooled": TinyModel(
        "bert", 73, pooling=ALL_MODES, new_dialect=True, include_prompt=False, sentence=PROMPTS
    ),
    "bert-dense": TinyModel(
        "bert",
        74,
        steps=(
            dense(HIDDEN, 50, "activation.Tanh"),
            ("Dropout", {"dropout": 0.2}, {}),
            layer_norm(50),
            dense(50, 70, "linear.Identity", residual=True),
            dense(70, 70, "activation.SiLU", residual=True),
            ("Normalize", {}, {}),
        ),
        sentence={"truncate_dim": 45},
    ),
    "distilbert-dense": TinyModel(
        "distilbert",
        75,
        pooling="cls+mean",
        steps=(
            ("Normalize", {}, {}),
            dense(2 * HIDDEN, 150, "activation.GELU", bias=False),
            dense(150, 40, "activation.Sigmoid"),
            dense(40, 40, "activation.ReLU"),
        ),
    ),
    "bert-lowercase": TinyModel(
        "bert", 18, lowercase=False, transformer={"max_seq_length": 17, "do_lower_case": True}
    ),
    "bert-cased": TinyModel("bert", 19, lowercase=False, pooling="cls"),
    "distilbert-mean": TinyModel("distilbert", 21, normalized=True, new_dialect=True),
    "distilbert-cls": TinyModel("distilbert", 22, pooling="cls", prefix="distilbert.", layers=3),
    "roberta-mean": TinyModel("roberta", 31, config={"layer_norm_eps": 1e-5}),
    "roberta-cls-normalized": TinyModel(
        "roberta", 32, pooling="cls", normalized=True, prefix="roberta.", new_dialect=True
    ),
    "xlm-roberta-cls": TinyModel("xlm-roberta", 41, pooling="cls", normalized=True, layers=3),
    "xlm-roberta-mean": TinyModel("xlm-roberta", 42, config={"layer_norm_eps": 1e-5}),
    "camembert-mean": TinyModel("camembert", 51, sharded=True),
    "mpnet-mean": TinyModel("mpnet", 61, normalized=True, config={"layer_norm_eps": 1e-5}),
    "mpnet-cls": TinyModel("mpnet", 62, pooling="cls", layers=3, prefix="mpnet.", format="BF16"),
    "electra-mean": TinyModel("electra", 81, normalized=True, prefix="electra."),
    "electra-wide": TinyModel(
        "electra", 82, pooling="cls", layers=3, config={"embedding_size": HIDDEN}
    ),
    "albert-mean": TinyModel("albert", 91, layers=3, normalized=True, prefix="albert."),
    "albert-groups": TinyModel(
        "albert",
        92,
        layers=5,
        pooling="cls",
        config={"num_hidden_groups": 2, "embedding_size": HIDDEN},
    ),
    "modernbert-mean": TinyModel("modernbert", 101, layers=5, normalized=True),
    "modernbert-biases": TinyModel(
        "modernbert",
        102,
        layers=3,
        pooling="cls",
        prefix="model.",
        config={
            "attention_bias": True,
            "mlp_bias": True,
            "norm_bias": True,
            "local_attention": 20,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": 90000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
            },
        },
    ),
    "nomic-mean": TinyModel("nomic_bert", 111, normalized=True, prefix="nomic_bert."),
    "nomic-cls": TinyModel(
        "nomic_bert",
        112,
        layers=3,
        pooling="cls",
        format="BF16",
        config={
            "hidden_act": "gelu_new",
            "rope_parameters": {"rope_type": "default", "rope_theta": 77.0},
        },
    ),
    "gte-cls": TinyModel("gte", 121, pooling="cls", normalized=True),
    "gte-untyped": TinyModel("gte", 122, layers=3, config={"type_vocab_size": 0}),
    "jina-mean": TinyModel("jina", 131, normalized=True, prefix="bert."),
    "jina-reglu": TinyModel(
        "jina", 132, layers=3, config={"feed_forward_type": "reglu", "num_attention_heads": 4}
    ),
    "deberta-v3-mean": TinyModel("deberta-v2", 141, normalized=True, prefix="deberta."),
    "deberta-v2-cls": TinyModel(
        "deberta-v2",
        142,
        layers=3,
        pooling="cls",
        config={
            "position_buckets": -1,
            "pos_att_type": ["c2p"],
            "norm_rel_ebd": "none",
            "position_biased_input": True,
            "type_vocab_size": 2,
        },
    ),
    "modernbert-deep": TinyModel("modernbert", 151, layers=13, normalized=True),
    "deberta-v3-deep": TinyModel("deberta-v2", 152, layers=12, pooling="cls"),
}

# The same with heads, without sentence-transformers' files.
HEADED: dict[str, TinyModel] = {
    f"{family}-{head}": TinyModel(
        family,
        200 + 3 * i + j,
        pooling=None,
        prefix=tiny_heads.PREFIXES[family],
        head=head,
        labels=labels,
    )
    for i, family in enumerate(tiny_heads.PREFIXES)
    for j, (head, labels) in enumerate((("sequence", 3), ("tokens", 5), ("words", 0)))
}
HEADED |= {
    "bert-multi-label": TinyModel(
        "bert",
        301,
        pooling=None,
        prefix="bert.",
        head="sequence",
        labels=3,
        config={"problem_type": "multi_label_classification"},
    ),
    "bert-regression": TinyModel(
        "bert",
        302,
        pooling=None,
        prefix="bert.",
        head="sequence",
        labels=1,
        config={"problem_type": "regression"},
    ),
    "modernbert-mean-head": TinyModel(
        "modernbert",
        303,
        pooling=None,
        prefix="model.",
        head="sequence",
        labels=2,
        config={"classifier_pooling": "mean"},
    ),
}
RERANKERS: dict[str, TinyModel] = {
    f"{family}-rerank": TinyModel(
        family,
        400 + i,
        pooling=None,
        prefix=tiny_heads.PREFIXES[family],
        head="sequence",
        labels=1,
    )
    for i, family in enumerate(
        ("bert", "roberta", "xlm-roberta", "modernbert", "deberta-v2", "albert")
    )
}
RERANKERS["bert-rerank-logits"] = TinyModel(
    "bert",
    410,
    pooling=None,
    prefix="bert.",
    head="sequence",
    labels=1,
    config={"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}},
)
RERANKERS["bert-rerank-prompt"] = TinyModel(
    "bert",
    411,
    pooling=None,
    prefix="bert.",
    head="sequence",
    labels=1,
    sentence={"prompts": {"search": "find: "}, "default_prompt_name": "search"},
)
SPARSE: dict[str, TinyModel] = {
    f"{family}-sparse": TinyModel(
        family, 420 + i, pooling=None, prefix=tiny_heads.PREFIXES[family], head="words"
    )
    for i, family in enumerate(("bert", "distilbert"))
}

# The paper's encoder, as in docs/encoder-family.md.
ENCODERS: dict[str, Json] = {
    "encoder-paper": {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 0},
    "encoder-feed-forward": {"hidden_size": 96, "num_attention_heads": 3, "intermediate_size": 200},
    "encoder-final-activation": {
        "hidden_size": 64,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "final_activation": True,
        "layer_norm_eps": 1e-6,
    },
}


def write(name: str, folder: Path) -> Path:
    """Write the model `name` into a folder of that name and return it."""
    directory = folder / name
    directory.mkdir(parents=True)
    if name in ENCODERS:
        write_encoder(directory, ENCODERS[name], seed=len(name))
    else:
        write_model(directory, {**MODELS, **HEADED, **RERANKERS, **SPARSE}[name])
    if name in RERANKERS and RERANKERS[name].sentence:
        write_rank_files(directory, RERANKERS[name].sentence)
    if name in SPARSE:
        write_sparse_files(directory, "sum" if name.startswith("distil") else "max")
    return directory


def write_model(directory: Path, model: TinyModel) -> None:
    """Write config, weights, tokenizer and sentence-transformers' files."""
    tokenizer, vocabulary = tokenizer_of(model)
    head = tiny_heads.config(model.family, model.head, model.labels)
    write_json(directory / "config.json", {**config_of(model, vocabulary), **head, **model.config})
    tensors = tensors_of(model, vocabulary)
    if model.sharded:
        write_shards(directory, tensors, model.format, SHARDS)
    else:
        write_safetensors(directory / "model.safetensors", tensors, model.format)
    write_json(directory / "tokenizer.json", tokenizer)
    write_json(directory / "tokenizer_config.json", tokenizer_config(model))
    if model.pooling and model.new_dialect:
        write_new_sentence_files(
            directory,
            HIDDEN,
            model.pooling,
            model.normalized,
            model.include_prompt,
            model.sentence,
        )
    elif model.pooling:
        write_sentence_files(
            directory, HIDDEN, model.pooling, model.normalized, model.transformer, model.sentence
        )
    if model.steps:
        write_steps(directory, model.steps, model.seed)


def tensors_of(model: TinyModel, vocabulary: int) -> Mapping[str, Array | Ids]:
    """Draw the tensors of a model, under old names where it is legacy."""
    if model.family in tiny_families.FAMILIES:
        _, shapes = tiny_families.FAMILIES[model.family](model.layers, vocabulary, model.config)
        named = ((model.prefix + name, shape) for name, shape in shapes)
        tensors = random_tensors(named, model.seed)
    else:
        tensors = model_tensors(model.family, model.layers, vocabulary, model.prefix, model.seed)
    if model.head:
        shapes = tiny_heads.shapes(model.family, model.head, model.labels, vocabulary)
        tensors.update(random_tensors(shapes, model.seed + 1))
    return with_legacy(tensors) if model.legacy else tensors


def tokenizer_of(model: TinyModel) -> tuple[Json, int]:
    """Choose the tokenizer of a model's family."""
    if TOKENIZER_CLASSES[model.family] in WORD_PIECE:
        return tiny_tokenizers.bert(model.lowercase)
    makers: dict[str, Callable[[], tuple[Json, int]]] = {
        "mpnet": tiny_tokenizers.mpnet,
        "roberta": tiny_tokenizers.roberta,
        "xlm-roberta": tiny_tokenizers.xlm_roberta,
        "camembert": tiny_tokenizers.camembert,
        "gte": tiny_tokenizers.xlm_roberta,
        "albert": tiny_tokenizers.albert,
        "deberta-v2": tiny_tokenizers.deberta,
    }
    return makers[model.family]()


WORD_PIECE = (
    "BertTokenizer",
    "DistilBertTokenizer",
    "ElectraTokenizer",
    "PreTrainedTokenizerFast",
)
TOKENIZER_CLASSES = {
    "bert": "BertTokenizer",
    "distilbert": "DistilBertTokenizer",
    "roberta": "RobertaTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
    "camembert": "CamembertTokenizer",
    "mpnet": "MPNetTokenizer",
    "electra": "ElectraTokenizer",
    "albert": "AlbertTokenizer",
    "modernbert": "PreTrainedTokenizerFast",
    "nomic_bert": "BertTokenizer",
    "gte": "XLMRobertaTokenizer",
    "jina": "BertTokenizer",
    "deberta-v2": "DebertaV2Tokenizer",
}


def tokenizer_config(model: TinyModel) -> Json:
    """Describe the tokenizer as its class saves it."""
    plain: Json = {
        "tokenizer_class": TOKENIZER_CLASSES[model.family],
        "model_max_length": LIMIT,
    }
    if model.family == "modernbert":
        names = ("pad", "unk", "cls", "sep", "mask")
        return {**plain, **{f"{name}_token": f"[{name.upper()}]" for name in names}}
    if TOKENIZER_CLASSES[model.family] in WORD_PIECE:
        return {**plain, "do_lower_case": model.lowercase, "strip_accents": None}
    return plain


def config_of(model: TinyModel, vocabulary: int) -> Json:
    """Describe the architecture as its config class saves it."""
    if model.family in tiny_families.FAMILIES:
        return tiny_families.FAMILIES[model.family](model.layers, vocabulary, model.config)[0]
    if model.family == "distilbert":
        return {
            "model_type": "distilbert",
            "architectures": ["DistilBertModel"],
            "vocab_size": vocabulary,
            "dim": HIDDEN,
            "n_layers": model.layers,
            "n_heads": HEADS,
            "hidden_dim": WIDE,
            "max_position_embeddings": POSITIONS,
            "activation": "gelu",
            "sinusoidal_pos_embds": False,
            "pad_token_id": 0,
        }
    plain = {
        "model_type": model.family,
        "vocab_size": vocabulary,
        "hidden_size": HIDDEN,
        "num_hidden_layers": model.layers,
        "num_attention_heads": HEADS,
        "intermediate_size": WIDE,
        "hidden_act": "gelu",
        "max_position_embeddings": POSITIONS,
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0 if model.family == "bert" else 1,
    }
    if model.family == "mpnet":
        return {**plain, "relative_attention_num_buckets": 32}
    return {**plain, "type_vocab_size": 2 if model.family == "bert" else 1}


def write_encoder(directory: Path, config: Json, seed: int) -> None:
    """Write the paper's encoder, under the names of docs/encoder-family.md."""
    layers = 2
    head = {"model_type": "encoder", "num_hidden_layers": layers, "hidden_act": "relu"}
    write_json(directory / "config.json", {**head, **config})
    shapes = encoder_shapes(config["hidden_size"], config["intermediate_size"], layers)
    write_safetensors(directory / "model.safetensors", random_tensors(shapes, seed))
