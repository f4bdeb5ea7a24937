"""What always holds, by the numbers of the design: durable, exactly once, conserved, unpoisoned, rebuilt the same.

One test or a few for each, over both sides where both take part. The long proofs are in `tests/crash` and in
`tests/property/test_exactly_once.py`; these say in a few lines what is promised.
"""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from psycopg import Connection

from penpot_telemetry import account, audit_log, dead_letters, pipeline
from penpot_telemetry.config import Settings
from penpot_telemetry.endpoint import Endpoint
from penpot_telemetry.status import read_status
from penpot_telemetry.wire import payload
from receiver.storage.store import Store, UnavailableError
from tests.conftest import make_events, names_of
from tests.crash.house import Answer, Front, House, open_front
from tests.integration.receiving import ask, body_of, command, penpots_body, rows, running


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """The receiver's pipeline and warehouse."""
    folder = tmp_path / "house"
    folder.mkdir()
    opened = House(folder)
    yield opened
    opened.store.close()


@pytest.fixture
def front(house: House) -> Iterator[Front]:
    """Its door."""
    with open_front() as opened:
        opened.post, opened.get = house.take, lambda path: (200, house.list_batches(path))
        yield opened


@pytest.fixture
def road(settings: Settings, front: Front) -> Settings:
    """A sender of pages of ten that ships to the house."""
    return replace(settings, endpoint=Endpoint(front.url), batch_rows=10, attempts=1)


def once(count: int) -> dict[str, int]:
    """The first events, each there once."""
    return {f"e-{n}": 1 for n in range(count)}


# -- invariant 4: a 2xx means durable --------------------------------------------------------------------------------


def test_invariant_4_what_was_answered_with_2xx_survives_a_kill_in_the_next_instant(tmp_path: Path) -> None:
    for number in range(3):
        with running(tmp_path) as receiver:
            assert receiver.post(body_of(rows(5, 5 * number))).status_code == 200
            receiver.kill()
        assert ask(tmp_path, "SELECT count(*), count(DISTINCT profile_id) FROM events") == [(5 * number + 5,) * 2]
    assert command(tmp_path, "check").returncode == 0


def break_landfill(store: Store) -> None:
    """A landfill whose disk is gone."""
    store.landfill.close()


def break_warehouse(store: Store) -> None:
    """A warehouse that can no longer commit."""
    store.warehouse.con.close()


@pytest.mark.parametrize("break_it", [break_landfill, break_warehouse])
def test_invariant_4_what_cannot_be_made_durable_is_not_answered_with_success(
    house: House, break_it: Callable[[Store], None]
) -> None:
    house.receive([body_of(rows(2))])
    break_it(house.store)
    body = body_of(rows(3, 100))
    with pytest.raises(UnavailableError):
        house.receive([body])
    (receipt,) = house.receive([body])  # it has opened everything anew
    assert receipt.status in {"accepted", "duplicate"}
    assert house.marks().total() == 5
    assert house.read_account().adds_up


# -- invariant 5: exactly once ---------------------------------------------------------------------------------------


def test_invariant_5_a_page_is_frozen_once_and_sent_as_the_same_bytes_until_it_is_answered(
    conn: Connection, road: Settings, house: House, front: Front
) -> None:
    sent: list[bytes] = []

    def lose_answers(body: bytes) -> Answer:
        sent.append(body)
        house.take(body)
        return None, b""

    front.post = lose_answers
    pipeline.record_events(conn, make_events(8), road)
    for n in range(5):
        pipeline.run_pass(conn, replace(road, batch_rows=100, version=f"2.18.{n}", cap_rows=0))
        pipeline.record_events(conn, make_events(1, start=8 + n), road)
    assert len(set(sent)) == 1 < len(sent)
    front.post = house.take
    pipeline.run_pass(conn, road)
    state = account.read_state(conn)
    assert (state.shipped, state.dropped) == (9, 4)
    assert house.marks() == {**once(8), "e-12": 1}


def test_invariant_5_the_key_is_committed_with_its_rows_and_is_known_for_ever(house: House) -> None:
    batch_id = uuid4()
    body = body_of(rows(4), batch_id=batch_id, batch_seq=1)
    house.die_before_commit(body)
    for n in range(50):
        house.receive([body_of(rows(1, 100 + n), batch_id=uuid4(), batch_seq=n + 2)])
    house.restart()
    (again,) = house.receive([body])
    assert (again.status, again.batch_id, again.events) == ("duplicate", batch_id, 4)
    assert house.marks().total() == 54


def test_invariant_5_a_penpot_without_batch_ids_is_known_by_its_bytes_and_marked_as_the_weaker_class(
    house: House,
) -> None:
    statuses = [house.receive([penpots_body()])[0].status for _ in range(3)]
    assert statuses == ["accepted", "duplicate", "duplicate"]
    house.receive([body_of(rows(1), batch_id=uuid4(), batch_seq=1)])
    trust = house.store.warehouse.con.execute("SELECT trust, repeats FROM batches ORDER BY batch_no").fetchall()
    assert trust == [("digest", 2), ("batch-id", 0)]


# -- invariant 6: conservation ---------------------------------------------------------------------------------------


def test_invariant_6_both_accounts_add_up_and_the_receiver_knows_the_loss_exactly(
    conn: Connection, road: Settings, house: House, front: Front
) -> None:
    front.post = lambda body: (400, b"") if "e-3" in names_of(body) else house.take(body)
    pipeline.record_events(conn, make_events(20), road)
    pipeline.run_pass(conn, road)
    front.post = lambda _: (None, b"")
    pipeline.record_events(conn, make_events(40, start=20), road)
    pipeline.run_pass(conn, replace(road, cap_rows=15))
    status = read_status(conn, road)
    state = status.state
    assert (status.recorded, state.shipped, state.dropped, state.quarantined, status.pending) == (60, 19, 25, 1, 15)
    assert status.adds_up
    front.post = house.take
    pipeline.run_pass(conn, road)
    found = house.read_account()
    assert (found.lost_at_senders, found.missing_batches, found.events) == (26, 0, 34)
    assert found.received == found.loaded + found.duplicate + found.quarantined
    assert found.adds_up, found.checks


def test_invariant_6_every_batch_carries_totals_that_add_up(
    conn: Connection, road: Settings, house: House, front: Front
) -> None:
    bodies: list[bytes] = []
    front.post = lambda body: (bodies.append(body), house.take(body))[1]  # type: ignore[func-returns-value]
    for n in range(4):
        pipeline.record_events(conn, make_events(25, start=25 * n), road)
        pipeline.run_pass(conn, replace(road, cap_rows=0))
    for body in bodies:
        totals = json.loads(body)["totals"]
        assert totals["recorded"] == sum(totals.values()) - totals["recorded"]
    assert [json.loads(body)["batch-seq"] for body in bodies] == list(range(1, len(bodies) + 1))


# -- invariant 7: no poison ------------------------------------------------------------------------------------------

GOOD = json.loads(body_of(rows(1)))

HOPELESS = {
    "not-json": b"\xff\x00 nothing of ours",
    "unknown-type": json.dumps(GOOD | {"type": "something-else"}).encode(),
    "bad-base64": json.dumps(GOOD | {"events": "!"}).encode(),
    "wrong-digest": json.dumps(GOOD | {"digest": "sha256:" + "0" * 64}).encode(),
}


@pytest.mark.parametrize("reason", HOPELESS)
def test_invariant_7_what_can_never_be_accepted_is_answered_2xx_and_put_aside_with_its_reason(
    house: House, reason: str
) -> None:
    receipts = [house.receive([HOPELESS[reason]])[0] for _ in range(2)]
    assert [(receipt.status, receipt.reason) for receipt in receipts] == [("quarantined", reason)] * 2
    assert house.read_account().quarantine == {reason: 2}
    assert [path.read_bytes() for path in house.places.quarantine.iterdir()] == [HOPELESS[reason]]


def test_invariant_7_what_may_work_later_gets_503_and_a_time_to_come_back(tmp_path: Path) -> None:
    with running(tmp_path, RECEIVER_BODY_BUDGET_MIB="1") as receiver:
        answer = receiver.post(b"{" + b" " * 2 * 1024 * 1024)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert receiver.receipt(body_of(rows(1)))["status"] == "accepted"


def test_invariant_7_a_refused_page_is_split_until_the_bad_rows_stand_alone(
    conn: Connection, road: Settings, house: House, front: Front
) -> None:
    bad = {"e-2", "e-77"}
    front.post = lambda body: (400, b"") if bad & set(names_of(body)) else house.take(body)
    pipeline.record_events(conn, make_events(100), road)
    report = pipeline.run_pass(conn, replace(road, batch_rows=100))
    assert (report.shipped, report.quarantined, report.pending, report.failure) == (98, 2, 0, None)
    assert {row.name for row in dead_letters.read_dead_letters(conn)} == bad
    assert house.marks() == {name: 1 for name in once(100) if name not in bad}
    assert house.read_account().missing_batches == 0
    assert audit_log.count_rows(conn) == 0


# -- invariant 9: rebuild = identical --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_invariant_9_the_landfill_in_any_order_and_with_repeats_makes_the_same_warehouse(
    house: House, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311  a seed, so that a failure can be seen again
    bodies = [body_of(rows(5, 10 * n), batch_id=UUID(int=n + 1, version=4), batch_seq=n + 1) for n in range(12)]
    bodies += [payload_of_a_penpot(n) for n in range(4)]
    for body in chance.choices(bodies, k=40):
        house.receive([body])
        if chance.random() < 0.2:
            house.die_before_commit(chance.choice(bodies))
    before, marks = house.digest, house.read_account()
    scatter(house.places.landfill, chance)
    house.rebuild()
    after = house.read_account()
    assert house.digest == before
    assert (after.received, after.duplicate, after.events) == (marks.received, marks.duplicate, marks.events)
    assert after.adds_up, after.checks


def payload_of_a_penpot(number: int) -> bytes:
    """A batch without an id."""
    sent = json.loads(body_of(rows(3, 1000 + 10 * number)))
    return payload.build_events(payload.EventsBatch("2.17.0", UUID(int=number + 1), sent["events"]))


def scatter(folder: Path, chance: random.Random) -> None:
    """The landfill's file under other names, more than once."""
    (file,) = folder.glob("*.zst")
    for copy in ("a", "b"):
        target = folder / f"{copy}{chance.randrange(1000)}" / f"{chance.randrange(1000)}.zst"
        target.parent.mkdir()
        shutil.copyfile(file, target)
    file.rename(folder / f"z{chance.randrange(1000)}.zst")
