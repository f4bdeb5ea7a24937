"""Everything at once against a receiver with the settings it is shipped with, and kills on top, for some minutes.

Honest senders are many Penpots that each send a batch now and then, and again until it is answered with 200. Beside
them strangers send the costliest bodies there are, mistakes, slow heads and slow bodies, and the process is killed with
SIGKILL at random moments. What counts is what honest senders see, and what the machine has to give.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from penpot_telemetry.wire.limits import MIB
from tests.abuse.bodies import bombs, costly_bomb, mistake
from tests.abuse.load import Line
from tests.abuse.mixes import Drip
from tests.abuse.wire import post_of
from tests.integration.receiving import Running, ask, body_of, command, rows, running

PENPOTS = 20
EVERY = 2.0
"""Seconds between two batches of one Penpot: 600 in a minute of all of them together."""

EVENTS = 50
AGAIN = 0.25
STRANGERS = 4
SLOW = 60
TICK = 0.1


@dataclass(slots=True)
class Siege:
    """What was seen. `seconds`: of each honest batch, from the first try to its receipt; `restarts` likewise.

    `strange` counts the answers to bad bodies, `answers` those to slow connections.
    """

    folder: Path
    port: int
    seconds: list[float] = field(default_factory=list)
    undelivered: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    strange: Counter[str] = field(default_factory=Counter)
    restarts: list[float] = field(default_factory=list)
    memory: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def median(self) -> float:
        """Seconds until half of the honest batches had their receipt."""
        return sorted(self.seconds)[len(self.seconds) // 2] if self.seconds else 0.0

    @property
    def log_bytes(self) -> int:
        """What the receiver wrote into its log."""
        return (self.folder / "log").stat().st_size

    @property
    def disk_bytes(self) -> int:
        """What it takes of the disk beside the log."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file()) - self.log_bytes


def be_a_penpot(siege: Siege, number: int) -> None:
    """Batches of one instance, each sent again until it is taken."""
    instance, line, sent = UUID(int=0x900D << 112 | number), Line(siege.port), 0
    siege.stop.wait(EVERY * number / PENPOTS)
    while not siege.stop.is_set():
        body = body_of(
            rows(EVENTS, sent * EVENTS), instance=instance, batch_id=UUID(int=number << 64 | sent, version=4)
        )
        began = time.monotonic()
        status: int | None = None
        while status != 200 and not siege.stop.is_set():
            status, content = line.post(body)
            if status == 200 and not any(word in content for word in (b'"accepted"', b'"duplicate"')):
                siege.wrong["a batch was put aside"] += 1
            if status not in {200, None, 408, 429, 503}:
                siege.wrong[f"a batch was answered {status}"] += 1
            if status != 200:
                time.sleep(AGAIN)
        with siege.lock:
            if status == 200:
                siege.seconds.append(time.monotonic() - began)
                sent += 1
            else:
                siege.undelivered += 1
        siege.stop.wait(EVERY)
    line.close()


def be_a_stranger(siege: Siege, number: int, bodies: Sequence[bytes]) -> None:
    """One bad body after the other, without a pause."""
    dice, line = random.Random(number), Line(siege.port)
    while not siege.stop.is_set():
        body = mistake(dice).body if dice.random() < 0.3 else dice.choice(bodies)
        status, _ = line.post(body)
        with siege.lock:
            siege.strange[str(status)] += 1
        if status is None:
            time.sleep(AGAIN)
    line.close()


def be_slow(siege: Siege) -> None:
    """Connections that get a byte now and then, or nothing at all."""
    kinds = (
        (b"POST /telemetry HTTP/1.1\r\n", b"x-header: value\r\n"),
        (post_of(b"", f"content-length: {16 * MIB - 1}", sized=False), b"{ "),
        (post_of(b"", "content-length: 1", sized=False), b""),
        (b"", b""),
    )
    drips: list[Drip | None] = [None] * SLOW
    while not siege.stop.is_set():
        for at, drip in enumerate(drips):
            try:
                if drip is None:
                    drips[at] = Drip(siege, *kinds[at % len(kinds)])
                else:
                    drip.drip()
            except OSError:
                drips[at] = None
        siege.stop.wait(TICK)
    for drip in drips:
        if drip is not None:
            drip.close()


@contextmanager
def at_work(siege: Siege, bodies: Sequence[bytes]) -> Iterator[None]:
    """All of them, until the block ends."""
    jobs: list[tuple[Callable[..., None], tuple[object, ...]]] = [(be_slow, (siege,))]
    jobs += [(be_a_penpot, (siege, number)) for number in range(PENPOTS)]
    jobs += [(be_a_stranger, (siege, number, bodies)) for number in range(STRANGERS)]
    threads = [threading.Thread(target=job, args=arguments) for job, arguments in jobs]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        siege.stop.set()
        for thread in threads:
            thread.join(90)


def besiege(folder: Path, seconds: float, kills: int, bodies: Sequence[bytes] = ()) -> Siege:
    """A receiver with its shipped settings under siege for some seconds; it is killed so often meanwhile."""
    bodies = [*bodies, *(bad.body for bad in bombs()), costly_bomb().body]
    folder.mkdir(exist_ok=True)
    with ExitStack() as stack:
        receiver = stack.enter_context(running(folder))
        siege = Siege(folder, int(receiver.url.rpartition(":")[2]))
        with at_work(siege, bodies):
            end = time.monotonic() + seconds
            for kill in range(kills + 1):
                watch(siege, receiver, end - (kills - kill) * seconds / (kills + 1))
                if kill < kills:
                    receiver.kill()
                    began = time.monotonic()
                    receiver = stack.enter_context(running(folder, "--port", str(siege.port)))
                    siege.restarts.append(time.monotonic() - began)
        siege.memory = max(siege.memory, receiver.memory)
        receiver.stop()
    compare(siege)
    return siege


def watch(siege: Siege, receiver: Running, until: float) -> None:
    """Remember the most memory that the process had until then. Raises AssertionError when it ended by itself."""
    while time.monotonic() < until:
        assert receiver.process.poll() is None, "the receiver died"
        siege.memory = max(siege.memory, receiver.memory)
        time.sleep(min(0.5, max(0.01, until - time.monotonic())))


def compare(siege: Siege) -> None:
    """Each batch that was answered with 200 is there once."""
    ((batches, events, profiles),) = ask(
        siege.folder,
        """
        WITH honest AS (SELECT * FROM batches WHERE instance_id::VARCHAR LIKE '900d%'),
             people AS (SELECT DISTINCT batch_no, profile_id FROM events SEMI JOIN honest USING (batch_no))
        SELECT count(*), coalesce(sum(event_count), 0)::BIGINT, (SELECT count(*) FROM people) FROM honest
        """,
    )
    landed = len(siege.seconds)
    if not landed <= batches <= landed + siege.undelivered or events != batches * EVENTS or profiles != events:
        siege.wrong[f"{landed} batches were acknowledged, {batches} are there with {events} events"] += 1
    checked = command(siege.folder, "check")
    if checked.returncode:
        siege.wrong[f"check: {checked.stdout}"] += 1
