"""What an operator asks for: retry or drop what was put aside, load dead letters again, unpin a key, erase.

Each but an erasure is a record of the journal, so that a rebuild finds it between the same deliveries.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal
from uuid import UUID, uuid4

from penpot_telemetry.wire.limits import RECEIPT, Limits
from receiver.frames import (
    read_dead_letters,
    write_rows,
)
from receiver.intake.commit import receive, write_word
from receiver.intake.decode import Rejection
from receiver.intake.prepare import prepare
from receiver.lifecycle import erasure
from receiver.lifecycle.startup import open_store
from receiver.reports.account import Letter, Refused
from receiver.storage import connection, journal, lookups, tombstones, warehouse
from receiver.storage.paths import DataPaths
from receiver.storage.records import (
    Delivery,
    Receipt,
)
from receiver.storage.store import Store
from receiver.storage.tombstones import Erasure


def unpin(store: Store, instance_id: UUID) -> str | None:
    """Take away the key that is pinned for an instance, durably, and return it; None when there is none.

    The next signed batch pins its own. A rebuild finds this between the same deliveries. Raises UnavailableError.
    """
    key = lookups.find_key(store.warehouse.con, instance_id)
    if key is None:
        return None
    now = store.next_instant()
    write_word(store, Delivery(uuid4(), now, "unpin", "loaded", uuid4(), "", instance_id=instance_id))
    return key


def revive(store: Store, letters: Sequence[Letter], limits: Limits = RECEIPT) -> list[Letter]:
    """Read kept events again with the reader of today, and load those that can be; returns them.

    All that are loaded of one batch are one record of the journal. Raises UnavailableError.
    """
    whole = [letter for letter in letters if letter.is_whole and letter.event is not None]
    revived: list[Letter] = []
    for key in sorted({letter.key for letter in whole}):
        of_batch = [letter for letter in whole if letter.key == key]
        frame, taken = read_dead_letters([letter.event or "" for letter in of_batch], limits)
        if taken:
            loaded = [of_batch[index] for index in taken]
            packed = journal.pack_carried(write_rows(frame))
            write_word(store, word_about(store, "revived", loaded), frame, "rows", packed)
            revived += loaded
    return revived


def drop_letters(store: Store, letters: Sequence[Letter]) -> None:
    """Let go what is kept of bad events; that they came still counts. The journal keeps it until its days are over."""
    for key in sorted({letter.key for letter in letters}):
        write_word(store, word_about(store, "dropped", [letter for letter in letters if letter.key == key]))


def word_about(store: Store, kind: Literal["revived", "dropped"], letters: Sequence[Letter]) -> Delivery:
    """What becomes of some dead letters of one batch, for the journal."""
    one = letters[0]
    return Delivery(
        id=uuid4(),
        received_at=store.next_instant(),
        kind=kind,
        outcome="loaded",
        key=one.key,
        digest=one.digest,
        instance_id=one.instance_id,
        version=one.version,
        events=len(letters) if kind == "revived" else 0,
        event_nos=[letter.event_no for letter in letters],
    )


def retry(
    store: Store, refused: Refused, limits: Limits = RECEIPT, *, require_signature: bool = False
) -> Receipt | None:
    """Read a body that was put aside with the reader of today, and load it if that can; None when it is not kept.

    What can be read now is a delivery of its own, known by its key as any other: a batch that came by another way since
    is a duplicate. What still cannot be read stays, under the reason of today. Raises UnavailableError.
    """
    if refused.body is None:
        return None
    try:
        body = store.quarantine.read(refused.body)
    except FileNotFoundError:
        warehouse.forget_bodies(store.warehouse.con, [refused.body])
        return None
    job = prepare(body, limits, require_signature=require_signature)
    if isinstance(job.item, Rejection) and (job.item.reason, job.item.message) == (refused.reason, refused.message):
        return Receipt("quarantined", 0, reason=refused.reason)
    (receipt,) = receive(store, [replace(job, retried=refused)])
    if not lookups.has_body(store.warehouse.con, refused.body):
        store.quarantine.remove([refused.body])
    return receipt


def drop(store: Store, bodies: Sequence[str]) -> None:
    """Remove bodies that were put aside, by their file names; their lines in the account stay."""
    store.quarantine.remove(bodies)
    with connection.transaction(store.warehouse.con):
        warehouse.forget_bodies(store.warehouse.con, bodies)


def erase_id(places: DataPaths, scope: tombstones.Scope, wanted: UUID) -> Erasure:
    """Remove all that was received of an instance or a profile, everywhere, for good; returns the receipt."""
    (receipt,) = erase_ids(places, scope, [wanted])
    return receipt


def erase_ids(places: DataPaths, scope: tombstones.Scope, wanted: Sequence[UUID]) -> list[Erasure]:
    """The same for several at once, in one pass over the files; what was removed is counted in the first receipt.

    Raises DatabaseError when the warehouse is in use, DecodeError when a record cannot be read to see what it holds.
    """
    with open_store(places) as store:
        first = erasure.begin_erasure(store, scope, wanted)
    erasure.finish_erasures(places)
    return tombstones.read(places.tombstones).erasures[first - 1 :]
