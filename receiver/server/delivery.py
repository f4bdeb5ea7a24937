"""`POST /`: a body is read, decoded and given to the writer, within bounds; then it is answered."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable, Iterator
from uuid import UUID

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from receiver.intake.decide import QuarantineFullError
from receiver.intake.decode import Batch, read_instance
from receiver.intake.prepare import Job, prepare
from receiver.server.auth import given_secret
from receiver.server.metrics import Metrics
from receiver.server.replies import UNAUTHORIZED, NotTakenError, answer
from receiver.server.state import Arrival, State, state_of
from receiver.storage.records import Receipt
from receiver.storage.store import UnavailableError

log = structlog.get_logger("receiver")

BUSY_SECONDS = 5
BROKEN_SECONDS = 30


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
            body = await read_request_body(request, state, hold)
            with one_under_way(state):
                receipt = await receive_body(state, body)
    except asyncio.CancelledError:  # only ever by the end of a shutdown's time
        message = "the receiver stops: send this batch again later"
        raise NotTakenError(503, "stopping", message, retry_after=BUSY_SECONDS, unread=False) from None
    return answer(200, receipt)


async def read_request_body(request: Request, state: State, hold: Callable[[int, Arrival], None]) -> bytes:
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
