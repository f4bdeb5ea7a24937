"""Honest senders beside the abuse, and the account of what they were told against what is there.

A sender puts batches of known size under ids of their own, one after the other, and notes each answer. Nothing is sent
again while the abuse lasts; afterwards everything that was not taken is, and then every batch must be there once.
"""

import http.client
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
from click.testing import CliRunner

from penpot_telemetry.wire.batch import encode_events
from penpot_telemetry.wire.payload import EventsBatch, build_events, digest_events
from receiver.cli.main import main
from tests.integration.receiving import HEADERS, Running, ask, rows, running

HONEST = UUID("900d900d-900d-4900-8900-900d900d900d")
"""The instance of every honest batch."""

NOT_NOW = (408, 429, 503)
"""Answers that mean: not taken, send it again later."""

UNHURRIED = {"RECEIVER_INSTANCE_BATCHES_PER_MINUTE": "100000000"}
"""No rate for an instance: a few senders stand for very many here."""

SENDERS = 2
PAUSE = 0.01
PATIENCE = 60.0
"""How long an honest sender waits for an answer, and afterwards for what was not taken to be taken."""

COUNTED = """
SELECT b.batch_id, b.digest, b.event_count, (SELECT count(*) FROM events AS e WHERE e.batch_no = b.batch_no)
FROM batches AS b WHERE b.instance_id = ?
"""
OUTCOMES = "SELECT outcome, count(*) FROM deliveries GROUP BY outcome"


@dataclass(frozen=True, slots=True)
class Parcel:
    """One honest batch."""

    batch_id: UUID
    digest: str
    events: int
    body: bytes


def make_parcel(number: int, size: int) -> Parcel:
    """A batch of `size` events; `number` makes its profiles its own."""
    text = encode_events(rows(size, number * 1000))
    batch_id, digest = uuid4(), digest_events(text)
    sent = EventsBatch("2.18.0", HONEST, text, batch_id=batch_id, event_count=size, digest=digest)
    return Parcel(batch_id, digest, size, build_events(sent))


@dataclass(slots=True)
class Book:
    """What was sent, and what was answered. `seconds` are those of the batches that landed at the first try."""

    taken: list[Parcel] = field(default_factory=list)
    refused: list[Parcel] = field(default_factory=list)
    unanswered: list[Parcel] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    refusals: Counter[int] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _next: int = 0

    def number(self) -> int:
        """A number for a batch, once."""
        with self._lock:
            self._next += 1
            return self._next

    def note(self, parcel: Parcel, status: int | None, content: bytes, seconds: float) -> None:
        """The first answer to a batch."""
        with self._lock:
            if status is None:
                self.unanswered.append(parcel)
            elif status in NOT_NOW:
                self.refused.append(parcel)
                self.refusals[status] += 1
            elif status == 200:
                self.taken.append(parcel)
                self.seconds.append(seconds)
                self.check(parcel, content, "accepted")
            else:
                self.problems.append(f"an honest batch was answered {status}: {content[:200]!r}")

    def check(self, parcel: Parcel, content: bytes, *statuses: str) -> None:
        """A receipt against the batch it is for."""
        receipt: dict[str, Any] = msgspec.json.decode(content)
        found = (receipt["batch-id"], receipt["digest"], receipt["events"])
        if found != (str(parcel.batch_id), parcel.digest, parcel.events) or receipt["status"] not in statuses:
            self.problems.append(f"{parcel.events} events under {parcel.batch_id} were answered {receipt}")

    @property
    def sent(self) -> int:
        """Batches, each counted once."""
        return len(self.taken) + len(self.refused) + len(self.unanswered)

    @property
    def share(self) -> float:
        """The share of batches that landed at the first try."""
        return len(self.taken) / max(1, self.sent)

    def percentile(self, part: float) -> float:
        """Seconds within which this part of the batches that landed were answered."""
        found = sorted(self.seconds)
        return found[min(len(found) - 1, int(part * len(found)))] if found else 0.0


class Line:
    """One kept-open connection to the receiver, opened again whenever it was lost."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)

    def post(self, body: bytes) -> tuple[int | None, bytes]:
        """The status and the content of the answer; None when there was none."""
        try:
            self._connection.request("POST", "/telemetry", body, HEADERS)
            answer = self._connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return None, b""

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


@dataclass(slots=True)
class Ground:
    """A receiver that is abused, on a port that stays its own when it is started again.

    `answers` counts what the abuse was answered, by status and, for bodies that were read, by what became of them.
    """

    folder: Path
    environ: dict[str, str]
    receiver: Running
    stack: ExitStack
    book: Book = field(default_factory=Book)
    answers: Counter[str] = field(default_factory=Counter)
    seen: int = 0

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.receiver.url.rpartition(":")[2])

    @property
    def memory(self) -> int:
        """The peak of the process now there, or of one before it, in MiB."""
        if self.receiver.process.poll() is None:
            self.seen = max(self.seen, self.receiver.memory)
        return self.seen

    def restart(self) -> None:
        """The receiver once more, on the same files and the same port."""
        options = ("--port", str(self.port))
        self.receiver = self.stack.enter_context(running(self.folder, *options, **self.environ))

    def note(self, status: int | None, content: bytes, expected: str | None = "") -> None:
        """One answer to the abuse. `expected`: the reason the body must be put aside for; None: it must be taken."""
        word = "no answer" if status is None else str(status)
        if status == 200:
            receipt = msgspec.json.decode(content)
            reason = receipt.get("reason")
            word = f"quarantined {reason}" if reason else receipt["status"]
            if expected not in ("", reason):
                self.book.problems.append(f"{reason} where {expected} was due")
        self.answers[word] += 1


def send_honestly(ground: Ground, port: int, stop: threading.Event, size: int | None) -> None:
    """Batches, one after the other, until it is told to stop."""
    line = Line(port)
    while not stop.is_set():
        number = ground.book.number()
        parcel = make_parcel(number, size or 1 + number % 20)
        began = time.perf_counter()
        status, content = line.post(parcel.body)
        ground.book.note(parcel, status, content, time.perf_counter() - began)
        stop.wait(PAUSE if status == 200 else 10 * PAUSE)
    line.close()


@contextmanager
def honest_senders(ground: Ground, senders: int = SENDERS, size: int | None = None) -> Iterator[None]:
    """Some senders at work for as long as the block lasts."""
    stop = threading.Event()
    threads = [
        threading.Thread(target=send_honestly, args=(ground, ground.port, stop, size), name=f"sender-{n}")
        for n in range(senders)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(2 * PATIENCE)
        if any(thread.is_alive() for thread in threads):
            ground.book.problems.append("an honest sender still waits for an answer")


def deliver_rest(ground: Ground) -> None:
    """Everything that was not taken, again, until it is; and one batch that is new."""
    line, book = Line(ground.port), ground.book
    end = time.monotonic() + PATIENCE
    for parcel in [*book.refused, *book.unanswered, make_parcel(book.number(), 3)]:
        status, content = line.post(parcel.body)
        while status != 200 and time.monotonic() < end:
            time.sleep(0.1)
            status, content = line.post(parcel.body)
        if status != 200:
            book.problems.append(f"a batch is answered {status} when the abuse is over")
            break
        book.check(parcel, content, "accepted", "duplicate")
    line.close()


def compare(ground: Ground) -> None:
    """Every batch and every event against the file, once the receiver has let go of it."""
    book = ground.book
    found = ask(ground.folder, COUNTED.replace("?", f"'{HONEST}'"))
    expected = {p.batch_id: (p.digest, p.events, p.events) for p in (*book.taken, *book.refused, *book.unanswered)}
    there = {batch_id: tuple(rest) for batch_id, *rest in found}
    if len(there) != len(found):
        book.problems.append(f"{len(found) - len(there)} batches are there twice")
    missing = [parcel for parcel in book.taken if parcel.batch_id not in there]
    if missing:
        book.problems.append(f"{len(missing)} acknowledged batches are missing")
    wrong = [batch_id for batch_id, what in expected.items() if there.get(batch_id, what) != what]
    if wrong:
        book.problems.append(f"{len(wrong)} batches have another digest or number of events")
    if not book.problems and len(there) != len(expected) + 1:  # the new one at the end
        book.problems.append(f"{len(there)} batches are there of {len(expected) + 1}")
    checked = CliRunner().invoke(main, ["check", "--warehouse", str(ground.folder / "w.duckdb")])
    if checked.exit_code:
        book.problems.append(f"check: {checked.output}")


def compare_answers(ground: Ground) -> None:
    """Bodies that the answers speak of against those that were counted; an answer that got lost is no contradiction."""
    counted: Counter[str] = Counter(dict(ask(ground.folder, OUTCOMES)))
    put_aside = sum(n for word, n in ground.answers.items() if word.startswith("quarantined"))
    loaded = len(ground.book.taken) + ground.answers["accepted"]
    if counted["quarantined"] < put_aside or counted["loaded"] < loaded:
        ground.book.problems.append(f"{put_aside} quarantined and {loaded} loaded were answered: {dict(counted)}")
    everything_was_answered = not (ground.answers["no answer"] or ground.book.unanswered)
    if everything_was_answered and counted["quarantined"] != put_aside:
        ground.book.problems.append(f"{put_aside} quarantined were answered, {counted['quarantined']} counted")


@contextmanager
def abused(folder: Path, **environ: str) -> Iterator[Ground]:
    """A receiver to abuse; at the end of the block everything is compared, and what is wrong is in `book.problems`."""
    environ = UNHURRIED | environ
    with ExitStack() as stack:
        ground = Ground(folder, environ, stack.enter_context(running(folder, **environ)), stack)
        yield ground
        deliver_rest(ground)
        assert ground.memory
        code = ground.receiver.stop()
        if code:
            ground.book.problems.append(f"the receiver ended with {code}")
        compare(ground)
        compare_answers(ground)
