"""The outbox batch POSTed until it is answered or the attempts are used up: the same bytes each time.

No message carries credentials, and the only address a batch goes to is the one that was set. An answer is read up to
a bound of bytes and of time; `receipt` says what it means.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import requests
import stamina
import urllib3

from penpot_telemetry.config import Settings
from penpot_telemetry.endpoint import Endpoint
from penpot_telemetry.errors import ConfigError
from penpot_telemetry.http_client import Session, explain_failure, read_bounded
from penpot_telemetry.receipt import RETRIED, Answer, OutgoingBody, judge, unknown

ANSWER_BYTES = 64 * 1024


class _Retry(Exception):  # noqa: N818  a turn of the loop, not an error that anyone sees
    """An answer that a repetition in the same run may better; `wait` is what the server asked for, in seconds."""

    def __init__(self, answer: Answer, wait: float | None = None) -> None:
        super().__init__(answer.reason)
        self.answer = answer
        self.wait = wait


def post_batch(  # noqa: PLR0913
    session: Session,
    endpoint: Endpoint,
    sent: OutgoingBody,
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


def _post_once(session: Session, endpoint: Endpoint, sent: OutgoingBody, settings: Settings) -> Answer:
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
                content = read_bounded(response, ANSWER_BYTES)
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        if session.deadline.is_over:
            return _out_of_time(endpoint, settings)
        raise _Retry(unknown(f"{endpoint.url} {explain_failure(error)}")) from None
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise _impossible(endpoint.url, error) from None
    if session.deadline.is_over:  # what was cut off reads like a short answer
        return _out_of_time(endpoint, settings)
    answer = judge(response.status_code, content, endpoint.url, sent)
    if response.status_code in RETRIED:
        raise _Retry(answer, _read_retry_after(response.headers.get("Retry-After")))
    return answer


def _out_of_time(endpoint: Endpoint, settings: Settings) -> Answer:
    return unknown(f"{endpoint.url} did not answer to the end within {settings.request_timeout:g} seconds")


def _impossible(url: str, error: Exception) -> ConfigError:
    """What no repetition betters: the environment says something that requests cannot do."""
    if "SOCKS" in str(error):
        return ConfigError(f"{url} is behind a SOCKS proxy, which needs the package PySocks: pip install PySocks")
    if isinstance(error, OSError) and "TLS CA" in str(error):
        return ConfigError("REQUESTS_CA_BUNDLE (or CURL_CA_BUNDLE) names a file that is not there")
    return ConfigError(f"{url} cannot be used: {type(error).__name__}; check the address and the proxy settings")


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


# -- the receiver's ledger -------------------------------------------------------------------------------------------
