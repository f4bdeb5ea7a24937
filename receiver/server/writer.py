"""The one thread that writes: jobs in by a bounded queue, receipts out by futures, several jobs to a transaction.

What waits while a transaction runs goes into the next one together, so many small batches cost few syncs; a group ends
at TOGETHER jobs, or when its rows come to `limits.TRANSACTION`. The thread also does what time asks for, between jobs.
"""

import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Self

import duckdb
import structlog

from penpot_telemetry.wire.limits import TRANSACTION
from receiver.intake.commit import receive
from receiver.intake.decide import QuarantineFullError
from receiver.intake.prepare import Job
from receiver.lifecycle.retention import tidy
from receiver.lifecycle.startup import make_sound
from receiver.storage.records import Receipt
from receiver.storage.store import Store, UnavailableError

TOGETHER = 16
ROLL_UP_EVENTS, ROLL_UP_SECONDS = 200_000, 2.0
"""Events and seconds that the rollups may trail by: many batches cost little more to add up than one."""

TIDY_SECONDS = 3600.0
RECOVER_SECONDS = 5.0
HOLD_SECONDS = 60.0

log = structlog.get_logger("receiver.server.writer")


@dataclass(slots=True)
class Waiting:
    """A job in the queue, and where its receipt will appear."""

    job: Job
    receipt: Future[Receipt] = field(default_factory=Future)


@dataclass(slots=True)
class Pause:
    """A stop between two transactions: the writer says when it stands, and waits for the word to go on."""

    stands: threading.Event = field(default_factory=threading.Event)
    goes_on: threading.Event = field(default_factory=threading.Event)


class Writer:
    """Owns the store while it runs. `on_commit` is told the seconds and the number of jobs of each transaction.

    `behind` says how many events the rollups lack.
    """

    def __init__(self, store: Store, on_commit: Callable[[float, int], None] = lambda *_: None) -> None:
        self.store = store
        self._on_commit = on_commit
        self._queue: queue.SimpleQueue[Waiting | Pause | None] = queue.SimpleQueue()
        self._pause: Pause | None = None
        self._thread = threading.Thread(target=self._run, name="writer")
        self.behind = 0
        self._roll_up_at = math.inf

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._queue.put(None)
        self._thread.join()

    @property
    def is_running(self) -> bool:
        """Whether jobs are being taken."""
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Jobs in the queue."""
        return self._queue.qsize()

    def submit(self, job: Job) -> Future[Receipt]:
        """Queue a job; the caller bounds how many it has under way. The future may raise UnavailableError."""
        waiting = Waiting(job)
        self._queue.put(waiting)
        return waiting.receipt

    @contextmanager
    def held(self) -> Iterator[Store | None]:
        """The store between two transactions, untouched until the block ends; None when it does not come to that."""
        pause = Pause()
        self._queue.put(pause)
        deadline = time.monotonic() + HOLD_SECONDS
        try:
            while not pause.stands.wait(0.05) and self.is_running and time.monotonic() < deadline:
                pass
            yield self.store if pause.stands.is_set() else None
        finally:
            pause.goes_on.set()

    def _run(self) -> None:
        tidied = -TIDY_SECONDS
        while True:
            if time.monotonic() - tidied >= TIDY_SECONDS:
                self._tidy()
                tidied = time.monotonic()
            try:
                first = self._queue.get(timeout=self._patience())
            except queue.Empty:
                self._recover()
                if time.monotonic() >= self._roll_up_at:
                    self._roll_up()
                continue
            if first is None:
                return
            if isinstance(first, Pause):
                self._stand(first)
                continue
            group, size = [first], first.job.size
            while len(group) < TOGETHER and size < TRANSACTION and (more := self._next()) is not None:
                group.append(more)
                size += more.job.size
            self._write(group)
            if self.behind >= ROLL_UP_EVENTS or time.monotonic() >= self._roll_up_at:
                self._roll_up()
            if self._pause is not None:
                self._stand(self._pause)
                self._pause = None

    def _patience(self) -> float:
        """Seconds until there is something to do though nobody comes."""
        until = TIDY_SECONDS if self.store.is_sound else RECOVER_SECONDS
        return max(0.0, min(until, self._roll_up_at - time.monotonic()))

    def _stand(self, pause: Pause) -> None:
        pause.stands.set()
        pause.goes_on.wait()

    def _next(self) -> Waiting | None:
        """The job that waits already, if one is next; a pause waits for the end of the group, the sign to stop at the
        end of the queue.
        """
        if self._pause is not None:
            return None
        try:
            waiting = self._queue.get_nowait()
        except queue.Empty:
            return None
        if isinstance(waiting, Pause):
            self._pause = waiting
            return None
        if waiting is None:
            self._queue.put(None)
        return waiting

    def _write(self, group: list[Waiting]) -> None:
        # A request that went away while it waited cancelled its receipt; from here on it can no longer do so.
        group = [waiting for waiting in group if waiting.receipt.set_running_or_notify_cancel()]
        while group and (full := self._write_running(group)) is not None:
            group = [waiting for waiting in group if waiting is not full]

    def _write_running(self, group: list[Waiting]) -> Waiting | None:
        """Answer a group; or nobody but the one that is returned, for which the quarantine has no room."""
        started = time.perf_counter()
        try:
            receipts = receive(self.store, [waiting.job for waiting in group])
        except QuarantineFullError as error:
            full = next(waiting for waiting in group if waiting.job is error.job)
            full.receipt.set_exception(error)
            return full
        except UnavailableError as error:
            for waiting in group:
                waiting.receipt.set_exception(error)
            log.warning("unavailable", reason=str(error), jobs=len(group))
            return None
        except BaseException as error:
            self.store.is_sound = False
            for waiting in group:
                waiting.receipt.set_exception(UnavailableError(f"the writer stopped at {type(error).__name__}"))
            log.error("failed", error=type(error).__name__, jobs=len(group))
            return None
        self._on_commit(time.perf_counter() - started, len(group))
        self.behind += sum(receipt.events for receipt in receipts if receipt.status == "accepted")
        if self.behind:
            self._roll_up_at = min(self._roll_up_at, time.monotonic() + ROLL_UP_SECONDS)
        for waiting, receipt in zip(group, receipts, strict=True):
            waiting.receipt.set_result(receipt)
        return None

    def _roll_up(self) -> None:
        """What the questions read is added up after the answers, so that no sender waits for it."""
        try:
            self.store.warehouse.roll_up()
            self.behind, self._roll_up_at = 0, math.inf
        except duckdb.Error as error:  # what is wrong with the disk the next body finds out
            self._roll_up_at = time.monotonic() + RECOVER_SECONDS
            log.warning("not added up", error=type(error).__name__)

    def _recover(self) -> None:
        """Find out what is true without waiting for a body: who asks `/readyz` first would wait for ever."""
        if not self.store.is_sound:
            with suppress(UnavailableError):
                make_sound(self.store)
                log.info("recovered", replayed=self.store.found.replayed)

    def _tidy(self) -> None:
        try:
            gone = tidy(self.store)
            if any(gone):
                log.info("removed", **gone._asdict())
        except Exception as error:
            log.warning("not tidied", error=type(error).__name__)
