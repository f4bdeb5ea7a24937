"""Every delivery in a file of its day, written and synced before the warehouse commits: the warehouse's own log.

A record is two zstd frames: a JSON line that says what it is, then what it carries (rows as JSON lines with dead
letters after an empty one, or nothing; in older files also `events` text). `zstdcat 2026-07-20.zst` prints a day.
Records are only ever appended, at an offset the caller can name, so the warehouse can say up to where it is complete;
what lies beyond is replayed, and half a record at the end is cut off.

Nothing personal is written here: a batch is kept as its scrubbed rows, never as the bytes that were sent. Those have
too many places that no reader looks at: a key that comes twice, bytes behind the end, frames that are skipped.
"""

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, Self
from uuid import UUID

import msgspec
import zstandard

from penpot_telemetry.errors import DecodeError, TelemetryError
from penpot_telemetry.wire.limits import MIB
from receiver.delivery import Delivery, InUseError, Position

SUFFIX = ".zst"
NEW = ".new"
HEADER_BYTES = 64 * 1024
CARRIED_BYTES = 256 * MIB
LEVEL = 1  # the events text is base64 of zstd: a higher level costs time and gains nothing


Carried = Literal["events", "rows", "nothing"]


class Header(msgspec.Struct, frozen=True, rename="kebab"):
    """The first frame of a record: the delivery, what the second frame carries, and the size of that frame."""

    carried: Carried
    carried_bytes: int
    delivery: Delivery


class Record(NamedTuple):
    """One record as found: its header, its file, where it begins, where its second frame does, and where it ends."""

    header: Header
    path: Path
    start: int
    carried_at: int
    end: int

    @property
    def day(self) -> date:
        """The day of its file; the first of all days for a file that is not named by one."""
        return day_of(self.path) or date.min


class Entry(NamedTuple):
    """One record in an index: sorts by time of receipt."""

    received_at: datetime
    delivery_id: UUID
    path: Path
    start: int


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
        self._lock = take_lock(folder)
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
        today = received_at.astimezone(UTC).date()
        day = today if self._day is None else max(self._day, today)
        if day != self._day:
            self._open(day)
        write_all(self._fd, record, self._end)
        self._end += len(record)
        return Position(day, self._end)

    def sync(self) -> None:
        """Make what was appended survive a power cut."""
        os.fdatasync(self._fd)

    def rewind(self, position: Position | None) -> None:
        """Forget what was appended after `position`, an earlier end of this landfill."""
        offset = position.offset if position is not None and position.day == self._day else 0
        if self._day is not None and offset <= self._end:
            os.ftruncate(self._fd, offset)
            os.fdatasync(self._fd)
            self._end = offset

    def close(self) -> None:
        """Close the file and let others write; the landfill stays complete."""
        self._close_file()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _close_file(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self, day: date) -> None:
        path = path_of(self.folder, day)
        is_new = not path.exists()
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if is_new:
            sync_folder(self.folder)
        self._close_file()
        self._day, self._fd, self._end = day, fd, os.fstat(fd).st_size


def take_lock(folder: Path) -> int:
    """A descriptor that holds the folder until it is closed, by whatever end of the process. Raises InUseError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise InUseError(f"{folder} is in use by another receiver: a landfill has one writer") from None
    return fd


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The folder for oneself, without writing to it."""
    fd = take_lock(folder)
    try:
        yield
    finally:
        os.close(fd)


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
            landfill.rewind(Position(day, end))
            torn = left
    return Tail(records, torn)


def scan(path: Path, start: int = 0) -> Iterator[Record]:
    """The whole and sound records of one file from an offset on; stops before the first that is not."""
    with path.open("rb") as file:
        while (record := read_record(file, path, start)) is not None:
            yield record
            start = record.end


def scan_past_damage(path: Path) -> Iterator[Record | int]:
    """Every sound record of one file; where bytes are no record, their number instead, and on to the next that is."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = 0
        while start < size:
            record = read_record(file, path, start)
            if record is not None:
                yield record
                start = record.end
                continue
            resume = find_record(file, path, start + 1, size)
            yield resume - start
            start = resume


def read_record(file: BinaryIO, path: Path, start: int) -> Record | None:
    """The record that begins at an offset, or None when what is there is not a whole and sound one."""
    file.seek(start)
    found = unpack_frame(file.read(HEADER_BYTES), HEADER_BYTES)
    if found is None:
        return None
    line, used = found
    try:
        header = _header.decode(line)
    except msgspec.MsgspecError:
        return None
    carried_at = start + used
    file.seek(carried_at)
    carried = file.read(header.carried_bytes)
    if len(carried) < header.carried_bytes or unpack_frame(carried, CARRIED_BYTES) is None:
        return None
    return Record(header, path, start, carried_at, carried_at + header.carried_bytes)


def find_record(file: BinaryIO, path: Path, start: int, size: int) -> int:
    """The offset of the next sound record at or after `start`, or the size of the file."""
    file.seek(start)
    rest = file.read()
    at = rest.find(zstandard.FRAME_HEADER)
    while at >= 0 and read_record(file, path, start + at) is None:
        at = rest.find(zstandard.FRAME_HEADER, at + 1)
    return size if at < 0 else start + at


class Rewritten(NamedTuple):
    """What a file, or several, lost: records that were changed, and bytes that were no record."""

    records: int
    damaged_bytes: int


def rewrite(path: Path, change: Callable[[Record], bytes | None], *, dry_run: bool = False) -> Rewritten:
    """Put what `change` makes of each record (None: it stays as it is) in its place, and leave out what is no record.

    The file is replaced in one step, by one that is durable; a file that loses nothing is not touched. What follows a
    changed record has other offsets then. A dry run only counts.
    """
    records = damaged = at = done = 0
    new: BinaryIO | None = None
    with path.open("rb") as source, ExitStack() as opened:
        for found in scan_past_damage(path):
            start, at = (at, at + found) if isinstance(found, int) else (found.start, found.end)
            replacement = b"" if isinstance(found, int) else change(found)
            if replacement is None:
                continue
            records, damaged = (records, damaged + found) if isinstance(found, int) else (records + 1, damaged)
            if dry_run:
                continue
            if new is None:
                new = opened.enter_context(open_anew(path))
            copy_bytes(source, new, done, start)
            new.write(replacement)
            done = at
        if new is not None:
            copy_bytes(source, new, done, at)
            new.flush()
            os.fsync(new.fileno())
            new_path(path).rename(path)
            sync_folder(path.parent)
    return Rewritten(records, damaged)


def open_anew(path: Path) -> BinaryIO:
    """A file that will take the place of another, to write."""
    fd = os.open(new_path(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    return os.fdopen(fd, "wb")


def new_path(path: Path) -> Path:
    """Where a file is written that will take the place of another; no record is ever looked for there."""
    return path.with_name(path.name + NEW)


def copy_bytes(source: BinaryIO, target: BinaryIO, start: int, end: int) -> None:
    """The bytes from one offset to another."""
    source.seek(start)
    while start < end:
        piece = source.read(min(end - start, MIB))
        target.write(piece)
        start += len(piece)


def read_index(index: Iterable[Entry]) -> Iterator[Record]:
    """The records of an index, in its order."""
    for entry in index:
        with entry.path.open("rb") as file:
            record = read_record(file, entry.path, entry.start)
        if record is not None:
            yield record


def end_of(folder: Path) -> Position | None:
    """Just after the last sound record of the newest day, or None when no file is named by a day."""
    days = list_days(folder)
    if not days:
        return None
    found = [record.end for record in scan_past_damage(path_of(folder, days[-1])) if isinstance(record, Record)]
    return Position(days[-1], max(found, default=0))


def read_carried(record: Record) -> str:
    """What a record carries, as text. Raises DecodeError when it is damaged."""
    with record.path.open("rb") as file:
        file.seek(record.carried_at)
        found = unpack_frame(file.read(record.header.carried_bytes), CARRIED_BYTES)
    if found is None:
        raise DecodeError(f"{record.path}: the record that ends at {record.end} is damaged", reason="bad-blob")
    return found[0].decode()


def carried_size(record: Record) -> int:
    """The bytes that a record carries, as its frame declares them; nothing is inflated."""
    with record.path.open("rb") as file:
        file.seek(record.carried_at)
        return max(0, zstandard.frame_content_size(file.read(18)))


def pack_carried(text: str) -> bytes:
    """What a record will carry, compressed: the costly half, which needs no lock and no writer."""
    return _compress(text.encode())


def pack_record(delivery: Delivery, carried: Carried, packed: bytes) -> bytes:
    """One record, ready to append."""
    return _compress(msgspec.json.encode(Header(carried, len(packed), delivery)) + b"\n") + packed


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
    """The first zstd frame of `data`: its content and length; None when torn, damaged or larger than `most`."""
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

NOTHING = pack_carried("")
