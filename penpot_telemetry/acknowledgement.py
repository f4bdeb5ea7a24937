"""A receipt in; the batch leaves the outbox, and its rows leave `audit_log`: in one transaction."""

from penpot_telemetry import account, audit_log, outbox
from penpot_telemetry.endpoint import Endpoint
from penpot_telemetry.lease import Lease
from penpot_telemetry.outbox import OutboxBatch
from penpot_telemetry.pass_report import PassReport
from penpot_telemetry.receipt import Answer


def acknowledge(held: Lease, batch: OutboxBatch, answer: Answer, endpoint: Endpoint, report: PassReport) -> None:
    """Keeps the receipt and removes the rows, in one transaction. A row that was changed since is a new event."""
    conn = held.conn

    def step() -> None:
        outbox.acknowledge_batch(conn, batch, answer.receipt, answer.duplicate_of)
        audit_log.remove_rows(conn, batch.rows)
        if answer.is_receipt:
            account.keep_receipts_from(conn, endpoint.url)

    held.step(step)
    report.batches += 1
    report.shipped += batch.event_count
    dead = answer.receipt.get("dead-letters", 0)
    if isinstance(dead, int) and dead > 0:
        report.dead_letters += dead
        report.warnings.append(
            f"the receiver accepted batch {batch.seq}, but {dead:,} of its events are dead letters there"
        )
