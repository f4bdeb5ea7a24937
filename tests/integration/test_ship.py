"""What Penpot's own suite covers, and what it does not: shipping by pages, keeping what is not answered."""

import json
import threading
from collections.abc import Mapping
from dataclasses import replace
from uuid import UUID

import pytest
from psycopg import Connection

from penpot_telemetry import account, audit_log, connection, dead_letters, ledger, pipeline, refusals
from penpot_telemetry.config import Settings
from penpot_telemetry.errors import BusyError, ConfigError, DatabaseError
from penpot_telemetry.status import read_status
from penpot_telemetry.wire import payload
from tests.conftest import Receiver, make_events, names_of

PENPOTS_ID = UUID("b6d7c1f4-0000-4000-8000-000000000001")


@pytest.fixture
def paged(shipping: Settings) -> Settings:
    """Pages of ten."""
    return replace(shipping, batch_rows=10)


def test_nothing_to_send_sends_nothing(conn: Connection, paged: Settings, receiver: Receiver) -> None:
    report = pipeline.run_pass(conn, paged)
    assert (report.batches, report.failure, receiver.bodies) == (0, None, [])


@pytest.mark.parametrize("change", [{"telemetry": False}, {"audit_log": True}])
def test_with_telemetry_inactive_nothing_is_sent_and_rows_stay(
    conn: Connection, paged: Settings, receiver: Receiver, change: dict[str, bool]
) -> None:
    pipeline.record_events(conn, make_events(3), paged)
    pipeline.run_pass(conn, replace(paged, **change))  # type: ignore[arg-type]
    assert audit_log.count_rows(conn) == 3
    assert receiver.bodies == []


def test_without_an_address_the_pass_says_what_to_set(conn: Connection, settings: Settings) -> None:
    with pytest.raises(ConfigError, match="PENPOT_TELEMETRY_URI"):
        pipeline.run_pass(conn, settings)


def test_what_was_accepted_is_deleted(conn: Connection, paged: Settings, receiver: Receiver) -> None:
    pipeline.record_events(conn, make_events(25), paged)
    report = pipeline.run_pass(conn, paged)
    assert (report.batches, report.shipped, report.pending) == (3, 25, 0)
    assert audit_log.count_rows(conn) == 0
    assert sorted(name for body in receiver.bodies for name in names_of(body)) == sorted(f"e-{n}" for n in range(25))


def test_rows_that_cannot_be_deleted_are_not_sent_again_and_again(
    conn: Connection, paged: Settings, receiver: Receiver
) -> None:
    pipeline.record_events(conn, make_events(25), paged)
    conn.execute("CREATE RULE keep AS ON DELETE TO audit_log DO INSTEAD NOTHING")
    for _ in range(2):
        with pytest.raises(DatabaseError, match="stay when they are deleted"):
            pipeline.run_pass(conn, paged)
    assert len(set(receiver.bodies)) == 1
    assert account.read_state(conn).shipped == 0


def test_rows_of_other_sources_are_never_touched(conn: Connection, paged: Settings, receiver: Receiver) -> None:
    pipeline.record_events(conn, make_events(5), paged)
    conn.execute("UPDATE audit_log SET source = 'backend' WHERE name IN ('e-1', 'e-2')")
    conn.execute("UPDATE audit_log SET source = NULL WHERE name = 'e-3'")
    pipeline.run_pass(conn, replace(paged, cap_rows=0, retention_days=1))
    assert [name for (name,) in conn.execute("SELECT name FROM audit_log ORDER BY name")] == ["e-1", "e-2", "e-3"]
    assert sorted(names_of(receiver.bodies[0])) == ["e-0", "e-4"]


def test_the_payload_has_penpots_fields_first_and_then_ours(
    conn: Connection, paged: Settings, receiver: Receiver
) -> None:
    pipeline.record_events(conn, make_events(3), paged)
    pipeline.run_pass(conn, paged)
    (sent,) = receiver.batches()
    assert list(sent) == [
        "type", "version", "instance-id", "events", "batch-id", "batch-seq", "event-count", "digest", "totals",
    ]  # fmt: skip
    assert (sent["type"], sent["version"]) == ("telemetry-events", "2.18.0")
    assert (sent["batch-seq"], sent["event-count"]) == (1, 3)
    assert sent["digest"] == payload.digest_events(str(sent["events"]))
    assert UUID(str(sent["batch-id"])).version == 4
    assert UUID(str(sent["instance-id"])) == account.read_state(conn).instance_id


def test_the_totals_of_every_batch_add_up(conn: Connection, paged: Settings, receiver: Receiver) -> None:
    pipeline.record_events(conn, make_events(25), paged)
    pipeline.run_pass(conn, replace(paged, cap_rows=1))
    assert [batch["totals"] for batch in receiver.batches()] == [
        {"recorded": 25, "shipped": shipped, "dropped": 0, "quarantined": 0, "pending": 25 - shipped}
        for shipped in (0, 10, 20)
    ]


@pytest.mark.parametrize("status", [500, 503, 408, 425, 429, 302])
def test_what_is_not_answered_with_success_is_kept(
    conn: Connection, paged: Settings, receiver: Receiver, status: int
) -> None:
    pipeline.record_events(conn, make_events(25), paged)
    receiver.reply = lambda _: (status, b"")
    report = pipeline.run_pass(conn, paged)
    assert report.failure is not None
    assert str(status) in report.failure
    assert (report.shipped, report.pending, audit_log.count_rows(conn)) == (0, 25, 25)
    assert len(set(receiver.bodies)) == 1


def test_the_first_failure_stops_and_keeps_the_rest(conn: Connection, paged: Settings, receiver: Receiver) -> None:
    pipeline.record_events(conn, make_events(35), paged)
    receiver.reply = lambda _: (204 if len(receiver.bodies) < 3 else 500, b"")
    report = pipeline.run_pass(conn, paged)
    assert (report.batches, report.shipped, report.pending) == (2, 20, 15)
    assert len(receiver.bodies) == 3


def test_a_lost_answer_is_followed_by_the_same_bytes(conn: Connection, paged: Settings, receiver: Receiver) -> None:
    pipeline.record_events(conn, make_events(12), paged)
    receiver.reply = lambda _: (None, b"")
    assert pipeline.run_pass(conn, replace(paged, attempts=1)).failure
    pipeline.record_events(conn, make_events(5, start=100), paged)  # would belong into the page, were it made anew
    receiver.reply = lambda _: (204, b"")
    pipeline.run_pass(conn, replace(paged, version="2.19.0", batch_rows=100))  # upgraded meanwhile
    first, again, rest = receiver.bodies
    assert first == again
    assert len(names_of(rest)) == 7
    assert account.read_state(conn).shipped == 17


def test_events_recorded_while_shipping_are_shipped_once(
    conn: Connection, paged: Settings, receiver: Receiver, database: Mapping[str, str]
) -> None:
    pipeline.record_events(conn, make_events(30), paged)

    def record_more(_: bytes) -> tuple[int, bytes]:
        if len(receiver.bodies) <= 5:
            with connection.connect(database) as other:
                pipeline.record_events(other, make_events(7, start=1000 * len(receiver.bodies)), paged)
        return 204, b""

    receiver.reply = record_more
    report = pipeline.run_pass(conn, paged)
    assert (report.adopted, report.missing) == (0, 0)
    assert report.pending < paged.batch_rows  # less than a page of what came meanwhile waits for the next pass
    assert pipeline.run_pass(conn, paged).pending == 0
    names = [name for body in receiver.bodies for name in names_of(body)]
    assert len(names) == len(set(names)) == 30 + 5 * 7


def test_recorders_at_work_all_the_time_lose_and_double_nothing(
    conn: Connection, paged: Settings, receiver: Receiver, database: Mapping[str, str]
) -> None:
    done = threading.Event()

    def record(thread: int) -> None:
        with connection.connect(database) as other:
            for turn in range(40):
                pipeline.record_events(other, make_events(3, start=100_000 * thread + 10 * turn), paged)

    threads = [threading.Thread(target=record, args=(n,)) for n in (1, 2, 3)]
    for thread in threads:
        thread.start()
    while not done.is_set():
        if not any(thread.is_alive() for thread in threads):
            done.set()
        report = pipeline.run_pass(conn, paged)
        assert (report.failure, report.adopted, report.missing) == (None, 0, 0)
    names = [name for body in receiver.bodies for name in names_of(body)]
    assert len(names) == len(set(names)) == 360
    status = read_status(conn, paged)
    assert (status.adds_up, status.recorded, status.state.shipped) == (True, 360, 360)


def test_a_second_sender_says_so_and_leaves(
    conn: Connection, paged: Settings, receiver: Receiver, database: Mapping[str, str]
) -> None:
    pipeline.record_events(conn, make_events(5), paged)
    seen: list[type[Exception]] = []

    def try_beside(_: bytes) -> tuple[int, bytes]:
        with connection.connect(database) as other:
            try:
                pipeline.run_pass(other, paged)
            except BusyError as error:
                seen.append(type(error))
        return 204, b""

    receiver.reply = try_beside
    assert pipeline.run_pass(conn, paged).shipped == 5
    assert seen == [BusyError]
    assert len(receiver.bodies) == 1


def test_after_the_first_sender_the_second_may_send(
    conn: Connection, paged: Settings, receiver: Receiver, database: Mapping[str, str]
) -> None:
    receiver.reply = lambda _: (500, b"")
    pipeline.record_events(conn, make_events(5), paged)
    pipeline.run_pass(conn, paged)
    receiver.reply = lambda _: (204, b"")
    with connection.connect(database) as other:
        assert pipeline.run_pass(other, paged).shipped == 5


def test_a_stop_ends_the_pass_between_two_batches(conn: Connection, paged: Settings, receiver: Receiver) -> None:
    pipeline.record_events(conn, make_events(35), paged)
    report = pipeline.run_pass(conn, paged, stopped=lambda: len(receiver.bodies) >= 2)
    assert (report.batches, report.failure, report.pending) == (2, None, 15)


# -- receipts --------------------------------------------------------------------------------------------------------


def test_a_receiver_without_receipts_leaves_its_status_in_the_ledger(conn: Connection, paged: Settings) -> None:
    pipeline.record_events(conn, make_events(1), paged)
    pipeline.run_pass(conn, paged)
    (entry,) = ledger.read_ledger(conn)
    assert (entry.outcome, entry.receipt) == ("accepted", {"status": 204})


def receipt(body: bytes, **more: object) -> bytes:
    sent = json.loads(body)
    return json.dumps(
        {"status": "accepted", "batch-id": sent["batch-id"], "events": 1, "digest": sent["digest"], **more}
    ).encode()


def test_the_receipt_is_kept(conn: Connection, paged: Settings, receiver: Receiver) -> None:
    pipeline.record_events(conn, make_events(1), paged)
    receiver.reply = lambda body: (200, receipt(body))
    pipeline.run_pass(conn, paged)
    (entry,) = ledger.read_ledger(conn)
    assert entry.receipt == {**json.loads(receipt(receiver.bodies[0])), "http-status": 200}
    assert (entry.seq, entry.events, entry.bytes) == (1, 1, len(receiver.bodies[0]))


@pytest.mark.parametrize("difference", [{"batch-id": str(PENPOTS_ID)}, {"digest": "sha256:00"}])
def test_a_receipt_of_another_batch_settles_nothing(
    conn: Connection, paged: Settings, receiver: Receiver, difference: dict[str, str]
) -> None:
    pipeline.record_events(conn, make_events(1), paged)
    receiver.reply = lambda body: (200, receipt(body, **difference))
    report = pipeline.run_pass(conn, paged)
    assert report.failure is not None
    assert "another batch" in report.failure
    assert report.pending == 1 == audit_log.count_rows(conn)


def test_a_batch_that_is_put_into_quarantine_is_refused_and_its_bad_row_is_found(
    conn: Connection, paged: Settings, receiver: Receiver
) -> None:
    pipeline.record_events(conn, make_events(10), paged)

    def answer(body: bytes) -> tuple[int, bytes]:
        bad = "e-4" in names_of(body)
        return 200, receipt(body, **({"status": "quarantined", "reason": "bad-fressian"} if bad else {}))

    receiver.reply = answer
    report = pipeline.run_pass(conn, paged)
    assert (report.shipped, report.quarantined, report.failure) == (9, 1, None)
    (dead,) = dead_letters.read_dead_letters(conn)
    assert (dead.name, "bad-fressian" in dead.reason) == ("e-4", True)


@pytest.mark.parametrize("reason", ["bad-signature", "wrong-digest"])
def test_a_quarantine_that_speaks_of_the_sender_keeps_the_batch_whole(
    conn: Connection, paged: Settings, receiver: Receiver, reason: str
) -> None:
    pipeline.record_events(conn, make_events(10), paged)
    receiver.reply = lambda body: (200, receipt(body, status="quarantined", reason=reason))
    for _ in range(2):
        report = pipeline.run_pass(conn, paged)
        assert reason in str(report.failure)
        assert (report.pending, report.refused) == (10, 0)
    assert len({batch["batch-id"] for batch in receiver.batches()}) == 1
    receiver.reply = lambda body: (200, receipt(body))
    assert pipeline.run_pass(conn, paged).shipped == 10


@pytest.mark.parametrize(
    "page",
    [
        b"",
        b"<html>down for maintenance</html>",
        b"{}",
        b'{"status":"accepted"}',
        b'{"status":"quarantined","reason":"id-reused"}',
        b'{"status":"quarantined","reason":"bad-fressian"}',
    ],
)
@pytest.mark.parametrize("status", [200, 202, 204])
def test_an_address_that_gave_receipts_is_believed_nothing_else(
    conn: Connection, paged: Settings, receiver: Receiver, status: int, page: bytes
) -> None:
    pipeline.record_events(conn, make_events(1), paged)
    receiver.reply = lambda body: (200, receipt(body))
    assert pipeline.run_pass(conn, paged).shipped == 1
    pipeline.record_events(conn, make_events(5, start=1), paged)
    receiver.reply = lambda _: (status, page)
    report = pipeline.run_pass(conn, paged)
    assert (report.shipped, report.pending) == (0, 5)
    assert "no receipt" in str(report.failure)
    receiver.reply = lambda body: (200, receipt(body))
    assert pipeline.run_pass(conn, paged).shipped == 5


def test_receipts_can_be_required_from_the_first_batch_on(conn: Connection, paged: Settings) -> None:
    pipeline.record_events(conn, make_events(1), paged)
    report = pipeline.run_pass(conn, replace(paged, receipts="required"))
    assert (report.shipped, report.pending) == (0, 1)
    assert pipeline.run_pass(conn, paged).shipped == 1


def test_a_receiver_that_keeps_saying_that_an_id_is_taken_is_given_up(
    conn: Connection, paged: Settings, receiver: Receiver
) -> None:
    pipeline.record_events(conn, make_events(5), paged)
    receiver.reply = lambda body: (200, receipt(body, status="quarantined", reason="id-reused"))
    report = pipeline.run_pass(conn, paged)
    assert (len(receiver.bodies), report.pending) == (refusals.REUSED, 5)
    assert len({batch["batch-id"] for batch in receiver.batches()}) == refusals.REUSED
    assert all("supersedes" not in batch for batch in receiver.batches())
    receiver.reply = lambda body: (200, receipt(body))
    assert pipeline.run_pass(conn, paged).shipped == 5


# -- the instance id -------------------------------------------------------------------------------------------------


def shipped_ids(receiver: Receiver) -> set[object]:
    return {batch["instance-id"] for batch in receiver.batches()}


def test_the_instance_id_is_random_and_kept(conn: Connection, paged: Settings, receiver: Receiver) -> None:
    for start in (0, 10):
        pipeline.record_events(conn, make_events(1, start=start), paged)
        pipeline.run_pass(conn, paged)
    (instance_id,) = shipped_ids(receiver)
    assert UUID(str(instance_id)).version == 4


def test_the_instance_id_is_penpots_own_where_there_is_one(
    conn: Connection, paged: Settings, receiver: Receiver
) -> None:
    conn.execute("CREATE TABLE server_prop (id text, preload boolean, content jsonb)")
    conn.execute("INSERT INTO server_prop VALUES ('instance-id', true, %s)", (json.dumps({"~#'": f"~u{PENPOTS_ID}"}),))
    pipeline.record_events(conn, make_events(1), paged)
    pipeline.run_pass(conn, paged)
    conn.execute("DROP TABLE server_prop")
    pipeline.record_events(conn, make_events(1), paged)
    pipeline.run_pass(conn, paged)
    assert shipped_ids(receiver) == {str(PENPOTS_ID)}


def test_the_instance_id_may_be_set_once(conn: Connection, paged: Settings, receiver: Receiver) -> None:
    pipeline.record_events(conn, make_events(1), paged)
    pipeline.run_pass(conn, replace(paged, instance_id=PENPOTS_ID))
    assert shipped_ids(receiver) == {str(PENPOTS_ID)}
    with pytest.raises(ConfigError, match="PENPOT_TELEMETRY_INSTANCE_ID"):
        pipeline.run_pass(conn, replace(paged, instance_id=UUID(int=5)))


# -- the account -----------------------------------------------------------------------------------------------------


def test_rows_that_penpot_wrote_itself_are_adopted(conn: Connection, paged: Settings, receiver: Receiver) -> None:
    pipeline.record_events(conn, make_events(3), paged)
    conn.execute("""
        INSERT INTO audit_log (id, name, type, profile_id, props, context, source, tracked_at)
        SELECT gen_random_uuid(), 'get-file', 'command', gen_random_uuid(),
            '{"~:team-id": "~u7b528bf8-134c-814f-8005-048545218ba3"}', '{"~:version": "2.18.0"}',
            'telemetry:backend', now() FROM generate_series(1, 4)
    """)
    assert read_status(conn, paged).adds_up
    report = pipeline.run_pass(conn, paged)
    assert (report.adopted, report.missing, report.shipped) == (4, 0, 7)
    (batch,) = receiver.batches()
    assert batch["totals"] == {"recorded": 7, "shipped": 0, "dropped": 0, "quarantined": 0, "pending": 7}
    assert read_status(conn, paged).adds_up


def test_rows_that_vanish_by_another_hand_are_never_silent(
    conn: Connection, paged: Settings, receiver: Receiver
) -> None:
    pipeline.record_events(conn, make_events(10), paged)
    conn.execute("DELETE FROM audit_log WHERE name IN ('e-1', 'e-2')")
    status = read_status(conn, paged)
    assert (status.adds_up, status.missing) == (False, 2)
    report = pipeline.run_pass(conn, paged)
    assert (report.missing, report.shipped) == (2, 8)
    (batch,) = receiver.batches()
    assert batch["totals"] == {"recorded": 10, "shipped": 0, "dropped": 0, "quarantined": 0, "pending": 8}
    conn.execute(
        "INSERT INTO audit_log (name, type, profile_id, source) VALUES ('n', 'action', gen_random_uuid(), 'telemetry')"
    )
    pipeline.run_pass(conn, paged)  # a surplus later does not hide the deficit
    status = read_status(conn, paged)
    assert (status.adds_up, status.missing, status.recorded) == (False, 2, 11)


def test_frozen_rows_that_vanish_were_shipped_all_the_same(
    conn: Connection, paged: Settings, receiver: Receiver
) -> None:
    pipeline.record_events(conn, make_events(5), paged)
    receiver.reply = lambda _: (500, b"")
    pipeline.run_pass(conn, paged)
    conn.execute("DELETE FROM audit_log")
    receiver.reply = lambda _: (204, b"")
    report = pipeline.run_pass(conn, paged)
    assert (report.shipped, report.missing) == (5, 0)
    assert read_status(conn, paged).adds_up
