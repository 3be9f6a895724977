"""Decide how a version shares blocks that are alike, within a bound on what that costs it.

Only the version that is being loaded is ever approximated. Its blocks that equal stored ones are
shared anyway; here the others become a stored block, or a difference to one, or stay whole.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from time import monotonic
from typing import Any, Literal, cast

import numpy as np
from psycopg import RawCursor

from pageformer.dedup.approximate import accept, in_paper_order
from pageformer.dedup.delta_pages import difference_name
from pageformer.dedup.widths import Block, Choice, bisect
from pageformer.errors import InvalidInput, NotBuilt
from pageformer.loader.checkpoint import Checkpoint
from pageformer.loader.compensation import Compensation
from pageformer.loader.draft import Draft, row_weights
from pageformer.loader.evaluation import Evaluation, Loss, Seen
from pageformer.loader.examples import Examples, Measure, made_examples, read_examples
from pageformer.loader.head import read_head
from pageformer.loader.manifest import Manifest
from pageformer.loader.similar import Search, Similar
from pageformer.udfs.blocks import Array
from pageformer.udfs.delta import apply, pack_record, unpack_record
from pageformer.udfs.tokenizer import Tokenizer

Rung = Literal["approximate", "delta"]
ALIKE = 0.2  # of its length: how far a block may be from the stored one that replaces it
RELATED = 0.7  # how far from one that it is a difference to
STEP_BACK = 1.5  # of the rate, where the bound breaks on the half that checks
STEPS_BACK = 12

StoredAmong = Callable[[Sequence[bytes]], Iterable[bytes]]
Names = Mapping[bytes, bytes]


@dataclass(frozen=True)
class Sharing:
    """Say how a version may be approximated: the rung, the bound, and what measures it."""

    rung: Rung
    max_drop: float = 0.005
    evaluate: Path | None = None

    def __post_init__(self) -> None:
        if self.rung not in ("approximate", "delta"):
            raise InvalidInput(
                f"there is no rung {self.rung!r}", hint="rungs: exact, approximate, delta"
            )
        if not 0 <= self.max_drop <= 1:
            raise InvalidInput(
                f"the bound on the drop is {self.max_drop}", hint="give a part of 1, such as 0.005"
            )


def sharing(rung: str, max_drop: float, evaluate: Path | None) -> Sharing | None:
    """Read what `--dedup` and its kin say; None for `exact`, which measures nothing.

    Raises InvalidInput for a rung, a bound or a file that is not one.
    """
    return None if rung == "exact" else Sharing(cast(Rung, rung), max_drop, evaluate)


@dataclass(frozen=True)
class Outcome:
    """Say how many blocks ended how, and what that cost."""

    sharing: Sharing
    original_hash: bytes
    measure: Measure
    loss: Loss
    equal: int
    replaced: int
    delta: int
    kept: int
    seconds: float

    def __str__(self) -> str:
        loss = self.loss
        return (
            f"{self.measure} {loss.after:.4f}, was {loss.before:.4f}: {loss.dropped:.4f} lower "
            f"({loss.low:.4f} to {loss.high:.4f}) on {loss.inputs:,} inputs that only checked the "
            f"choice; blocks: {self.equal:,} equal to stored ones, {self.replaced:,} replaced, "
            f"{self.delta:,} as differences, {self.kept:,} whole; {self.seconds:.0f} s"
        )


@dataclass(frozen=True)
class Plan:
    """Hold a version as it will be stored."""

    manifest: Manifest
    records: Mapping[bytes, tuple[bytes, bytes]]  # name of a difference -> its base and its record
    bases: frozenset[bytes]  # stored blocks that it stands on
    outcome: Outcome


@dataclass(frozen=True)
class _Solution:
    """Hold what becomes of the blocks that are not stored; those left out stay whole."""

    replaced: Mapping[bytes, Array]  # name -> what it will be read as
    names: Names  # name -> name under which it will be stored
    records: Mapping[bytes, tuple[bytes, bytes]]


NOTHING = _Solution({}, {}, {})


def plan(
    cursor: RawCursor[tuple[Any, ...]],
    checkpoint: Checkpoint,
    manifest: Manifest,
    source: str | PathLike[str],
    sharing: Sharing,
    stored_among: StoredAmong,
) -> Plan:
    """Choose how each block is stored.

    Raises NotBuilt for a model without a tokenizer, InvalidInput for examples that cannot be used.
    """
    started = monotonic()
    choosing, checking, measure = evaluations(checkpoint, source, sharing)
    draft = Draft(checkpoint, manifest)
    names = list(draft.places)
    stored = set(stored_among(names))
    blocks = {name: draft.block(name) for name in names if name not in stored}
    first_places = {name: draft.places[name][0] for name in blocks}
    similar = Search(cursor, draft.side).nearest(blocks, first_places)
    seen = choosing.begin(draft.tensors({}))
    checking.begin(draft.tensors({}))
    within = _Bound(draft, choosing, sharing.max_drop)
    if sharing.rung == "delta":
        solutions = _as_differences(draft, blocks, similar, seen, within)
    else:
        solutions = _as_stored(draft, blocks, similar, within)
    for solution in solutions:
        loss = checking.loss(draft.tensors(solution.replaced))
        if loss.dropped <= sharing.max_drop and within.holds(solution):
            break
    deltas = len(solution.records)
    outcome = Outcome(
        sharing,
        manifest.hash,
        measure,
        loss,
        equal=len(stored),
        replaced=len(solution.names) - deltas,
        delta=deltas,
        kept=len(blocks) - len(solution.names),
        seconds=monotonic() - started,
    )
    bases = {similar[name].name for name in solution.names}
    return Plan(draft.renamed(solution.names), solution.records, frozenset(bases), outcome)


class _Bound:
    """Ask whether the bound holds on the half of the examples that choices are made by."""

    def __init__(self, draft: Draft, evaluation: Evaluation, max_drop: float) -> None:
        self._draft = draft
        self._evaluation = evaluation
        self._max_drop = max_drop

    def holds(self, solution: _Solution) -> bool:
        if not solution.replaced:
            return True
        tensors = self._draft.tensors(solution.replaced)
        return self._evaluation.dropped(tensors) <= self._max_drop


def _as_stored(
    draft: Draft, blocks: Mapping[bytes, Array], similar: Mapping[bytes, Similar], within: _Bound
) -> Iterable[_Solution]:
    """Yield solutions in which blocks become stored ones; ever fewer, in the end none."""
    alike = [name for name in blocks if name in similar and similar[name].distance <= ALIKE]
    magnitudes = {name: float(np.abs(blocks[name]).mean()) for name in alike}
    order = in_paper_order(alike, draft.tensor_size, magnitudes.__getitem__)

    def solution(chosen: Sequence[bytes]) -> _Solution:
        replaced = {name: similar[name].block for name in chosen}
        return _Solution(replaced, {name: similar[name].name for name in chosen}, {})

    accepted = accept(order, lambda chosen: within.holds(solution(chosen)))
    while accepted:
        yield solution(accepted)
        accepted = accepted[: len(accepted) // 2]
    yield NOTHING


def _as_differences(
    draft: Draft,
    blocks: Mapping[bytes, Array],
    similar: Mapping[bytes, Similar],
    seen: Seen,
    within: _Bound,
) -> Iterable[_Solution]:
    """Yield solutions in which blocks become differences; ever wider ones, in the end none."""
    weights = row_weights(draft, blocks, similar, seen.usage)
    related = {
        name: Block(
            blocks[name],
            found.block,
            draft.weights_of(name, weights),
            draft.block_bytes(name),
        )
        for name, found in similar.items()
        if found.distance <= RELATED
    }
    compensation = Compensation(draft, blocks, similar, seen.grams)

    def solution(rate: float) -> _Solution:
        chosen = {name: block.choose(rate) for name, block in related.items()}
        return _differences(draft.side, compensation.of(chosen), similar)

    rate = bisect(solution, within.holds) if related else None
    for _ in range(STEPS_BACK):
        if rate is None:
            break
        yield solution(rate)
        rate /= STEP_BACK
    yield NOTHING


def _differences(
    side: int, chosen: Mapping[bytes, Choice], similar: Mapping[bytes, Similar]
) -> _Solution:
    """Write records, and read them again as a reader will."""
    replaced: dict[bytes, Array] = {}
    names: dict[bytes, bytes] = {}
    records: dict[bytes, tuple[bytes, bytes]] = {}
    for name, choice in chosen.items():
        if choice.whole:
            continue
        base = similar[name]
        replaced[name], names[name] = base.block, base.name
        if choice.delta is not None:
            record = pack_record(choice.delta)
            replaced[name] = apply(base.block, unpack_record(record, side, side))
            names[name] = difference_name(side, base.name, record)
            records[names[name]] = base.name, record
    return _Solution(replaced, names, records)


def evaluations(
    checkpoint: Checkpoint, source: str | PathLike[str], sharing: Sharing
) -> tuple[Evaluation, Evaluation, Measure]:
    """Make what chooses, and what checks and reports, on two halves of the examples."""
    data = checkpoint.tokenizer
    if data is None:
        raise NotBuilt(
            "a model that takes tensors cannot be measured on texts",
            hint="load it with --dedup exact",
        )
    examples = _examples(data, sharing)
    head = read_head(source) if examples.measure == "accuracy" else None
    config = checkpoint.config
    tokenizer = Tokenizer(lambda: data, config.max_length)
    first, second = (Evaluation(config, tokenizer, head, half) for half in examples.halves())
    return first, second, examples.measure


def _examples(tokenizer: bytes, sharing: Sharing) -> Examples:
    if sharing.evaluate is None:
        return made_examples(tokenizer)
    return read_examples(sharing.evaluate)
