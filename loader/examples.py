"""The file that `--evaluate` names, and what is measured without one.

Lines of tab-separated fields: `text`, `text<TAB>label`, or `text<TAB>text<TAB>score`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from tokenizers import Tokenizer as Library

from pageformer.errors import InvalidInput

Measure = Literal["accuracy", "spearman", "cosine"]
MEASURES: dict[int, Measure] = {1: "cosine", 2: "accuracy", 3: "spearman"}
FEWEST = 20
MADE_TEXTS = 400
WORDS = (4, 24)  # of a made text
SEED = 3


@dataclass(frozen=True)
class Examples:
    """Hold what is evaluated: texts (or pairs of them) and what is expected of each."""

    measure: Measure
    texts: Sequence[tuple[str, ...]]  # of one text each, or two
    expected: Sequence[str | float]  # labels or scores; empty for plain texts

    def halves(self) -> tuple["Examples", "Examples"]:
        """Split into a half to choose by and one to check by, at random but always alike."""
        order = np.random.RandomState(SEED).permutation(len(self.texts))
        return self._pick(order[::2].tolist()), self._pick(order[1::2].tolist())

    def _pick(self, chosen: list[int]) -> "Examples":
        expected = [self.expected[i] for i in chosen] if self.expected else []
        return Examples(self.measure, [self.texts[i] for i in chosen], expected)


def read_examples(path: Path) -> Examples:
    """Read a file of texts, labelled texts or scored pairs.

    Raises InvalidInput naming the line that is not like the first.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read as text: {error}") from error
    rows = [(number, line.split("\t")) for number, line in enumerate(lines, 1) if line.strip()]
    if len(rows) < FEWEST:
        raise InvalidInput(
            f"{path} has {len(rows)} examples, too few to measure on", hint=f"give {FEWEST} or more"
        )
    columns = len(rows[0][1])
    for number, fields in rows:
        if len(fields) != columns or columns not in MEASURES:
            raise InvalidInput(
                f"line {number} of {path} has {len(fields)} fields, the first has {columns}",
                hint="write text, text<TAB>label or text<TAB>text<TAB>score, the same on each line",
            )
    if columns == 3:
        scores = [_score(path, number, fields[2]) for number, fields in rows]
        return Examples("spearman", [(a, b) for _, (a, b, _) in rows], scores)
    labels = [fields[1] for _, fields in rows] if columns == 2 else []
    return Examples(MEASURES[columns], [(fields[0],) for _, fields in rows], labels)


def made_examples(tokenizer: bytes) -> Examples:
    """Make plain texts from a model's own vocabulary, the same every time."""
    library = Library.from_buffer(tokenizer)
    special = {token.content for token in library.get_added_tokens_decoder().values()}
    vocabulary = library.get_vocab(with_added_tokens=False)
    words = sorted(
        word.lstrip("\u2581\u0120").removesuffix("</w>")
        for word in vocabulary
        if word not in special and not word.startswith("##") and any(map(str.isalpha, word))
    )
    random = np.random.RandomState(SEED)
    texts = [
        (" ".join(words[i] for i in random.randint(0, len(words), random.randint(*WORDS))),)
        for _ in range(MADE_TEXTS)
    ]
    return Examples("cosine", texts, [])


def _score(path: Path, number: int, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InvalidInput(f"line {number} of {path}: {text!r} is no score") from None
