"""The DuckDB file: deliveries in, one transaction each or several together; a batch known again by its key.

One process and one thread write. Functions take a connection and the caller owns the transaction; `Warehouse` owns the
connection and the row numbers. An error message of DuckDB may quote a value, so it is never passed on: only its type.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import duckdb

from penpot_telemetry.errors import DatabaseError
from receiver.storage import rollups
from receiver.storage.connection import connect, one, prepare, remedy, transaction, utc
from receiver.storage.paths import wal_of
from receiver.storage.readers import Readers
from receiver.storage.records import InUseError, Position


@dataclass(slots=True)
class Numbers:
    """The last row number of each table, and the last instant of receipt: the writer counts on from these."""

    batch: int
    report: int
    quarantine: int
    delivery: int
    dead_letter: int
    received_at: datetime


class Warehouse:
    """The open warehouse of one writer: creates an empty one, refuses one of a newer schema or one in use."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.con = connect(path)
        self._readers = Readers(self.con)
        try:
            prepare(self.con, path)
            self.numbers = read_numbers(self.con)
        except duckdb.Error as error:
            self.con.close()
            raise DatabaseError(f"{path} cannot be read ({type(error).__name__}): {remedy(path)}") from None
        except BaseException:
            self.con.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write everything into the one file and let go of it."""
        self._readers.end()
        with suppress(duckdb.Error):  # what is not added up now is at the next start
            self.roll_up()
        self.con.close()

    def roll_up(self) -> None:
        """Bring the rollups up to the last batch, in a transaction of its own."""
        with transaction(self.con):
            rollups.catch_up(self.con)

    def reader(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """A connection of its own for one reading thread, as long as the block lasts."""
        return self._readers.read()


NUMBERS = """
SELECT (SELECT coalesce(max(batch_no), 0) FROM batches),
       (SELECT coalesce(max(report_no), 0) FROM reports),
       (SELECT coalesce(max(quarantine_no), 0) FROM quarantine),
       (SELECT coalesce(max(delivery_no), 0) FROM deliveries),
       (SELECT coalesce(max(dead_letter_no), 0) FROM dead_letters),
       coalesce(greatest((SELECT max(received_at) FROM deliveries), (SELECT max(since) FROM instance_keys),
                         (SELECT max(value)::TIMESTAMP FROM meta WHERE key = 'erased-at')), 'epoch'::TIMESTAMP)
"""


def read_numbers(con: duckdb.DuckDBPyConnection) -> Numbers:
    """Where counting stopped."""
    batch, report, quarantine, delivery, dead_letter, received_at = one(con, NUMBERS)
    return Numbers(batch, report, quarantine, delivery, dead_letter, received_at.replace(tzinfo=UTC))


COMMITTED = """
SELECT landfill_day, landfill_end FROM deliveries
UNION ALL
SELECT split_part(value, ' ', 1)::DATE, split_part(value, ' ', 2)::BIGINT FROM meta WHERE key = 'landfill-floor'
ORDER BY landfill_day DESC, landfill_end DESC
LIMIT 1
"""


def committed_position(con: duckdb.DuckDBPyConnection) -> Position | None:
    """How far into the landfill this warehouse is complete; None before the first delivery."""
    rows = con.execute(COMMITTED).fetchall()
    return Position(*rows[0]) if rows else None


SET_FLOOR = "INSERT OR REPLACE INTO meta VALUES ('landfill-floor', ?)"


def set_floor(con: duckdb.DuckDBPyConnection, position: Position | None) -> None:
    """Say that all before a position is in here, wherever it was read from."""
    if position is not None:
        con.execute(SET_FLOOR, [f"{position.day} {position.offset}"])


FORGET_POSITIONS = "UPDATE deliveries SET landfill_day = DATE '0001-01-01', landfill_end = 0"


def reset_positions(con: duckdb.DuckDBPyConnection, end: Position | None) -> None:
    """All of a landfill whose records moved is in here; `end` is where it ends now."""
    con.execute(FORGET_POSITIONS)
    con.execute("DELETE FROM meta WHERE key = 'landfill-floor'")
    set_floor(con, end)


SET_ERASED = "INSERT OR REPLACE INTO meta VALUES ('erased-at', ?)"


def set_erased(con: duckdb.DuckDBPyConnection, at: datetime | None) -> None:
    """Say that nothing is in here that was erased up to an instant. Whatever is received later is stamped later."""
    if at is not None:
        con.execute(SET_ERASED, [utc(at).isoformat(" ")])


def erased_until(con: duckdb.DuckDBPyConnection) -> datetime | None:
    """The instant of the last erasure that this warehouse went through."""
    rows = con.execute("SELECT value::TIMESTAMP FROM meta WHERE key = 'erased-at'").fetchall()
    return rows[0][0].replace(tzinfo=UTC) if rows else None


FORGOTTEN_HERE = "(SELECT key FROM batches UNION ALL SELECT key FROM reports UNION ALL SELECT key FROM forgotten)"

MISSING = f"""
SELECT (SELECT count(*) FROM before.batches ANTI JOIN {FORGOTTEN_HERE} USING (key))
     + (SELECT count(*) FROM before.reports ANTI JOIN {FORGOTTEN_HERE} USING (key))
"""  # noqa: S608  a constant of ours
MISSING_FORGOTTEN = f"SELECT count(*) FROM before.forgotten ANTI JOIN {FORGOTTEN_HERE} USING (key)"  # noqa: S608  likewise


def count_missing(con: duckdb.DuckDBPyConnection, other: Path) -> int | None:
    """How many batches and reports of another warehouse are not in this one; None when it cannot be read."""
    if not other.exists():
        return None if wal_of(other).exists() else 0
    path = str(other).replace("'", "''")
    try:
        con.execute(f"ATTACH '{path}' AS before (READ_ONLY)")
    except duckdb.IOException as error:
        if "lock" in str(error).lower():
            raise InUseError(f"{other} is in use by another process: a warehouse has one writer") from None
        return None
    except duckdb.Error:
        return None
    try:
        missing = int(one(con, MISSING)[0])
        with suppress(duckdb.CatalogException):  # an older file remembers nothing that is gone
            missing += int(one(con, MISSING_FORGOTTEN)[0])
        return missing
    except duckdb.Error:
        return None
    finally:
        with suppress(duckdb.Error):
            con.execute("DETACH before")


def forget_bodies(con: duckdb.DuckDBPyConnection, names: Sequence[str]) -> None:
    """Note that these quarantined bodies are no longer kept."""
    if names:
        con.execute("UPDATE quarantine SET body = NULL WHERE list_contains(?, body)", [list(names)])


SUPERSEDED_BODIES = """
SELECT body FROM quarantine SEMI JOIN superseded USING (instance_id, batch_id) WHERE body IS NOT NULL ORDER BY body
"""


def take_superseded_bodies(con: duckdb.DuckDBPyConnection) -> list[str]:
    """The kept bodies of batches that came in parts; from now on they count as no longer kept."""
    bodies = [body for (body,) in con.execute(SUPERSEDED_BODIES).fetchall()]
    forget_bodies(con, bodies)
    return bodies
