"""What is shown before is what is sent, to a reader with no right but SELECT."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from uuid import UUID

import pytest
from psycopg import Connection

from penpot_telemetry import connection, freeze, instance, outbox, pipeline, preview
from penpot_telemetry.config import Settings
from penpot_telemetry.errors import DatabaseError
from penpot_telemetry.status import read_status
from tests.conftest import Receiver, make_events

ODD = """
INSERT INTO audit_log (name, type, profile_id, source, props, context, created_at, tracked_at)
SELECT 'odd-' || n, 'action', gen_random_uuid(), 'telemetry:frontend', '[]', '{}', day, day
FROM generate_series(1, 3) n, LATERAL (SELECT timestamptz '2020-01-01' + n * interval '1 day') d(day)
"""
PENPOTS = """
INSERT INTO audit_log (name, type, profile_id, source, props, context, created_at, tracked_at)
SELECT 'p-' || n, 'command', gen_random_uuid(), 'telemetry:backend', '{}', '{"~:version": "2.19.1"}', day, day
FROM generate_series(1, 4) n, LATERAL (SELECT timestamptz '2026-07-21' + n * interval '1 hour') d(day)
"""


def without_id(body: bytes) -> dict[str, object]:
    """A body as JSON, but for the id that is random."""
    sent: dict[str, object] = json.loads(body)
    assert UUID(str(sent.pop("batch-id")))
    return sent


@pytest.fixture
def reader(conn: Connection, database: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """The parameters of a role that may read `audit_log` and nothing else."""
    name = f"reader_{database['dbname']}"
    conn.execute(f"CREATE ROLE {name} LOGIN")
    conn.execute(f"GRANT SELECT ON audit_log TO {name}")
    yield {**database, "user": name}
    conn.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


def test_the_preview_is_what_is_sent_also_with_rows_of_penpot_and_odd_ones(
    conn: Connection, shipping: Settings, receiver: Receiver
) -> None:
    instance.change(conn, UUID(int=5))
    pipeline.record_events(conn, make_events(5), shipping)
    conn.execute(PENPOTS)
    conn.execute(ODD)
    page = preview.preview_batch(conn, shipping)
    assert page is not None
    assert (page.event_count, page.odd) == (9, 3)
    report = pipeline.run_pass(conn, shipping)
    assert (report.shipped, report.quarantined, report.adopted) == (9, 3, 7)
    shown, sent = without_id(page.body), without_id(receiver.bodies[0])
    assert shown == sent
    assert sent["totals"] == {"recorded": 12, "shipped": 0, "dropped": 0, "quarantined": 0, "pending": 12}
    assert sent["version"] == "2.19.1"


def test_a_page_of_odd_rows_alone_counts_in_the_totals_of_the_next(
    conn: Connection, shipping: Settings, receiver: Receiver
) -> None:
    instance.change(conn, UUID(int=5))
    pipeline.record_events(conn, make_events(5), shipping)
    conn.execute(ODD)
    small = replace(shipping, batch_rows=3)
    page = preview.preview_batch(conn, small)
    assert page is not None
    assert (page.event_count, page.odd) == (3, 3)
    pipeline.run_pass(conn, small)
    sent = without_id(receiver.bodies[0])
    assert sent["totals"] == {"recorded": 8, "shipped": 0, "dropped": 0, "quarantined": 3, "pending": 5}
    assert without_id(page.body)["totals"] == sent["totals"]


def test_the_preview_of_a_batch_in_the_outbox_is_that_batch(conn: Connection, shipping: Settings) -> None:
    pipeline.record_events(conn, make_events(5), shipping)
    frozen = freeze.freeze_next(conn, shipping)
    page = preview.preview_batch(conn, shipping)
    assert frozen is not None
    assert page is not None
    assert page.body == frozen.body


def test_a_reader_sees_all_in_a_database_that_no_sender_has_seen(
    conn: Connection, reader: Mapping[str, str], shipping: Settings
) -> None:
    conn.execute("DROP SCHEMA penpot_telemetry CASCADE")
    conn.execute(PENPOTS)
    looking = replace(shipping, database=reader)
    with connection.open_database(looking, read_only=True) as limited:
        status = read_status(limited, looking)
        page = preview.preview_batch(limited, looking)
    assert (status.pending, status.unseen, status.adds_up) == (4, 4, True)
    assert page is not None
    assert page.event_count == 4
    assert not conn.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'penpot_telemetry'").fetchall()


def test_a_missing_right_is_found_before_anything_is_sent(
    conn: Connection, reader: Mapping[str, str], shipping: Settings, receiver: Receiver
) -> None:
    pipeline.record_events(conn, make_events(3), shipping)
    conn.execute(f"GRANT ALL ON SCHEMA penpot_telemetry TO {reader['user']}")
    conn.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA penpot_telemetry TO {reader['user']}")
    with (
        pytest.raises(DatabaseError, match="DELETE on audit_log"),
        connection.open_database(replace(shipping, database=reader)) as limited,
    ):
        pipeline.run_pass(limited, shipping)
    assert receiver.bodies == []
    assert outbox.fetch_batch(conn) is None


def test_a_server_that_only_reads_is_enough_to_look(
    conn: Connection, database: Mapping[str, str], shipping: Settings
) -> None:
    pipeline.record_events(conn, make_events(3), shipping)
    with connection.connect({**database, "options": "-c default_transaction_read_only=on"}) as standby:
        assert read_status(standby, shipping).pending == 3
        page = preview.preview_batch(standby, shipping)
    assert page is not None
    assert page.event_count == 3


def test_what_gc_would_drop_is_said_before(conn: Connection, shipping: Settings) -> None:
    pipeline.record_events(conn, make_events(10), shipping)
    status = read_status(conn, replace(shipping, cap_rows=4, retention_days=1))
    assert (status.excess, status.would_expire) == (6, 10)


def test_a_pass_that_reached_nobody_and_dropped_rows_says_so_loudly(
    conn: Connection, settings: Settings, receiver: Receiver, shipping: Settings
) -> None:
    pipeline.record_events(conn, make_events(10), settings)
    receiver.reply = lambda _: (404, b"")
    report = pipeline.run_pass(conn, replace(shipping, cap_rows=4))
    assert report.dropped > 0
    assert any("NOTHING WAS SENT" in warning for warning in report.warnings)
