"""Find a model's directory from what the user typed: a path, a Python package or a hub name."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from pageformer.errors import InvalidCheckpoint

MARKS = ("modules.json", "config.json")
HUB_FILES = ["*.json", "*.safetensors", "*/*.json", "*/*.safetensors"]


def find_directory(source: str) -> Path:
    """Return the directory, or the safetensors file, that `source` means.

    Raises InvalidCheckpoint that tells what was tried.
    """
    path = Path(source).expanduser()
    if path.exists():
        return path
    if _looks_like_a_path(source):
        raise InvalidCheckpoint(f"there is no directory {source}", hint="Check the path.")
    package = source.replace("-", "_")
    if "/" not in source and _is_package(package):
        return _directory_in_package(package)
    return _from_hub(source)


def _looks_like_a_path(source: str) -> bool:
    return source.startswith((".", "/", "~")) or source.count("/") > 1 or source == ""


def _is_package(name: str) -> bool:
    return all(part.isidentifier() for part in name.split(".")) and _spec_folders(name) != []


def _spec_folders(name: str) -> list[str]:
    try:
        spec = find_spec(name)
    except ModuleNotFoundError:
        return []
    return list(spec.submodule_search_locations or []) if spec else []


def _directory_in_package(name: str) -> Path:
    found = sorted(
        path
        for folder in _spec_folders(name)
        for path in [Path(folder), *Path(folder).rglob("*")]
        if path.is_dir() and _holds_a_model(path)
    )
    outermost = [path for path in found if not any(other in path.parents for other in found)]
    if len(outermost) != 1:
        listed = ", ".join(map(str, outermost)) or "none"
        raise InvalidCheckpoint(
            f"package {name} has {len(outermost)} model directories: {listed}",
            hint="Give the path of the directory that holds config.json and model.safetensors.",
        )
    return outermost[0]


def _holds_a_model(path: Path) -> bool:
    if (path / "modules.json").exists():
        return True
    return (path / "config.json").exists() and any(path.glob("*.safetensors"))


def _from_hub(name: str) -> Path:
    if find_spec("huggingface_hub") is None:
        raise InvalidCheckpoint(
            f"{name!r} is neither a directory nor an importable Python package",
            hint="To load it from the Hugging Face hub: pip install huggingface_hub",
        )
    hub = import_module("huggingface_hub")
    try:
        return Path(hub.snapshot_download(name, allow_patterns=HUB_FILES))
    except (hub.errors.HfHubHTTPError, hub.errors.HFValidationError, OSError) as error:
        _not_downloaded(name, error)


def _not_downloaded(name: str, error: Exception) -> NoReturn:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    raise InvalidCheckpoint(
        f"{name!r} is no directory or Python package, and the hub does not give it: {reason}",
        hint="Check the name and the network, or give the path of a downloaded directory.",
    ) from error
