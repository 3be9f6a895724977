"""Our ways of encoding a table of texts, as contestants of a race."""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg

from bench.rounds import Contestant, Vectors
from bench.server import Server
from pageformer.embed import embed
from pageformer.embedded_column import request

ROW_BY_ROW = "select pageformer.encode(body, %s) from doc where id %% %s = %s"
BATCHED = """
    select pageformer.encode_batch(array_agg(body order by id), %s) from doc group by id / 256
"""


class Ours:
    """Encode the table `doc` by one model."""

    def __init__(
        self, server: Server, connection: psycopg.Connection, model: str, dimension: int
    ) -> None:
        self._server = server
        self._connection = connection
        self._model = model
        self._dimension = dimension
        self._pool: list[psycopg.Connection] = []  # open for good: a first call is measured apart

    def contestants(self, compute: str, ways: int = 5) -> list[Contestant]:
        """Return the first of our ways: batched, row by row over 1, 4 and 16 connections, embed."""
        runs = {
            "`encode_batch`": (0, self._batched),
            "`encode`, row by row": (1, lambda: self._row_by_row(1)),
            "`encode`, 4 connections": (4, lambda: self._row_by_row(4)),
            "`encode`, 16 connections": (16, lambda: self._row_by_row(16)),
            "`pageformer embed`": (0, self._embed),
        }
        return [
            Contestant(
                f"ours {compute}, {name}",
                run,
                lambda connections=connections: self.set_compute(compute, connections),
                self.vectors if name == "`encode_batch`" else None,
            )
            for name, (connections, run) in list(runs.items())[:ways]
        ]

    def by_numpy(self) -> Contestant:
        """Return the portable backend, as a contestant."""

        def prepare() -> None:
            self.set_compute("float32")
            self._set("numpy")

        return Contestant("ours float32, NumPy", self._batched, prepare)

    def fill(self, texts: list[str]) -> None:
        """Put texts into the table `doc`."""
        execute = self._connection.execute
        execute("drop table if exists doc")
        execute("create table doc (id integer primary key, body text)")
        execute(f"alter table doc add embedding vector({self._dimension:d})")
        into = "copy doc (id, body) from stdin"
        with self._connection.cursor() as cursor, cursor.copy(into) as copy:
            for row in enumerate(texts):
                copy.write_row(row)

    def set_compute(self, compute: str, connections: int = 0) -> None:
        """Set how the model is computed, and let the next call of each connection find it warm."""
        self._set("auto")
        self._connection.execute("update doc set embedding = null where embedding is not null")
        self._connection.execute("select pageformer.set_compute(%s, %s)", [self._model, compute])
        while len(self._pool) < connections:
            self._pool.append(self._server.connect())
        for connection in [self._connection, *self._pool[:connections]]:
            connection.execute("select pageformer.encode('warm', %s)", [self._model])

    def close(self) -> None:
        """Close the connections that were opened here."""
        for connection in self._pool:
            connection.close()

    def vectors(self) -> Vectors:
        """Return the vectors of all texts as it is set to compute them, scaled to length 1."""
        query = "select pageformer.encode(body, %s)::text from doc order by id"
        return list(self._scaled(self._connection.execute(query, [self._model]).fetchall()))

    def one(self, text: str) -> None:
        """Encode one text."""
        self._connection.execute("select pageformer.encode(%s, %s)", [text, self._model]).fetchone()

    def _scaled(self, rows: list[tuple[str]]) -> Iterator[list[float]]:
        for (text,) in rows:
            row = [float(x) for x in text.strip("[]").split(",")]
            yield [x / math.hypot(*row) for x in row]

    def _set(self, backend: str) -> None:
        query = "update pageformer.setting set value = %s where name = 'backend'"
        self._connection.execute(query, [backend])

    def _batched(self) -> None:
        self._connection.execute(BATCHED, [self._model]).fetchall()

    def _row_by_row(self, count: int) -> None:
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(lambda part: self._part(count, part), range(count)))

    def _part(self, count: int, part: int) -> None:
        self._pool[part].execute(ROW_BY_ROW, [self._model, count, part]).fetchall()

    def _embed(self) -> None:
        wanted = request("doc", "body", "embedding", self._model, "true", False)
        embed(self._server.cluster.dsn, wanted)
