"""Choose where arrays are computed, by name; a backend that is missing raises, never falls back."""

from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from mmap import mmap
from typing import TYPE_CHECKING

from pageformer.errors import NotBuilt, ServerUnready
from pageformer.udfs import threads
from pageformer.udfs.config import Config
from pageformer.udfs.encoding import Layers, LocalEncoder
from pageformer.udfs.layout import Layout
from pageformer.udfs.page_cache.watch import Start
from pageformer.udfs.tokenizer import Plain

if TYPE_CHECKING:  # NumPy, which the compiled path does without
    from pageformer.cpu_backend.profile import Profile as Profile
    from pageformer.udfs.model import Model
    from pageformer.udfs.operators import Operators

BACKENDS = {
    "numpy": ("pageformer.udfs.operators", "Operators"),
    "cpu": ("pageformer.cpu_backend.operators", "CpuOperators"),
    "gpu": ("pageformer.gpu_backend.operators", "GpuOperators"),
}
# (form, how to make it of a tokenizer.json) -> the bytes that were made
ShareWords = Callable[[str, Callable[[bytes], bytes]], memoryview]
# (form, digest of the sources, how to make it) -> the bytes that were made
Share = Callable[[str, bytes, Callable[[], bytes]], memoryview]
KERNELS = "pageformer.cpu_backend._kernels"


@cache
def named(setting: str) -> str:
    """Return the backend that a setting means: `auto` is cpu where the package was compiled.

    Raises ServerUnready when there is no backend of that name, or it is not installed here.
    """
    if setting == "auto":
        return "cpu" if find_spec(KERNELS) else "numpy"
    if setting not in BACKENDS:
        raise ServerUnready(f"backend {setting!r} is not one of auto, {', '.join(BACKENDS)}")
    if setting == "cpu" and not find_spec(KERNELS):
        raise ServerUnready(
            f"backend 'cpu' is not available: the server's Python has no module {KERNELS}",
            hint="install Pageformer again with a C compiler present, or set backend to 'auto'",
        )
    return setting


@cache
def choose(setting: str) -> "Operators":
    """Return the operators of a backend.

    Raises ServerUnready when the name is unknown or the backend cannot be imported here, telling
    what was tried.
    """
    name = named(setting)
    module, attribute = BACKENDS[name]
    try:
        with threads.kept_out():
            operators: Operators = getattr(import_module(module), attribute)()
    except ImportError as error:
        raise ServerUnready(
            f"backend {name!r} is not available: importing {module} failed with: {error}",
            hint="install what it needs for the server's Python, or set backend to 'numpy'",
        ) from error
    return operators


@cache
def prepare(setting: str, shared_memory: Callable[[str, int], mmap]) -> None:
    """Let a backend meet the other processes of the cluster, with whom it shares the cores."""
    if named(setting) == "cpu":
        from pageformer.cpu_backend import cores

        cores.share(shared_memory)


def side_by_side(setting: str) -> int:
    """Return how many batches, each in a thread of its own, fill what a backend computes on."""
    if named(setting) != "cpu":
        return 1
    from pageformer.cpu_backend import cores

    return cores.usable()


def encoder(setting: str, layout: Layout, compute: str, share: Share) -> LocalEncoder:
    """Make a version ready to encode: compiled in one piece where it can be, or composed.

    A version that is not mapped as a whole is composed, in float32. share: keeps what a backend
    makes of blocks for all connections. Raises NotBuilt when the
    version cannot be computed as it is asked for.
    """
    whole = layout.borrow is None
    if named(setting) == "cpu" and whole:
        from pageformer.cpu_backend import compiled

        if compiled.fits(layout.config):
            return compiled.encoder(layout, compute, share)
    with threads.kept_out():
        from pageformer.udfs.composed import ComposedEncoder
    return ComposedEncoder(model(setting, layout, compute if whole else "float32"))


def watch() -> Start | None:
    """Return what has the kernel tell of changes in a folder, where the package was compiled."""
    if not find_spec(KERNELS):
        return None
    from pageformer.cpu_backend import _kernels as kernels

    return kernels.watch


def plain_text(setting: str, share: ShareWords) -> Plain | None:
    """Return what tokenises plain texts without the tokenizers library, where there is such.

    share: keeps what is made of the tokenizer for all connections.
    """
    if named(setting) == "numpy" or not find_spec(KERNELS):
        return None
    from pageformer.cpu_backend import plain_text

    return plain_text.reader(share(plain_text.FORM, plain_text.table))


def layers(setting: str, layout: Layout) -> Layers:
    """Make the layers of a version ready to run over rows, compiled where they can be."""
    if named(setting) == "cpu" and layout.borrow is None:
        from pageformer.cpu_backend import compiled_layers

        if compiled_layers.fits(layout.config):
            return compiled_layers.layers(layout)
    with threads.kept_out():
        from pageformer.udfs.composed import ComposedLayers
    return ComposedLayers(model(setting, layout))


def computed(setting: str, config: Config, compute: str) -> str:
    """Tell in what a version is computed here whose setting is `compute`: what `auto` became."""
    if compute != "auto":
        return compute
    if named(setting) == "cpu":
        from pageformer.cpu_backend import compiled

        if compiled.fits(config):
            return compiled.chosen_compute(config, compute)
    return "float32"


def profile(encoder: LocalEncoder, config: Config, sequences: Sequence[Sequence[int]]) -> "Profile":
    """Encode sequences, and tell how long each step took.

    Raises NotBuilt for a version that is composed of single operators.
    """
    if find_spec(KERNELS):
        from pageformer.cpu_backend import compiled, profile

        if isinstance(encoder, compiled.CompiledEncoder):
            return profile.profile(encoder, config, sequences)
    raise NotBuilt(
        "this model is composed of single operators here, whose time is not counted",
        hint="models that are compiled in one piece are told of: see docs/families.md",
    )


def model(setting: str, layout: Layout, compute: str = "float32") -> "Model":
    """View a version as arrays of a backend, for whoever composes operators."""
    operators = choose(setting).at(compute)
    with threads.kept_out():
        from pageformer.udfs.model import assemble
    return assemble(layout, operators)
