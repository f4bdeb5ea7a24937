"""What all bodies at work may hold together, and how many of one sender are decoded at once.

Bytes are set aside before a body is decoded, as many as it may come to need, and what it did not need is given back
when it is known. Whoever waits is served in turn.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from uuid import UUID
from weakref import WeakValueDictionary

REMEMBERED = 10_000
"""So many senders are known at once; the one that was heard first is forgotten first."""


class Share:
    """A part of a budget; `shrink` gives back what is not needed."""

    def __init__(self, budget: "Budget", size: int) -> None:
        self.size = size
        self._budget = budget

    def shrink(self, size: int) -> None:
        """Keep only so many bytes, or as many as there are."""
        freed = self.size - min(self.size, size)
        self.size -= freed
        self._budget.give_back(freed)


class Budget:
    """A number of bytes, shared out in turn. Of one event loop."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()

    @asynccontextmanager
    async def share(self, size: int) -> AsyncIterator[Share]:
        """Bytes for as long as the block lasts. One that wants more than there is waits until it is alone."""
        async with self._turn:
            while self.used and self.used + size > self.total:
                self._freed.clear()
                await self._freed.wait()
            self.used += size
        share = Share(self, size)
        try:
            yield share
        finally:
            share.shrink(0)

    def give_back(self, size: int) -> None:
        """For `Share` alone."""
        self.used -= size
        self._freed.set()


class Lanes:
    """One body of a sender is decoded at a time, and one of all senders that nothing was taken from yet.

    So neither one sender nor any number of invented ones hold all decoders. `known`: those heard before the start.
    """

    def __init__(self, known: Iterable[UUID] = ()) -> None:
        self._known: dict[UUID, None] = dict.fromkeys(known)
        self._lanes: WeakValueDictionary[UUID | None, asyncio.Lock] = WeakValueDictionary()

    def lane_of(self, instance_id: UUID | None) -> tuple[asyncio.Lock, bool]:
        """The lock to hold while a body of this sender is decoded, and whether the sender is known."""
        is_known = instance_id in self._known
        key = instance_id if is_known else None
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = asyncio.Lock()
        return lane, is_known

    def remember(self, instance_id: UUID) -> None:
        """A batch of this sender was taken."""
        self._known[instance_id] = None
        while len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]
