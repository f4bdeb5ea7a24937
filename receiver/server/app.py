"""The application: its life, its routes, and how errors are answered.

No client address is read here, so none can be logged or stored.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

from receiver.dashboard import pages
from receiver.reports import account, instances
from receiver.server.auth import Guard
from receiver.server.budget import REMEMBERED
from receiver.server.delivery import take
from receiver.server.metrics import Metrics
from receiver.server.publisher import Publisher
from receiver.server.reading import (
    batches,
    erase_asked,
    healthz,
    list_instances,
    metrics,
    openapi,
    publish,
    readyz,
    status,
)
from receiver.server.replies import ERRORS, METHOD_NOT_ALLOWED, UNAUTHORIZED, LastAnswer, NotTakenError, answer
from receiver.server.settings import Settings
from receiver.server.state import State, create_intake, state_of
from receiver.server.writer import Writer
from receiver.storage.paths import snapshot_of
from receiver.storage.store import Store

log = structlog.get_logger("receiver")


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
