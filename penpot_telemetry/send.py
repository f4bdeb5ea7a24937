"""POST one batch, read the receiver's ledger: bytes out, one of five outcomes back.

`accepted`: a receipt for this batch, or from an address that never gave receipts a status up to 206. `refused`: these
bytes will never do. `reused`: another batch has this id. `unsigned`: it wants another signature. `unknown`: everything
else, and the batch is kept. An answer
is read up to a bound of bytes and of time and never trusted: of a receipt only known fields are kept, shortened. No
message carries credentials, and the only address a batch goes to is the one that was set.
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
from penpot_telemetry.deadline import DeadlineAdapter
from penpot_telemetry.errors import ConfigError, DecodeError, TelemetryError

ANSWER_BYTES = 64 * 1024
LEDGER_BYTES = 16 * 1024 * 1024
LEDGER_REQUESTS = 10
"""How many times the time of one request a whole ledger may take: one that never ends is none."""

SUCCESS = range(200, 207)
"""Penpot's own notion: 206 or below."""

RETRIED = frozenset({429, 502, 503, 504})
UNKNOWN_SENDER = frozenset({401, 407})
NOT_FOR_GOOD = frozenset({408, 425, 429}) | UNKNOWN_SENDER
"""The 4xx that speak of the moment, or of who sends, and not of the page."""

OF_THE_SENDER: Mapping[str, str] = {
    "bad-signature": "the receiver wants another signature: see PENPOT_TELEMETRY_SIGNING_KEY_FILE, or let its operator "
    "unpin the key",
    "wrong-digest": "the batch was damaged on its way",
}
"""Reasons of a receiver that do not speak of the rows, and what to do."""

RECEIPT_FIELDS = ("status", "batch-id", "events", "dead-letters", "digest", "duplicate-of", "reason")
FIELD_LENGTH = 300


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a batch. `receipt` is what to keep; `reason` is for a person and safe to show."""

    outcome: Literal["accepted", "refused", "reused", "unsigned", "unknown"]
    reason: str
    receipt: Mapping[str, object]

    @property
    def is_receipt(self) -> bool:
        """Whether the answer names the batch: then it comes from a receiver that keeps a ledger."""
        return "batch-id" in self.receipt

    @property
    def duplicate_of(self) -> UUID | None:
        """The batch that arrived whole although it was refused, of which this one is a part."""
        return read_duplicate_of(self.receipt)


def read_duplicate_of(receipt: Mapping[str, object]) -> UUID | None:
    """What a receipt says that its batch is a part of, if it is one of a batch that arrived."""
    named = receipt.get("duplicate-of")
    with suppress(ValueError):
        return UUID(named) if isinstance(named, str) else None
    return None


@dataclass(frozen=True, slots=True)
class Sent:
    """A body on its way: what the receipt of a batch must name, and whether only a receipt counts."""

    body: bytes
    batch_id: UUID | None = None
    digest: str | None = None
    needs_receipt: bool = False


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


class Session(requests.Session):
    """A session whose requests end in time, whatever the server does."""

    def __init__(self) -> None:
        super().__init__()
        self.deadline = DeadlineAdapter()
        for scheme in ("http://", "https://"):
            self.mount(scheme, self.deadline)


def open_session(endpoint: Endpoint) -> Session:
    """A session for one endpoint: proxies and certificates as the environment says, no cookies, no .netrc."""
    session = Session()
    session.headers.update({"User-Agent": f"penpot-telemetry/{own_version()}", "Accept-Encoding": "identity"})
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    if endpoint.auth:
        session.auth = HTTPBasicAuth(*endpoint.auth)
    else:
        session.auth = _Bearer(endpoint.token) if endpoint.token else _NoCredentials()
    return session


def post_batch(  # noqa: PLR0913
    session: Session,
    endpoint: Endpoint,
    sent: Sent,
    settings: Settings,
    *,
    stopped: Callable[[], bool] = lambda: False,
    before: Callable[[], None] = lambda: None,
) -> Answer:
    """Sends the bytes until they are answered or the attempts are used up; the same bytes each time.

    `before` is called before each attempt. Raises ConfigError where the environment makes any request impossible.
    """

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
                before()
                return _post_once(session, endpoint, sent, settings)
    except _Retry as gave_up:
        return gave_up.answer
    raise AssertionError("a retry loop ends by returning or raising")


def _post_once(session: Session, endpoint: Endpoint, sent: Sent, settings: Settings) -> Answer:
    try:
        with session.deadline.within(settings.request_timeout):
            response = session.post(
                endpoint.url,
                data=sent.body,
                headers={"Content-Type": "application/json"},
                timeout=(settings.connect_timeout, settings.read_timeout),
                allow_redirects=False,
                stream=True,
            )
            with response:
                content = _read_bounded(response, ANSWER_BYTES)
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        if session.deadline.is_over:
            return _out_of_time(endpoint, settings)
        raise _Retry(_unknown(f"{endpoint.url} {_say_failure(error)}")) from None
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise _impossible(endpoint.url, error) from None
    if session.deadline.is_over:  # what was cut off reads like a short answer
        return _out_of_time(endpoint, settings)
    answer = judge(response.status_code, content, endpoint.url, sent)
    if response.status_code in RETRIED:
        raise _Retry(answer, _read_retry_after(response.headers.get("Retry-After")))
    return answer


def _out_of_time(endpoint: Endpoint, settings: Settings) -> Answer:
    return _unknown(f"{endpoint.url} did not answer to the end within {settings.request_timeout:g} seconds")


def _impossible(url: str, error: Exception) -> ConfigError:
    """What no repetition betters: the environment says something that requests cannot do."""
    if "SOCKS" in str(error):
        return ConfigError(f"{url} is behind a SOCKS proxy, which needs the package PySocks: pip install PySocks")
    if isinstance(error, OSError) and "TLS CA" in str(error):
        return ConfigError("REQUESTS_CA_BUNDLE (or CURL_CA_BUNDLE) names a file that is not there")
    return ConfigError(f"{url} cannot be used: {type(error).__name__}; check the address and the proxy settings")


def judge(status: int, content: bytes, url: str, sent: Sent) -> Answer:
    """What a status and the bytes that came with it say about a batch."""
    receipt = _read_receipt(content)
    kept = {**receipt, "http-status": status} if receipt else {"status": status}
    detail = f": {receipt['reason']}" if "reason" in receipt else ""
    reason = f"{url} answered {status}{detail}"
    if status in SUCCESS:
        return _judge_receipt(receipt, Answer("accepted", reason, kept), url, sent)
    if 300 <= status < 400:  # noqa: PLR2004
        return _unknown(
            f"{url} answered {status}, a redirect, and batches are not sent elsewhere: set the final address"
        )
    if 400 <= status < 500 and status not in NOT_FOR_GOOD:  # noqa: PLR2004
        return Answer("refused", reason, kept)
    return _unknown(f"{reason}{_say_what_helps(status)}")


def _judge_receipt(receipt: Mapping[str, object], accepted: Answer, url: str, sent: Sent) -> Answer:
    """A success, held against the batch: a receipt must be one for it, and say that it is loaded."""
    names_batch = sent.batch_id is not None and ("batch-id" in receipt or "digest" in receipt)
    named = (receipt.get("batch-id", str(sent.batch_id)), receipt.get("digest", sent.digest))
    if names_batch and named != (str(sent.batch_id), sent.digest):
        return _unknown(f"{url} gave a receipt for another batch: is a cache between here and the receiver?")
    if receipt.get("status") == "quarantined" and ("batch-id" in receipt or not sent.needs_receipt):
        reason = str(receipt.get("reason", "no reason given"))
        if reason in OF_THE_SENDER:
            said = f"{url} put the batch into quarantine ({reason}): {OF_THE_SENDER[reason]}"
            return Answer("unsigned", said, accepted.receipt) if reason == "bad-signature" else _unknown(said)
        outcome: Literal["reused", "refused"] = "reused" if reason == "id-reused" else "refused"
        return replace(accepted, outcome=outcome, reason=f"{url} put the batch into quarantine: {reason}")
    if names_batch and receipt.get("status") not in {"accepted", "duplicate"}:
        return _unknown(f"{url} gave a receipt that does not say that the batch is loaded")
    if sent.needs_receipt and not {"batch-id", "digest", "status"} <= receipt.keys():
        return _unknown(
            f"{accepted.reason} and gave no receipt, as it must: is this the receiver, or a page before it? "
            "(where it was replaced by one that gives none, set PENPOT_TELEMETRY_RECEIPTS=optional)"
        )
    return accepted


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


def _read_bounded(response: requests.Response, most: int) -> bytes:
    """The body up to a size, and nothing of one that is too long or cut off: a status is all that is needed."""
    found = bytearray()
    _read_into(found, response, most)
    return bytes(found)


def _read_into(found: bytearray, response: requests.Response, most: int) -> bool:
    """The body as far as it comes, nothing of one that is too long; says whether that is known to be all of it."""
    try:
        for chunk in response.raw.stream(4096, decode_content=False):
            found += chunk
            if len(found) > most:
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
    """One batch as the receiver's ledger has it: `events` loaded, and `dead` ones that it keeps aside."""

    batch_id: UUID
    seq: int
    digest: str
    events: int
    status: str
    dead: int = 0


class NoLedgerError(TelemetryError):
    """The address answers, and not with a ledger."""


def fetch_received(endpoint: Endpoint, instance_id: UUID, settings: Settings, after: int = 0) -> Iterator[Received]:
    """The receiver's ledger of this instance past a sequence number, page by page.

    Raises TelemetryError when it cannot be had, and as NoLedgerError or DecodeError when there is none.
    """
    url = f"{endpoint.url.rstrip('/').removesuffix('/telemetry')}/instances/{instance_id}/batches"
    end = time.monotonic() + LEDGER_REQUESTS * settings.request_timeout
    with open_session(endpoint) as session:
        while batches := _fetch_ledger_page(session, url, after, settings):
            yield from batches
            last = max(batch.seq for batch in batches)
            if last <= after:
                raise DecodeError(f"{url} repeats itself after batch {after}")
            if time.monotonic() > end:
                raise TelemetryError(f"{url} did not come to an end in time")
            after = last


def _fetch_ledger_page(session: Session, url: str, after: int, settings: Settings) -> list[Received]:
    content = bytearray()
    try:
        with session.deadline.within(settings.request_timeout):
            response = session.get(
                url,
                params={"after": str(after)},
                timeout=(settings.connect_timeout, settings.read_timeout),
                allow_redirects=False,
                stream=True,
            )
            with response:
                if response.status_code != 200:  # noqa: PLR2004
                    raise _no_ledger(url, response.status_code)
                is_whole = _read_into(content, response, LEDGER_BYTES)
    except requests.RequestException as error:
        raise TelemetryError(f"{url} {_say_failure(error)}") from None
    if not is_whole:
        raise TelemetryError(f"{url} did not answer to the end")
    try:
        return [
            Received(
                batch_id=UUID(item["batch-id"]),
                seq=int(item["batch-seq"]),
                digest=str(_plain(item["digest"])),
                events=int(item["events"]),
                status=str(_plain(item["status"])),
                dead=int(item.get("dead-letters", 0)),
            )
            for item in json.loads(content)["batches"]
            if item["batch-id"] is not None  # what this instance sent before it gave its batches an id
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DecodeError(f"{url} did not answer with a list of batches") from None


def _no_ledger(url: str, status: int) -> TelemetryError:
    kind = TelemetryError if status in {*NOT_FOR_GOOD, 500, *RETRIED} else NoLedgerError
    helps = _say_what_helps(status) or ": is it the address of a receiver?"
    return kind(f"{url} answered {status}{helps}")
