"""What `pageformer profile` tells: every step, the work of products, a peak of each variant."""

import re
from pathlib import Path

import pytest
from test_cli import Run, failed
from test_cli import run as run

from pageformer.loader import checkpoint

kernels = pytest.importorskip("pageformer.cpu_backend._kernels", reason="no C compiler was there")
STEPS = ["embed", "query, key, value", "attention", "output", "norm", "up", "down", "norm again"]


def test_the_operations_of_products_are_counted(minilm_dir: Path) -> None:
    from pageformer.cpu_backend.profile import operations

    counted = operations(checkpoint.read(minilm_dir).config, [2, 3])
    assert counted["output"] == 6 * 2 * 5 * 384 * 384
    assert counted["query, key, value"] == 3 * counted["output"]
    assert counted["up"] == counted["down"] == 4 * counted["output"]
    assert counted["attention"] == 6 * 2 * 2 * (2 * 2 + 3 * 3) * 384


@pytest.mark.parametrize("variant", kernels.variants())
def test_every_variant_has_a_peak(variant: str) -> None:
    assert 0.1 < kernels.peak(variant) < 10_000


def test_a_profile_tells_the_time_of_every_step(run: Run, minilm: str) -> None:
    told = run("profile", "minilm", "--tokens", "9", "--texts", "3", "--dsn", minilm).stdout
    assert told.startswith(
        f"minilm in float32, kernels {kernels.variants()[0]}, 3 texts of 9 tokens"
    )
    lines = re.findall(r"^([a-z, ]+?)  +[\d.]+ +([\d.]+)%( +\d+ +\d+%)?$", told, re.MULTILINE)
    assert [name for name, _, _ in lines][:8] == STEPS
    assert sum(float(part) for _, part, _ in lines) == pytest.approx(100, abs=0.6)
    assert [name for name, _, rate in lines if rate] == [
        "query, key, value", "attention", "output", "up", "down",
    ]  # fmt: skip


def test_a_profile_of_what_is_not_there_says_so(run: Run, minilm: str) -> None:
    assert failed(run("profile", "gone", "--dsn", minilm), 'no model "gone"', "pageformer models")
    wrong = run("profile", "minilm", "--compute", "int4", "--dsn", minilm)
    assert failed(wrong, "compute is 'int4'", "float32, bfloat16")
