"""One self-contained HTML page that shows what the versions of a database share."""

from html import escape
from pathlib import Path
from typing import Any

from pageformer.client import Connection, rows
from pageformer.errors import InvalidInput

Row = dict[str, Any]
CELL = 14  # pixels
LABEL = 250
STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; color: #1a202c;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2.2rem; }
table { border-collapse: collapse; } td, th { padding: .3rem .8rem; text-align: right; }
th { border-bottom: 2px solid #2d3748; font-weight: 600; }
td { border-bottom: 1px solid #e2e8f0; } td:first-child, th:first-child { text-align: left; }
.bar { display: inline-block; height: .7rem; background: #2b6cb0; vertical-align: middle; }
.scroll { overflow-x: auto; } svg text { font: 11px system-ui, sans-serif; fill: #1a202c; }
.note { color: #4a5568; } .key { display: inline-block; width: 12px; height: 12px; margin: 0 4px 0
  14px; vertical-align: -1px; }
"""


def write(connection: Connection, file: Path) -> None:
    """Write the report of a database.

    Raises InvalidInput when the file cannot be written.
    """
    page = render(
        rows(connection, "report_versions"),
        rows(connection, "report_tensors"),
        rows(connection, "report_classes"),
    )
    try:
        file.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{file} cannot be written: {error.strerror}") from error


def render(versions: list[Row], tensors: list[Row], classes: list[Row]) -> str:
    """Write the page: bytes, accuracy, the heat map and the pages."""
    whole = sum(int(row["parameter_bytes"]) for row in versions)
    stored = sum(int(row["bytes"]) for row in classes)
    saved = f"{whole / stored:.1f} times less" if stored else "nothing yet"
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8"><title>What versions share</title>',
            f"<style>{STYLE}</style></head><body>",
            "<h1>What versions share</h1>",
            f"<p>{len(versions)} versions, {size(whole)} in all, stand on pages of {size(stored)}: "
            f"{saved}.</p>",
            "<h2>Versions</h2>",
            table(
                ("version", "files", "pages", "its own", "", "rung", "score kept"),
                [version_cells(row) for row in versions],
            ),
            "<h2>Bytes by rung</h2>",
            table(("rung", "versions", "files", "own pages", "saved"), rung_cells(versions)),
            "<h2>Which tensors are shared</h2>",
            f'<p class="note">Each cell is a tensor of a version.{key("#2f855a")}blocks that other '
            f"versions have too{key('#d69e2e')}differences to shared blocks{key('#edf2f7')}its own"
            "</p>",
            heat_map(tensors),
            "<h2>Pages by the versions that use them</h2>",
            table(
                ("versions", "pages", "bytes"),
                [(escape(r["versions"]), r["pages"], size(r["bytes"])) for r in classes],
            ),
            "</body></html>",
            "",
        ]
    )


def version_cells(row: Row) -> tuple[object, ...]:
    """Write a version's row."""
    part = row["own_bytes"] / max(row["parameter_bytes"], 1)
    bar = f'<span class="bar" style="width:{max(100 * min(part, 1), 1):.0f}px"></span>'
    sizes = (size(row["parameter_bytes"]), size(row["bytes"]), size(row["own_bytes"]))
    return (escape(row["name"]), *sizes, bar, row["rung"], kept(row))


def kept(row: Row) -> str:
    """Tell what an approximated version lost."""
    if row["measure"] is None:
        return "exactly"
    return (
        f"{row['measure']} {row['score_after']:.4f} of {row['score_before']:.4f}, "
        f"{row['dropped_low']:+.4f} to {row['dropped_high']:+.4f} lost"
    )


def rung_cells(versions: list[Row]) -> list[tuple[object, ...]]:
    """Add up the versions of each rung."""
    cells: list[tuple[object, ...]] = []
    for rung in ("exact", "approximate", "delta"):
        mine = [row for row in versions if row["rung"] == rung]
        whole = sum(int(row["parameter_bytes"]) for row in mine)
        own = sum(int(row["own_bytes"]) for row in mine)
        if mine:
            cells.append((rung, len(mine), size(whole), size(own), size(max(whole - own, 0))))
    return cells


def heat_map(tensors: list[Row]) -> str:
    """Draw versions across and tensors down; colours say what part is shared."""
    names = sorted({row["tensor"] for row in tensors})
    versions = list(dict.fromkeys(row["name"] for row in tensors))
    head = 8 + 7 * max((len(name) for name in versions), default=0)
    width, height = LABEL + CELL * len(versions) + head, head + CELL * len(names) + 8
    parts = [f'<div class="scroll"><svg width="{width}" height="{height}" role="img">']
    for column, name in enumerate(versions):
        x = LABEL + CELL * column + 4
        parts.append(
            f'<text transform="translate({x + 6},{head - 4}) rotate(-60)">{escape(name)}</text>'
        )
    for line, name in enumerate(names):
        y = head + CELL * line + 11
        parts.append(f'<text x="{LABEL - 6}" y="{y}" text-anchor="end">{escape(name)}</text>')
    for row in tensors:
        x = LABEL + CELL * versions.index(row["name"])
        y = head + CELL * names.index(row["tensor"])
        parts.append(cell(row, x, y))
    return "".join([*parts, "</svg></div>"])


def cell(row: Row, x: int, y: int) -> str:
    """Draw one tensor of one version."""
    shared = row["shared"] / row["blocks"]
    differences = row["differences"] / row["blocks"]
    title = (
        f"{row['name']} {row['tensor']}: {row['blocks']} blocks, {row['shared']} shared, "
        f"{row['differences']} differences"
    )
    return (
        f'<rect class="cell" x="{x}" y="{y}" width="{CELL - 1}" height="{CELL - 1}" '
        f'fill="{colour(shared, differences)}"><title>{escape(title)}</title></rect>'
    )


def colour(shared: float, differences: float) -> str:
    """Mix green for what is shared and amber for differences into the grey of what is not."""
    green, amber, grey = (47, 133, 90), (214, 158, 46), (237, 242, 247)
    differences = min(differences, 1 - shared)
    rest = 1 - shared - differences
    mixed = (
        round(shared * g + differences * a + rest * n)
        for g, a, n in zip(green, amber, grey, strict=True)
    )
    return "#" + "".join(f"{value:02x}" for value in mixed)


def key(fill: str) -> str:
    """Draw a colour of the legend."""
    return f'<span class="key" style="background:{fill}"></span>'


def table(headings: tuple[str, ...], lines: list[tuple[object, ...]]) -> str:
    """Write a table whose cells are HTML."""
    head = "".join(f"<th>{heading}</th>" for heading in headings)
    body = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in line) + "</tr>" for line in lines)
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def size(count: int) -> str:
    """Write bytes as a person reads them."""
    amount = float(count)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.2f} GB"
