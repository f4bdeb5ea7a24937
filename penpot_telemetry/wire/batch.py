"""Rows to `events` text and `events` text to columns: the fast path, equal to `fressian` value for value."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from penpot_telemetry.wire.limits import RECEIPT, Limits


class EventRow(NamedTuple):
    """One stored event as the sender reads it from `audit_log`.

    `tracked_at` in epoch milliseconds; `profile_id` as its 16 bytes; `props` and `context` as verbose transit JSON.
    """

    name: str
    type: str
    source: str
    tracked_at: int
    profile_id: bytes | None
    props: str
    context: str


@dataclass(frozen=True, slots=True)
class Columns:
    """A batch, column by column; all of one length, in the order of the batch.

    `tracked_at` in epoch milliseconds; `profile_id` as 16 bytes; `props` and `context` as JSON text (uuids as
    strings, instants ISO 8601, a keyword value as its plain name). `unknown_keys` counts event keys beside the seven.
    """

    name: list[str]
    type: list[str]
    source: list[str]
    tracked_at: list[int | None]
    profile_id: list[bytes | None]
    props: list[str]
    context: list[str]
    unknown_keys: dict[str, int]


def encode_events(rows: Iterable[EventRow]) -> str:
    """Rows as the `events` text of a batch: base64url of a version-4 blob. Same rows, same text."""
    raise NotImplementedError


def decode_columns(events: str, limits: Limits = RECEIPT) -> Columns:
    """The `events` text of a batch as columns. Raises DecodeError for whatever is not a batch."""
    raise NotImplementedError
