"""One sender at a time, without a lock that lives in a session."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from multiprocessing.connection import Connection as Pipe

import pytest
from psycopg import Connection

from penpot_telemetry import account, audit_log, connection, lease, pass_report, pipeline, reconcile
from penpot_telemetry.config import Settings
from penpot_telemetry.errors import BusyError, DatabaseError, LeaseLostError
from tests.conftest import Receiver, make_events

EXPIRE = "UPDATE penpot_telemetry.state SET lease_until = clock_timestamp() - interval '1 second'"
AGE = "UPDATE penpot_telemetry.state SET lease_since = clock_timestamp() - interval '3 hours'"


def test_a_second_sender_is_told_since_when_the_first_is_at_work(conn: Connection, database: Mapping[str, str]) -> None:
    with (
        connection.connect(database) as other,
        lease.hold(other),
        pytest.raises(BusyError, match="is at work") as caught,
        lease.hold(conn),
    ):
        pass
    assert not caught.value.overdue


def test_a_lease_is_given_back(conn: Connection, database: Mapping[str, str]) -> None:
    with connection.connect(database) as other, lease.hold(other):
        pass
    with lease.hold(conn):
        pass


def test_a_sender_that_is_at_work_for_longer_than_a_pass_can_last_is_overdue(
    conn: Connection, database: Mapping[str, str]
) -> None:
    with connection.connect(database) as other, lease.hold(other):
        conn.execute(AGE)
        with pytest.raises(BusyError, match="seems stuck") as caught, lease.hold(conn):
            pass
    assert caught.value.overdue


def test_a_lease_past_its_deadline_may_be_taken_and_its_holder_can_do_nothing_more(
    conn: Connection, database: Mapping[str, str], settings: Settings
) -> None:
    pipeline.record_events(conn, make_events(3), settings)
    with connection.connect(database) as other, lease.hold(other) as late:
        conn.execute(EXPIRE)
        with lease.hold(conn):
            for step in (late.renew, lambda: late.step(lambda: None)):
                with pytest.raises(LeaseLostError):
                    step()
            with pytest.raises(LeaseLostError):
                reconcile.reconcile_step(late, pass_report.PassReport())


def test_a_pass_that_lost_its_lease_leaves_the_account_to_its_successor(
    conn: Connection, database: Mapping[str, str], shipping: Settings, receiver: Receiver
) -> None:
    pipeline.record_events(conn, make_events(30), shipping)
    paged = replace(shipping, batch_rows=10)

    def overtake(_: bytes) -> tuple[int, bytes]:
        if len(receiver.bodies) == 2:
            with connection.connect(database) as other:
                other.execute(EXPIRE)
                receiver.reply = lambda _: (204, b"")
                pipeline.run_pass(other, paged)
        return 204, b""

    receiver.reply = overtake
    with pytest.raises(LeaseLostError):
        pipeline.run_pass(conn, paged)
    state = account.read_state(conn)
    assert (state.shipped, state.expected, audit_log.count_rows(conn)) == (30, 0, 0)
    assert len({batch["batch-id"] for batch in receiver.batches()}) == 3


def _hold_and_wait(database: Mapping[str, str], ready: Pipe) -> None:
    with connection.connect(database) as conn, lease.hold(conn):
        ready.send(None)
        signal.pause()


def test_the_lease_of_a_killed_sender_is_free_at_once(conn: Connection, database: Mapping[str, str]) -> None:
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_hold_and_wait, args=(database, there))
    process.start()
    here.recv()
    with pytest.raises(BusyError), lease.hold(conn):
        pass
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    others = "SELECT FROM pg_stat_activity WHERE application_name = 'penpot-telemetry' AND pid <> pg_backend_pid()"
    while conn.execute(others).fetchone() is not None:  # until the server has noticed
        time.sleep(0.01)
    with lease.hold(conn):
        pass


# -- rows that somebody else holds -----------------------------------------------------------------------------------


def test_a_step_waits_for_rows_that_somebody_else_holds(
    conn: Connection, database: Mapping[str, str], shipping: Settings, receiver: Receiver
) -> None:
    pipeline.record_events(conn, make_events(5), shipping)
    with connection.connect(database) as other:

        def hold_rows(_: bytes) -> tuple[int, bytes]:
            other.execute("BEGIN")
            other.execute("DELETE FROM audit_log WHERE name IN ('e-1', 'e-2')")
            threading.Timer(1.0, lambda: other.execute("COMMIT")).start()
            return 204, b""

        receiver.reply = hold_rows
        report = pipeline.run_pass(conn, shipping)
    assert (report.shipped, report.missing, report.pending, report.failure) == (5, 0, 0, None)


def test_rows_that_stay_locked_fail_the_step_and_keep_the_batch(
    conn: Connection,
    database: Mapping[str, str],
    shipping: Settings,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lease, "PATIENCE", 0.5)
    pipeline.record_events(conn, make_events(5), shipping)
    with connection.connect(database) as other:

        def hold_for_ever(_: bytes) -> tuple[int, bytes]:
            other.execute("BEGIN; DELETE FROM audit_log")
            return 204, b""

        receiver.reply = hold_for_ever
        with pytest.raises(DatabaseError, match="another process holds rows"):
            pipeline.run_pass(conn, shipping)
        other.execute("ROLLBACK")
    receiver.reply = lambda _: (204, b"")
    assert pipeline.run_pass(conn, shipping).shipped == 5
    assert len(set(receiver.bodies)) == 1
