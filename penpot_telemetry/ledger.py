"""The sender's ledger: every batch that was answered. It is compared with the receiver's, batch by batch.

What was acknowledged must be at the receiver, once, and nothing else.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from penpot_telemetry import account, dead_letters, outbox, schema
from penpot_telemetry.config import Settings
from penpot_telemetry.connection import database_errors
from penpot_telemetry.endpoint import Endpoint
from penpot_telemetry.errors import DecodeError, TelemetryError
from penpot_telemetry.lease import Lease
from penpot_telemetry.pass_report import PassReport
from penpot_telemetry.receipt import read_duplicate_of
from penpot_telemetry.receiver_ledger import NoLedgerError, ReceiverBatch, fetch_received

RENEW_EVERY = 1000


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One batch of the ledger."""

    batch_id: UUID
    seq: int
    events: int
    bytes: int
    digest: str
    frozen_at: datetime
    settled_at: datetime
    outcome: str
    receipt: Mapping[str, object]


_SELECT_LEDGER = """
SELECT batch_id, seq, events, bytes, digest, frozen_at, settled_at, outcome, receipt FROM penpot_telemetry.ledger
WHERE seq > %s ORDER BY settled_at, seq, batch_id
"""


def read_ledger(conn: Connection, after: int = 0) -> Iterator[LedgerEntry]:
    """Every batch past a sequence number that was answered, in the order of the answers."""
    with conn.cursor(row_factory=class_row(LedgerEntry)) as cursor:
        yield from cursor.execute(_SELECT_LEDGER, (after,))


# -- verification -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A batch on which the two ledgers differ."""

    seq: int
    batch_id: UUID
    difference: str


@dataclass(frozen=True, slots=True)
class Verification:
    """How many batches agree, and those that do not. `unread`: why the receiver's ledger could not be read.

    `arrived` are refused batches that the receiver has accepted after all.
    """

    agreed: int = 0
    mismatches: Sequence[Mismatch] = ()
    arrived: Sequence[UUID] = ()
    unread: str | None = None


def verify(conn: Connection, endpoint: Endpoint, settings: Settings) -> Verification:
    """The whole ledger. Raises TelemetryError when the receiver's cannot be read."""
    with database_errors():
        instance_id = (account.read_state(conn) if schema.has_schema(conn) else account.AccountState()).instance_id
        if instance_id is None:
            return Verification()
        return compare(conn, fetch_received(endpoint, instance_id, settings))


def verify_new(held: Lease, endpoint: Endpoint, settings: Settings) -> Verification:
    """What was acknowledged since the last verification that found nothing; remembers how far it came.

    Dead letters of a refused batch that arrived after all count as shipped.
    """
    conn = held.conn
    state = account.read_state(conn)
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
        held.step(lambda: dead_letters.acknowledge_arrived(conn, batch_id))  # noqa: B023  called at once
    if not found.mismatches:
        held.step(lambda: account.keep_verified(conn, state.next_seq - 1))
    return found


def verify_pass(held: Lease, endpoint: Endpoint, settings: Settings, report: PassReport) -> None:
    """Compares the ledger with the receiver's, where there is one, from the last batch on which they agreed."""
    state = account.read_state(held.conn)
    is_new = report.batches or state.next_seq - 1 > state.verified_seq
    if report.failure or not is_new or state.receipts_from != endpoint.url:
        return
    found = verify_new(held, endpoint, settings)
    report.verified, report.mismatches = found.agreed, len(found.mismatches)
    if found.mismatches:
        first = found.mismatches[0]
        report.failure = (
            f"{report.mismatches:,} batches differ from the receiver's ledger, the first is {first.seq}, which "
            f"{first.difference}: see `penpot-telemetry ledger verify`"
        )
    elif found.unread:
        report.warnings.append(f"the receiver's ledger could not be read: {found.unread}")


def _first_seq(conn: Connection, after: int) -> int:
    """Where to begin, so that a refused batch is seen of which an entry past `after` is a duplicate."""
    named = {read_duplicate_of(entry.receipt) for entry in read_ledger(conn, after)} - {None}
    if not named:
        return after
    return min([after, *(entry.seq - 1 for entry in read_ledger(conn) if entry.batch_id in named)])


def _renewing(held: Lease, received: Iterable[ReceiverBatch]) -> Iterator[ReceiverBatch]:
    for number, batch in enumerate(received):
        if number % RENEW_EVERY == 0:
            held.renew()
        yield batch


def compare(conn: Connection, received: Iterable[ReceiverBatch], after: int = 0) -> Verification:
    """The ledger past a sequence number against the receiver's past the same.

    A batch in the outbox may or may not be there: its answer was lost. A refused one may have arrived after all;
    the parts that were sent in its place are duplicates of it then.
    """
    entries = list(read_ledger(conn, after))
    sent = {entry.batch_id: entry for entry in entries if entry.outcome != "refused"}
    refused = {entry.batch_id for entry in entries if entry.outcome == "refused"}
    waiting = outbox.fetch_batch(conn)
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


def _differ(here: LedgerEntry | None, there: ReceiverBatch) -> str | None:
    if here is None:
        return "is not in this ledger"
    if (here.seq, here.digest) != (there.seq, there.digest):
        return "differs in sequence or digest"
    if there.status == "quarantined":  # of whose events the receiver knows nothing
        return None if here.outcome == "quarantined" else "was accepted, and is in the receiver's quarantine"
    return None if here.events == there.events + there.dead else "differs in the number of events"
