"""A column of vectors that follows a model: what can be one, and the statements that keep it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from psycopg import sql
from psycopg.rows import DictRow

from pageformer import client
from pageformer.errors import InvalidInput, NotBuilt, UnknownName
from pageformer.udfs import named_queries

QUERIES = named_queries.read("pageformer", "embed.sql")
EVERYWHERE = "true"


@dataclass(frozen=True)
class Request:
    """What to embed: as `pageformer embed` was told."""

    table: str
    column: str
    into: str
    model: str
    where: str = EVERYWHERE
    follow: bool = False


@dataclass(frozen=True)
class Column:
    """A column of vectors and all that its statements need to name."""

    id: int
    table: sql.Composable
    name: str  # of the table, without its schema
    keys: Sequence[str]
    key_types: Sequence[str]
    input: str
    output: str
    where: str
    version: bytes
    pin: str

    def statement(self, name: str) -> bytes:
        """Fill the names into a query of embed.sql."""
        return self.filled(QUERIES[name])

    def filled(self, query: str, keys_from: int = 5) -> bytes:
        """Fill the names into a query; its keys begin at the parameter `$keys_from`."""
        count = len(self.keys)
        own = [sql.Identifier(self.name, key) for key in self.keys]
        aliases = [sql.Identifier(f"pageformer_key_{place}") for place in range(count)]
        return (
            sql.SQL(query)
            .format(
                table=self.table,
                name=sql.Identifier(self.name),
                where=sql.SQL(self.where),
                input=sql.Identifier(self.name, self.input),
                output=sql.Identifier(self.name, self.output),
                output_name=sql.Identifier(self.output),
                key=_key(own),
                keys=_listed(own),
                named_keys=_listed(
                    [
                        sql.SQL("{} as {}").format(column, alias)
                        for column, alias in zip(own, aliases, strict=True)
                    ]
                ),
                batch_keys=_listed([sql.SQL("b.{}").format(alias) for alias in aliases]),
                after=self._parameters(keys_from),
                until=self._parameters(keys_from + count),
            )
            .as_bytes()
        )

    def _parameters(self, first: int) -> sql.Composable:
        """Write the parameters that hold a key; types come from the catalog, as it quotes them."""
        places = enumerate(self.key_types, start=first)
        return _listed([sql.SQL(f"${place}::{kind}") for place, kind in places])


def request(
    table: str | None,
    column: str | None,
    into: str | None,
    model: str | None,
    where: str = EVERYWHERE,
    follow: bool = False,
) -> Request:
    """Make a request of options.

    Raises InvalidInput when one is missing.
    """
    if table is None or column is None or into is None or model is None:
        raise InvalidInput(
            "embed needs --table, --column, --into and --model",
            hint="or --stale, for the columns that were embedded before",
        )
    return Request(table, column, into, model, where, follow)


def known(
    connection: client.Connection,
    table: str | None = None,
    into: str | None = None,
    where: str = EVERYWHERE,
    follow: bool = False,
) -> list[Request]:
    """List the columns that were embedded before, of tables that belong to the current role.

    Raises UnknownName when there is none.
    """
    found = client.fetch(connection, QUERIES["known"], [table, into])
    if not found:
        raise UnknownName(
            "no column was embedded yet" + (f" in {table}" if table else ""),
            hint="pageformer embed --table doc --column body --into embedding --model minilm",
        )
    return [
        Request(row["table"], row["input"], row["output"], row["model"], where, follow)
        for row in found
    ]


def prepare(connection: client.Connection, request: Request) -> Column:
    """Check everything, write down that the column follows its model, and hold its lock."""
    table = _table(connection, request.table)
    deployed = _deployed(connection, request.model)
    output = _column(connection, table, request.into)
    _check_columns(request, _column(connection, table, request.column), output, deployed)
    place = [table["oid"], request.column, request.into]
    connection.execute(QUERIES["forget_other_input"], place)
    registered = client.fetch(connection, QUERIES["register"], [*place, deployed["id"]])
    column = Column(
        id=registered[0]["id"],
        table=sql.Identifier(table["schema"], table["name"]),
        name=table["name"],
        keys=table["keys"],
        key_types=table["key_types"],
        input=request.column,
        output=request.into,
        where=request.where,
        version=deployed["hash"],
        pin=f"{request.model}@{deployed['hash'].hex()}",
    )
    if not client.fetch(connection, QUERIES["one_at_a_time"], [column.id])[0]["alone"]:
        raise InvalidInput(
            f"{request.table}.{request.into} is being embedded already",
            hint="wait for the other one to end; --workers N makes one faster",
        )
    if request.follow:
        _follow(connection, column)
    return column


def partitions(connection: client.Connection, column: Column) -> list[Column]:
    """List the tables that hold the rows: the partitions of a partitioned table, or itself."""
    found = client.fetch(connection, QUERIES["partitions"], [column.id])
    parts = [sql.Identifier(row["schema"], row["name"]) for row in found]
    return [replace(column, table=part) for part in parts] or [column]


def _table(connection: client.Connection, name: str) -> DictRow:
    found = client.fetch(connection, QUERIES["table"], [name])
    if not found:
        raise UnknownName(f"there is no table {name}", hint="name it as schema.table")
    if not found[0]["holds_rows"]:
        raise InvalidInput(f"{name} is no table", hint="embed the table that holds its rows")
    if not found[0]["keys"]:
        raise InvalidInput(
            f"table {name} has no primary key, by which its rows are remembered",
            hint=f"alter table {name} add primary key (…)",
        )
    return found[0]


def _column(connection: client.Connection, table: DictRow, name: str) -> DictRow:
    found = client.fetch(connection, QUERIES["column"], [table["oid"], name])
    if not found:
        raise UnknownName(
            f"table {table['name']} has no column {name}",
            hint=f"alter table {table['name']} add column …",
        )
    return found[0]


def _deployed(connection: client.Connection, model: str) -> DictRow:
    if "@" in model:
        raise NotBuilt(
            f"a column follows a model, and {model} never moves",
            hint="for one version for good: create index on … (encode_pinned(…))",
        )
    found = client.fetch(connection, QUERIES["deployed"], [model])
    if not found:
        raise UnknownName(f'there is no model "{model}"', hint="pageformer models")
    return found[0]


def _check_columns(request: Request, body: DictRow, output: DictRow, deployed: DictRow) -> None:
    if body["type"] not in ("text", "varchar", "bpchar"):
        raise InvalidInput(
            f"column {request.column} is of type {body['type']}, not text",
            hint="embed a column of texts",
        )
    if output["type"] != "vector" or output["generated"]:
        kind = "generated" if output["generated"] else f"of type {output['type']}"
        raise InvalidInput(
            f"column {request.into} is {kind}",
            hint=f"add column {request.into} vector({deployed['dimension']})",
        )
    if output["dimension"] not in (None, deployed["dimension"]):
        raise InvalidInput(
            f"column {request.into} is a vector({output['dimension']}), and "
            f"{request.model}@{deployed['label']} makes {deployed['dimension']} dimensions",
            hint=f"alter table {request.table} alter column {request.into} "
            f"type vector({deployed['dimension']}) using null",
        )


def _follow(connection: client.Connection, column: Column) -> None:
    """Let the table tell of rows that change: triggers, replaced when they are there."""
    watched = dict.fromkeys([column.input, *column.keys])
    statement = sql.SQL(QUERIES["follow"]).format(
        table=column.table,
        changed=sql.Identifier(_trigger("pageformer_follow_", column.output)),
        gone=sql.Identifier(_trigger("pageformer_forget_", column.output)),
        old_values=_listed([sql.Identifier("old", name) for name in watched]),
        new_values=_listed([sql.Identifier("new", name) for name in watched]),
        output=sql.Literal(column.output),
    )
    connection.execute(statement.as_bytes())


def _trigger(prefix: str, column: str) -> str:
    """Name a trigger within the 63 bytes that a name may have."""
    return (prefix + column).encode()[:63].decode(errors="ignore")


def _listed(parts: Sequence[sql.Composable]) -> sql.Composable:
    return sql.SQL(", ").join(parts)


def _key(columns: Sequence[sql.Composable]) -> sql.Composable:
    """Write the expression of a row's key, as `pageformer.key_expression` does."""
    texts = [sql.SQL("pg_catalog.format('%s', {})").format(column) for column in columns]
    return sql.SQL("array[{}]").format(_listed(texts))
