"""The warehouse, the journal and the quarantine, open together for one writer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Self
from uuid import UUID

import duckdb

from penpot_telemetry.errors import TelemetryError
from receiver.storage.dead_letters import Quarantine
from receiver.storage.journal import Journal
from receiver.storage.paths import DataPaths
from receiver.storage.warehouse import Warehouse

if TYPE_CHECKING:
    import polars as pl


TICK = timedelta(microseconds=1)


AHEAD = timedelta(hours=1)
"""How far the last receipt may lie ahead of the clock. Receipts only grow, so a clock that was wrong once would stamp
everything after."""


class UnavailableError(TelemetryError):
    """The body could not be made durable now; the same body may be sent again later."""


class ClockError(UnavailableError):
    """The last receipt lies too far ahead of the clock."""


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """What a start or a rebuild came upon."""

    replayed: int = 0
    torn_bytes: int = 0
    repeated_records: int = 0
    damaged_bytes: int = 0
    unloadable: int = 0
    finished_erasures: int = 0
    lost_bytes: int = 0
    known_records: int = 0
    kept_warehouse: Path | None = None


@dataclass(slots=True)
class Store:
    """The warehouse, its landfill and its quarantine, open for one writer.

    `pages` has the marks of the last page of the instances that were heard latest: what the next page of a sender
    without batch ids is compared with, without reading it back.
    """

    places: DataPaths
    warehouse: Warehouse
    landfill: Journal
    quarantine: Quarantine
    found: RecoveryReport
    is_sound: bool = True
    pages: dict[UUID, pl.Series] = field(default_factory=dict)
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def next_instant(self) -> datetime:
        """The time of the next receipt: receipts only grow, and no two have the same."""
        return max(self.clock(), self.warehouse.numbers.received_at + TICK)

    def reader(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """A connection of its own for one reading thread, of the warehouse that is open now."""
        return self.warehouse.reader()

    def close(self) -> None:
        """Everything into the files, and let go of them."""
        self.landfill.close()
        self.warehouse.close()


def require_clock(store: Store) -> None:
    """Refuse to stamp what comes with a time that nobody can believe. Raises ClockError."""
    last, now = store.warehouse.numbers.received_at, store.clock()
    if last > now + AHEAD:
        raise ClockError(
            f"the last receipt is of {last:%Y-%m-%d %H:%M} UTC and the clock says {now:%Y-%m-%d %H:%M}: set the clock, "
            "or stop the server and run `python -m receiver mend-clock`"
        )
