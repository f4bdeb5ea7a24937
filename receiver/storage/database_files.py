"""DuckDB files as wholes: one in the place of another in one step, or kept under another name."""

import os
import shutil
from contextlib import closing
from pathlib import Path

from receiver.storage.connection import connect, one
from receiver.storage.journal import sync_folder
from receiver.storage.paths import wal_of


def keep_unreadable(path: Path) -> Path | None:
    """Give a file that cannot be read, and its log, a name that is free; returns it. None when there is nothing."""
    if not path.exists() and not wal_of(path).exists():
        return None
    number = 1
    while (kept := path.with_name(f"{path.name}.unreadable-{number}")).exists() or wal_of(kept).exists():
        number += 1
    if wal_of(path).exists():
        wal_of(path).rename(wal_of(kept))
    if path.exists():
        path.rename(kept)
    sync_folder(path.parent)
    return kept


def list_unreadable(path: Path) -> list[Path]:
    """The files that were kept under other names, without their logs."""
    return sorted(
        {one.with_name(one.name.removesuffix(".wal")) for one in path.parent.glob(path.name + ".unreadable-*")}
    )


def remove_database(path: Path) -> None:
    """A DuckDB file, its log and what it spilled, if they are there."""
    path.unlink(missing_ok=True)
    wal_of(path).unlink(missing_ok=True)
    shutil.rmtree(path.with_name(path.name + ".tmp"), ignore_errors=True)


def write_anew(path: Path) -> None:
    """Write the file without the free blocks that deleted rows leave behind, where their bytes would stay readable."""
    new = path.with_name(path.name + ".new")
    remove_database(new)
    quoted = str(new).replace("'", "''")
    with closing(connect(path)) as con:
        con.execute("CHECKPOINT")
        con.execute(f"ATTACH '{quoted}' AS anew")
        con.execute(f'COPY FROM DATABASE "{one(con, "SELECT current_database()")[0]}" TO anew')
        con.execute("DETACH anew")
    replace_database(path, new)


def replace_database(path: Path, new: Path) -> None:
    """Put a closed database in the place of another that is closed, in one step."""
    with new.open("rb") as file:
        os.fsync(file.fileno())
    wal_of(path).unlink(missing_ok=True)
    new.rename(path)
    sync_folder(path.parent)
