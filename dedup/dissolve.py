"""Save pages that are not full: their blocks move to free slots of pages that serve their tensors.

A block of tensors {a, b, c} may leave its page when others have room for it that serve {a, b} and
{c}: it then stands twice, and costs no page.
"""

from pageformer.dedup.classes import Block, Classes, Owners, Page, Tensor


class _Draft:
    """Hold a packing while pages are taken from it."""

    def __init__(self, pages: list[Page], classes: Classes, capacity: int) -> None:
        self.owners = {block: using for using, blocks in classes.items() for block in blocks}
        self.capacity = capacity
        self.pages: dict[int, set[Block]] = {n: set(page) for n, page in enumerate(pages)}
        self.serves = {n: self._common(page) for n, page in self.pages.items()}

    def _common(self, blocks: set[Block]) -> Owners:
        return frozenset.intersection(*(self.owners[block] for block in blocks))

    def without(self, number: int) -> dict[int, set[Block]] | None:
        """Find other pages for all that only page `number` offers; None: there is no room."""
        added: dict[int, set[Block]] = {}
        for block in sorted(self.pages[number], key=lambda block: -len(self.owners[block])):
            others = {n: page for n, page in self.pages.items() if n != number}
            open_for = set(self.serves[number])
            for n, page in others.items():
                if block in page:
                    open_for -= self.serves[n]
            if not self._place(block, open_for, others, added):
                return None
        return added

    def _place(
        self,
        block: Block,
        wanting: set[Tensor],
        others: dict[int, set[Block]],
        added: dict[int, set[Block]],
    ) -> bool:
        """Choose pages with a free slot that together serve all tensors that want the block."""
        using = self.owners[block]
        rooms = {
            n: self.serves[n]
            for n, page in others.items()
            if self.serves[n] <= using and len(page) + len(added.get(n, ())) < self.capacity
        }
        while wanting:
            best = max(rooms, key=lambda n: len(rooms[n] & wanting), default=None)
            if best is None or not rooms[best] & wanting:
                return False
            added.setdefault(best, set()).add(block)
            wanting -= rooms.pop(best)
        return True


def dissolve(pages: list[Page], classes: Classes, capacity: int) -> list[Page]:
    """Take away every page that the others can do without, smallest first.  # Zhou et al., 5.3

    pages: a packing of the blocks of `classes`; what is returned is one as well.
    """
    if not pages:
        return []
    draft = _Draft(pages, classes, capacity)
    for number in sorted(draft.pages, key=lambda n: len(draft.pages[n])):
        if len(draft.pages[number]) == capacity:
            continue
        added = draft.without(number)
        if added is not None:
            del draft.pages[number], draft.serves[number]
            for n, blocks in added.items():
                draft.pages[n] |= blocks
    return [frozenset(page) for page in draft.pages.values()]
