"""The HTTP face: routes and answers, nothing else. Reads bodies within bounds, answers after the commit.

No client address is read here, so none can be logged or stored.
"""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from typing import TypeVar
from uuid import UUID

import duckdb
import msgspec
import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from penpot_telemetry.errors import TelemetryError
from penpot_telemetry.wire.limits import AT_WORK, MIB
from receiver.copies.snapshot import SnapshotError
from receiver.dashboard import pages
from receiver.intake.decide import QuarantineFullError
from receiver.intake.decode import Batch, read_instance
from receiver.intake.prepare import Job, prepare
from receiver.lifecycle.erase_request import EraseRequest, describe_stop
from receiver.reports import account, instances
from receiver.reports.disk_usage import Sizes, read_sizes
from receiver.server.auth import Guard, given_secret
from receiver.server.budget import REMEMBERED, Budget, Lanes
from receiver.server.erasing import erase
from receiver.server.metrics import Metrics
from receiver.server.publisher import Publisher
from receiver.server.rate_limit import Rates
from receiver.server.settings import Settings
from receiver.server.writer import Writer
from receiver.storage.paths import snapshot_of
from receiver.storage.records import Receipt
from receiver.storage.store import Store, UnavailableError

log = structlog.get_logger("receiver")

T = TypeVar("T")

UNAUTHORIZED = 401
METHOD_NOT_ALLOWED = 405
BUSY_SECONDS = 5
BROKEN_SECONDS = 30
MOST_BATCHES = 10_000
MOST_ASKED = 16 * MIB
DECODERS = 2

DESCRIPTION = (files("receiver.server") / "openapi.json").read_bytes()

SILENT_SECONDS = 5.0
"""So long nothing of a body may come once it has begun."""

GRACE_SECONDS = 1.0
"""So long a body is safe from giving way to another."""

LINGER_SECONDS = 5.0
LINGER_BYTES = 64 * MIB

ERRORS = {400: "bad-parameter", 404: "not-found", METHOD_NOT_ALLOWED: "method-not-allowed"}


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


class NotTakenError(Exception):
    """A body that is not taken now, or not like this: the status, a word for programs, a sentence for people.

    `unread`: more of the body may be on its way.
    """

    def __init__(
        self, status: int, error: str, message: str, *, retry_after: int | None = None, unread: bool = True
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error = error
        self.message = message
        self.retry_after = retry_after
        self.unread = unread


def create_app(store: Store, settings: Settings) -> Starlette:
    """The application over an open store; the writer runs from start-up to shutdown."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        metrics = Metrics()
        metrics.on_start(store.warehouse.numbers.received_at, account.last_batch_at(store.warehouse.con))
        target = snapshot_of(settings.places.warehouse)
        known = instances.list_heard(store.warehouse.con, REMEMBERED)
        with (
            Writer(store, metrics.on_commit) as writer,
            Publisher(writer, target, settings.snapshot_minutes) as publisher,
        ):
            app.state.receiver = state = State(
                settings, store, writer, publisher, metrics, create_intake(settings, known)
            )
            app.state.dashboard = dashboard = pages.open_dashboard(
                store.reader, settings.threshold, settings.vouch_days
            )
            yield
            await dashboard.close()
            await asyncio.to_thread(state.decoders.shutdown)
            await asyncio.to_thread(state.readers.shutdown)

    app = Starlette(
        routes=ROUTES,
        lifespan=lifespan,
        middleware=[Middleware(Guard, access=settings.access)],
        exception_handlers={HTTPException: answer_error, NotTakenError: answer_not_taken, Exception: answer_failure},
    )
    app.router.redirect_slashes = False  # a redirect would repeat the host that the request claims
    return app


def create_intake(settings: Settings, known: Iterable[UUID] = ()) -> Intake:
    """Nothing inside yet. `known`: the senders that something was taken from before."""
    rates, rate = Rates(settings.instance_rate), Rates(settings.body_rate)
    return Intake(settings, asyncio.Semaphore(settings.at_work), rates, rate, lanes=Lanes(known))


# --- taking bodies --------------------------------------------------------------------------------------------------


async def take(request: Request) -> Response:
    """One body in, one receipt out, after the commit."""
    state = state_of(request)
    if not state.settings.access.may_deliver(given_secret(request.headers)):
        raise NotTakenError(
            UNAUTHORIZED, "unauthorized", "this receiver takes bodies with its key only, as a bearer token"
        )
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise NotTakenError(415, "unsupported-encoding", "send the body as it is, without a content-encoding")
    if wait := state.intake.rate.take():
        state.metrics.limited.labels("all").inc()
        raise too_fast("more bodies than are taken in a minute", wait)
    try:
        with held_body(state) as hold:
            body = await read_body(request, state, hold)
            with one_under_way(state):
                receipt = await receive_body(state, body)
    except asyncio.CancelledError:  # only ever by the end of a shutdown's time
        message = "the receiver stops: send this batch again later"
        raise NotTakenError(503, "stopping", message, retry_after=BUSY_SECONDS, unread=False) from None
    return answer(200, receipt)


async def read_body(request: Request, state: State, hold: Callable[[int, Arrival], None]) -> bytes:
    """The whole body, within its size, its time and the memory there is."""
    most, seconds = state.settings.limits.body, state.settings.body_seconds
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > most:
        raise too_large(most)
    body = bytearray()
    end = asyncio.get_running_loop().time() + seconds
    try:
        async with asyncio.timeout_at(end) as deadline, contextlib.aclosing(request.stream()) as stream:
            with one_arriving(state, deadline) as arrival:
                async for chunk in stream:
                    if len(body) + len(chunk) > most:
                        raise too_large(most)
                    hold(len(chunk), arrival)
                    body += chunk
                    arrival.came(len(chunk), end)
    except TimeoutError:
        message = f"the body came too slowly: {seconds:g} seconds, or less while others wait for its place"
        raise NotTakenError(408, "too-slow", message, unread=False) from None
    except ClientDisconnect:  # nobody hears this, but it is counted, and no failure of ours
        raise NotTakenError(400, "cut-off", "the connection ended before the body did", unread=False) from None
    state.metrics.body_bytes.inc(len(body))
    return bytes(body)


def too_large(most: int) -> NotTakenError:
    """What a body over the limit is answered with."""
    return NotTakenError(413, "too-large", f"a body may have {most} bytes: send fewer events at once")


async def receive_body(state: State, body: bytes) -> Receipt:
    """Decode on one thread, write on another, and count what became of it."""
    intake = state.intake
    async with contextlib.AsyncExitStack() as held:
        async with decoding_lane(state, read_instance(body)):
            await held.enter_async_context(intake.work)
            share = await held.enter_async_context(intake.memory.share(state.settings.limits.reserved(len(body))))
            job = await asyncio.get_running_loop().run_in_executor(state.decoders, prepare_in_turn, state, body)
            share.shrink(job.held)
        try:
            receipt = await asyncio.wrap_future(state.writer.submit(job))
        except UnavailableError as error:
            if isinstance(error, QuarantineFullError):
                state.metrics.quarantine_full.labels(error.full).inc()
            message = str(error)
            raise NotTakenError(503, "unavailable", message, retry_after=BROKEN_SECONDS, unread=False) from None
    if isinstance(job.item, Batch) and receipt.status != "quarantined":
        intake.rates.take(job.item.sent.instance_id)
        intake.lanes.remember(job.item.sent.instance_id)
    count(state, job, receipt)
    return receipt


@contextlib.asynccontextmanager
async def decoding_lane(state: State, instance_id: UUID | None) -> AsyncIterator[None]:
    """The turn of a sender. Those that nothing was taken from yet share one, and half of the places under way."""
    intake = state.intake
    lane, is_known = intake.lanes.lane_of(instance_id)
    if not is_known and intake.strangers >= max(1, state.settings.under_way // 2):
        raise busy(unread=False)
    intake.strangers += not is_known
    try:
        async with lane:
            yield
    finally:
        intake.strangers -= not is_known


def prepare_in_turn(state: State, body: bytes) -> Job:
    """The costly half, unless the instance has had its share of it. On a decoding thread; raises NotTakenError, 429.

    A share is used up by batches that are loaded, or were before, and that are signed where a key is pinned: whoever
    only knows the id of an instance takes nothing from it.
    """
    instance_id = read_instance(body)
    if instance_id is not None and (wait := state.intake.rates.wait(instance_id)):
        state.metrics.limited.labels("instance").inc()
        raise too_fast("more batches of this instance than are taken in a minute", wait, unread=False)
    return prepare(body, state.settings.limits, require_signature=state.settings.require_signatures)


def too_fast(message: str, wait: float, *, unread: bool = True) -> NotTakenError:
    """What a body over a rate is answered with."""
    return NotTakenError(429, "too-fast", message, retry_after=math.ceil(wait), unread=unread)


def count(state: State, job: Job, receipt: Receipt) -> None:
    """One success, for the metrics and the log."""
    outcome = "loaded" if receipt.status == "accepted" else receipt.status
    state.metrics.batches.labels(outcome).inc()
    state.metrics.events.labels(outcome).inc(receipt.events)
    state.metrics.last_received.set_to_current_time()
    if receipt.status == "accepted" and isinstance(job.item, Batch):
        state.metrics.last_batch.set_to_current_time()
        count_page(state.metrics, job.item)
    if receipt.reason is not None:
        state.metrics.quarantined.labels(receipt.reason).inc()
    log.info(
        "received",
        outcome=outcome,
        events=receipt.events,
        dead_letters=receipt.dead_letters,
        bytes=len(job.body),
        reason=receipt.reason,
    )


def count_page(metrics: Metrics, batch: Batch) -> None:
    """What of a batch was not loaded as it came."""
    for letter in batch.page.dead_letters:
        metrics.dead.labels(letter.reason).inc()
    for key, values in batch.page.changed_values.items():
        metrics.changed.labels(key).inc(values)
    metrics.ignored.inc(len(batch.sent.ignored))


@contextlib.contextmanager
def one_arriving(state: State, deadline: asyncio.Timeout) -> Iterator[Arrival]:
    """A place for a body on its way in, or 503. It is no place at work: slow senders take none of those.

    When all places are taken the slowest body gives way.
    """
    intake = state.intake
    now = asyncio.get_running_loop().time()
    if intake.is_full:
        raise busy()
    if len(intake.arriving) >= state.settings.arriving and not intake.end_slowest(now):
        raise busy()
    arrival = Arrival(deadline, now)
    intake.arriving.add(arrival)
    try:
        yield arrival
    finally:
        intake.arriving.discard(arrival)


@contextlib.contextmanager
def one_under_way(state: State) -> Iterator[None]:
    """A place for a body that is there whole, or 503 when all are taken."""
    intake = state.intake
    if intake.under_way >= state.settings.under_way:
        raise busy(unread=False)
    intake.under_way += 1
    state.metrics.under_way.set(intake.under_way)
    try:
        yield
    finally:
        intake.under_way -= 1
        state.metrics.under_way.set(intake.under_way)


def busy(*, unread: bool = True) -> NotTakenError:
    """What the next body is answered when there are too many."""
    message = "too many batches are under way: send this one again later"
    return NotTakenError(503, "busy", message, retry_after=BUSY_SECONDS, unread=unread)


@contextlib.contextmanager
def held_body(state: State) -> Iterator[Callable[[int, Arrival], None]]:
    """A function that takes memory from the budget chunk by chunk, or raises 503; given back at the end.

    When the budget is used up the slowest body on its way gives way, unless it is the one that wants more.
    """
    intake, held = state.intake, 0

    def hold(size: int, arrival: Arrival) -> None:
        nonlocal held
        is_full = intake.held_bytes + size > state.settings.body_budget
        if is_full and not intake.end_slowest(asyncio.get_running_loop().time(), arrival):
            message = "too many bytes are under way: send this batch again later"
            raise NotTakenError(503, "busy", message, retry_after=BUSY_SECONDS)
        intake.held_bytes += size
        held += size

    try:
        yield hold
    finally:
        intake.held_bytes -= held


# --- being asked ----------------------------------------------------------------------------------------------------


async def openapi(request: Request) -> Response:
    """The description of this face, as it is in the package."""
    return Response(DESCRIPTION, media_type="application/json")


async def healthz(request: Request) -> Response:
    """Whether the process lives."""
    return answer(200, {"status": "alive"})


async def readyz(request: Request) -> Response:
    """Whether a body sent now would be taken, as far as one can tell."""
    state = state_of(request)
    if not state.writer.is_running or not state.store.is_sound:
        return answer(503, {"status": "unavailable"})
    if state.intake.is_full:
        return answer(503, {"status": "busy"})
    return answer(200, {"status": "ready"})


async def metrics(request: Request) -> Response:
    """The collectors, for Prometheus."""
    state = state_of(request)
    sizes = await asyncio.to_thread(sizes_of, state)
    state.metrics.on_scrape(sizes, state.writer.waiting, state.writer.behind)
    return Response(generate_latest(state.metrics.registry), media_type=CONTENT_TYPE_LATEST)


async def status(request: Request) -> Response:
    """The account."""
    found = await read(request, account.read_account)
    sizes = await asyncio.to_thread(sizes_of, state_of(request))
    return answer(200, msgspec.structs.replace(found, sizes=sizes))


def sizes_of(state: State) -> Sizes:
    """What is on the disks now."""
    places = state.store.places
    return read_sizes(places.warehouse, places.landfill, state.store.quarantine.held)


async def list_instances(request: Request) -> Response:
    """Who sends, those heard latest first."""
    limit = parameter(request, "limit", 1000, instances.MOST)
    offset = parameter(request, "offset", 0, 2**63 - 1)
    vouch_days = state_of(request).settings.vouch_days
    look = partial(instances.list_instances, vouch_days=vouch_days, limit=limit, offset=offset)
    return answer(200, await read(request, look))


async def batches(request: Request) -> Response:
    """The numbered batches of one instance, for `ledger verify`."""
    instance_id: UUID = request.path_params["instance_id"]
    after = parameter(request, "after", 0, 2**63 - 1)
    limit = parameter(request, "limit", 1000, MOST_BATCHES)
    found = await read(request, partial(account.list_batches, instance_id=instance_id, after=after, limit=limit))
    return answer(200, {"batches": found})


async def publish(request: Request) -> Response:
    """A snapshot beside the warehouse, now, unless the last one still holds all there is."""
    try:
        return answer(200, await asyncio.to_thread(state_of(request).publisher.publish))
    except SnapshotError as error:
        raise NotTakenError(503, "unavailable", str(error), retry_after=BROKEN_SECONDS, unread=False) from None


async def erase_asked(request: Request) -> Response:
    """Remove what was received of instances or profiles, while batches wait."""
    state = state_of(request)
    try:
        asked = msgspec.json.decode(await read_small(request), type=EraseRequest)
    except msgspec.MsgspecError:
        raise HTTPException(400, "give as JSON a scope, and ids or new-since") from None
    try:
        return answer(200, await asyncio.to_thread(erase, state.writer, state.publisher, asked))
    except (TelemetryError, OSError, duckdb.Error) as error:
        message = str(error) if isinstance(error, TelemetryError) else describe_stop(error)
        raise NotTakenError(503, "unavailable", message, retry_after=BROKEN_SECONDS, unread=False) from None


async def read_small(request: Request) -> bytes:
    """The body of an operator's request."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_ASKED:
            raise NotTakenError(413, "too-large", "name fewer ids at once")
    return bytes(body)


async def read(request: Request, question: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
    """Ask the warehouse on a reading thread, through a connection of its own."""
    state = state_of(request)

    def ask() -> T:
        with state.store.reader() as con:
            return question(con)

    try:
        return await asyncio.get_running_loop().run_in_executor(state.readers, ask)
    except duckdb.Error:
        message = "the warehouse cannot be read now"
        raise NotTakenError(503, "unavailable", message, retry_after=BROKEN_SECONDS, unread=False) from None


def parameter(request: Request, name: str, default: int, most: int) -> int:
    """A whole number from the query, or 400."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and int(text) <= most):
        raise HTTPException(400, f"{name} must be a whole number from 0 to {most}")
    return int(text)


# --- answers --------------------------------------------------------------------------------------------------------


def answer(code: int, content: object, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer, kebab-case as its structs are."""
    return Response(msgspec.json.encode(content), code, headers, media_type="application/json")


class LastAnswer(Response):
    """An answer to a body that is still coming in: says it at once, then lets the rest go by before it hangs up.

    A connection closed on unread bytes is reset, and the sender, still writing, would never see the answer: it could
    not tell "too large" from a lost network.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all but the end, discard what comes, within bounds, then end."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                await discard(receive)
        await send({"type": "http.response.body", "body": b""})


async def discard(receive: Receive) -> None:
    """Read on to the end of the body, or up to LINGER_BYTES of it."""
    left = LINGER_BYTES
    while left > 0:
        message = await receive()
        left -= len(message.get("body", b""))
        if not message.get("more_body", False):
            return


async def answer_not_taken(request: Request, error: Exception) -> Response:
    """The answer for a NotTakenError; the connection ends with it."""
    if not isinstance(error, NotTakenError):
        return await answer_failure(request, error)
    state_of(request).metrics.refused.labels(str(error.status)).inc()
    headers = {"connection": "close"}
    if error.status == UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    if error.retry_after is not None:
        headers["retry-after"] = str(error.retry_after)
    content = msgspec.json.encode({"error": error.error, "message": error.message})
    kind = LastAnswer if error.unread and "expect" not in request.headers else Response
    return kind(content, error.status, headers, media_type="application/json")


async def answer_error(request: Request, error: Exception) -> Response:
    """The answer for Starlette's own errors."""
    if not isinstance(error, HTTPException):
        return await answer_failure(request, error)
    state_of(request).metrics.refused.labels(str(error.status_code)).inc()
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    if error.status_code == METHOD_NOT_ALLOWED:
        headers["allow"] = ", ".join(methods_at(request))
    if request.method == "POST":
        headers["connection"] = "close"
    word = ERRORS.get(error.status_code, "refused")
    return answer(error.status_code, {"error": word, "message": error.detail}, headers)


def methods_at(request: Request) -> list[str]:
    """What the path of a request may be asked with. Starlette names the methods of the first route there only."""
    here = [route for route in ROUTES if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in here for method in route.methods or ()})


async def answer_failure(request: Request, error: Exception) -> Response:
    """The answer for a defect of ours: no word of what was in hand."""
    return answer(500, {"error": "failed", "message": "the receiver failed at this request"})


def state_of(request: Request) -> State:
    """What the routes share."""
    state: State = request.app.state.receiver
    return state


ROUTES = [
    Route("/", take, methods=["POST"]),
    Route("/telemetry", take, methods=["POST"]),
    Route("/healthz", healthz),
    Route("/readyz", readyz),
    Route("/metrics", metrics),
    # Reading: whatever tells something of the events or of who sent them.
    Route("/openapi.json", openapi),
    Route("/status", status),
    Route("/instances", list_instances),
    Route("/instances/{instance_id:uuid}/batches", batches),
    Route("/snapshot", publish, methods=["POST"]),
    Route("/erase", erase_asked, methods=["POST"]),
    *pages.ROUTES,
]
