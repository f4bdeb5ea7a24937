"""What becomes of each body: loaded, a duplicate, superseded, or a dead letter.

Decides from what the warehouse knows and from what bodies before it in the same transaction will add. Writes nothing
but a refused body, which is put aside in a file before the journal names it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID, uuid4

import polars as pl

from penpot_telemetry.wire import payload
from receiver.frames import (
    count_common,
    mark_events,
)
from receiver.intake import decode
from receiver.intake.decode import Batch, Rejection, Report
from receiver.intake.prepare import Job
from receiver.lifecycle.recovery import ID_REUSED, SUPERSEDED
from receiver.storage import inserts, journal, lookups
from receiver.storage.dead_letters import Shortage
from receiver.storage.journal import Carried
from receiver.storage.lookups import LoadedBatch
from receiver.storage.records import (
    DeadLetter,
    Delivery,
    Receipt,
    Totals,
    batch_key,
    digest_bytes,
    forget,
    refused_key,
    report_key,
)
from receiver.storage.shares import find_owner
from receiver.storage.store import TICK, Store, UnavailableError


class QuarantineFullError(UnavailableError):
    """A body that would have to be kept has no room, and is not answered with success. `job` is the one."""

    def __init__(self, job: Job, full: Shortage) -> None:
        whose = "quarantine" if full == "all" else "share of this sender in the quarantine"
        super().__init__(f"the {whose} is full: what cannot be kept is not answered with success")
        self.job = job
        self.full = full


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be written for one job, and what will be answered."""

    delivery: Delivery
    receipt: Receipt
    frame: pl.DataFrame | None = None
    letters: Sequence[DeadLetter] = ()
    marks: pl.Series | None = None
    carried: Carried = "nothing"
    packed: bytes = journal.NOTHING


@dataclass(frozen=True, slots=True)
class PendingState:
    """What jobs of the same transaction will have added by the time the next one is decided."""

    known: dict[UUID, LoadedBatch] = field(default_factory=dict)
    pages: dict[UUID, pl.Series] = field(default_factory=dict)
    keys: dict[UUID, str] = field(default_factory=dict)
    superseded: set[UUID] = field(default_factory=set)


def decide(store: Store, jobs: Sequence[Job]) -> list[Plan]:
    """What will become of each job, given what the warehouse knows and what the jobs before it will add."""
    pending = PendingState()
    instant = store.next_instant()
    plans: list[Plan] = []
    for job in jobs:
        plans.append(decide_one(store, job, instant, pending))
        instant += TICK
    return plans


def decide_one(store: Store, job: Job, received_at: datetime, pending: PendingState) -> Plan:
    """One job as what will be written. Puts the body aside when it is to be quarantined."""
    match job.item:
        case Batch():
            return decide_batch(store, job, job.item, received_at, pending)
        case Report():
            return decide_report(store, job, job.item, received_at, pending)
        case Rejection():
            return decide_refused(store, job, job.item, received_at)


def decide_batch(  # noqa: PLR0911  a batch has as many ends
    store: Store, job: Job, item: Batch, received_at: datetime, pending: PendingState
) -> Plan:
    """A batch by its key: new, the same again, another one under a used id, or one that came in parts, or a part."""
    sent = item.sent
    key = batch_key(sent.instance_id, sent.batch_id, item.digest)
    known = pending.known.get(key) or lookups.find_batch(store.warehouse.con, key)
    if known is not None and known.digest != item.digest:
        return decide_refused(store, job, Rejection("id-reused", ID_REUSED, sent, item.digest), received_at)
    is_new = known is None
    pinned = pinned_key(store, sent.instance_id, pending) if is_new else None
    if pinned is not None and pinned != item.signed_by:
        message = "not signed with the key that is pinned for this instance"
        return decide_refused(store, job, Rejection("bad-signature", message, sent, item.digest), received_at)
    if is_new and is_superseded(store, key, pending):
        return decide_refused(
            store, job, Rejection("superseded", SUPERSEDED, sent, item.digest, is_kept=False), received_at
        )
    whole = find_loaded(store, sent, pending) if is_new else None
    if whole is not None:
        return decide_part(store, job, item, received_at, *whole)
    marks = mark_events(item.page.frame) if is_new else None
    delivery = Delivery(
        id=uuid4(),
        received_at=received_at,
        kind="batch",
        outcome="loaded" if is_new else "duplicate",
        key=key,
        digest=item.digest,
        instance_id=sent.instance_id,
        version=item.version,
        batch_id=sent.batch_id,
        batch_seq=sent.batch_seq,
        events=item.page.frame.height,
        dead_letters=len(item.page.dead_letters),
        totals=copy_totals(sent.totals),
        dropped_context_keys=item.page.dropped_context_keys,
        unknown_keys=item.page.unknown_keys,
        changed_values=sum(item.page.changed_values.values()),
        ignored_fields=len(sent.ignored),
        supersedes=list(sent.supersedes),
        overlap_events=(
            None
            if marks is None or sent.batch_id is not None
            else estimate_overlap(store, sent.instance_id, item.page.frame, marks, pending)
        ),
        signed_by=item.signed_by,
        retried=retried_key(job),
    )
    if not journal.fits(delivery):
        return decide_refused(store, job, replace(TOO_LONG, sent=sent, digest=item.digest), received_at)
    receipt = inserts.receipt_of(delivery, known)
    if known is not None:
        return Plan(forget(delivery, received_at) if known.forgotten else delivery, receipt)
    pending.known[key] = LoadedBatch(sent.batch_id, delivery.events, item.digest, dead_letters=delivery.dead_letters)
    pending.superseded.update(batch_key(sent.instance_id, batch_id, "") for batch_id in sent.supersedes)
    if marks is not None:
        pending.pages[sent.instance_id] = marks
    if item.signed_by is not None:
        pending.keys[sent.instance_id] = item.signed_by
    return Plan(delivery, receipt, item.page.frame, item.page.dead_letters, marks, job.carried, job.packed)


def is_superseded(store: Store, key: UUID, pending: PendingState) -> bool:
    """Whether parts of the batch with this key were loaded in its place."""
    return key in pending.superseded or lookups.is_superseded(store.warehouse.con, key)


def find_loaded(
    store: Store, sent: payload.EventsBatch, pending: PendingState
) -> tuple[UUID, UUID, LoadedBatch] | None:
    """The first of the batches that this one supersedes which was loaded after all: its id, its key, and it."""
    for batch_id in sent.supersedes:
        key = batch_key(sent.instance_id, batch_id, "")
        known = pending.known.get(key) or lookups.find_batch(store.warehouse.con, key)
        if known is not None:
            return batch_id, key, known
    return None


def decide_part(  # noqa: PLR0913, PLR0917  a part has two batches to it
    store: Store, job: Job, item: Batch, received_at: datetime, batch_id: UUID, key: UUID, whole: LoadedBatch
) -> Plan:
    """A part of a batch that was loaded as a whole: one more delivery of that one."""
    del store
    delivery = Delivery(
        id=uuid4(),
        received_at=received_at,
        kind="batch",
        outcome="duplicate",
        key=key,
        digest=whole.digest,
        instance_id=item.sent.instance_id,
        version=item.version,
        batch_id=item.sent.batch_id,
        batch_seq=item.sent.batch_seq,
        events=item.page.frame.height,
        dead_letters=len(item.page.dead_letters),
        signed_by=item.signed_by,
        retried=retried_key(job),
        duplicate_of=batch_id,
    )
    receipt = Receipt("duplicate", item.page.events, item.sent.batch_id, item.digest, duplicate_of=batch_id)
    return Plan(forget(delivery, received_at) if whole.forgotten else delivery, receipt)


def pinned_key(store: Store, instance_id: UUID, pending: PendingState) -> str | None:
    """The key that must have signed what comes from an instance: pinned before, or by a job before this one."""
    return pending.keys.get(instance_id) or lookups.find_key(store.warehouse.con, instance_id)


def estimate_overlap(
    store: Store, instance_id: UUID, frame: pl.DataFrame, marks: pl.Series, pending: PendingState
) -> int:
    """How much of a page looks like the page before: of a job before this one, still in memory, or in the warehouse."""
    before = pending.pages.get(instance_id)
    if before is None:
        before = store.pages.get(instance_id)
    if before is not None:
        return count_common(before, marks)
    return lookups.estimate_overlap(store.warehouse.con, instance_id, frame)


def copy_totals(totals: payload.Totals | None) -> Totals | None:
    """The sender's account as the landfill writes it."""
    if totals is None:
        return None
    return Totals(totals.recorded, totals.shipped, totals.dropped, totals.quarantined, totals.pending)


def decide_report(store: Store, job: Job, item: Report, received_at: datetime, pending: PendingState) -> Plan:
    """A scrubbed report: new, or the same again on the day its body came; nobody's, where a key is pinned."""
    digest = digest_bytes(decode.canonical_stats(item))
    came_at = job.retried.received_at if job.retried else received_at
    key = report_key(item.instance_id, item.version, came_at, digest)
    forgotten = lookups.find_forgotten(store.warehouse.con, key) is not None
    is_new = not forgotten and key not in pending.known and not lookups.has_report(store.warehouse.con, key)
    if is_new and pinned_key(store, item.instance_id, pending) is not None:
        return decide_refused(store, job, decode.UNSIGNED_REPORT, received_at)
    delivery = Delivery(
        id=uuid4(),
        received_at=received_at,
        kind="report",
        outcome="loaded" if is_new else "duplicate",
        key=key,
        digest=digest,
        instance_id=item.instance_id,
        version=item.version,
        stats=dict(item.stats),
        dropped_stats=item.dropped_stats,
        retried=retried_key(job),
    )
    if not journal.fits(delivery):
        return decide_refused(store, job, replace(TOO_LONG, is_kept=False), received_at)
    pending.known.setdefault(key, LoadedBatch(None, 0, digest))
    receipt = inserts.receipt_of(delivery, None)
    return Plan(forget(delivery, received_at) if forgotten else delivery, receipt)


def decide_refused(store: Store, job: Job, item: Rejection, received_at: datetime) -> Plan:
    """A body put aside: its bytes in a file of their own, if they are kept, once however often it comes."""
    delivery_id, digest = uuid4(), digest_bytes(job.body)
    key = refused_key(item.reason, digest)
    kept = None
    forgotten = job.retried is None and lookups.find_forgotten(store.warehouse.con, key) is not None
    if job.retried is not None:
        kept = job.retried.body if item.is_kept else None
    elif item.is_kept and not forgotten and not lookups.has_refused(store.warehouse.con, key):
        kept = keep_body(store, job, f"{key}.body", item.sent)
    sent = item.sent
    delivery = Delivery(
        id=delivery_id,
        received_at=received_at,
        kind="refused" if job.retried is None else "renewed",
        outcome="quarantined",
        key=key,
        digest=digest,
        instance_id=None if sent is None else sent.instance_id,
        batch_id=None if sent is None else sent.batch_id,
        batch_seq=None if sent is None else sent.batch_seq,
        events_digest=item.digest,
        reason=item.reason,
        message=item.message,
        size=len(job.body),
        body=kept,
        retried=retried_key(job),
    )
    receipt = inserts.receipt_of(delivery, None)
    return Plan(forget(delivery, received_at) if forgotten else delivery, receipt)


def keep_body(store: Store, job: Job, name: str, sent: payload.EventsBatch | None) -> str | None:
    """Keep the bytes of a body; None when there is no room for junk. Raises QuarantineFullError for any other."""
    owner = find_owner(store.warehouse.con, None if sent is None else sent.instance_id)
    kept = store.quarantine.keep(name, job.body, owner)
    if kept is None and sent is not None:
        raise QuarantineFullError(job, store.quarantine.find_shortage(len(job.body), owner) or "all")
    return kept


def retried_key(job: Job) -> UUID | None:
    """The key that a retried body had in the quarantine."""
    return None if job.retried is None else job.retried.key


TOO_LONG = Rejection("too-large", "its fields take more than 1 MiB in the journal")
