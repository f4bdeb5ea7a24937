"""What a record may be, what becomes of one that ends starts, and receipts of a clock that was wrong."""

import json
import shutil
import stat
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import pytest

from receiver.storage import journal
from receiver.storage.records import Delivery
from tests.integration.receiving import command, penpots_body, running
from tests.storage.children import BATCHES, NOW
from tests.storage.conftest import Do

HOURS_IN_70_YEARS = 24 * 365 * 70


@pytest.fixture
def folder(tmp_path: Path) -> str:
    home = tmp_path / "home"
    home.mkdir()
    return str(home)


def report(**stats: object) -> str:
    """A legacy report, written by hand."""
    return json.dumps(
        {"type": "telemetry-legacy-report", "version": "2.1", "instance-id": str(UUID(int=3)), "stats": stats}
    )


def lose_warehouse(folder: str) -> None:
    for path in Path(folder).glob("w.duckdb*"):
        path.unlink()


def test_a_report_of_many_figures_is_answered_and_read_back(do: Do, folder: str) -> None:
    long = report(**{f"total-{number:04}-{'x' * 40}": number for number in range(2_500)})
    assert do("receive_bodies", folder=folder, bodies=[long, "nothing"], hours=0)["said"][0][0] == "accepted"
    lose_warehouse(folder)
    assert do("receive_bodies", folder=folder, bodies=[long, "nothing"], hours=1)["said"] == [
        ["duplicate", None],
        ["quarantined", "not-json"],
    ]
    assert do("survey", folder=folder)["faults"] == []


def test_a_report_that_the_reader_of_the_journal_would_not_take_is_refused_and_not_written(do: Do, folder: str) -> None:
    long = report(**{f"total-{number:06}-{'x' * 50}": number for number in range(17_000)})
    assert do("receive_bodies", folder=folder, bodies=[long], hours=0)["said"] == [["quarantined", "too-large"]]
    (path,) = Path(folder).glob("w.landfill/*.zst")
    assert path.stat().st_size < 2_000
    assert do("survey", folder=folder)["faults"] == []


def test_a_header_of_an_earlier_version_is_read_however_long(tmp_path: Path) -> None:
    stats: dict[str, Any] = {f"total-{number}": number for number in range(100_000)}
    long = Delivery(UUID(int=1), NOW, "report", "loaded", UUID(int=2), "", stats=stats)
    path = tmp_path / "2026-07-20.zst"
    path.write_bytes(2 * journal.pack_record(long, "nothing", journal.NOTHING))
    assert not journal.fits(long)
    assert len(list(journal.scan(path))) == 2


def test_a_record_that_ends_starts_is_set_aside_and_the_others_are_loaded(do: Do, folder: str) -> None:
    do("fill", folder=folder, first=0, count=3, day=0)
    do("append_only", folder=folder, first=BATCHES, count=3)
    deadly = BATCHES + 2
    deaths = 0
    while "died" in (found := do("die_in_replay", folder=folder, events=deadly)):
        deaths += 1
        assert deaths <= 2
    assert deaths == 2
    assert sorted(map(int, found["events"])) == [0, 1, 2, BATCHES, BATCHES + 2]
    (aside,) = journal.list_kept(Path(folder))
    assert found["faults"] == [f"kept beside: {aside.name}"]
    assert "events" in do("die_in_replay", folder=folder, events=deadly)
    aside.unlink()
    assert len(do("rebuild", folder=folder)["events"]) == 6


def test_a_kill_from_outside_in_a_replay_sets_nothing_aside(do: Do, folder: str) -> None:
    do("fill", folder=folder, first=0, count=3, day=0)
    do("append_only", folder=folder, first=BATCHES, count=1)
    assert "died" in do("die_in_replay", folder=folder, events=BATCHES + 1)
    assert len(do("survey", folder=folder)["events"]) == 4


def test_what_was_accepted_as_lost_is_no_longer_reported(do: Do, folder: str) -> None:
    do("fill", folder=folder, first=0, count=3, day=0)
    (path,) = Path(folder).glob("w.landfill/*.zst")
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    assert len(do("survey", folder=folder)["faults"]) == 2
    lose_warehouse(folder)
    assert any("kept beside" in fault for fault in do("survey", folder=folder)["faults"])
    (kept,) = journal.list_kept(Path(folder))
    kept.rename(kept.with_suffix(journal.ACCEPTED))
    found = do("survey", folder=folder)
    assert (found["faults"], found["adds_up"]) == ([], True)


def test_a_receipt_of_the_far_future_stops_the_next_until_the_clock_is_mended(do: Do, folder: str) -> None:
    do("fill", folder=folder, first=0, count=3, day=0)
    do("receive_bodies", folder=folder, bodies=[report(**{"total-users": 1})], hours=HOURS_IN_70_YEARS)
    refused = do("receive_bodies", folder=folder, bodies=["x"], hours=2)
    assert "the clock says" in refused["error"]
    assert "mend-clock" in refused["error"]
    before = do("survey", folder=folder)["events"]
    said = command(Path(folder), "mend-clock")
    assert (said.returncode, said.stdout.split()[0]) == (0, "1")
    found = do("survey", folder=folder, resend=[0, 1])
    assert (found["events"], found["again"], found["faults"]) == (before, ["duplicate", "duplicate"], [])
    today = date.today()
    assert all(day <= today for day in journal.list_days(Path(folder) / "w.landfill"))
    assert command(Path(folder), "mend-clock").stdout.split()[0] == "0"


def test_warehouse_log_and_snapshot_are_the_operators_only(tmp_path: Path) -> None:
    open_to_others = [tmp_path / "r" / name for name in ("w.quarantine", "w.quarantine/0.body", "w.duckdb")]
    open_to_others[0].mkdir(parents=True)
    open_to_others[1].write_bytes(b"of an earlier version")
    with duckdb.connect(str(open_to_others[2])):
        pass
    for path, mode in zip(open_to_others, (0o755, 0o644, 0o640), strict=True):
        path.chmod(mode)
    with running(tmp_path / "r") as receiver:
        assert '"files": 3' in next(line for line in receiver.log.splitlines() if "made private" in line)
        assert [stat.S_IMODE(path.stat().st_mode) for path in open_to_others] == [0o700, 0o600, 0o600]
        receiver.receipt(penpots_body())
        assert command(receiver.folder, "snapshot").returncode == 0
        files = [path for path in receiver.folder.rglob("*") if path.is_file() and path.name != "log"]
        assert {"w.duckdb", "w.duckdb.wal", "w.snapshot.duckdb"} <= {path.name for path in files}
        assert [path.name for path in files if stat.S_IMODE(path.stat().st_mode) & 0o077] == []


def test_an_unreadable_warehouse_is_kept_when_another_is_made(do: Do, folder: str) -> None:
    do("fill", folder=folder, first=0, count=3, day=0)
    old = Path(folder) / "w.duckdb"
    old.write_bytes(b"not a database" * 1000)
    assert "rebuild" in do("survey", folder=folder)["error"]
    assert len(do("rebuild", folder=folder)["events"]) == 3
    assert (Path(folder) / "w.duckdb.unreadable-1").read_bytes().startswith(b"not a database")


def test_a_shorter_journal_is_reported_and_written_on(do: Do, folder: str) -> None:
    do("fill", folder=folder, first=0, count=3, day=0)
    shutil.copytree(Path(folder) / "w.landfill", Path(folder) / "older")
    do("fill", folder=folder, first=3, count=3, day=0)
    shutil.rmtree(Path(folder) / "w.landfill")
    (Path(folder) / "older").rename(Path(folder) / "w.landfill")
    found = do("survey", folder=folder, resend=[6])
    assert (len(found["events"]), found["adds_up"]) == (7, True)
    assert any(".lost" in fault for fault in found["faults"])
