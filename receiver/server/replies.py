"""Answers: JSON, the last answer on a connection whose body is not read, and refusals."""

import asyncio
import contextlib

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from penpot_telemetry.wire.limits import MIB

UNAUTHORIZED = 401
METHOD_NOT_ALLOWED = 405
LINGER_SECONDS = 5.0
LINGER_BYTES = 64 * MIB


ERRORS = {400: "bad-parameter", 404: "not-found", METHOD_NOT_ALLOWED: "method-not-allowed"}


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
