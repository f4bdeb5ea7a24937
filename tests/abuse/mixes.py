"""The mixes: what is done to the receiver while honest senders are at work. Each returns when it is through."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Protocol
from uuid import UUID, uuid4

from penpot_telemetry.wire.limits import MIB
from tests.abuse.bodies import STRANGER, Bad, bombs, costly_bomb, mistake
from tests.abuse.costly import COSTLY, INSTANCE
from tests.abuse.load import Ground, Line, make_parcel
from tests.abuse.wire import dial, post_of, read_answers, reset, talk
from tests.integration.receiving import body_of, rows

ABUSERS = 4
SLOW = 200
TICK = 0.05


# --- bodies ---------------------------------------------------------------------------------------------------------


def throw(ground: Ground, line: Line, bad: Bad) -> None:
    """One body that is wrong, and the answer to it."""
    status, content = line.post(bad.body)
    ground.note(status, content, bad.reason)


def throw_bombs(ground: Ground, rounds: int) -> None:
    """Every bomb, from two sides at once; when it is more than once, the costly one too."""
    thrown = [*bombs(), *([costly_bomb()] if rounds > 1 else [])]

    def side(some: Sequence[Bad]) -> None:
        line = Line(ground.port)
        for bomb in some:
            throw(ground, line, bomb)
        line.close()

    with ThreadPoolExecutor(2) as sides:
        list(sides.map(side, [thrown[start::2] for start in (0, 1)] * rounds))


def send_costly(ground: Ground, rounds: int) -> None:
    """Every body that costs far more than it weighs, from four sides at once, each under an instance of its own."""
    bodies = [make() for make in COSTLY.values()]

    def side(number: int) -> None:
        line = Line(ground.port)
        for body in bodies:
            stranger = str(UUID(int=number)).encode()
            ground.note(*line.post(body.replace(INSTANCE.encode(), stranger)))
        line.close()

    with ThreadPoolExecutor(ABUSERS) as sides:
        list(sides.map(side, range(ABUSERS * rounds)))


def send_mixed(ground: Ground, part: float, count: int, seed: int = 1) -> None:
    """`count` requests without a pause, of which `part` are wrong; the others are honest batches."""

    def side(number: int) -> None:
        dice, line = random.Random(seed * 1000 + number), Line(ground.port)
        for _ in range(count // ABUSERS):
            if dice.random() < part:
                throw(ground, line, mistake(dice))
                continue
            parcel = make_parcel(ground.book.number(), dice.randrange(1, 20))
            began = time.perf_counter()
            status, content = line.post(parcel.body)
            ground.book.note(parcel, status, content, time.perf_counter() - began)
        line.close()

    with ThreadPoolExecutor(ABUSERS) as sides:
        list(sides.map(side, range(ABUSERS)))


def send_tiny(ground: Ground, count: int) -> None:
    """`count` batches of one event each, eight at once."""
    left = threading.Semaphore(count)

    def side(_: int) -> None:
        line = Line(ground.port)
        while left.acquire(blocking=False):
            parcel = make_parcel(ground.book.number(), 1)
            began = time.perf_counter()
            status, content = line.post(parcel.body)
            ground.book.note(parcel, status, content, time.perf_counter() - began)
        line.close()

    with ThreadPoolExecutor(8) as sides:
        list(sides.map(side, range(8)))


# --- connections ----------------------------------------------------------------------------------------------------


class Dripped(Protocol):
    """A receiver that is dripped on, and what that was answered."""

    answers: Counter[str]

    @property
    def port(self) -> int:
        """Where it listens."""
        ...


class Drip:
    """A connection that gets one byte at a time, and is opened again when the receiver ends it."""

    def __init__(self, ground: Dripped, start: bytes, slowly: bytes) -> None:
        self._ground = ground
        self._start = start
        self._slowly = slowly
        self._open()

    def _open(self) -> None:
        self._at = 0
        self._socket = dial(self._ground.port)
        self._socket.setblocking(False)
        self._socket.send(self._start)

    def drip(self) -> None:
        """The next byte, unless there is an answer or an end."""
        with suppress(BlockingIOError):
            try:
                answer = self._socket.recv(4096)
            except ConnectionError:
                answer = b""
            self._ground.answers[answer[9:12].decode() or "no answer"] += 1
            self._socket.close()
            self._open()
            return
        if not self._slowly:
            return
        with suppress(BlockingIOError, ConnectionError):
            self._at += self._socket.send(self._slowly[self._at % len(self._slowly) :][:1])

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def drip_slowly(ground: Ground, seconds: float) -> None:
    """SLOW connections, a byte every TICK: heads that never end, bodies that never end, and nothing at all."""
    kinds = (
        (b"POST /telemetry HTTP/1.1\r\n", b"x-header: value\r\n"),
        (post_of(b"", "content-length: 1000000", sized=False), b"{ "),
        (b"", b""),
    )
    drips = [Drip(ground, *kinds[number % len(kinds)]) for number in range(SLOW)]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for drip in drips:
            drip.drip()
        time.sleep(TICK)
    for drip in drips:
        drip.close()


# --- requests -------------------------------------------------------------------------------------------------------


def small_batch() -> bytes:
    """A valid body that nobody sent before."""
    return body_of(rows(1), instance=STRANGER, batch_id=uuid4())


def abort(ground: Ground, dice: random.Random) -> None:
    """A request that is cut off somewhere, by a reset."""
    request = post_of(small_batch() + b" " * MIB)
    connection = dial(ground.port)
    connection.sendall(request[: dice.randrange(len(request))])
    reset(connection)
    ground.answers["no answer"] += 1


def leave(ground: Ground, _: random.Random) -> None:
    """A whole request whose sender does not wait for the answer."""
    connection = dial(ground.port)
    connection.sendall(post_of(small_batch()))
    reset(connection)
    ground.answers["no answer"] += 1


def pipeline(ground: Ground, _: random.Random) -> None:
    """Ten requests in one go, ten answers in their order."""
    bodies = [small_batch() for _ in range(10)]
    answers = talk(ground.port, b"".join(map(post_of, bodies)), 10)
    for body, (status, content) in zip(bodies, answers, strict=True):
        ground.note(status, content, None)
        batch_id = body.partition(b'"batch-id":"')[2][:36]
        if status == 200 and batch_id not in content:
            ground.book.problems.append("an answer belongs to another request of its connection")


def chunk(ground: Ground, dice: random.Random) -> None:
    """A body in chunks of a few bytes."""
    body = small_batch()
    size = dice.randrange(1, 50)
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    ((status, content),) = talk(ground.port, post_of(chunked, "transfer-encoding: chunked", sized=False))
    ground.note(status, content, None)


def expect(ground: Ground, _: random.Random) -> None:
    """A body that waits for a 100 first."""
    body = small_batch()
    with dial(ground.port) as connection:
        connection.sendall(post_of(body, "expect: 100-continue")[: -len(body)])
        ((status, content),) = read_answers(connection, 1, interim=True)
        if status == 100:
            connection.sendall(body)
            ((status, content),) = read_answers(connection, 1)
    ground.note(status, content, None)


def speak_http_1_0(ground: Ground, _: random.Random) -> None:
    """A request of 1996."""
    ((status, content),) = talk(ground.port, post_of(small_batch(), line="POST / HTTP/1.0"))
    ground.note(status, content, None)


def mistype(ground: Ground, dice: random.Random) -> None:
    """A valid body under a content type that it has not: taken, whatever it is called."""
    kind = dice.choice(["text/html", "application/x-www-form-urlencoded", "multipart/form-data", "\xff", "a" * 9000])
    ((status, content),) = talk(ground.port, post_of(small_batch(), f"content-type: {kind}"))
    ground.note(status, content, None)


def be_absurd(ground: Ground, dice: random.Random) -> None:
    """A request that no server need understand: refused, hung up on, or its body put aside."""
    answers = talk(ground.port, dice.choice(ABSURD))
    status, content = answers[0] if answers else (None, b"")
    ground.note(status, content)
    put_aside = status == 200 and b'"quarantined"' in content
    if status is not None and not put_aside and not 400 <= status < 500 and status not in (501, 503, 505):
        ground.book.problems.append(f"an absurd request was answered {status}")


ABSURD = [
    post_of(b"{}", "content-length: 3", sized=True),
    post_of(b"{}", "content-length: -1", sized=False),
    post_of(b"{}", "content-length: 1e3", sized=False),
    post_of(b"{}", "content-length: \xb2", sized=False),
    post_of(b"{}", "content-length: " + "9" * 19, sized=False),
    post_of(b"{}", "content-length: " + "9" * 5000, sized=False),
    post_of(b"{}", "transfer-encoding: gzip, chunked", sized=False),
    post_of(b"zz\r\n{}\r\n0\r\n\r\n", "transfer-encoding: chunked", sized=False),
    post_of(b"f" * 40 + b"\r\n", "transfer-encoding: chunked", sized=False),
    post_of(b"{}", "content-encoding: gzip"),
    post_of(b"{}", "no colon here"),
    post_of(b"{}", "x: \x00"),
    post_of(b"{}", "x: " + "y" * 100_000),
    post_of(b"{}", *(f"x-{n}: y" for n in range(10_000))),
    post_of(b"{}", line="POST /" + "a" * 100_000 + " HTTP/1.1"),
    post_of(b"{}", line="POST /telemetry HTTP/7.3"),
    post_of(b"{}", line="POST /telemetry/../../etc/passwd HTTP/1.1"),
    post_of(b"{}", line="POST /%00%ff%zz HTTP/1.1"),
    post_of(b"{}", line="BREW /telemetry HTTP/1.1"),
    post_of(b"{}", line="DELETE /telemetry HTTP/1.1"),
    post_of(b"{}", line="TRACE /telemetry HTTP/1.1"),
    post_of(b"", line="CONNECT receiver:443 HTTP/1.1"),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500) + b"\r\n\r\n",
    b"\r\n" * 100 + b"\x00\r\n\r\n",
    b"POST\r\n\r\n",
    b"POST /telemetry HTTP/1.1\r\nhost: a\r\nhost: b\r\ncontent-length: 0\r\n\r\n",
    b"POST /telemetry HTTP/1.1\r\n\r\n",
]
KINDS: Sequence[Callable[[Ground, random.Random], None]] = (
    abort,
    leave,
    pipeline,
    chunk,
    expect,
    speak_http_1_0,
    mistype,
    be_absurd,
    be_absurd,
    be_absurd,
)


def ask_oddly(ground: Ground, count: int, seed: int = 1) -> None:
    """`count` requests of every odd kind, four at once."""

    def side(number: int) -> None:
        dice = random.Random(seed * 1000 + number)
        for index in range(count // ABUSERS):
            KINDS[index % len(KINDS)](ground, dice)

    with ThreadPoolExecutor(ABUSERS) as sides:
        list(sides.map(side, range(ABUSERS)))
