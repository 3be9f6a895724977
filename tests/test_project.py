"""A user's own Alembic project: models come and go with its revisions, the same everywhere."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
import tiny_models
from conftest import create_database, drop_database
from same_process import run
from test_migrations import EXPECTED, facts
from tuned_models import tune

from pageformer.cluster import Cluster
from pageformer.embed import embed
from pageformer.embedded_column import Request
from pageformer.loader.load import load

Project = Callable[..., subprocess.CompletedProcess[str]]

BIN = Path(sys.executable).parent
databases = count(1)


def run_process(folder: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / program, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh project, and two versions of a tiny model beside it."""
    project = tmp_path_factory.mktemp("fresh") / "project"
    done(run(project.parent, "pageformer", "init", "project"))
    first = tiny_models.write("bert-mean", project / "models")
    tune(first, project / "models" / "tuned", half=True)
    return project


@pytest.fixture
def folder(fresh: Path, tmp_path: Path) -> Path:
    """A copy of the fresh project."""
    return shutil.copytree(fresh, tmp_path / "project")


@pytest.fixture
def alembic(folder: Path, bare_database: str) -> Project:
    """Run `alembic` in the project, on an empty database."""

    def alembic(*arguments: str, dsn: str = bare_database) -> subprocess.CompletedProcess[str]:
        return run(folder, "alembic", "-x", f"dsn={dsn}", *arguments)

    return alembic


@pytest.fixture
def pageformer(folder: Path) -> Project:
    """Run `pageformer` in the project."""
    return lambda *arguments: run(folder, "pageformer", *arguments)


def done(process: subprocess.CompletedProcess[str]) -> str:
    assert process.returncode == 0, process.stderr
    return process.stdout


def failed(process: subprocess.CompletedProcess[str]) -> str:
    assert process.returncode != 0, process.stdout
    return process.stderr + process.stdout


def rows(dsn: str, query: str) -> list[Any]:
    with psycopg.connect(dsn, autocommit=True) as session:
        cursor = session.execute(query)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []


def versions(dsn: str) -> list[Any]:
    return rows(dsn, "select model, version, deployed from pageformer.model_versions order by 1, 2")


def hashes(dsn: str) -> list[Any]:
    return rows(dsn, "select model, version, hash from pageformer.model_versions order by 1, 2")


def revise(pageformer: Project, message: str, *arguments: str) -> str:
    """Write a revision and return its identifier."""
    path = done(pageformer("revision", message, *arguments)).strip()
    found = re.search(r'^revision = "?\'?(\w+)', Path(path).read_text(), re.M)
    assert found
    return found[1]


def two_revisions(pageformer: Project) -> None:
    revise(pageformer, "minilm v1", "--model", "minilm", "--load", "models/bert-mean")
    revise(pageformer, "minilm v2", "--model", "minilm", "--load", "models/tuned")


# -- there and back -------------------------------------------------------------------------------


def test_a_round_trip_of_a_real_model_brings_every_bit_back(
    tmp_path: Path, cluster: Cluster, minilm_dir: Path
) -> None:
    """Fresh project, v1, embed, v2, stale rows anew, back, anew: the old vectors, bit for bit."""
    project, tuned = tmp_path / "project", tune(minilm_dir, tmp_path / "tuned", half=True)
    done(run_process(tmp_path, "pageformer", "init", "project"))
    dsns = [
        create_database(cluster, f"round_trip_{place}").replace("pageformer_template", "")
        for place in ("here", "there")
    ]
    try:
        for label, source in (("v1", minilm_dir), ("v2", tuned)):
            arguments = ("revision", label, "--model=minilm", f"--load={source}")
            done(run_process(project, "pageformer", *arguments))
        here, there = dsns
        done(run_process(project, "alembic", "-x", f"dsn={here}", "upgrade", "+2"))
        rows(
            here,
            "create table doc (id integer primary key, body text, embedding vector(384));"
            "insert into doc select row_number() over (), description from pg_description limit 40",
        )
        request = Request("doc", "body", "embedding", "minilm")
        held = "select id, embedding::text from doc order by id"
        assert embed(here, request) == 40
        first = rows(here, held)

        done(run_process(project, "alembic", "-x", f"dsn={here}", "upgrade", "head"))
        assert rows(here, "select deployed_version from pageformer.models") == [("v2",)]
        rows(here, "insert into doc values (41, 'one more')")
        assert rows(here, "select missing, stale from pageformer.embedded_columns") == [(1, 40)]
        assert embed(here, request) == 41
        assert embed(here, request) == 0
        second = rows(here, held)
        assert all(old != new for old, new in zip(first, second, strict=False))
        assert rows(
            here,
            "select count(*) from doc "
            "where abs(embedding <=> pageformer.encode(body, 'minilm@v2')) > 1e-6",
        ) == [(0,)]

        rows(here, "delete from doc where id = 41")
        done(run_process(project, "alembic", "-x", f"dsn={here}", "downgrade", "-1"))
        assert embed(here, request) == 40
        assert rows(here, held) == first

        done(run_process(project, "alembic", "-x", f"dsn={here}", "upgrade", "head"))
        done(run_process(project, "alembic", "-x", f"dsn={there}", "upgrade", "head"))
        assert hashes(here) == hashes(there)
        assert len(hashes(there)) == 2
        encoded = "select pageformer.encode('a text', 'minilm')::text"
        assert rows(here, encoded) == rows(there, encoded)
        done(run_process(project, "alembic", "-x", f"dsn={here}", "check"))
    finally:
        for place in ("here", "there"):
            drop_database(cluster, f"round_trip_{place}")


def test_revisions_install_load_deploy_and_take_all_of_it_back(
    alembic: Project, pageformer: Project, bare_database: str
) -> None:
    two_revisions(pageformer)
    steps = {
        1: [],
        2: [("minilm", "v1", True)],
        3: [("minilm", "v1", False), ("minilm", "v2", True)],
    }
    for step, expected in steps.items():
        done(alembic("upgrade", "+1"))
        assert versions(bare_database) == expected, step
        assert facts(bare_database) == EXPECTED.read_text()
        own = rows(bare_database, "select count(*) from public.alembic_version")
        library = rows(bare_database, "select version_num from pageformer.alembic_version")
        assert (own, len(library)) == ([(1,)], 1)
    for step in (2, 1):
        done(alembic("downgrade", "-1"))
        assert versions(bare_database) == steps[step]
    done(alembic("downgrade", "base"))
    assert rows(bare_database, "select to_regnamespace('pageformer')") == [(None,)]
    done(alembic("upgrade", "head"))
    assert versions(bare_database) == steps[3]


def test_tables_and_models_share_a_transaction_and_the_users_search_path(
    alembic: Project, pageformer: Project, folder: Path, bare_database: str
) -> None:
    done(alembic("revision", "-m", "doc"))
    [file] = (folder / "migrations" / "versions").glob("*_doc.py")
    text = file.read_text().replace(
        "pass", 'op.create_table("doc", sa.Column("id", sa.Integer))', 1
    )
    file.write_text(text)
    done(alembic("upgrade", "head"))
    assert rows(bare_database, "select to_regclass('public.doc')::text") == [("doc",)]


def test_a_failing_upgrade_leaves_nothing(
    alembic: Project, pageformer: Project, folder: Path, bare_database: str
) -> None:
    two_revisions(pageformer)
    shutil.rmtree(folder / "models" / "tuned")
    told = failed(alembic("upgrade", "head"))
    assert "FAILED: there is no directory ./models/tuned" in told
    assert rows(bare_database, "select to_regnamespace('pageformer')") == [(None,)]


# -- by hash --------------------------------------------------------------------------------------


def test_content_that_is_in_the_database_needs_no_files_and_writes_no_blocks(
    alembic: Project, pageformer: Project, folder: Path, bare_database: str
) -> None:
    two_revisions(pageformer)
    done(alembic("upgrade", "head"))
    held = "select count(*) from pageformer.block"
    before = rows(bare_database, held)
    revise(pageformer, "twin", "--model", "twin", "--load", "models/tuned")
    shutil.rmtree(folder / "models")
    done(alembic("upgrade", "head"))
    assert rows(bare_database, held) == before
    vectors = "select pageformer.encode('a', 'twin')::text, pageformer.encode('a', 'minilm')::text"
    [(twin, original)] = rows(bare_database, vectors)
    assert twin == original
    assert "No new upgrade operations" in done(alembic("check"))


def test_what_was_loaded_by_hand_is_not_loaded_again(
    alembic: Project, pageformer: Project, folder: Path, bare_database: str
) -> None:
    two_revisions(pageformer)
    done(alembic("upgrade", "+1"))
    with psycopg.connect(bare_database) as session:
        load(session, folder / "models" / "bert-mean", name="minilm")
    at = "select loaded_at from pageformer.model_versions where version = 'v1'"
    before = rows(bare_database, at)
    done(alembic("upgrade", "head"))
    assert rows(bare_database, at) == before


def test_files_of_other_content_are_refused(
    alembic: Project, pageformer: Project, folder: Path, bare_database: str
) -> None:
    two_revisions(pageformer)
    shutil.rmtree(folder / "models" / "tuned")
    tune(folder / "models" / "bert-mean", folder / "models" / "tuned", seed=2)
    told = failed(alembic("upgrade", "head"))
    assert re.search("models/tuned has the content [0-9a-f]{12}…, and the revision wants", told)
    done(alembic("upgrade", "+2"))
    with psycopg.connect(bare_database) as session:
        load(session, folder / "models" / "tuned", name="minilm", version="v2")
    assert "A version never changes" in failed(alembic("upgrade", "head"))


def test_a_downgrade_that_could_not_load_a_model_changes_nothing(
    alembic: Project, pageformer: Project, folder: Path, bare_database: str
) -> None:
    """Two steps back: the first alone would succeed."""
    two_revisions(pageformer)
    done(alembic("upgrade", "head"))
    file = folder / "pageformer.toml"
    kept = file.read_text()
    v1, v2 = kept.index("[[models"), kept.rindex("[[models")
    file.write_text(kept[:v1] + kept[v2:])
    revise(pageformer, "without v1", "--dsn", bare_database)
    done(alembic("upgrade", "head"))
    assert versions(bare_database) == [("minilm", "v2", True)]
    done(alembic("revision", "-m", "nothing"))
    done(alembic("upgrade", "head"))
    (folder / "models" / "bert-mean").rename(folder / "models" / "elsewhere")
    before = rows(bare_database, "table public.alembic_version")
    assert "neither in the database nor at hand: minilm@v1" in failed(alembic("downgrade", "-2"))
    assert rows(bare_database, "table public.alembic_version") == before
    (folder / "models" / "elsewhere").rename(folder / "models" / "bert-mean")
    done(alembic("downgrade", "-2"))
    assert versions(bare_database) == [("minilm", "v1", False), ("minilm", "v2", True)]


# -- autogenerate ---------------------------------------------------------------------------------


def test_check_is_clean_after_every_upgrade_and_tells_what_is_missing_before(
    alembic: Project, pageformer: Project, folder: Path, bare_database: str
) -> None:
    two_revisions(pageformer)
    done(alembic("upgrade", "head"))
    assert "No new upgrade operations" in done(alembic("check"))
    with psycopg.connect(bare_database) as session:
        load(session, folder / "models" / "tuned", name="stray")
        session.execute("select pageformer.grant_use('minilm', 'public')")
    told = failed(alembic("check"))
    assert "('DropModelVersion', 'stray', 'v1', " in told
    assert "('RevokeModel', 'minilm', 'public')" in told
    revise(pageformer, "tidy up", "--dsn", bare_database)
    done(alembic("upgrade", "head"))
    assert "No new upgrade operations" in done(alembic("check"))
    done(alembic("downgrade", "-1"))
    assert ("stray", "v1", True) in versions(bare_database)
    assert rows(bare_database, "select role_name from pageformer.model_grant") == [("public",)]


def test_an_empty_database_lacks_everything_that_is_declared(
    alembic: Project, pageformer: Project, folder: Path, bare_database: str
) -> None:
    two_revisions(pageformer)
    for file in (folder / "migrations" / "versions").glob("*.py"):
        file.unlink()
    with (folder / "pageformer.toml").open("a") as file:
        file.write('\n[models.third]\ngrants = ["public"]\ndeployed = "b"\n')
        for label, source in (("a", "bert-mean"), ("b", "tuned")):
            sha = re.findall('sha256 = "(.*)"', (folder / "pageformer.toml").read_text())
            file.write(
                f'[[models.third.versions]]\nlabel = "{label}"\nsource = "models/{source}"\n'
                f'sha256 = "{sha[label == "b"]}"\ndimension = 96\n'
            )
    revise(pageformer, "all", "--dsn", bare_database)
    done(alembic("upgrade", "head"))
    assert versions(bare_database) == [
        ("minilm", "v1", False), ("minilm", "v2", True), ("third", "a", False), ("third", "b", True)
    ]  # fmt: skip
    done(alembic("check"))
    done(alembic("downgrade", "base"))
    assert rows(bare_database, "select to_regnamespace('pageformer')") == [(None,)]


def test_a_version_of_another_dimension_comes_with_its_columns(
    alembic: Project, pageformer: Project, folder: Path, bare_database: str
) -> None:
    revise(pageformer, "v1", "--model", "minilm", "--load", "models/bert-mean")
    done(alembic("upgrade", "head"))
    rows(bare_database, "create table doc (id integer primary key, body text, v vector(96))")
    embed(bare_database, Request("doc", "body", "v", "minilm"))
    wide = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 0}
    tiny_models.ENCODERS["narrow"] = wide
    tiny_models.write("narrow", folder / "models")
    revise(pageformer, "v2", "--model", "minilm", "--load", "models/narrow")
    assert "columns that follow minilm: public.doc.v vector(96)" in failed(
        alembic("upgrade", "head")
    )
    [file] = (folder / "migrations" / "versions").glob("*_v2.py")
    file.unlink()
    revise(pageformer, "v2 and its columns", "--dsn", bare_database)
    [file] = (folder / "migrations" / "versions").glob("*_v2_and_its_columns.py")
    assert "previous='v1', resize=[('doc', 'v', 64, 96)])" in file.read_text()
    assert "pageformer embed --stale" in file.read_text()
    done(alembic("upgrade", "head"))
    done(alembic("check"))
    done(alembic("downgrade", "-1"))
    kind = "select format_type(atttypid, atttypmod) from pg_attribute where attname = 'v'"
    assert rows(bare_database, kind) == [("vector(96)",)]


def test_autogenerate_leaves_our_schema_alone_in_any_project(
    alembic: Project, folder: Path, bare_database: str
) -> None:
    """A project that compares every schema, and declares no model."""
    done(alembic("upgrade", "head"))
    environment = folder / "migrations" / "env.py"
    text = environment.read_text().replace("include_name=include_name", "include_schemas=True")
    environment.write_text(text)
    (folder / "pageformer.toml").unlink()
    assert "No new upgrade operations" in done(alembic("check"))


def test_models_may_be_declared_in_env_py(
    alembic: Project, pageformer: Project, folder: Path, bare_database: str
) -> None:
    two_revisions(pageformer)
    done(alembic("upgrade", "head"))
    environment = folder / "migrations" / "env.py"
    declared = 'MetaData(info={"pageformer_models": {}})'
    environment.write_text(environment.read_text().replace("MetaData()", declared))
    assert "('DropModelVersion', 'minilm', 'v1', " in failed(alembic("check"))


# -- branches -------------------------------------------------------------------------------------


def test_check_is_clean_after_the_upgrade_of_every_revision(
    alembic: Project, pageformer: Project, bare_database: str
) -> None:
    """One after the other, then as two heads side by side, then merged."""

    def upgraded(target: str = "head") -> None:
        done(alembic("upgrade", target))
        assert "No new upgrade operations" in done(alembic("check"))
        assert facts(bare_database) == EXPECTED.read_text()

    upgraded()
    revise(pageformer, "v1", "--model", "one", "--load", "models/bert-mean")
    upgraded()
    base = revise(pageformer, "v2", "--model", "one", "--load", "models/tuned")
    upgraded()
    revise(pageformer, "two", "--model", "two", "--load", "models/tuned")
    upgraded()
    done(alembic("revision", "-m", "other branch", "--head", base, "--splice"))
    upgraded("heads")
    heads = re.findall(r"^(\w+) \(head\)", done(alembic("current")), re.M)
    assert len(heads) == 2
    assert "Multiple head revisions are present" in failed(alembic("upgrade", "head"))
    done(alembic("merge", "heads", "-m", "both"))
    upgraded()
    for _step in range(2):
        done(alembic("downgrade", base))
        assert [(name, label) for name, label, _ in versions(bare_database)] == [
            ("one", "v1"), ("one", "v2")
        ]  # fmt: skip
        upgraded()


def test_branches_of_model_revisions_merge_and_two_heads_are_told_apart(
    alembic: Project, pageformer: Project, bare_database: str
) -> None:
    base = revise(pageformer, "one", "--model", "one", "--load", "models/bert-mean")
    left = revise(pageformer, "two", "--model", "two", "--load", "models/bert-mean")
    arguments = ("--model", "three", "--load", "models/tuned")
    assert "is not a head revision" in failed(
        pageformer("revision", "x", *arguments, "--head", base)
    )
    done(alembic("revision", "-m", "other branch", "--head", base, "--splice"))
    told = failed(pageformer("revision", "three", *arguments))
    assert "Multiple heads are present" in told
    assert "alembic merge heads" in told
    heads = re.findall(r"^(\w+) \(head\)", done(alembic("heads")), re.M)
    assert len(heads) == 2
    [other] = {*heads} - {left}
    revise(pageformer, "three", *arguments, "--head", other)
    assert "Multiple head revisions are present" in failed(alembic("upgrade", "head"))
    done(alembic("merge", "heads", "-m", "both"))
    done(alembic("upgrade", "head"))
    assert [name for name, _, _ in versions(bare_database)] == ["one", "three", "two"]
    done(alembic("check"))
    done(alembic("downgrade", base))
    assert [name for name, _, _ in versions(bare_database)] == ["one"]


# -- offline --------------------------------------------------------------------------------------


def test_offline_sql_names_the_step_that_loads_and_does_the_rest(
    alembic: Project, pageformer: Project, folder: Path, cluster: Cluster, bare_database: str
) -> None:
    two_revisions(pageformer)

    def psql(script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [cluster.bin / "psql", "-Xqv", "ON_ERROR_STOP=1", bare_database],
            input=script, capture_output=True, text=True, check=False,
        )  # fmt: skip

    installing = done(alembic("upgrade", "base:+1", "--sql"))
    assert "ERROR" not in psql(installing).stderr
    assert facts(bare_database) == EXPECTED.read_text()
    full = done(alembic("upgrade", "head", "--sql"))
    loading = "begin;\n" + full[full.index("-- A model's weights do not fit") :]
    step = "--     pageformer load ./models/tuned --name minilm --version v2"
    assert step in loading
    assert "load the model first" in psql(loading).stderr
    for label, source in (("v1", "bert-mean"), ("v2", "tuned")):
        with psycopg.connect(bare_database) as session:
            load(session, folder / "models" / source, name="minilm", version=label)
    assert psql(loading).stderr == ""
    assert versions(bare_database) == [("minilm", "v1", False), ("minilm", "v2", True)]
    done(alembic("check"))


# -- refusals -------------------------------------------------------------------------------------


def test_init_overwrites_nothing(pageformer: Project, folder: Path) -> None:
    assert "has alembic.ini" in failed(pageformer("init"))


def test_a_label_is_declared_once(pageformer: Project) -> None:
    two_revisions(pageformer)
    arguments = ("--model", "minilm", "--load", "models/tuned", "--version", "v2")
    assert "version v2 is declared already" in failed(pageformer("revision", "x", *arguments))


def test_a_revision_needs_model_and_source(pageformer: Project) -> None:
    assert "--model and --load go together" in failed(pageformer("revision", "x", "--model", "m"))


def test_a_folder_without_a_project_is_told_to_init(tmp_path: Path) -> None:
    told = failed(run(tmp_path, "pageformer", "revision", "x", "--model", "m", "--load", "d"))
    assert "pageformer init" in told


def test_a_declaration_that_is_wrong_is_told(pageformer: Project, folder: Path) -> None:
    (folder / "pageformer.toml").write_text("[models.minilm]\ngrants = []\n")
    arguments = ("--model", "minilm", "--load", "models/tuned")
    assert "model minilm is not declared as it should be" in failed(
        pageformer("revision", "x", *arguments)
    )
