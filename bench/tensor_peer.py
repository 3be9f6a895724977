"""The two-block encoder in a deep-learning framework, as a process of its own.

Run by bench/relations.py with the interpreter of build/bench: reads commands, one JSON object a
line, and answers with the framework's version and the bytes of its file, or with the seconds of
single calls. Weights are random: what is measured does not depend on them.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

LAYERS, WIDTH, HEADS = 2, 64, 4
SHAPE = (2, 10, WIDTH)
Made = tuple[str, Callable[[], Any], int]  # version, one forward pass, bytes of the saved weights


def pytorch() -> Made:
    """Make it of PyTorch's own layers, as tests/reference/bare_encoder.py."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

        def forward(self, x: Any) -> Any:
            normed = self.norm1(x)
            return x + self.attention(normed, normed, normed, need_weights=False)[0]

    model = nn.Sequential(*(Block() for _ in range(LAYERS))).eval()
    x = torch.ones(SHAPE)
    with tempfile.NamedTemporaryFile() as file:
        torch.save(model.state_dict(), file.name)
        size = os.path.getsize(file.name)

    def run() -> Any:
        with torch.inference_mode():
            return model(x)

    return f"PyTorch {torch.__version__.partition('+')[0]}", run, size


def flax() -> Made:
    """Make it of Flax's layers, compiled."""
    import flax as package
    import jax
    from flax import linen as nn
    from flax.serialization import to_bytes

    class Encoder(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            for _ in range(LAYERS):
                x = x + nn.MultiHeadDotProductAttention(HEADS)(nn.LayerNorm()(x))
            return x

    x = jax.numpy.ones(SHAPE)
    weights = Encoder().init(jax.random.key(0), x)
    compiled = jax.jit(Encoder().apply)
    version = f"Flax {package.__version__}, JAX {jax.__version__}"
    return version, lambda: compiled(weights, x).block_until_ready(), len(to_bytes(weights))


def tensorflow() -> Made:
    """Make it of Keras' layers, as a graph."""
    import tensorflow as tf

    keras = tf.keras
    x = inputs = keras.Input(SHAPE[1:])
    for _ in range(LAYERS):
        normed = keras.layers.LayerNormalization()(x)
        x = x + keras.layers.MultiHeadAttention(HEADS, WIDTH // HEADS)(normed, normed)
    model = keras.Model(inputs, x)
    graph = tf.function(model)
    given = tf.ones(SHAPE)
    with tempfile.NamedTemporaryFile(suffix=".weights.h5") as file:
        model.save_weights(file.name)
        size = os.path.getsize(file.name)
    return f"TensorFlow {tf.__version__}", lambda: graph(given).numpy(), size


def main(framework: str) -> None:
    """Answer commands until the input ends."""
    version, run, size = {"pytorch": pytorch, "flax": flax, "tensorflow": tensorflow}[framework]()
    run()
    for line in sys.stdin:
        count = json.loads(line).get("count", 0)
        if not count:
            print(json.dumps([version, size]), flush=True)
            continue
        times = []
        for _ in range(count):
            begin = time.perf_counter()
            run()
            times.append(time.perf_counter() - begin)
        print(json.dumps(times), flush=True)


if __name__ == "__main__":
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    main(sys.argv[1])
