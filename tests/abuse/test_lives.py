"""No room, and a lock that another process holds; and the comparison itself, which must see what is wrong."""

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from penpot_telemetry.wire.limits import MIB
from tests.abuse.lives import drown, held_by_another, small_disk
from tests.abuse.load import abused, compare, compare_answers, honest_senders
from tests.integration.receiving import running, wait_until


def test_a_full_disk_is_answered_503_until_there_is_room(tmp_path: Path) -> None:
    disk, ballast = tmp_path / "disk", tmp_path / "disk" / "ballast"
    with small_disk(disk, 24 * MIB) as is_small:
        if not is_small:
            pytest.skip("may not mount a tmpfs here: `files may not grow` is the same with a limit of the process")
        with abused(disk) as ground:
            drown(ground, ballast)
    assert ground.book.problems == []
    assert ground.book.refusals[503] > 0


def test_a_warehouse_that_another_process_has_open_is_not_served(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    line = [sys.executable, "-m", "receiver", "--warehouse", str(path), "--port", "0"]
    with held_by_another(path):
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{path} is in use" in done.stderr
    assert "Traceback" not in done.stderr
    with running(tmp_path) as receiver:
        assert receiver.get("/readyz") == {"status": "ready"}


def test_a_batch_that_is_gone_and_one_that_is_there_twice_are_found(tmp_path: Path) -> None:
    with abused(tmp_path) as ground, honest_senders(ground):
        wait_until(lambda: len(ground.book.taken) > 5, 60)
    assert ground.book.problems == []
    gone, doubled, changed = (str(parcel.batch_id) for parcel in ground.book.taken[:3])
    with duckdb.connect(str(tmp_path / "w.duckdb")) as con:
        con.execute("DELETE FROM events WHERE batch_no = (SELECT batch_no FROM batches WHERE batch_id = ?)", [changed])
        con.execute("DELETE FROM batches WHERE batch_id = ?", [gone])
        con.execute("INSERT INTO batches SELECT * REPLACE (uuid() AS key) FROM batches WHERE batch_id = ?", [doubled])
    compare(ground)
    assert ground.book.problems[:3] == [
        "1 batches are there twice",
        "1 acknowledged batches are missing",
        "1 batches have another digest or number of events",
    ]
    assert any("THE SUMS DO NOT AGREE" in problem for problem in ground.book.problems)
    ground.book.problems.clear()
    ground.answers["quarantined not-json"] += 1
    compare_answers(ground)
    assert len(ground.book.problems) > 0
