"""The models that a project wants, as `pageformer.toml` or its `env.py` declares them.

```toml
[models.minilm]
grants = ["public"]          # roles that may use it
deployed = "v1"              # else the last version that is declared

[[models.minilm.versions]]
label = "v1"
source = "models/minilm"
sha256 = "7e00…"
dimension = 384
```
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pageformer.errors import InvalidInput

FILE = "pageformer.toml"


@dataclass(frozen=True)
class DeclaredVersion:
    """A version of a model: its label, where its files are, and what they hold."""

    label: str
    source: str
    sha256: str
    dimension: int


@dataclass(frozen=True)
class DeclaredModel:
    """A model that a project wants."""

    name: str
    versions: tuple[DeclaredVersion, ...]
    deployed: str
    grants: tuple[str, ...] = ()

    @property
    def deployed_version(self) -> DeclaredVersion:
        """The version that the name means."""
        return next(version for version in self.versions if version.label == self.deployed)


def read(file: Path) -> dict[str, DeclaredModel]:
    """Read the models of a project's file.

    Raises InvalidInput naming what is wrong in it.
    """
    try:
        return parse(tomllib.loads(file.read_text(encoding="utf-8")).get("models", {}))
    except (tomllib.TOMLDecodeError, InvalidInput) as error:
        raise InvalidInput(f"{file}: {error}", hint="see docs/migrations.md") from error


def parse(models: Mapping[str, Any]) -> dict[str, DeclaredModel]:
    """Check models as they stand in the file, or in `target_metadata.info`."""
    return {name: _model(name, told) for name, told in models.items()}


def append_version(file: Path, model: str, version: DeclaredVersion) -> None:
    """Declare one more version at the end of a project's file, and leave what stands before it."""
    new = model not in read(file)
    name = json.dumps(model, ensure_ascii=False)
    lines = [
        f"\n[models.{name}]\ngrants = []\n" if new else "",
        f"\n[[models.{name}.versions]]\n",
        *(
            f"{key} = {json.dumps(value, ensure_ascii=False)}\n"
            for key, value in vars(version).items()
        ),
    ]
    with file.open("a", encoding="utf-8") as opened:
        opened.write("".join(lines))


def _model(name: str, told: Any) -> DeclaredModel:
    try:
        versions = tuple(DeclaredVersion(**version) for version in told["versions"])
        labels = [version.label for version in versions]
        deployed = told.get("deployed", labels[-1])
        grants = tuple(told.get("grants", ()))
    except (TypeError, KeyError, IndexError) as error:
        raise InvalidInput(f"model {name} is not declared as it should be: {error}") from error
    if deployed not in labels or len(set(labels)) < len(labels):
        raise InvalidInput(f"model {name} declares the versions {labels}, and deploys {deployed}")
    return DeclaredModel(name, versions, deployed, grants)
