"""A delivery as rows: what each kind writes. The caller owns the transaction."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Literal
from uuid import UUID

import duckdb
import msgspec
import polars as pl

from receiver.storage import rollups
from receiver.storage.connection import registered, utc
from receiver.storage.lookups import LoadedBatch, find_forgotten, find_key, has_refused
from receiver.storage.records import DeadLetter, Delivery, Position, Receipt, list_superseded
from receiver.storage.warehouse import Warehouse, set_floor


def apply(
    warehouse: Warehouse,
    delivery: Delivery,
    frame: pl.DataFrame | None,
    letters: Sequence[DeadLetter],
    position: Position,
) -> None:
    """The effect of one delivery, inside the caller's transaction. `frame` is needed for a batch that is loaded."""
    con, numbers = warehouse.con, warehouse.numbers
    numbers.received_at = max(numbers.received_at, delivery.received_at)
    match delivery.kind, delivery.outcome:
        case "revived", _:
            revive_letters(con, delivery, frame)
            set_floor(con, position)
            return
        case "renewed" | "unpin" | "dropped", _:
            WORDS[delivery.kind](con, delivery)
            set_floor(con, position)
            return
        case _ if delivery.forgotten:
            insert_forgotten(con, delivery)
            insert_superseded(con, delivery)
        case "batch", "loaded" if frame is not None:
            numbers.batch += 1
            insert_batch(con, numbers.batch, delivery)
            insert_events(con, numbers.batch, delivery, frame)
            insert_letters(warehouse, delivery, letters)
            insert_superseded(con, delivery)
            insert_removed(con, numbers.batch, delivery)
            if delivery.signed_by is not None:
                pin_key(con, delivery)
        case "report", "loaded":
            numbers.report += 1
            insert_report(con, numbers.report, delivery)
        case _, "quarantined":
            if has_refused(con, delivery.key):
                count_repeat(con, "quarantine", delivery.key)
            else:
                numbers.quarantine += 1
                insert_refused(con, numbers.quarantine, delivery)
        case kind, _:
            count_repeat(con, "batches" if kind == "batch" else "reports", delivery.key)
    if delivery.retried is not None:
        settle_refused(con, delivery)
    numbers.delivery += 1
    insert_delivery(con, numbers.delivery, delivery, position)


INSERT_BATCH = """
INSERT INTO batches (batch_no, key, instance_id, batch_id, batch_seq, version, received_at, event_count, digest, trust,
                     recorded, shipped, dropped, quarantined, pending, dropped_context_keys, unknown_keys,
                     overlap_events, signed_by, dead_letters, changed_values, ignored_fields)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


def insert_batch(con: duckdb.DuckDBPyConnection, batch_no: int, delivery: Delivery) -> None:
    """The row that knows the batch again."""
    totals = delivery.totals
    account = (
        [None] * 5
        if totals is None
        else [totals.recorded, totals.shipped, totals.dropped, totals.quarantined, totals.pending]
    )
    con.execute(
        INSERT_BATCH,
        [
            batch_no,
            delivery.key,
            delivery.instance_id,
            delivery.batch_id,
            delivery.batch_seq,
            delivery.version,
            utc(delivery.received_at),
            delivery.events - delivery.erased,
            delivery.digest,
            delivery.trust,
            *account,
            delivery.dropped_context_keys,
            delivery.unknown_keys,
            delivery.overlap_events,
            delivery.signed_by,
            delivery.dead_letters,
            delivery.changed_values,
            delivery.ignored_fields,
        ],
    )


PIN_KEY = "INSERT OR REPLACE INTO instance_keys VALUES (?, ?, ?)"


def pin_key(con: duckdb.DuckDBPyConnection, delivery: Delivery) -> None:
    """The key that signed a batch becomes the one of its instance, unless one is already."""
    assert delivery.instance_id is not None  # noqa: S101  a batch has one
    if find_key(con, delivery.instance_id) is None:
        con.execute(PIN_KEY, [delivery.instance_id, delivery.signed_by, utc(delivery.received_at)])


UNPIN_KEY = "UPDATE instance_keys SET key = NULL, since = ? WHERE instance_id = ?"


def unpin_key(con: duckdb.DuckDBPyConnection, delivery: Delivery) -> None:
    """The next signed batch of an instance pins its key, whichever that is."""
    con.execute(UNPIN_KEY, [utc(delivery.received_at), delivery.instance_id])


INSERT_EVENTS = """
INSERT INTO events
SELECT ?::BIGINT, ?::UUID, ?, name, type, source, tracked_on, profile_id::UUID, props, context FROM page_rows
"""


def insert_events(con: duckdb.DuckDBPyConnection, batch_no: int, delivery: Delivery, frame: pl.DataFrame) -> None:
    """The events of a batch, straight from the frame."""
    with registered(con, "page_rows", frame):
        con.execute(INSERT_EVENTS, [batch_no, delivery.instance_id, delivery.version])


INSERT_LETTERS = """
INSERT INTO dead_letters
    (dead_letter_no, batch_no, instance_id, event_no, reason, message, event, is_whole, received_at)
SELECT number, ?, ?, event_no, reason, message, event, is_whole, ? FROM page_letters
"""


LETTERS = {
    "number": pl.Int64,
    "event_no": pl.Int64,
    "reason": pl.String,
    "message": pl.String,
    "event": pl.String,
    "is_whole": pl.Boolean,
}


def insert_letters(warehouse: Warehouse, delivery: Delivery, letters: Sequence[DeadLetter]) -> None:
    """The bad events of a batch, in their order."""
    if not letters:
        return
    numbers = warehouse.numbers
    rows = [
        (numbers.dead_letter + n, one.event_no, one.reason, one.message, one.event or None, one.is_whole)
        for n, one in enumerate(letters, start=1)
    ]
    numbers.dead_letter += len(rows)
    with registered(warehouse.con, "page_letters", pl.DataFrame(rows, schema=LETTERS, orient="row")):
        of_batch = [numbers.batch, delivery.instance_id, utc(delivery.received_at)]
        warehouse.con.execute(INSERT_LETTERS, of_batch)


FIND_LETTERS = """
SELECT batch_no, event_no FROM dead_letters
WHERE batch_no = (SELECT batch_no FROM batches WHERE key = $key) AND list_contains($numbers, event_no)
"""


DELETE_LETTERS = "DELETE FROM dead_letters WHERE batch_no = $batch AND list_contains($numbers, event_no)"


COUNT_REVIVED = """
UPDATE batches SET event_count = event_count + $events, dead_letters = dead_letters - $letters WHERE batch_no = $batch
"""


def revive_letters(con: duckdb.DuckDBPyConnection, delivery: Delivery, frame: pl.DataFrame | None) -> None:
    """Dead letters that a retry could read become events of their batch."""
    found = con.execute(FIND_LETTERS, {"key": delivery.key, "numbers": delivery.event_nos}).fetchall()
    if frame is None or not found:
        return
    batch_no = found[0][0]
    insert_events(con, batch_no, delivery, frame)
    con.execute(DELETE_LETTERS, {"batch": batch_no, "numbers": delivery.event_nos})
    counts = {"events": len(found) - delivery.erased, "letters": len(found)}
    con.execute(COUNT_REVIVED, {"batch": batch_no} | counts)
    insert_removed(con, batch_no, delivery)
    rollups.rebuild(con, [batch_no])


DROP_LETTERS = """
UPDATE dead_letters SET event = NULL, is_whole = false
WHERE batch_no = (SELECT batch_no FROM batches WHERE key = $key) AND list_contains($numbers, event_no)
"""


def drop_letters(con: duckdb.DuckDBPyConnection, delivery: Delivery) -> None:
    """What is kept of bad events goes; that they came stays."""
    con.execute(DROP_LETTERS, {"key": delivery.key, "numbers": delivery.event_nos})


INSERT_SUPERSEDED = "INSERT INTO superseded VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"


def insert_superseded(con: duckdb.DuckDBPyConnection, delivery: Delivery) -> None:
    """The batches of which this one holds a part: none of them may be loaded any more. Keys alone of what is erased."""
    for key, batch_id in zip_longest(list_superseded(delivery), delivery.supersedes):
        con.execute(
            INSERT_SUPERSEDED,
            [key, delivery.instance_id, batch_id, delivery.batch_id, utc(delivery.received_at)],
        )


INSERT_REMOVED = "INSERT INTO removed VALUES ('erase', ?, ?, ?)"


def insert_removed(con: duckdb.DuckDBPyConnection, batch_no: int, delivery: Delivery) -> None:
    """What of a batch was erased before it came here again, if any was."""
    if delivery.erased:
        con.execute(INSERT_REMOVED, [batch_no, delivery.erased, utc(delivery.removed_at or delivery.received_at)])


INSERT_FORGOTTEN = "INSERT INTO forgotten VALUES ('erase', ?, ?, ?, ?, 0, ?)"


def insert_forgotten(con: duckdb.DuckDBPyConnection, delivery: Delivery) -> None:
    """The key of something that was erased, or one delivery more of it."""
    if find_forgotten(con, delivery.key) is not None:
        count_repeat(con, "forgotten", delivery.key)
        return
    removed_at = utc(delivery.removed_at or delivery.received_at)
    events = delivery.events + delivery.dead_letters
    con.execute(INSERT_FORGOTTEN, [delivery.kind, delivery.key, delivery.digest, events, removed_at])


REPORT_COLUMNS = ("total-teams", "total-projects", "total-files", "total-users", "jvm-cpus", "jvm-heap-max")


INSERT_REPORT = """
INSERT INTO reports (report_no, key, instance_id, version, received_at, total_teams, total_projects, total_files,
                     total_users, jvm_cpus, jvm_heap_max, stats, dropped_stats)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


def insert_report(con: duckdb.DuckDBPyConnection, report_no: int, delivery: Delivery) -> None:
    """A scrubbed report: the sizes everybody asks for as columns, all that was kept as JSON."""
    stats = delivery.stats or {}
    figures = [value if isinstance(value := stats.get(name), int) else None for name in REPORT_COLUMNS]
    con.execute(
        INSERT_REPORT,
        [
            report_no,
            delivery.key,
            delivery.instance_id,
            delivery.version,
            utc(delivery.received_at),
            *figures,
            msgspec.json.encode(stats, order="sorted").decode(),
            delivery.dropped_stats,
        ],
    )


INSERT_REFUSED = """
INSERT INTO quarantine (quarantine_no, key, reason, digest, size, received_at, body, instance_id, batch_id, batch_seq,
                        events_digest, message)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


def insert_refused(con: duckdb.DuckDBPyConnection, quarantine_no: int, delivery: Delivery) -> None:
    """The row of a body that was put aside."""
    con.execute(
        INSERT_REFUSED,
        [
            quarantine_no,
            delivery.key,
            delivery.reason,
            delivery.digest,
            delivery.size,
            utc(delivery.received_at),
            delivery.body,
            delivery.instance_id,
            delivery.batch_id,
            delivery.batch_seq,
            delivery.events_digest,
            delivery.message,
        ],
    )


RENEW_REFUSED = """
UPDATE quarantine
SET reason = ?, message = ?, body = ?, instance_id = ?, batch_id = ?, batch_seq = ?, events_digest = ?
WHERE key = ?
"""


def renew_refused(con: duckdb.DuckDBPyConnection, delivery: Delivery) -> None:
    """A body that a retry refused anew: the reason of today, and what could be read of it today."""
    con.execute(
        RENEW_REFUSED,
        [
            delivery.reason,
            delivery.message,
            delivery.body,
            delivery.instance_id,
            delivery.batch_id,
            delivery.batch_seq,
            delivery.events_digest,
            delivery.retried,
        ],
    )


SETTLE_REFUSED = "UPDATE quarantine SET became = ?, body = NULL WHERE key = ?"


def settle_refused(con: duckdb.DuckDBPyConnection, delivery: Delivery) -> None:
    """A body that a retry could read: what it became, and that it need not be kept."""
    con.execute(SETTLE_REFUSED, [delivery.outcome, delivery.retried])


def count_repeat(con: duckdb.DuckDBPyConnection, table: str, key: UUID) -> None:
    """One delivery more of something known."""
    con.execute(f"UPDATE {table} SET repeats = repeats + 1 WHERE key = ?", [key])  # noqa: S608  our own table names


INSERT_DELIVERY = """
INSERT INTO deliveries (delivery_no, received_at, kind, outcome, events, dead_letters, landfill_day, landfill_end)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""


def insert_delivery(con: duckdb.DuckDBPyConnection, delivery_no: int, delivery: Delivery, position: Position) -> None:
    """The account's row, with the place in the landfill that this transaction completes."""
    counts = [delivery.events, delivery.dead_letters] if delivery.outcome == "loaded" else [0, 0]
    con.execute(
        INSERT_DELIVERY,
        [delivery_no, utc(delivery.received_at), delivery.kind, delivery.outcome, *counts, *position],
    )


def receipt_of(delivery: Delivery, known: LoadedBatch | None) -> Receipt:
    """The answer to a delivery; a duplicate is answered with what was `known` of the first."""
    if delivery.outcome == "quarantined":
        return Receipt("quarantined", 0, delivery.batch_id, delivery.events_digest, delivery.reason)
    if known is not None:
        batch_id = known.batch_id or delivery.batch_id
        return Receipt("duplicate", known.event_count, batch_id, known.digest, dead_letters=known.dead_letters)
    status: Literal["accepted", "duplicate"] = "accepted" if delivery.outcome == "loaded" else "duplicate"
    return Receipt(status, delivery.events, delivery.batch_id, delivery.digest, dead_letters=delivery.dead_letters)


WORDS = {"renewed": renew_refused, "unpin": unpin_key, "dropped": drop_letters}
"""What an operator's word does."""
