"""No room, no lock, SIGTERM, kill -9: what was acknowledged is there, and the receiver is back by itself."""

import subprocess
import sys
from pathlib import Path

import pytest

from penpot_telemetry.wire.limits import MIB
from tests.abuse.lives import (
    UNLIMITED,
    fill,
    held_by_another,
    kill,
    largest_file,
    limit_files,
    run_out,
    small_disk,
    terminate,
)
from tests.abuse.load import abused
from tests.integration.receiving import running


def test_a_full_disk_is_answered_503_until_there_is_room(tmp_path: Path) -> None:
    disk, ballast = tmp_path / "disk", tmp_path / "disk" / "ballast"
    with small_disk(disk, 24 * MIB) as is_small:
        if not is_small:
            pytest.skip("may not mount a tmpfs here: the limit on file sizes below is the same test")
        with abused(disk) as ground:
            run_out(ground, 1.0, lambda: fill(ballast), ballast.unlink)
    assert ground.book.problems == []


def test_files_that_may_not_grow_are_answered_503_until_they_may(tmp_path: Path) -> None:
    with abused(tmp_path) as ground:
        run_out(
            ground,
            1.0,
            lambda: limit_files(ground, largest_file(ground) + 100),
            lambda: limit_files(ground, UNLIMITED),
        )
    assert ground.book.problems == []


def test_a_warehouse_that_another_process_has_open_is_not_served(tmp_path: Path) -> None:
    with running(tmp_path) as receiver:
        receiver.stop()
    path = tmp_path / "w.duckdb"
    line = [sys.executable, "-m", "receiver", "--warehouse", str(path), "--port", "0"]
    with held_by_another(path):
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{path} is in use" in done.stderr
    assert "Traceback" not in done.stderr
    with running(tmp_path) as receiver:
        assert receiver.get("/readyz") == {"status": "ready"}


def test_sigterm_under_load_finishes_what_was_accepted(tmp_path: Path) -> None:
    with abused(tmp_path, RECEIVER_SHUTDOWN_SECONDS="2") as ground:
        took = terminate(ground)
        ground.restart()
    assert ground.book.problems == []
    assert took < 15
    assert len(ground.book.taken) > 20


def test_kill_9_under_load_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    with abused(tmp_path) as ground:
        for _ in range(3):
            kill(ground)
    assert ground.book.problems == []
    assert ground.book.unanswered
