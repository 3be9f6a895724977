"""The families of models that can be loaded, found by the `model_type` of a `config.json`."""

from collections.abc import Mapping
from typing import Any

from pageformer.errors import InvalidCheckpoint
from pageformer.loader.families.albert import ALBERT
from pageformer.loader.families.bert import BERT
from pageformer.loader.families.deberta import DEBERTA
from pageformer.loader.families.distilbert import DISTILBERT
from pageformer.loader.families.electra import ELECTRA
from pageformer.loader.families.encoder import ENCODER
from pageformer.loader.families.family import Family, Kind, Rule, Source
from pageformer.loader.families.gte import GTE
from pageformer.loader.families.jina import JINA_BERT
from pageformer.loader.families.modernbert import MODERNBERT
from pageformer.loader.families.mpnet import MPNET
from pageformer.loader.families.nomic import NOMIC_BERT
from pageformer.loader.families.roberta import ROBERTA
from pageformer.loader.families.shapes import expected_shapes
from pageformer.loader.families.vit import VIT

__all__ = [
    "FAMILIES",
    "Family",
    "Kind",
    "Rule",
    "Source",
    "expected_shapes",
    "family_for",
    "family_named",
]

# The first family of a `model_type` that applies is taken.
FAMILIES = (
    JINA_BERT,
    BERT,
    DISTILBERT,
    ROBERTA,
    MPNET,
    ELECTRA,
    ALBERT,
    MODERNBERT,
    NOMIC_BERT,
    GTE,
    DEBERTA,
    VIT,
    ENCODER,
)


def family_named(name: str) -> Family:
    """Return the family of a version, by the name that its config has."""
    own = {"jina-bert": JINA_BERT, "encoder": ENCODER}
    others = {kind: family for family in reversed(FAMILIES) for kind in family.model_types}
    return own[name] if name in own else {**others, "bert": BERT}[name]


def family_for(raw_config: Mapping[str, Any]) -> Family:
    """Find the family of a checkpoint's `config.json`.

    Raises InvalidCheckpoint that names the key and value that stop it, before any weight is read.
    """
    model_type = raw_config.get("model_type")
    for family in FAMILIES:
        if model_type in family.model_types and family.applies(raw_config):
            family.config(raw_config)
            return family
    types = dict.fromkeys(name for family in FAMILIES for name in family.model_types)
    known = ", ".join(types)
    raise InvalidCheckpoint(
        f"config.json has model_type = {model_type!r}, expected one of {known}",
        hint="Load a model of one of these families.",
    )
