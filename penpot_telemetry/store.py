"""Telemetry events in, rows of `audit_log` out: stored with their ids and counted, in one transaction."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from os import urandom
from typing import cast
from uuid import UUID

from psycopg import Connection

from penpot_telemetry import account
from penpot_telemetry.connection import database_errors
from penpot_telemetry.events import NO_ADDRESS, SOURCE, TelemetryEvent
from penpot_telemetry.wire.transit import dumps_verbose


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """An event that was not recorded: its place in what was given, and why. Never what it held."""

    index: int
    reason: str


@dataclass(frozen=True, slots=True)
class RecordResult:
    """How many events were stored, and which were refused."""

    accepted: int
    refused: Sequence[RejectedEvent] = ()


def random_ids() -> Iterator[UUID]:
    """Version-4 uuids without end; the system is asked once for a thousand."""
    while True:
        block = urandom(16 * 1024)
        for start in range(0, len(block), 16):
            yield UUID(bytes=block[start : start + 16], version=4)


def store_events(conn: Connection, events: Iterable[TelemetryEvent]) -> int:
    """Stores events and enters them into the account, and says how many. All of them, or none."""
    changed: Counter[str] = Counter()

    def counted() -> Iterator[TelemetryEvent]:
        for event in events:
            if event.changed:
                changed.update(event.changed)
            yield event

    with database_errors(), conn.transaction():
        ids = copy_events(conn, counted())
        if ids:
            account.enter(conn, "{" + ",".join(ids) + "}", len(ids))
            account.count_changed(conn, changed)
    return len(ids)


_COPY_EVENTS = """
COPY audit_log (id, name, type, created_at, profile_id, ip_addr, props, tracked_at, source, context) FROM STDIN
"""

_CHUNK = 256


def copy_events(conn: Connection, events: Iterable[TelemetryEvent]) -> Sequence[str]:
    """Stores events as rows, and returns their ids as hex digits."""
    ids: list[str] = []
    contexts: dict[int, tuple[Mapping[str, object], str]] = {}
    days: dict[datetime, str] = {}
    with conn.cursor() as cursor, cursor.copy(_COPY_EVENTS) as copy:
        lines: list[str] = []
        for event in events:
            context = event.context
            known = contexts.get(id(context))
            if known is None:
                if len(contexts) > 4096:  # noqa: PLR2004  as many as anonymise remembers
                    contexts.clear()
                known = contexts[id(context)] = (context, _escape(dumps_verbose(cast("Mapping[str, str]", context))))
            created = days.get(event.created_at) or days.setdefault(event.created_at, event.created_at.isoformat())
            tracked = days.get(event.tracked_at) or days.setdefault(event.tracked_at, event.tracked_at.isoformat())
            row_id = event.id.hex
            ids.append(row_id)
            lines.append(
                f"{row_id}\t{event.name}\t{event.type}\t{created}\t{event.profile_id.hex}"
                f"\t{NO_ADDRESS}\t{{}}\t{tracked}\t{SOURCE}\t{known[1]}\n"
            )
            if len(lines) == _CHUNK:
                copy.write("".join(lines))
                lines.clear()
        copy.write("".join(lines))
    return ids


def _escape(text: str) -> str:
    """Text for COPY. JSON has no raw control characters, and names are plain words: the backslash is all there is."""
    return text.replace("\\", "\\\\")
