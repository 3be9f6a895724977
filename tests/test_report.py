"""The report is one page that needs nothing else, and a browser draws what it says."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import tiny_models
from test_sharing import moved, share

from pageformer import client, report
from pageformer.errors import InvalidInput
from pageformer.loader.load import load

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chromium-headless-shell")


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection[Any]]:
    with client.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def page(connection: psycopg.Connection[Any], tmp_path: Path) -> Path:
    """A report on a base, a version that stands on it, and a model of its own."""
    base = tiny_models.write("bert-mean", tmp_path)
    load(connection, base, name="base")
    with psycopg.connect(connection.info.dsn, autocommit=True) as plain:
        share(plain, moved(base, 0.05), "delta")
    load(
        connection,
        tiny_models.write("bert-sharded", tmp_path),
        name="<other> & more".replace(" ", "-"),
    )
    file = tmp_path / "report.html"
    report.write(connection, file)
    return file


def test_the_page_names_every_version_and_loads_nothing(page: Path) -> None:
    text = page.read_text()
    assert "base@v1" in text
    assert "moved-0.05-0-delta@v1" in text
    assert "&lt;other&gt;-&amp;-more@v1" in text
    assert "<other>" not in text
    assert not re.search(r"""(src|href)\s*=|url\(|https?:|<script""", text)


def test_the_heat_map_has_a_cell_for_each_tensor_of_each_version(page: Path) -> None:
    text = page.read_text()
    cells = re.findall(r'<rect class="cell"[^>]*><title>([^<]*)</title>', text)
    assert len(cells) == len(set(cells))
    assert any(cell.startswith("base@v1 layer.0.attention.query.weight: ") for cell in cells)
    delta = [cell for cell in cells if cell.startswith("moved-0.05-0-delta@v1")]
    assert any(not cell.endswith(" 0 differences") for cell in delta)


def test_an_empty_database_has_a_report(
    connection: psycopg.Connection[Any], tmp_path: Path
) -> None:
    report.write(connection, tmp_path / "report.html")
    assert "0 versions" in (tmp_path / "report.html").read_text()


def test_a_file_that_cannot_be_written_is_told(
    connection: psycopg.Connection[Any], tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match="cannot be written: Is a directory"):
        report.write(connection, tmp_path)


def test_a_browser_draws_the_page(page: Path, tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser is installed: looked for {', '.join(BROWSERS)}")
    command = [
        browser,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
    ]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--hide-scrollbars"]
    dom = subprocess.run(
        [*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, check=True
    ).stdout
    assert dom.count('class="cell"') == page.read_text().count('class="cell"') > 50
    picture = tmp_path / "report.png"
    subprocess.run(
        [*command, f"--screenshot={picture}", "--window-size=1280,1600", page.as_uri()],
        capture_output=True,
        check=True,
    )
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 20_000
