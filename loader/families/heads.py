"""What stands on an encoder for labels, scores and missing words, and its names per family.

A head is linear layers, each perhaps with an activation and a norm, over the first token's state or
the mean (sequence), every state (tokens), or every state and then the word embeddings (words).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from pageformer.loader.families import raw_config as read
from pageformer.loader.families.family import Family, Rule
from pageformer.udfs.config import Config

Task = Literal["sequence", "tokens", "words"]
ENDINGS: Mapping[str, Task] = {
    "ForSequenceClassification": "sequence",
    "ForImageClassification": "sequence",
    "ForTokenClassification": "tokens",
    "ForMaskedLM": "words",
}
SAME = "as the encoder"  # an activation


@dataclass(frozen=True)
class Step:
    """Name one linear layer, the activation behind it (or the key that names it), and its norm."""

    linear: str
    activation: str | None = None
    norm: str = ""
    key: tuple[str, str] | None = None
    bias_key: str = ""  # of a bias that is absent by default


@dataclass(frozen=True)
class Head:
    """Name the layers of one head, and the bias of every word."""

    steps: tuple[Step, ...]
    bias: str = ""


LABELS = (Step("classifier"),)
TOKENS = Head(LABELS)
POOLER = Head((Step("pooler.dense", "tanh"), *LABELS))
DENSE_TANH = Head((Step("classifier.dense", "tanh"), Step("classifier.out_proj")))
LM_HEAD = Head((Step("lm_head.dense", "gelu", "lm_head.layer_norm"),), "lm_head.bias")
TRANSFORM = "cls.predictions.transform"
PREDICTIONS = Head(
    (Step(f"{TRANSFORM}.dense", SAME, f"{TRANSFORM}.LayerNorm"),), "cls.predictions.bias"
)
ROBERTA: Mapping[Task, Head] = {"sequence": DENSE_TANH, "tokens": TOKENS, "words": LM_HEAD}
MODERN = Step("head.dense", None, "head.norm", ("classifier_activation", "gelu"), "classifier_bias")

HEADS: Mapping[str, Mapping[Task, Head]] = {
    "bert": {"sequence": POOLER, "tokens": TOKENS, "words": PREDICTIONS},
    "distilbert": {
        "sequence": Head((Step("pre_classifier", "relu"), *LABELS)),
        "tokens": TOKENS,
        "words": Head((Step("vocab_transform", SAME, "vocab_layer_norm"),), "vocab_projector.bias"),
    },
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
    "camembert": ROBERTA,
    "mpnet": ROBERTA,
    "electra": {
        "sequence": Head((Step("classifier.dense", "gelu"), Step("classifier.out_proj"))),
        "tokens": TOKENS,
        "words": Head(
            (Step("generator_predictions.dense", "gelu", "generator_predictions.LayerNorm"),),
            "generator_lm_head.bias",
        ),
    },
    "albert": {
        "sequence": Head((Step("pooler", "tanh"), *LABELS)),
        "tokens": TOKENS,
        "words": Head(
            (Step("predictions.dense", SAME, "predictions.LayerNorm"),), "predictions.bias"
        ),
    },
    "modernbert": {
        "sequence": Head((MODERN, *LABELS)),
        "tokens": Head((MODERN, *LABELS)),
        "words": Head((MODERN,), "decoder.bias"),
    },
    "nomic_bert": {
        "sequence": POOLER,
        "tokens": TOKENS,
        "words": Head(
            (Step(f"{TRANSFORM}.dense", SAME, f"{TRANSFORM}.layer_norm"),), "cls.predictions.bias"
        ),
    },
    "gte": {
        "sequence": POOLER,
        "tokens": TOKENS,
        "words": Head((Step("lm_head.dense", "gelu", "lm_head.norm"),), "lm_head.decoder.bias"),
    },
    "vit": {"sequence": Head(LABELS)},
    "deberta-v2": {
        "sequence": Head((Step("pooler.dense", key=("pooler_hidden_act", "gelu")), *LABELS)),
        "tokens": TOKENS,
        "words": PREDICTIONS,
    },
}


def with_head(family: Family, raw: Mapping[str, Any], config: Config) -> tuple[Family, Config]:
    """Add the head that `architectures` names, if it is one of ours, to a family's table.

    Raises InvalidCheckpoint that names a key of the head that cannot be followed.
    """
    architecture = str((raw.get("architectures") or [""])[0])
    task = next((t for ending, t in ENDINGS.items() if architecture.endswith(ending)), None)
    head = HEADS.get(config.family, {}).get(task) if task else None
    if (
        task is None
        or head is None
        or (task == "words" and not raw.get("tie_word_embeddings", True))
    ):
        return family, config
    content = head_content(task, raw, config, read_labels(raw))
    rules = (*family.rules, *head_rules(head))
    others = (*family.other_rules, *head_rules(head)) if family.other_rules else ()
    return replace(family, rules=rules, other_rules=others), config._replace(head=content)


def head_content(
    task: Task, raw: Mapping[str, Any], config: Config, labels: list[str]
) -> dict[str, Any]:
    """Describe the head that a family has for a task, as `Config.head` does.

    Raises InvalidCheckpoint that names a key that cannot be followed.
    """
    steps = [_step(step, raw, config) for step in HEADS[config.family][task].steps]
    for step in steps:
        step["width"] = config.embedding_size if task == "words" else 0
        step["width"] = step["width"] or config.hidden
    content: dict[str, Any] = {"task": task, "steps": steps}
    if task != "words":
        steps[-1]["width"] = len(labels)
        content["labels"] = labels
    if task == "sequence":
        content["pooling"] = read.choice(raw, "classifier_pooling", "cls", "mean")
        content["scores"] = _scores(raw, len(labels))
    return content


def read_labels(raw: Mapping[str, Any]) -> list[str]:
    """Read the names of the labels, in the order of their numbers."""
    names = raw.get("id2label")
    if not names:
        return [f"LABEL_{i}" for i in range(read.integer(raw, "num_labels", 2))]
    if {*names} != {str(i) for i in range(len(names))}:
        raise read.refused("id2label", names, "labels numbered from 0")
    return [str(names[str(i)]) for i in range(len(names))]


def _scores(raw: Mapping[str, Any], labels: int) -> str:
    """Tell what makes scores of logits, as transformers' pipelines do."""
    kind = raw.get("problem_type")
    if kind == "regression":
        return "none"
    return "sigmoid" if kind == "multi_label_classification" or labels == 1 else "softmax"


def _step(step: Step, raw: Mapping[str, Any], config: Config) -> dict[str, Any]:
    activation = config.activation if step.activation == SAME else step.activation
    if step.key is not None:
        key, default = step.key
        activation = "tanh" if raw.get(key) == "tanh" else read.activation(raw, key, default)
    bias = read.flag(raw, step.bias_key, False) if step.bias_key else True
    return {"activation": activation, "norm": bool(step.norm), "bias": bias}


def head_rules(head: Head) -> Iterator[Rule]:
    """Name the tensors of a head, the last one being one that only the head has."""
    for k, step in enumerate(head.steps):
        yield Rule(f"{step.linear}.weight", f"head.{k}.weight", "linear")
        yield Rule(f"{step.linear}.bias", f"head.{k}.bias", "vector")
        if step.norm:
            yield Rule(f"{step.norm}.weight", f"head.{k}.norm.weight", "vector")
            yield Rule(f"{step.norm}.bias", f"head.{k}.norm.bias", "vector")
    if head.bias:
        yield Rule(head.bias, "head.words.bias", "vector")
