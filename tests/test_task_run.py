"""A task's edits against their definition: run alone, in mixed batches, and by every backend."""

import pytest

from pageformer.errors import InvalidTask
from pageformer.udfs.tasks.task import Bottleneck, TaskConfig, check

BASE = {
    "embeddings.word": (50, 8),
    "layer.0.attention.query.weight": (8, 8),
    "layer.0.attention.query.bias": (8,),
    "layer.0.attention.norm.weight": (8,),
}
LOW_RANK = {
    "layer.0.attention.query/low_rank/down": (8, 2),
    "layer.0.attention.query/low_rank/up": (2, 8),
}


def test_a_config_reads_what_it_wrote() -> None:
    task = TaskConfig("houlsby", {"layer.0.attention": Bottleneck("relu", base="added")})
    assert TaskConfig.from_json(task.to_json()) == task


def test_edits_that_fit_are_accepted() -> None:
    arrays = {
        **LOW_RANK,
        "layer.0.attention.norm/norm/weight": (8,),
        "layer.0.attention.norm/norm/bias": (8,),
        "embeddings.word/rows/numbers": (3,),
        "embeddings.word/rows/values": (3, 8),
        "layer.0/prefix/keys": (4, 8),
        "layer.0/prefix/values": (4, 8),
        "embeddings/prompt/embeddings": (5, 8),
    }
    check(TaskConfig("mixed"), BASE, arrays)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"layer.1.attention.query/bias/difference": (8,)}, "no layer.1.attention.query"),
        ({"layer.0.attention.query/norm/weight": (8,)}, "has no edit norm"),
        ({"layer.0.attention.query/bias/offset": (8,)}, "bias/offset is not known"),
        ({"layer.0.attention.query/bias/difference": (9,)}, r"has shape \[9\], not \[8\]"),
        ({**LOW_RANK, "layer.0.attention.query/low_rank/up": (3, 8)}, r"\[3, 8\], not \[2, 8\]"),
        ({"layer.0.attention.query/low_rank/up": (2, 8)}, "low_rank/down is missing"),
        ({"layer.0.attention/bottleneck/up.bias": (8,)}, "is missing"),
        ({"head.0.weight": (8, 2)}, r"its head wants none"),
        ({"query": (8, 2)}, "site/edit/part"),
    ],
)
def test_edits_that_do_not_fit_are_refused_by_name(
    arrays: dict[str, tuple[int, ...]], message: str
) -> None:
    with pytest.raises(InvalidTask, match=message):
        check(TaskConfig("broken"), BASE, arrays)
