"""What a database lacks of the models that a project declares, as operations in their order.

First what is new, then the columns and the deploys that need it, then what nobody wants any more:
so that the reverse, backwards, always finds what it needs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from pageformer.client import fetch
from pageformer.errors import DuplicateName
from pageformer.migrations.declared import DeclaredModel
from pageformer.migrations.models import QUERIES, Connection, StoredVersion, stored_versions
from pageformer.migrations.operations import (
    DeployModel,
    DropModelVersion,
    GrantModel,
    InstallPageformer,
    LoadModel,
    ModelOperation,
    RevokeModel,
)


@dataclass(frozen=True)
class StoredModel:
    """A model as the database has it."""

    versions: Sequence[StoredVersion] = ()
    grants: Sequence[str] = ()
    columns: Sequence[tuple[str, str, int]] = field(default=())  # table, column, dimension

    @property
    def deployed(self) -> StoredVersion | None:
        """The version that the name means now."""
        return next((version for version in self.versions if version.deployed), None)


def installed(connection: Connection) -> bool:
    """Tell whether the database has Pageformer."""
    found: bool = fetch(connection, QUERIES["library_installed"])[0]["found"]
    return found


def stored_models(connection: Connection) -> dict[str, StoredModel]:
    """Read the models of a database."""
    versions = stored_versions(connection)
    grants = fetch(connection, QUERIES["grants"])
    columns = fetch(connection, QUERIES["columns"])
    return {
        name: StoredModel(
            [version for version in versions if version.model == name],
            [row["role"] for row in grants if row["model"] == name],
            [
                (row["table"], row["output"], row["dimension"])
                for row in columns
                if row["model"] == name
            ],
        )
        for name in dict.fromkeys(version.model for version in versions)
    }


def differences(
    connection: Connection, declared: Mapping[str, DeclaredModel], newest: str
) -> list[ModelOperation]:
    """List what turns the models of a database into those that are declared."""
    if not installed(connection):
        return [InstallPageformer(newest), *changes(declared, {})]
    return changes(declared, stored_models(connection))


def changes(
    declared: Mapping[str, DeclaredModel], stored: Mapping[str, StoredModel]
) -> list[ModelOperation]:
    """Compare models, each by its name."""
    wanted = [_to_have(model, stored.get(name, StoredModel())) for name, model in declared.items()]
    unwanted = [_to_lose(name, model) for name, model in stored.items() if name not in declared]
    return list(chain(*wanted, *unwanted))


def _to_have(model: DeclaredModel, stored: StoredModel) -> Iterator[ModelOperation]:
    labels = {version.label: version for version in stored.versions}
    for version in model.versions:
        if version.label not in labels:
            yield LoadModel(model.name, version.label, version.source, version.sha256)
        elif labels[version.label].hash != version.sha256:
            raise DuplicateName(
                f"{model.name}@{version.label} has other content in the database than declared",
                hint="A version never changes: declare the new content under another label.",
            )
    deployed = stored.deployed.label if stored.deployed else model.versions[0].label
    if deployed != model.deployed:
        dimension = model.deployed_version.dimension
        resize = [
            (table, column, dimension, present)
            for table, column, present in stored.columns
            if present != dimension
        ]
        yield DeployModel(model.name, model.deployed, deployed, resize)
    declared = {version.label for version in model.versions}
    for old in stored.versions:
        if old.label not in declared:
            yield DropModelVersion(model.name, old.label, old.source, old.hash)
    for role in model.grants:
        if role not in stored.grants:
            yield GrantModel(model.name, role)
    for role in stored.grants:
        if role not in model.grants:
            yield RevokeModel(model.name, role)


def _to_lose(name: str, stored: StoredModel) -> Iterator[ModelOperation]:
    """Drop the deployed version last: the way back loads it first, which deploys it."""
    for role in stored.grants:
        yield RevokeModel(name, role)
    for version in sorted(stored.versions, key=lambda version: version.deployed):
        yield DropModelVersion(name, version.label, version.source, version.hash)
