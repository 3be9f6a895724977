"""Functions of single numbers that stand behind products, by name, for any array module `xp`."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pageformer.udfs.blocks import Array

# erf(x) = x P(x^2) / Q(x^2) on [-4, 4], minimax by reweighted least squares; float32 error 4e-7.
ERF_P = (1.1283789873, 0.19624952972, 0.0534675531, 4.003670997e-3, 2.8804221e-4, 1.97482814e-6)
ERF_Q = (1.0, 0.50725275278, 0.116476655, 0.01544447047, 1.216366421e-3, 3.74808842e-5)


def relu(xp: Any, x: Array) -> Array:
    """Compute max(x, 0)."""
    return xp.maximum(x, np.float32(0))  # type: ignore[no-any-return]


def gelu(xp: Any, x: Array) -> Array:
    """Compute x Phi(x) = x (1 + erf(x / sqrt 2)) / 2 (Hendrycks and Gimpel 2016)."""
    z = xp.clip(x * np.float32(np.sqrt(0.5)), -4, 4)
    t = z * z
    z *= horner(ERF_P, t)
    z /= horner(ERF_Q, t)
    return x * (np.float32(0.5) + np.float32(0.5) * xp.clip(z, -1, 1))  # type: ignore[no-any-return]


def gelu_tanh(xp: Any, x: Array) -> Array:
    """Compute GELU by its tanh approximation (same paper, section 2)."""
    inner = np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x * x * x)
    return np.float32(0.5) * x * (np.float32(1) + xp.tanh(inner))  # type: ignore[no-any-return]


def silu(xp: Any, x: Array) -> Array:
    """Compute x sigmoid(x) (Elfwing et al. 2018)."""
    return x * sigmoid(xp, x)


def sigmoid(xp: Any, x: Array) -> Array:
    """Compute 1 / (1 + exp(-x)) by tanh, which does not overflow."""
    return np.float32(0.5) + np.float32(0.5) * xp.tanh(np.float32(0.5) * x)  # type: ignore[no-any-return]


def horner(coefficients: Sequence[float], t: Array) -> Array:
    """Evaluate a polynomial in t, constant term first."""
    y = t * np.float32(coefficients[-1])
    for coefficient in coefficients[-2:0:-1]:
        y += np.float32(coefficient)
        y *= t
    y += np.float32(coefficients[0])
    return y


ACTIVATIONS: dict[str, Callable[[Any, Array], Array]] = {
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "relu": relu,
    "silu": silu,
    "sigmoid": sigmoid,
    "tanh": lambda xp, x: xp.tanh(x),
}
