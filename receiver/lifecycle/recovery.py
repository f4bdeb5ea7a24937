"""Records of the journal into a warehouse again: at a start past the last commit, in a rebuild all of them.

What a record becomes is decided anew, so that journals of several receivers make one sound warehouse. A record that
cannot be loaded is set aside; it never ends a start twice.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from uuid import UUID

import duckdb
import polars as pl
from msgspec import structs

from penpot_telemetry.errors import DatabaseError, Reason
from penpot_telemetry.wire.fressian.reader import MEMORY
from penpot_telemetry.wire.limits import MIB, TRANSACTION, Limits
from receiver.frames import (
    decode_page,
    keep_safe_keys,
    read_rows,
)
from receiver.lifecycle.attempts import Attempts
from receiver.storage import connection, inserts, journal, lookups, warehouse
from receiver.storage.journal import Journal, Record
from receiver.storage.lookups import LoadedBatch
from receiver.storage.records import (
    UNCOUNTED,
    DeadLetter,
    Delivery,
    Position,
    batch_key,
    forget,
    refused_key,
)
from receiver.storage.store import RecoveryReport
from receiver.storage.warehouse import Warehouse


class RepeatError(LookupError):
    """A repeat whose first delivery the landfill does not hold."""


def catch_up(opened: Warehouse, log: Journal) -> RecoveryReport:
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
        with connection.transaction(opened.con):
            warehouse.reset_positions(opened.con, log.position)
    elif unloadable or tail.damages or len(new) < len(tail.records):
        warehouse.set_floor(opened.con, log.position)  # else each start would try these again
    return RecoveryReport(
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
    return delivery.kind in UNCOUNTED or lookups.has_delivery(opened.con, delivery.received_at)


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
        return isinstance(error, (*connection.DATA_ERRORS, duckdb.OutOfMemoryException))
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
        with connection.transaction(opened.con):
            for record in records:
                delivery, frame, letters = recall(opened, record)
                inserts.apply(opened, delivery, frame, letters, Position(record.day, record.end))
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
            known = lookups.find_batch(opened.con, delivery.key)
        case "report":
            forgotten = lookups.find_forgotten(opened.con, delivery.key) is not None
            is_known = forgotten or lookups.has_report(opened.con, delivery.key)
            known = LoadedBatch(None, 0, delivery.digest, forgotten) if is_known else None
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
    if lookups.is_superseded(opened.con, delivery.key):
        return refuse(delivery, "superseded", SUPERSEDED), None, ()
    part = as_part(opened, delivery)
    return (delivery, *read_events(record)) if part is None else (part, None, ())


def as_part(opened: Warehouse, delivery: Delivery) -> Delivery | None:
    """A batch as a repeat of one that it holds a part of, when that was loaded: by another receiver, say."""
    for batch_id in delivery.supersedes:
        key = batch_key(delivery.instance_id or UUID(int=0), batch_id, "")
        whole = lookups.find_batch(opened.con, key)
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
SUPERSEDED = "its events came in parts, in batches that name it"
