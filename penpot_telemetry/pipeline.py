"""The two chains, and the only place that knows their order.

record:  audit event → anonymise → rows and tally, in one transaction
ship:    observe → (freeze → send → settle | split | set aside)* → collect garbage

Every step of shipping is one transaction, or one request between two of them, so that a process may die anywhere:
what was frozen is sent again as the same bytes, what was settled is gone, what was rolled back never was.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from os import urandom
from typing import Literal
from uuid import UUID, uuid4

import requests
from psycopg import Connection

from penpot_telemetry import anonymise, embedded, outbox, send, store
from penpot_telemetry.config import Endpoint, Settings
from penpot_telemetry.errors import ConfigError, DecodeError, EncodeError, InvalidEventError, TelemetryError
from penpot_telemetry.events import AuditEvent, TelemetryEvent
from penpot_telemetry.outbox import Page, State
from penpot_telemetry.send import Answer
from penpot_telemetry.wire import batch, payload, signature

GC_STEP = 50_000
"""Rows that one transaction of gc deletes: short enough for nobody to wait, and a place to stop."""

PROBES = 3
"""Pages that are tried for a first acceptance, after a row alone was refused by a server that accepted nothing yet."""


@contextmanager
def open_database(settings: Settings) -> Iterator[Connection]:
    """A connection to the database that was named, or to the embedded one, with everything in place that we need."""
    served = nullcontext(settings.database) if settings.database is not None else embedded.serve(settings.data_dir)
    with served as parameters, store.connect(parameters) as conn:
        if settings.create_table or settings.database is None:
            store.create_table(conn)
        store.check_table(conn)
        outbox.ensure_schema(conn)
        yield conn


# -- record ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Refusal:
    """An event that was not recorded: its place in what was given, and why. Never what it held."""

    index: int
    reason: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """How many events were stored, and which were refused."""

    accepted: int
    refused: Sequence[Refusal] = ()


def push_audit_events(  # noqa: PLR0913  the request's facts, one by one, as Penpot's own command takes them
    conn: Connection,
    events: Sequence[object],
    *,
    profile_id: UUID | None,
    ip_addr: str | None,
    request_at: datetime,
    settings: Settings,
) -> Recorded:
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


def record_raw(
    conn: Connection, events: Iterable[object], read: Callable[[object], AuditEvent], settings: Settings
) -> Recorded:
    """Records events that `read` makes of raw ones, in one transaction."""
    if not settings.active:
        return Recorded(0)
    refused: list[Refusal] = []

    def kept() -> Iterator[TelemetryEvent]:
        for index, (raw, row_id) in enumerate(zip(events, _random_ids(), strict=False)):
            try:
                yield anonymise.anonymise(read(raw), row_id=row_id, pseudonym_key=settings.pseudonym_key)
            except InvalidEventError as error:
                refused.append(Refusal(index, str(error)))

    return Recorded(_store(conn, kept()), refused)


def record_events(conn: Connection, events: Iterable[AuditEvent], settings: Settings) -> Recorded:
    """Records many events, in one transaction and by COPY. A bad event is refused, and the others are kept."""
    return record_raw(conn, events, _as_it_is, settings)


def record_event(conn: Connection, event: AuditEvent, settings: Settings) -> bool:
    """Records one event and says whether it was stored. Raises InvalidEventError."""
    if not settings.active:
        return False
    return bool(_store(conn, [anonymise.anonymise(event, pseudonym_key=settings.pseudonym_key)]))


def _as_it_is(event: object) -> AuditEvent:
    if type(event) is AuditEvent:
        return event
    raise InvalidEventError("event: should be an AuditEvent")


def _random_ids() -> Iterator[UUID]:
    """Version-4 uuids without end; the system is asked once for a thousand."""
    while True:
        block = urandom(16 * 1024)
        for start in range(0, len(block), 16):
            yield UUID(bytes=block[start : start + 16], version=4)


def _store(conn: Connection, events: Iterable[TelemetryEvent]) -> int:
    with store.database_errors(), conn.transaction():
        count = store.copy_events(conn, events)
        if count:
            outbox.tally(conn, count)
    return count


# -- ship: one pass --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Report:
    """What one pass did, in events; `failure` says why it stopped early, and then everything unsent is kept."""

    batches: int = 0
    shipped: int = 0
    refused: int = 0
    quarantined: int = 0
    dropped: int = 0
    adopted: int = 0
    missing: int = 0
    pending: int = 0
    failure: str | None = None
    warnings: list[str] = field(default_factory=list)


def run_pass(
    conn: Connection,
    settings: Settings,
    *,
    progress: Callable[[Report], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Report:
    """One pass: ships what waits, then collects garbage. Raises BusyError when another sender is at work.

    `progress` is called after each batch; between two batches `stopped` may end the pass.
    """
    report = Report()
    if not settings.active:
        report.warnings.append(settings.inactive_reason)
        return report
    endpoint = require_endpoint(settings)
    with store.database_errors(), outbox.hold_road(conn):
        store.ensure_index(conn)
        keep_instance_id(conn, settings)
        report.pending = observe(conn, report).expected
        with send.open_session(endpoint) as session:
            ship(conn, session, settings, report, progress=progress, stopped=stopped)
        report.dropped = collect_garbage(conn, settings, datetime.now(UTC))
        report.pending = outbox.read_state(conn).expected
    return report


def require_endpoint(settings: Settings) -> Endpoint:
    """Where to send. There is no default: an address that nobody chose gets nothing."""
    if settings.endpoint is None:
        raise ConfigError(
            "no receiver is named: set PENPOT_TELEMETRY_URI to its address, for example http://127.0.0.1:6070/"
        )
    return settings.endpoint


def keep_instance_id(conn: Connection, settings: Settings) -> UUID:
    """The id of this instance: set by hand, else Penpot's own, else a random one; kept from the first time on."""
    with conn.transaction():
        kept = outbox.read_state(conn).instance_id
        candidate = kept or settings.instance_id or store.read_instance_id(conn) or uuid4()
        return outbox.keep_instance_id(conn, settings.instance_id, candidate)


def observe(conn: Connection, report: Report) -> State:
    """Holds the account against the rows, in one snapshot.

    More rows than expected were written by Penpot itself: they are adopted. Fewer were deleted by another hand: they
    are missing, and stay so in the account.
    """
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        state = outbox.add_up(conn)
        surplus = count_pending(conn) - state.expected
        report.adopted, report.missing = max(0, surplus), max(0, -surplus)
        if surplus:
            outbox.add(conn, adopted=report.adopted, missing=report.missing)
        return outbox.read_state(conn)


def accept_missing(conn: Connection) -> int:
    """Counts the rows that vanished by another hand as dropped, once somebody knows why; says how many they were.

    They never left, so they are a loss like any other, and the receiver is told of it with the next batch.
    """
    with store.database_errors(), outbox.hold_road(conn):
        missing = observe(conn, Report()).missing
        with conn.transaction():
            outbox.add(conn, dropped=missing, missing=-missing)
    return missing


def count_pending(conn: Connection) -> int:
    """The events that wait: rows that are not frozen, and the frozen page."""
    page = outbox.fetch_page(conn)
    return store.count_rows(conn, page.row_ids if page else store.NO_IDS) + (page.event_count if page else 0)


# -- ship: the loop --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Witness:
    """Whether a refused row may be blamed: only once this server has accepted something in this pass.

    A wrong address, a missing right or a broken server refuse everything; the rows are not at fault then, and none
    is set aside. (A row whose other half was accepted is at fault for certain.) So after a row alone was refused, a
    few other pages are tried first: `tried` are the places of the rows refused alone, `probes` what is left to try
    (None: the usual order).
    """

    accepted: bool = False
    probes: int | None = None
    tried: list[int] = field(default_factory=list)


def ship(  # noqa: PLR0913
    conn: Connection,
    session: requests.Session,
    settings: Settings,
    report: Report,
    *,
    progress: Callable[[Report], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Freezes, sends and settles page after page until nothing waits, something fails or `stopped` says so."""
    witness = Witness()
    endpoint = require_endpoint(settings)
    while not stopped():
        kept = outbox.fetch_page(conn)
        page = kept or freeze_page(conn, settings, report, witness)
        if page is None:
            break
        answer = check_receipt(page, send.post_batch(session, endpoint, page.body, settings, stopped))
        if kept is not None and is_used_up(answer):
            put_back_page(conn, page, answer)
            report.refused += 1
            continue
        in_doubt = answer.outcome == "refused" and (kept is not None or answer.repeated)
        if in_doubt:
            answer = resolve_doubt(conn, session, page, answer, settings)
        if answer.outcome == "unknown":
            report.failure = answer.reason
            return
        if answer.outcome == "accepted":
            settle_page(conn, page, answer, report)
            if not in_doubt:
                witness.accepted, witness.probes = True, None
        else:
            report.failure = take_back(conn, page, answer, report, witness)
            if report.failure:
                return
        progress(report)
    if witness.tried and not witness.accepted:
        report.failure = (
            "the receiver refused a row and has accepted nothing else: it is kept until another is accepted"
        )


def check_receipt(page: Page, answer: Answer) -> Answer:
    """An acceptance that speaks of another batch is none of ours."""
    receipt = answer.receipt
    if answer.outcome == "accepted" and (
        receipt.get("batch-id", str(page.batch_id)) != str(page.batch_id)
        or receipt.get("digest", page.digest) != page.digest
    ):
        return Answer("unknown", "the receipt speaks of another batch: is a cache between here and the receiver?", {})
    return answer


def is_used_up(answer: Answer) -> bool:
    """Whether another batch has the id of this one: a pass used it up and died before it could split the page.

    The receiver has put the page aside and will never load it, so its rows need another id.
    """
    return (answer.receipt.get("status"), answer.receipt.get("reason")) == ("quarantined", "id-reused")


def resolve_doubt(
    conn: Connection, session: requests.Session, page: Page, refusal: Answer, settings: Settings
) -> Answer:
    """What a refusal means for a page that was sent before, by this sender or one that died, and may have arrived.

    Its halves would be other batches, and its events there twice. So the receiver's ledger is asked; where that knows
    nothing of the page, its batch id is used up, so that the page can no longer come either. Until both is certain
    the page is kept. A server that never gave a receipt and has no ledger knows no batch again anyway.
    """
    instance_id = outbox.read_state(conn).instance_id
    assert instance_id is not None  # noqa: S101  a frozen page has one
    keep = Answer("unknown", f"{refusal.reason}, and whether the batch came through before cannot be found out now", {})
    knows_batches = outbox.has_receipts(conn)
    try:
        received = send.fetch_received(require_endpoint(settings), instance_id, settings, after=page.seq - 1)
        for there in received:
            is_it = (there.batch_id, there.digest) == (page.batch_id, page.digest)
            if is_it and there.status != "quarantined":  # what was put aside is not loaded: its id may be used up
                return came_through(page)
        knows_batches = True
    except (send.NoLedgerError, DecodeError):
        pass
    except TelemetryError:
        return keep
    match use_up_id(session, page, instance_id, settings):
        case "used up":
            return refusal
        case "taken":
            return came_through(page)
        case "refused" if not knows_batches:
            return refusal
    return keep


def came_through(page: Page) -> Answer:
    """The answer that was lost."""
    return Answer("accepted", "it came through before", {"status": "accepted", "batch-id": str(page.batch_id)})


def use_up_id(
    session: requests.Session, page: Page, instance_id: UUID, settings: Settings
) -> Literal["used up", "taken", "refused", "unknown"]:
    """Sends an empty batch under the id of a page: a receiver takes an id for one content only.

    From then on the page, should it still be on its way, is an id used twice, and put aside. "taken": it was there
    already, by other events than none.
    """
    nothing = batch.encode_events([])
    digest = payload.digest_events(nothing)
    envelope = payload.EventsBatch(
        settings.version, instance_id, nothing, batch_id=page.batch_id, event_count=0, digest=digest
    )
    body = payload.build_events(sign(envelope, settings))
    answer = send.post_batch(session, require_endpoint(settings), body, settings)
    receipt = answer.receipt
    if answer.outcome == "accepted" and receipt.get("batch-id") == str(page.batch_id):
        if receipt.get("status") in {"accepted", "duplicate"} and receipt.get("digest") == digest:
            return "used up"
        if (receipt.get("status"), receipt.get("reason")) == ("quarantined", "id-reused"):
            return "taken"
    return "unknown" if answer.outcome == "unknown" else "refused"


def settle_page(conn: Connection, page: Page, answer: Answer, report: Report) -> None:
    """The receipt is kept and the rows are deleted, in one transaction."""
    quarantined = answer.receipt.get("status") == "quarantined"
    with conn.transaction():
        outbox.settle_page(conn, page, "quarantined" if quarantined else "accepted", answer.receipt)
        store.delete_rows(conn, page.row_ids)
    report.batches += 1
    report.shipped += page.event_count
    if quarantined:
        report.warnings.append(
            f"batch {page.seq} arrived and was put into quarantine: {answer.receipt.get('reason', 'no reason given')}"
        )


def take_back(conn: Connection, page: Page, answer: Answer, report: Report, witness: Witness) -> str | None:
    """What follows a refusal; says why the pass must stop, if it must."""
    report.refused += 1
    if page.event_count > 1:
        split_page(conn, page, answer, last=witness.probes is not None)
    elif witness.accepted or page.suspect:
        set_aside_page(conn, page, answer, report)
    else:
        witness.tried.append(put_back_page(conn, page, answer))
        witness.probes = PROBES if witness.probes is None else witness.probes
    if witness.probes is not None:
        if witness.probes == 0:
            return (
                f"{answer.reason}, down to a single row, and has accepted nothing: that speaks of the address or the "
                "rights, not of the rows, so all are kept"
            )
        witness.probes -= 1
    return None


def split_page(conn: Connection, page: Page, answer: Answer, *, last: bool = False) -> None:
    """Ends a refused page; its rows wait as two halves, before all others or behind."""
    with conn.transaction():
        outbox.refuse_page(conn, page, answer.receipt)
        outbox.push_halves(conn, page.row_ids, page.batch_id, last=last)


def put_back_page(conn: Connection, page: Page, answer: Answer) -> int:
    """Ends a refused page of one row that cannot be blamed yet; says where the row waits."""
    with conn.transaction():
        outbox.refuse_page(conn, page, answer.receipt)
        return outbox.push_segment(conn, page.row_ids, page.half_of or page.batch_id)


def set_aside_page(conn: Connection, page: Page, answer: Answer, report: Report) -> None:
    """Ends a refused page of one row, which goes into quarantine with the reason."""
    with conn.transaction():
        outbox.refuse_page(conn, page, answer.receipt)
        rows = store.take_rows(conn, page.row_ids)
        report.quarantined += outbox.set_aside(conn, rows, answer.reason, page.batch_id)


# -- ship: freezing --------------------------------------------------------------------------------------------------


def freeze_page(
    conn: Connection, settings: Settings, report: Report | None = None, witness: Witness | None = None
) -> Page | None:
    """Takes the rows whose turn it is and keeps them as the bytes that will be sent; None when nothing waits.

    A row that the format cannot carry, or that is larger than a page may be, goes into quarantine on the way.
    """
    report, witness = report or Report(), witness or Witness()
    with conn.transaction():
        state = outbox.add_up(conn)
        instance_id = keep_instance_id(conn, settings)
        while (taken := take_rows(conn, settings, report, witness)) is not None:
            found, part = taken
            try:
                events = batch.encode_events(found.rows)
            except EncodeError:
                found = set_aside_unwritable(conn, found, report)
                events = batch.encode_events(found.rows)
            if found.rows:
                break
        else:
            return None
        state = outbox.read_state(conn)
        envelope = payload.EventsBatch(
            version=settings.version,
            instance_id=instance_id,
            events=events,
            batch_id=uuid4(),
            batch_seq=state.next_seq,
            event_count=len(found.rows),
            digest=payload.digest_events(events),
            totals=state.totals,
        )
        return outbox.insert_page(conn, sign(envelope, settings), store.format_ids(found.ids), part)


def sign(envelope: payload.EventsBatch, settings: Settings) -> payload.EventsBatch:
    """The batch with the signature of this sender's key, if it has one."""
    return envelope if settings.signing_key is None else signature.sign_batch(envelope, settings.signing_key)


def take_rows(
    conn: Connection, settings: Settings, report: Report, witness: Witness
) -> tuple[store.PageRows, outbox.Segment | None] | None:
    """The rows of the next page, and what they waited as: what was split off first, then the oldest.

    While a first acceptance is looked for, the largest part comes first, then new rows, then single rows from the end.
    """
    probing = witness.probes is not None
    first = outbox.take_largest_segment if probing else outbox.take_first_segment
    found = _take_waiting(conn, lambda: first(conn, witness.tried))
    if found is None:
        found = _take_oldest(conn, settings, report)
    if found is None and probing:
        found = _take_waiting(conn, lambda: outbox.take_last_segment(conn, witness.tried))
    return found


def _take_waiting(
    conn: Connection, take: Callable[[], outbox.Segment | None]
) -> tuple[store.PageRows, outbox.Segment | None] | None:
    while (segment := take()) is not None:
        if segment.suspect and segment.size > 1:  # it would be refused: not worth a request
            outbox.push_halves(conn, segment.row_ids, uuid4())
            continue
        found = store.fetch_by_id(conn, segment.row_ids)
        if found.rows:  # gc may have left none
            return found, segment
    return None


def _take_oldest(conn: Connection, settings: Settings, report: Report) -> tuple[store.PageRows, None] | None:
    waiting = outbox.waiting_ids(conn)
    while not (found := store.fetch_oldest(conn, settings.page_rows, waiting)).rows:
        if found.too_large is None:
            return None
        reason = f"larger than a page may be ({store.PAGE_BYTES} bytes)"
        taken = store.take_rows(conn, store.format_ids([found.too_large]))
        report.quarantined += outbox.set_aside(conn, taken, reason)
    return found, None


def set_aside_unwritable(conn: Connection, found: store.PageRows, report: Report) -> store.PageRows:
    """Sets those rows aside that cannot be written, each with its reason, and returns the others."""
    kept = store.PageRows([], [])
    for row, row_id in zip(found.rows, found.ids, strict=True):
        try:
            batch.encode_events([row])
        except EncodeError as error:
            taken = store.take_rows(conn, store.format_ids([row_id]))
            report.quarantined += outbox.set_aside(conn, taken, f"cannot be written: {error}")
        else:
            kept.rows.append(row)
            kept.ids.append(row_id)
    return kept


def preview_page(conn: Connection, settings: Settings) -> Page | None:
    """The page that the next pass would send first, made in the same way, and nothing changed."""
    with store.database_errors(), conn.transaction(force_rollback=True):
        return outbox.fetch_page(conn) or freeze_page(conn, settings)


# -- gc --------------------------------------------------------------------------------------------------------------


def collect_garbage(conn: Connection, settings: Settings, now: datetime) -> int:
    """Drops the oldest rows above the cap, and rows older than the retention, and says how many.

    Never a row of the frozen page; each step is counted as dropped in the transaction that deletes.
    """
    page = outbox.fetch_page(conn)
    frozen = page.row_ids if page else store.NO_IDS
    dropped = 0
    if settings.retention_days is not None:
        before = anonymise.truncate_day(now, "now") - timedelta(days=settings.retention_days)
        while step := _drop(conn, lambda: store.delete_before(conn, before, GC_STEP, frozen)):
            dropped += step
    excess = count_pending(conn) - settings.cap_rows
    while excess > 0 and (step := drop_oldest(conn, min(excess, GC_STEP), frozen)):
        dropped += step
        excess -= step
    return dropped


def drop_oldest(conn: Connection, limit: int, frozen: str) -> int:
    """One step of gc: deletes the oldest rows and counts them as dropped."""
    return _drop(conn, lambda: store.delete_oldest(conn, limit, frozen))


def _drop(conn: Connection, delete: Callable[[], int]) -> int:
    with conn.transaction():
        dropped = delete()
        outbox.add(conn, dropped=dropped)
    return dropped


# -- what an operator asks -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Status:
    """Where everything is, in one snapshot. `pending` is counted, `state.expected` is what it should be."""

    state: State
    pending: int
    days: Sequence[store.DayCount]
    room: int
    frozen: int
    waiting: int
    set_aside: int

    @property
    def unseen(self) -> int:
        """Rows that Penpot wrote since the last pass, which will adopt them."""
        return max(0, self.pending - self.state.expected)

    @property
    def missing(self) -> int:
        """Rows that vanished by another hand, found by a pass or just now."""
        return self.state.missing + max(0, self.state.expected - self.pending)

    @property
    def recorded(self) -> int:
        """Everything that ever entered."""
        return self.state.totals.recorded + self.unseen

    @property
    def adds_up(self) -> bool:
        """Whether recorded = shipped + dropped + quarantined + pending, and the quarantine holds what it should."""
        state = self.state
        accounted = state.shipped + state.dropped + state.quarantined + self.pending
        return self.recorded == accounted and self.set_aside == state.quarantined


def read_status(conn: Connection, settings: Settings) -> Status:
    """The account and the rows behind it, read in one snapshot; nothing is changed."""
    with store.database_errors(), conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        page = outbox.fetch_page(conn)
        pending = count_pending(conn)
        return Status(
            state=outbox.read_state(conn),
            pending=pending,
            days=store.count_days(conn),
            room=settings.cap_rows - pending,
            frozen=page.event_count if page else 0,
            waiting=outbox.count_waiting(conn),
            set_aside=len(outbox.read_quarantine(conn)),
        )


def retry_quarantined(conn: Connection, ids: Sequence[UUID] | None = None) -> int:
    """Puts rows that were set aside (all without `ids`) back to be shipped, and says how many."""
    with store.database_errors(), outbox.hold_road(conn), conn.transaction():
        rows = outbox.release_rows(conn, ids)
        store.put_back_rows(conn, rows)
    return len(rows)


def drop_quarantined(conn: Connection, ids: Sequence[UUID] | None = None) -> int:
    """Deletes rows that were set aside (all without `ids`); they count as dropped. Says how many."""
    with store.database_errors(), outbox.hold_road(conn), conn.transaction():
        rows = outbox.release_rows(conn, ids)
        outbox.add(conn, dropped=len(rows))
    return len(rows)


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A batch on which the two ledgers differ."""

    seq: int
    batch_id: UUID
    difference: str


def verify_ledger(conn: Connection, endpoint: Endpoint, settings: Settings) -> tuple[int, Sequence[Mismatch]]:
    """Holds the ledger against the receiver's: how many batches agree, and those that do not."""
    with store.database_errors():
        instance_id = outbox.read_state(conn).instance_id
        if instance_id is None:
            return 0, []
        return compare_ledgers(conn, send.fetch_received(endpoint, instance_id, settings))


def compare_ledgers(conn: Connection, received: Iterable[send.Received]) -> tuple[int, Sequence[Mismatch]]:
    """How many batches agree, and those that do not. A frozen batch may or may not be there: its answer was lost.

    A refused one may have been put aside there: it came after its id was used up.
    """
    entries = list(outbox.read_ledger(conn))
    sent = {entry.batch_id: entry for entry in entries if entry.outcome != "refused"}
    refused = {entry.batch_id for entry in entries if entry.outcome == "refused"}
    frozen = outbox.fetch_page(conn)
    agreed: set[UUID] = set()
    mismatches: dict[UUID, Mismatch] = {}
    for there in received:
        difference = _differ(sent.get(there.batch_id), there)
        if difference is None:
            agreed.add(there.batch_id)
        elif there.status == "quarantined" and there.batch_id in refused:
            continue
        elif frozen is None or frozen.batch_id != there.batch_id:
            mismatches[there.batch_id] = Mismatch(there.seq, there.batch_id, difference)
    for entry in sent.values():
        if entry.batch_id not in agreed | mismatches.keys():
            mismatches[entry.batch_id] = Mismatch(entry.seq, entry.batch_id, "is not at the receiver")
    found = [mismatch for mismatch in mismatches.values() if mismatch.batch_id not in agreed]
    return len(agreed), sorted(found, key=lambda mismatch: mismatch.seq)


def _differ(here: outbox.Entry | None, there: send.Received) -> str | None:
    if here is None:
        return "is not in this ledger"
    if (here.seq, here.digest) != (there.seq, there.digest):
        return "differs in sequence or digest"
    if there.status == "quarantined":  # of whose events the receiver knows nothing
        return None if here.outcome == "quarantined" else "was accepted, and is in the receiver's quarantine"
    return None if here.events == there.events else "differs in the number of events"
