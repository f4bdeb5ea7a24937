"""What the requests of one server share: its store, its threads, and what is under way."""

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from uuid import UUID

from starlette.requests import Request

from penpot_telemetry.wire.limits import AT_WORK
from receiver.server.budget import Budget, Lanes
from receiver.server.metrics import Metrics
from receiver.server.publisher import Publisher
from receiver.server.rate_limit import Rates
from receiver.server.settings import Settings
from receiver.server.writer import Writer
from receiver.storage.store import Store

DECODERS = 2
SILENT_SECONDS = 5.0
"""So long nothing of a body may come once it has begun."""


GRACE_SECONDS = 1.0
"""So long a body is safe from giving way to another."""


@dataclass(slots=True, eq=False)
class Arrival:
    """A body on its way in. Times are those of the event loop, in seconds."""

    deadline: asyncio.Timeout
    began: float
    bytes: int = 0
    is_ended: bool = False

    def came(self, size: int, end: float) -> None:
        """More of it came: it may be silent for a while, but not beyond its end."""
        self.bytes += size
        if self.is_ended:
            return
        self.deadline.reschedule(min(end, asyncio.get_running_loop().time() + SILENT_SECONDS))

    def may_end(self, now: float) -> bool:
        """Whether it had its time: a body that has just begun is not slow."""
        return now - self.began >= GRACE_SECONDS

    def rate(self, now: float) -> float:
        """Bytes a second so far."""
        return self.bytes / max(GRACE_SECONDS, now - self.began)


@dataclass(slots=True)
class Intake:
    """What is inside now, against what may be. A body is first `arriving`, then `under_way`.

    `rate` counts all bodies, `rates` those of each instance. `memory` is for what is decoded. `strangers` of those that
    are under way come from senders that nothing was taken from yet.
    """

    settings: Settings
    work: asyncio.Semaphore
    rates: Rates
    rate: Rates
    arriving: set[Arrival] = field(default_factory=set)
    under_way: int = 0
    held_bytes: int = 0
    strangers: int = 0
    memory: Budget = field(default_factory=lambda: Budget(AT_WORK))
    lanes: Lanes = field(default_factory=Lanes)

    @property
    def is_full(self) -> bool:
        """Whether the next body would be asked to come later, whatever it is."""
        return self.under_way >= self.settings.under_way

    def end_slowest(self, now: float, besides: Arrival | None = None) -> bool:
        """End the body that came most slowly so far, to make room; False when there is none that may be ended."""
        slow = [one for one in self.arriving if one is not besides and one.may_end(now)]
        if not slow:
            return False
        slowest = min(slow, key=lambda one: one.rate(now))
        self.arriving.discard(slowest)
        slowest.is_ended = True
        slowest.deadline.reschedule(now)
        return True


@dataclass(slots=True)
class State:
    """What the routes share while the server runs."""

    settings: Settings
    store: Store
    writer: Writer
    publisher: Publisher
    metrics: Metrics
    intake: Intake
    decoders: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(DECODERS, "decode"))
    readers: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(2, "read"))


def create_intake(settings: Settings, known: Iterable[UUID] = ()) -> Intake:
    """Nothing inside yet. `known`: the senders that something was taken from before."""
    rates, rate = Rates(settings.instance_rate), Rates(settings.body_rate)
    return Intake(settings, asyncio.Semaphore(settings.at_work), rates, rate, lanes=Lanes(known))


def state_of(request: Request) -> State:
    """What the routes share."""
    state: State = request.app.state.receiver
    return state
