"""Read a model directory whole: its config, its tokenizer and where each of its tensors lies.

All that can be wrong with the files is told here, by name, before anything is written.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path

from pageformer.errors import InvalidCheckpoint
from pageformer.loader.cut import Weight
from pageformer.loader.described import described
from pageformer.loader.families import Family, Source, expected_shapes, family_for
from pageformer.loader.families.heads import with_head
from pageformer.loader.json_file import Json, read_object
from pageformer.loader.modules import read_pipeline
from pageformer.loader.pipeline import Pipeline
from pageformer.loader.safetensors_file import FORMS, Array, FileTensor, is_finite, read_tensors
from pageformer.loader.source import find_directory
from pageformer.loader.steps import Step
from pageformer.loader.tokenizer_file import read_tokenizer
from pageformer.udfs.config import Config

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
SHOWN = 20  # names listed in one error


@dataclass(frozen=True)
class Checkpoint:
    """Hold a model that has passed every check; its weights are views of mapped files."""

    source: str
    config: Config
    tokenizer: bytes | None
    weights: Mapping[str, Weight]

    @property
    def parameter_bytes(self) -> int:
        """Count the bytes of the weights, as the checkpoint holds them."""
        return sum(weight.array.nbytes for weight in self.weights.values())


def read(source: str | PathLike[str]) -> Checkpoint:
    """Read a model from a directory, a safetensors file, a Python package or a hub name.

    Raises InvalidCheckpoint naming the file, key or tensors that are not as they should be.
    """
    path = find_directory(fspath(source))
    _refuse_pickled(path)
    directory = path if path.is_dir() else path.parent
    pipeline = read_pipeline(directory)
    raw = read_object(pipeline.folder / "config.json")
    family = family_for(raw)
    config = family.config(raw)
    if not pipeline.is_embedding:
        family, config = with_head(family, raw, config)
    tokenizer = _tokenizer(pipeline, raw, config)
    config = described(config, pipeline, raw, tokenizer)
    tensors = weight_files(path if path.is_file() else pipeline.folder)
    if config.head and not pipeline.sparse and not family.has_head(tensors):
        config = config._replace(head={})
    weights = _weights(tensors, family, config, pipeline.steps)
    return Checkpoint(fspath(source), config, tokenizer, weights)


def _tokenizer(pipeline: Pipeline, raw: Json, config: Config) -> bytes | None:
    if not config.vocabulary:
        return None
    return read_tokenizer(
        pipeline.folder,
        raw,
        config.vocabulary,
        lowercase=pipeline.lowercase,
        markers=pipeline.markers,
    )


def weight_files(path: Path) -> dict[str, FileTensor]:
    """Map the weights of a directory: one file, or the shards that an index names."""
    if path.is_file():
        return read_tensors(path)
    if (path / WEIGHTS).exists():
        return read_tensors(path / WEIGHTS)
    if (path / INDEX).exists():
        return _sharded(path / INDEX)
    return read_tensors(_only_file(path))


def _only_file(directory: Path) -> Path:
    files = sorted(directory.glob("*.safetensors"))
    if len(files) == 1:
        return files[0]
    for path in sorted(directory.iterdir()):
        _refuse_pickled(path)
    listed = ", ".join(path.name for path in files) or "none"
    raise InvalidCheckpoint(
        f"{directory} has no {WEIGHTS}; safetensors files there: {listed}",
        hint=f"Name the file with the weights {WEIGHTS}.",
    )


def _sharded(index: Path) -> dict[str, FileTensor]:
    weight_map = read_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InvalidCheckpoint(f"{index} has no weight_map")
    tensors: dict[str, FileTensor] = {}
    for file in sorted(set(weight_map.values())):
        if Path(file).name != file:
            raise InvalidCheckpoint(f"{index} names a file outside its directory: {file!r}")
        held = read_tensors(index.parent / file)
        absent = [name for name, home in weight_map.items() if home == file and name not in held]
        _refuse_any(absent, f"{index.parent / file} lacks tensors that the index places there")
        _refuse_any(tensors.keys() & held.keys(), "tensors stand in two shards")
        tensors.update(held)
    return tensors


def _weights(
    tensors: Mapping[str, FileTensor], family: Family, config: Config, steps: Sequence[Step]
) -> dict[str, Weight]:
    """Find every tensor of the model and check its element type, its shape and its numbers."""
    elsewhere = {s.checkpoint_name for step in _inner(steps) for s in step.sources.values()}
    sources = family.match(tensors.keys() - elsewhere, config)
    for i, step in enumerate(steps):
        held, found = _step_tensors(f"module.{i}", step)
        tensors = {**tensors, **held}
        sources.update(found)
    used = {source.checkpoint_name: tensors[source.checkpoint_name] for source in sources.values()}
    _check_element_types(used)
    weights = {name: _weight(tensors, source) for name, source in sources.items()}
    _check_shapes(weights, sources, expected_shapes(config))
    _check_numbers(weights, sources)
    return weights


def _inner(steps: Sequence[Step]) -> list[Step]:
    """Choose the modules whose tensors stand among the encoder's."""
    return [step for step in steps if step.among_encoder]


def _step_tensors(name: str, step: Step) -> tuple[dict[str, FileTensor], dict[str, Source]]:
    """Find the tensors of a module behind pooling, in a file of its own."""
    if not step.sources:
        return {}, {}
    if step.among_encoder:
        return {}, {f"{name}.{suffix}": source for suffix, source in step.sources.items()}
    held = weight_files(step.folder)
    named = {source.checkpoint_name for source in step.sources.values()}
    _refuse_any(named - held.keys(), f"{step.folder} lacks tensors")
    _refuse_any(held.keys() - named, f"{step.folder} has unexpected tensors")
    folder = step.folder.name
    sources = {
        f"{name}.{suffix}": Source(f"{folder}/{source.checkpoint_name}", source.kind)
        for suffix, source in step.sources.items()
    }
    return {f"{folder}/{key}": tensor for key, tensor in held.items()}, sources


def _weight(tensors: Mapping[str, FileTensor], source: Source) -> Weight:
    tensor = tensors[source.checkpoint_name]
    rows = tensor.array.shape[0] // source.parts
    array = tensor.array[source.part * rows : (source.part + 1) * rows]
    return Weight(_flat(array, source), tensor.form)


def _flat(array: Array, source: Source) -> Array:
    """Lay convolutions over patches, and tables and tokens behind axes of 1, as they are stored."""
    if array.ndim > 2:
        whole = {"linear": (len(array), -1), "embedding": (-1, array.shape[-1]), "vector": (-1,)}
        array = array.reshape(whole[source.kind])
    return array.T if source.kind == "linear" else array


def _check_element_types(tensors: Mapping[str, FileTensor]) -> None:
    other = {name: tensor.dtype for name, tensor in tensors.items() if tensor.dtype not in FORMS}
    _refuse_any(
        [f"{name} ({dtype})" for name, dtype in other.items()],
        "tensors are not of float32, float16 or bfloat16",
        "Save the model in float32: AutoModel.from_pretrained(…, dtype=torch.float32)"
        ".save_pretrained(…). A quantised model is loaded from its unquantised original.",
    )


def _check_shapes(
    weights: Mapping[str, Weight],
    sources: Mapping[str, Source],
    expected: Mapping[str, tuple[int, ...]],
) -> None:
    wrong = [
        f"{sources[name].checkpoint_name} is {_as_saved(weight.shape, sources[name])}, "
        f"expected {_as_saved(expected[name], sources[name])}"
        for name, weight in weights.items()
        if weight.shape != expected[name]
    ]
    _refuse_any(
        wrong,
        "tensors do not have the shape that config.json gives them",
        "Check that config.json and the weights belong to the same model.",
    )


def _as_saved(shape: tuple[int, ...], source: Source) -> list[int]:
    return list(reversed(shape)) if source.kind == "linear" else list(shape)


def _check_numbers(weights: Mapping[str, Weight], sources: Mapping[str, Source]) -> None:
    broken = [
        sources[name].checkpoint_name
        for name, weight in weights.items()
        if not is_finite(
            weight.array.T if sources[name].kind == "linear" else weight.array, weight.form
        )
    ]
    _refuse_any(
        broken,
        "tensors hold NaN or infinity",
        "The model was damaged in training or in a conversion to float16. Save it in float32.",
    )


def _refuse_any(names: Iterable[str], what: str, hint: str = "Save or copy it again.") -> None:
    listed = sorted(names)
    if listed:
        more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
        raise InvalidCheckpoint(f"{what}: {', '.join(listed[:SHOWN])}{more}", hint=hint)


def _refuse_pickled(path: Path) -> None:
    """Refuse a pickled checkpoint, which runs code when it is read, with the line to convert it."""
    if not path.is_file() or path.suffix not in PICKLED:
        return
    line = (
        "import torch; from safetensors.torch import save_file; "
        f"weights = torch.load({str(path)!r}, map_location='cpu', weights_only=True); "
        "save_file({name: tensor.clone().contiguous() for name, tensor in weights.items()}, "
        f"{str(path.with_name(WEIGHTS))!r}, metadata={{'format': 'pt'}})"
    )
    raise InvalidCheckpoint(
        f"{path} is a pickled checkpoint, which can run any code when it is read",
        hint=f'Where you trust it, convert it: python -c "{line}"',
    )
