"""Answers for many readers: each is made once for all who wait for it, and kept while the warehouse stays as it is.

A busy warehouse is never the same twice, so an answer also serves on for PATIENCE times as long as it took to make, a
minute at most: however many readers there are, a question takes up a sixtieth of one thread. After that the next reader
still gets it at once, and has a new one made for those who follow. All of this ends when something was taken away from
the warehouse: what is erased is in no answer.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

import duckdb
import polars as pl

from penpot_telemetry.wire.limits import MIB
from receiver.questions.cards import Card
from receiver.questions.run import Asked, answer

T = TypeVar("T")

PATIENCE = 60
LONGEST_SECONDS = 60.0
STALE_SECONDS = 600.0
BUDGET = 64 * MIB
MOST_UNDER_WAY = 64


class Mark(NamedTuple):
    """What of a warehouse changes whenever an answer can: rows come, rows are added up, rows are erased."""

    deliveries: int
    batches: int
    quarantined: int
    days: int
    last_batch: int
    erased_at: str | None = None

    def has_all_of(self, other: "Mark") -> bool:
        """Whether nothing was taken away since."""
        return all(now >= before for now, before in zip(self[:-1], other[:-1], strict=True))


MARK = """
SELECT (SELECT count(*) FROM deliveries), (SELECT count(*) FROM batches), (SELECT count(*) FROM quarantine),
       (SELECT count(*) FROM instance_days), (SELECT coalesce(max(batch_no), 0) FROM instance_days),
       (SELECT value FROM meta WHERE key = 'erased-at')
"""


class CrowdedError(Exception):
    """Too many different answers are being made at once."""


@dataclass(frozen=True, slots=True)
class Kept(Generic[T]):
    """An answer, the warehouse it is of, the instant when it was begun, and what it cost in seconds and bytes."""

    value: T
    mark: Mark
    began: float
    took: float
    size: int

    def is_good(self, mark: Mark) -> bool:
        """Whether there is no need for another one."""
        age = time.monotonic() - self.began
        return self.mark == mark or (mark.has_all_of(self.mark) and age < min(PATIENCE * self.took, LONGEST_SECONDS))

    def serves(self, mark: Mark) -> bool:
        """Whether a reader may have it while another one is made."""
        return mark.has_all_of(self.mark) and time.monotonic() - self.began < STALE_SECONDS


class Answers:
    """Asks through `reader`, which gives a connection of its own to each thread; keeps BUDGET bytes at most."""

    def __init__(self, reader: Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]]) -> None:
        self._reader = reader
        self._threads = ThreadPoolExecutor(2, "ask")
        self._kept: OrderedDict[Hashable, Kept[Any]] = OrderedDict()
        self._under_way: dict[Hashable, asyncio.Task[Any]] = {}
        self._bytes = 0

    def close(self) -> None:
        """Wait for what runs."""
        self._threads.shutdown(cancel_futures=True)

    async def mark(self) -> Mark:
        """Which warehouse this is, of all that it has been."""
        (row,) = await self._read(lambda con: con.execute(MARK).fetchall())
        return Mark(*row)

    async def frame(self, mark: Mark, card: Card, asked: Asked) -> pl.DataFrame:
        """The answer to a question."""
        return await self.rows(mark, (card.name, asked), partial(answer, question=card.name, asked=asked))

    async def rows(self, mark: Mark, key: Hashable, read: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        """Anything else that is read from the warehouse."""
        return await self.get(mark, ("rows", key), lambda: self._read(read))

    async def get(self, mark: Mark, key: Hashable, make: Callable[[], Awaitable[T]]) -> T:
        """What was kept under a key, or what `make` gives; it is called once, however many ask meanwhile."""
        key = (mark.erased_at, key)  # neither kept nor under way is what was begun before an erasure
        kept: Kept[T] | None = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
            if kept.is_good(mark):
                return kept.value
        task = self._begin(mark, key, make)
        if kept is not None and kept.serves(mark):
            return kept.value
        made: T = await asyncio.shield(task)  # a reader who leaves takes nothing from the others
        return made

    def _begin(self, mark: Mark, key: Hashable, make: Callable[[], Awaitable[T]]) -> asyncio.Task[T]:
        task = self._under_way.get(key)
        if task is None:
            if len(self._under_way) >= MOST_UNDER_WAY:
                raise CrowdedError
            task = self._under_way[key] = asyncio.create_task(self._make(mark, key, make))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # seen, if nobody waits any more
        return task

    async def _make(self, mark: Mark, key: Hashable, make: Callable[[], Awaitable[T]]) -> T:
        try:
            began = time.monotonic()
            value = await make()
            self._keep(key, Kept(value, mark, began, time.monotonic() - began, size_of(value)))
            return value
        finally:
            del self._under_way[key]

    def _keep(self, key: Hashable, kept: Kept[Any]) -> None:
        before = self._kept.pop(key, None)
        self._bytes += kept.size - (before.size if before else 0)
        self._kept[key] = kept
        while self._bytes > BUDGET:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.size

    async def _read(self, question: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        def ask() -> T:
            with self._reader() as con:
                return question(con)

        return await asyncio.get_running_loop().run_in_executor(self._threads, ask)


def size_of(value: object) -> int:
    """About how many bytes are kept; what is neither a frame nor bytes is small."""
    if isinstance(value, pl.DataFrame):
        return int(value.estimated_size())
    return len(value) if isinstance(value, bytes) else 1024
