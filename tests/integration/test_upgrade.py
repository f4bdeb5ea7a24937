"""A database of the first edition is read and brought forward, with all that was on its way in it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.resources import files
from uuid import UUID

import pytest
from psycopg import Connection
from psycopg.types.json import Json

from penpot_telemetry import account, audit_log, connection, pipeline
from penpot_telemetry.config import Settings
from penpot_telemetry.errors import DatabaseError
from penpot_telemetry.status import read_status
from penpot_telemetry.wire import payload
from penpot_telemetry.wire.batch import EventRow, encode_events
from tests.conftest import Receiver, names_of

FROZEN, SHIPPED = UUID(int=11), UUID(int=12)
ROWS = """
INSERT INTO audit_log (id, name, type, profile_id, source, props, context, created_at, tracked_at)
SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'e-' || n, 'action', gen_random_uuid(),
       'telemetry', '{}', '{}', day, day
FROM generate_series(1, 20) n, LATERAL (SELECT timestamptz '2026-07-01' + n * interval '1 day') d(day)
"""


def ids(*numbers: int) -> str:
    """Some of the rows, as Postgres' array text."""
    return "{" + ",".join(f"00000000-0000-4000-8000-{n:012}" for n in numbers) + "}"


def frozen_body() -> bytes:
    """A batch as the first edition froze it: rows 1 and 2."""
    rows = [EventRow(f"e-{n}", "action", "telemetry", 1_782_950_400_000, bytes(16), "{}", "{}") for n in (1, 2)]
    events = encode_events(rows)
    totals = payload.Totals(recorded=26, shipped=5, dropped=0, quarantined=1, pending=20)
    digest = payload.digest_events(events)
    return payload.build_events(payload.EventsBatch("2.18.0", UUID(int=9), events, FROZEN, 2, 2, digest, totals))


@pytest.fixture
def first_edition(empty_database: Mapping[str, str]) -> Iterator[Connection]:
    """5 shipped, 1 in quarantine, 2 frozen, parts of 3 rows and of 1 after a refusal, 14 others; 4 in the tally."""
    with connection.connect(empty_database) as conn:
        audit_log.create_table(conn)
        conn.execute("CREATE SCHEMA penpot_telemetry")
        conn.execute((files("penpot_telemetry") / "sql" / "001_outbox.sql").read_text())
        conn.execute(
            "INSERT INTO penpot_telemetry.state (schema_version, instance_id, next_seq, recorded, shipped, quarantined)"
            " VALUES (1, %s, 3, 22, 5, 1)",
            (UUID(int=9),),
        )
        conn.execute("INSERT INTO penpot_telemetry.tally VALUES (1), (3)")
        conn.execute(ROWS)
        body = frozen_body()
        digest = json.loads(body)["digest"]
        conn.execute(
            "INSERT INTO penpot_telemetry.outbox (batch_id, seq, row_ids, body, digest, event_count) "
            "VALUES (%s, 2, %s::uuid[], %s, %s, 2)",
            (FROZEN, ids(1, 2), body, digest),
        )
        conn.execute(
            "INSERT INTO penpot_telemetry.segment VALUES (-1, %s::uuid[], %s, true), (1, %s::uuid[], %s, false)",
            (ids(3), UUID(int=13), ids(4, 5, 6), UUID(int=13)),
        )
        conn.execute(
            "INSERT INTO penpot_telemetry.ledger (batch_id, seq, events, bytes, digest, frozen_at, outcome, receipt) "
            "VALUES (%s, 1, 5, 9, 'sha256:1', now(), 'accepted', %s)",
            (SHIPPED, Json({"status": "accepted", "batch-id": str(SHIPPED)})),
        )
        conn.execute(
            "INSERT INTO penpot_telemetry.quarantine (id, \"row\", reason) VALUES (%s, %s, 'refused')",
            (UUID(int=14), Json({"id": str(UUID(int=14)), "name": "q", "source": "telemetry"})),
        )
        yield conn


def test_the_first_edition_is_brought_forward_and_ships_what_was_on_its_way(
    first_edition: Connection, empty_database: Mapping[str, str], shipping: Settings, receiver: Receiver
) -> None:
    assert audit_log.count_rows(first_edition) == 20
    settings = replace(shipping, database=empty_database)
    with connection.open_database(settings) as conn:
        status = read_status(conn, settings)
        assert (status.adds_up, status.recorded, status.pending, status.missing) == (True, 26, 20, 0)
        report = pipeline.run_pass(conn, settings)
        assert (report.shipped, report.pending, report.adopted, report.missing) == (20, 0, 0, 0)
        assert read_status(conn, settings).adds_up
        assert account.read_state(conn).shipped == 25
    assert receiver.bodies[0] == frozen_body()
    names = [name for body in receiver.bodies for name in names_of(body)]
    assert sorted(names) == sorted(f"e-{n}" for n in range(1, 21))
    assert all("supersedes" not in batch for batch in receiver.batches())


def test_rows_that_the_first_edition_miscounted_are_found_when_it_is_brought_forward(
    first_edition: Connection, empty_database: Mapping[str, str], shipping: Settings
) -> None:
    first_edition.execute("DELETE FROM audit_log WHERE name IN ('e-19', 'e-20')")
    settings = replace(shipping, database=empty_database)
    with connection.open_database(settings) as conn:
        status = read_status(conn, settings)
    assert (status.adds_up, status.missing, status.pending) == (False, 2, 18)


def test_a_reader_is_told_that_the_first_edition_has_to_be_brought_forward(
    first_edition: Connection, empty_database: Mapping[str, str], shipping: Settings
) -> None:
    settings = replace(shipping, database=empty_database)
    with (
        connection.open_database(settings, read_only=True) as conn,
        pytest.raises(DatabaseError, match="brings it forward"),
    ):
        read_status(conn, settings)
    assert first_edition.execute("SELECT schema_version FROM penpot_telemetry.state").fetchone() == (1,)
