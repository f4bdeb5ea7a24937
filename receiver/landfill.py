"""Every delivery in a file of its day, written and synced before the warehouse commits: the warehouse's own log.

A record is two zstd frames: a JSON line that says what it is, then what it carries (`events` text, rows as JSON lines,
or nothing). `zstdcat 2026-07-20.zst` prints a day. Records are only ever appended, at an offset the caller can name, so
the warehouse can say up to where it is complete; what lies beyond is replayed, and half a record at the end is cut off.

Nothing personal is written here: a batch that carried more than the safe keys is kept as its scrubbed rows, never as
the bytes that were sent.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Literal, NamedTuple, Self
from uuid import UUID

import msgspec
import zstandard

from penpot_telemetry.errors import DecodeError, TelemetryError
from penpot_telemetry.wire.limits import MIB

SUFFIX = ".zst"
HEADER_BYTES = 64 * 1024
CARRIED_BYTES = 256 * MIB
LEVEL = 1  # the events text is base64 of zstd: a higher level costs time and gains nothing


class Totals(msgspec.Struct, frozen=True, rename="kebab"):
    """The sender's account, as in the POST body."""

    recorded: int
    shipped: int
    dropped: int
    quarantined: int
    pending: int


class Header(msgspec.Struct, frozen=True, rename="kebab", omit_defaults=True):
    """What one delivery was and what became of it. Enough, with what is carried, to build its rows again.

    `carried_bytes` is the size of the second zstd frame. `delivery_id` is random: the same record in two files is one.
    """

    delivery_id: UUID
    received_at: datetime
    kind: Literal["batch", "report", "unreadable"]
    outcome: Literal["loaded", "duplicate", "quarantined"]
    carried: Literal["events", "rows", "nothing"]
    carried_bytes: int
    digest: str
    instance_id: UUID | None = None
    version: str = ""
    batch_id: UUID | None = None
    batch_seq: int | None = None
    totals: Totals | None = None
    dropped_context_keys: int = 0
    unknown_keys: int = 0
    overlap_events: int | None = None
    stats: dict[str, int | float | str] | None = None
    dropped_stats: int = 0
    reason: str = ""
    message: str = ""
    size: int = 0
    body: str | None = None


class Position(NamedTuple):
    """A place between two records: a file by its day, and an offset in it. Positions grow as records are appended."""

    day: date
    offset: int


class Record(NamedTuple):
    """One record as found: its header, the file it is in, where its second frame begins, and where it ends."""

    header: Header
    path: Path
    carried_at: int
    end: int


class LandfillError(TelemetryError):
    """The landfill holds bytes that are not a record, before its end. The message names the file and the offset."""


@dataclass(frozen=True, slots=True)
class Tail:
    """What was found past a position: whole records, and the bytes of a torn one that were cut off."""

    records: list[Record]
    torn_bytes: int


class Landfill:
    """The open landfill of one writer. Only the file of the newest day grows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        days = list_days(folder)
        self._day: date | None = None
        self._fd = -1
        self._end = 0
        if days:
            self._open(days[-1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def position(self) -> Position | None:
        """Just after the last record, or None before the first."""
        return None if self._day is None else Position(self._day, self._end)

    def append(self, record: bytes, received_at: datetime) -> Position:
        """Write one record after the last; it is durable after `sync`. A failed write leaves the end where it was."""
        day = received_at.astimezone(UTC).date()
        if self._day is None or day > self._day:
            self._open(day)
        write_all(self._fd, record, self._end)
        self._end += len(record)
        assert self._day is not None
        return Position(self._day, self._end)

    def sync(self) -> None:
        """Make what was appended survive a power cut."""
        os.fdatasync(self._fd)

    def truncate(self, position: Position) -> None:
        """Forget what was appended after `position`, which must lie in the newest file."""
        if position.day != self._day or position.offset > self._end:
            raise LandfillError(f"cannot go back to {position.day} {position.offset}: the end is {self.position}")
        os.ftruncate(self._fd, position.offset)
        os.fdatasync(self._fd)
        self._end = position.offset

    def close(self) -> None:
        """Close the file; the landfill stays complete."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self, day: date) -> None:
        path = path_of(self.folder, day)
        is_new = not path.exists()
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if is_new:
            sync_folder(self.folder)
        self.close()
        self._day, self._fd, self._end = day, fd, os.fstat(fd).st_size


def recover(landfill: Landfill, committed: Position | None) -> Tail:
    """The whole records past `committed`, in order; a torn end of the newest file is cut off.

    Raises LandfillError when a record is damaged and others follow it: that is no interrupted write.
    """
    records: list[Record] = []
    torn = 0
    newest = landfill.position
    for day in list_days(landfill.folder):
        start = 0
        if committed is not None:
            if day < committed.day:
                continue
            start = committed.offset if day == committed.day else 0
        path = path_of(landfill.folder, day)
        end = start
        for record in scan(path, start):
            records.append(record)
            end = record.end
        left = path.stat().st_size - end
        if left > 0:
            if newest is None or day != newest.day:
                raise LandfillError(f"{path}: {left} bytes from offset {end} on are not a record")
            landfill.truncate(Position(day, end))
            torn = left
    return Tail(records, torn)


def scan(path: Path, start: int = 0) -> Iterator[Record]:
    """The whole and sound records of one file from an offset on; stops before the first that is not."""
    with path.open("rb") as file:
        while True:
            file.seek(start)
            found = unpack_frame(file.read(HEADER_BYTES), HEADER_BYTES)
            if found is None:
                return
            line, used = found
            try:
                header = _header.decode(line)
            except msgspec.MsgspecError:
                return
            carried_at = start + used
            file.seek(carried_at)
            carried = file.read(header.carried_bytes)
            if len(carried) < header.carried_bytes or unpack_frame(carried, CARRIED_BYTES) is None:
                return
            start = carried_at + header.carried_bytes
            yield Record(header, path, carried_at, start)


def read_carried(record: Record) -> str:
    """What a record carries, as text. Raises DecodeError when it is damaged."""
    with record.path.open("rb") as file:
        file.seek(record.carried_at)
        found = unpack_frame(file.read(record.header.carried_bytes), CARRIED_BYTES)
    if found is None:
        raise DecodeError(f"{record.path}: the record that ends at {record.end} is damaged", reason="bad-blob")
    return found[0].decode()


def pack_carried(text: str) -> bytes:
    """What a record will carry, compressed: the costly half, which needs no lock and no writer."""
    return _compress(text.encode())


def pack_record(header: Header, carried: bytes) -> bytes:
    """One record, ready to append. `header.carried_bytes` must be the size of `carried`."""
    return _compress(msgspec.json.encode(header) + b"\n") + carried


def list_days(folder: Path) -> list[date]:
    """The days that have a file, oldest first."""
    return sorted(day for path in folder.glob("*" + SUFFIX) if (day := day_of(path)) is not None)


def path_of(folder: Path, day: date) -> Path:
    """The file of a day."""
    return folder / (day.isoformat() + SUFFIX)


def day_of(path: Path) -> date | None:
    """The day a file is for, or None for a file that is not one of a day."""
    try:
        return date.fromisoformat(path.name.removesuffix(SUFFIX))
    except ValueError:
        return None


def expire(landfill: Landfill, days: int, today: date) -> list[date]:
    """Remove the files of days more than `days` days old, never the newest; says which."""
    newest = landfill.position
    old = [day for day in list_days(landfill.folder) if day < today - timedelta(days=days)]
    gone = [day for day in old if newest is not None and day != newest.day]
    for day in gone:
        path_of(landfill.folder, day).unlink()
    return gone


def write_all(fd: int, data: bytes, offset: int) -> None:
    """`os.pwrite` until all is written."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written


def sync_folder(folder: Path) -> None:
    """Make a new name in a folder survive a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def unpack_frame(data: bytes, most: int) -> tuple[bytes, int] | None:
    """The first zstd frame of `data`: its content and its length; None when it is not whole, or sound, or small enough."""
    try:
        size = zstandard.frame_content_size(data)
        if not 0 <= size <= most:
            return None
        reader = zstandard.ZstdDecompressor(max_window_size=8 * MIB).decompressobj()
        content = reader.decompress(data)
    except zstandard.ZstdError:
        return None
    return (content, len(data) - len(reader.unused_data)) if reader.eof else None


def _compress(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=LEVEL, write_checksum=True, write_content_size=True).compress(data)


_header = msgspec.json.Decoder(Header)
