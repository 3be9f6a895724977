"""What the command line writes: steps, tables, colour; plain text wherever no terminal reads."""

import sys
from collections.abc import Sequence


def say(step: str) -> None:
    """Tell a step of longer work, apart from results."""
    print(step, file=sys.stderr, flush=True)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under headings, each column as wide as its widest cell."""
    lines = [headings, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for number, line in enumerate(lines):
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        text = "  ".join(cells).rstrip()
        print(bold(text) if number == 0 else text)


def bold(text: str) -> str:
    """Set text in bold where a terminal reads it."""
    return _styled(text, "1")


def dim(text: str) -> str:
    """Step text back where a terminal reads it."""
    return _styled(text, "2")


def green(text: str) -> str:
    """Colour what is well."""
    return _styled(text, "32")


def red(text: str) -> str:
    """Colour what needs attention."""
    return _styled(text, "31")


def _styled(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if sys.stdout.isatty() else text
