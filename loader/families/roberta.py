"""RoBERTa (Liu et al., 2019), XLM-RoBERTa and CamemBERT: BERT whose positions skip padding.

Position ids are `padding_id + 1`, `padding_id + 2` ... and `padding_id` itself for every padding
token, also for one that stands in the text as a literal `<pad>`, which takes part all the same.
"""

from collections.abc import Mapping
from typing import Any

from pageformer.loader.families import bert
from pageformer.loader.families import raw_config as read
from pageformer.loader.families.family import Family
from pageformer.udfs.config import Config

IGNORED = (*bert.IGNORED, "lm_head.*")


def config(raw: Mapping[str, Any]) -> Config:
    """Translate a RobertaConfig; raise InvalidCheckpoint for what this pass does not compute."""
    defaults = {"vocab_size": 50265} if raw.get("model_type") == "roberta" else {}
    plain = bert.config({**defaults, **raw})
    padding_id = read.padding_id(raw, 1, plain.positions)
    return plain._replace(family=str(raw["model_type"]), padding_id=padding_id)


ROBERTA = Family(
    ("roberta", "xlm-roberta", "camembert"),
    bert.RULES,
    config,
    prefixes=("roberta.",),
    ignored=IGNORED,
)
