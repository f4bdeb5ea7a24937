"""The files of earlier versions, which others on the machine could read: made the operator's only."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path

from receiver.storage.paths import DataPaths, snapshot_of

OTHERS = 0o077


def make_private(places: DataPaths) -> int:
    """Take all files and folders of a receiver from its group and from others; returns how many had been open.

    One that belongs to another user stays as it is.
    """
    made = 0
    for path in list_files(places):
        with suppress(FileNotFoundError, PermissionError):
            mode = path.lstat().st_mode
            if mode & OTHERS and not path.is_symlink():
                path.chmod(mode & 0o7777 & ~OTHERS)
                made += 1
    return made


def list_files(places: DataPaths) -> Iterator[Path]:
    """The warehouse, its log, its copies and its tombstones; the journal and the quarantine with their folders."""
    for database in (places.warehouse, snapshot_of(places.warehouse)):
        yield from (path for path in database.parent.glob(database.name + "*") if path.is_file())
    yield places.tombstones
    for folder in (places.landfill, places.quarantine):
        yield from chain([folder], folder.rglob("*"))
