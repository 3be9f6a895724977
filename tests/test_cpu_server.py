"""The compiled backend inside PostgreSQL: without NumPy, cancelled in time, interrupted in vain."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from backends_present import reason_missing

from pageformer.loader.load import load

if missing := reason_missing("cpu"):
    pytest.skip(missing, allow_module_level=True)

MODULES = "do $$ import sys; plpy.notice(' '.join(sys.modules)) $$ language plpython3u"
BATCH = """
    select pageformer.encode_batch(array_agg('about ' || repeat('words ', 100) || i), 'minilm')
    from generate_series(1, %s) i
"""


@pytest.fixture
def session(minilm: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(minilm, autocommit=True) as connection:
        yield connection


def modules(session: psycopg.Connection[Any]) -> set[str]:
    told: list[str] = []
    session.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
    session.execute(MODULES)
    return set(told[0].split())


def test_encoding_does_not_import_numpy(session: psycopg.Connection[Any]) -> None:
    session.execute("select pageformer.encode('a text', 'minilm')")
    session.execute("select pageformer.encode_batch(array['a', 'b'], 'minilm')")
    session.execute("select * from pageformer.encode_tokens('a text', 'minilm')")
    session.execute("select pageformer.encode_pinned('a text', 'minilm@v1')")
    loaded = modules(session)
    assert "pageformer.cpu_backend._kernels" in loaded
    assert not {"numpy", "orjson"} & loaded


def test_a_cancel_stops_the_kernels(session: psycopg.Connection[Any]) -> None:
    session.execute("select pageformer.encode('a text', 'minilm')")
    session.execute("set statement_timeout = '300ms'")
    with pytest.raises(psycopg.errors.QueryCanceled):
        session.execute(BATCH, [5000])
    session.execute("set statement_timeout = 0")
    assert session.execute("select pageformer.encode('a text', 'minilm')").fetchone()


def test_an_interrupt_that_is_no_cancel_changes_no_bit(
    session: psycopg.Connection[Any], minilm: str
) -> None:
    [[undisturbed]] = session.execute(BATCH, [100])
    pid, done = session.info.backend_pid, threading.Event()

    def disturb() -> None:
        with psycopg.connect(minilm, autocommit=True) as other:
            while not done.is_set():
                other.execute("select pg_log_backend_memory_contexts(%s)", [pid])
                time.sleep(0.003)

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        [[disturbed]] = session.execute(BATCH, [100])
    finally:
        done.set()
        thread.join()
    assert disturbed == undisturbed


def test_a_quota_of_a_container_is_a_number_of_cores(tmp_path: Path) -> None:
    from pageformer.cpu_backend import cores

    file = tmp_path / "cpu.max"
    for text, expected in (("max 100000", 1 << 16), ("150000 100000", 2), ("50000 100000", 1)):
        file.write_text(text)
        assert cores.quota(file) == expected
    assert cores.quota(tmp_path / "missing") == 1 << 16


def elements(session: psycopg.Connection[Any], query: str) -> list[float]:
    [[text]] = session.execute(f"select ({query})::text")
    return [float(x) for x in text.strip("[]").split(",")]


def test_a_model_is_computed_as_it_is_set(database: str, minilm_dir: Path) -> None:
    encode = "select pageformer.encode('which function rounds down?', 'minilm')"
    pinned = "select pageformer.encode_pinned('which function rounds down?', 'minilm@v1')"
    with psycopg.connect(database, autocommit=True) as session:
        load(session, str(minilm_dir), name="minilm")
        wide, fixed = elements(session, encode), elements(session, pinned)
        for compute, least in (("bfloat16", 0.9999), ("int8", 0.99)):
            session.execute("select pageformer.set_compute('minilm', %s)", [compute])
            [[told]] = session.execute("select compute from pageformer.models")
            narrow = elements(session, encode)
            assert told == compute
            [[told]] = session.execute("select computed_in from pageformer.models")
            assert told == compute
            assert narrow != wide == fixed == elements(session, pinned)
            assert sum(a * b for a, b in zip(narrow, wide, strict=True)) > least
            with psycopg.connect(database, autocommit=True) as other:
                assert elements(other, encode) == narrow
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="compute is 'int4'"):
            session.execute("select pageformer.set_compute('minilm', 'int4')")


def test_models_tell_what_auto_became_here(database: str, minilm_dir: Path) -> None:
    from pageformer.cpu_backend import _kernels as kernels

    query = "select compute, computed_in, pageformer.computed_here(model) from pageformer.models"
    here = "bfloat16" if kernels.variants()[0] in ("amx", "avx512_bf16") else "float32"
    with psycopg.connect(database, autocommit=True) as session:
        load(session, str(minilm_dir), name="minilm")
        assert session.execute(query).fetchall() == [("float32", "float32", here)]
        session.execute("select pageformer.set_compute('minilm', 'auto')")
        assert session.execute(query).fetchall() == [("auto", here, here)]
        session.execute("update pageformer.setting set value = 'numpy' where name = 'backend'")
        assert session.execute(query).fetchall() == [("auto", "float32", "float32")]
