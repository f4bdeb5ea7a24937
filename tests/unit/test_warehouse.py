"""The file itself: what is refused before a row is written, and for how long bodies are kept beside it."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import duckdb
import pytest

from penpot_telemetry.errors import DatabaseError
from receiver.storage import schema
from receiver.storage.dead_letters import BLOCK, Quarantine
from receiver.storage.warehouse import Warehouse

NOW = datetime(2026, 7, 21, 12, tzinfo=UTC)


def test_a_warehouse_of_a_newer_receiver_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    Warehouse(path).close()
    with duckdb.connect(str(path)) as con:
        con.execute("UPDATE meta SET value = ? WHERE key = 'schema-version'", [str(schema.VERSION + 1)])
    with pytest.raises(DatabaseError, match=f"newer receiver .*{schema.VERSION + 1}.*: upgrade"):
        Warehouse(path)
    with duckdb.connect(str(path)) as con:
        assert con.execute("SELECT value FROM meta").fetchall() == [(str(schema.VERSION + 1),)]


def test_another_database_and_another_file_are_refused(tmp_path: Path) -> None:
    other, text = tmp_path / "other.duckdb", tmp_path / "text"
    with duckdb.connect(str(other)) as con:
        con.execute("CREATE TABLE mine (a INT)")
    text.write_text("no database " * 2000)
    with pytest.raises(DatabaseError, match="not a warehouse"):
        Warehouse(other)
    with pytest.raises(DatabaseError, match="cannot be opened"):
        Warehouse(text)


def test_closing_a_warehouse_ends_a_question_that_would_take_for_ever(tmp_path: Path) -> None:
    opened = Warehouse(tmp_path / "w.duckdb")
    begun = threading.Event()

    def ask() -> None:
        with opened.reader() as con:
            begun.set()
            con.execute("SELECT count(*) FROM range(10_000_000_000) AS a, range(1000) AS b").fetchall()

    with ThreadPoolExecutor(1) as readers:
        asked = readers.submit(ask)
        assert begun.wait(20)
        opened.close()
        with pytest.raises(duckdb.InterruptException):
            asked.result(20)
    with pytest.raises(duckdb.ConnectionException), opened.reader():
        pass
    here = Path("/proc/self/fd")
    assert not [
        one for one in here.iterdir() if str(one.readlink() if one.is_symlink() else "").startswith(str(tmp_path))
    ]


def test_bodies_are_kept_within_a_budget_and_for_some_days(tmp_path: Path) -> None:
    some, another, third = (UUID(int=number) for number in range(3))
    aside = Quarantine(tmp_path / "quarantine", 2 * BLOCK, lambda _: ())
    assert aside.expire(14, NOW) == []
    assert aside.keep("old", b"12345", some) == "old"
    assert aside.keep("new", b"x" * BLOCK, another) == "new"
    assert aside.keep("one too many", b"1", third) is None
    assert aside.find_shortage(1, third) == "all"
    assert {path.stat().st_mode & 0o777 for path in aside.folder.iterdir()} == {0o600}
    for name, days in (("old", 15), ("new", 13)):
        when = (NOW - timedelta(days=days)).timestamp()
        os.utime(aside.folder / name, (when, when))
    aside = Quarantine(aside.folder, aside.budget, lambda _: ())
    assert aside.keep("one too many after a new start", b"1", third) is None
    assert aside.expire(14, NOW) == ["old"]
    assert [path.name for path in aside.folder.iterdir()] == ["new"]
    assert aside.keep("another", b"1", some) == "another"


COLUMNS = "SELECT table_name, column_name, data_type, is_nullable FROM duckdb_columns() ORDER BY ALL"


@pytest.mark.parametrize("version", range(1, schema.VERSION + 1))
def test_a_warehouse_of_an_older_receiver_gets_the_tables_of_today(tmp_path: Path, version: int) -> None:
    old, new = tmp_path / "old.duckdb", tmp_path / "new.duckdb"
    with duckdb.connect(str(old)) as con:
        schema.upgrade(con, to=version)
    with Warehouse(old) as upgraded, Warehouse(new) as fresh:
        assert upgraded.con.execute(COLUMNS).fetchall() == fresh.con.execute(COLUMNS).fetchall()
        assert upgraded.con.execute("SELECT value FROM meta").fetchall() == [(str(schema.VERSION),)]
