"""The receiver's ledger, read page by page: which batches of this instance it has."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

import requests

from penpot_telemetry.config import Settings
from penpot_telemetry.endpoint import Endpoint
from penpot_telemetry.errors import DecodeError, TelemetryError
from penpot_telemetry.http_client import Session, explain_failure, open_session, read_into
from penpot_telemetry.receipt import NOT_FOR_GOOD, RETRIED, explain_status, make_plain

LEDGER_BYTES = 16 * 1024 * 1024

LEDGER_REQUESTS = 10
"""A whole ledger may take so many times the time of one request."""


@dataclass(frozen=True, slots=True)
class ReceiverBatch:
    """One batch as the receiver's ledger has it: `events` loaded, and `dead` ones that are dead letters there."""

    batch_id: UUID
    seq: int
    digest: str
    events: int
    status: str
    dead: int = 0


class NoLedgerError(TelemetryError):
    """The address answers, and not with a ledger."""


def fetch_received(
    endpoint: Endpoint, instance_id: UUID, settings: Settings, after: int = 0
) -> Iterator[ReceiverBatch]:
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
                raise DecodeError(
                    f"{url} repeats itself after batch {after}: check that it is the address of a receiver"
                )
            if time.monotonic() > end:
                raise TelemetryError(
                    f"{url} did not send its whole ledger within {LEDGER_REQUESTS * settings.request_timeout:g} seconds"
                )
            after = last


def _fetch_ledger_page(session: Session, url: str, after: int, settings: Settings) -> list[ReceiverBatch]:
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
                is_whole = read_into(content, response, LEDGER_BYTES)
    except requests.RequestException as error:
        raise TelemetryError(f"{url} {explain_failure(error)}") from None
    if not is_whole:
        raise TelemetryError(f"{url} broke off its answer")
    try:
        return [
            ReceiverBatch(
                batch_id=UUID(item["batch-id"]),
                seq=int(item["batch-seq"]),
                digest=str(make_plain(item["digest"])),
                events=int(item["events"]),
                status=str(make_plain(item["status"])),
                dead=int(item.get("dead-letters", 0)),
            )
            for item in json.loads(content)["batches"]
            if item["batch-id"] is not None  # what this instance sent before it gave its batches an id
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DecodeError(f"{url} did not answer with a list of batches") from None


def _no_ledger(url: str, status: int) -> TelemetryError:
    kind = TelemetryError if status in {*NOT_FOR_GOOD, 500, *RETRIED} else NoLedgerError
    helps = explain_status(status) or ": is it the address of a receiver?"
    return kind(f"{url} answered {status}{helps}")
