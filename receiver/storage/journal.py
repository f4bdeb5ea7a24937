"""Every delivery in a file of its day, written and synced before the warehouse commits: the warehouse's own log.

A record is two zstd frames: a JSON line that says what it is, then what it carries (rows as JSON lines with dead
letters after an empty one, or nothing; in older files also `events` text). `zstdcat 2026-07-20.zst` prints a day.
Records are only ever appended, at an offset the caller can name, so the warehouse can say up to where it is complete;
what lies beyond is replayed, and half a record at the end is cut off. Nothing is destroyed: what is no record is kept
in a file of its own beside (see KEPT), named after its place, and reading goes on at the next sound record.

Nothing personal is written here: a batch is kept as its scrubbed rows, never as the bytes that were sent. Those have
too many places that no reader looks at: a key that comes twice, bytes behind the end, frames that are skipped.
"""

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, Self
from uuid import UUID

import msgspec
import zstandard

from penpot_telemetry.errors import DecodeError, TelemetryError
from penpot_telemetry.wire.limits import MIB
from receiver.storage.records import UNCOUNTED, Delivery, InUseError, Position

SUFFIX = ".zst"
NEW = ".new"
HEADER_BYTES = MIB
"""The most that a header may take when it is written; `fits` asks."""

FIRST_BYTES = 64 * 1024
"""What is read of a header at once: nearly all are shorter."""

OLD_HEADER_BYTES = 16 * MIB
"""The most that a header may take when it is read: earlier versions wrote as much as a body held."""

CARRIED_BYTES = 256 * MIB
FRAME_OVERHEAD = 1024
TORN, DAMAGED, LOST, ASIDE, ACCEPTED = ".torn", ".damaged", ".lost", ".aside", ".accepted"
KEPT = (DAMAGED, LOST, ASIDE)
"""Endings of what `check` reports: bytes that are no record, the place of bytes that are gone, and a record that could
not be replayed. An operator who has looked at one renames its ending to ACCEPTED. TORN is an interrupted write."""

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


class JournalError(TelemetryError):
    """The landfill holds bytes that are not a record, before its end. The message names the file and the offset."""


class TooLargeError(JournalError):
    """A record that the reader would not take again, so it is not written."""


class Damage(NamedTuple):
    """Bytes that are no sound record. `is_torn`: an interrupted write can have left them, at the end of the file."""

    path: Path
    start: int
    end: int
    is_torn: bool = False

    @property
    def size(self) -> int:
        """How many bytes."""
        return self.end - self.start

    def beside(self, ending: str) -> Path:
        """Where they are kept."""
        return self.path.with_name(f"{self.path.name}.{self.start}-{self.end}{ending}")


@dataclass(frozen=True, slots=True)
class Tail:
    """What was found past a position: whole records, the bytes of a torn one that were cut off, damaged places, and
    how many bytes before the position are gone.
    """

    records: list[Record]
    torn_bytes: int = 0
    damages: list[Damage] = field(default_factory=list)
    lost_bytes: int = 0


class Journal:
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

    @property
    def newest_day(self) -> date | None:
        """The day of the file that grows."""
        return self._day

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


def recover(landfill: Journal, committed: Position | None) -> Tail:
    """The whole records past `committed`, in order; past what is damaged, which is kept beside. A torn end is cut off.

    When the bytes at `committed` are no record, its whole day is read: the file may be another one than it was. The
    caller then leaves out what it knows already.
    """
    tail = Tail([])
    torn = lost = 0
    for day in list_days(landfill.folder):
        if committed is not None and day < committed.day:
            continue
        path = path_of(landfill.folder, day)
        start = committed.offset if committed is not None and day == committed.day else 0
        found = list(scan_past_damage(path, min(start, path.stat().st_size)))
        if start and found and isinstance(found[0], Damage) and not found[0].is_torn:
            found = list(scan_past_damage(path))
        for one in found:
            if isinstance(one, Record):
                tail.records.append(one)
            elif one.is_torn and day == landfill.newest_day:
                keep_beside(one, TORN)
                landfill.rewind(Position(day, one.start))
                torn = one.size
            else:
                keep_beside(one, DAMAGED)
                tail.damages.append(one)
    if committed is not None and committed.offset:
        path = path_of(landfill.folder, committed.day)
        size = path.stat().st_size if path.exists() else 0
        lost = max(0, committed.offset - size - torn)
        if lost:
            keep_beside(Damage(path, size, committed.offset), LOST)
    return Tail(tail.records, torn, tail.damages, lost)


def keep_beside(damage: Damage, ending: str) -> None:
    """A durable copy of some bytes in a file of its own, once; an empty one where they are gone."""
    target = damage.beside(ending)
    if target.exists() or damage.beside(ACCEPTED).exists():
        return
    new = new_path(target)
    with open_new(new) as copy:
        if ending != LOST:
            with damage.path.open("rb") as source:
                copy_bytes(source, copy, damage.start, damage.end)
        copy.flush()
        os.fsync(copy.fileno())
    new.replace(target)
    sync_folder(target.parent)


def set_aside(record: Record) -> None:
    """Keep a copy of a record that is not to be replayed, under the id of its delivery."""
    path = aside_path(record)
    if path.exists():
        return
    with open_new(new_path(path)) as copy, record.path.open("rb") as source:
        copy_bytes(source, copy, record.start, record.end)
        copy.flush()
        os.fsync(copy.fileno())
    new_path(path).replace(path)
    sync_folder(path.parent)


def aside_path(record: Record) -> Path:
    """Where a record is kept that is not to be replayed."""
    return record.path.with_name(f"{record.path.name}.{record.header.delivery.id}{ASIDE}")


def list_aside(folder: Path) -> set[str]:
    """The ids of the deliveries that are not to be replayed."""
    return {path.name.removesuffix(ASIDE).rsplit(".", 1)[-1] for path in folder.rglob("*" + ASIDE)}


def list_kept(folder: Path) -> list[Path]:
    """The files of damage, loss, and records set aside that nobody has accepted yet."""
    return sorted(path for path in folder.rglob("*") if path.suffix in KEPT)


def forget_kept(folder: Path) -> None:
    """Empty the files of what was kept beside: they may hold what is to be erased; their names stay."""
    for path in folder.rglob("*"):
        if path.suffix in (TORN, DAMAGED, ASIDE, ACCEPTED):
            os.truncate(path, 0)


def scan(path: Path, start: int = 0) -> Iterator[Record]:
    """The whole and sound records of one file from an offset on; stops before the first that is not."""
    with path.open("rb") as file:
        while (record := read_record(file, path, start)) is not None:
            yield record
            start = record.end


def scan_past_damage(path: Path, start: int = 0) -> Iterator[Record | Damage]:
    """Every sound record of one file from an offset on; where bytes are no record, their place, and on to the next."""
    size = path.stat().st_size
    with path.open("rb") as file:
        while start < size:
            record = read_record(file, path, start)
            if record is not None:
                yield record
                start = record.end
                continue
            resume = find_record(file, path, start + 1, size)
            yield Damage(path, start, resume, is_torn=resume == size and may_be_torn(file, start, size))
            start = resume


def read_record(file: BinaryIO, path: Path, start: int) -> Record | None:
    """The record that begins at an offset, or None when what is there is not a whole and sound one."""
    found = unpack_frame(read_header(file, start), OLD_HEADER_BYTES)
    if found is None:
        return None
    line, used = found
    try:
        header = _header.decode(line)
    except msgspec.MsgspecError:
        return None
    carried_at = start + used
    if header.carried_bytes <= 0 or header.carried_bytes > CARRIED_BYTES + FRAME_OVERHEAD + CARRIED_BYTES // 128:
        return None
    file.seek(carried_at)
    carried = file.read(header.carried_bytes)
    if len(carried) < header.carried_bytes or unpack_frame(carried, CARRIED_BYTES) is None:
        return None
    return Record(header, path, start, carried_at, carried_at + header.carried_bytes)


def read_header(file: BinaryIO, start: int) -> bytes:
    """As many bytes from an offset on as the frame of a header there can have."""
    file.seek(start)
    data = file.read(FIRST_BYTES)
    most = frame_bytes(data)
    return data if most is None or most <= len(data) else data + file.read(min(most, OLD_HEADER_BYTES) - len(data))


def frame_bytes(data: bytes) -> int | None:
    """The most that the frame at the beginning of `data` can take; None when none begins there."""
    try:
        size = zstandard.frame_content_size(data)
    except zstandard.ZstdError:
        return None
    return size + size // 128 + FRAME_OVERHEAD if size >= 0 else None


def may_be_torn(file: BinaryIO, start: int, size: int) -> bool:
    """Whether the bytes from an offset to the end are the beginning of one record, without an error in it."""
    data = read_header(file, start)
    if size - start < len(zstandard.FRAME_HEADER):
        return zstandard.FRAME_HEADER.startswith(data)
    decompressor = zstandard.ZstdDecompressor(max_window_size=8 * MIB).decompressobj()
    try:
        line = decompressor.decompress(data)
        if not decompressor.eof:
            most = frame_bytes(data)
            return data.startswith(zstandard.FRAME_HEADER) and size - start < (FRAME_OVERHEAD if most is None else most)
        header = _header.decode(line)
        carried_at = start + len(data) - len(decompressor.unused_data)
        if header.carried_bytes <= size - carried_at:
            return False
        file.seek(carried_at)
        rest = zstandard.ZstdDecompressor(max_window_size=8 * MIB).decompressobj()
        while piece := file.read(MIB):
            rest.decompress(piece)
    except (zstandard.ZstdError, msgspec.MsgspecError):
        return False
    return not rest.eof


def find_record(file: BinaryIO, path: Path, start: int, size: int) -> int:
    """The offset of the next sound record at or after `start`, or the size of the file."""
    overlap = len(zstandard.FRAME_HEADER) - 1
    while start < size:
        file.seek(start)
        piece = file.read(MIB)
        at = piece.find(zstandard.FRAME_HEADER)
        while at >= 0:
            if read_record(file, path, start + at) is not None:
                return start + at
            at = piece.find(zstandard.FRAME_HEADER, at + 1)
        start += max(1, len(piece) - overlap)
    return size


class RewriteReport(NamedTuple):
    """What a file, or several, lost: records that were changed, and bytes that were no record."""

    records: int
    damaged_bytes: int


def rewrite(
    path: Path, change: Callable[[Record], bytes | None], *, dry_run: bool = False, keep_damage: bool = False
) -> RewriteReport:
    """Put what `change` makes of each record (None: it stays as it is) in its place, and leave out what is no record,
    but for the name of its place: it may hold what is to go.

    The file is replaced in one step, by one that is durable; a file that loses nothing is not touched. What follows a
    changed record has other offsets then. A dry run only counts.
    """
    records = damaged = at = done = 0
    new: BinaryIO | None = None
    with path.open("rb") as source, ExitStack() as opened:
        for found in scan_past_damage(path):
            start, at = found.start, found.end
            replacement = change(found) if isinstance(found, Record) else None if keep_damage else b""
            if replacement is None:
                continue
            records, damaged = (records, damaged + at - start) if isinstance(found, Damage) else (records + 1, damaged)
            if dry_run:
                continue
            if isinstance(found, Damage):
                keep_beside(found, LOST)
            if new is None:
                new = opened.enter_context(open_new(new_path(path)))
            copy_bytes(source, new, done, start)
            new.write(replacement)
            done = at
        if new is not None:
            copy_bytes(source, new, done, at)
            new.flush()
            os.fsync(new.fileno())
            new_path(path).rename(path)
            sync_folder(path.parent)
    return RewriteReport(records, damaged)


def open_new(path: Path) -> BinaryIO:
    """A file of the operator's only, empty, to write."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
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


@dataclass(frozen=True, slots=True)
class Survey:
    """A whole folder as it is: damaged bytes by file, what is kept beside and not accepted, records of deliveries by
    day, and the days of which something was accepted as lost.
    """

    bad: list[tuple[str, int]]
    kept: list[Path]
    records: dict[date, int]
    accepted: set[date]


def survey(folder: Path) -> Survey:
    """Read every record of a folder. A torn end of the newest day is not damage: a server may be writing it."""
    newest = max(list_days(folder), default=None)
    bad: list[tuple[str, int]] = []
    records: dict[date, set[UUID]] = {}
    for path in sorted(folder.rglob("*" + SUFFIX)):
        day, damaged = day_of(path) or date.min, 0
        for one in scan_past_damage(path):
            if isinstance(one, Record):
                if one.header.delivery.kind not in UNCOUNTED:
                    records.setdefault(day, set()).add(one.header.delivery.id)
            elif not (one.is_torn and day == newest) and not one.beside(ACCEPTED).exists():
                damaged += one.size
        if damaged:
            bad.append((path.name, damaged))
    accepted = {named for path in folder.rglob("*" + ACCEPTED) if (named := day_of(Path(path.name.split(".")[0])))}
    return Survey(bad, list_kept(folder), {day: len(ids) for day, ids in records.items()}, accepted)


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


def read_packed(record: Record) -> bytes:
    """What a record carries, as it is written."""
    with record.path.open("rb") as file:
        file.seek(record.carried_at)
        return file.read(record.header.carried_bytes)


def pack_carried(text: str) -> bytes:
    """What a record will carry, compressed: the costly half, which needs no lock and no writer.

    Raises TooLargeError for more than a reader takes.
    """
    data = text.encode()
    if len(data) > CARRIED_BYTES:
        raise TooLargeError(f"its rows take more than {CARRIED_BYTES // MIB} MiB in the journal")
    return _compress(data)


def fits(delivery: Delivery) -> bool:
    """Whether the header of a delivery can be read again."""
    return len(msgspec.json.encode(delivery)) <= HEADER_BYTES - FRAME_OVERHEAD


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


def expire(landfill: Journal, days: int, today: date) -> list[date]:
    """Remove the files of days more than `days` days old, never the newest; says which."""
    newest = landfill.position
    old = [day for day in list_days(landfill.folder) if day < today - timedelta(days=days)]
    gone = [day for day in old if newest is not None and day != newest.day]
    for day in gone:
        path = path_of(landfill.folder, day)
        for beside in landfill.folder.glob(path.name + ".*"):
            beside.unlink()
        path.unlink()
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
