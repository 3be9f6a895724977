"""Vectors as text: the shortest decimals that read back as the same float32."""

import numpy as np
import pytest
from backends_present import reason_missing

if missing := reason_missing("cpu"):
    pytest.skip(missing, allow_module_level=True)

from pageformer.cpu_backend import _kernels as kernels


def written(values: np.ndarray) -> list[str]:
    return kernels.vector_text(values).strip("[]").split(",")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (-0.0, "-0"), (1.0, "1"), (-2.5, "-2.5"), (0.1, "0.1"), (16777216, "16777216"),
        (123456.79, "123456.79"), (1e9, "1e+09"), (0.00012, "0.00012"), (1.5e-7, "1.5e-07"),
        (3.4028235e38, "3.4028235e+38"), (1e-45, "1e-45"), (0.33333334, "0.33333334"),
    ],
)  # fmt: skip
def test_floats_are_written(value: float, text: str) -> None:
    assert written(np.array([value], np.float32)) == [text]


def test_every_kind_of_float_reads_back_and_is_as_short_as_can_be() -> None:
    bits = np.random.default_rng(1).integers(0, 2**32, 200_000, np.uint32)
    near = np.random.default_rng(2).standard_normal(100_000).astype(np.float32)
    powers = (np.arange(1, 255, dtype=np.uint32) << 23)[:, None] + np.array([0, 1, 2], np.uint32)
    values = np.concatenate([bits.view(np.float32), near, powers.ravel().view(np.float32)])
    values = values[np.isfinite(values)]
    texts = written(values)
    np.testing.assert_array_equal(np.array(texts, np.float64).astype(np.float32), values)

    def digits(text: str) -> int:
        return len(text.partition("e")[0].replace(".", "").replace("-", "").strip("0"))

    shortest = [np.format_float_scientific(v, unique=True, trim="-") for v in values]
    assert [digits(t) for t in texts] == [digits(t) for t in shortest]
