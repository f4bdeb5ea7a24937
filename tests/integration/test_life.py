"""The life of the data: read by others while a server writes, copied out, and removed when its time is over."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import polars as pl
import pytest
import requests
from click.testing import CliRunner

import receiver
from receiver.cli.main import main
from receiver.intake.commit import receive
from receiver.intake.prepare import prepare
from receiver.lifecycle.rebuild import rebuild
from receiver.lifecycle.retention import tidy
from receiver.lifecycle.startup import open_store
from receiver.reports.account import content_digest, read_account
from receiver.storage import rollups
from receiver.storage.paths import places_beside, snapshot_of
from receiver.storage.records import Receipt
from receiver.storage.store import Store
from tests.integration.receiving import (
    DAY,
    INSTANCE,
    Running,
    body_of,
    legacy_report,
    rows,
    running,
    wait_until,
)

TOKEN = "a-token-of-sixteen"  # noqa: S105  of the tests only


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    """A receiver that publishes when it is asked."""
    with running(tmp_path, RECEIVER_SNAPSHOT_MINUTES="0") as started:
        yield started


def names(folder: Path) -> list[str]:
    """Every file of a folder that is a copy of a warehouse, or was to become one."""
    return sorted(path.name for path in folder.iterdir() if "snapshot" in path.name)


def run(folder: Path, *words: str, code: int = 0) -> str:
    """What a command says of the warehouse in a folder, once it ends with this code."""
    name, *rest = words
    result = CliRunner().invoke(main, [name, "--warehouse", str(folder / "w.duckdb"), *rest])
    assert result.exit_code == code, result.output
    return result.output


def count_events(path: Path) -> int:
    """Events of a warehouse as an analyst opens it."""
    with receiver.open_warehouse(path) as opened:
        ((events,),) = opened.sql("SELECT count(*) FROM events").rows()
    return int(events)


# -- snapshots -------------------------------------------------------------------------------------------------------


def test_an_analyst_reads_the_snapshot_while_the_server_writes(server: Running) -> None:
    warehouse = server.folder / "w.duckdb"
    server.receipt(body_of(rows(7)))
    run(server.folder, "snapshot")
    with receiver.open_warehouse(warehouse) as opened:
        assert opened.is_snapshot
        before = opened.active_profiles(threshold=1)
        assert opened.sql("SELECT count(*) FROM profile_days").rows() == [(7,)], "it was not added up"
        server.receipt(body_of(rows(5, 7)))
        run(server.folder, "snapshot")
        assert opened.active_profiles(threshold=1).equals(before), "an open snapshot changed under its reader"
    assert count_events(warehouse) == 12
    assert names(server.folder) == ["w.snapshot.duckdb"]


def test_the_server_publishes_by_itself_when_something_arrived(tmp_path: Path) -> None:
    with running(tmp_path, RECEIVER_SNAPSHOT_MINUTES="60") as first:
        first.receipt(body_of(rows(4)))
        assert names(tmp_path) == [], "nothing was there at the start"
    with running(tmp_path, RECEIVER_SNAPSHOT_MINUTES="60"):
        wait_until(lambda: names(tmp_path) == ["w.snapshot.duckdb"])
        assert count_events(tmp_path / "w.duckdb") == 4


def test_a_snapshot_of_the_same_content_is_not_made_twice(server: Running) -> None:
    server.receipt(body_of(rows(3)))
    target = snapshot_of(server.folder / "w.duckdb")
    run(server.folder, "snapshot")
    made = target.stat().st_ino
    run(server.folder, "snapshot")
    assert target.stat().st_ino == made
    target.unlink()
    run(server.folder, "snapshot")
    assert count_events(server.folder / "w.duckdb") == 3


def test_a_snapshot_can_be_taken_without_a_server_and_to_another_place(tmp_path: Path) -> None:
    other = tmp_path / "else where" / "it's a copy.duckdb"
    other.parent.mkdir()
    with running(tmp_path, RECEIVER_SNAPSHOT_MINUTES="0") as server:
        server.receipt(body_of(rows(3)))
        run(tmp_path, "snapshot", "--to", str(other))
        assert count_events(other) == 3
        server.receipt(body_of(rows(3, 3)))
        server.kill()
    assert "6 events" in run(tmp_path, "snapshot", "--to", str(other))
    assert count_events(other) == 6
    assert [path.name for path in other.parent.iterdir()] == [other.name]


def test_the_warehouse_stays_closed_to_a_second_writer_after_a_snapshot(server: Running) -> None:
    server.receipt(body_of(rows(3)))
    assert requests.post(server.url + "/snapshot", timeout=60).status_code == 200
    with pytest.raises(duckdb.IOException, match="lock"):
        duckdb.connect(str(server.folder / "w.duckdb"))


def test_every_event_that_was_answered_before_a_snapshot_is_in_it(server: Running) -> None:
    with ThreadPoolExecutor(4) as senders:
        sent = [senders.submit(server.receipt, body_of(rows(20, 20 * number))) for number in range(60)]
        for number in range(0, 60, 20):
            answered = sum(one.result()["events"] for one in sent[: number + 20])
            made = requests.post(server.url + "/snapshot", timeout=60).json()
            held = count_events(server.folder / "w.duckdb")
            assert held >= answered
            assert made["holds"]["events"] == held
            assert held % 20 == 0, "half a batch"
    assert server.stop() == 0
    run(server.folder, "check")


def test_a_snapshot_and_a_later_copy_of_the_landfill_are_a_backup_of_a_running_server(server: Running) -> None:
    backup = server.folder / "backup"
    backup.mkdir()
    server.receipt(body_of(rows(3)))
    run(server.folder, "snapshot", "--to", str(backup / "w.duckdb"))
    server.receipt(body_of(rows(4, 3)))
    shutil.copytree(server.folder / "w.landfill", backup / "w.landfill")
    assert server.stop() == 0
    with open_store(places_beside(backup / "w.duckdb")) as restored:
        assert restored.found.replayed == 1
    assert run(backup, "digest") == run(server.folder, "digest")
    assert "the sums agree" in run(backup, "check")


def test_what_a_crash_left_of_a_snapshot_is_removed_at_the_next_start(tmp_path: Path) -> None:
    target = snapshot_of(tmp_path / "w.duckdb")
    for ending in ("", ".wal"):
        (tmp_path / f"{target.name}.0123.unfinished{ending}").write_bytes(b"half")
    target.write_bytes(b"kept")
    with running(tmp_path):
        assert names(tmp_path) == [target.name]


def test_no_snapshot_is_put_in_place_where_it_cannot_be_written(server: Running) -> None:
    server.receipt(body_of(rows(3)))
    (server.folder / "w.snapshot.duckdb").mkdir()
    answer = requests.post(server.url + "/snapshot", timeout=60)
    assert answer.status_code == 503
    assert server.receipt(body_of(rows(3, 3)))["status"] == "accepted"
    assert names(server.folder) == ["w.snapshot.duckdb"]


def test_asking_for_a_snapshot_needs_the_token(tmp_path: Path) -> None:
    with running(tmp_path, RECEIVER_READ_TOKEN=TOKEN) as server:
        server.receipt(body_of(rows(3)))
        assert "wants its token" in run(tmp_path, "snapshot", code=1)
        assert names(tmp_path) == []


# -- exports ---------------------------------------------------------------------------------------------------------


NEVER = 2_000_000_000  # days: outside the calendar
DAYS = [date(2026, 7, 19), date(2026, 7, 20), date(2026, 7, 21)]


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A warehouse of two instances with events on three days and two without a day; a report and four batches."""
    path = tmp_path / "w.duckdb"
    with open_store(places_beside(path)) as store:
        for number, (day, instance) in enumerate([(2, INSTANCE), (0, INSTANCE), (1, UUID(int=9)), (NEVER, INSTANCE)]):
            instant = DAY + (day - 1) * 86_400_000
            events = [row._replace(tracked_at=instant) for row in rows(2 + number, 10 * number)]
            receive(store, [prepare(body_of(events, instance=instance))])
        receive(store, [prepare(legacy_report(**{"total-teams": 4}))])
    return path


def read_duckdb(folder: Path, table: str) -> pl.DataFrame:
    """An export as DuckDB reads it."""
    with duckdb.connect() as con:
        frame: pl.DataFrame = con.sql(
            f"FROM read_parquet('{folder}/{table}/*/*.parquet', hive_partitioning = true)"
        ).pl()
        return frame


def test_an_export_holds_every_event_for_polars_and_for_duckdb(filled: Path, tmp_path: Path) -> None:
    out = tmp_path / "out it's"
    assert "14 rows, files: 4" in run(filled.parent, "export", "--to", str(out))
    frame = pl.scan_parquet(out / "events", hive_partitioning=True).collect()
    assert frame.schema["tracked_on"] == pl.Date
    texts = ("instance_id", "profile_id", "batch_key", "props", "context", "name")
    assert {name: frame.schema[name] for name in texts} == dict.fromkeys(texts, pl.String)
    with receiver.open_warehouse(filled) as opened:
        live = opened.sql(
            "SELECT tracked_on, instance_id::VARCHAR AS instance_id, profile_id::VARCHAR AS profile_id, name, "
            "context::VARCHAR AS context FROM events ORDER BY ALL"
        )
    assert frame.select(live.columns).sort(live.columns, nulls_last=True).equals(live)
    with duckdb.connect() as con:
        con.sql(f"CREATE VIEW e AS FROM read_parquet('{str(out).replace(chr(39), chr(39) * 2)}/events/**/*.parquet')")
        assert con.sql("SELECT DISTINCT tracked_on FROM e ORDER BY ALL").fetchall() == [*((d,) for d in DAYS), (None,)]
        assert con.sql("SELECT DISTINCT profile_id[9:9] FROM e").fetchall() == [("-",)]
        kinds = "SELECT DISTINCT compression FROM parquet_metadata(getvariable('files'))"
        con.execute("SET VARIABLE files = ?", [[str(path) for path in sorted(out.rglob("*.parquet"))]])
        assert con.sql(kinds).fetchall() == [("ZSTD",)]


def test_the_same_content_makes_the_same_files(filled: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        run(filled.parent, "export", "--to", str(tmp_path / name))
    one, two = (
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in ("one", "two")
    )
    assert one == two
    assert len(one) == 5


@pytest.mark.parametrize(("table", "count"), [("batches", 4), ("reports", 1)])
def test_batches_and_reports_go_by_the_day_they_came(filled: Path, tmp_path: Path, table: str, count: int) -> None:
    run(filled.parent, "export", "--to", str(tmp_path / "out"), "--table", table)
    frame = pl.scan_parquet(tmp_path / "out" / table, hive_partitioning=True).collect()
    assert frame.height == count
    assert frame["received_on"].unique().to_list() == [datetime.now(UTC).date()]
    assert pl.Binary not in frame.dtypes


def test_days_that_were_asked_for_replace_themselves_and_nothing_else(filled: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(filled.parent, "export", "--to", str(out))
    written = {path: path.stat().st_ino for path in out.rglob("*.parquet")}
    (out / "events-2026-07-20.unfinished").write_bytes(b"half")
    old = out / "events" / "tracked_on=2020-01-01"
    old.mkdir()
    (old / "part-0.parquet").write_bytes(b"of a day that is gone")
    assert "4 rows, files: 1" in run(
        filled.parent, "export", "--to", str(out), "--first-day", "2026-07-20", "--last-day", "2026-07-20"
    )
    changed = [path.parent.name for path, inode in written.items() if path.stat().st_ino != inode]
    assert changed == ["tracked_on=2026-07-20"]
    assert not list(out.glob("*.unfinished"))
    assert "that the warehouse does not hold: 1" in run(filled.parent, "export", "--to", str(out))
    assert old.exists()
    run(filled.parent, "export", "--to", str(out), "--prune")
    assert not old.exists()
    assert read_duckdb(out, "events").height == 14


@pytest.mark.usefixtures("filled")
def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    assert "is not empty and no export" in run(tmp_path, "export", "--to", str(tmp_path / "out"), code=1)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_while_a_server_has_the_warehouse_its_snapshot_is_exported(server: Running) -> None:
    server.receipt(body_of(rows(3)))
    out = server.folder / "out"
    assert "no snapshot" in run(server.folder, "export", "--to", str(out), code=1)
    assert requests.post(server.url + "/snapshot", timeout=60).status_code == 200
    server.receipt(body_of(rows(3, 3)))
    said = run(server.folder, "export", "--to", str(out))
    assert "3 rows, files: 1" in said
    assert "exporting its snapshot" in said


# -- retention -------------------------------------------------------------------------------------------------------


NOW = datetime(2026, 8, 20, 12, tzinfo=UTC)
KEPT_DAYS = 30


def store_of(
    folder: Path, now: datetime = NOW, *, event_days: int | None = None, report_days: int | None = None
) -> Store:
    """A store that keeps events and reports for so many days, with a clock."""
    places = replace(places_beside(folder / "w.duckdb"), event_days=event_days, report_days=report_days)
    store = open_store(places)
    store.clock = lambda: now
    return store


def body_of_days(*days_ago: int | None, first: int = 0) -> bytes:
    """A body with an event for each; None: of no day."""
    events = []
    for row, ago in zip(rows(len(days_ago), first), days_ago, strict=True):
        day = NEVER if ago is None else (NOW.date() - date(1970, 1, 1)).days - ago
        events.append(row._replace(tracked_at=day * 86_400_000))
    return body_of(events)


def take(store: Store, *bodies: bytes) -> list[Receipt]:
    """Bodies as they come, each added up."""
    receipts = [receipt for body in bodies for receipt in receive(store, [prepare(body)])]
    store.warehouse.roll_up()
    return receipts


def days_held(store: Store) -> list[int | None]:
    """How many days ago each event was, as of NOW."""
    found = store.warehouse.con.execute("SELECT tracked_on FROM events ORDER BY tracked_on NULLS LAST").fetchall()
    return [None if day is None else (NOW.date() - day).days for (day,) in found]


def added_up(store: Store) -> list[list[tuple[Any, ...]]]:
    """All that the rollups hold."""
    return [store.warehouse.con.execute(f"FROM {table} ORDER BY ALL").fetchall() for table in rollups.TABLES]


def test_events_go_after_their_days_and_the_sums_still_agree(tmp_path: Path) -> None:
    with store_of(tmp_path, event_days=KEPT_DAYS) as store:
        first = body_of_days(400, 31, 30, 1, None)
        take(store, first, body_of_days(31, 40, first=10), body_of_days(0, -9, first=20))
        assert tidy(store).events == 4
        assert days_held(store) == [30, 1, 0, -9, None]
        assert tidy(store).events == 0
        found = read_account(store.warehouse.con)
        assert found.adds_up, found.checks
        assert found.removed == {"retention": 4}
        (repeat,) = take(store, first)
        assert (repeat.status, repeat.events) == ("duplicate", 5)
        assert read_account(store.warehouse.con).adds_up


def test_what_is_added_up_goes_with_its_events(tmp_path: Path) -> None:
    with store_of(tmp_path, event_days=KEPT_DAYS) as store:
        take(store, body_of_days(31, 30, None), body_of_days(31, 32, first=10))
        receive(store, [prepare(body_of_days(50, 2, first=20))])  # not added up when the others go
        tidy(store)
        assert rollups.count_behind(store.warehouse.con) == 1
        store.warehouse.roll_up()
        held = added_up(store)
        assert [len(rows_held) for rows_held in held] == [3, 3, 3]
        rollups.rebuild(store.warehouse.con)
        assert added_up(store) == held


def test_a_clock_that_was_ahead_or_told_no_day_keeps_nothing_for_longer(tmp_path: Path) -> None:
    with store_of(tmp_path, event_days=KEPT_DAYS) as store:
        take(store, body_of_days(-4000, None, 0))
        store.clock = lambda: NOW + timedelta(days=KEPT_DAYS)
        assert tidy(store).events == 0
        store.clock = lambda: NOW + timedelta(days=KEPT_DAYS + 1)
        assert tidy(store).events == 3
        assert added_up(store) == [[], [], []]
        assert read_account(store.warehouse.con).adds_up


def test_reports_go_after_their_days_and_a_repeat_is_still_one(tmp_path: Path) -> None:
    with store_of(tmp_path, report_days=KEPT_DAYS, event_days=10**9 - 1) as store:
        take(store, legacy_report(**{"total-teams": 4}), body_of_days(4000))
        store.clock = lambda: NOW + timedelta(days=KEPT_DAYS + 1)
        take(store, legacy_report(**{"total-teams": 5}))
        assert tidy(store)[:2] == (0, 1)
        assert store.warehouse.con.execute("SELECT total_teams FROM reports").fetchall() == [(5,)]
        assert read_account(store.warehouse.con).adds_up


def test_a_rebuild_brings_nothing_back_for_longer_than_to_the_next_start(tmp_path: Path) -> None:
    with store_of(tmp_path, event_days=KEPT_DAYS, report_days=KEPT_DAYS) as store:
        take(store, body_of_days(31, 30, None), legacy_report(), body_of_days(31, first=5))
        store.clock = lambda: NOW + timedelta(days=KEPT_DAYS)
        tidy(store)
        before = content_digest(store.warehouse.con)
        held = days_held(store)
    rebuild(store.places)
    with store_of(tmp_path, NOW + timedelta(days=KEPT_DAYS), event_days=KEPT_DAYS, report_days=KEPT_DAYS) as store:
        assert days_held(store) != held
        tidy(store)
        assert days_held(store) == held
        assert content_digest(store.warehouse.con) == before
        assert read_account(store.warehouse.con).adds_up


def test_a_server_removes_at_its_start_what_is_too_old_and_publishes_the_rest(tmp_path: Path) -> None:
    today = (datetime.now(UTC).date() - date(1970, 1, 1)).days
    with store_of(tmp_path, datetime.now(UTC)) as store:
        events = [row._replace(tracked_at=(today - n) * 86_400_000) for n, row in enumerate(rows(5))]
        take(store, body_of(events))
    with running(tmp_path, RECEIVER_EVENT_DAYS="2") as server:
        wait_until(lambda: server.get("/status")["removed"] == {"retention": 2})
        assert requests.post(server.url + "/snapshot", timeout=60).json()["holds"]["events"] == 3
        assert count_events(tmp_path / "w.duckdb") == 3
        run(tmp_path, "check")
