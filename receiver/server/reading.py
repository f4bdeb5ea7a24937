"""The routes for readers and operators: health, metrics, account, instances, snapshot and erasure."""

import asyncio
from collections.abc import Callable
from functools import partial
from importlib.resources import files
from typing import TypeVar
from uuid import UUID

import duckdb
import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from penpot_telemetry.errors import TelemetryError
from penpot_telemetry.wire.limits import MIB
from receiver.copies.snapshot import SnapshotError
from receiver.lifecycle.erase_request import EraseRequest, describe_stop
from receiver.reports import account, instances
from receiver.reports.disk_usage import Sizes, read_sizes
from receiver.server.delivery import BROKEN_SECONDS
from receiver.server.erasing import erase
from receiver.server.replies import NotTakenError, answer
from receiver.server.state import State, state_of

T = TypeVar("T")


MOST_BATCHES = 10_000
MOST_ASKED = 16 * MIB


DESCRIPTION = (files("receiver.server") / "openapi.json").read_bytes()


async def openapi(request: Request) -> Response:
    """The description of this HTTP API, as it is in the package."""
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
