"""The network between sender and receiver, as bad as it is told to be: one fault for each request, in their order.

A proxy on loopback. It forwards a request whole and relays the answer whole, but for the fault that is due: dropped,
late, twice, cut short, or told of while it happens so that somebody may be killed. It knows nothing of events, except
that a body which holds a poisoned mark is refused with 400, always; and for a while it may refuse all with 403.
"""

import json
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from penpot_telemetry.wire.batch import decode_columns

FAULTS = (
    "connection dropped",
    "request dropped",
    "request cut short",
    "request delayed",
    "request twice",
    "request twice at once",
    "request again later",
    "answer dropped",
    "answer cut short",
    "answer delayed",
    "gateway error before",
    "gateway error after",
)

PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one request. `amount`: of the bytes that pass, or the seconds of a delay.

    `kind` is one of FAULTS, or a point of `points.SEEN_BY_PROXY` with the `victim` that dies there.
    """

    kind: str
    amount: float = 0.5
    victim: str = ""


@dataclass(slots=True)
class Proxy:
    """Forwards to `upstream`, a port of this machine. `kill` is told the victim and the point."""

    upstream: int
    kill: Callable[[str, str], None]
    faults: deque[Fault] = field(default_factory=deque)
    is_poison: Callable[[str], bool] = lambda _: False
    refusing: bool = False
    late: list[bytes] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    _listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    _threads: list[threading.Thread] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where a sender finds it."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/"

    def start(self) -> None:
        """Listen until `close`."""
        self._spawn(self._listen)

    def close(self) -> None:
        """Stop listening and let what is under way end."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.settle()

    def settle(self) -> None:
        """Wait until nothing is under way."""
        for thread in list(self._threads[1:] if self._listener.fileno() >= 0 else self._threads):
            thread.join(PATIENCE)
            if not thread.is_alive():
                self._threads.remove(thread)

    def send_late(self, most: int) -> None:
        """Send copies of earlier requests again, whoever waits for them no longer."""
        for _ in range(min(most, len(self.late))):
            self.forward(self.late.pop(0))

    def _spawn(self, work: Callable[..., object], *args: object) -> threading.Thread:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._spawn(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            client.settimeout(PATIENCE)
            fault = self.faults.popleft() if self.faults else None
            if fault is not None and fault.kind == "connection dropped":
                self.counts[fault.kind] += 1
                return
            request = read_message(client)
            if request is None:
                return
            if (refusal := self._refuse(request)) is not None:
                client.sendall(refusal)
                return
            if fault is not None and fault.victim == "":
                self.counts[fault.kind] += 1
            answer = self._pass_on(request, fault)
            if answer is not None:
                client.sendall(answer)

    def _refuse(self, request: bytes) -> bytes | None:
        if not request.startswith(b"POST "):
            return None
        if self.refusing:
            self.counts["refused for a while"] += 1
            return make_answer("403 Forbidden")
        body = request.partition(b"\r\n\r\n")[2]
        if any(map(self.is_poison, decode_columns(json.loads(body)["events"]).name)):
            self.counts["refused for poison"] += 1
            return make_answer("400 Bad Request")
        return None

    def _pass_on(self, request: bytes, fault: Fault | None) -> bytes | None:  # noqa: PLR0911, PLR0912  a case is a fault
        match fault:
            case Fault("request dropped"):
                return None
            case Fault("request cut short", amount):
                return self.forward(request, keep=amount)
            case Fault("request delayed", amount):
                time.sleep(amount)
                return self.forward(request)
            case Fault("request twice"):
                self.forward(request)
                return self.forward(request)
            case Fault("request twice at once"):
                other = self._spawn(self.forward, request)
                answer = self.forward(request)
                other.join(PATIENCE)
                return answer
            case Fault("request again later"):
                answer = self.forward(request)
                if answer is not None:
                    self.late.append(request)
                return answer
            case Fault("answer dropped"):
                self.forward(request)
                return None
            case Fault("answer cut short", amount):
                answer = self.forward(request)
                return answer[: int(len(answer) * amount)] if answer else None
            case Fault("answer delayed", amount):
                answer = self.forward(request)
                time.sleep(amount)
                return answer
            case Fault("gateway error before"):
                return make_answer("502 Bad Gateway")
            case Fault("gateway error after"):
                self.forward(request)
                return make_answer("504 Gateway Timeout")
            case Fault("answer there, not relayed", _, victim):
                answer = self.forward(request)
                self.kill(victim, "answer there, not relayed")
                return answer
            case Fault("half a body in", amount, victim):
                return self.forward(request, keep=amount, then=lambda: self.kill(victim, "half a body in"))
            case Fault(point, _, victim):
                return self.forward(request, then=lambda: self.kill(victim, point))
        return self.forward(request)

    def forward(self, request: bytes, *, keep: float = 1.0, then: Callable[[], None] = lambda: None) -> bytes | None:
        """Send (a part of) a request on, do something, and wait for the answer, if there is one."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.upstream), PATIENCE) as server:
            server.sendall(request[: int(len(request) * keep)])
            then()
            return read_message(server) if keep == 1.0 else None
        return None


def read_message(connection: socket.socket) -> bytes | None:
    """A request or an answer, head and body; None when the other side hangs up before its end."""
    found = b""
    while (end := found.find(b"\r\n\r\n")) < 0:
        more = connection.recv(65536)
        if not more:
            return None
        found += more
    size = content_length(found[:end].split(b"\r\n")[1:])
    while len(found) < end + 4 + size:
        more = connection.recv(65536)
        if not more:
            return None
        found += more
    head = [line for line in found[:end].split(b"\r\n") if not line.lower().startswith(b"connection:")]
    return b"\r\n".join([*head, b"Connection: close"]) + found[end:]


def content_length(lines: Iterable[bytes]) -> int:
    """The length that a head gives."""
    return next((int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length:")), 0)


def make_answer(status: str) -> bytes:
    """An answer without a body."""
    return f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
