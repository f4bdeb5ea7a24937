"""The outbox batch POSTed until it is answered or the attempts are used up: the same bytes each time.

No message carries credentials, and the only address a batch goes to is the one that was set. An answer is read up to
a bound of bytes and of time; `receipt` says what it means.
"""

import math
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import requests
import urllib3

from penpot_telemetry.config import Settings
from penpot_telemetry.endpoint import Endpoint
from penpot_telemetry.errors import ConfigError
from penpot_telemetry.http_client import Session, explain_failure, read_bounded
from penpot_telemetry.receipt import RETRIED, Answer, OutgoingBody, judge, unknown

ANSWER_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What one request came to. `may_repeat`: whether another one may do better, after `wait` seconds if it is said."""

    answer: Answer
    may_repeat: bool = False
    wait: float | None = None


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
    number = 0
    while True:
        before()
        attempt = _post_once(session, endpoint, sent, settings)
        number += 1
        wait = _back_off(number, settings) if attempt.wait is None else attempt.wait
        is_last = number >= settings.attempts or wait > settings.retry_wait_max  # a longer wait is left to the next run
        if not attempt.may_repeat or is_last or stopped():
            return attempt.answer
        time.sleep(wait)


def _back_off(number: int, settings: Settings) -> float:
    """Seconds to wait after so many attempts: twice as long each time, and some chance in it."""
    wait = settings.retry_wait * 2.0 ** min(number - 1, 30) + random.uniform(0, settings.retry_wait)  # noqa: S311
    return min(wait, settings.retry_wait_max)


def _post_once(session: Session, endpoint: Endpoint, sent: OutgoingBody, settings: Settings) -> _Attempt:
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
            return _Attempt(_out_of_time(endpoint, settings))
        return _Attempt(unknown(f"{endpoint.url} {explain_failure(error)}"), may_repeat=True)
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise _impossible(endpoint.url, error) from None
    if session.deadline.is_over:  # what was cut off reads like a short answer
        return _Attempt(_out_of_time(endpoint, settings))
    answer = judge(response.status_code, content, endpoint.url, sent)
    wait = _read_retry_after(response.headers.get("Retry-After"))
    return _Attempt(answer, response.status_code in RETRIED, wait)


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
