"""Rows in, the next outbox batch out: its bytes are frozen, and sent as they are until they are answered."""

from dataclasses import dataclass
from os import urandom
from uuid import UUID

from psycopg import Connection

from penpot_telemetry import account, audit_log, compose, dead_letters, instance, lease, outbox
from penpot_telemetry.compose import UNKNOWN_VERSION
from penpot_telemetry.config import Settings
from penpot_telemetry.connection import database_errors
from penpot_telemetry.lease import Lease
from penpot_telemetry.outbox import OutboxBatch
from penpot_telemetry.pass_report import PassReport
from penpot_telemetry.reconcile import Observation, reconcile_step
from penpot_telemetry.rows import Rows
from penpot_telemetry.signing import sign
from penpot_telemetry.wire import payload
from penpot_telemetry.work_queue import WorkItem, WorkQueue

NO_VERSION = "no row names the version of its Penpot, so the batch says unknown: set PENPOT_TELEMETRY_VERSION"


def next_batch(held: Lease, settings: Settings, report: PassReport, queue: WorkQueue) -> OutboxBatch | None:
    """The next batch, in the outbox; None when nothing waits, or too little of what came since the pass began."""
    batch = _freeze(held, settings, report, queue)
    if batch is None and queue.may_refill:
        queue.refill(reconcile_step(held, report), settings.batch_rows)
        if queue.may_refill:
            batch = _freeze(held, settings, report, queue)
    return batch


def freeze_next(conn: Connection, settings: Settings) -> OutboxBatch | None:
    """The batch in the outbox, or the next one put there: what a pass does before it sends."""
    with database_errors(), lease.hold(conn) as held:
        held.step(lambda: instance.keep(conn, settings))
        report = PassReport()
        return outbox.fetch_batch(conn) or next_batch(
            held, settings, report, WorkQueue(reconcile_step(held, report).fresh)
        )


def _freeze(held: Lease, settings: Settings, report: PassReport, queue: WorkQueue) -> OutboxBatch | None:
    frozen = held.step(lambda: freeze_batch(held.conn, settings, queue.copy()))
    queue.update(frozen.queue)
    report.quarantined += frozen.quarantined
    if frozen.has_no_version and NO_VERSION not in report.warnings:
        report.warnings.append(NO_VERSION)
    return frozen.batch


@dataclass(frozen=True, slots=True)
class FreezeResult:
    """The batch that was put into the outbox, if any; the queue after it; and how many rows became dead letters."""

    batch: OutboxBatch | None
    queue: WorkQueue
    quarantined: int = 0
    has_no_version: bool = False


def freeze_batch(conn: Connection, settings: Settings, queue: WorkQueue) -> FreezeResult:
    """Makes the next rows of the queue a batch in the outbox, as the bytes that will be sent; none when nothing waits.

    A row that cannot be sent becomes a dead letter on the way. To be called in a step of the lease, with a copy of the
    queue: a step may be tried again.
    """
    quarantined = 0
    while (draft := draft_batch(conn, settings, queue)) is not None:
        for reason, odd in draft.content.odd_by_reason().items():
            quarantined += dead_letters.add_rows(conn, Rows.of(odd), reason)
        queue.finish(conn, draft.item, draft.read)
        queue.version = draft.content.version or queue.version
        account.count_changed(conn, draft.content.changed)
        if draft.content.refs:
            rows = Rows.of(draft.content.refs)
            account.take(conn, rows.ids)
            batch = outbox.insert_batch(conn, draft.envelope, rows)
            return FreezeResult(batch, queue, quarantined, draft.envelope.version == UNKNOWN_VERSION)
    queue.remove_done(conn)
    return FreezeResult(None, queue, quarantined)


@dataclass(frozen=True, slots=True)
class BatchDraft:
    """A batch before it is in the outbox: its envelope, what it was made of, and how many of the rows were read."""

    envelope: payload.EventsBatch
    content: compose.BatchContent
    item: WorkItem
    read: int


def draft_batch(
    conn: Connection,
    settings: Settings,
    queue: WorkQueue,
    state: account.AccountState | None = None,
    seen: Observation | None = None,
) -> BatchDraft | None:
    """The next batch of the queue, as it would be sent; reads and changes nothing. None when nothing waits.

    `seen`: what an observation found that is not in the account yet.
    """
    while (item := queue.next(conn, settings.batch_rows)) is not None:
        found = audit_log.fetch_rows(conn, item.rows)
        content = compose.compose(found.rows, found.refs).with_odd(found.odd)
        if content.refs or content.odd:
            break
        queue.skip(item, found.read)  # another program deleted or changed them all
    else:
        return None
    state = state or account.read_state(conn)
    adopted, missing = (seen.adopted, seen.missing) if seen else (0, 0)
    envelope = payload.EventsBatch(
        version=content.version or settings.version or UNKNOWN_VERSION,
        instance_id=state.instance_id or instance.find(conn, settings).value,
        events=content.events,
        batch_id=UUID(bytes=urandom(16), version=4),
        batch_seq=state.next_seq,
        event_count=len(content.refs),
        digest=payload.digest_events(content.events),
        totals=state.totals(adopted, missing),
        supersedes=tuple(item.segment.supersedes) if item.segment else (),
    )
    return BatchDraft(sign(envelope, settings), content, item, found.read)
