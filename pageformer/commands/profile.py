"""The command that tells where the time of a pass goes."""

from typing import Annotated

import typer

from pageformer.commands.options import Dsn, Model


def profile(
    model: Model,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of a text.")] = 42,
    texts: Annotated[int, typer.Option(min=1, help="Texts that are encoded together.")] = 64,
    compute: Annotated[
        str, typer.Option(metavar="COMPUTE", help="float32, bfloat16, int8 or auto.")
    ] = "float32",
    dsn: Dsn = None,
) -> None:
    """Tell how long each step of a pass takes here, and how near products come to the peak.

    Measured on one core of this machine, with the model's deployed version.
    """
    from pageformer.profiling import measure
    from pageformer.terminal import table

    found = measure(dsn, model, compute, tokens, texts)
    whole = sum(step.seconds for step in found.steps)
    print(f"{model} in {compute}, kernels {found.kernels}, {texts} texts of {tokens} tokens")
    print(f"{texts / whole:,.0f} texts/s; peak of a core: {found.peak:.0f} GFLOP/s in float32")
    lines = []
    for step in found.steps:
        rate = (
            (f"{step.rate:.0f}", f"{step.rate / found.peak:.0%}") if step.operations else ("", "")
        )
        time = f"{step.seconds / texts * 1e3:.4f}", f"{step.seconds / whole:.1%}"
        lines.append((step.name, *time, *rate))
    table(("step", "ms per text", "of the time", "GFLOP/s", "of the peak"), lines)
