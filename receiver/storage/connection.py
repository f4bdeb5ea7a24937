"""Connections to a warehouse file, their transactions, and its version."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from penpot_telemetry.errors import DatabaseError
from receiver.storage import rollups, schema
from receiver.storage.paths import wal_of
from receiver.storage.records import InUseError

if TYPE_CHECKING:
    import polars as pl


CHECKPOINT_AT = "256MB"
"""Of WAL. Checkpoints cost 18 ms a batch of 10,000 rows at the default of 16 MB, 13 at 64 and 6 here; the start after
a kill reads this much again, within a second."""


DATA_ERRORS = (duckdb.DataError, duckdb.IntegrityError, duckdb.NotSupportedError, duckdb.InvalidInputException)
"""What DuckDB raises when the rows are at fault, not the disk: the same rows would fail again."""


def connect(path: Path, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    """A connection that loads no extension and speaks UTC. Raises DatabaseError with what to do."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    try:
        con = duckdb.connect(str(path), read_only=read_only, config=config)
        con.execute("SET TimeZone = 'UTC'")
        con.execute(f"SET checkpoint_threshold = '{CHECKPOINT_AT}'")
    except duckdb.IOException as error:
        if "lock" in str(error).lower():
            raise InUseError(f"{path} is in use by another process: a warehouse has one writer") from None
        if path.is_dir() or wal_of(path).is_dir():
            raise DatabaseError(f"{path} or {wal_of(path)} is a folder: a file belongs there, move it away") from None
        if path.exists() and os.access(path, os.R_OK | os.W_OK) and path.stat().st_size:
            raise DatabaseError(f"{path} cannot be opened ({type(error).__name__}): {remedy(path)}") from None
        raise DatabaseError(f"{path} cannot be opened: is its folder there, and may it be written?") from None
    except duckdb.Error as error:
        raise DatabaseError(f"{path} cannot be opened ({type(error).__name__}): {remedy(path)}") from None
    return con


def remedy(path: Path) -> str:
    """What to do about a warehouse that DuckDB will not read."""
    again = "run `python -m receiver rebuild`, which makes it anew from the landfill and keeps the old file"
    wal = wal_of(path)
    if wal.exists():
        return f"it or its log is damaged. Move {wal} away and start again, the landfill has what is in it; or {again}"
    return f"it is damaged, or no warehouse: {again}"


TABLES = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'main' AND table_type = 'BASE TABLE'"


VERSION = "SELECT value FROM meta WHERE key = 'schema-version'"


def prepare(con: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Give a file the tables of today, be it empty or older, and bring its rollups up to date.

    Raises DatabaseError for a file that is no warehouse or of a newer receiver.
    """
    version = 0 if one(con, TABLES) == (0,) else read_version(con, path)
    with transaction(con):
        if version < schema.VERSION:
            schema.upgrade(con, version)
        rollups.create(con)
        rollups.catch_up(con)


def read_version(con: duckdb.DuckDBPyConnection, path: Path) -> int:
    """The schema version of a file. Raises DatabaseError when it is no warehouse, or a newer one."""
    try:
        (version,) = one(con, VERSION)
    except duckdb.CatalogException:
        raise DatabaseError(f"{path} is a DuckDB file, but not a warehouse: choose another with --warehouse") from None
    if int(str(version)) > schema.VERSION:
        raise DatabaseError(
            f"{path} was written by a newer receiver (schema version {version}, this one reads {schema.VERSION}): "
            "upgrade this receiver"
        )
    return int(str(version))


def check_version(con: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Refuse to read a file whose tables are not those of today. Raises DatabaseError."""
    version = read_version(con, path)
    if version < schema.VERSION:
        raise DatabaseError(
            f"{path} is of an older receiver (schema version {version}, this one reads {schema.VERSION}): "
            "start this receiver on it once, which brings it up to date"
        )


@contextmanager
def transaction(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Commit at the end, or roll back and let the error pass."""
    con.begin()
    try:
        yield
        con.commit()
    except BaseException:
        roll_back(con)
        raise


def roll_back(con: duckdb.DuckDBPyConnection) -> None:
    """Roll back what may be open; a connection past saving says nothing more here."""
    with suppress(duckdb.Error):
        con.rollback()


@contextmanager
def registered(con: duckdb.DuckDBPyConnection, name: str, frame: pl.DataFrame) -> Iterator[None]:
    """A frame as a view of the connection, for one statement."""
    con.register(name, frame.to_arrow())
    try:
        yield
    finally:
        with suppress(duckdb.Error):  # in an aborted transaction nothing but a rollback works, and that forgets it too
            con.unregister(name)


def one(con: duckdb.DuckDBPyConnection, sql: str, parameters: list[object] | None = None) -> tuple[Any, ...]:
    """The single row of a query."""
    (row,) = con.execute(sql, parameters).fetchall()
    return row


def utc(instant: datetime) -> datetime:
    """An instant as a TIMESTAMP column holds it: UTC, without saying so."""
    return instant.astimezone(UTC).replace(tzinfo=None)
