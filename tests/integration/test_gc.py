from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from psycopg import Connection

from penpot_telemetry import account, audit_log, gc, lease, outbox, pipeline
from penpot_telemetry.config import Settings
from penpot_telemetry.status import read_status
from tests.conftest import NOON, Receiver, make_events, names_of


@pytest.fixture
def outage(shipping: Settings, receiver: Receiver) -> Settings:
    """A receiver that is down, pages of ten, room for thirty rows."""
    receiver.reply = lambda _: (503, b"")
    return replace(shipping, batch_rows=10, cap_rows=30, attempts=1)


def names(conn: Connection) -> list[str]:
    return [name for (name,) in conn.execute("SELECT name FROM audit_log ORDER BY name")]


def collect(conn: Connection, settings: Settings, now: datetime) -> int:
    """Garbage collection alone."""
    with lease.hold(conn) as held:
        return gc.collect_garbage(held, settings, now, audit_log.count_rows(conn))


def record_days(conn: Connection, settings: Settings, *counts: int) -> None:
    """So many events on each day, named in their order."""
    start = 100
    for day, count in enumerate(counts):
        pipeline.record_events(conn, make_events(count, start=start, day=NOON + timedelta(days=day)), settings)
        start += count


def test_below_the_cap_nothing_is_dropped(conn: Connection, outage: Settings) -> None:
    record_days(conn, outage, 10, 10, 10)
    assert pipeline.run_pass(conn, outage).dropped == 0
    assert audit_log.count_rows(conn) == 30


def test_above_the_cap_the_oldest_go_and_the_number_is_exact(conn: Connection, outage: Settings) -> None:
    record_days(conn, outage, 15, 10, 20)
    report = pipeline.run_pass(conn, outage)
    assert (report.dropped, report.pending) == (15, 30)
    assert audit_log.count_rows(conn) == 30
    state = account.read_state(conn)
    assert (state.dropped, state.expected) == (15, 30)
    assert read_status(conn, outage).adds_up
    frozen = outbox.fetch_batch(conn)
    assert frozen is not None
    kept = names(conn)
    assert len([name for name in kept if name < "e-115"]) == 10  # the frozen page, which nothing takes
    assert kept[-20:] == [f"e-{n}" for n in range(125, 145)]


def test_gc_comes_after_shipping(conn: Connection, outage: Settings, receiver: Receiver) -> None:
    record_days(conn, outage, 45)
    receiver.reply = lambda _: (204, b"")
    report = pipeline.run_pass(conn, outage)
    assert (report.shipped, report.dropped) == (45, 0)


def test_the_frozen_page_is_never_taken_however_small_the_cap(
    conn: Connection, outage: Settings, receiver: Receiver
) -> None:
    record_days(conn, outage, 45)
    tight = replace(outage, cap_rows=0, retention_days=1)
    report = pipeline.run_pass(conn, tight)
    assert (report.dropped, report.pending, audit_log.count_rows(conn)) == (35, 10, 10)
    assert pipeline.run_pass(conn, tight).dropped == 0
    receiver.reply = lambda _: (204, b"")
    assert pipeline.run_pass(conn, tight).shipped == 10
    assert len(set(receiver.bodies)) == 1
    assert len(names_of(receiver.bodies[0])) == 10


def test_the_next_batch_carries_the_loss(conn: Connection, outage: Settings, receiver: Receiver) -> None:
    record_days(conn, outage, 45)
    pipeline.run_pass(conn, outage)
    receiver.reply = lambda _: (204, b"")
    pipeline.run_pass(conn, outage)
    totals = [batch["totals"] for batch in receiver.batches()[1:]]
    assert totals == [
        {"recorded": 45, "shipped": 0, "dropped": 0, "quarantined": 0, "pending": 45},  # frozen before gc
        {"recorded": 45, "shipped": 10, "dropped": 15, "quarantined": 0, "pending": 20},
        {"recorded": 45, "shipped": 20, "dropped": 15, "quarantined": 0, "pending": 10},
    ]


def test_seven_days_of_outage_are_accounted_for_exactly(conn: Connection, outage: Settings, receiver: Receiver) -> None:
    recorded = 0
    for day in range(7):
        for turn in range(3):
            events = make_events(7, start=1000 * day + 10 * turn, day=NOON + timedelta(days=day))
            recorded += pipeline.record_events(conn, events, outage).accepted
            pipeline.run_pass(conn, outage)
            assert read_status(conn, outage).adds_up
    receiver.reply = lambda _: (204, b"")
    receiver.bodies.clear()
    pipeline.run_pass(conn, outage)
    arrived = [name for body in receiver.bodies for name in names_of(body)]
    assert len(arrived) == len(set(arrived)) == 30
    last = receiver.batches()[-1]["totals"]
    assert isinstance(last, dict)
    assert last["recorded"] == recorded == 147
    assert last["dropped"] == 147 - 30


def test_gc_works_in_steps(conn: Connection, outage: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "GC_STEP", 4)
    record_days(conn, outage, 45)
    assert pipeline.run_pass(conn, outage).dropped == 15
    assert account.read_state(conn).dropped == 15


def test_a_step_of_gc_that_is_rolled_back_never_was(conn: Connection, outage: Settings) -> None:
    record_days(conn, outage, 45)
    with conn.transaction(force_rollback=True):
        assert gc.drop_oldest(conn, 5) == 5
    assert audit_log.count_rows(conn) == 45
    assert account.read_state(conn).dropped == 0


def test_retention_drops_whole_days_that_are_too_old(conn: Connection, settings: Settings) -> None:
    record_days(conn, settings, 3, 4, 5)
    now = datetime(2026, 8, 20, 1, tzinfo=UTC)
    assert collect(conn, replace(settings, retention_days=32), now) == 0
    assert collect(conn, replace(settings, retention_days=30), now) == 3
    assert collect(conn, replace(settings, retention_days=29), now) == 4
    assert audit_log.count_rows(conn) == 5
    assert account.read_state(conn).dropped == 7


def test_rows_of_penpots_own_dialect_count_for_the_cap(conn: Connection, settings: Settings) -> None:
    record_days(conn, settings, 5, 5)
    conn.execute("UPDATE audit_log SET source = 'telemetry:frontend' WHERE name < 'e-105'")
    assert collect(conn, replace(settings, cap_rows=6), NOON) == 4
    assert [row.rows for row in audit_log.count_days(conn)] == [1, 5]
