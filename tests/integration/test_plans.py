"""Statements that are run again and again stay on their index, however many rows there are."""

from datetime import UTC

import pytest
from psycopg import Connection

from penpot_telemetry import gc, pipeline, store
from penpot_telemetry.config import Settings
from penpot_telemetry.events import SHIPPED_SOURCES
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


def some_ids(conn: Connection, count: int) -> str:
    return store.format_ids(row for (row,) in conn.execute("SELECT uuid_send(id) FROM audit_log LIMIT %s", (count,)))


def test_the_planner_takes_the_table_for_a_large_one(crowded: Connection) -> None:
    plan = explain(crowded, "SELECT FROM audit_log", ())
    assert 0.9 * TEN_MILLION < int(plan.partition("rows=")[2].split()[0]) < 1.1 * TEN_MILLION


def test_a_page_is_fetched_by_its_ids(crowded: Connection) -> None:
    for count in (100, 10_000):
        parameters = {"ids": some_ids(crowded, count), "bytes": 10**7, "sources": SOURCES}
        plan = explain(crowded, store._FETCH_ROWS, parameters)
        assert "Seq Scan" not in plan
        assert "audit_log_pkey" in plan


def test_gc_finds_its_boundary_on_the_index(crowded: Connection) -> None:
    parameters = {"limit": gc.GC_STEP, "before": NOON.astimezone(UTC), "sources": SOURCES}
    assert "Seq Scan on audit_log" not in explain(crowded, store._DROP_OLDEST, parameters)


def test_shipped_rows_are_deleted_by_their_ids(crowded: Connection) -> None:
    plan = explain(crowded, store._DELETE_ROWS, (some_ids(crowded, 10_000), SOURCES))
    assert "Seq Scan" not in plan
    assert "audit_log_pkey" in plan
