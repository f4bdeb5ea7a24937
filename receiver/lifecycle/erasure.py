"""The order of an erasure that has its tombstones: quarantine, journal, warehouse, copies; a start finishes it."""

from datetime import UTC, datetime
from pathlib import Path

import duckdb
from msgspec import structs

from penpot_telemetry.errors import DatabaseError, DecodeError
from receiver.copies import snapshot
from receiver.lifecycle import redaction
from receiver.lifecycle.recovery import read_events
from receiver.reports import account
from receiver.storage import connection, database_files, journal, paths, tombstones, warehouse
from receiver.storage.journal import Record, Rewritten
from receiver.storage.paths import Places
from receiver.storage.tombstones import Erased, Erasure
from receiver.storage.warehouse import Warehouse


def finish_erasures(places: Places) -> list[Erasure]:
    """Carry out the erasures that have a tombstone and no receipt, which may have begun; returns the receipts.

    Nothing is received between the two. So the warehouse holds all that the landfill does, and where its records
    move, the account of positions begins anew. The warehouse goes last, in one transaction: what it holds until then
    says what is to go.
    """
    stones = tombstones.read(places.tombstones)
    if not stones.unfinished:
        return []
    at = max(one.erased_at for one in stones.unfinished)
    erased = tombstones.index(stones, stones.unfinished)
    with journal.locked(places.landfill):
        with Warehouse(places.warehouse) as opened:
            redaction.mark_doomed(opened.con, erased)
            redaction.remove_bodies(places.quarantine, stones.bodies)
            purge(places.landfill, erased, opened.con)
            with connection.transaction(opened.con):
                redaction.erase_rows(opened.con, erased, at)
                warehouse.forget_bodies(opened.con, stones.bodies)
                warehouse.reset_positions(opened.con, journal.end_of(places.landfill))
                warehouse.set_erased(opened.con, at)
            content_digest = account.content_digest(opened.con)
        database_files.write_anew(places.warehouse)
        journal.forget_kept(places.landfill)
        unreadable = database_files.list_unreadable(places.warehouse)
        for left_over in (paths.snapshot_of(places.warehouse), places.rebuilding, *unreadable):
            database_files.remove_database(left_over)
        snapshot.remove_unfinished(paths.snapshot_of(places.warehouse))
        now = datetime.now(UTC)
        receipts = [one.finish(now, content_digest) for one in stones.unfinished]
        done = [one for one in stones.erasures if one.finished_at is not None]
        tombstones.write(places.tombstones, structs.replace(stones, erasures=[*done, *receipts]))
    return receipts


def purge(
    folder: Path, erased: Erased, con: duckdb.DuckDBPyConnection | None = None, *, dry_run: bool = False
) -> Rewritten:
    """Write every file of the landfill anew that holds something erased, however it is called; returns what went.

    With a connection, records of batches that it knows to be free of it are not opened, and one that cannot be read
    raises DecodeError; without, such a record stays, and a replay counts it.
    """
    if not (erased.instances or erased.profiles):
        return Rewritten(0, 0)
    untouched = () if con is None else redaction.find_untouched(con)

    def change(record: Record) -> bytes | None:
        try:
            return redaction.redact(record, erased, read_events, untouched)
        except DecodeError:
            if con is None:
                return None
            raise

    for cut_off in folder.rglob("*" + journal.SUFFIX + journal.NEW):
        cut_off.unlink()
    files = sorted(folder.rglob("*" + journal.SUFFIX))
    lost = [journal.rewrite(path, change, dry_run=dry_run) for path in files]
    return Rewritten(sum(one.records for one in lost), sum(one.damaged_bytes for one in lost))


def check_erased(opened: Warehouse, places: Places) -> None:
    """Refuse a warehouse from before an erasure: it holds what was erased. Raises DatabaseError."""
    latest, until = tombstones.read(places.tombstones).latest, warehouse.erased_until(opened.con)
    if latest is None or (until is not None and until >= latest):
        return
    if opened.numbers.delivery:
        raise DatabaseError(
            f"{places.warehouse} is a copy from before an erasure and holds what was erased: "
            "run `python -m receiver rebuild`, which makes it anew without"
        )
    warehouse.set_erased(opened.con, latest)
