"""Seven simulated days without a receiver, and the same batches over and over: nothing lost unknown, nothing twice."""

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from psycopg import Connection

from penpot_telemetry import account, audit_log, dead_letters, ledger, pass_report, pipeline, reconcile, segments
from penpot_telemetry.config import Settings
from penpot_telemetry.endpoint import Endpoint
from penpot_telemetry.status import read_status
from tests.conftest import NOON, Receiver, make_events, names_of
from tests.crash.house import Front, House, open_front

A_DAY = timedelta(days=1)
DAILY = 300


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """The receiver's pipeline, its clock at the first day."""
    folder = tmp_path / "house"
    folder.mkdir()
    opened = House(folder, NOON)
    yield opened
    opened.store.close()


def is_down(_: bytes) -> tuple[None, bytes]:
    """A receiver that hangs up."""
    return None, b""


def live(conn: Connection, settings: Settings, house: House, day: int) -> pass_report.PassReport:
    """A day: its events are recorded, and the sender runs once."""
    house.now = NOON + day * A_DAY
    events = make_events(DAILY, start=day * DAILY, day=NOON + day * A_DAY)
    assert pipeline.record_events(conn, events, settings).accepted == DAILY
    return pipeline.run_pass(conn, settings)


def marks_of(*days: int) -> dict[str, int]:
    """Every mark of some days, once."""
    return {f"e-{n}": 1 for day in days for n in range(day * DAILY, (day + 1) * DAILY)}


def instance_of(conn: Connection) -> UUID:
    """The id that a sender ships under."""
    found = account.read_state(conn).instance_id
    assert found is not None
    return found


def assert_all_agree(conn: Connection, settings: Settings, house: House) -> None:
    """Both accounts add up, and neither side knows of a gap."""
    status = read_status(conn, settings)
    assert status.adds_up
    assert (status.pending, status.missing, status.state.adopted) == (0, 0, 0)
    found = house.read_account()
    assert found.adds_up, found.checks
    assert found.missing_batches == 0
    assert found.lost_at_senders == status.state.dropped


def test_seven_days_below_the_cap_lose_nothing(
    conn: Connection, shipping: Settings, receiver: Receiver, house: House
) -> None:
    settings = replace(shipping, batch_rows=400, attempts=1)
    receiver.reply = is_down
    for day in range(7):
        report = live(conn, settings, house, day)
        assert (report.shipped, report.dropped, report.pending) == (0, 0, (day + 1) * DAILY)
    receiver.reply = house.take
    assert live(conn, settings, house, 7).shipped == 8 * DAILY
    assert house.marks() == marks_of(*range(8))
    assert house.losses() == {}
    assert_all_agree(conn, settings, house)


def test_seven_days_above_the_cap_lose_exactly_what_the_receiver_is_told(
    conn: Connection, shipping: Settings, receiver: Receiver, house: House
) -> None:
    settings = replace(shipping, batch_rows=100, attempts=1, cap_rows=3 * DAILY)
    receiver.reply = is_down
    dropped = [live(conn, settings, house, day).dropped for day in range(7)]
    assert dropped == [0, 0, 0, DAILY, DAILY, DAILY, DAILY]
    waiting = {name for (name,) in conn.execute("SELECT name FROM audit_log")}
    receiver.reply = house.take
    report = live(conn, settings, house, 7)
    assert (report.shipped, report.dropped) == (4 * DAILY, 0)
    assert house.marks() == dict.fromkeys(waiting, 1) | marks_of(7)
    frozen_on_the_first_day = {name for name in waiting if int(name[2:]) < DAILY}
    assert len(frozen_on_the_first_day) == 100  # the page that was under way is never dropped
    assert house.losses() == {(instance_of(conn), (NOON + 7 * A_DAY).date()): 4 * DAILY}
    assert_all_agree(conn, settings, house)


def test_each_loss_is_known_by_instance_and_day_of_report(
    conn: Connection, shipping: Settings, receiver: Receiver, house: House
) -> None:
    settings = replace(shipping, batch_rows=1000, attempts=1, cap_rows=DAILY)
    days_of_outage = {1, 2, 5, 6, 7}
    reported: dict[date, int] = {}
    lost = 0
    for day in range(10):
        receiver.reply = is_down if day in days_of_outage else house.take
        report = live(conn, settings, house, day)
        if lost and day not in days_of_outage:
            reported[(NOON + day * A_DAY).date()] = lost
            lost = 0
        lost += report.dropped
    assert reported == {(NOON + 3 * A_DAY).date(): DAILY, (NOON + 8 * A_DAY).date(): 2 * DAILY}
    assert house.losses() == {(instance_of(conn), day): number for day, number in reported.items()}
    assert sum(house.marks().values()) == 10 * DAILY - 3 * DAILY
    assert_all_agree(conn, settings, house)


def test_rows_that_vanish_by_another_hand_are_a_loss_once_they_are_accepted(
    conn: Connection, shipping: Settings, house: House, receiver: Receiver
) -> None:
    receiver.reply = house.take
    pipeline.record_events(conn, make_events(10), shipping)
    conn.execute("DELETE FROM audit_log WHERE name IN ('e-1', 'e-2')")
    assert pipeline.run_pass(conn, shipping).missing == 2
    pipeline.record_events(conn, make_events(3, start=10), shipping)
    conn.execute("DELETE FROM audit_log")  # three more, gone before anybody looked
    before = read_status(conn, shipping)
    assert (before.missing, before.adds_up) == (5, False)
    assert reconcile.accept_missing(conn) == 5
    after = read_status(conn, shipping)
    assert (after.missing, after.state.dropped, after.adds_up) == (0, 5, True)
    assert reconcile.accept_missing(conn) == 0
    pipeline.record_events(conn, make_events(1, start=20), shipping)
    assert pipeline.run_pass(conn, shipping).shipped == 1
    assert house.read_account().lost_at_senders == 5
    assert_all_agree(conn, shipping, house)


def test_a_sequence_with_a_batch_missing_shows_its_gap(
    conn: Connection, shipping: Settings, receiver: Receiver, house: House
) -> None:
    settings = replace(shipping, batch_rows=50, receipts="optional")
    pipeline.record_events(conn, make_events(300), settings)
    receiver.reply = lambda body: house.take(body) if len(receiver.bodies) not in (3, 4) else (204, b"")
    assert pipeline.run_pass(conn, settings).shipped == 300
    (gap,) = house.read_account().gaps
    assert (gap.instance_id, gap.first_missing, gap.last_missing) == (instance_of(conn), 3, 4)
    assert house.read_account().missing_batches == 2


# -- refused, after it came through ----------------------------------------------------------------------------------


@pytest.fixture
def front() -> Iterator[Front]:
    """A door that lets nothing through yet."""
    with open_front() as opened:
        yield opened


@pytest.fixture
def doubtful(conn: Connection, settings: Settings, house: House, front: Front) -> Settings:
    """One batch came through with a receipt; the answer to a second one of ten events was lost."""
    doubtful = replace(settings, endpoint=Endpoint(front.url), attempts=1)
    pipeline.record_events(conn, make_events(10), doubtful)
    front.post = house.take
    assert pipeline.run_pass(conn, doubtful).shipped == 10
    pipeline.record_events(conn, make_events(10, start=10), doubtful)
    front.post = lambda body: (house.take(body) and None, b"")
    assert pipeline.run_pass(conn, doubtful).pending == 10
    return doubtful


def hold_back(front: Front) -> list[bytes]:
    """From now on bodies stay on their way, without an answer: the list of them, as it grows."""
    late: list[bytes] = []

    def keep(body: bytes) -> tuple[None, bytes]:
        late.append(body)
        return None, b""

    front.post = keep
    return late


TWENTY = {f"e-{n}": 1 for n in range(20)}


@pytest.mark.parametrize("status", [400, 403, 404, 413])
def test_the_parts_of_a_batch_that_came_through_and_is_refused_afterwards_are_duplicates(
    conn: Connection, doubtful: Settings, house: House, front: Front, status: int
) -> None:
    front.post, front.get = lambda _: (status, b""), lambda path: (200, house.list_batches(path))
    report = pipeline.run_pass(conn, doubtful)
    assert (report.shipped, report.pending) == (0, 10)
    assert report.failure is not None
    front.post = house.take
    report = pipeline.run_pass(conn, doubtful)
    assert (report.shipped, report.pending, report.mismatches, report.failure) == (10, 0, 0, None)
    assert house.marks() == TWENTY
    pipeline.record_events(conn, make_events(1, start=20), doubtful)
    assert pipeline.run_pass(conn, doubtful).failure is None
    assert_all_agree(conn, doubtful, house)


def test_a_dead_letter_whose_batch_came_through_is_shipped(
    conn: Connection, doubtful: Settings, house: House, front: Front
) -> None:
    pipeline.record_events(conn, make_events(1, start=20), doubtful)
    front.get = lambda path: (200, house.list_batches(path))
    front.post = lambda body: house.take(body) if "e-20" in names_of(body) else (400, b"")
    for _ in range(3):
        report = pipeline.run_pass(conn, replace(doubtful, batch_rows=1))
    assert (report.pending, report.failure) == (0, None)
    assert dead_letters.read_dead_letters(conn) == []
    assert house.marks() == {f"e-{n}": 1 for n in range(21)}
    assert_all_agree(conn, doubtful, house)


def test_a_batch_that_never_came_through_is_split_all_the_same(
    conn: Connection, settings: Settings, house: House, front: Front
) -> None:
    doubtful = replace(settings, endpoint=Endpoint(front.url), attempts=1)
    pipeline.record_events(conn, make_events(10), doubtful)
    assert pipeline.run_pass(conn, doubtful).pending == 10
    front.post = lambda body: (400, b"") if "e-3" in names_of(body) else house.take(body)
    front.get = lambda path: (200, house.list_batches(path))
    report = pipeline.run_pass(conn, doubtful)
    assert (report.shipped, report.quarantined, report.pending) == (9, 1, 0)


def test_a_batch_that_arrives_after_it_was_split_is_not_loaded(
    conn: Connection, settings: Settings, house: House, front: Front
) -> None:
    shipping = replace(settings, endpoint=Endpoint(front.url), attempts=1)
    pipeline.record_events(conn, make_events(10), shipping)
    late = hold_back(front)
    assert pipeline.run_pass(conn, shipping).pending == 10
    front.post = lambda body: (400, b"") if "e-3" in names_of(body) else house.take(body)
    front.get = lambda path: (200, house.list_batches(path))
    report = pipeline.run_pass(conn, shipping)
    assert (report.shipped, report.quarantined, report.pending) == (9, 1, 0)
    _, receipt = house.take(late[0])
    assert json.loads(receipt)["reason"] == "superseded"
    assert house.marks() == {f"e-{n}": 1 for n in range(10) if n != 3}
    assert house.read_account().adds_up
    assert shipping.endpoint is not None
    found = ledger.verify(conn, shipping.endpoint, shipping)
    assert (found.agreed > 0, found.mismatches) == (True, [])


def test_a_batch_that_arrives_between_its_parts_makes_all_of_them_duplicates(
    conn: Connection, settings: Settings, house: House, front: Front
) -> None:
    shipping = replace(settings, endpoint=Endpoint(front.url), attempts=1)
    pipeline.record_events(conn, make_events(16), shipping)
    late = hold_back(front)
    pipeline.run_pass(conn, shipping)
    front.post = lambda _: (413, b"")
    pipeline.run_pass(conn, shipping)
    house.take(late[0])
    front.post, front.get = house.take, lambda path: (200, house.list_batches(path))
    report = pipeline.run_pass(conn, shipping)
    assert (report.shipped, report.quarantined, report.pending, report.failure) == (16, 0, 0, None)
    assert house.marks() == {f"e-{n}": 1 for n in range(16)}
    assert_all_agree(conn, shipping, house)


def test_a_sender_without_the_right_token_keeps_its_page_whole_and_says_what_to_set(
    conn: Connection, settings: Settings, house: House, front: Front
) -> None:
    shipping = replace(settings, endpoint=Endpoint(front.url))
    pipeline.record_events(conn, make_events(10), shipping)
    front.post = lambda _: (401, b"")
    for _ in range(3):
        report = pipeline.run_pass(conn, shipping)
        assert (report.refused, report.pending, segments.count_segments(conn)) == (0, 10, 0)
        assert "PENPOT_TELEMETRY_TOKEN" in str(report.failure)
    front.post = house.take
    assert pipeline.run_pass(conn, shipping).batches == 1


def test_rows_that_were_set_aside_and_sent_after_all_are_no_loss(
    conn: Connection, settings: Settings, house: House, front: Front
) -> None:
    shipping = replace(settings, endpoint=Endpoint(front.url))
    bad = {"e-1", "e-5", "e-7"}
    front.post = lambda body: (400, b"") if bad & set(names_of(body)) else house.take(body)
    pipeline.record_events(conn, make_events(10), shipping)
    assert pipeline.run_pass(conn, shipping).quarantined == 3
    pipeline.record_events(conn, make_events(1, start=10), shipping)
    pipeline.run_pass(conn, shipping)
    assert house.read_account().lost_at_senders == 3
    front.post = house.take
    aside = [row.id for row in dead_letters.read_dead_letters(conn)]
    assert dead_letters.retry(conn, aside[:2]) == 2
    pipeline.run_pass(conn, shipping)
    assert house.read_account().lost_at_senders == 1
    assert dead_letters.drop(conn) == 1
    pipeline.record_events(conn, make_events(1, start=11), shipping)
    pipeline.run_pass(conn, shipping)
    assert house.read_account().lost_at_senders == 1
    assert_all_agree(conn, shipping, house)


# -- the same again --------------------------------------------------------------------------------------------------


@pytest.fixture
def bodies(conn: Connection, shipping: Settings, receiver: Receiver) -> list[bytes]:
    """Twenty batches as they were sent."""
    settings = replace(shipping, batch_rows=25)
    pipeline.record_events(conn, make_events(500), settings)
    assert pipeline.run_pass(conn, settings).batches == 20
    assert audit_log.count_rows(conn) == 0
    return list(receiver.bodies)


@pytest.mark.parametrize("together", [1, 7, 16])
def test_every_batch_three_times_shuffled_after_a_restart_is_there_once(
    house: House, bodies: list[bytes], together: int
) -> None:
    first = [house.receive([body])[0] for body in bodies]
    digest = house.digest
    house.restart()
    again = bodies * 3
    random.Random(together).shuffle(again)  # noqa: S311  a seed, so that a failure can be seen again
    receipts = [receipt for n in range(0, len(again), together) for receipt in house.receive(again[n : n + together])]
    assert {receipt.status for receipt in receipts} == {"duplicate"}
    assert {(r.batch_id, r.events, r.digest) for r in receipts} == {(r.batch_id, r.events, r.digest) for r in first}
    assert house.marks() == {f"e-{n}": 1 for n in range(500)}
    found = house.read_account()
    assert found.adds_up, found.checks
    assert (found.received, found.loaded, found.duplicate) == (80, 20, 60)
    assert digest != house.digest  # the repeats are counted
    house.rebuild()
    assert house.marks() == {f"e-{n}": 1 for n in range(500)}


@pytest.mark.parametrize("together", [1, 16])
def test_batches_that_come_shuffled_and_three_times_at_once_are_there_once(
    house: House, bodies: list[bytes], together: int
) -> None:
    mixed = bodies * 3
    random.Random(together).shuffle(mixed)  # noqa: S311  a seed, so that a failure can be seen again
    receipts = []
    for n in range(0, len(mixed), together):
        receipts += house.receive(mixed[n : n + together])
        if n % 5 == 0:
            house.restart()
    assert sorted(receipt.status for receipt in receipts) == ["accepted"] * 20 + ["duplicate"] * 40
    assert house.marks() == {name: 1 for body in bodies for name in names_of(body)}
    found = house.read_account()
    assert found.adds_up, found.checks
    assert found.missing_batches == 0
