"""The order of an erasure: tombstones first, then quarantine, journal, warehouse, copies; a start finishes it."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from msgspec import structs

from penpot_telemetry.errors import DatabaseError
from receiver.copies import snapshot
from receiver.lifecycle import redaction
from receiver.reports import account
from receiver.storage import connection, database_files, journal, paths, tombstones, warehouse
from receiver.storage.paths import DataPaths
from receiver.storage.store import Store
from receiver.storage.tombstones import Erasure
from receiver.storage.warehouse import Warehouse


def begin_erasure(store: Store, scope: tombstones.Scope, wanted: Sequence[UUID]) -> int:
    """Count what is to go, and write the tombstones; returns the number of the first receipt.

    Nothing is changed until the tombstones are durable; from there on a start finishes what is cut off.
    """
    places, con = store.places, store.warehouse.con
    stones = tombstones.read(places.tombstones)
    at = store.next_instant()
    first = len(stones.erasures) + 1
    asked = [
        Erasure(number, scope, tombstones.hash_id(stones.hash_key, scope, one), at, {"counted-in-receipt": first})
        for number, one in enumerate(wanted, first)
    ]
    erased = tombstones.index(stones, asked)
    redaction.mark_doomed(con, erased)
    bodies = redaction.pick_bodies(con, places.quarantine, erased)
    purged = redaction.purge(places.landfill, replace(erased, bodies=frozenset(bodies)), con, dry_run=True)
    rows = redaction.count_rows(con, erased, at)
    removed = {
        "events": rows.events,
        "dead-letters": rows.dead_letters,
        "batches": rows.batches,
        "batches-shortened": rows.shortened_batches,
        "reports": rows.reports,
        "quarantine": rows.quarantine,
        "quarantine-bodies": len(bodies),
        "landfill-records": purged.records,
        "landfill-damaged-bytes": purged.damaged_bytes,
    }
    tombstones.write(
        places.tombstones,
        structs.replace(
            stones,
            erasures=[*stones.erasures, structs.replace(asked[0], removed=removed), *asked[1:]],
            bodies=sorted({*stones.bodies, *bodies}),
        ),
    )
    return first


def finish_erasures(places: DataPaths) -> list[Erasure]:
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
            redaction.purge(places.landfill, erased, opened.con)
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


def check_erased(opened: Warehouse, places: DataPaths) -> None:
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
