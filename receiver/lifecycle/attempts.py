"""Which records a start is replaying, noted durably before it does: a record that ends starts is found by that.

The note lies beside the warehouse and is gone once a replay is over. Records that were under way when a process ended
are replayed one by one by the next start; one that was under way at two such ends is set aside.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from uuid import UUID

import msgspec

from receiver.storage.journal import open_new, sync_folder

MOST_ENDS = 2
"""Starts that may end at one record. A kill from outside looks the same, so one end proves nothing."""


class Note(msgspec.Struct, frozen=True, rename="kebab"):
    """The deliveries of the records that are under way, and how many starts ended at them before this one."""

    ids: list[UUID]
    ends: int = 0


@dataclass(frozen=True, slots=True)
class Attempts:
    """The note of one warehouse, and what the one before said: by delivery, how many starts ended there."""

    path: Path
    ends: dict[UUID, int]

    @classmethod
    def read(cls, warehouse: Path) -> Self:
        """What the note says that an earlier start left; nothing when there is none."""
        path = note_path(warehouse)
        try:
            note = msgspec.json.decode(path.read_bytes(), type=Note)
        except (FileNotFoundError, msgspec.MsgspecError):
            note = Note([])
        return cls(path, dict.fromkeys(note.ids, note.ends + 1))

    def is_suspect(self, delivery_id: UUID) -> bool:
        """Whether a start ended while this one was under way, perhaps among others."""
        return delivery_id in self.ends

    def is_too_often(self, delivery_id: UUID) -> bool:
        """Whether so many starts ended at it that it is not tried again."""
        return self.ends.get(delivery_id, 0) >= MOST_ENDS

    @contextmanager
    def noted(self, ids: Sequence[UUID]) -> Iterator[None]:
        """Note durably what the block replays. The note stays until the next one, or `clear`."""
        note = Note(list(ids), max((self.ends.get(one, 0) for one in ids), default=0))
        new = self.path.with_name(self.path.name + ".new")
        with open_new(new) as file:
            file.write(msgspec.json.encode(note))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)
        sync_folder(self.path.parent)
        yield

    def clear(self) -> None:
        """Nothing is under way."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


def note_path(warehouse: Path) -> Path:
    """Where the note of a warehouse lies."""
    return warehouse.with_name(warehouse.name + ".replaying")
