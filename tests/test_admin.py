"""Deploying, renaming, dropping, granting: what they change, what they leave, what they refuse."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import tiny_models
from safetensors.numpy import load_file, save_file

from pageformer.errors import DuplicateName
from pageformer.loader.load import load

STORED = ("asset", "block", "placement", "page", "tensor", "version", "model", "model_grant")

Session = psycopg.Connection[Any]
Connect = Callable[..., Session]


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.write("bert-mean", tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def tuned_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model with one changed weight: most of its blocks are those of `model_dir`."""
    directory = tiny_models.write("bert-mean", tmp_path_factory.mktemp("tuned"))
    file = directory / "model.safetensors"
    tensors = load_file(file)
    name = next(name for name in tensors if name.endswith("layer.1.output.dense.weight"))
    tensors[name] = tensors[name] + np.float32(0.01)
    save_file(tensors, file, metadata={"format": "pt"})
    return directory


@pytest.fixture
def session(connect: Connect) -> Iterator[Session]:
    session = connect()
    session.autocommit = True
    return session


def value(session: Session, query: str) -> Any:
    [row] = session.execute(query).fetchall()
    return row[0]


def encode(session: Session, model: str = "tiny") -> str:
    vector: str = value(session, f"select pageformer.encode('a text', '{model}')::text")
    return vector


def refusal(session: Session, query: str) -> tuple[str | None, str | None, str | None]:
    with pytest.raises(psycopg.Error) as caught:
        session.execute(query)
    told = caught.value.diag
    return told.sqlstate, told.message_primary, told.message_hint


def counts(session: Session) -> dict[str, int]:
    return {table: value(session, f"select count(*) from pageformer.{table}") for table in STORED}


def stored(session: Session, table: str) -> set[bytes]:
    return {hash for (hash,) in session.execute(f"select hash from pageformer.{table}")}


# -- deploy ---------------------------------------------------------------------------------------


def test_a_deploy_is_seen_from_its_commit_on(
    connect: Connect, session: Session, model_dir: Path, tuned_dir: Path
) -> None:
    load(session, model_dir, name="tiny")
    load(session, tuned_dir, name="tiny")
    first, second = encode(session, "tiny@v1"), encode(session, "tiny@v2")
    other = connect(autocommit=True)
    assert first != second
    with session.transaction():
        session.execute("select pageformer.deploy('tiny', 'v2')")
        assert encode(session) == second
        assert encode(other) == first
    assert encode(other) == second


def test_a_deploy_that_is_rolled_back_never_was(
    session: Session, model_dir: Path, tuned_dir: Path
) -> None:
    load(session, model_dir, name="tiny")
    load(session, tuned_dir, name="tiny")
    first = encode(session)
    with session.transaction(force_rollback=True):
        session.execute("select pageformer.deploy('tiny', 'v2')")
        assert encode(session) != first
    assert encode(session) == first


def test_a_deploy_that_is_taken_back_within_a_transaction_never_was(
    session: Session, model_dir: Path, tuned_dir: Path
) -> None:
    load(session, model_dir, name="tiny")
    load(session, tuned_dir, name="tiny")
    first = encode(session)
    with session.transaction():
        with session.transaction(force_rollback=True):
            session.execute("select pageformer.deploy('tiny', 'v2')")
            assert encode(session) != first
        assert encode(session) == first


def test_a_cursor_keeps_its_version_beside_statements_that_see_the_next(
    connect: Connect, session: Session, model_dir: Path, tuned_dir: Path
) -> None:
    load(session, model_dir, name="tiny")
    load(session, tuned_dir, name="tiny")
    first, second = encode(session, "tiny@v1"), encode(session, "tiny@v2")
    reader = connect()
    reader.execute(
        "declare reading cursor for"
        " select pageformer.encode('a text', 'tiny')::text from generate_series(1, 3)"
    )
    assert value(reader, "fetch reading") == first
    session.execute("select pageformer.deploy('tiny', 'v2')")
    assert encode(reader) == second
    assert value(reader, "fetch reading") == first
    assert encode(reader) == second


def test_a_version_is_found_by_label_or_by_the_start_of_its_hash(
    session: Session, model_dir: Path, tuned_dir: Path
) -> None:
    load(session, model_dir, name="tiny")
    hash = load(session, tuned_dir, name="tiny", version="tuned").hash.hex()
    session.execute(f"select pageformer.deploy('tiny', '{hash[:6]}')")
    assert value(session, "select deployed_version from pageformer.models") == "tuned"
    assert refusal(session, f"select pageformer.deploy('tiny', '{hash[:5]}')") == (
        "42704",
        f'model "tiny" has no version "{hash[:5]}"',
        "its versions: v1, tuned",
    )


@pytest.mark.parametrize("call", ["deploy('b', 'v1')", "drop_version('b', 'v1')",
                                  "rename_model('b', 'c')", "grant_use('b', 'public')",
                                  "revoke_use('b', 'public')"])  # fmt: skip
def test_an_unknown_model_is_told_with_those_there_are(
    session: Session, model_dir: Path, call: str
) -> None:
    load(session, model_dir, name="tiny")
    load(session, model_dir, name="another")
    assert refusal(session, f"select pageformer.{call}") == (
        "42704", 'model "b" does not exist', "models that are loaded: another, tiny"
    )  # fmt: skip


def test_a_label_comes_before_the_start_of_a_hash(
    session: Session, model_dir: Path, tuned_dir: Path
) -> None:
    hash = load(session, tuned_dir, name="tiny").hash.hex()
    vector = encode(session, f"tiny@{hash[:8]}")
    load(session, model_dir, name="tiny", version="other")
    session.execute("update pageformer.version set label = %s where label = 'other'", [hash[:8]])
    assert encode(session, f"tiny@{hash[:8]}") != vector
    assert encode(session, f"tiny@{hash[:9]}") == vector


def test_a_label_may_not_be_the_start_of_anothers_hash(
    session: Session, model_dir: Path, tuned_dir: Path
) -> None:
    hash = load(session, model_dir, name="tiny").hash.hex()
    with pytest.raises(DuplicateName, match=f"tiny@{hash[:6]} means v1 already"):
        load(session, tuned_dir, name="tiny", version=hash[:6])
    assert load(session, model_dir, name="tiny", version=hash[:6]).version == hash[:6]


def test_a_moving_name_is_not_pinned(session: Session, model_dir: Path) -> None:
    load(session, model_dir, name="tiny")
    assert refusal(session, "select pageformer.encode_pinned('a', 'tiny')") == (
        "22023",
        'pageformer: "tiny" is a moving name: another version may be deployed',
        "pin a version, as in 'tiny@v1'; see pageformer.model_versions",
    )


# -- one statement, one version -------------------------------------------------------------------


def test_all_rows_of_a_statement_have_the_version_of_its_snapshot(
    connect: Connect, session: Session, model_dir: Path, tuned_dir: Path
) -> None:
    """The statement waits between its rows for a lock; meanwhile another version is deployed."""
    load(session, model_dir, name="tiny")
    load(session, tuned_dir, name="tiny")
    first, second = encode(session, "tiny@v1"), encode(session, "tiny@v2")
    waits_between = """
        select pageformer.encode('a text', 'tiny')::text
        from generate_series(1, 3) n
        where case n when 2 then pg_advisory_xact_lock_shared(1) is not null else true end
    """
    reader = connect(autocommit=True)
    with ThreadPoolExecutor() as threads:
        with session.transaction():
            session.execute("select pg_advisory_xact_lock(1)")
            rows = threads.submit(lambda: reader.execute(waits_between).fetchall())
            watching = connect(autocommit=True)
            while not value(watching, "select count(*) from pg_locks where not granted"):
                assert not rows.done()
            watching.execute("select pageformer.deploy('tiny', 'v2')")
        assert rows.result() == [(first,)] * 3
    assert encode(reader) == second


def test_ten_connections_get_the_version_of_their_snapshot_while_versions_are_deployed(
    connect: Connect, session: Session, model_dir: Path, tuned_dir: Path
) -> None:
    load(session, model_dir, name="tiny")
    load(session, tuned_dir, name="tiny")
    right = {(label, encode(session, f"tiny@{label}")) for label in ("v1", "v2")}
    done = threading.Event()
    answer = """
        select m.deployed_version, pageformer.encode('a text', 'tiny')::text
        from pageformer.models m where m.model = 'tiny'
    """

    def hammer(_: int) -> set[tuple[str, str]]:
        mine, seen = connect(autocommit=True), set()
        while not done.is_set():
            seen.update(mine.execute(answer).fetchall())
        return seen

    def deploy_or_take_back(number: int) -> None:
        with session.transaction(force_rollback=number % 4 > 1):
            session.execute(f"select pageformer.deploy('tiny', 'v{1 + number % 2}')")
            assert set(session.execute(answer).fetchall()) <= right

    with ThreadPoolExecutor(10) as threads:
        hammering = threads.map(hammer, range(10))
        try:
            for number in range(100):
                deploy_or_take_back(number)
        finally:
            done.set()
        assert set().union(*hammering) <= right


# -- rename_model ---------------------------------------------------------------------------------


def test_a_renamed_model_keeps_versions_and_grants(session: Session, model_dir: Path) -> None:
    load(session, model_dir, name="tiny")
    session.execute("select pageformer.grant_use('tiny', 'public')")
    vector = encode(session)
    session.execute("select pageformer.rename_model('tiny', 'small')")
    assert encode(session, "small") == encode(session, "small@v1") == vector
    session.execute("select pageformer.revoke_use('small', 'public')")
    assert refusal(session, "select pageformer.encode('a', 'tiny')")[0] == "42704"


@pytest.mark.parametrize(
    ("new_name", "told"),
    [
        ("'another'", ("42710", 'model "another" exists already')),
        ("'a b'", ("22023", "'a b' cannot be the name of a model")),
        ("'a@b'", ("22023", "'a@b' cannot be the name of a model")),
        ("''", ("22023", "'' cannot be the name of a model")),
        ("null", ("22023", "NULL cannot be the name of a model")),
    ],
)
def test_a_model_is_not_renamed_to(
    session: Session, model_dir: Path, new_name: str, told: tuple[str, str]
) -> None:
    load(session, model_dir, name="tiny")
    load(session, model_dir, name="another")
    state, message, hint = refusal(session, f"select pageformer.rename_model('tiny', {new_name})")
    assert (state, message) == told
    assert hint


# -- drop_version ---------------------------------------------------------------------------------


def test_a_dropped_version_keeps_shared_blocks(
    session: Session, model_dir: Path, tuned_dir: Path
) -> None:
    load(session, model_dir, name="tiny")
    before, pages = counts(session), stored(session, "page")
    load(session, tuned_dir, name="tiny")
    vector, shared = encode(session), counts(session)
    assert before["block"] < shared["block"] < 2 * before["block"]
    session.execute("select pageformer.drop_version('tiny', 'v2')")
    assert counts(session) == before
    assert stored(session, "page") == pages
    assert encode(session) == vector
    assert value(session, "select pageformer.verify('tiny')") == before["page"]


def test_the_version_that_brought_shared_blocks_can_go_first(
    session: Session, model_dir: Path, tuned_dir: Path
) -> None:
    load(session, model_dir, name="tiny")
    load(session, tuned_dir, name="tiny", deploy=True)
    vector, pages = encode(session), stored(session, "page")
    session.execute("select pageformer.drop_version('tiny', 'v1')")
    assert stored(session, "page") == pages  # each holds blocks of v2
    assert encode(session) == vector
    unused = """
        select count(*) from pageformer.block b where b.hash not in (
            select unnest(t.grid) from pageformer.tensor t where t.grid is not null)
    """
    assert value(session, unused) == 0


def test_blocks_shared_with_another_model_stay(session: Session, model_dir: Path) -> None:
    load(session, model_dir, name="tiny")
    load(session, model_dir, name="another")
    vector = encode(session)
    session.execute("select pageformer.drop_version('another', 'v1')")
    assert encode(session) == vector
    assert value(session, "select pageformer.verify('tiny')") == counts(session)["page"]


def test_the_last_version_takes_the_model_and_all_that_it_stored(
    session: Session, model_dir: Path, tuned_dir: Path
) -> None:
    load(session, model_dir, name="tiny")
    load(session, tuned_dir, name="tiny", deploy=True)
    session.execute("select pageformer.grant_use('tiny', 'public')")
    session.execute("select pageformer.drop_version('tiny', 'v1')")
    session.execute("select pageformer.drop_version('tiny', 'v2')")
    assert counts(session) == dict.fromkeys(STORED, 0)


def test_a_dropped_version_can_be_loaded_again(session: Session, model_dir: Path) -> None:
    load(session, model_dir, name="tiny")
    vector = encode(session)
    session.execute("select pageformer.drop_version('tiny', 'v1')")
    load(session, model_dir, name="tiny")
    assert encode(session) == vector


def test_the_deployed_version_is_not_dropped_while_there_are_others(
    session: Session, model_dir: Path, tuned_dir: Path
) -> None:
    load(session, model_dir, name="tiny")
    load(session, tuned_dir, name="tiny")
    before = counts(session)
    assert refusal(session, "select pageformer.drop_version('tiny', 'v1')") == (
        "55006",
        'version "v1" of model "tiny" is deployed',
        "deploy another one first (v2): select pageformer.deploy('tiny', 'v2')",
    )
    assert counts(session) == before


def test_a_reader_keeps_the_version_of_its_snapshot(
    connect: Connect, session: Session, model_dir: Path
) -> None:
    load(session, model_dir, name="tiny")
    vector = encode(session)
    reader = connect()
    reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    assert value(reader, "select count(*) from pageformer.models") == 1  # takes the snapshot
    session.execute("select pageformer.drop_version('tiny', 'v1')")
    assert encode(reader) == vector
    reader.rollback()
    assert refusal(reader, "select pageformer.encode('a', 'tiny')")[0] == "42704"


def test_a_drop_that_is_rolled_back_drops_nothing(session: Session, model_dir: Path) -> None:
    load(session, model_dir, name="tiny")
    before = counts(session)
    with session.transaction(force_rollback=True):
        session.execute("select pageformer.drop_version('tiny', 'v1')")
        assert refusal_in_savepoint(session)[0] == "42704"
    assert counts(session) == before
    assert encode(session)


def refusal_in_savepoint(session: Session) -> tuple[str | None, str | None, str | None]:
    with session.transaction(force_rollback=True):
        return refusal(session, "select pageformer.encode('a', 'tiny')")


NAMING = {
    "an index": ("create index by_meaning on doc (pageformer.encode_pinned(body, '{}'))",
                 "drop index by_meaning"),
    "a partial index": ("create index a_part on doc (body) where array[body] @> array['a@b'] "
                        "and vector_dims(pageformer.encode_pinned(body, '{}')) > 0",
                        "drop index a_part"),
    "a column": ("alter table doc add vector vector "
                 "generated always as (pageformer.encode_pinned(body, '{}')) stored",
                 "alter table doc drop vector"),
    "a default": ("alter table doc add vector vector default pageformer.encode('', '{}')",
                  "alter table doc drop vector"),
    "a check": ("alter table doc add constraint short "
                "check (pageformer.count_tokens(body, '{}') < 9)",
                "alter table doc drop constraint short"),
}  # fmt: skip


@pytest.mark.parametrize("kind", NAMING)
def test_a_version_that_an_expression_names_is_neither_dropped_nor_renamed(
    session: Session, model_dir: Path, tuned_dir: Path, kind: str
) -> None:
    load(session, model_dir, name="it's")
    hash = load(session, tuned_dir, name="it's").hash.hex()
    session.execute("create table doc (body text)")
    create, drop = NAMING[kind]
    for pin in ("v2", hash[:7]):
        session.execute(create.format(f"it''s@{pin}"))
        for call in ("drop_version('it''s', 'v2')", "rename_model('it''s', 'its')"):
            state, message, hint = refusal(session, f"select pageformer.{call}")
            assert (state, hint) == ("2BP01", "drop or change these first")
            assert str(message).startswith("others name the version it's@v2: ")
        session.execute(drop)
    session.execute(create.format("it''s@v1"))
    session.execute("select pageformer.drop_version('it''s', 'v2')")


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_an_old_snapshot_may_not_drop(session: Session, model_dir: Path, level: str) -> None:
    load(session, model_dir, name="tiny")
    session.execute(f"set default_transaction_isolation = '{level}'")
    assert refusal(session, "select pageformer.drop_version('tiny', 'v1')") == (
        "25000",
        f"versions cannot be loaded or dropped in a {level} transaction",
        "begin isolation level read committed",
    )


def test_loads_and_drops_at_once_leave_whole_models(
    connect: Connect, session: Session, model_dir: Path, tuned_dir: Path
) -> None:
    load(session, model_dir, name="kept")
    vector, before = encode(session, "kept"), counts(session)

    def come_and_go(number: int) -> None:
        mine = connect(autocommit=True)
        for directory in (tuned_dir, model_dir):
            load(mine, directory, name=f"brief{number}")
            assert encode(mine, f"brief{number}")
            mine.execute(f"select pageformer.drop_version('brief{number}', 'v1')")

    with ThreadPoolExecutor() as threads:
        list(threads.map(come_and_go, range(4)))
    assert encode(session, "kept") == vector
    assert counts(session) == before
    assert value(session, "select pageformer.verify('kept')") == before["page"]


def test_a_deploy_waits_for_a_drop_of_the_same_version(
    connect: Connect, session: Session, model_dir: Path, tuned_dir: Path
) -> None:
    load(session, model_dir, name="tiny")
    load(session, tuned_dir, name="tiny")
    dropping = connect()
    dropping.execute("select pageformer.drop_version('tiny', 'v2')")
    deploy = "select pageformer.deploy('tiny', 'v2')"
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(refusal, session, deploy)
        watching = connect(autocommit=True)
        while not value(watching, "select count(*) from pg_locks where not granted"):
            assert not waiting.done()
        dropping.commit()
        assert waiting.result()[:2] == ("42704", 'model "tiny" has no version "v2"')
    assert encode(session) == encode(session, "tiny@v1")


def test_who_encodes_while_versions_come_and_go_gets_one_or_the_other(
    connect: Connect, session: Session, model_dir: Path, tuned_dir: Path
) -> None:
    load(session, model_dir, name="tiny", version="a")
    load(session, tuned_dir, name="tiny", version="b")
    whole = {encode(session, "tiny@a"), encode(session, "tiny@b")}
    done = threading.Event()

    def keep_encoding(_: int) -> set[str]:
        mine, seen = connect(autocommit=True), set()
        while not done.is_set():
            seen.add(encode(mine))
        return seen

    def swap(deployed: str, label: str, directory: Path) -> None:
        session.execute(f"select pageformer.deploy('tiny', '{deployed}')")
        session.execute(f"select pageformer.drop_version('tiny', '{label}')")
        load(session, directory, name="tiny", version=label)

    with ThreadPoolExecutor() as threads:
        encoding = threads.map(keep_encoding, range(3))
        try:
            for _ in range(5):
                swap("b", "a", model_dir)
                swap("a", "b", tuned_dir)
        finally:
            done.set()
        assert set().union(*encoding) <= whole


# -- grants ---------------------------------------------------------------------------------------


def test_a_grant_needs_a_role_that_exists(session: Session, model_dir: Path) -> None:
    load(session, model_dir, name="tiny")
    for role in ("'nobody_there'", "null"):
        state, _, hint = refusal(session, f"select pageformer.grant_use('tiny', {role})")
        assert state == "42704"
        assert "'public'" in str(hint)


def test_a_grant_twice_is_one_grant(session: Session, model_dir: Path) -> None:
    load(session, model_dir, name="tiny")
    for _ in range(2):
        session.execute("select pageformer.grant_use('tiny', 'public')")
    assert counts(session)["model_grant"] == 1


def test_revoking_what_was_not_granted_is_told(session: Session, model_dir: Path) -> None:
    load(session, model_dir, name="tiny")
    revoke = "select pageformer.revoke_use('tiny', 'postgres')"
    message = "model \"tiny\" is not granted to 'postgres'"
    assert refusal(session, revoke) == ("42704", message, "it is granted to nobody")
    session.execute("select pageformer.grant_use('tiny', 'public')")
    assert refusal(session, revoke) == ("42704", message, "it is granted to: public")
