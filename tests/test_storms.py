"""Kills and cancels at random moments: a few in `make test`, minutes of them in `make soak`."""

import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_load_crash import visible_rows, wait_until_alone
from tokenizers import Tokenizer as Library

from pageformer.loader.load import load
from pageformer.udfs.tokenizer import Tokenizer

LOADER = """
import sys, psycopg
from pageformer.loader.load import load

with psycopg.connect(sys.argv[1]) as connection:
    load(connection, sys.argv[2], name="m")
"""
TEXTS = ["a cat", "an unbelievable story of encoders in tables", "word " * 200]


@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=pytest.mark.soak)])
def test_a_load_killed_at_any_moment_is_there_whole_or_not_at_all(
    database: str, minilm_dir: Path, kills: int
) -> None:
    dice = random.Random(kills)
    whole: dict[str, int] = {}
    for _ in range(kills):
        with subprocess.Popen([sys.executable, "-c", LOADER, database, str(minilm_dir)]) as process:
            time.sleep(dice.uniform(0.3, 1.6))
            process.kill()
        wait_until_alone(database)
        rows = visible_rows(database)
        if any(rows.values()):
            whole = whole or rows
            assert rows == whole
            drop_model(database)
    with psycopg.connect(database) as connection:
        load(connection, minilm_dir, name="m")
        connection.commit()
        assert connection.execute("select pageformer.verify('m')").fetchone()


def drop_model(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("select pageformer.drop_version('m', 'v1')")


class Client(threading.Thread):
    """Encode over and over until told to stop; count cancels, remember every wrong vector."""

    def __init__(self, dsn: str, expected: dict[str, str]) -> None:
        super().__init__()
        self.connection = psycopg.connect(dsn, autocommit=True)
        self.expected = expected
        self.ended = threading.Event()
        self.answers = self.cancels = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        dice = random.Random(self.connection.info.backend_pid)
        while not self.ended.is_set():
            text = dice.choice(TEXTS)
            try:
                vector = vector_of(self.connection, text)
            except psycopg.errors.QueryCanceled:
                self.cancels += 1
                continue
            self.answers += 1
            if vector != self.expected[text]:
                self.wrong.append(text)


def vector_of(connection: psycopg.Connection, text: str) -> str:
    query = "select (pageformer.encode_batch(array_fill(%s::text, array[8]), 'minilm'))[8]::text"
    row = connection.execute(query, [text]).fetchone()
    assert row is not None
    return str(row[0])


@pytest.mark.parametrize("seconds", [4, pytest.param(60, marks=pytest.mark.soak)])
def test_a_storm_of_cancels_changes_no_vector(minilm: str, seconds: int) -> None:
    with psycopg.connect(minilm, autocommit=True) as connection:
        expected = {text: vector_of(connection, text) for text in TEXTS}
    clients = [Client(minilm, expected) for _ in range(4)]
    for client in clients:
        client.start()
    dice = random.Random(seconds)
    end = time.monotonic() + seconds
    with psycopg.connect(minilm, autocommit=True) as canceller:
        while time.monotonic() < end:
            time.sleep(dice.uniform(0, 0.1))
            pid = dice.choice(clients).connection.info.backend_pid
            what = dice.choice(["pg_cancel_backend", "pg_log_backend_memory_contexts"])
            canceller.execute(f"select {what}(%s)".encode(), [pid])
    for client in clients:
        client.ended.set()
        client.join()
        client.connection.close()
    assert sum(client.answers for client in clients) > 0
    assert sum(client.cancels for client in clients) > 0
    assert [client.wrong for client in clients] == [[], [], [], []]


@pytest.mark.parametrize("examples", [200, pytest.param(20_000, marks=pytest.mark.soak)])
@pytest.mark.parametrize("side", ["right", "left"])
def test_any_text_is_cut_as_the_library_cuts_it(minilm_dir: Path, examples: int, side: str) -> None:
    data = (minilm_dir / "tokenizer.json").read_bytes()
    ours, reference = Tokenizer(lambda: data, 12), Library.from_buffer(data)
    reference.no_padding()
    reference.enable_truncation(12, direction=side)

    @settings(max_examples=examples, deadline=None)
    @given(st.text(max_size=600))
    def check(text: str) -> None:
        assert ours.encode(text, side).ids == reference.encode(text).ids

    check()
