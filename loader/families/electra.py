"""ELECTRA (Clark et al., 2020): BERT whose embeddings may be narrower than its layers."""

from collections.abc import Mapping
from typing import Any

from pageformer.loader.families import bert
from pageformer.loader.families import raw_config as read
from pageformer.loader.families.family import Family, linear
from pageformer.udfs.config import Config

RULES = (*bert.RULES, *linear("embeddings_project", "embeddings.projection"))
IGNORED = (*bert.IGNORED, "discriminator_predictions.*", "generator_*")
DEFAULTS = {"hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024}


def config(raw: Mapping[str, Any]) -> Config:
    """Translate an ElectraConfig; raise InvalidCheckpoint for what this pass does not compute."""
    width = read.integer(raw, "embedding_size", 128)
    plain = bert.config({**DEFAULTS, **raw, "embedding_size": None})
    projected = 0 if width == plain.hidden else width
    return plain._replace(family="electra", embedding_size=projected)


ELECTRA = Family(("electra",), RULES, config, prefixes=("electra.",), ignored=IGNORED)
