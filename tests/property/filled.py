"""The warehouse of a world: the rows as a receiver would have written them."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime, time, timedelta
from uuid import UUID

import duckdb
import polars as pl

from receiver.storage import rollups, schema
from tests.property.reference import Batch, Event, Refused, World


def create_warehouse() -> duckdb.DuckDBPyConnection:
    """An empty one in memory, with the rollups."""
    con = duckdb.connect()
    con.execute("SET threads = 1")
    schema.upgrade(con)
    rollups.create(con)
    return con


TABLES = ("events", "batches", "quarantine", *rollups.TABLES)


def fill(con: duckdb.DuckDBPyConnection, world: World, *, by_batch: bool = False) -> None:
    """Make the warehouse hold this world and nothing else."""
    for table in TABLES:
        con.execute(f"DELETE FROM {table}")  # noqa: S608  our own table names
    insert(con, "batches", (batch_row(number, batch) for number, batch in enumerate(world.batches, 1)))
    rows = [event_row(number, batch, event) for number, batch in enumerate(world.batches, 1) for event in batch.events]
    insert(con, "events", rows)
    insert(con, "quarantine", (refused_row(number, refused) for number, refused in enumerate(world.refused, 1)))
    if by_batch:
        for number in range(1, len(world.batches) + 1):
            rollups.add(con, number, number)
    else:
        rollups.rebuild(con)


def insert(con: duckdb.DuckDBPyConnection, table: str, rows: Iterable[dict[str, object]]) -> None:
    rows = list(rows)
    if rows:
        con.register("rows_in", pl.DataFrame(rows, infer_schema_length=None).to_arrow())
        con.execute(f"INSERT INTO {table} BY NAME SELECT * FROM rows_in")  # noqa: S608  our own table names
        con.unregister("rows_in")


def at_noon(batch: Batch | Refused, number: int) -> datetime:
    return datetime.combine(batch.received_on, time(12), UTC).replace(tzinfo=None) + timedelta(seconds=number)


def batch_row(number: int, batch: Batch) -> dict[str, object]:
    recorded, dropped, quarantined = batch.totals or (None, None, None)
    return {
        "batch_no": number,
        "key": str(UUID(int=number)),
        "instance_id": str(batch.instance),
        "batch_id": str(UUID(int=number)) if batch.seq is not None else None,
        "batch_seq": batch.seq,
        "version": batch.version,
        "received_at": at_noon(batch, number),
        "event_count": len(batch.events),
        "digest": f"sha256:{number}",
        "trust": batch.trust,
        "recorded": recorded,
        "dropped": dropped,
        "quarantined": quarantined,
        "repeats": batch.repeats,
        "dropped_context_keys": batch.context_keys,
        "unknown_keys": batch.event_keys,
        "overlap_events": batch.overlap,
    }


def event_row(number: int, batch: Batch, event: Event) -> dict[str, object]:
    context: dict[str, object] = {"version": batch.version}
    if event.browser:
        context |= {"browser": f" {event.browser}", "os": f"{event.browser} OS ", "locale": event.browser}
    if event.width is not None:
        context["screen-width"] = event.width
    return {
        "batch_no": number,
        "instance_id": str(batch.instance),
        "version": batch.version,
        "name": event.name,
        "type": event.type,
        "source": event.source,
        "tracked_on": event.day,
        "profile_id": str(event.profile),
        "props": "{}",
        "context": json.dumps(context),
    }


def refused_row(number: int, refused: Refused) -> dict[str, object]:
    return {
        "quarantine_no": number,
        "key": str(UUID(int=number)),
        "reason": refused.reason,
        "digest": f"sha256:{number}",
        "size": refused.size,
        "received_at": at_noon(refused, number),
        "instance_id": str(refused.instance) if refused.instance else None,
        "message": "",
        "repeats": refused.repeats,
    }
