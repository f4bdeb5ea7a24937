"""The POST bodies: built by the sender, parsed by the receiver; Penpot's two kinds, and our optional envelope."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from penpot_telemetry.wire.limits import RECEIPT, Limits


@dataclass(frozen=True, slots=True)
class Totals:
    """The sender's account since the beginning, in events: recorded = shipped + dropped + quarantined + pending."""

    recorded: int
    shipped: int
    dropped: int
    quarantined: int
    pending: int


@dataclass(frozen=True, slots=True)
class EventsBatch:
    """A `telemetry-events` body. Everything after `events` is ours and optional: Penpot's own batches lack it."""

    version: str
    instance_id: UUID
    events: str
    batch_id: UUID | None = None
    batch_seq: int | None = None
    event_count: int | None = None
    digest: str | None = None
    totals: Totals | None = None


@dataclass(frozen=True, slots=True)
class LegacyReport:
    """A `telemetry-legacy-report` body, as parsed: not scrubbed yet."""

    version: str
    instance_id: UUID
    stats: Mapping[str, object]
    subscriptions: Sequence[object]


def digest_events(events: str) -> str:
    """`sha256:` and 64 hex digits of the `events` text in ASCII."""
    raise NotImplementedError


def build_events(batch: EventsBatch) -> bytes:
    """The body as UTF-8 JSON, Penpot's keys first and in its order; an absent field is left out."""
    raise NotImplementedError


def build_legacy_report(report: LegacyReport) -> bytes:
    """The body as UTF-8 JSON in Penpot's order."""
    raise NotImplementedError


def parse(body: bytes, limits: Limits = RECEIPT) -> EventsBatch | LegacyReport:
    """A body as what it claims to be. Raises DecodeError: `not-json`, `wrong-shape`, `unknown-type`, `too-large`."""
    raise NotImplementedError
