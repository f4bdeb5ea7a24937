"""The POST bodies: built by the sender, parsed by the receiver; Penpot's two kinds, and our optional envelope."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Literal, TypeVar
from uuid import UUID

import msgspec

from penpot_telemetry.errors import DecodeError, LimitError, Reason
from penpot_telemetry.wire.limits import RECEIPT, Limits

EVENTS = "telemetry-events"
LEGACY_REPORT = "telemetry-legacy-report"

_REPORT_VALUES = 1_000_000
"""What a report may hold: two bytes of JSON can be a list of 56 bytes, so a cap on the body is not enough."""


@dataclass(frozen=True, slots=True)
class Totals:
    """The sender's account since the beginning, in events: recorded = shipped + dropped + quarantined + pending."""

    recorded: int
    shipped: int
    dropped: int
    quarantined: int
    pending: int


@dataclass(frozen=True, slots=True)
class Signature:
    """Who vouches for a batch: an Ed25519 public key (32 bytes) and its signature (64); see `wire.signature`."""

    key: bytes
    value: bytes


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
    signature: Signature | None = None


@dataclass(frozen=True, slots=True)
class LegacyReport:
    """A `telemetry-legacy-report` body, as parsed: not scrubbed yet."""

    version: str
    instance_id: UUID
    stats: Mapping[str, object]
    subscriptions: Sequence[object]


def digest_events(events: str) -> str:
    """`sha256:` and 64 hex digits of the `events` text in ASCII (of its UTF-8, where a hostile one is not ASCII)."""
    return "sha256:" + hashlib.sha256(events.encode("utf-8", "surrogatepass")).hexdigest()


# ---------------------------------------------------------------------------------------------------- building


def build_events(batch: EventsBatch) -> bytes:
    """The body as UTF-8 JSON, Penpot's keys first and in its order; an absent field is left out."""
    body: dict[str, object] = {
        "type": EVENTS,
        "version": batch.version,
        "instance-id": batch.instance_id,
        "events": batch.events,
        "batch-id": batch.batch_id,
        "batch-seq": batch.batch_seq,
        "event-count": batch.event_count,
        "digest": batch.digest,
        "totals": None if batch.totals is None else asdict(batch.totals),
        "signature": None if batch.signature is None else asdict(batch.signature),  # its bytes become base64
    }
    return msgspec.json.encode({key: value for key, value in body.items() if value is not None})


def build_legacy_report(report: LegacyReport) -> bytes:
    """The body as UTF-8 JSON in Penpot's order."""
    return msgspec.json.encode(
        {
            "type": LEGACY_REPORT,
            "version": report.version,
            "instance-id": report.instance_id,
            "stats": report.stats,
            "subscriptions": report.subscriptions,
        }
    )


# ---------------------------------------------------------------------------------------------------- parsing

_Version = Annotated[str, msgspec.Meta(max_length=250)]
MOST = 10**11
"""Of a count or a sequence number. No Penpot gets there, and a receiver can add up ninety million of them."""

_Count = Annotated[int, msgspec.Meta(ge=0, le=MOST)]
_Digest = Annotated[str, msgspec.Meta(pattern=r"\Asha256:[0-9a-f]{64}\Z")]


class _Typed(msgspec.Struct):
    type: str


class _Totals(msgspec.Struct, rename="kebab"):
    recorded: _Count
    shipped: _Count
    dropped: _Count
    quarantined: _Count
    pending: _Count


class _Signature(msgspec.Struct, rename="kebab"):
    key: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    value: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]


class _Events(msgspec.Struct, rename="kebab"):
    type: Literal["telemetry-events"]
    version: _Version
    instance_id: UUID
    events: str
    batch_id: UUID | None = None
    batch_seq: _Count | None = None
    event_count: _Count | None = None
    digest: _Digest | None = None
    totals: _Totals | None = None
    signature: _Signature | None = None


class _Report(msgspec.Struct, rename="kebab"):
    type: Literal["telemetry-legacy-report"]
    version: _Version
    instance_id: UUID
    stats: dict[str, object]
    subscriptions: list[object]


_Body = TypeVar("_Body", bound=msgspec.Struct)


def parse(body: bytes, limits: Limits = RECEIPT) -> EventsBatch | LegacyReport:
    """A body as what it claims to be. Raises DecodeError: `not-json`, `wrong-shape`, `unknown-type`, `too-large`.

    Keys that nobody here knows are ignored; a key of ours that does not hold what it should makes a wrong shape.
    """
    if len(body) > limits.body:
        raise LimitError(f"a body of {len(body)} bytes, the cap is {limits.body}", reason="too-large")
    claimed = _decode(body, _Typed).type
    if claimed == EVENTS:
        return _events_batch(_decode(body, _Events))
    if claimed == LEGACY_REPORT:
        return _legacy_report(body, limits)
    raise _refused(f"a body that is neither {EVENTS} nor {LEGACY_REPORT}", "unknown-type")


def _decode(body: bytes, shape: type[_Body]) -> _Body:
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as error:
        raise _refused(f"a body of another shape: {error}", "wrong-shape") from None
    except msgspec.DecodeError as error:
        raise _refused(f"a body that is not JSON: {error}", "not-json") from None
    except UnicodeDecodeError:
        raise _refused("a body that is not UTF-8", "not-json") from None
    except RecursionError:
        raise LimitError("a body is nested deeper than the stack allows", reason="too-large") from None


def _events_batch(read: _Events) -> EventsBatch:
    totals, signature = read.totals, read.signature
    return EventsBatch(
        version=read.version,
        instance_id=read.instance_id,
        events=read.events,
        batch_id=read.batch_id,
        batch_seq=read.batch_seq,
        event_count=read.event_count,
        digest=read.digest,
        totals=None if totals is None else Totals(**msgspec.structs.asdict(totals)),
        signature=None if signature is None else Signature(signature.key, signature.value),
    )


def _legacy_report(body: bytes, limits: Limits) -> LegacyReport:
    if body.count(b",") + body.count(b"[") + body.count(b"{") > _REPORT_VALUES:
        raise LimitError(f"a report of more than {_REPORT_VALUES} values", reason="too-large")
    read = _decode(body, _Report)
    level: list[object] = [read.stats, read.subscriptions]
    for _ in range(limits.depth):
        level = [child for value in level for child in _children(value)]
        if not level:
            return LegacyReport(read.version, read.instance_id, read.stats, read.subscriptions)
    raise LimitError(f"a report is nested deeper than {limits.depth} levels", reason="too-large")


def _children(value: object) -> Sequence[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else ()


def _refused(message: str, reason: Reason) -> DecodeError:
    return DecodeError(message, reason=reason)
