"""The thread that publishes snapshots while the server runs: at the start, then as often as it is told, and when asked.

A snapshot is made only when the warehouse holds something else than the one before.
"""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import duckdb
import structlog

from receiver.copies import snapshot
from receiver.copies.snapshot import Mark, Snapshot, SnapshotError
from receiver.server.writer import Writer

log = structlog.get_logger("receiver.server.publisher")


class Publisher:
    """Publishes the warehouse of `writer` to `target` while it runs, every `minutes`; None: only when asked."""

    def __init__(self, writer: Writer, target: Path, minutes: int | None) -> None:
        self.target = target
        self._writer = writer
        self._minutes = minutes
        self._last: Snapshot | None = None
        self._one_at_once = threading.Lock()
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="publisher")

    def __enter__(self) -> Self:
        if left := snapshot.remove_unfinished(self.target):
            log.warning("removed", unfinished_snapshots=left)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._wake.set()
        self._thread.join()

    def publish(self) -> Snapshot:
        """A snapshot of what the warehouse holds now: the last one when that is still it. Raises SnapshotError."""
        with self._one_at_once:
            if self._last is None or self._read_mark() != self._last.holds or not self.target.exists():
                self._last = snapshot.publish(self._writer.store.places.warehouse, self.target, self._held())
                log.info("published", events=self._last.holds.events, bytes=self._last.bytes)
            return self._last

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """No snapshot is made until the block ends; then the next one is due, for the last may be gone."""
        with self._one_at_once:
            self._last = None
            yield
        self._wake.set()

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        """Nobody writes meanwhile, and what is written is sound."""
        with self._writer.held() as store:
            if store is None or not store.is_sound or self._stopping.is_set():
                raise SnapshotError("the warehouse cannot be copied now")
            yield

    def _read_mark(self) -> Mark:
        try:
            with self._writer.store.reader() as con:
                return snapshot.read_mark(con)
        except duckdb.Error as error:
            raise SnapshotError(f"the warehouse cannot be read now: {type(error).__name__}") from error

    def _run(self) -> None:
        if self._minutes is None:
            return
        while not self._stopping.is_set():
            self._publish_if_changed()
            self._wake.wait(self._minutes * 60)
            self._wake.clear()

    def _publish_if_changed(self) -> None:
        """What time asks for; whatever fails is tried again the next time."""
        try:
            if self._read_mark() != (self._last.holds if self._last else Mark()):
                self.publish()
        except SnapshotError as error:
            log.warning("not published", reason=str(error))
        except Exception as error:
            log.warning("not published", reason=type(error).__name__)
