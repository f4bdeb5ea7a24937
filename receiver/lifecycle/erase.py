"""What an operator wants erased: counted first, then written down as tombstones, then carried out."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from msgspec import structs

from receiver.lifecycle import redaction
from receiver.lifecycle.erasure import finish_erasures, purge
from receiver.lifecycle.startup import open_store
from receiver.storage import tombstones
from receiver.storage.paths import Places
from receiver.storage.tombstones import Erasure


def erase_id(places: Places, scope: tombstones.Scope, wanted: UUID) -> Erasure:
    """Remove all that was received of an instance or a profile, everywhere, for good; returns the receipt."""
    (receipt,) = erase_ids(places, scope, [wanted])
    return receipt


def erase_ids(places: Places, scope: tombstones.Scope, wanted: Sequence[UUID]) -> list[Erasure]:
    """The same for several at once, in one pass over the files; what was removed is counted in the first receipt.

    Counts first, and changes nothing until the tombstones are durable; from there on a start finishes what is cut off.
    Raises DatabaseError when the warehouse is in use, DecodeError when a record cannot be read to see what it holds.
    """
    with open_store(places) as store:
        con = store.warehouse.con
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
        purged = purge(places.landfill, replace(erased, bodies=frozenset(bodies)), con, dry_run=True)
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
    finish_erasures(places)
    return tombstones.read(places.tombstones).erasures[first - 1 :]
