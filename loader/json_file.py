"""Read the JSON files of a model directory, naming the file that stops the load."""

import json
from pathlib import Path
from typing import Any

from pageformer.errors import InvalidCheckpoint

Json = dict[str, Any]


def read_json(path: Path) -> Any:
    """Read a JSON file; raise InvalidCheckpoint when it is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidCheckpoint(
            f"{path} is missing", hint="Copy the whole model directory again."
        ) from None
    except (OSError, ValueError) as error:
        raise InvalidCheckpoint(
            f"{path} cannot be read as JSON: {error}", hint="Copy the model directory again."
        ) from error


def read_object(path: Path) -> Json:
    """Read a JSON file that holds an object."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise InvalidCheckpoint(f"{path} holds a {type(value).__name__}, expected an object")
    return value


def read_object_if_present(path: Path) -> Json:
    """Read a JSON file that holds an object; a file that is not there holds an empty one."""
    return read_object(path) if path.exists() else {}
