"""Who may do what: deliver with a key when there is one, read with a token when there is one, and erase with the token
that a running server keeps beside its warehouse.

A web page that somebody has open on the operator's machine is not the operator: no other site may post here, and a
receiver without a token answers to the names of its own machine only, whatever name a page had resolved to it.

Closed unless named: whatever is not a delivery or a health probe counts as reading, routes added later included.
Secrets come from the environment or a file, never from an argument, and appear in no repr, log line or message.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from ipaddress import ip_address
from types import MappingProxyType
from urllib.parse import urlsplit

import msgspec
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penpot_telemetry.errors import ConfigError
from receiver.server.secrets import Access

DELIVERY = frozenset({"/", "/telemetry"})
ERASE = "/erase"
LEDGER = re.compile(r"/instances/[^/]+/batches")
"""What an instance delivered, by its random id: who may deliver may ask, or a sender could never clear up a doubt."""

HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
}
"""On every answer. No script or style in a page, nothing from another host, and no other site may frame or embed it."""

OPERATORS = "this needs the token of the operator, which lies beside the warehouse while the server runs"
OPERATOR = MappingProxyType({"www-authenticate": "Bearer"})
CHALLENGE = 'Basic realm="receiver", charset="UTF-8"'  # a browser asks for it: any user name, the token as password


class Guard:
    """Around the application: asks readers for the token, and puts the security headers on every answer."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app = app
        self.access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        chosen = self.choose(scope)
        if isinstance(chosen, Response) and scope["method"] == "POST":
            scope["app"].state.receiver.metrics.refused.labels(str(chosen.status_code)).inc()
        await chosen(scope, receive, send_safely)

    def choose(self, scope: Scope) -> ASGIApp:
        """The application, or the refusal of this request."""
        headers = Headers(scope=scope)
        if "content-length" in headers and "transfer-encoding" in headers:
            return refuse(
                400, "ambiguous-length", "give the length of a body once: content-length or transfer-encoding"
            )
        if scope["method"] == "POST" and is_foreign(headers):
            return refuse(403, "foreign-page", "a page of another site may not post here")
        is_browser = scope["method"] != "POST" or "origin" in headers
        if self.access.read_token is None and is_browser and not names_loopback(headers.get("host", "localhost")):
            message = "without a token this receiver answers to 127.0.0.1, [::1] and localhost only"
            return refuse(403, "foreign-host", message)
        if scope["method"] == "POST" and scope["path"] == ERASE:
            is_operator = self.access.may_operate(given_secret(headers))
            return self.app if is_operator else refuse(401, "unauthorized", OPERATORS, OPERATOR)
        delivers = scope["method"] == "POST" and scope["path"] in DELIVERY
        asks_back = LEDGER.fullmatch(scope["path"]) is not None and self.access.may_deliver(given_secret(headers))
        if delivers or asks_back or self.access.may_read(scope["path"], given_secret(headers)):
            return self.app
        message = "reading needs the token, as a bearer or as a password"
        return refuse(401, "unauthorized", message, {"www-authenticate": CHALLENGE})


def is_foreign(headers: Headers) -> bool:
    """Whether a browser sends this for a page of another site. No other program says where it comes from."""
    if headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
        return True
    _, _, origin = headers.get("origin", "").partition("://")
    return "origin" in headers and origin.lower() != headers.get("host", "").lower()


def names_loopback(host: str) -> bool:
    """Whether a Host header, with or without a port, names this machine for itself."""
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return name is not None and is_loopback(name)


def refuse(status: int, error: str, message: str, headers: Mapping[str, str] = MappingProxyType({})) -> Response:
    """The answer to a request that does not reach the application; the connection ends with it."""
    content = msgspec.json.encode({"error": error, "message": message})
    return Response(content, status, {**headers, "connection": "close"}, media_type="application/json")


def is_loopback(host: str) -> bool:
    """Whether a bind to `host` can be reached from this machine only; any name but localhost is the world."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def require_token(host: str, access: Access) -> None:
    """Refuse to be open to the world. Raises ConfigError."""
    if access.read_token is None and not is_loopback(host):
        raise ConfigError(
            f"{host or 'this address'} can be reached from other machines: set RECEIVER_READ_TOKEN or "
            "RECEIVER_READ_TOKEN_FILE, which readers must then give, or bind 127.0.0.1"
        )


def given_secret(headers: Headers) -> str:
    """The bearer token, or the password of basic credentials; empty when there is neither."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    match scheme.lower():
        case "bearer":
            return value.strip()
        case "basic":
            try:
                return base64.b64decode(value, validate=True).decode().partition(":")[2]
            except (binascii.Error, ValueError):
                return ""
    return ""
