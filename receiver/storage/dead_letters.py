"""Bodies that can never be loaded, each in a file of its own beside the landfill; readable by the operator only.

What cannot be parsed cannot be scrubbed, so these bytes are the one thing here that may hold what the anonymiser
removes: mode 0600, gone after some days, and never more of them than a budget, of which one sender has a share.
"""

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal
from uuid import UUID

from receiver.storage.journal import sync_folder

BLOCK = 4096
"""What a file of one byte takes of the budget: a budget of bodies is one of disk, and of names in a folder."""


OWNERS = 8
"""So many fill the quarantine: each has an eighth, and one body whatever its size."""

Shortage = Literal["all", "instance", "others"]
"""What is full: the whole quarantine, the share of an instance, or the one of all that nothing was loaded of."""


class Quarantine:
    """The folder of one writer, within a budget, of which an owner has a share. See `receiver.storage.shares`.

    What it holds is counted once, when it is opened. `list_sizes` says what the bodies of an owner take.
    """

    def __init__(self, folder: Path, budget: int, list_sizes: Callable[[UUID | None], Iterable[int]]) -> None:
        self.folder = folder
        self.budget = budget
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.held = measure(folder)
        self._list_sizes = list_sizes
        self._held_by: dict[UUID | None, int] = {}

    def find_shortage(self, size: int, owner: UUID | None) -> Shortage | None:
        """What is too full for a body of `size` bytes now."""
        if self.held + room(size) > self.budget:
            return "all"
        held = self._read_share(owner)
        if held and held + room(size) > self.budget // OWNERS:
            return "others" if owner is None else "instance"
        return None

    def _read_share(self, owner: UUID | None) -> int:
        if owner not in self._held_by:
            self._held_by[owner] = sum(map(room, self._list_sizes(owner)))
        return self._held_by[owner]

    def keep(self, name: str, body: bytes, owner: UUID | None) -> str | None:
        """Write a body durably under `name` and return the name; None when there is no room for it."""
        path = self.folder / name
        before = room(path.stat().st_size) if path.exists() else 0  # of a transaction that did not come to its end
        if not before and self.find_shortage(len(body), owner) is not None:
            return None
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            path.unlink(missing_ok=True)
            raise
        sync_folder(self.folder)
        self.held += room(len(body)) - before
        self._held_by[owner] = self._read_share(owner) + room(len(body)) - before
        return name

    def expire(self, days: int, now: datetime) -> list[str]:
        """Remove the bodies written more than `days` days ago; says which, by name."""
        limit = (now - timedelta(days=days)).timestamp()
        gone = [path.name for path in sorted(self.folder.iterdir()) if path.stat().st_mtime < limit]
        self.remove(gone)
        return gone

    def read(self, name: str) -> bytes:
        """The bytes of a body, as they came. Raises FileNotFoundError when it is no longer there."""
        return (self.folder / name).read_bytes()

    def remove(self, names: Iterable[str]) -> None:
        """Remove bodies for good, those that are still there."""
        for path in (self.folder / name for name in names):
            with suppress(FileNotFoundError):
                size = path.stat().st_size
                path.unlink()
                self.held -= room(size)
        sync_folder(self.folder)
        self._held_by.clear()  # whose they were the tables know


def measure(folder: Path) -> int:
    """What all that a folder holds takes of the budget; 0 for one that is not there."""
    return sum(room(path.stat().st_size) for path in folder.iterdir()) if folder.exists() else 0


def room(size: int) -> int:
    """What a body takes of the budget: whole blocks."""
    return max(1, -(-size // BLOCK)) * BLOCK
