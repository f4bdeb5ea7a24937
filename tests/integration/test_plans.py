"""Statements that are run again and again stay on their index, however many rows there are."""

from datetime import UTC

import pytest
from psycopg import Connection

from penpot_telemetry import audit_log, gc, pipeline
from penpot_telemetry.config import Settings
from penpot_telemetry.events import SHIPPED_SOURCES
from penpot_telemetry.rows import CONTENT_HASH, UNCHANGED, Rows
from tests.conftest import NOON, make_events

TEN_MILLION = 10_000_000
SOURCES = list(SHIPPED_SOURCES)


@pytest.fixture
def crowded(conn: Connection, settings: Settings) -> Connection:
    """A table that the planner takes for ten million rows, all of them telemetry, all of one day."""
    pipeline.record_events(conn, make_events(20_000), settings)
    conn.execute("UPDATE audit_log SET source = 'telemetry:backend' WHERE ascii(right(name, 1)) %% 2 = 0", ())
    conn.execute("VACUUM ANALYZE audit_log")
    conn.execute(
        "UPDATE pg_class SET reltuples = %s WHERE oid = 'audit_log'::regclass "
        "OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = 'audit_log'::regclass)",
        (TEN_MILLION,),
    )
    return conn


def explain(conn: Connection, query: str, parameters: object) -> str:
    return "\n".join(line for (line,) in conn.execute("EXPLAIN " + query, parameters))  # type: ignore[call-overload]


def some_rows(conn: Connection, count: int) -> dict[str, object]:
    """Parameters that name rows and what they hold."""
    query = f"SELECT uuid_send(a.id) || int8send({CONTENT_HASH}) FROM audit_log a LIMIT %s"  # noqa: S608
    rows = Rows.of(row for (row,) in conn.execute(query, (count,)))
    return {"ids": rows.ids, "hashes": rows.hashes, "sources": SOURCES}


def test_the_planner_takes_the_table_for_a_large_one(crowded: Connection) -> None:
    plan = explain(crowded, "SELECT FROM audit_log", ())
    assert 0.9 * TEN_MILLION < int(plan.partition("rows=")[2].split()[0]) < 1.1 * TEN_MILLION


def test_a_page_is_fetched_by_its_ids(crowded: Connection) -> None:
    for count in (100, 10_000):
        plan = explain(crowded, audit_log._FETCH_ROWS, some_rows(crowded, count) | {"bytes": 10**7})
        assert "Seq Scan" not in plan
        assert "audit_log_pkey" in plan


def test_gc_finds_its_boundary_on_the_index(crowded: Connection) -> None:
    parameters = {"limit": gc.GC_STEP, "before": NOON.astimezone(UTC), "sources": SOURCES}
    assert "Seq Scan on audit_log" not in explain(crowded, audit_log._DROP_OLDEST, parameters)


def test_shipped_rows_are_deleted_by_their_ids(crowded: Connection) -> None:
    plan = explain(crowded, f"DELETE {UNCHANGED}", some_rows(crowded, 10_000))
    assert "Seq Scan" not in plan
    assert "audit_log_pkey" in plan
