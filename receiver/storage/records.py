"""One delivery: what a POST body was, and what became of it. The landfill keeps it, the warehouse counts it.

Everything here is scrubbed: no client address, no free text from a body. With the events it carries, a delivery is
enough to build its rows of the warehouse again.
"""

import hashlib
from datetime import UTC, date, datetime
from typing import Literal, NamedTuple
from uuid import UUID

import msgspec

from penpot_telemetry.errors import DatabaseError

Kind = Literal["batch", "report", "refused", "renewed", "unpin", "revived", "dropped"]
UNCOUNTED = frozenset({"renewed", "unpin", "revived", "dropped"})
"""The kinds that are no bodies that came."""

Outcome = Literal["loaded", "duplicate", "quarantined"]
Stat = int | float | str | dict[str, int]
"""What is kept of a figure of a report; a map is the event counters."""

Trust = Literal["batch-id", "digest"]


class Totals(msgspec.Struct, frozen=True, rename="kebab"):
    """The sender's account since its beginning, in events."""

    recorded: int
    shipped: int
    dropped: int
    quarantined: int
    pending: int


class DeadLetter(msgspec.Struct, frozen=True, rename="kebab", omit_defaults=True):
    """An event of a batch that could not be loaded, as it is kept. `event_no`: its place in the batch, from 0.

    `event`: JSON text of its fields, its context reduced, or empty when it was erased since. A retry may load it when
    it is whole.
    """

    event_no: int
    reason: str
    message: str
    event: str
    is_whole: bool = True


class Delivery(msgspec.Struct, frozen=True, rename="kebab", omit_defaults=True):
    """What one answered body was. Fields after `digest` belong to some kinds only.

    `id` is random: the same delivery found in two files is one. `key` is what is known again: of the batch, the
    report, or the refused body. `digest` is of the events text, the kept stats, or the body. `events` counts the
    events of a batch, loaded or not; `erased` of them were removed since. A delivery that is `forgotten` keeps no more
    than its key and its counts. `signed_by` is the public key whose signature came with a batch. `retried` is the key
    of the refused body that this was until a retry read it. `events` counts those that were good; `dead_letters` the
    others. `supersedes`: batches whose parts this one holds, and `superseded_keys` their keys once it is forgotten;
    `duplicate_of`: the one of them that was loaded, which `key` and `digest` are of then.

    Four kinds are no bodies that came, and are not counted as such; they are kept among the deliveries because they
    mean something only between two of them. `unpin` is the operator's word that another key may sign for an instance,
    `renewed` a refused body that a retry refused for another reason, `revived` and `dropped` are dead letters
    (`event_nos` of the batch with this key) that a retry loaded, or that the operator let go.
    """

    id: UUID
    received_at: datetime
    kind: Kind
    outcome: Outcome
    key: UUID
    digest: str
    instance_id: UUID | None = None
    version: str = ""
    batch_id: UUID | None = None
    batch_seq: int | None = None
    events: int = 0
    totals: Totals | None = None
    dropped_context_keys: int = 0
    unknown_keys: int = 0
    overlap_events: int | None = None
    stats: dict[str, Stat] | None = None
    dropped_stats: int = 0
    reason: str = ""
    message: str = ""
    size: int = 0
    body: str | None = None
    events_digest: str | None = None
    signed_by: str | None = None
    erased: int = 0
    forgotten: bool = False
    removed_at: datetime | None = None
    retried: UUID | None = None
    dead_letters: int = 0
    changed_values: int = 0
    ignored_fields: int = 0
    supersedes: list[UUID] = []
    superseded_keys: list[UUID] = []
    duplicate_of: UUID | None = None
    event_nos: list[int] = []

    @property
    def trust(self) -> Trust:
        """How sure it is that a repeat of this batch is one: by the sender's word, or by its bytes alone."""
        return "digest" if self.batch_id is None else "batch-id"


class Position(NamedTuple):
    """A place between two records of the landfill: a file by its day, and an offset in it. They grow with time."""

    day: date
    offset: int


class Receipt(msgspec.Struct, frozen=True, rename="kebab", omit_defaults=True):
    """The answer to a body. A duplicate carries what the first receipt carried.

    `events` were loaded, `dead_letters` kept apart. `duplicate_of`: this batch is a part of one that was loaded.
    """

    status: Literal["accepted", "duplicate", "quarantined"]
    events: int
    batch_id: UUID | None = None
    digest: str | None = None
    reason: str | None = None
    dead_letters: int = 0
    duplicate_of: UUID | None = None


class InUseError(DatabaseError):
    """Another process writes here; ask it instead, or stop it."""


def forget(delivery: Delivery, removed_at: datetime) -> Delivery:
    """What is left of a delivery whose batch, report or body was erased: it is known again, and it still counts.

    A batch that was loaded still keeps out the wholes of which it was a part.
    """
    return Delivery(
        id=delivery.id,
        received_at=delivery.received_at,
        kind=delivery.kind,
        outcome=delivery.outcome,
        key=delivery.key,
        digest=delivery.digest if delivery.kind == "batch" else "",
        events=delivery.events,
        dead_letters=delivery.dead_letters,
        superseded_keys=list_superseded(delivery) if delivery.outcome == "loaded" else [],
        forgotten=True,
        removed_at=removed_at,
        retried=None if delivery.kind == "renewed" else delivery.retried,
    )


def list_superseded(delivery: Delivery) -> list[UUID]:
    """The keys of the batches of which this one holds a part."""
    if delivery.instance_id is None:
        return delivery.superseded_keys
    return [batch_key(delivery.instance_id, batch_id, "") for batch_id in delivery.supersedes]


def batch_key(instance_id: UUID, batch_id: UUID | None, digest: str) -> UUID:
    """What a batch is known again by: its id, or for a sender without ids the digest of its events."""
    if batch_id is None:
        return _key("digest", str(instance_id), digest)
    return _key("batch-id", str(instance_id), str(batch_id))


def report_key(instance_id: UUID, version: str, received_at: datetime, digest: str) -> UUID:
    """What a report is known again by: the same figures and version from the same instance on the same day."""
    return _key("report", str(instance_id), version, received_at.astimezone(UTC).date().isoformat(), digest)


def refused_key(reason: str, digest: str) -> UUID:
    """What a refused body is known again by: the same bytes, refused for the same reason."""
    return _key("refused", reason, digest)


def digest_bytes(data: bytes) -> str:
    """`sha256:` and 64 hex digits."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _key(*parts: str) -> UUID:
    return UUID(bytes=hashlib.sha256("\0".join(parts).encode()).digest()[:16])
