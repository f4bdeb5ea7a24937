"""The receiver's order of things, without HTTP: several bodies in one transaction, and what is true after a failure."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import polars as pl
import pytest

from penpot_telemetry.errors import DatabaseError
from receiver.frames import write_rows
from receiver.intake import commit, decide, decode
from receiver.intake.commit import receive
from receiver.intake.decode import Batch
from receiver.intake.prepare import Job, prepare
from receiver.lifecycle import recovery
from receiver.lifecycle.rebuild import rebuild
from receiver.lifecycle.retention import tidy
from receiver.lifecycle.startup import open_store
from receiver.reports.account import content_digest, read_account
from receiver.server.writer import Writer
from receiver.storage import connection, journal
from receiver.storage.paths import DataPaths, places_beside
from receiver.storage.records import Receipt
from receiver.storage.store import Store, UnavailableError
from tests.integration import receiving
from tests.integration.receiving import body_of, event, legacy_report, rows, wait_until

NOW = datetime(2026, 7, 21, 12, tzinfo=UTC)
BATCH_ID = UUID(int=9)


@pytest.fixture
def places(tmp_path: Path) -> DataPaths:
    return places_beside(tmp_path / "w.duckdb")


@pytest.fixture
def store(places: DataPaths) -> Iterator[Store]:
    with open_store(places) as opened:
        opened.clock = lambda: NOW
        yield opened


def take(store: Store, *bodies: bytes) -> list[Receipt]:
    return receive(store, [prepare(body) for body in bodies])


def statuses(receipts: list[Receipt]) -> list[str]:
    return [receipt.status for receipt in receipts]


def unloadable() -> Job:
    """A batch that DuckDB will not take, whatever let it come so far."""
    job = prepare(body_of(rows(2, 50)))
    assert isinstance(job.item, Batch)
    frame = job.item.page.frame.with_columns(props=pl.lit("{no JSON"))
    return replace(job, item=replace(job.item, page=replace(job.item.page, frame=frame)))


def digest_of(places: DataPaths) -> str:
    with closing(connection.connect(places.warehouse, read_only=True)) as con:
        return content_digest(con)


def test_bodies_of_one_transaction_are_told_apart_as_if_they_had_come_alone(store: Store) -> None:
    same, other = body_of(rows(3), batch_id=BATCH_ID), body_of(rows(4), batch_id=BATCH_ID)
    receipts = take(store, same, b"nothing", same, other, b"nothing", legacy_report(), legacy_report())
    assert statuses(receipts) == [
        "accepted",
        "quarantined",
        "duplicate",
        "quarantined",
        "quarantined",
        "accepted",
        "duplicate",
    ]
    assert receipts[2].events == 3
    assert receipts[3].reason == "id-reused"
    found = read_account(store.warehouse.con)
    assert found.adds_up
    assert (found.received, found.events, found.quarantine) == (7, 3, {"id-reused": 1, "not-json": 2})


def test_rows_the_database_will_not_take_bring_down_their_own_body_only(store: Store, places: DataPaths) -> None:
    jobs = [prepare(body_of(rows(3))), unloadable(), prepare(body_of(rows(3, 10)))]
    receipts = receive(store, jobs)
    assert [(receipt.status, receipt.reason) for receipt in receipts] == [
        ("accepted", None),
        ("quarantined", "bad-fressian"),
        ("accepted", None),
    ]
    assert read_account(store.warehouse.con).adds_up
    store.close()
    before = digest_of(places)
    assert rebuild(places).unloadable == 0
    assert digest_of(places) == before


def test_a_record_that_cannot_be_loaded_is_counted_and_its_neighbours_are_loaded(
    store: Store, places: DataPaths
) -> None:
    take(store, body_of(rows(1)))
    jobs = [prepare(body_of(rows(2, 10))), prepare(body_of(rows(3, 20))), unloadable()]
    plans = decide.decide(store, [replace(job, carried="rows", packed=pack(job)) for job in jobs])
    commit.append_records(store, plans)
    store.close()
    with open_store(places) as again:
        assert (again.found.replayed, again.found.unloadable) == (3, 1)
        assert read_account(again.warehouse.con).adds_up
        assert read_account(again.warehouse.con).events == 6
    with open_store(places) as again:
        assert again.found.replayed == 0
    assert rebuild(places).unloadable == 1


def pack(job: Job) -> bytes:
    """What a batch carries when it is kept as rows."""
    assert isinstance(job.item, Batch)
    return journal.pack_carried(write_rows(job.item.page.frame))


def test_the_time_of_receipt_grows_when_the_clock_goes_back(store: Store) -> None:
    take(store, body_of(rows(1)))
    store.clock = lambda: NOW - timedelta(minutes=59)
    take(store, body_of(rows(2)), body_of(rows(3)))
    times = store.warehouse.con.execute("SELECT received_at FROM batches ORDER BY batch_no").fetchall()
    assert times == sorted(set(times))


@pytest.mark.parametrize("remembered", [True, False])
def test_a_page_is_compared_with_the_page_before_it_wherever_that_is(store: Store, remembered: bool) -> None:
    take(store, body_of(rows(5)), body_of(rows(5, 2)), body_of(rows(5, 100), instance=UUID(int=3)))
    if not remembered:
        store.pages.clear()
    take(store, body_of(rows(5, 6)))
    take(store, body_of(rows(5, 200), batch_id=BATCH_ID), body_of(rows(5, 203)))
    overlaps = store.warehouse.con.execute("SELECT overlap_events FROM batches ORDER BY batch_no").fetchall()
    assert overlaps == [(0,), (3,), (0,), (1,), (None,), (2,)]


def test_the_same_report_is_one_on_its_day_and_another_on_the_next(store: Store) -> None:
    body = legacy_report(**{"total-teams": 3})
    assert statuses(take(store, body) + take(store, body)) == ["accepted", "duplicate"]
    store.clock = lambda: NOW + timedelta(days=1)
    assert statuses(take(store, body)) == ["accepted"]


def test_a_defect_of_the_reader_puts_the_body_aside_instead_of_asking_for_it_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise IndexError("with ana@example.org in it")

    monkeypatch.setattr(decode, "decode_body", fail)
    (receipt,) = take(store, body_of(rows(1)))
    assert (receipt.status, receipt.reason) == ("quarantined", "bad-fressian")
    messages = store.warehouse.con.execute("SELECT message FROM quarantine").fetchall()
    assert "IndexError" in messages[0][0]
    assert "ana" not in messages[0][0]


def test_a_writer_that_nobody_sends_to_becomes_sound_by_itself(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("receiver.server.writer.RECOVER_SECONDS", 0.01)
    with Writer(store) as writer:
        store.warehouse.con.close()
        with pytest.raises(UnavailableError):
            writer.submit(prepare(body_of(rows(1)))).result(20)
        wait_until(lambda: store.is_sound)
        assert writer.submit(prepare(body_of(rows(1)))).result(20).status == "accepted"


def test_a_lost_warehouse_is_made_again_at_the_next_start(store: Store, places: DataPaths) -> None:
    scrubbed = receiving.body_of_maps(event(ip_addr="192.0.2.1"))
    take(store, body_of(rows(3)), scrubbed, b"nothing", legacy_report())
    store.close()
    before = digest_of(places)
    places.warehouse.unlink()
    with open_store(places) as again:
        assert again.found.replayed == 4
        assert content_digest(again.warehouse.con) == before
        assert read_account(again.warehouse.con).adds_up
        assert statuses(take(again, body_of(rows(3)))) == ["duplicate"]


def test_a_copy_under_a_later_day_is_not_replayed_after_a_rebuild(store: Store, places: DataPaths) -> None:
    take(store, body_of(rows(3)), b"nothing")
    store.close()
    before = digest_of(places)
    path = journal.path_of(places.landfill, NOW.date())
    shutil.copy(path, journal.path_of(places.landfill, NOW.date() + timedelta(days=1)))
    assert rebuild(places).repeated_records == 2
    with open_store(places) as again:
        assert again.found.replayed == 0
    assert digest_of(places) == before


def test_a_rebuild_does_not_lose_what_the_landfill_no_longer_holds(store: Store, places: DataPaths) -> None:
    take(store, body_of(rows(3)))
    store.clock = lambda: NOW + timedelta(days=2)
    take(store, body_of(rows(4)))
    store.close()
    journal.path_of(places.landfill, NOW.date()).unlink()
    before = digest_of(places)
    with pytest.raises(DatabaseError, match="holds 1 batches"):
        rebuild(places)
    assert digest_of(places) == before
    assert sorted(path.name for path in places.warehouse.parent.iterdir()) == ["w.duckdb", "w.landfill", "w.quarantine"]
    assert rebuild(places, allow_loss=True).replayed == 1


def test_a_rebuild_waits_for_no_writer(store: Store, places: DataPaths) -> None:
    take(store, body_of(rows(3)))
    with pytest.raises(DatabaseError, match="in use"):
        rebuild(places)
    assert read_account(store.warehouse.con).events == 3


def test_landfills_of_two_receivers_make_one_warehouse(store: Store, places: DataPaths, tmp_path: Path) -> None:
    take(store, body_of(rows(3), batch_id=BATCH_ID), body_of(rows(2, 10)))
    store.close()
    other = places_beside(tmp_path / "other" / "w.duckdb")
    other.warehouse.parent.mkdir()
    with open_store(other) as second:
        second.clock = lambda: NOW + timedelta(hours=1)
        take(second, body_of(rows(4, 20), batch_id=BATCH_ID), body_of(rows(2, 10)), body_of(rows(1, 40)))
    path = journal.path_of(other.landfill, NOW.date())
    path.rename(places.landfill / "from-the-other.zst")
    found = rebuild(places)
    assert (found.replayed, found.repeated_records, found.unloadable) == (5, 0, 0)
    with open_store(places) as merged:
        account = read_account(merged.warehouse.con)
        assert merged.found.replayed == 0
    assert account.adds_up
    assert (account.loaded, account.duplicate, account.quarantine) == (3, 1, {"id-reused": 1})


def test_bodies_and_days_go_when_their_time_has_come(store: Store) -> None:
    store.places = replace(store.places, quarantine_days=14, landfill_days=30)
    store.clock = lambda: datetime.now(UTC)
    take(store, b"nothing")
    tidy(store)
    assert len(list(store.places.quarantine.iterdir())) == 1
    store.clock = lambda: datetime.now(UTC) + timedelta(days=40)
    take(store, body_of(rows(1)))
    tidy(store)
    assert list(store.places.quarantine.iterdir()) == []
    assert len(journal.list_days(store.places.landfill)) == 1
    assert store.warehouse.con.execute("SELECT reason, body FROM quarantine").fetchall() == [("not-json", None)]
    assert read_account(store.warehouse.con).adds_up


def test_a_replay_groups_records_by_the_bytes_that_they_carry(
    store: Store, places: DataPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        take(store, body_of(rows(1_000, number * 1_000)))
    (day,) = journal.list_days(places.landfill)
    records = list(journal.scan(journal.path_of(places.landfill, day)))
    sizes = [journal.carried_size(record) for record in records]
    assert sizes == [len(journal.read_carried(record).encode()) for record in records]
    assert [len(group) for group in recovery.group_records(records)] == [5]
    monkeypatch.setattr(recovery, "TRANSACTION", 2 * max(sizes) - 1)
    assert [len(group) for group in recovery.group_records(records)] == [2, 2, 1]
