"""Every statement and every command in the documentation works as it is written there."""

import re
import shlex
from pathlib import Path

import psycopg
import pytest
from typer.main import get_command

from pageformer.cli import app
from pageformer.loader.load import load

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.M | re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_statement_runs(page: Path, database: str, minilm_dir: Path) -> None:
    statements = blocks(page, "sql")
    if not statements:
        return
    with psycopg.connect(database, autocommit=True) as connection:
        load(connection, str(minilm_dir), name="minilm")
        for statement in statements:
            connection.execute(statement)  # type: ignore[arg-type]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_exists(page: Path) -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    text = page.read_text()
    named = re.findall(r"(?:\.venv/bin/|`)pageformer ([a-z]+)", text)
    named += [
        words[1]
        for block in blocks(page, "sh")
        for line in block.splitlines()
        if (words := shlex.split(line, comments=True)) and words[0].endswith("bin/pageformer")
    ]
    assert set(named) <= set(commands)


def test_every_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(
        r"^make ([a-z]+)|`make ([a-z]+)`", (ROOT / "README.md").read_text(), re.M
    ):
        assert f"\n{''.join(target)}:" in makefile


def test_the_table_of_figures_is_the_one_that_bench_wrote() -> None:
    readme = (ROOT / "README.md").read_text()
    assert (ROOT / "bench" / "results" / "encode.md").read_text() in readme


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
