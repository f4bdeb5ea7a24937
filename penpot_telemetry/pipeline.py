"""The two chains, and the only place that knows their order.

record:  audit event → anonymise → rows and their ids, in one transaction
ship:    look → (compose → outbox → send → acknowledge | split | set aside)* → collect garbage → compare the ledgers

Every step of shipping is one transaction, or one request between two of them, so that a process may die anywhere: what
is in the outbox is sent again as the same bytes, what was acknowledged is gone, what was rolled back never was.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from os import urandom
from uuid import UUID

from psycopg import Connection

from penpot_telemetry import (
    account,
    anonymise,
    compose,
    embedded,
    gc,
    grants,
    instance,
    lease,
    ledger,
    legacy_report,
    outbox,
    refusals,
    send,
    store,
)
from penpot_telemetry.account import Observation
from penpot_telemetry.config import Endpoint, Settings
from penpot_telemetry.errors import ConfigError, DatabaseError, InvalidEventError
from penpot_telemetry.events import AuditEvent, TelemetryEvent
from penpot_telemetry.lease import Lease
from penpot_telemetry.outbox import Page
from penpot_telemetry.refusals import Turn, Turns
from penpot_telemetry.rows import Rows
from penpot_telemetry.send import Sent
from penpot_telemetry.wire import payload, signature

UNKNOWN_VERSION = "unknown"
NO_VERSION = "no row says the version of its Penpot, so the batch says unknown: set PENPOT_TELEMETRY_VERSION"


@contextmanager
def open_database(settings: Settings, *, read_only: bool = False) -> Iterator[Connection]:
    """A connection to the database that was named, or to the embedded one, with everything in place that we need.

    `read_only`: nothing is created or brought forward, and the right to read is enough.
    """
    served = nullcontext(settings.database) if settings.database is not None else embedded.serve(settings.data_dir)
    with served as parameters, store.connect(parameters) as conn:
        if settings.database is None or (settings.create_table and not read_only):
            store.create_table(conn)
        store.check_table(conn)
        if not read_only:
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
    changed: Counter[str] = Counter()

    def counted() -> Iterator[TelemetryEvent]:
        for event in events:
            if event.changed:
                changed.update(event.changed)
            yield event

    with store.database_errors(), conn.transaction():
        ids = store.copy_events(conn, counted())
        if ids:
            outbox.enter(conn, "{" + ",".join(ids) + "}", len(ids))
            outbox.count_changed(conn, changed)
    return len(ids)


# -- ship: one pass --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Report:
    """What one pass did, in events; `failure` says why it stopped early, and then everything unsent is kept.

    `refused` counts requests. `dead_letters` are events that the receiver keeps aside, `mismatches` batches on which
    the two ledgers differ.
    """

    batches: int = 0
    shipped: int = 0
    refused: int = 0
    quarantined: int = 0
    dropped: int = 0
    adopted: int = 0
    missing: int = 0
    pending: int = 0
    dead_letters: int = 0
    verified: int = 0
    mismatches: int = 0
    failure: str | None = None
    warnings: list[str] = field(default_factory=list)


def run_pass(
    conn: Connection,
    settings: Settings,
    *,
    progress: Callable[[Report], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Report:
    """One pass: ships what waits, then collects garbage. Raises BusyError when another sender has the lease.

    `progress` is called after each batch; between two batches `stopped` may end the pass.
    """
    report = Report()
    if not settings.active:
        report.warnings.append(settings.inactive_reason)
        return report
    endpoint = require_endpoint(settings)
    if endpoint.shows_its_secret:
        report.warnings.append(f"the secret for {endpoint.url} travels unencrypted: let the address begin with https")
    longest = settings.request_timeout + settings.retry_wait_max
    with store.database_errors(), lease.hold(conn, longest) as held:
        _check_rights(conn)
        held.step(lambda: instance.keep(conn, settings))
        if not store.has_index(conn):
            report.warnings.append(
                "audit_log has no index by source and day, so each pass reads the whole table: "
                "`penpot-telemetry grants` prints the statement that adds it"
            )
        turns = Turns(look(held, report).fresh)
        report.pending = outbox.read_state(conn).expected
        with send.open_session(endpoint) as session:
            ship(held, session, settings, report, turns, progress=progress, stopped=stopped)
            if settings.legacy_report and not report.failure:
                send_legacy_report(held, session, settings, report, turns.version)
        present = (turns.last_look or look(held, report)).present
        report.dropped = gc.collect_garbage(held, settings, datetime.now(UTC), present)
        _verify(held, endpoint, settings, report)
        report.pending = outbox.read_state(conn).expected
        _say_what_was_lost(report, settings)
    return report


def _check_rights(conn: Connection) -> None:
    """Finds a missing right before anything is sent."""
    lacking = [right for right in grants.missing_rights(conn) if not right.endswith("server_prop")]  # see instance.find
    if lacking:
        raise DatabaseError(
            f"database: the role lacks {', '.join(lacking)}: nothing was sent; "
            "let the owner run what `penpot-telemetry grants ROLE` prints"
        )


def look(held: Lease, report: Report) -> Observation:
    """Holds the account against the rows, in one snapshot, and enters what other programs wrote and deleted."""
    found = held.step(lambda: account.enter(held.conn), snapshot=True)
    report.adopted += found.adopted
    report.missing += found.missing
    return found


def require_endpoint(settings: Settings) -> Endpoint:
    """Where to send. There is no default: an address that nobody chose gets nothing."""
    if settings.endpoint is None:
        raise ConfigError(
            "no receiver is named: set PENPOT_TELEMETRY_URI to its address, for example http://127.0.0.1:6070/"
        )
    return settings.endpoint


def ship(  # noqa: PLR0913
    held: Lease,
    session: send.Session,
    settings: Settings,
    report: Report,
    turns: Turns,
    *,
    progress: Callable[[Report], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Composes, sends and acknowledges batch after batch until nothing waits, something fails or `stopped` says so."""
    conn, endpoint = held.conn, require_endpoint(settings)
    end = time.monotonic() + lease.PASS_SECONDS
    while not stopped() and time.monotonic() < end:
        page = outbox.fetch_page(conn) or next_page(held, settings, report, turns)
        if page is None:
            return
        state = outbox.read_state(conn)
        needs_receipt = settings.receipts == "required" or (
            settings.receipts == "learned" and state.receipts_from == endpoint.url
        )
        sent = Sent(page.body, page.batch_id, page.digest, needs_receipt)
        answer = send.post_batch(session, endpoint, sent, settings, stopped=stopped, before=held.renew)
        match answer.outcome:
            case "accepted":
                acknowledge(held, page, answer, endpoint, report)
                turns.accepted = True
            case "refused":
                report.refused += 1
                report.failure = refusals.handle(held, page, answer, report, turns)
            case "reused":
                report.refused += 1
                report.failure = refusals.give_another_id(held, page, answer, turns)
            case "unsigned":
                report.failure = None if sign_anew(held, page, settings) else answer.reason
            case "unknown":
                report.failure = answer.reason
        if report.failure:
            return
        progress(report)


def next_page(held: Lease, settings: Settings, report: Report, turns: Turns) -> Page | None:
    """The next batch, in the outbox; None when nothing waits, or too little of what came since the pass began."""
    page = _freeze(held, settings, report, turns)
    if page is None and turns.may_look_again:
        turns.look_again(look(held, report), settings.page_rows)
        if turns.may_look_again:
            page = _freeze(held, settings, report, turns)
    return page


def freeze_next(conn: Connection, settings: Settings) -> Page | None:
    """The batch in the outbox, or the next one put there: what a pass does before it sends, for a look at the bytes."""
    with store.database_errors(), lease.hold(conn) as held:
        held.step(lambda: instance.keep(conn, settings))
        report = Report()
        return outbox.fetch_page(conn) or next_page(held, settings, report, Turns(look(held, report).fresh))


def _freeze(held: Lease, settings: Settings, report: Report, turns: Turns) -> Page | None:
    frozen = held.step(lambda: freeze_page(held.conn, settings, turns.copy()))
    turns.follow(frozen.turns)
    report.quarantined += frozen.quarantined
    if frozen.has_no_version and NO_VERSION not in report.warnings:
        report.warnings.append(NO_VERSION)
    return frozen.page


def acknowledge(held: Lease, page: Page, answer: send.Answer, endpoint: Endpoint, report: Report) -> None:
    """Keeps the receipt and deletes the rows, in one transaction. A row that was changed meanwhile is a new one."""
    conn = held.conn

    def step() -> None:
        outbox.acknowledge_page(conn, page, answer.receipt, answer.duplicate_of)
        store.delete_rows(conn, page.rows)
        if answer.is_receipt:
            outbox.keep_receipts_from(conn, endpoint.url)

    held.step(step)
    report.batches += 1
    report.shipped += page.event_count
    dead = answer.receipt.get("dead-letters", 0)
    if isinstance(dead, int) and dead > 0:
        report.dead_letters += dead
        report.warnings.append(f"batch {page.seq} arrived, and the receiver keeps {dead:,} of its events aside")


# -- ship: composing -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Frozen:
    """The batch that was put into the outbox, if any; whose turn it is after it; and the rows put into quarantine."""

    page: Page | None
    turns: Turns
    quarantined: int = 0
    has_no_version: bool = False


def freeze_page(conn: Connection, settings: Settings, turns: Turns) -> Frozen:
    """Takes the rows whose turn it is and keeps them as the bytes that will be sent; no page when nothing waits.

    A row that cannot be sent goes into quarantine on the way. To be called in a step of the lease, with a copy of the
    turns: a step may be tried again.
    """
    quarantined = 0
    while (draft := compose_page(conn, settings, turns)) is not None:
        for reason, odd in draft.composed.odd_by_reason().items():
            quarantined += outbox.set_aside(conn, Rows.of(odd), reason)
        refusals.end_turn(conn, turns, draft.turn, draft.read)
        turns.version = draft.composed.version or turns.version
        outbox.count_changed(conn, draft.composed.changed)
        if draft.composed.refs:
            rows = Rows.of(draft.composed.refs)
            outbox.take(conn, rows.ids)
            page = outbox.insert_page(conn, draft.envelope, rows)
            return Frozen(page, turns, quarantined, draft.envelope.version == UNKNOWN_VERSION)
    refusals.remove_gone(conn, turns)
    return Frozen(None, turns, quarantined)


@dataclass(frozen=True, slots=True)
class Draft:
    """A batch before it is in the outbox: its envelope, what it was made of, and how many of the rows were read."""

    envelope: payload.EventsBatch
    composed: compose.Composed
    turn: Turn
    read: int


def compose_page(
    conn: Connection,
    settings: Settings,
    turns: Turns,
    state: outbox.State | None = None,
    seen: Observation | None = None,
) -> Draft | None:
    """The batch whose turn it is, as it would be sent; reads and changes nothing. None when nothing waits.

    `seen`: a look at the rows that the account does not know yet.
    """
    while (turn := turns.next(conn, settings.page_rows)) is not None:
        found = store.fetch_rows(conn, turn.rows)
        composed = compose.compose(found.rows, found.refs).with_odd(found.odd)
        if composed.refs or composed.odd:
            break
        turns.skip(turn, found.read)  # somebody deleted or changed them all
    else:
        return None
    state = state or outbox.read_state(conn)
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
    return Draft(sign(envelope, settings), composed, turn, found.read)


def sign(envelope: payload.EventsBatch, settings: Settings) -> payload.EventsBatch:
    """The batch with the signature of this sender's key, if it has one."""
    return envelope if settings.signing_key is None else signature.sign_batch(envelope, settings.signing_key)


def sign_anew(held: Lease, page: Page, settings: Settings) -> bool:
    """Signs the batch in the outbox with the key that is set now, if it was signed with another one or with none.

    It stays the same batch, with its id. False where nothing changes.
    """
    sent = payload.parse(page.body)
    assert isinstance(sent, payload.EventsBatch)  # noqa: S101  made by us
    key = None if settings.signing_key is None else signature.public_half(settings.signing_key)
    if key == (sent.signature.key if sent.signature else None):
        return False
    body = payload.build_events(sign(replace(sent, signature=None), settings))
    held.step(lambda: outbox.replace_body(held.conn, page.batch_id, body))
    return True


@dataclass(frozen=True, slots=True)
class Preview:
    """What the next pass would send first: the complete body and its events. `odd` rows would go into quarantine."""

    body: bytes
    event_count: int
    odd: int


def preview_page(conn: Connection, settings: Settings) -> Preview | None:
    """The batch that the next pass would send first, made in the same way. Reads only; None when nothing waits."""
    with store.database_errors(), conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        has_schema = outbox.has_schema(conn)
        if has_schema and (page := outbox.fetch_page(conn)) is not None:
            return Preview(page.body, page.event_count, 0)
        seen = account.observe(conn, has_schema=has_schema)
        state = outbox.read_state(conn) if has_schema else outbox.State()
        turns = Turns(seen.fresh, has_parts=has_schema)
        odd = 0
        while (draft := compose_page(conn, settings, turns, state, seen)) is not None:
            odd += len(draft.composed.odd)
            if draft.composed.refs:
                return Preview(payload.build_events(draft.envelope), len(draft.composed.refs), odd)
            turns.skip(draft.turn, draft.read)
            state = replace(state, quarantined=state.quarantined + len(draft.composed.odd))
        return None


# -- after shipping --------------------------------------------------------------------------------------------------


def _verify(held: Lease, endpoint: Endpoint, settings: Settings, report: Report) -> None:
    """Holds the ledger against the receiver's, from the last batch on which they agreed, where there is one."""
    state = outbox.read_state(held.conn)
    is_new = report.batches or state.next_seq - 1 > state.verified_seq
    if report.failure or not is_new or state.receipts_from != endpoint.url:
        return
    found = ledger.verify_new(held, endpoint, settings)
    report.verified, report.mismatches = found.agreed, len(found.mismatches)
    if found.mismatches:
        first = found.mismatches[0]
        report.failure = (
            f"{report.mismatches:,} batches differ from the receiver's ledger, the first is {first.seq}, which "
            f"{first.difference}: see `penpot-telemetry ledger verify`"
        )
    elif found.unread:
        report.warnings.append(f"the receiver's ledger could not be read: {found.unread}")


def send_legacy_report(
    held: Lease, session: send.Session, settings: Settings, report: Report, version: str | None
) -> None:
    """Sends the counts of Penpot's tables once a day. One that fails is a warning, and tried again by the next pass."""
    conn, today = held.conn, datetime.now(UTC).date()
    state = outbox.read_state(conn)
    if state.report_sent_on == today or state.instance_id is None:
        return
    body, missing = build_legacy_report(conn, settings, state.instance_id, version)
    report.warnings += missing
    answer = send.post_batch(session, require_endpoint(settings), Sent(body), settings, before=held.renew)
    if answer.outcome == "accepted":
        held.step(lambda: outbox.keep_report_sent(conn, today))
    else:
        report.warnings.append(f"the legacy report was not sent: {answer.reason}")


def build_legacy_report(
    conn: Connection, settings: Settings, instance_id: UUID, version: str | None = None
) -> tuple[bytes, Sequence[str]]:
    """The body of the report as it would be sent now, and what could not be counted."""
    with store.database_errors(), legacy_report.snapshot(conn):
        stats = legacy_report.read_stats(conn)
    named = version or settings.version or UNKNOWN_VERSION
    return legacy_report.build_report(stats, named, instance_id), stats.missing


def _say_what_was_lost(report: Report, settings: Settings) -> None:
    if report.failure and report.dropped and not report.shipped:
        report.warnings.append(
            f"NOTHING WAS SENT, and {report.dropped:,} of the oldest events were dropped, because more than "
            f"{settings.cap_rows:,} waited (PENPOT_TELEMETRY_CAP_ROWS): check the address and the receiver"
        )
