"""Every packing gives each tensor exactly its blocks, in few pages."""

import random
from collections.abc import Hashable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pageformer.dedup.classes import classes_of
from pageformer.dedup.optimal import pack_optimally
from pageformer.dedup.packing import METHODS, pack_pages, verify_packing
from pageformer.errors import InvalidInput, InvalidPacking

Instance = dict[Hashable, set[Hashable]]

# The two instances of netsDB's deduplication artifact, as the sizes of their classes, with its
# scripts' own counts: greedy-1 99 and 91, greedy-2 98 and 88, two-stage 98 and 88.
WORD2VEC = [
    ((0, 1, 2, 3, 4, 5), 450),
    ((0,), 50),
    ((1,), 50),
    ((2,), 50),
    ((3,), 50),
    ((4,), 50),
    ((5,), 50),
]
TEXT100 = [
    ((0, 1, 2, 3, 4), 408),
    ((0, 1, 2, 4), 49),
    ((0, 2, 3, 4), 1),
    ((0, 2, 4), 36),
    ((1, 2, 4), 2),
    ((2, 4), 9),
    ((0,), 15),
    ((1,), 50),
    ((2,), 4),
    ((3,), 100),
    ((4,), 4),
]


def instance(classes: list[tuple[tuple[int, ...], int]]) -> Instance:
    tensors: Instance = {}
    number = 0
    for owners, count in classes:
        for _ in range(count):
            for owner in owners:
                tensors.setdefault(owner, set()).add(number)
            number += 1
    return tensors


@pytest.mark.parametrize(
    ("classes", "method", "most"),
    [
        (WORD2VEC, "greedy-1", 99),
        (WORD2VEC, "greedy-2", 98),
        (WORD2VEC, "two-stage", 98),
        (WORD2VEC, "optimal", 98),
        (TEXT100, "greedy-1", 91),
        (TEXT100, "greedy-2", 88),
        (TEXT100, "two-stage", 88),
        (TEXT100, "optimal", 87),
    ],
)
def test_netsdb_instances_pack_no_worse_than_there(
    classes: list[tuple[tuple[int, ...], int]], method: str, most: int
) -> None:
    assert len(pack_pages(instance(classes), 8, method)) <= most


@pytest.mark.parametrize(("classes", "pages"), [(WORD2VEC, 98), (TEXT100, 87)])
def test_optimal_proves_the_known_optima(
    classes: list[tuple[tuple[int, ...], int]], pages: int
) -> None:
    packing = pack_optimally(classes_of(instance(classes)), 8, 60)
    assert len(packing.pages) == packing.bound == pages
    assert packing.proven


instances = st.dictionaries(
    st.one_of(st.integers(0, 5), st.text(max_size=2)),
    st.sets(st.one_of(st.integers(0, 12), st.binary(max_size=1), st.tuples(st.integers(0, 3)))),
    max_size=5,
)


@settings(deadline=None, max_examples=60)
@given(instances, st.integers(1, 9), st.sampled_from(list(METHODS)))
def test_any_instance_packs_exactly(tensors: Instance, capacity: int, method: str) -> None:
    pages = pack_pages(tensors, capacity, method, time_limit=5)
    verify_packing(tensors, capacity, pages)
    distinct = set().union(*tensors.values()) if tensors else set()
    assert set().union(*pages) == distinct
    assert len(pages) >= -(-len(distinct) // capacity)


@settings(deadline=None, max_examples=40)
@given(instances, st.integers(1, 6))
def test_optimal_is_never_beaten_and_never_below_its_bound(
    tensors: Instance, capacity: int
) -> None:
    best = pack_pages(tensors, capacity, "optimal", time_limit=5)
    packing = pack_optimally(classes_of(tensors), capacity, 5)
    assert len(best) >= packing.bound
    for method in ("greedy-1", "greedy-2", "two-stage"):
        assert len(best) <= len(pack_pages(tensors, capacity, method))


def test_optimal_puts_a_block_on_two_pages_where_that_saves_one() -> None:
    tensors = {"a": {0, 1, 2}, "b": {0, 3, 4}}
    pages = pack_pages(tensors, 3, "optimal")
    assert sorted(map(sorted, pages)) == [[0, 1, 2], [0, 3, 4]]


def test_optimal_shares_a_page_between_classes_that_overlap() -> None:
    """Pages {x, y} for tensors 1 and 2, {x, 3's own}, {y, 4's own}: an intersection nobody has."""
    own = {tensor: {f"{tensor}-{i}" for i in range(7)} for tensor in (3, 4)}
    tensors: Instance = {1: {"x", "y"}, 2: {"x", "y"}, 3: {"x", *own[3]}, 4: {"y", *own[4]}}
    assert len(pack_pages(tensors, 8, "optimal")) == 3


@pytest.mark.parametrize("method", METHODS)
def test_tensors_without_blocks_need_no_page(method: str) -> None:
    assert pack_pages({}, 8, method) == []
    assert pack_pages({"a": set(), "b": frozenset()}, 8, method) == []


@pytest.mark.parametrize("method", METHODS)
def test_a_page_of_one_block_holds_each_block_once(method: str) -> None:
    pages = pack_pages({"a": {1, 2}, "b": {2, 3}}, 1, method)
    assert sorted(map(sorted, pages)) == [[1], [2], [3]]


@pytest.mark.parametrize("method", METHODS)
def test_equal_tensors_share_all_pages(method: str) -> None:
    assert len(pack_pages({"a": set(range(9)), "b": set(range(9))}, 8, method)) == 2


def test_a_huge_class_is_counted_not_enumerated() -> None:
    tensors = {"a": set(range(50_000)), "b": set(range(49_990))}
    assert len(pack_pages(tensors, 16, "optimal", time_limit=20)) == 3126


def test_ids_that_do_not_compare_pack_the_same_every_time() -> None:
    tensors: Instance = {"a": {1, "one", (1,), None, b"1"}, "b": {1, None}}
    assert pack_pages(tensors, 2) == pack_pages(dict(tensors), 2)


def versions_of_a_family(seed: int) -> Instance:
    """Thirty versions of 1,000 blocks: each replaces its last blocks, some replace nearly all."""
    choose = random.Random(seed)
    versions: Instance = {}
    fresh = 1000
    for version in range(30):
        changed = choose.choice([0, 17, 50, 110, 300, 300, 520, 900])
        blocks = [*range(1000 - changed), *range(fresh, fresh + changed)]
        versions[version] = set(blocks)
        fresh += changed
    return versions


@pytest.mark.parametrize("seed", range(3))
def test_two_stage_packs_thirty_versions_within_two_percent_of_the_bound(seed: int) -> None:
    versions = versions_of_a_family(seed)
    bound = pack_optimally(classes_of(versions), 16, 30).bound
    assert len(pack_pages(versions, 16, "two-stage")) <= 1.02 * bound


def test_a_programme_too_large_to_solve_ends_in_time_with_a_packing() -> None:
    choose = random.Random(5)
    tensors = {t: set(choose.sample(range(300), 150)) for t in range(20)}
    verify_packing(tensors, 4, pack_pages(tensors, 4, "optimal", time_limit=1))


@pytest.mark.parametrize("capacity", [0, -1, 2.0, True, None])
def test_a_capacity_that_is_no_count_is_refused(capacity: int) -> None:
    with pytest.raises(InvalidInput, match="the capacity of a page is"):
        pack_pages({"a": {1}}, capacity)


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidInput, match="no packing method 'best'") as caught:
        pack_pages({"a": {1}}, 8, "best")
    assert caught.value.hint == "methods: greedy-1, greedy-2, two-stage, optimal"


def test_blocks_that_are_no_set_are_refused() -> None:
    with pytest.raises(InvalidInput, match="tensor 'a' are no set of block ids"):
        pack_pages({"a": [[1]]}, 8)  # type: ignore[list-item]
    with pytest.raises(InvalidInput, match="are one string"):
        pack_pages({"a": "abc"}, 8)


@pytest.mark.parametrize(
    ("pages", "said"),
    [
        ([{1, 2}], "1 of the 3 blocks of tensor 'a' are on no page"),
        ([{1, 2, 3}, {3}], "1 of the 2 blocks of tensor 'b'"),
        ([{1, 2, 3, 4}], "page 0 has 4 blocks"),
        ([set()], "page 0 has 0 blocks"),
        ([{1, 9}], "page 0 holds blocks that no one tensor has all of"),
    ],
)
def test_a_wrong_packing_is_told(pages: list[set[int]], said: str) -> None:
    with pytest.raises(InvalidPacking, match=said):
        verify_packing({"a": {1, 2, 3}, "b": {2, 3}}, 3, [frozenset(page) for page in pages])
