"""The sender's ledger held against the receiver's: what was acknowledged must be there, once, and nothing else."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from psycopg import Connection

from penpot_telemetry import outbox, store
from penpot_telemetry.config import Endpoint, Settings
from penpot_telemetry.errors import DecodeError, TelemetryError
from penpot_telemetry.lease import Lease
from penpot_telemetry.outbox import Entry
from penpot_telemetry.send import NoLedgerError, Received, fetch_received, read_duplicate_of

RENEW_EVERY = 1000


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A batch on which the two ledgers differ."""

    seq: int
    batch_id: UUID
    difference: str


@dataclass(frozen=True, slots=True)
class Verification:
    """How many batches agree, and those that do not. `unread`: why the receiver's ledger could not be read.

    `arrived` are batches that were refused here and arrived all the same.
    """

    agreed: int = 0
    mismatches: Sequence[Mismatch] = ()
    arrived: Sequence[UUID] = ()
    unread: str | None = None


def verify(conn: Connection, endpoint: Endpoint, settings: Settings) -> Verification:
    """The whole ledger. Raises TelemetryError when the receiver's cannot be read."""
    with store.database_errors():
        instance_id = (outbox.read_state(conn) if outbox.has_schema(conn) else outbox.State()).instance_id
        if instance_id is None:
            return Verification()
        return compare(conn, fetch_received(endpoint, instance_id, settings))


def verify_new(held: Lease, endpoint: Endpoint, settings: Settings) -> Verification:
    """What was acknowledged since the last verification that found nothing; remembers how far it came.

    Dead letters of a batch that arrived all the same are shipped.
    """
    conn = held.conn
    state = outbox.read_state(conn)
    after = _first_seq(conn, state.verified_seq)
    if state.instance_id is None:
        return Verification()
    try:
        found = compare(conn, _renewing(held, fetch_received(endpoint, state.instance_id, settings, after)), after)
    except (NoLedgerError, DecodeError):
        return Verification()
    except TelemetryError as error:
        return Verification(unread=str(error))
    for batch_id in found.arrived:
        held.step(lambda: outbox.settle_arrived(conn, batch_id))  # noqa: B023  called at once
    if not found.mismatches:
        held.step(lambda: outbox.keep_verified(conn, state.next_seq - 1))
    return found


def _first_seq(conn: Connection, after: int) -> int:
    """Where to begin, so that a refused batch is seen of which an entry past `after` is a duplicate."""
    named = {read_duplicate_of(entry.receipt) for entry in outbox.read_ledger(conn, after)} - {None}
    if not named:
        return after
    return min([after, *(entry.seq - 1 for entry in outbox.read_ledger(conn) if entry.batch_id in named)])


def _renewing(held: Lease, received: Iterable[Received]) -> Iterator[Received]:
    for number, batch in enumerate(received):
        if number % RENEW_EVERY == 0:
            held.renew()
        yield batch


def compare(conn: Connection, received: Iterable[Received], after: int = 0) -> Verification:
    """The ledger past a sequence number against the receiver's past the same.

    A batch in the outbox may or may not be there: its answer was lost. A refused one may have arrived all the same; the
    parts that were sent in its place are duplicates of it then.
    """
    entries = list(outbox.read_ledger(conn, after))
    sent = {entry.batch_id: entry for entry in entries if entry.outcome != "refused"}
    refused = {entry.batch_id for entry in entries if entry.outcome == "refused"}
    waiting = outbox.fetch_page(conn)
    agreed: set[UUID] = set()
    arrived: set[UUID] = set()
    mismatches: dict[UUID, Mismatch] = {}
    for there in received:
        here = sent.get(there.batch_id)
        if here is None and there.batch_id in refused:
            if there.status != "quarantined":
                arrived.add(there.batch_id)
            continue
        difference = _differ(here, there)
        if difference is None:
            agreed.add(there.batch_id)
        elif waiting is None or waiting.batch_id != there.batch_id:
            mismatches[there.batch_id] = Mismatch(there.seq, there.batch_id, difference)
    for entry in sent.values():
        if read_duplicate_of(entry.receipt) in arrived:
            agreed.add(entry.batch_id)
        elif entry.batch_id not in agreed | mismatches.keys():
            mismatches[entry.batch_id] = Mismatch(entry.seq, entry.batch_id, "is not at the receiver")
    found = [mismatch for mismatch in mismatches.values() if mismatch.batch_id not in agreed]
    return Verification(len(agreed), sorted(found, key=lambda mismatch: mismatch.seq), sorted(arrived))


def _differ(here: Entry | None, there: Received) -> str | None:
    if here is None:
        return "is not in this ledger"
    if (here.seq, here.digest) != (there.seq, there.digest):
        return "differs in sequence or digest"
    if there.status == "quarantined":  # of whose events the receiver knows nothing
        return None if here.outcome == "quarantined" else "was accepted, and is in the receiver's quarantine"
    return None if here.events == there.events + there.dead else "differs in the number of events"
