"""What an audit event is, what a telemetry event is, and which context keys may pass from one to the other.

The safe sets are allow-lists: a key that is not named here does not leave, whatever its value. They are Penpot's
own sets (backend `app.loggers.audit`, read at 66bb6a11df), kept in this one place and used by both sides.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

Origin = Literal["frontend", "backend"]

SOURCE = "telemetry"
"""The source of every row this project stores (the first dialect)."""

SHIPPED_SOURCES = ("telemetry", "telemetry:backend", "telemetry:frontend")
"""The sources that leave: ours, and the two that a current Penpot writes."""

NAME = re.compile(r"(?=[0-9_-]*[A-Za-z])[A-Za-z0-9_-]{1,250}")
"""ASCII only: a name is a word of the program, and the letters of all scripts would let names of people through.

Without a letter it is no word but a number: an instant, a telephone, an address.
"""

ZERO_UUID = UUID(int=0)
"""The profile id of an event that has no profile."""

NO_ADDRESS = "0.0.0.0"  # noqa: S104  an address that names nobody, not one to bind to

FRONTEND_TYPES = frozenset({"action", "identify", "trigger"})

BACKEND_CONTEXT_KEYS = frozenset({"initiator", "version", "client-version", "client-user-agent"})

FRONTEND_CONTEXT_KEYS = frozenset(
    {
        "version",
        "locale",
        "browser",
        "browser-version",
        "engine",
        "engine-version",
        "os",
        "os-version",
        "device-type",
        "device-arch",
        "screen-width",
        "screen-height",
        "screen-color-depth",
        "screen-orientation",
        "event-origin",
        "event-namespace",
        "event-symbol",
    }
)

CONTEXT_KEYS: Mapping[str, frozenset[str]] = {
    "frontend": FRONTEND_CONTEXT_KEYS,
    "backend": BACKEND_CONTEXT_KEYS,
    "telemetry:frontend": FRONTEND_CONTEXT_KEYS,
    "telemetry:backend": BACKEND_CONTEXT_KEYS,
    "telemetry": FRONTEND_CONTEXT_KEYS | BACKEND_CONTEXT_KEYS,
}
"""The safe context keys by origin (before storing) and by source (after: `telemetry` no longer tells its origin)."""


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One usage event as it happens, before anything is removed. Never stored, never sent.

    `props` and `context` are keyed by plain names (`"client-version"`); `tracked_at` and `created_at` are aware.
    """

    name: str
    type: str
    origin: Origin
    tracked_at: datetime
    created_at: datetime
    profile_id: UUID | None = None
    ip_addr: str | None = None
    props: Mapping[str, object] = field(default_factory=dict)
    context: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TelemetryEvent:
    """What is left of an audit event: one row of `audit_log`, with nothing in it that names a person.

    `id` is random (version 4); `created_at` and `tracked_at` are midnight UTC of their day; props are always empty
    and the address always `0.0.0.0`, so neither has a field here. `changed` names the safe context keys whose value was
    changed or left out; it is counted, and not stored.
    """

    id: UUID
    name: str
    type: str
    profile_id: UUID
    created_at: datetime
    tracked_at: datetime
    context: Mapping[str, object]
    changed: tuple[str, ...] = ()
