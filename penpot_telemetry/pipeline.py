"""The two flows, and the only place that knows their order.

record:  audit event → anonymise → store
ship:    reconcile → (freeze → send → acknowledge | handle the refusal)* → collect garbage → verify the ledger

Every step of shipping is one transaction, or one request between two of them, so that a process may die anywhere: what
is in the outbox is sent again as the same bytes, what was acknowledged is deleted, what was rolled back never was.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from uuid import UUID

from psycopg import Connection

from penpot_telemetry import (
    account,
    acknowledgement,
    anonymise,
    freeze,
    gc,
    grants,
    http_client,
    instance,
    lease,
    ledger,
    legacy_report,
    outbox,
    receipt,
    reconcile,
    refusals,
    send,
    signing,
    store,
)
from penpot_telemetry.config import Settings, require_endpoint
from penpot_telemetry.connection import database_errors
from penpot_telemetry.errors import InvalidEventError
from penpot_telemetry.events import AuditEvent, TelemetryEvent
from penpot_telemetry.lease import Lease
from penpot_telemetry.outbox import OutboxBatch
from penpot_telemetry.pass_report import PassReport
from penpot_telemetry.store import RecordResult, RejectedEvent
from penpot_telemetry.work_queue import WorkQueue

# -- record ----------------------------------------------------------------------------------------------------------


def push_audit_events(  # noqa: PLR0913  the request's facts, one by one, as Penpot's own command takes them
    conn: Connection,
    events: Sequence[object],
    *,
    profile_id: UUID | None,
    ip_addr: str | None,
    request_at: datetime,
    settings: Settings,
) -> RecordResult:
    """Records what a browser posted: each event a map with `name`, `type` and optionally props, context, timestamp.

    A bad event is refused with its index and reason, and the others are kept. With telemetry inactive nothing is
    looked at, nothing is stored and nothing counts as refused.
    """
    return record_raw(
        conn,
        events,
        lambda raw: anonymise.read_frontend_event(raw, profile_id=profile_id, ip_addr=ip_addr, request_at=request_at),
        settings,
    )


def record_events(conn: Connection, events: Iterable[AuditEvent], settings: Settings) -> RecordResult:
    """Records many events, in one transaction and by COPY. A bad event is refused, and the others are kept."""
    return record_raw(conn, events, anonymise.check_event, settings)


def record_event(conn: Connection, event: AuditEvent, settings: Settings) -> bool:
    """Records one event and says whether it was stored. Raises InvalidEventError."""
    if not settings.active:
        return False
    return bool(store.store_events(conn, [anonymise.anonymise(event, pseudonym_key=settings.pseudonym_key)]))


def record_raw(
    conn: Connection, events: Iterable[object], read: Callable[[object], AuditEvent], settings: Settings
) -> RecordResult:
    """Records events that `read` makes of raw ones, in one transaction."""
    if not settings.active:
        return RecordResult(0)
    refused: list[RejectedEvent] = []

    def anonymised() -> Iterator[TelemetryEvent]:
        for index, (raw, row_id) in enumerate(zip(events, store.random_ids(), strict=False)):
            try:
                yield anonymise.anonymise(read(raw), row_id=row_id, pseudonym_key=settings.pseudonym_key)
            except InvalidEventError as error:
                refused.append(RejectedEvent(index, str(error)))

    return RecordResult(store.store_events(conn, anonymised()), refused)


# -- ship: one pass --------------------------------------------------------------------------------------------------


def run_pass(
    conn: Connection,
    settings: Settings,
    *,
    progress: Callable[[PassReport], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
) -> PassReport:
    """One pass: ships what waits, then collects garbage. Raises BusyError when another sender has the lease.

    `progress` is called after each batch; between two batches `stopped` may end the pass.
    """
    report = PassReport()
    if not settings.active:
        report.warnings.append(settings.inactive_reason)
        return report
    endpoint = require_endpoint(settings)
    with database_errors(), lease.hold(conn, settings.request_timeout + settings.retry_wait_max) as held:
        grants.check_rights(conn)
        held.step(lambda: instance.keep(conn, settings))
        report.warnings += [*endpoint.warnings, *grants.warn_of_index(conn)]
        queue = WorkQueue(reconcile.reconcile_step(held, report).fresh)
        report.pending = account.read_state(conn).expected
        with http_client.open_session(endpoint) as session:
            ship(held, session, settings, report, queue, progress=progress, stopped=stopped)
            if settings.legacy_report and not report.failure:
                legacy_report.send_report(held, session, settings, report, queue.version)
        present = (queue.last_observation or reconcile.reconcile_step(held, report)).present
        report.dropped = gc.collect_garbage(held, settings, datetime.now(UTC), present)
        ledger.verify_pass(held, endpoint, settings, report)
        report.pending = account.read_state(conn).expected
        report.warn_of_loss(settings.cap_rows)
    return report


def ship(  # noqa: PLR0913
    held: Lease,
    session: http_client.Session,
    settings: Settings,
    report: PassReport,
    queue: WorkQueue,
    *,
    progress: Callable[[PassReport], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Sends batch after batch until nothing waits, something fails, the hour is over or `stopped` says so."""
    endpoint = require_endpoint(settings)
    end = time.monotonic() + lease.PASS_SECONDS
    while not stopped() and time.monotonic() < end:
        batch = outbox.fetch_batch(held.conn) or freeze.next_batch(held, settings, report, queue)
        if batch is None:
            return
        needs_receipt = endpoint.needs_receipt(settings.receipts, account.read_state(held.conn).receipts_from)
        sent = receipt.OutgoingBody(batch.body, batch.batch_id, batch.digest, needs_receipt)
        answer = send.post_batch(session, endpoint, sent, settings, stopped=stopped, before=held.renew)
        report.failure = handle_answer(held, batch, answer, settings, report, queue)
        if report.failure:
            return
        progress(report)


def handle_answer(  # noqa: PLR0913, PLR0917
    held: Lease, batch: OutboxBatch, answer: receipt.Answer, settings: Settings, report: PassReport, queue: WorkQueue
) -> str | None:
    """Does what the answer to a batch asks for; says why the pass must end, if it must."""
    match answer.outcome:
        case "accepted":
            acknowledgement.acknowledge(held, batch, answer, require_endpoint(settings), report)
            queue.accepted = True
            return None
        case "refused":
            return refusals.handle(held, batch, answer, report, queue)
        case "reused":
            return refusals.requeue_under_another_id(held, batch, answer, report, queue)
        case "unsigned":
            return None if signing.sign_again(held, batch, settings) else answer.reason
        case "unknown":
            return answer.reason
