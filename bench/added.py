"""What SQL adds to the forward pass of one short text, over the socket."""

import statistics
import time
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import psycopg

from bench.encode import QUESTION, Row
from bench.paired import seconds
from bench.server import Server

ROUNDS, CALLS = 9, 30
ENCODE = "select pageformer.encode(%s, 'minilm')"
Connection = psycopg.Connection[Any]


def added(server: Server) -> Iterator[Row]:
    """Compare prepared calls with the pass that they make, by turns, busy and after rests."""
    with server.connect() as connection:
        connection.execute(files("bench").joinpath("forward_pass.sql").read_text())
        for when, rest in (("back to back", 0.0), ("after rests of 20 ms", 0.02)):
            calls(connection, ENCODE, [QUESTION], rest)
            rounds = [one_round(connection, rest) for _ in range(ROUNDS)]
            more, floor = (f"{1e3 * statistics.median(of):.2f}" for of in zip(*rounds, strict=True))
            what = f"what SQL adds to the forward pass of one short text, {when}, ms"
            yield what, f"{more}, of which `select 1` takes {floor}", ""


def one_round(connection: Connection, rest: float) -> tuple[float, float]:
    """Return what a call takes more than the pass, and what the least call takes."""
    query = "select pg_temp.forward_pass(%s, %s, %s)"
    [[forward]] = connection.execute(query, [QUESTION, CALLS, rest])
    whole = calls(connection, ENCODE, [QUESTION], rest)
    return whole - forward, calls(connection, "select 1", [], rest)


def calls(connection: Connection, query: str, given: list[str], rest: float) -> float:
    """Return the median seconds of prepared calls, each after a rest."""
    times = []
    for _ in range(CALLS):
        time.sleep(rest)
        times.append(seconds(lambda: connection.execute(query, given, prepare=True).fetchone()))
    return statistics.median(times)
