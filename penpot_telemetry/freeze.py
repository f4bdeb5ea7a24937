"""Rows in, the next outbox batch out: its bytes are frozen, and sent as they are until they are answered."""

from dataclasses import dataclass
from os import urandom
from uuid import UUID

from psycopg import Connection

from penpot_telemetry import account, audit_log, compose, dead_letters, instance, lease, outbox, refusals
from penpot_telemetry.compose import UNKNOWN_VERSION
from penpot_telemetry.config import Settings
from penpot_telemetry.connection import database_errors
from penpot_telemetry.lease import Lease
from penpot_telemetry.outbox import OutboxBatch
from penpot_telemetry.pass_report import PassReport
from penpot_telemetry.reconcile import Observation, look
from penpot_telemetry.refusals import Turn, Turns
from penpot_telemetry.rows import Rows
from penpot_telemetry.signing import sign
from penpot_telemetry.wire import payload

NO_VERSION = "no row says the version of its Penpot, so the batch says unknown: set PENPOT_TELEMETRY_VERSION"


def next_batch(held: Lease, settings: Settings, report: PassReport, turns: Turns) -> OutboxBatch | None:
    """The next batch, in the outbox; None when nothing waits, or too little of what came since the pass began."""
    batch = _freeze(held, settings, report, turns)
    if batch is None and turns.may_look_again:
        turns.look_again(look(held, report), settings.batch_rows)
        if turns.may_look_again:
            batch = _freeze(held, settings, report, turns)
    return batch


def freeze_next(conn: Connection, settings: Settings) -> OutboxBatch | None:
    """The batch in the outbox, or the next one put there: what a pass does before it sends, for a look at the bytes."""
    with database_errors(), lease.hold(conn) as held:
        held.step(lambda: instance.keep(conn, settings))
        report = PassReport()
        return outbox.fetch_batch(conn) or next_batch(held, settings, report, Turns(look(held, report).fresh))


def _freeze(held: Lease, settings: Settings, report: PassReport, turns: Turns) -> OutboxBatch | None:
    frozen = held.step(lambda: freeze_batch(held.conn, settings, turns.copy()))
    turns.follow(frozen.turns)
    report.quarantined += frozen.quarantined
    if frozen.has_no_version and NO_VERSION not in report.warnings:
        report.warnings.append(NO_VERSION)
    return frozen.batch


@dataclass(frozen=True, slots=True)
class FreezeResult:
    """The batch that was put into the outbox, if any; whose turn it is after it; and the rows put into quarantine."""

    batch: OutboxBatch | None
    turns: Turns
    quarantined: int = 0
    has_no_version: bool = False


def freeze_batch(conn: Connection, settings: Settings, turns: Turns) -> FreezeResult:
    """Takes the rows whose turn it is and keeps them as the bytes that will be sent; no batch when nothing waits.

    A row that cannot be sent goes into quarantine on the way. To be called in a step of the lease, with a copy of the
    turns: a step may be tried again.
    """
    quarantined = 0
    while (draft := draft_batch(conn, settings, turns)) is not None:
        for reason, odd in draft.composed.odd_by_reason().items():
            quarantined += dead_letters.set_aside(conn, Rows.of(odd), reason)
        refusals.end_turn(conn, turns, draft.turn, draft.read)
        turns.version = draft.composed.version or turns.version
        account.count_changed(conn, draft.composed.changed)
        if draft.composed.refs:
            rows = Rows.of(draft.composed.refs)
            account.take(conn, rows.ids)
            batch = outbox.insert_batch(conn, draft.envelope, rows)
            return FreezeResult(batch, turns, quarantined, draft.envelope.version == UNKNOWN_VERSION)
    refusals.remove_gone(conn, turns)
    return FreezeResult(None, turns, quarantined)


@dataclass(frozen=True, slots=True)
class BatchDraft:
    """A batch before it is in the outbox: its envelope, what it was made of, and how many of the rows were read."""

    envelope: payload.EventsBatch
    composed: compose.BatchContent
    turn: Turn
    read: int


def draft_batch(
    conn: Connection,
    settings: Settings,
    turns: Turns,
    state: account.AccountState | None = None,
    seen: Observation | None = None,
) -> BatchDraft | None:
    """The batch whose turn it is, as it would be sent; reads and changes nothing. None when nothing waits.

    `seen`: a look at the rows that the account does not know yet.
    """
    while (turn := turns.next(conn, settings.batch_rows)) is not None:
        found = audit_log.fetch_rows(conn, turn.rows)
        composed = compose.compose(found.rows, found.refs).with_odd(found.odd)
        if composed.refs or composed.odd:
            break
        turns.skip(turn, found.read)  # somebody deleted or changed them all
    else:
        return None
    state = state or account.read_state(conn)
    adopted, missing = (seen.adopted, seen.missing) if seen else (0, 0)
    envelope = payload.EventsBatch(
        version=composed.version or settings.version or UNKNOWN_VERSION,
        instance_id=state.instance_id or instance.find(conn, settings).value,
        events=composed.events,
        batch_id=UUID(bytes=urandom(16), version=4),
        batch_seq=state.next_seq,
        event_count=len(composed.refs),
        digest=payload.digest_events(composed.events),
        totals=state.totals(adopted, missing),
        supersedes=tuple(turn.segment.supersedes) if turn.segment else (),
    )
    return BatchDraft(sign(envelope, settings), composed, turn, found.read)
