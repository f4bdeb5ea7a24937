"""Small random worlds, and the warehouse of one: the rows as a receiver would have written them."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime, time, timedelta
from importlib.resources import files
from uuid import UUID

import duckdb
import polars as pl
from hypothesis import strategies as st

from receiver import rollups
from tests.property.reference import MONDAY, NOBODY, Batch, Event, Refused, World

DAY = timedelta(days=1)
INSTANCES = [UUID(int=(1 << 100) + n) for n in range(5)]
PROFILES = [UUID(int=(1 << 90) + n) for n in range(9)]
VERSIONS = ["2.9.0", "2.10.0", "2.10.0-RC1", "2.11.0"]
NAMES = ["navigate", "update-file", "create-shape", None, "not a name"]
PLATFORMS = [(None, None), ("Chrome", 1920), ("Chrome", 1280), ("Firefox", 1279), ("Safari", 2560), ("Edge", None)]


@st.composite
def events(draw: st.DrawFn, received: int) -> Event:
    """An event of a batch received so many days after MONDAY: mostly of the day before."""
    late = draw(st.sampled_from([1, 1, 1, 0, 2, 3, 9, 30, -2]))
    name = draw(st.sampled_from(NAMES))
    browser, width = draw(st.sampled_from(PLATFORMS))
    day = None if draw(st.integers(0, 40)) == 0 else MONDAY + (received - late) * DAY
    return Event(
        day,
        name,
        draw(st.sampled_from([NOBODY, *PROFILES])),
        browser,
        width,
        draw(st.sampled_from(["action", "action", "command", "Action!"])),
        draw(st.sampled_from(["telemetry", "telemetry", "telemetry:frontend", "else"])),
    )


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    received = draw(st.integers(0, 75))
    ours = draw(st.booleans())
    return Batch(
        instance=draw(st.sampled_from(INSTANCES)),
        version=draw(st.sampled_from(VERSIONS)),
        received_on=MONDAY + received * DAY,
        events=tuple(draw(st.lists(events(received), min_size=1, max_size=5))),
        seq=draw(st.integers(1, 9)) if ours else None,
        repeats=draw(st.sampled_from([0, 0, 1, 3])),
        overlap=None if ours else draw(st.integers(0, 2)),
        context_keys=draw(st.sampled_from([0, 0, 2])),
        event_keys=draw(st.sampled_from([0, 0, 1])),
        totals=draw(st.one_of(st.none(), st.tuples(*[st.integers(0, 50)] * 3))) if ours else None,
    )


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Up to 25 batches of 5 instances over eleven weeks, and what is asked for."""
    arrived = sorted(draw(st.lists(batches(), min_size=6, max_size=25)), key=lambda batch: batch.received_on)
    refused = st.builds(
        Refused,
        st.integers(0, 75).map(lambda n: MONDAY + n * DAY),
        st.sampled_from(["not-json", "bad-blob"]),
        st.integers(0, 999),
        st.integers(0, 2),
        st.sampled_from([None, *INSTANCES[:2]]),
    )
    span = draw(st.one_of(st.none(), st.tuples(st.integers(-3, 80), st.integers(0, 60))))
    return World(
        tuple(arrived),
        tuple(draw(st.lists(refused, max_size=4))),
        first=MONDAY + span[0] * DAY if span else None,
        last=MONDAY + (span[0] + span[1]) * DAY if span else None,
        instance=draw(st.sampled_from([None, None, None, *INSTANCES[:2]])),
        version=draw(st.sampled_from([None, None, None, *VERSIONS[:2]])),
    )


def create_warehouse() -> duckdb.DuckDBPyConnection:
    """An empty one in memory, with the rollups."""
    con = duckdb.connect()
    con.execute("SET threads = 1")
    con.execute(files("receiver").joinpath("sql/schema.sql").read_text())
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
            rollups.apply(con, number)
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
