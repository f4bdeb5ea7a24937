"""What follows a refusal: the batch is split in two, or its only row becomes a dead letter, or the pass ends.

A wrong address, a missing right or a broken server refuse everything, and the rows are not at fault then. So a row that
is refused alone becomes a dead letter only when this receiver has accepted something in the same pass, and a pass
without an acceptance ends after a few refusals. Every part names the batches that it was a part of, so that none of
them can arrive late and load an event twice.
"""

from psycopg import Connection

from penpot_telemetry import account, dead_letters, outbox, segments
from penpot_telemetry.lease import Lease
from penpot_telemetry.outbox import OutboxBatch
from penpot_telemetry.pass_report import PassReport
from penpot_telemetry.receipt import Answer
from penpot_telemetry.work_queue import WorkQueue

BUDGET = 16
"""Refusals after which a pass without an acceptance ends."""

REUSED = 3
"""Answers in one pass that the id of a batch is taken. Ids are random, so after so many the server is broken."""

WORN_OUT = 63
"""Rows that were refused so often, in one batch after the other, become dead letters."""


def handle(held: Lease, batch: OutboxBatch, answer: Answer, report: PassReport, queue: WorkQueue) -> str | None:
    """Splits a refused batch, keeps it, or makes its only row a dead letter; says why the pass must end, if it must."""
    report.refused += 1
    queue.refused += 1
    is_worn_out = len(batch.supersedes) >= WORN_OUT
    if is_worn_out or (batch.event_count == 1 and queue.accepted):
        report.quarantined += held.step(lambda: make_dead_letters(held.conn, batch, answer))
    else:
        held.step(lambda: split(held.conn, batch, answer))
        if batch.event_count == 1 and not queue.has_new:
            return (
                f"{answer.reason}; the receiver rejected everything down to one row: check the address and the token. "
                "Nothing was dropped"
            )
    if not queue.accepted and queue.refused >= BUDGET:
        return (
            f"{answer.reason}; the receiver rejected {queue.refused} batches and accepted none: check the address and "
            "the token. Nothing was dropped"
        )
    return None


def split(conn: Connection, batch: OutboxBatch, answer: Answer) -> None:
    """Ends a refused batch; its rows wait as two halves, the smaller one first, or as the one row that they are."""
    outbox.refuse_batch(conn, batch, answer.receipt)
    account.enter(conn, batch.rows.ids, 0)
    for part in batch.rows.split(batch.event_count // 2):
        if part:
            segments.push_segment(conn, part, [*batch.supersedes, batch.batch_id])


def make_dead_letters(conn: Connection, batch: OutboxBatch, answer: Answer) -> int:
    """Ends a refused batch, and makes its rows dead letters with the reason; says how many there still were."""
    outbox.refuse_batch(conn, batch, answer.receipt)
    account.enter(conn, batch.rows.ids, 0)
    return dead_letters.add_rows(conn, batch.rows, answer.reason, batch.batch_id, [*batch.supersedes, batch.batch_id])


def requeue_under_another_id(
    held: Lease, batch: OutboxBatch, answer: Answer, report: PassReport, queue: WorkQueue
) -> str | None:
    """Ends a batch whose id the receiver knows with other events: its rows wait for another id."""
    report.refused += 1
    queue.reused += 1

    def step() -> None:
        outbox.refuse_batch(held.conn, batch, answer.receipt)
        account.enter(held.conn, batch.rows.ids, 0)
        segments.push_segment(held.conn, batch.rows, batch.supersedes)

    held.step(step)
    if queue.reused < REUSED:
        return None
    return (
        f"{answer.reason}, {REUSED} times in a row: check that PENPOT_TELEMETRY_URI is a receiver. Nothing was dropped"
    )
