"""The life of the data: read by others while a server writes, copied out, and removed when its time is over."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest
import requests

import receiver
from receiver.warehouse import snapshot_of
from tests.integration.receiving import Running, body_of, command, rows, running, wait_until

TOKEN = "a-token-of-sixteen"  # noqa: S105  of the tests only


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    """A receiver that publishes when it is asked."""
    with running(tmp_path, RECEIVER_SNAPSHOT_MINUTES="0") as started:
        yield started


def names(folder: Path) -> list[str]:
    """Every file of a folder that is a copy of a warehouse, or was to become one."""
    return sorted(path.name for path in folder.iterdir() if "snapshot" in path.name)


def count_events(path: Path) -> int:
    """Events of a warehouse as an analyst opens it."""
    with receiver.open_warehouse(path) as opened:
        ((events,),) = opened.sql("SELECT count(*) FROM events").rows()
    return int(events)


# -- snapshots -------------------------------------------------------------------------------------------------------


def test_an_analyst_reads_the_snapshot_while_the_server_writes(server: Running) -> None:
    warehouse = server.folder / "w.duckdb"
    server.receipt(body_of(rows(7)))
    assert command(server.folder, "snapshot").returncode == 0
    with receiver.open_warehouse(warehouse) as opened:
        assert opened.is_snapshot
        before = opened.active_profiles(threshold=1)
        assert opened.sql("SELECT count(*) FROM profile_days").rows() == [(7,)], "it was not added up"
        server.receipt(body_of(rows(5, 7)))
        assert command(server.folder, "snapshot").returncode == 0
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
    assert command(server.folder, "snapshot").returncode == 0
    made = target.stat().st_ino
    assert command(server.folder, "snapshot").returncode == 0
    assert target.stat().st_ino == made
    target.unlink()
    assert command(server.folder, "snapshot").returncode == 0
    assert count_events(server.folder / "w.duckdb") == 3


def test_a_snapshot_can_be_taken_without_a_server_and_to_another_place(tmp_path: Path) -> None:
    other = tmp_path / "else where" / "it's a copy.duckdb"
    other.parent.mkdir()
    with running(tmp_path, RECEIVER_SNAPSHOT_MINUTES="0") as server:
        server.receipt(body_of(rows(3)))
        said = command(tmp_path, "snapshot", "--to", str(other))
        assert said.returncode == 0, said.stderr
        assert count_events(other) == 3
        server.receipt(body_of(rows(3, 3)))
        server.kill()
    said = command(tmp_path, "snapshot", "--to", str(other))
    assert said.returncode == 0, said.stderr
    assert "6 events" in said.stdout
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
            assert made["mark"]["events"] == held
            assert held % 20 == 0, "half a batch"
    assert server.stop() == 0
    assert command(server.folder, "check").returncode == 0


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
        assert "wants its token" in command(tmp_path, "snapshot").stderr
        assert names(tmp_path) == []
