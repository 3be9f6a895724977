"""The heads of the tiny models: what their tensors are called, as transformers saves them."""

from typing import Any

from tiny_weights import HIDDEN, Shapes, linear, norm

Json = dict[str, Any]
NARROW = 40  # width of embeddings that are projected

# What each family puts before the encoder's names where there is a head.
PREFIXES = {
    "bert": "bert.",
    "distilbert": "distilbert.",
    "roberta": "roberta.",
    "xlm-roberta": "roberta.",
    "mpnet": "mpnet.",
    "electra": "electra.",
    "albert": "albert.",
    "modernbert": "model.",
    "nomic_bert": "nomic_bert.",
    "gte": "gte.",
    "deberta-v2": "deberta.",
}
CLASSES = {
    "bert": "Bert",
    "distilbert": "DistilBert",
    "roberta": "Roberta",
    "xlm-roberta": "XLMRoberta",
    "mpnet": "MPNet",
    "electra": "Electra",
    "albert": "Albert",
    "modernbert": "ModernBert",
    "nomic_bert": "NomicBert",
    "gte": "Gte",
    "deberta-v2": "DebertaV2",
}
ENDINGS = {
    "sequence": "ForSequenceClassification",
    "tokens": "ForTokenClassification",
    "words": "ForMaskedLM",
}
# A linear layer of each kind of head, its norm, and the bias of every word.
WORDS = {
    "bert": ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.pred"),
    "distilbert": ("vocab_transform", "vocab_layer_norm", "vocab_projector"),
    "roberta": ("lm_head.dense", "lm_head.layer_norm", "lm_head"),
    "electra": (
        "generator_predictions.dense",
        "generator_predictions.LayerNorm",
        "generator_lm_head",
    ),
    "albert": ("predictions.dense", "predictions.LayerNorm", "predictions"),
    "modernbert": ("head.dense", "head.norm", "decoder"),
    "nomic_bert": (
        "cls.predictions.transform.dense",
        "cls.predictions.transform.layer_norm",
        "cls.pred",
    ),
    "gte": ("lm_head.dense", "lm_head.norm", "lm_head.decoder"),
}
LIKE = {"xlm-roberta": "roberta", "mpnet": "roberta", "deberta-v2": "bert"}


def config(family: str, head: str, labels: int) -> Json:
    """Write the keys of config.json that tell of a head."""
    if not head:
        return {}
    told: Json = {"architectures": [CLASSES[family] + ENDINGS[head]]}
    if labels:
        names = {str(i): f"label {i}" for i in range(labels)}
        told.update(id2label=names, label2id={name: int(i) for i, name in names.items()})
    return told


def shapes(family: str, head: str, labels: int, vocabulary: int) -> Shapes:
    """Name the tensors of a head that are not among the encoder's."""
    if head == "words":
        yield from words(family, vocabulary)
    elif head == "tokens":
        if family == "modernbert":
            yield from modern()
        yield from linear("classifier", labels, HIDDEN)
    elif LIKE.get(family, family) in ("roberta", "electra"):
        yield from linear("classifier.dense", HIDDEN, HIDDEN)
        yield from linear("classifier.out_proj", labels, HIDDEN)
    else:
        if family == "distilbert":
            yield from linear("pre_classifier", HIDDEN, HIDDEN)
        if family in ("nomic_bert", "gte", "deberta-v2"):
            at = "" if family == "deberta-v2" else PREFIXES[family]
            yield from linear(f"{at}pooler.dense", HIDDEN, HIDDEN)
        if family == "modernbert":
            yield from modern()
        yield from linear("classifier", labels, HIDDEN)


def modern() -> Shapes:
    """Name the tensors before ModernBERT's classifier."""
    yield "head.dense.weight", (HIDDEN, HIDDEN)
    yield "head.norm.weight", (HIDDEN,)


def words(family: str, vocabulary: int) -> Shapes:
    """Name the tensors of a head that predicts words."""
    width = NARROW if family in ("albert", "electra") else HIDDEN
    dense, normed, bias = WORDS[LIKE.get(family, family)]
    if family == "modernbert":
        yield from modern()
    else:
        yield from linear(dense, width, HIDDEN)
        yield from norm(normed, width)
    yield f"{bias.replace('cls.pred', 'cls.predictions')}.bias", (vocabulary,)
