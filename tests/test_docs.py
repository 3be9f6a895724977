"""Every statement and every command in the documentation works as it is written there."""

import re
import shlex
from pathlib import Path
from types import ModuleType

import psycopg
import pytest
import tiny_images
import tiny_late
import tiny_models
from typer.main import get_command

from pageformer.cli import app
from pageformer.loader.load import load
from pageformer.loader.tasks.add import Source, add

ROOT = Path(__file__).parents[1]
NUMBER = r"-?\d+\.\d+"
# The random models that the pages ask, by the names that they have there.
TINY = {
    "reviews": "bert-sequence",
    "reranker": "bert-rerank",
    "entities": "bert-tokens",
    "words": "bert-words",
    "splade": "bert-sparse",
    "photos": "vit-labels",
    "colbert": "late-bert",
}
# The tasks that the pages ask, by model.
TASKS = {"legal": ("reviews", "peft/bert-sequence/lora")}
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.M | re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_statement_runs_and_answers_as_shown(
    page: Path, database: str, minilm_dir: Path, tmp_path: Path
) -> None:
    statements = blocks(page, "sql")
    if not statements:
        return
    with psycopg.connect(database, autocommit=True) as connection:
        load(connection, str(minilm_dir), name="minilm")
        if any(f"'{name}'" in statement for statement in statements for name in TINY):
            for name, tiny in TINY.items():
                load(connection, str(tiny_kind(tiny).write(tiny, tmp_path)), name=name)
        for name, (model, saved) in TASKS.items():
            if any(f"task => '{name}'" in statement for statement in statements):
                directory = ROOT / "tests" / "reference" / "tasks" / saved
                add(connection, Source(str(directory)), model=model, name=name)
        for statement, shown in zip(statements, outputs(page), strict=True):
            cursor = connection.execute(statement)  # type: ignore[arg-type]
            if shown is not None:
                while cursor.nextset():
                    pass  # the last answer is the one that is shown
                found = [" | ".join(map(str, row)) for row in cursor.fetchall()]
                text, numbers = numbers_apart("\n".join(found))
                assert (text, pytest.approx(numbers, abs=2e-3)) == numbers_apart(shown)


def tiny_kind(name: str) -> ModuleType:
    """Find the module that writes a tiny model."""
    return next((kind for kind in (tiny_images, tiny_late) if name in kind.MODELS), tiny_models)


def test_every_function_of_the_reference_has_an_example() -> None:
    page = ROOT / "docs" / "sql.md"
    documented = set(re.findall(r"^\| (?:.*?, )?`(\w+)\(", page.read_text(), re.M))
    # It wants a column that `embed` filled; tests of its own call it.
    documented -= {"same_space"}
    examples = "\n".join(statement for page in PAGES for statement in blocks(page, "sql"))
    assert {n for n in documented if not re.search(rf"\b{n}\(", examples)} == set()


def outputs(page: Path) -> list[str | None]:
    """Find what the page shows behind each statement; None: nothing."""
    pattern = r"^```sql\n.*?^```$(?:\n\n```text\n(.*?)\n```$)?"
    found = re.finditer(pattern, page.read_text(), re.M | re.S)
    return [match[1] for match in found]


def numbers_apart(text: str) -> tuple[str, list[float]]:
    """Split a text from its numbers, of which backends may differ in the last digit."""
    numbers = [float(number) for number in re.findall(NUMBER, text)]
    return re.sub(NUMBER, "#", text), numbers


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_that_are_named_are_there(page: Path) -> None:
    """Capitals stand for a part that varies, as in `gpu-DEVICE-DATE.md`."""
    named = re.findall(r"`((?:[a-z_]+/)+[a-z0-9_-]+\.[a-z]+)`", page.read_text())
    assert [file for file in named if not (ROOT / file).exists()] == []
