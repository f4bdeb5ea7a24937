import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import psycopg
import pytest

from penpot_telemetry import connection, embedded_postgres, pipeline
from penpot_telemetry.config import Settings
from penpot_telemetry.errors import ConfigError, DatabaseError
from penpot_telemetry.status import read_status
from tests.conftest import make_events

HOLD = """
import shutil, sys
from pathlib import Path
from penpot_telemetry import embedded_postgres
with embedded_postgres.serve(Path(sys.argv[1])) as parameters:
    print("ready", flush=True)
    remove = sys.stdin.read()
if remove:
    shutil.rmtree(sys.argv[1])
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder below /tmp that any user may pass through."""
    with tempfile.TemporaryDirectory(prefix="road-") as name:
        Path(name).chmod(0o755)
        yield Path(name) / "data"


def servers(folder: Path) -> list[int]:
    """The pids of the Postgres servers of a folder."""
    found = []
    for process in psutil.process_iter(["name", "cmdline"]):
        if process.info["name"] == "postgres" and str(folder) in " ".join(process.info["cmdline"] or ()):
            found.append(process.pid)
    return found


def holding(folder: Path) -> "subprocess.Popen[str]":
    """Another process that uses the folder's server until its stdin ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_rows_outlive_the_server_and_it_stops_with_its_user(folder: Path) -> None:
    settings = Settings(telemetry=True, audit_log=False, data_dir=folder, version="2.18.0")
    with connection.open_database(settings) as conn:
        pipeline.record_events(conn, make_events(3), settings)
        assert servers(folder)
    assert not servers(folder)
    with connection.open_database(settings) as conn:
        assert read_status(conn, settings).pending == 3
    assert not servers(folder)


def test_a_folder_that_is_removed_afterwards_stays_removed(folder: Path) -> None:
    other = holding(folder)
    other.communicate()
    shutil.rmtree(folder)
    other = holding(folder)
    assert other.stdin is not None
    other.stdin.write("remove")
    other.communicate()
    assert not folder.exists()


def test_it_listens_on_no_network(folder: Path) -> None:
    with embedded_postgres.serve(folder) as parameters, psycopg.connect(**parameters) as conn:  # type: ignore[arg-type]
        assert conn.execute("SHOW listen_addresses").fetchone() == ("",)


def test_processes_share_the_server_and_the_last_one_stops_it(folder: Path) -> None:
    other = holding(folder)
    with embedded_postgres.serve(folder) as parameters:
        other.communicate()
        assert servers(folder)
        with psycopg.connect(**parameters) as conn:  # type: ignore[arg-type]
            assert conn.execute("SELECT 1").fetchone() == (1,)
    assert not servers(folder)


def test_a_process_may_use_it_twice_at_once(folder: Path) -> None:
    with embedded_postgres.serve(folder) as outer:
        with embedded_postgres.serve(folder) as inner:
            assert inner == outer
        with psycopg.connect(**outer) as conn:  # type: ignore[arg-type]
            assert conn.execute("SELECT 1").fetchone() == (1,)
    assert not servers(folder)


def test_a_process_may_come_back_after_another_stopped_the_server(folder: Path) -> None:
    other = holding(folder)
    with embedded_postgres.serve(folder):
        pass
    other.communicate()
    assert not servers(folder)
    with embedded_postgres.serve(folder) as parameters, psycopg.connect(**parameters) as conn:  # type: ignore[arg-type]
        assert conn.execute("SELECT 1").fetchone() == (1,)


def test_what_a_killed_process_left_running_is_stopped_by_the_next(folder: Path) -> None:
    killed = holding(folder)
    killed.kill()
    killed.communicate()
    assert servers(folder)
    assert json.loads((folder / "postgres" / ".handle_pids.json").read_text()) == [killed.pid]
    with embedded_postgres.serve(folder):
        pass
    assert not servers(folder)


def test_a_server_that_was_killed_recovers(folder: Path) -> None:
    settings = Settings(telemetry=True, audit_log=False, data_dir=folder, version="2.18.0")
    other = holding(folder)
    with connection.open_database(settings) as conn:
        pipeline.record_events(conn, make_events(3), settings)
    for pid in servers(folder):
        os.kill(pid, signal.SIGKILL)
    other.kill()
    other.communicate()
    deadline = time.monotonic() + 5
    while servers(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    with connection.open_database(settings) as conn:
        assert read_status(conn, settings).pending == 3


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DatabaseError, match="PENPOT_DATABASE_URI"), embedded_postgres.serve(tmp_path / "file"):
        pass


@pytest.mark.parametrize("name", ["with blank", "it's", 'a"b', "a$b", "a;b"])
def test_a_folder_that_a_shell_would_take_apart_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="PENPOT_TELEMETRY_DATA"), embedded_postgres.serve(tmp_path / name):
        pass
    assert not (tmp_path / name).exists()


def test_a_user_without_a_name_is_told_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 54_321)  # the password file knows no such user
    with pytest.raises(ConfigError, match="user with a name"), embedded_postgres.serve(folder):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as another user")
def test_folders_above_are_opened_no_further_than_needed() -> None:
    with tempfile.TemporaryDirectory(prefix="road-") as name:
        with embedded_postgres.serve(Path(name) / "data"):
            pass
        assert stat.S_IMODE(Path(name).stat().st_mode) == 0o711
