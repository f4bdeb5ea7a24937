"""A copy of the warehouse for readers, put in its place in one step, so that they read while the server writes.

The file and its log are copied as they are between two transactions: for so long the writer is held, and for nothing
else. Then the copy is opened as after a crash, added up and checked in: a reader opens the one before or the new one,
both whole.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import duckdb
import msgspec

from penpot_telemetry.errors import DatabaseError
from penpot_telemetry.wire.limits import MIB
from receiver.copies import copier
from receiver.storage import connection, database_files, journal, paths
from receiver.storage.warehouse import Warehouse

UNFINISHED = ".unfinished"


class SnapshotError(DatabaseError):
    """No copy could be made; the one before, if any, is as it was."""


class Mark(msgspec.Struct, frozen=True, rename="kebab"):
    """What changes with whatever arrives and whatever is removed: the last delivery, and what is there."""

    last_delivery: int = 0
    events: int = 0
    reports: int = 0


class Snapshot(msgspec.Struct, frozen=True, rename="kebab"):
    """What a copy holds, its bytes, and the newest receipt in it (UTC; None when nothing was ever received)."""

    holds: Mark
    bytes: int
    fresh_at: datetime | None


def publish(source: Path, target: Path, held: AbstractContextManager[None] | None = None) -> Snapshot:
    """Copy a warehouse to `target`, in the place of what is there. Raises SnapshotError.

    Nobody may write to `source` inside `held`; without one, nobody writes to it at all.
    """
    with in_one_step(target) as unfinished:
        require_room(source, unfinished.parent)
        copy_files(source, unfinished, held or nullcontext())
        try:
            with Warehouse(unfinished) as copied:
                mark = read_mark(copied.con)
                (fresh_at,) = connection.one(copied.con, "SELECT max(received_at) FROM deliveries")
        except duckdb.Error as error:
            raise SnapshotError(f"{target} cannot be written now: {type(error).__name__}") from error
    return Snapshot(mark, target.stat().st_size, fresh_at and fresh_at.replace(tzinfo=UTC))


def copy_snapshot(source: Path, target: Path) -> None:
    """A published snapshot once more, under another name. Raises SnapshotError."""
    with in_one_step(target) as unfinished:
        shutil.copyfile(source, unfinished)


@contextmanager
def in_one_step(target: Path) -> Iterator[Path]:
    """A name beside `target` to write under; at the end of the block it is synced and becomes `target`.

    Raises SnapshotError when the disk does not take it.
    """
    unfinished = target.with_name(f"{target.name}.{uuid4().hex}{UNFINISHED}")
    try:
        yield unfinished
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.rename(target)
        journal.sync_folder(target.parent)
    except OSError as error:
        raise SnapshotError(f"{target} cannot be written: {error.strerror}") from error
    finally:
        database_files.remove_database(unfinished)


def remove_unfinished(target: Path) -> int:
    """Remove what a crash has left of copies to `target`, and say how many files. For one who is alone here."""
    left = [
        path for path in target.parent.iterdir() if path.name.startswith(target.name + ".") and UNFINISHED in path.name
    ]
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)


def require_room(source: Path, folder: Path) -> None:
    """Leave at least as much of the disk free as the copy takes: the batches to come go first."""
    size = sum(part.stat().st_size for part in (source, paths.wal_of(source)) if part.exists())
    free = shutil.disk_usage(folder).free
    if free < 2 * size:
        raise SnapshotError(
            f"{folder} has {free // MIB} MiB free, too little for a snapshot: it takes up to {size // MIB} MiB, "
            "and as much must stay free"
        )


def copy_files(source: Path, target: Path, held: AbstractContextManager[None]) -> None:
    """The file and its log, as they are inside `held`, by a process that waits for it and that ends with it."""
    with subprocess.Popen(  # noqa: S603  our own file, no shell
        [sys.executable, "-I", "-S", copier.__file__, str(source), str(target)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            if process.stdout is not None and process.stdout.readline() == "ready\n":
                with held:
                    said, _ = process.communicate("go\n")
                if said == "copied\n":
                    return
                raise SnapshotError(f"{source} cannot be copied: {said.strip() or 'the copy was cut off'}")
        finally:
            process.kill()
    raise SnapshotError(f"{source} cannot be copied: no process could be started")


MARK = """
SELECT coalesce(max(delivery_no), 0), (SELECT count(*) FROM events), (SELECT count(*) FROM reports) FROM deliveries
"""


def read_mark(con: duckdb.DuckDBPyConnection) -> Mark:
    """The mark of what is there now."""
    return Mark(*connection.one(con, MARK))
