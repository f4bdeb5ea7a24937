"""The order of things at the receiver, and the only module that knows it.

    body ─ read_body ─► item ─ decide ─► plan ─ append_records ─► landfill, synced ─ load_plans ─► commit ─► receipt

`decide` makes of an item what will be written, `append_records` makes it durable, `load_plans` and `commit` make it
count. A crash before the commit leaves a record that nobody was told of: the next start replays it. Whatever fails
on the way is answered with UnavailableError, and the next body first finds out what is true.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Literal, NamedTuple, Self
from uuid import UUID, uuid4

import duckdb
import polars as pl
from msgspec import structs

from penpot_telemetry.errors import DatabaseError, DecodeError, Reason, TelemetryError
from penpot_telemetry.wire import payload
from penpot_telemetry.wire.fressian.reader import MEMORY
from penpot_telemetry.wire.limits import MIB, RECEIPT, TRANSACTION, Limits
from receiver.copies import snapshot
from receiver.frames import (
    count_common,
    decode_page,
    keep_safe_keys,
    mark_events,
    read_dead_letters,
    read_rows,
    write_rows,
)
from receiver.intake import decode
from receiver.intake.decode import Batch, Rejection, Report
from receiver.lifecycle import erasure, retention
from receiver.lifecycle.attempts import Attempts
from receiver.reports import account
from receiver.reports.account import Letter, Refused
from receiver.storage import journal, tombstones, warehouse
from receiver.storage.dead_letters import Quarantine
from receiver.storage.journal import Carried, Entry, Landfill, LandfillError, Record, Rewritten, TooLargeError
from receiver.storage.records import (
    UNCOUNTED,
    DeadLetter,
    Delivery,
    Position,
    Receipt,
    Totals,
    batch_key,
    digest_bytes,
    forget,
    refused_key,
    report_key,
)
from receiver.storage.tombstones import Erased, Erasure
from receiver.storage.warehouse import Known, Warehouse

TICK = timedelta(microseconds=1)
PAGES = 256  # marks of 10,000 events are 80 kB


AHEAD = timedelta(hours=1)
"""How far the last receipt may lie ahead of the clock. Receipts only grow, so a clock that was wrong once would stamp
everything after."""


class UnavailableError(TelemetryError):
    """The body could not be made durable now; the same body may be sent again later."""


class RepeatError(LookupError):
    """A repeat whose first delivery the landfill does not hold."""


class ClockError(UnavailableError):
    """The last receipt lies too far ahead of the clock."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where the receiver keeps what it has, and for how long."""

    warehouse: Path
    landfill: Path
    quarantine: Path
    quarantine_budget: int = 1024 * MIB
    quarantine_days: int = 14
    landfill_days: int | None = None
    event_days: int | None = None
    report_days: int | None = None

    @property
    def tombstones(self) -> Path:
        """The file that knows what was erased: `telemetry.duckdb` → `telemetry.erased.json`."""
        return self.warehouse.with_suffix(".erased.json")


@dataclass(frozen=True, slots=True)
class Job:
    """One body on its way to the writer: read already, and what it will carry compressed already.

    `retried`: what it was in the quarantine until now.
    """

    body: bytes
    item: Batch | Report | Rejection
    carried: Carried
    packed: bytes
    retried: Refused | None = None

    @property
    def size(self) -> int:
        """The bytes of the rows, as `penpot_telemetry.wire.limits` counts them."""
        return self.item.page.size if isinstance(self.item, Batch) else 0

    @property
    def held(self) -> int:
        """The memory that it holds until it is answered."""
        return self.size + len(self.packed)


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
class Fresh:
    """What jobs of the same transaction will have added by the time the next one is decided."""

    known: dict[UUID, Known] = field(default_factory=dict)
    pages: dict[UUID, pl.Series] = field(default_factory=dict)
    keys: dict[UUID, str] = field(default_factory=dict)
    superseded: set[UUID] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Found:
    """What a start or a rebuild came upon."""

    replayed: int = 0
    torn_bytes: int = 0
    repeated_records: int = 0
    damaged_bytes: int = 0
    unloadable: int = 0
    finished_erasures: int = 0
    lost_bytes: int = 0
    known_records: int = 0
    kept_warehouse: Path | None = None


@dataclass(slots=True)
class Store:
    """The warehouse, its landfill and its quarantine, open for one writer.

    `pages` has the marks of the last page of the instances that were heard latest: what the next page of a sender
    without batch ids is compared with, without reading it back.
    """

    places: Places
    warehouse: Warehouse
    landfill: Landfill
    quarantine: Quarantine
    found: Found
    is_sound: bool = True
    pages: dict[UUID, pl.Series] = field(default_factory=dict)
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Everything into the files, and let go of them."""
        self.landfill.close()
        self.warehouse.close()


def open_store(places: Places) -> Store:
    """Open, or create, and bring the warehouse up to its landfill; a lost warehouse is rebuilt first, and an erasure
    that was cut off is finished.

    What is damaged in the landfill is kept beside and counted. Raises DatabaseError when the warehouse is in use, no
    warehouse, damaged, or one from before an erasure.
    """
    is_lost = not places.warehouse.exists() and any(places.landfill.rglob("*" + journal.SUFFIX))
    rebuilt = rebuild(places) if is_lost else None
    finished = finish_erasures(places)
    opened = Warehouse(places.warehouse)
    try:
        check_erased(opened, places)
        log = Landfill(places.landfill)
        try:
            found = catch_up(opened, log)
            aside = Quarantine(places.quarantine, places.quarantine_budget)
        except BaseException:
            log.close()
            raise
    except BaseException:
        opened.close()
        raise
    return Store(places, opened, log, aside, replace(rebuilt or found, finished_erasures=len(finished)))


def catch_up(opened: Warehouse, log: Landfill) -> Found:
    """Replay what the landfill holds past the position that the warehouse has committed; cut off a torn end.

    A landfill that lost its end, or whose file is another one than it was, is read on from where it ends now.
    """
    tail = journal.recover(log, warehouse.committed_position(opened.con))
    new = [record for record in tail.records if not is_known(opened, record)]
    aside = journal.list_aside(log.folder)
    kept = [record for record in new if str(record.header.delivery.id) in aside]
    tried = [record for record in new if str(record.header.delivery.id) not in aside]
    unloadable = len(kept) + replay(opened, tried)
    if tail.lost_bytes:
        with warehouse.transaction(opened.con):
            warehouse.reset_positions(opened.con, log.position)
    elif unloadable or tail.damages or len(new) < len(tail.records):
        warehouse.set_floor(opened.con, log.position)  # else each start would try these again
    return Found(
        replayed=len(new),
        torn_bytes=tail.torn_bytes,
        damaged_bytes=sum(damage.size for damage in tail.damages),
        unloadable=unloadable,
        lost_bytes=tail.lost_bytes,
        known_records=len(tail.records) - len(new),
    )


def is_known(opened: Warehouse, record: Record) -> bool:
    """Whether this very record was applied before: receipts only grow, and each has an instant of its own."""
    delivery = record.header.delivery
    if delivery.received_at > opened.numbers.received_at:
        return False
    return delivery.kind in UNCOUNTED or warehouse.has_delivery(opened.con, delivery.received_at)


# --- one body -------------------------------------------------------------------------------------------------------


def prepare(body: bytes, limits: Limits = RECEIPT, *, require_signature: bool = False) -> Job:
    """All that can be done for a body without the writer."""
    item = read_body(body, limits, require_signature=require_signature)
    if not isinstance(item, Batch):
        return Job(body, item, "nothing", journal.NOTHING)
    try:
        return Job(body, item, "rows", journal.pack_carried(write_rows(item.page.frame, item.page.dead_letters)))
    except TooLargeError as error:
        refusal = Rejection("too-large", str(error), item.sent, item.digest)
        return Job(body, refusal, "nothing", journal.NOTHING)


def read_body(body: bytes, limits: Limits, *, require_signature: bool = False) -> Batch | Report | Rejection:
    """A body as what it is. A defect of ours must not become a body that is sent for ever: it is put aside too."""
    try:
        return decode.read_body(body, limits, require_signature=require_signature)
    except MemoryError:
        raise
    except Exception as error:
        return Rejection("bad-fressian", f"the reader failed with {type(error).__name__}: report this as a defect")


def receive(store: Store, jobs: Sequence[Job]) -> list[Receipt]:
    """Make bodies durable, all in one transaction, and say what became of each. Raises UnavailableError."""
    if not store.is_sound:
        make_sound(store)
    before = store.landfill.position
    require_clock(store)
    try:
        plans = decide(store, jobs)
        positions = append_records(store, plans)
    except (OSError, duckdb.Error) as error:
        give_up(store, before)
        raise UnavailableError(f"nothing can be written now: {type(error).__name__}") from error
    try:
        load_plans(store, plans, positions)
        commit(store)
        remember_pages(store, plans)
        remove_superseded(store, plans)
    except warehouse.DATA_ERRORS:
        warehouse.roll_back(store.warehouse.con)
        give_up(store, before)
        return receive_apart(store, jobs)
    except (OSError, duckdb.Error) as error:
        warehouse.roll_back(store.warehouse.con)
        store.is_sound = False
        raise UnavailableError(f"the warehouse cannot commit now: {type(error).__name__}") from error
    return [plan.receipt for plan in plans]


def require_clock(store: Store) -> None:
    """Refuse to stamp what comes with a time that nobody can believe. Raises ClockError."""
    last, now = store.warehouse.numbers.received_at, store.clock()
    if last > now + AHEAD:
        raise ClockError(
            f"the last receipt is of {last:%Y-%m-%d %H:%M} UTC and the clock says {now:%Y-%m-%d %H:%M}: set the clock, "
            "or stop the server and run `python -m receiver mend-clock`"
        )


def receive_apart(store: Store, jobs: Sequence[Job]) -> list[Receipt]:
    """One by one, so that rows DuckDB will not take bring down nothing but their own body."""
    if len(jobs) == 1:
        (job,) = jobs
        refusal = Rejection("bad-fressian", "the decoded events do not fit the tables")
        return receive(store, [replace(job, item=refusal, carried="nothing", packed=journal.NOTHING)])
    return [receipt for job in jobs for receipt in receive(store, [job])]


def give_up(store: Store, before: Position | None) -> None:
    """Take back records that nobody will be told of; when even that fails, the next body begins with a recovery."""
    try:
        store.landfill.rewind(before)
        store.warehouse.numbers = warehouse.read_numbers(store.warehouse.con)
    except (OSError, duckdb.Error):
        store.is_sound = False


def make_sound(store: Store) -> None:
    """Open everything anew and bring the warehouse up to its landfill. Raises UnavailableError while that fails."""
    with suppress(duckdb.Error):
        store.close()
    try:
        anew = open_store(store.places)
    except (OSError, duckdb.Error, DatabaseError, LandfillError) as error:
        raise UnavailableError(f"the warehouse cannot be opened now: {type(error).__name__}") from error
    store.warehouse, store.landfill, store.quarantine = anew.warehouse, anew.landfill, anew.quarantine
    store.found, store.pages = anew.found, {}
    store.is_sound = True


# --- the steps, in their order --------------------------------------------------------------------------------------


def decide(store: Store, jobs: Sequence[Job]) -> list[Plan]:
    """What will become of each job, given what the warehouse knows and what the jobs before it will add."""
    fresh = Fresh()
    instant = max(store.clock(), store.warehouse.numbers.received_at + TICK)
    plans: list[Plan] = []
    for job in jobs:
        plans.append(decide_one(store, job, instant, fresh))
        instant += TICK
    return plans


def decide_one(store: Store, job: Job, received_at: datetime, fresh: Fresh) -> Plan:
    """One job as what will be written. Puts the body aside when it is to be quarantined."""
    match job.item:
        case Batch():
            return decide_batch(store, job, job.item, received_at, fresh)
        case Report():
            return decide_report(store, job, job.item, received_at, fresh)
        case Rejection():
            return decide_refused(store, job, job.item, received_at)


def decide_batch(  # noqa: PLR0911  a batch has as many ends
    store: Store, job: Job, item: Batch, received_at: datetime, fresh: Fresh
) -> Plan:
    """A batch by its key: new, the same again, another one under a used id, or one that came in parts, or a part."""
    sent = item.sent
    key = batch_key(sent.instance_id, sent.batch_id, item.digest)
    known = fresh.known.get(key) or warehouse.find_batch(store.warehouse.con, key)
    if known is not None and known.digest != item.digest:
        return decide_refused(store, job, Rejection("id-reused", ID_REUSED, sent, item.digest), received_at)
    is_new = known is None
    pinned = pinned_key(store, sent.instance_id, fresh) if is_new else None
    if pinned is not None and pinned != item.signed_by:
        message = "not signed with the key that is pinned for this instance"
        return decide_refused(store, job, Rejection("bad-signature", message, sent, item.digest), received_at)
    if is_new and is_superseded(store, key, fresh):
        return decide_refused(store, job, replace(SUPERSEDED, sent=sent, digest=item.digest), received_at)
    whole = find_loaded(store, sent, fresh) if is_new else None
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
            else estimate_overlap(store, sent.instance_id, item.page.frame, marks, fresh)
        ),
        signed_by=item.signed_by,
        retried=retried_key(job),
    )
    if not journal.fits(delivery):
        return decide_refused(store, job, replace(TOO_LONG, sent=sent, digest=item.digest), received_at)
    receipt = warehouse.receipt_of(delivery, known)
    if known is not None:
        return Plan(forget(delivery, received_at) if known.forgotten else delivery, receipt)
    fresh.known[key] = Known(sent.batch_id, delivery.events, item.digest, dead_letters=delivery.dead_letters)
    fresh.superseded.update(batch_key(sent.instance_id, batch_id, "") for batch_id in sent.supersedes)
    if marks is not None:
        fresh.pages[sent.instance_id] = marks
    if item.signed_by is not None:
        fresh.keys[sent.instance_id] = item.signed_by
    return Plan(delivery, receipt, item.page.frame, item.page.dead_letters, marks, job.carried, job.packed)


def is_superseded(store: Store, key: UUID, fresh: Fresh) -> bool:
    """Whether parts of the batch with this key were loaded in its place."""
    return key in fresh.superseded or warehouse.is_superseded(store.warehouse.con, key)


def find_loaded(store: Store, sent: payload.EventsBatch, fresh: Fresh) -> tuple[UUID, UUID, Known] | None:
    """The first of the batches that this one supersedes which was loaded after all: its id, its key, and it."""
    for batch_id in sent.supersedes:
        key = batch_key(sent.instance_id, batch_id, "")
        known = fresh.known.get(key) or warehouse.find_batch(store.warehouse.con, key)
        if known is not None:
            return batch_id, key, known
    return None


def decide_part(  # noqa: PLR0913, PLR0917  a part has two batches to it
    store: Store, job: Job, item: Batch, received_at: datetime, batch_id: UUID, key: UUID, whole: Known
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


def remove_superseded(store: Store, plans: Sequence[Plan]) -> None:
    """The kept bodies of batches that came in parts: the parts are loaded, so they are of no more use."""
    if any(plan.delivery.supersedes for plan in plans):
        with suppress(OSError):  # what stays here goes after some days
            store.quarantine.remove(warehouse.take_superseded_bodies(store.warehouse.con))


def pinned_key(store: Store, instance_id: UUID, fresh: Fresh) -> str | None:
    """The key that must have signed what comes from an instance: pinned before, or by a job before this one."""
    return fresh.keys.get(instance_id) or warehouse.find_key(store.warehouse.con, instance_id)


def estimate_overlap(store: Store, instance_id: UUID, frame: pl.DataFrame, marks: pl.Series, fresh: Fresh) -> int:
    """How much of a page looks like the page before: of a job before this one, still in memory, or in the warehouse."""
    before = fresh.pages.get(instance_id)
    if before is None:
        before = store.pages.get(instance_id)
    if before is not None:
        return count_common(before, marks)
    return warehouse.estimate_overlap(store.warehouse.con, instance_id, frame)


def remember_pages(store: Store, plans: Sequence[Plan]) -> None:
    """Keep the marks of the pages that were loaded, those heard latest last, and no more than PAGES of them."""
    for plan in plans:
        instance_id = plan.delivery.instance_id
        if plan.marks is not None and instance_id is not None:
            store.pages.pop(instance_id, None)
            store.pages[instance_id] = plan.marks
    while len(store.pages) > PAGES:
        del store.pages[next(iter(store.pages))]


def copy_totals(totals: payload.Totals | None) -> Totals | None:
    """The sender's account as the landfill writes it."""
    if totals is None:
        return None
    return Totals(totals.recorded, totals.shipped, totals.dropped, totals.quarantined, totals.pending)


def decide_report(store: Store, job: Job, item: Report, received_at: datetime, fresh: Fresh) -> Plan:
    """A scrubbed report: new, or the same again on the day its body came; nobody's, where a key is pinned."""
    digest = digest_bytes(decode.canonical_stats(item))
    came_at = job.retried.received_at if job.retried else received_at
    key = report_key(item.instance_id, item.version, came_at, digest)
    forgotten = warehouse.find_forgotten(store.warehouse.con, key) is not None
    is_new = not forgotten and key not in fresh.known and not warehouse.has_report(store.warehouse.con, key)
    if is_new and pinned_key(store, item.instance_id, fresh) is not None:
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
    fresh.known.setdefault(key, Known(None, 0, digest))
    receipt = warehouse.receipt_of(delivery, None)
    return Plan(forget(delivery, received_at) if forgotten else delivery, receipt)


def decide_refused(store: Store, job: Job, item: Rejection, received_at: datetime) -> Plan:
    """A body put aside: its bytes in a file of their own, if they are kept, once however often it comes."""
    delivery_id, digest = uuid4(), digest_bytes(job.body)
    key = refused_key(item.reason, digest)
    kept = None
    forgotten = job.retried is None and warehouse.find_forgotten(store.warehouse.con, key) is not None
    if job.retried is not None:
        kept = job.retried.body if item.is_kept else None
    elif item.is_kept and not forgotten and not warehouse.has_refused(store.warehouse.con, key):
        kept = store.quarantine.keep(f"{key}.body", job.body)
        if kept is None and item.sent is not None:
            raise UnavailableError("the quarantine is full: what cannot be kept is not answered with success")
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
    receipt = warehouse.receipt_of(delivery, None)
    return Plan(forget(delivery, received_at) if forgotten else delivery, receipt)


def retried_key(job: Job) -> UUID | None:
    """The key that a retried body had in the quarantine."""
    return None if job.retried is None else job.retried.key


def append_records(store: Store, plans: Sequence[Plan]) -> list[Position]:
    """Every plan into the landfill, then one sync: from here on a crash loses nothing."""
    positions = [
        store.landfill.append(journal.pack_record(plan.delivery, plan.carried, plan.packed), plan.delivery.received_at)
        for plan in plans
    ]
    store.landfill.sync()
    return positions


def load_plans(store: Store, plans: Sequence[Plan], positions: Sequence[Position]) -> None:
    """Begin a transaction and write the rows of every plan; `commit` ends it."""
    store.warehouse.con.begin()
    for plan, position in zip(plans, positions, strict=True):
        warehouse.apply(store.warehouse, plan.delivery, plan.frame, plan.letters, position)


def commit(store: Store) -> None:
    """From here on it counts, and only now may it be answered."""
    store.warehouse.con.commit()


# --- an operator's word ---------------------------------------------------------------------------------------------


def unpin(store: Store, instance_id: UUID) -> str | None:
    """Take away the key that is pinned for an instance, durably, and return it; None when there is none.

    The next signed batch pins its own. A rebuild finds this between the same deliveries. Raises UnavailableError.
    """
    key = warehouse.find_key(store.warehouse.con, instance_id)
    if key is None:
        return None
    now = max(store.clock(), store.warehouse.numbers.received_at + TICK)
    write_word(store, Delivery(uuid4(), now, "unpin", "loaded", uuid4(), "", instance_id=instance_id))
    return key


# --- dead letters ---------------------------------------------------------------------------------------------------


def revive(store: Store, letters: Sequence[Letter], limits: Limits = RECEIPT) -> list[Letter]:
    """Read kept events again with the reader of today, and load those that can be; returns them.

    All that are loaded of one batch are one record of the journal. Raises UnavailableError.
    """
    whole = [letter for letter in letters if letter.is_whole and letter.event is not None]
    revived: list[Letter] = []
    for key in sorted({letter.key for letter in whole}):
        of_batch = [letter for letter in whole if letter.key == key]
        frame, taken = read_dead_letters([letter.event or "" for letter in of_batch], limits)
        if taken:
            loaded = [of_batch[index] for index in taken]
            packed = journal.pack_carried(write_rows(frame))
            write_word(store, word_about(store, "revived", loaded), frame, "rows", packed)
            revived += loaded
    return revived


def drop_letters(store: Store, letters: Sequence[Letter]) -> None:
    """Let go what is kept of bad events; that they came still counts. The journal keeps it until its days are over."""
    for key in sorted({letter.key for letter in letters}):
        write_word(store, word_about(store, "dropped", [letter for letter in letters if letter.key == key]))


def word_about(store: Store, kind: Literal["revived", "dropped"], letters: Sequence[Letter]) -> Delivery:
    """What becomes of some dead letters of one batch, for the journal."""
    one = letters[0]
    return Delivery(
        id=uuid4(),
        received_at=max(store.clock(), store.warehouse.numbers.received_at + TICK),
        kind=kind,
        outcome="loaded",
        key=one.key,
        digest=one.digest,
        instance_id=one.instance_id,
        version=one.version,
        events=len(letters) if kind == "revived" else 0,
        event_nos=[letter.event_no for letter in letters],
    )


def write_word(
    store: Store,
    word: Delivery,
    frame: pl.DataFrame | None = None,
    carried: Carried = "nothing",
    packed: bytes = journal.NOTHING,
) -> None:
    """An operator's word into the journal and the warehouse, durably. Raises UnavailableError."""
    plans = [Plan(word, warehouse.receipt_of(word, None), frame, carried=carried, packed=packed)]
    require_clock(store)
    try:
        load_plans(store, plans, append_records(store, plans))
        commit(store)
    except (OSError, duckdb.Error) as error:
        warehouse.roll_back(store.warehouse.con)
        raise UnavailableError(f"nothing can be written now: {type(error).__name__}") from error


# --- again, from the quarantine -------------------------------------------------------------------------------------


def retry(
    store: Store, refused: Refused, limits: Limits = RECEIPT, *, require_signature: bool = False
) -> Receipt | None:
    """Read a body that was put aside with the reader of today, and load it if that can; None when it is not kept.

    What can be read now is a delivery of its own, known by its key as any other: a batch that came by another way since
    is a duplicate. What still cannot be read stays, under the reason of today. Raises UnavailableError.
    """
    if refused.body is None:
        return None
    try:
        body = store.quarantine.read(refused.body)
    except FileNotFoundError:
        warehouse.forget_bodies(store.warehouse.con, [refused.body])
        return None
    job = prepare(body, limits, require_signature=require_signature)
    if isinstance(job.item, Rejection) and (job.item.reason, job.item.message) == (refused.reason, refused.message):
        return Receipt("quarantined", 0, reason=refused.reason)
    (receipt,) = receive(store, [replace(job, retried=refused)])
    if not warehouse.has_body(store.warehouse.con, refused.body):
        store.quarantine.remove([refused.body])
    return receipt


def drop(store: Store, bodies: Sequence[str]) -> None:
    """Remove bodies that were put aside, by their file names; their lines in the account stay."""
    store.quarantine.remove(bodies)
    with warehouse.transaction(store.warehouse.con):
        warehouse.forget_bodies(store.warehouse.con, bodies)


# --- again, from the landfill ---------------------------------------------------------------------------------------


def replay(opened: Warehouse, records: Iterable[Record]) -> int:
    """Apply records in the order given; returns how many could not be loaded.

    What each becomes is found out anew, so that records of several landfills make one sound warehouse. What is under
    way is noted before; what raises, or has ended starts, is set aside.
    """
    attempts = Attempts.read(opened.path)
    unloadable = 0
    try:
        for chunk in group_records(records):
            if not any(attempts.is_suspect(record.header.delivery.id) for record in chunk):
                try:
                    with attempts.noted([record.header.delivery.id for record in chunk]):
                        replay_together(opened, chunk)
                    continue
                except Exception as error:
                    if not is_of_records(error):
                        raise
            unloadable += sum(not replay_alone(opened, record, attempts) for record in chunk)
    except (OSError, duckdb.IOException, SystemExit, KeyboardInterrupt):
        attempts.clear()  # the disk, or an orderly end
        raise
    attempts.clear()
    return unloadable


def is_of_records(error: Exception) -> bool:
    """Whether it is the rows that are at fault, not the disk or the database."""
    if isinstance(error, duckdb.Error):
        return isinstance(error, (*warehouse.DATA_ERRORS, duckdb.OutOfMemoryException))
    return not isinstance(error, (OSError, DatabaseError))


def group_records(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Records for one transaction each: no more than TOGETHER, and none behind those that fill a transaction."""
    group: list[Record] = []
    size = 0
    for record in records:
        group.append(record)
        size += journal.carried_size(record) * (PACKED if record.header.carried == "events" else 1)
        if len(group) == TOGETHER or size >= TRANSACTION:
            yield group
            group, size = [], 0
    if group:
        yield group


def replay_together(opened: Warehouse, records: Sequence[Record]) -> None:
    """Some records in one transaction."""
    numbers = replace(opened.numbers)
    try:
        with warehouse.transaction(opened.con):
            for record in records:
                delivery, frame, letters = recall(opened, record)
                warehouse.apply(opened, delivery, frame, letters, Position(record.day, record.end))
    except BaseException:
        opened.numbers = numbers
        raise


def replay_alone(opened: Warehouse, record: Record, attempts: Attempts) -> bool:
    """One record in a transaction of its own; whether it could be loaded. One that cannot be is set aside.

    Not so the repeat of something that is not there, as after days of the landfill were removed: it carries nothing.
    """
    delivery_id = record.header.delivery.id
    if attempts.is_too_often(delivery_id):
        journal.set_aside(record)
        return False
    try:
        with attempts.noted([delivery_id]):
            replay_together(opened, [record])
    except RepeatError:
        return False
    except Exception as error:
        if not is_of_records(error):
            raise
        journal.set_aside(record)
        return False
    return True


def recall(opened: Warehouse, record: Record) -> tuple[Delivery, pl.DataFrame | None, Sequence[DeadLetter]]:
    """A record as what it becomes in this warehouse, with its events and dead letters when they are to be loaded."""
    delivery = record.header.delivery
    match delivery.kind:
        case "batch":
            known = warehouse.find_batch(opened.con, delivery.key)
        case "report":
            forgotten = warehouse.find_forgotten(opened.con, delivery.key) is not None
            is_known = forgotten or warehouse.has_report(opened.con, delivery.key)
            known = Known(None, 0, delivery.digest, forgotten) if is_known else None
        case "revived":
            return delivery, read_events(record)[0] if not delivery.forgotten else None, ()
        case "refused" | "renewed" | "unpin" | "dropped":
            return delivery, None, ()
    if known is not None:
        if known.digest != delivery.digest:
            return refuse(delivery, "id-reused", ID_REUSED), None, ()
        repeat = structs.replace(delivery, outcome="duplicate")
        return (forget(repeat, delivery.received_at) if known.forgotten else repeat), None, ()
    if delivery.outcome == "duplicate":
        raise RepeatError("a repeat of something that this landfill does not hold")
    if delivery.kind != "batch" or delivery.forgotten:
        return delivery, None, ()
    return recall_batch(opened, record, delivery)


def recall_batch(
    opened: Warehouse, record: Record, delivery: Delivery
) -> tuple[Delivery, pl.DataFrame | None, Sequence[DeadLetter]]:
    """A batch that was loaded and is not known here: loaded again, unless its parts or its whole were before."""
    if warehouse.is_superseded(opened.con, delivery.key):
        return refuse(delivery, "superseded", SUPERSEDED.message), None, ()
    part = as_part(opened, delivery)
    return (delivery, *read_events(record)) if part is None else (part, None, ())


def as_part(opened: Warehouse, delivery: Delivery) -> Delivery | None:
    """A batch as a repeat of one that it holds a part of, when that was loaded: by another receiver, say."""
    for batch_id in delivery.supersedes:
        key = batch_key(delivery.instance_id or UUID(int=0), batch_id, "")
        whole = warehouse.find_batch(opened.con, key)
        if whole is not None:
            part = structs.replace(
                delivery, outcome="duplicate", key=key, digest=whole.digest, duplicate_of=batch_id, supersedes=[]
            )
            return forget(part, delivery.received_at) if whole.forgotten else part
    return None


def refuse(delivery: Delivery, reason: Reason, message: str) -> Delivery:
    """The same delivery as one that is not loaded: only landfills of two receivers can hold one."""
    return Delivery(
        id=delivery.id,
        received_at=delivery.received_at,
        kind="refused",
        outcome="quarantined",
        key=refused_key(reason, delivery.digest),
        digest=delivery.digest,
        instance_id=delivery.instance_id,
        batch_id=delivery.batch_id,
        batch_seq=delivery.batch_seq,
        events_digest=delivery.digest,
        reason=reason,
        message=message,
    )


def read_events(record: Record) -> tuple[pl.DataFrame, Sequence[DeadLetter]]:
    """The events and dead letters that a record carries, as they were loaded the first time. Raises DecodeError."""
    text = journal.read_carried(record)
    if record.header.carried == "rows":
        return read_rows(text)
    page = decode_page(text, REPLAY, keep_safe_keys)
    return page.frame, page.dead_letters


def rebuild(places: Places, *, allow_loss: bool = False) -> Found:
    """A new warehouse from everything in the landfill folder, however the files are called, in the old one's place.

    Records are sorted by the time of receipt and each is taken once, so neither order nor copies matter. Raises
    DatabaseError, and leaves the old warehouse as it was, when that one is in use or holds what the landfill does not.
    An old warehouse that cannot be read is kept under another name.
    """
    new = rebuilding(places)
    warehouse.remove_database(new)
    with journal.locked(places.landfill):
        stones = tombstones.read(places.tombstones)
        erasure.remove_bodies(places.quarantine, stones.bodies)
        purged = purge(places.landfill, tombstones.index(stones, stones.erasures))
        index, repeated, damaged = index_landfill(places.landfill)
        with Warehouse(new) as built:
            aside = journal.list_aside(places.landfill)
            kept = [entry for entry in index if str(entry.delivery_id) in aside]
            tried = [entry for entry in index if str(entry.delivery_id) not in aside]
            unloadable = len(kept) + replay(built, journal.read_index(tried))
            missing = warehouse.count_missing(built.con, places.warehouse)
            lost = [name for name in warehouse.list_bodies(built.con) if not (places.quarantine / name).exists()]
            warehouse.forget_bodies(built.con, lost)
            warehouse.set_floor(built.con, journal.end_of(places.landfill))
            warehouse.set_erased(built.con, stones.latest)
        if missing and not allow_loss:
            warehouse.remove_database(new)
            raise DatabaseError(
                f"{places.warehouse} holds {missing} batches and reports that the landfill does not: "
                "nothing was changed; rebuild with --allow-loss to go on without them"
            )
        old = warehouse.keep_unreadable(places.warehouse) if missing is None else None
        warehouse.replace_database(places.warehouse, new)
    damaged += purged.damaged_bytes
    return Found(len(index), 0, repeated, damaged, unloadable, kept_warehouse=old)


def rebuilding(places: Places) -> Path:
    """Where a warehouse is rebuilt before it takes the place of the old one."""
    return places.warehouse.with_name(places.warehouse.name + ".rebuilding")


def index_landfill(folder: Path) -> tuple[list[Entry], int, int]:
    """Every record of a folder once, by time of receipt; how many were repeats; how many bytes were no record."""
    entries: dict[UUID, Entry] = {}
    repeated = damaged = 0
    for path in sorted(folder.rglob("*" + journal.SUFFIX)):
        for found in journal.scan_past_damage(path):
            if not isinstance(found, Record):
                journal.keep_beside(found, journal.TORN if found.is_torn else journal.DAMAGED)
                damaged += found.size
            elif found.header.delivery.id in entries:
                repeated += 1
            else:
                delivery = found.header.delivery
                entries[delivery.id] = Entry(delivery.received_at, delivery.id, path, found.start)
    return sorted(entries.values()), repeated, damaged


def mend_clock(places: Places, now: datetime) -> int:
    """Stamp the receipts that lie ahead of the clock with `now`, in their order, and make the warehouse anew of that.

    Returns how many they were. Cut off at any point, the same call again finishes it. A file that is named by a day to
    come gets another name, under which a rebuild finds it. Raises DatabaseError as `rebuild` does.
    """
    with journal.locked(places.landfill):
        index, _, _ = index_landfill(places.landfill)
        ahead = [entry for entry in index if entry.received_at > now]
        last = max((entry.received_at for entry in index if entry.received_at <= now), default=now)
        first = max(last + TICK, now - len(ahead) * TICK)
        stamps = {entry.delivery_id: first + number * TICK for number, entry in enumerate(ahead)}

        def change(record: Record) -> bytes | None:
            delivery = record.header.delivery
            if delivery.id not in stamps:
                return None
            stamped = structs.replace(delivery, received_at=stamps[delivery.id])
            return journal.pack_record(stamped, record.header.carried, journal.read_packed(record))

        for path in sorted({entry.path for entry in ahead}):
            journal.rewrite(path, change, keep_damage=True)
        for day in journal.list_days(places.landfill):
            if day > now.date():
                path = journal.path_of(places.landfill, day)
                path.rename(path.with_name("ahead-" + path.name))
        journal.sync_folder(places.landfill)
    rebuild(places)
    return len(ahead)


# --- what is asked to go --------------------------------------------------------------------------------------------


def erase_id(places: Places, scope: tombstones.Scope, wanted: UUID) -> Erasure:
    """Remove all that was received of an instance or a profile, everywhere, for good; returns the receipt."""
    (receipt,) = erase_ids(places, scope, [wanted])
    return receipt


def erase_ids(places: Places, scope: tombstones.Scope, wanted: Sequence[UUID]) -> list[Erasure]:
    """The same for several at once, in one pass over the files; what was removed is counted in the first receipt.

    Counts first, and changes nothing until the tombstones are durable; from there on a start finishes what is cut off.
    Raises DatabaseError when the warehouse is in use, DecodeError when a record cannot be read to see what it holds.
    """
    with open_store(places) as store:
        con = store.warehouse.con
        stones = tombstones.read(places.tombstones)
        at = max(store.clock(), store.warehouse.numbers.received_at + TICK)
        first = len(stones.erasures) + 1
        asked = [
            Erasure(number, scope, tombstones.hash_id(stones.hash_key, scope, one), at, {"counted-in-receipt": first})
            for number, one in enumerate(wanted, first)
        ]
        erased = tombstones.index(stones, asked)
        erasure.mark_doomed(con, erased)
        bodies = erasure.pick_bodies(con, places.quarantine, erased)
        purged = purge(places.landfill, replace(erased, bodies=frozenset(bodies)), con, dry_run=True)
        rows = erasure.count_rows(con, erased, at)
        removed = {
            "events": rows.events,
            "dead-letters": rows.dead_letters,
            "batches": rows.batches,
            "batches-shortened": rows.shortened_batches,
            "reports": rows.reports,
            "quarantine": rows.quarantine,
            "quarantine-bodies": len(bodies),
            "landfill-records": purged.records,
            "landfill-damaged-bytes": purged.damaged_bytes,
        }
        tombstones.write(
            places.tombstones,
            structs.replace(
                stones,
                erasures=[*stones.erasures, structs.replace(asked[0], removed=removed), *asked[1:]],
                bodies=sorted({*stones.bodies, *bodies}),
            ),
        )
    finish_erasures(places)
    return tombstones.read(places.tombstones).erasures[first - 1 :]


def finish_erasures(places: Places) -> list[Erasure]:
    """Carry out the erasures that have a tombstone and no receipt, which may have begun; returns the receipts.

    Nothing is received between the two. So the warehouse holds all that the landfill does, and where its records
    move, the account of positions begins anew. The warehouse goes last, in one transaction: what it holds until then
    says what is to go.
    """
    stones = tombstones.read(places.tombstones)
    if not stones.unfinished:
        return []
    at = max(one.erased_at for one in stones.unfinished)
    erased = tombstones.index(stones, stones.unfinished)
    with journal.locked(places.landfill):
        with Warehouse(places.warehouse) as opened:
            erasure.mark_doomed(opened.con, erased)
            erasure.remove_bodies(places.quarantine, stones.bodies)
            purge(places.landfill, erased, opened.con)
            with warehouse.transaction(opened.con):
                erasure.erase_rows(opened.con, erased, at)
                warehouse.forget_bodies(opened.con, stones.bodies)
                warehouse.reset_positions(opened.con, journal.end_of(places.landfill))
                warehouse.set_erased(opened.con, at)
            content_digest = account.content_digest(opened.con)
        warehouse.write_anew(places.warehouse)
        journal.forget_kept(places.landfill)
        unreadable = warehouse.list_unreadable(places.warehouse)
        for left_over in (warehouse.snapshot_of(places.warehouse), rebuilding(places), *unreadable):
            warehouse.remove_database(left_over)
        snapshot.remove_unfinished(warehouse.snapshot_of(places.warehouse))
        now = datetime.now(UTC)
        receipts = [one.finish(now, content_digest) for one in stones.unfinished]
        done = [one for one in stones.erasures if one.finished_at is not None]
        tombstones.write(places.tombstones, structs.replace(stones, erasures=[*done, *receipts]))
    return receipts


def purge(
    folder: Path, erased: Erased, con: duckdb.DuckDBPyConnection | None = None, *, dry_run: bool = False
) -> Rewritten:
    """Write every file of the landfill anew that holds something erased, however it is called; returns what went.

    With a connection, records of batches that it knows to be free of it are not opened, and one that cannot be read
    raises DecodeError; without, such a record stays, and a replay counts it.
    """
    if not (erased.instances or erased.profiles):
        return Rewritten(0, 0)
    untouched = () if con is None else erasure.find_untouched(con)

    def change(record: Record) -> bytes | None:
        try:
            return erasure.redact(record, erased, read_events, untouched)
        except DecodeError:
            if con is None:
                return None
            raise

    for cut_off in folder.rglob("*" + journal.SUFFIX + journal.NEW):
        cut_off.unlink()
    files = sorted(folder.rglob("*" + journal.SUFFIX))
    lost = [journal.rewrite(path, change, dry_run=dry_run) for path in files]
    return Rewritten(sum(one.records for one in lost), sum(one.damaged_bytes for one in lost))


def check_erased(opened: Warehouse, places: Places) -> None:
    """Refuse a warehouse from before an erasure: it holds what was erased. Raises DatabaseError."""
    latest, until = tombstones.read(places.tombstones).latest, warehouse.erased_until(opened.con)
    if latest is None or (until is not None and until >= latest):
        return
    if opened.numbers.delivery:
        raise DatabaseError(
            f"{places.warehouse} is a copy from before an erasure and holds what was erased: "
            "run `python -m receiver rebuild`, which makes it anew without"
        )
    warehouse.set_erased(opened.con, latest)


# --- what time takes away -------------------------------------------------------------------------------------------


class Gone(NamedTuple):
    """What time took away at once."""

    events: int = 0
    reports: int = 0
    bodies: int = 0
    landfill_days: int = 0
    dead_letters: int = 0


def tidy(store: Store) -> Gone:
    """Remove events, reports, quarantined bodies and landfill files past their days."""
    now = store.clock()
    places, con = store.places, store.warehouse.con
    bodies = store.quarantine.expire(places.quarantine_days, now)
    warehouse.forget_bodies(con, bodies)
    events = reports = letters = 0
    with warehouse.transaction(con):
        if places.event_days is not None:
            letters = retention.expire_dead_letters(con, days_before(now, places.event_days))
            events = retention.expire_events(con, days_before(now, places.event_days), now)
        if places.report_days is not None:
            reports = retention.expire_reports(con, days_before(now, places.report_days), now)
    files = journal.expire(store.landfill, places.landfill_days, now.date()) if places.landfill_days else []
    return Gone(events, reports, len(bodies), len(files), letters)


def days_before(now: datetime, days: int) -> date:
    """The day so many days ago, or the first that there is."""
    return date.fromordinal(max(1, now.astimezone(UTC).toordinal() - days))


TOGETHER = 32
PACKED = 16
"""Bytes of rows for one of `events` text, which the oldest records carry: about so many in a page of a Penpot."""
REPLAY = Limits(
    body=1024 * MIB,
    decoded=1024 * MIB,
    events=10_000_000,
    word=MIB,
    event=MEMORY,
    junk=10_000_000,
    floor=1024 * MIB,
)
"""What was loaded once is read again, under the caps of its day: the oldest records know none on words."""

ID_REUSED = "this batch-id was received before with other events"
TOO_LONG = Rejection("too-large", "its fields take more than 1 MiB in the journal")
SUPERSEDED = Rejection("superseded", "its events came in parts, in batches that name it", is_kept=False)
