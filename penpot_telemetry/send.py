"""POST one batch, hold a ledger against the receiver's: bytes out, one of three outcomes back.

`accepted`: a 2xx up to 206. `refused`: a 4xx that says these bytes will never do. `unknown`: everything else, and the
page is kept. An answer is read up to a bound and never trusted: of a receipt only known fields are kept, shortened.
No message carries credentials, and the only address a batch goes to is the one that was set.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from typing import Literal
from uuid import UUID

import requests
import stamina
import urllib3
from requests.auth import AuthBase, HTTPBasicAuth

from penpot_telemetry.config import Endpoint, Settings, own_version
from penpot_telemetry.errors import DecodeError, TelemetryError

ANSWER_BYTES = 64 * 1024
LEDGER_BYTES = 16 * 1024 * 1024

SUCCESS = range(200, 207)
"""Penpot's own notion: 206 or below."""

RETRIED = frozenset({429, 502, 503, 504})
UNKNOWN_SENDER = frozenset({401, 407})
NOT_FOR_GOOD = frozenset({408, 425, 429}) | UNKNOWN_SENDER
"""The 4xx that speak of the moment, or of who sends, and not of the page."""

RECEIPT_FIELDS = ("status", "batch-id", "events", "digest", "reason")
FIELD_LENGTH = 300


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a batch. `receipt` is what to keep; `reason` is for a person and safe to show.

    `repeated`: an earlier attempt had no answer, or none that settles it, so the batch may have arrived with that one.
    """

    outcome: Literal["accepted", "refused", "unknown"]
    reason: str
    receipt: Mapping[str, object]
    repeated: bool = False


class _Retry(Exception):  # noqa: N818  a turn of the loop, not an error that anyone sees
    """An answer that a repetition in the same run may better; `wait` is what the server asked for, in seconds."""

    def __init__(self, answer: Answer, wait: float | None = None) -> None:
        super().__init__(answer.reason)
        self.answer = answer
        self.wait = wait


class _NoCredentials(AuthBase):
    """Keeps requests from looking for a password in the user's .netrc."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


class _Bearer(AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def open_session(endpoint: Endpoint) -> requests.Session:
    """A session for one endpoint: proxies and certificates as the environment says, no cookies, no .netrc."""
    session = requests.Session()
    session.headers.update({"User-Agent": f"penpot-telemetry/{own_version()}", "Accept-Encoding": "identity"})
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    if endpoint.auth:
        session.auth = HTTPBasicAuth(*endpoint.auth)
    else:
        session.auth = _Bearer(endpoint.token) if endpoint.token else _NoCredentials()
    return session


def post_batch(
    session: requests.Session,
    endpoint: Endpoint,
    body: bytes,
    settings: Settings,
    stopped: Callable[[], bool] = lambda: False,
) -> Answer:
    """Sends the bytes until they are answered or the attempts are used up; the same bytes each time."""

    def worth_another_try(error: Exception) -> bool | float:
        if not isinstance(error, _Retry) or stopped():
            return False
        if error.wait is None:
            return True
        return error.wait if error.wait <= settings.retry_wait_max else False  # longer than that is the next run's

    try:
        for attempt in stamina.retry_context(
            on=worth_another_try,
            attempts=settings.attempts,
            timeout=None,
            wait_initial=settings.retry_wait,
            wait_jitter=settings.retry_wait,
            wait_max=settings.retry_wait_max,
        ):
            with attempt:
                answer = _post_once(session, endpoint, body, settings)
                return replace(answer, repeated=attempt.num > 1)
    except _Retry as gave_up:
        return gave_up.answer
    raise AssertionError("a retry loop ends by returning or raising")


def _post_once(session: requests.Session, endpoint: Endpoint, body: bytes, settings: Settings) -> Answer:
    try:
        response = session.post(
            endpoint.url,
            data=body,
            headers={"Content-Type": "application/json"},
            timeout=(settings.connect_timeout, settings.read_timeout),
            allow_redirects=False,
            stream=True,
        )
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        raise _Retry(_unknown(f"{endpoint.url} {_say_failure(error)}")) from None
    except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
        return _unknown(f"{endpoint.url} cannot be used: {type(error).__name__}")
    with response:
        answer = judge(response.status_code, _read_bounded(response, ANSWER_BYTES, settings.read_timeout), endpoint.url)
        if response.status_code in RETRIED:
            raise _Retry(answer, _read_retry_after(response.headers.get("Retry-After")))
        return answer


def judge(status: int, content: bytes, url: str) -> Answer:
    """What a status and the bytes that came with it say about a batch."""
    receipt = _read_receipt(content)
    kept = {**receipt, "http-status": status} if receipt else {"status": status}
    if status in SUCCESS:
        return Answer("accepted", f"{url} answered {status}", kept)
    detail = f": {receipt['reason']}" if "reason" in receipt else ""
    if 300 <= status < 400:  # noqa: PLR2004
        return _unknown(
            f"{url} answered {status}, a redirect, and batches are not sent elsewhere: set the final address"
        )
    if 400 <= status < 500 and status not in NOT_FOR_GOOD:  # noqa: PLR2004
        return Answer("refused", f"{url} answered {status}{detail}", kept)
    return _unknown(f"{url} answered {status}{detail}{_say_what_helps(status)}")


def _say_what_helps(status: int) -> str:
    return ": it wants a token, or another one: see PENPOT_TELEMETRY_TOKEN" if status in UNKNOWN_SENDER else ""


def _unknown(reason: str) -> Answer:
    return Answer("unknown", reason, {})


def _say_failure(error: Exception) -> str:
    """A failure in plain words: the library's own repeat the address with its credentials."""
    if isinstance(error, requests.ConnectTimeout):
        return "did not answer in time to the connection"
    if isinstance(error, requests.Timeout):
        return "took the batch and did not answer in time"
    if isinstance(error, requests.exceptions.SSLError):
        return "has a certificate that cannot be verified (REQUESTS_CA_BUNDLE names further authorities)"
    if isinstance(error, requests.exceptions.ProxyError):
        return "cannot be reached through the proxy that HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names"
    return "cannot be reached, or closed the connection before it answered"


def _read_retry_after(value: str | None) -> float | None:
    """Seconds, from seconds or from a date; None when it says nothing usable."""
    if value is None:
        return None
    with suppress(ValueError):
        seconds = float(value)
        return max(0.0, seconds) if math.isfinite(seconds) else None
    with suppress(ValueError, TypeError):
        moment = parsedate_to_datetime(value)
        return max(0.0, (moment - datetime.now(UTC)).total_seconds()) if moment.tzinfo else None
    return None


def _read_bounded(response: requests.Response, most: int, seconds: float) -> bytes:
    """The body as it comes, up to a size and a time: a status is all that is needed, a drip is not waited for."""
    found = bytearray()
    _read_into(found, response, most, seconds)
    return bytes(found)


def _read_into(found: bytearray, response: requests.Response, most: int, seconds: float) -> bool:
    """The body as far as it comes, nothing of one that is too long; says whether that is known to be all of it."""
    deadline = time.monotonic() + seconds
    try:
        for chunk in response.raw.stream(4096, decode_content=False):
            found += chunk
            if len(found) > most or time.monotonic() > deadline:
                found.clear()
                return False
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError):
        return False
    return response.raw.chunked or "Content-Length" in response.headers


def _read_receipt(content: bytes) -> dict[str, object]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(document, dict):
        return {}
    return {name: _plain(document[name]) for name in RECEIPT_FIELDS if isinstance(document.get(name), str | int)}


def _plain(value: str | int) -> str | int:
    """A value that a ledger can hold and a terminal can show: no control characters, no lone surrogates, no length."""
    if isinstance(value, int):
        return value if abs(value) < 2**53 else str(value)[:FIELD_LENGTH] if abs(value) < 2**200 else "?"
    return "".join(c for c in value[:FIELD_LENGTH] if c.isprintable())


# -- the receiver's ledger -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Received:
    """One batch as the receiver's ledger has it."""

    batch_id: UUID
    seq: int
    digest: str
    events: int
    status: str


class NoLedgerError(TelemetryError):
    """The address answers, and not with a ledger."""


def fetch_received(endpoint: Endpoint, instance_id: UUID, settings: Settings, after: int = 0) -> Iterator[Received]:
    """The receiver's ledger of this instance past a sequence number, page by page.

    Raises TelemetryError when it cannot be had, and as NoLedgerError or DecodeError when there is none.
    """
    url = f"{endpoint.url.rstrip('/').removesuffix('/telemetry')}/instances/{instance_id}/batches"
    with open_session(endpoint) as session:
        while batches := _fetch_ledger_page(session, url, after, settings):
            yield from batches
            last = max(batch.seq for batch in batches)
            if last <= after:
                raise DecodeError(f"{url} repeats itself after batch {after}")
            after = last


def _fetch_ledger_page(session: requests.Session, url: str, after: int, settings: Settings) -> list[Received]:
    try:
        response = session.get(
            url,
            params={"after": str(after)},
            timeout=(settings.connect_timeout, settings.read_timeout),
            allow_redirects=False,
            stream=True,
        )
    except requests.RequestException as error:
        raise TelemetryError(f"{url} {_say_failure(error)}") from None
    with response:
        if response.status_code != 200:  # noqa: PLR2004
            kind = TelemetryError if response.status_code in {*NOT_FOR_GOOD, 500, *RETRIED} else NoLedgerError
            helps = _say_what_helps(response.status_code) or ": is it the address of a receiver?"
            raise kind(f"{url} answered {response.status_code}{helps}")
        content = bytearray()
        if not _read_into(content, response, LEDGER_BYTES, settings.read_timeout):
            raise TelemetryError(f"{url} did not answer to the end")
    try:
        return [
            Received(
                batch_id=UUID(item["batch-id"]),
                seq=int(item["batch-seq"]),
                digest=str(_plain(item["digest"])),
                events=int(item["events"]),
                status=str(_plain(item["status"])),
            )
            for item in json.loads(content)["batches"]
            if item["batch-id"] is not None  # what this instance sent before it gave its batches an id
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DecodeError(f"{url} did not answer with a list of batches") from None
