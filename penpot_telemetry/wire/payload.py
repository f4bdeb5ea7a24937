"""The POST bodies: built by the sender, parsed by the receiver; Penpot's two kinds, and our optional envelope."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Literal, TypeVar
from uuid import UUID

import msgspec

from penpot_telemetry.errors import DecodeError, LimitError, Reason
from penpot_telemetry.wire.limits import RECEIPT, Limits

EVENTS = "telemetry-events"
LEGACY_REPORT = "telemetry-legacy-report"


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
    """A `telemetry-events` body. Everything after `events` is ours and optional: Penpot's own batches lack it.

    `supersedes`: batches that were refused, of which this one holds a part; their ids end with this batch. `ignored`
    names the optional fields that a parsed body had, but not as they should be.
    """

    version: str
    instance_id: UUID
    events: str
    batch_id: UUID | None = None
    batch_seq: int | None = None
    event_count: int | None = None
    digest: str | None = None
    totals: Totals | None = None
    signature: Signature | None = None
    supersedes: tuple[UUID, ...] = ()
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LegacyReport:
    """A `telemetry-legacy-report` body, as parsed: not scrubbed yet.

    Penpot leaves `subscriptions` out when nobody subscribed, and `stats` when telemetry is off: both are empty then.
    """

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
        "supersedes": batch.supersedes or None,
    }
    return msgspec.json.encode({key: value for key, value in body.items() if value is not None})


def build_legacy_report(report: LegacyReport) -> bytes:
    """The body as UTF-8 JSON in Penpot's order; no subscriptions are left out, as Penpot does it."""
    return msgspec.json.encode(
        {
            "type": LEGACY_REPORT,
            "version": report.version,
            "instance-id": report.instance_id,
            "stats": report.stats,
        }
        | ({"subscriptions": report.subscriptions} if report.subscriptions else {})
    )


# ---------------------------------------------------------------------------------------------------- parsing

MOST = 10**11
"""Of a count or a sequence number. No Penpot gets there, and a receiver can add up ninety million of them."""

MOST_SUPERSEDED = 1024
"""Ids in one `supersedes`. Ten thousand rows are halved fourteen times, and a dead letter may be retried very often."""

MOST_VERSION = 250
UNKNOWN_VERSION, OTHER_VERSION = "unknown", "other"
"""In place of a version that is not there or no text, and of one that is too long."""

_Count = Annotated[int, msgspec.Meta(ge=0, le=MOST)]
_Digest = Annotated[str, msgspec.Meta(pattern=r"\Asha256:[0-9a-f]{64}\Z")]
_Superseded = Annotated[list[UUID], msgspec.Meta(max_length=MOST_SUPERSEDED)]

_NULL = msgspec.Raw(b"null")


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
    """The fields of ours stay raw: one that is odd is judged by itself, not with the body."""

    type: Literal["telemetry-events"]
    instance_id: UUID
    events: str
    version: msgspec.Raw = _NULL
    batch_id: msgspec.Raw = _NULL
    batch_seq: msgspec.Raw = _NULL
    event_count: msgspec.Raw = _NULL
    digest: msgspec.Raw = _NULL
    totals: msgspec.Raw = _NULL
    signature: msgspec.Raw = _NULL
    supersedes: msgspec.Raw = _NULL


class _Report(msgspec.Struct, rename="kebab"):
    type: Literal["telemetry-legacy-report"]
    instance_id: UUID
    version: msgspec.Raw = _NULL
    stats: dict[str, object] | None = None
    subscriptions: list[object] | None = None


_Read = TypeVar("_Read")

_HALF_PAIR = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
"""Half a surrogate pair, escaped: legal in JSON, and JavaScript writes it."""

_MOST_ESCAPES = 10_000


def parse(body: bytes, limits: Limits = RECEIPT) -> EventsBatch | LegacyReport:
    """A body as what it claims to be.

    Raises DecodeError: `not-json`, `wrong-shape`, `unknown-type`, `too-large`; and `wrong-digest`, `bad-signature` for
    a digest and a signature that cannot be one. Keys that nobody here knows are ignored. So are `batch-id`,
    `batch-seq`, `event-count` and `totals` when they do not hold what they should: `ignored` names them. An odd
    `supersedes` makes a wrong shape, because without it an event could be loaded twice.
    """
    if len(body) > limits.body:
        raise LimitError(f"a body of {len(body)} bytes, the cap is {limits.body}", reason="too-large")
    try:
        claimed = _decode(body, _Typed).type
    except DecodeError:
        if body.count(b"\\u") > _MOST_ESCAPES or not _HALF_PAIR.search(body):
            raise
        body = _HALF_PAIR.sub(rb"\\ufffd", body)
        claimed = _decode(body, _Typed).type
    if claimed == EVENTS:
        return _events_batch(_decode(body, _Events))
    if claimed == LEGACY_REPORT:
        return _legacy_report(body, limits)
    raise _refused(f"a body that is neither {EVENTS} nor {LEGACY_REPORT}", "unknown-type")


def _decode(body: bytes | msgspec.Raw, shape: type[_Read]) -> _Read:
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
    ignored: list[str] = []
    batch_id = _optional(read.batch_id, UUID, "batch-id", ignored)
    batch_seq = _optional(read.batch_seq, _Count, "batch-seq", ignored)
    event_count = _optional(read.event_count, _Count, "event-count", ignored)
    totals = _optional(read.totals, _Totals, "totals", ignored)
    signature = _strict(read.signature, _Signature, "signature", "bad-signature")
    return EventsBatch(
        version=_version(read.version),
        instance_id=read.instance_id,
        events=read.events,
        batch_id=batch_id,
        batch_seq=batch_seq,
        event_count=event_count,
        digest=_strict(read.digest, _Digest, "digest", "wrong-digest"),
        totals=None if totals is None else Totals(**msgspec.structs.asdict(totals)),
        signature=None if signature is None else Signature(signature.key, signature.value),
        supersedes=tuple(_strict(read.supersedes, _Superseded, "supersedes", "wrong-shape") or ()),
        ignored=tuple(ignored),
    )


def _optional(raw: msgspec.Raw, kind: type[_Read], name: str, ignored: list[str]) -> _Read | None:
    """A field that may be absent, and is taken for absent when it does not hold what it should."""
    try:
        return None if raw == _NULL else _decode(raw, kind)
    except DecodeError:
        ignored.append(name)
        return None


def _strict(raw: msgspec.Raw, kind: type[_Read], name: str, reason: Reason) -> _Read | None:
    """A field that may be absent, but must hold what it should where it is there."""
    try:
        return None if raw == _NULL else _decode(raw, kind)
    except DecodeError:
        raise _refused(f"{name} is not what it should be", reason) from None


def _version(raw: msgspec.Raw) -> str:
    try:
        version = _decode(raw, str)
    except DecodeError:
        return UNKNOWN_VERSION
    return version if len(version) <= MOST_VERSION else OTHER_VERSION


def _legacy_report(body: bytes, limits: Limits) -> LegacyReport:
    if body.count(b",") + body.count(b"[") + body.count(b"{") > limits.report:
        raise LimitError(f"a report of more than {limits.report} values", reason="too-large")
    read = _decode(body, _Report)
    stats, subscriptions = read.stats or {}, read.subscriptions or []
    level: list[object] = [stats, subscriptions]
    for _ in range(limits.depth):
        level = [child for value in level for child in _children(value)]
        if not level:
            return LegacyReport(_version(read.version), read.instance_id, stats, subscriptions)
    raise LimitError(f"a report is nested deeper than {limits.depth} levels", reason="too-large")


def _children(value: object) -> Sequence[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else ()


def _refused(message: str, reason: Reason) -> DecodeError:
    return DecodeError(message, reason=reason)
