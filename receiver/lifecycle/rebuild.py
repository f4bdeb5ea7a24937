"""A new warehouse from everything in the journal, in the old one's place."""

from bisect import bisect_right
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from uuid import UUID

from msgspec import structs

from penpot_telemetry.errors import DatabaseError
from receiver.lifecycle import redaction
from receiver.lifecycle.recovery import replay
from receiver.lifecycle.redaction import purge
from receiver.storage import database_files, journal, lookups, tombstones, warehouse
from receiver.storage.journal import Entry, Record
from receiver.storage.paths import DataPaths
from receiver.storage.store import TICK, RecoveryReport
from receiver.storage.tombstones import Erasure, Tombstones
from receiver.storage.warehouse import Warehouse


def rebuild(places: DataPaths, *, allow_loss: bool = False) -> RecoveryReport:
    """A new warehouse from everything in the landfill folder, however the files are called, in the old one's place.

    Records are sorted by the time of receipt and each is taken once, so neither order nor copies matter. Raises
    DatabaseError, and leaves the old warehouse as it was, when that one is in use or holds what the landfill does not.
    An old warehouse that cannot be read is kept under another name.
    """
    new = places.rebuilding
    database_files.remove_database(new)
    with journal.locked(places.landfill):
        stones = tombstones.read(places.tombstones)
        redaction.remove_bodies(places.quarantine, stones.bodies)
        purged = purge(places.landfill, tombstones.index(stones, stones.erasures))
        index, repeated, damaged = index_landfill(places.landfill)
        with Warehouse(new) as built:
            aside = journal.list_aside(places.landfill)
            kept = [entry for entry in index if str(entry.delivery_id) in aside]
            tried = [entry for entry in index if str(entry.delivery_id) not in aside]
            unloadable = len(kept) + replay(built, journal.read_index(tried))
            missing = warehouse.count_missing(built.con, places.warehouse)
            lost = [name for name in lookups.list_bodies(built.con) if not (places.quarantine / name).exists()]
            warehouse.forget_bodies(built.con, lost)
            warehouse.set_floor(built.con, journal.end_of(places.landfill))
            warehouse.set_erased(built.con, stones.latest)
        if missing and not allow_loss:
            database_files.remove_database(new)
            raise DatabaseError(
                f"{places.warehouse} holds {missing} batches and reports that the landfill does not: "
                "nothing was changed; rebuild with --allow-loss to go on without them"
            )
        old = database_files.keep_unreadable(places.warehouse) if missing is None else None
        database_files.replace_database(places.warehouse, new)
    damaged += purged.damaged_bytes
    return RecoveryReport(len(index), 0, repeated, damaged, unloadable, kept_warehouse=old)


def index_landfill(folder: Path) -> tuple[list[Entry], int, int]:
    """Every record of a folder once, by time of receipt; how many were repeats; how many bytes were no record."""
    entries: dict[UUID, Entry] = {}
    repeated = damaged = 0
    for path in sorted(folder.rglob("*" + journal.SUFFIX)):
        for found in journal.scan_past_damage(path):
            if not isinstance(found, Record):
                journal.keep_beside(found, journal.TORN if found.is_torn else journal.DAMAGED)
                damaged += found.size
            elif found.header.delivery.id in entries:
                repeated += 1
            else:
                delivery = found.header.delivery
                entries[delivery.id] = Entry(delivery.received_at, delivery.id, path, found.start)
    return sorted(entries.values()), repeated, damaged


def mend_clock(places: DataPaths, now: datetime) -> int:
    """Stamp the receipts that lie ahead of the clock with `now`, in their order, and make the warehouse anew of that.

    Returns how many they were. Cut off at any point, the same call again finishes it. A file that is named by a day to
    come gets another name, under which a rebuild finds it. Erasures of the future are stamped first, each between the
    same receipts as before. Raises DatabaseError as `rebuild` does, and while an erasure is not finished.
    """
    with journal.locked(places.landfill):
        stones = tombstones.read(places.tombstones)
        if stones.unfinished:
            raise DatabaseError("an erasure is not finished: start the server once, which does it, then mend the clock")
        index, _, _ = index_landfill(places.landfill)
        ahead = [entry for entry in index if entry.received_at > now]
        last = max((entry.received_at for entry in index if entry.received_at <= now), default=now)
        first = max(last + TICK, now - len(ahead) * TICK)
        if stones.latest is not None and stones.latest > now:
            tombstones.write(places.tombstones, restamp(stones, [entry.received_at for entry in ahead], first, now))
        stamps = {entry.delivery_id: first + number * TICK for number, entry in enumerate(ahead)}

        def change(record: Record) -> bytes | None:
            delivery = record.header.delivery
            if delivery.id not in stamps:
                return None
            stamped = structs.replace(delivery, received_at=stamps[delivery.id])
            return journal.pack_record(stamped, record.header.carried, journal.read_packed(record))

        for path in sorted({entry.path for entry in ahead}):
            journal.rewrite(path, change, keep_damage=True)
        for day in journal.list_days(places.landfill):
            if day > now.date():
                path = journal.path_of(places.landfill, day)
                path.rename(path.with_name("ahead-" + path.name))
        journal.sync_folder(places.landfill)
    rebuild(places)
    return len(ahead)


def restamp(stones: Tombstones, ahead: Sequence[datetime], first: datetime, now: datetime) -> Tombstones:
    """The tombstones with a time of now for each erasure of the future, when the receipts `ahead` begin at `first`.

    Of what was received, each concerns what it did: the receipts up to it, and none behind it.
    """

    def stamp(one: Erasure) -> Erasure:
        if one.erased_at <= now:
            return one
        stamped = structs.replace(one, erased_at=first + (bisect_right(ahead, one.erased_at) - 1) * TICK)
        return stamped.finish(min(now, one.finished_at or now), one.content_digest)

    return structs.replace(stones, erasures=[stamp(one) for one in stones.erasures])
