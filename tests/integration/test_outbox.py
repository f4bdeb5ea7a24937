"""The frozen page, the ledger, and what becomes of pages that are refused."""

import json
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast
from uuid import UUID

import psycopg
import pytest
from psycopg import Connection, errors

from penpot_telemetry import (
    account,
    acknowledgement,
    audit_log,
    connection,
    dead_letters,
    freeze,
    lease,
    ledger,
    outbox,
    pass_report,
    pipeline,
    preview,
    reconcile,
    refusals,
    schema,
    segments,
)
from penpot_telemetry.config import Settings
from penpot_telemetry.endpoint import Endpoint
from penpot_telemetry.errors import BusyError, DatabaseError
from penpot_telemetry.ledger import Verification
from penpot_telemetry.receipt import Answer
from penpot_telemetry.receiver_ledger import ReceiverBatch
from penpot_telemetry.status import read_status
from penpot_telemetry.work_queue import WorkQueue
from tests.conftest import TEMPLATE, Receiver, make_events, names_of, waiting_names

# -- the schema ------------------------------------------------------------------------------------------------------


def test_the_schema_is_made_once_however_many_ask(empty_database: Mapping[str, str]) -> None:
    def ask() -> None:
        with connection.connect(empty_database) as conn:
            schema.ensure_schema(conn)

    with connection.connect(empty_database) as conn:
        audit_log.create_table(conn)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with connection.connect(empty_database) as conn:
        assert conn.execute("SELECT count(*) FROM penpot_telemetry.state").fetchone() == (1,)


def test_a_schema_of_a_newer_release_is_left_alone(conn: Connection) -> None:
    conn.execute("UPDATE penpot_telemetry.state SET schema_version = 999")
    with pytest.raises(DatabaseError, match="newer release"):
        schema.ensure_schema(conn)


def test_the_database_itself_allows_one_batch_in_the_outbox(conn: Connection, settings: Settings) -> None:
    pipeline.record_events(conn, make_events(2), settings)
    page = freeze.freeze_next(conn, replace(settings, batch_rows=1))
    assert freeze.freeze_next(conn, replace(settings, batch_rows=1)) == page
    with pytest.raises(errors.UniqueViolation):
        conn.execute("INSERT INTO penpot_telemetry.outbox SELECT * FROM penpot_telemetry.outbox")


# -- freezing --------------------------------------------------------------------------------------------------------


def test_a_frozen_page_is_what_will_be_sent(conn: Connection, shipping: Settings, receiver: Receiver) -> None:
    pipeline.record_events(conn, make_events(3), shipping)
    frozen = freeze.freeze_next(conn, shipping)
    assert frozen is not None
    assert outbox.fetch_batch(conn) == frozen
    pipeline.run_pass(conn, shipping)
    assert receiver.bodies == [frozen.body]


def test_a_batch_that_is_rolled_back_never_was(conn: Connection, settings: Settings) -> None:
    pipeline.record_events(conn, make_events(3), settings)
    with conn.transaction(force_rollback=True):
        queue = WorkQueue(reconcile.reconcile(conn).fresh)
        account.keep_instance_id(conn, UUID(int=1), "set")
        assert freeze.freeze_batch(conn, settings, queue).batch
    assert outbox.fetch_batch(conn) is None
    assert account.read_state(conn).next_seq == 1
    assert read_status(conn, settings).adds_up


ACCEPTED = Answer("accepted", "", {"status": 204})


def acknowledge(conn: Connection, page: outbox.OutboxBatch, settings: Settings) -> None:
    """The answer to a batch that is in the outbox."""
    assert settings.endpoint is not None
    with lease.hold(conn) as held:
        acknowledgement.acknowledge(held, page, ACCEPTED, settings.endpoint, pass_report.PassReport())


def test_a_batch_is_acknowledged_once(conn: Connection, shipping: Settings) -> None:
    pipeline.record_events(conn, make_events(3), shipping)
    page = freeze.freeze_next(conn, shipping)
    assert page is not None
    acknowledge(conn, page, shipping)
    assert (audit_log.count_rows(conn), account.read_state(conn).shipped) == (0, 3)
    with pytest.raises(DatabaseError, match="is not in the outbox any more"):
        acknowledge(conn, page, shipping)
    assert account.read_state(conn).shipped == 3


def test_an_acknowledgement_that_cannot_delete_the_rows_never_was(conn: Connection, shipping: Settings) -> None:
    pipeline.record_events(conn, make_events(3), shipping)
    page = freeze.freeze_next(conn, shipping)
    assert page is not None
    conn.execute("CREATE RULE keep AS ON DELETE TO audit_log DO INSTEAD NOTHING")
    with pytest.raises(DatabaseError, match="stay when they are deleted"):
        acknowledge(conn, page, shipping)
    assert outbox.fetch_batch(conn) == page
    assert (audit_log.count_rows(conn), account.read_state(conn).shipped) == (3, 0)


def test_a_preview_is_the_page_to_come_and_changes_nothing(
    conn: Connection, shipping: Settings, receiver: Receiver
) -> None:
    pipeline.record_events(conn, make_events(3), shipping)
    before = account.read_state(conn)
    page = preview.preview_batch(conn, shipping)
    assert page is not None
    assert account.read_state(conn) == before
    pipeline.run_pass(conn, shipping)
    assert json.loads(receiver.bodies[0])["events"] == json.loads(page.body)["events"]


def test_a_row_that_the_format_cannot_carry_is_set_aside(
    conn: Connection, shipping: Settings, receiver: Receiver
) -> None:
    pipeline.record_events(conn, make_events(5), shipping)
    conn.execute("""UPDATE audit_log SET context = '{"~:x": "~unonsense"}' WHERE name = 'e-3'""")
    report = pipeline.run_pass(conn, shipping)
    assert (report.shipped, report.quarantined, report.failure) == (4, 1, None)
    (aside,) = dead_letters.read_dead_letters(conn)
    assert (aside.name, aside.reason.startswith("cannot be written")) == ("e-3", True)
    assert "e-3" not in names_of(receiver.bodies[0])
    assert read_status(conn, shipping).adds_up


def test_a_row_larger_than_a_page_is_set_aside(
    conn: Connection, shipping: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.record_events(conn, make_events(5), shipping)
    conn.execute("UPDATE audit_log SET props = jsonb_build_object('x', repeat('y', 5000)) WHERE name = 'e-3'")
    monkeypatch.setattr(audit_log.fetch_rows, "__defaults__", (4000,))
    report = pipeline.run_pass(conn, shipping)
    assert (report.shipped, report.quarantined) == (4, 1)
    assert read_status(conn, shipping).adds_up


# -- refusals --------------------------------------------------------------------------------------------------------


class Choosy:
    """A receiver that refuses a batch with a bad event in it, and remembers what it accepted."""

    def __init__(self, bad: set[str], status: int = 400) -> None:
        self.bad = bad
        self.status = status
        self.requests = 0
        self.accepted: list[str] = []

    def __call__(self, body: bytes) -> tuple[int, bytes]:
        self.requests += 1
        names = names_of(body)
        if self.bad.intersection(names):
            return self.status, b""
        self.accepted += names
        return 204, b""


@pytest.mark.parametrize("status", [400, 403, 404, 413, 422])
def test_a_refused_page_is_split_until_the_bad_row_stands_alone(
    conn: Connection, shipping: Settings, receiver: Receiver, status: int
) -> None:
    pipeline.record_events(conn, make_events(100), shipping)
    receiver.reply = choosy = Choosy({"e-37"}, status)
    report = pipeline.run_pass(conn, shipping)
    assert sorted(choosy.accepted) == sorted(f"e-{n}" for n in range(100) if n != 37)
    assert (report.shipped, report.quarantined, report.failure) == (99, 1, None)
    (aside,) = dead_letters.read_dead_letters(conn)
    assert (aside.name, str(status) in aside.reason) == ("e-37", True)
    assert read_status(conn, shipping).adds_up


@pytest.mark.parametrize("bad", [{0}, {9}, {0, 9}, {0, 1, 2}, {3, 7}, set(range(9)), {1, 2, 4, 8}])
def test_any_number_of_bad_rows_is_found(
    conn: Connection, shipping: Settings, receiver: Receiver, bad: set[int]
) -> None:
    pipeline.record_events(conn, make_events(20), shipping)
    ordered = waiting_names(conn)
    names = {ordered[n] for n in bad}
    receiver.reply = choosy = Choosy(names)
    pipeline.run_pass(conn, shipping)
    assert sorted(choosy.accepted) == sorted(set(ordered) - names)
    assert {aside.name for aside in dead_letters.read_dead_letters(conn)} == names
    assert read_status(conn, shipping).adds_up


def test_sequence_numbers_of_accepted_batches_have_no_gap(
    conn: Connection, shipping: Settings, receiver: Receiver
) -> None:
    pipeline.record_events(conn, make_events(50), shipping)
    receiver.reply = Choosy({"e-5", "e-44"})
    pipeline.run_pass(conn, shipping)
    entries = list(ledger.read_ledger(conn))
    accepted = [entry.seq for entry in entries if entry.outcome == "accepted"]
    assert accepted == list(range(1, len(accepted) + 1))
    assert len(entries) == len(receiver.bodies)
    assert len({entry.batch_id for entry in entries}) == len(entries)


def test_a_refusal_that_is_interrupted_goes_on_in_the_next_pass(
    conn: Connection, shipping: Settings, receiver: Receiver
) -> None:
    pipeline.record_events(conn, make_events(40), shipping)
    choosy = Choosy({"e-11"})
    receiver.reply = lambda body: choosy(body) if len(receiver.bodies) % 3 else (500, b"")
    for _ in range(20):
        pipeline.run_pass(conn, shipping)
        assert read_status(conn, shipping).adds_up
    pipeline.record_events(conn, make_events(1, start=40), shipping)  # a row is blamed when another is accepted
    receiver.reply = choosy
    pipeline.run_pass(conn, shipping)
    assert sorted(choosy.accepted) == sorted(f"e-{n}" for n in range(41) if n != 11)
    assert audit_log.count_rows(conn) == 0


def test_a_batch_too_large_for_the_server_heals_by_splitting(
    conn: Connection, shipping: Settings, receiver: Receiver
) -> None:
    pipeline.record_events(conn, make_events(100), shipping)
    receiver.reply = lambda body: (413 if len(names_of(body)) > 30 else 204, b"")
    report = pipeline.run_pass(conn, shipping)
    assert (report.shipped, report.quarantined, report.failure) == (100, 0, None)


@pytest.mark.parametrize("status", [400, 403, 404])
def test_a_server_that_refuses_everything_gets_no_row_blamed(
    conn: Connection, shipping: Settings, receiver: Receiver, status: int
) -> None:
    pipeline.record_events(conn, make_events(1000), shipping)
    receiver.reply = lambda _: (status, b"")
    requests = 0
    for _ in range(4):
        report = pipeline.run_pass(conn, shipping)
        assert len(receiver.bodies) - requests <= refusals.BUDGET
        requests = len(receiver.bodies)
        assert report.failure is not None
        assert "check the address and the token" in report.failure
        assert (report.pending, report.quarantined) == (1000, 0)
    receiver.reply = choosy = Choosy(set())
    assert pipeline.run_pass(conn, shipping).shipped == 1000
    assert sorted(choosy.accepted) == sorted(f"e-{n}" for n in range(1000))


def test_new_rows_are_sent_although_all_parts_of_an_old_batch_are_refused(
    conn: Connection, shipping: Settings, receiver: Receiver
) -> None:
    pipeline.record_events(conn, make_events(500), shipping)
    receiver.reply = choosy = Choosy({f"e-{n}" for n in range(500)})
    pipeline.run_pass(conn, shipping)
    pipeline.record_events(conn, make_events(10, start=500), shipping)
    report = pipeline.run_pass(conn, shipping)
    assert sorted(choosy.accepted) == sorted(f"e-{n}" for n in range(500, 510))
    assert (report.failure, report.quarantined, report.pending) == (None, 500, 0)


def test_every_part_names_all_batches_that_it_was_a_part_of(
    conn: Connection, shipping: Settings, receiver: Receiver
) -> None:
    pipeline.record_events(conn, make_events(8), shipping)
    receiver.reply = Choosy({"e-3"})
    pipeline.run_pass(conn, shipping)
    whole = {str(batch["batch-id"]): batch for batch in receiver.batches()}
    names = {id: set(names_of(json.dumps(batch).encode())) for id, batch in whole.items()}
    for id, batch in whole.items():
        named = {str(one) for one in cast("list[str]", batch.get("supersedes", []))}
        assert named == {other for other in whole if names[other] > names[id]}


def test_a_lone_refused_row_is_kept_until_another_is_accepted(
    conn: Connection, shipping: Settings, receiver: Receiver
) -> None:
    pipeline.record_events(conn, make_events(1), shipping)
    receiver.reply = Choosy({"e-0"})
    report = pipeline.run_pass(conn, shipping)
    assert report.failure is not None
    assert (report.quarantined, report.pending) == (0, 1)
    pipeline.record_events(conn, make_events(1, start=1), shipping)
    report = pipeline.run_pass(conn, shipping)
    assert (report.failure, report.shipped, report.quarantined, report.pending) == (None, 1, 1, 0)


def test_rows_that_gc_took_from_a_split_page_are_not_missed(
    conn: Connection, shipping: Settings, receiver: Receiver
) -> None:
    pipeline.record_events(conn, make_events(40), shipping)
    receiver.reply = lambda _: (400 if len(receiver.bodies) <= 2 else 500, b"")
    pipeline.run_pass(conn, replace(shipping, cap_rows=15))
    status = read_status(conn, shipping)
    assert (status.state.dropped + status.pending, status.pending >= 15) == (40, True)
    receiver.reply = Choosy(set())
    report = pipeline.run_pass(conn, shipping)
    assert (report.shipped, report.pending) == (status.pending, 0)
    assert read_status(conn, shipping).adds_up
    assert segments.count_segments(conn) == 0


# -- the cost of one bad row -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crowd(postgres: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """A database in which ten thousand events wait."""
    with psycopg.connect(**postgres, autocommit=True) as admin:  # type: ignore[arg-type]
        admin.execute(f"CREATE DATABASE crowd TEMPLATE {TEMPLATE}")
        yield {**postgres, "dbname": "crowd"}
        admin.execute("DROP DATABASE crowd WITH (FORCE)")


@pytest.fixture
def refusing_server() -> Iterator[tuple[str, list[bytes], list[int]]]:
    """Refuses a body that holds the bytes it is given; the bodies are counted."""
    needle: list[bytes] = []
    counts: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            names = set(names_of(self.rfile.read(int(self.headers["Content-Length"]))))
            counts.append(len(names))
            self.send_response(400 if names.intersection(name.decode() for name in needle) else 204)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    server.daemon_threads = True
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", needle, counts
    server.shutdown()
    server.server_close()
    thread.join()


def test_one_bad_row_in_ten_thousand_costs_two_requests_a_halving(
    crowd: Mapping[str, str], settings: Settings, refusing_server: tuple[str, list[bytes], list[int]]
) -> None:
    url, needle, counts = refusing_server
    shipping = replace(settings, database=crowd, endpoint=Endpoint(url))
    chance = random.Random(7)  # noqa: S311  a seed, so that a failure can be seen again
    costs = {}
    for place in (0, 9_999, chance.randrange(10_000)):
        with connection.connect(crowd) as conn:
            pipeline.record_events(conn, make_events(10_000), shipping)
            needle[:] = [waiting_names(conn)[place].encode()]
            counts.clear()
            report = pipeline.run_pass(conn, shipping)
        assert (report.shipped, report.quarantined, report.pending) == (9_999, 1, 0)
        costs[place] = len(counts)
    assert max(costs.values()) <= 2 * 14 + 2, costs


# -- the quarantine --------------------------------------------------------------------------------------------------


@pytest.fixture
def with_one_aside(conn: Connection, shipping: Settings, receiver: Receiver) -> UUID:
    """The id of a row that was set aside."""
    pipeline.record_events(conn, make_events(8), shipping)
    receiver.reply = Choosy({"e-5"})
    pipeline.run_pass(conn, shipping)
    (aside,) = dead_letters.read_dead_letters(conn)
    return aside.id


def test_a_retried_row_is_as_it_was_and_is_shipped(
    conn: Connection, shipping: Settings, receiver: Receiver, with_one_aside: UUID
) -> None:
    receiver.reply = choosy = Choosy(set())
    assert dead_letters.retry(conn, [with_one_aside]) == 1
    assert read_status(conn, shipping).adds_up
    row = conn.execute("SELECT id, name, context, ip_addr::text FROM audit_log").fetchone()
    assert row == (with_one_aside, "e-5", {"~:browser": "Chrome"}, "0.0.0.0/32")
    pipeline.run_pass(conn, shipping)
    assert choosy.accepted == ["e-5"]
    state = account.read_state(conn)
    assert (state.shipped, state.quarantined, state.missing) == (8, 0, 0)


def test_a_row_that_is_in_the_table_again_stays_in_quarantine_and_blocks_no_other(
    conn: Connection, shipping: Settings, with_one_aside: UUID
) -> None:
    conn.execute(
        "INSERT INTO audit_log (id, name, type, profile_id, source) "
        "VALUES (%s, 'n', 'action', gen_random_uuid(), 'telemetry')",
        (with_one_aside,),
    )
    assert dead_letters.retry(conn) == 0
    assert [row.id for row in dead_letters.read_dead_letters(conn)] == [with_one_aside]
    assert read_status(conn, shipping).adds_up
    conn.execute("DELETE FROM audit_log")
    assert dead_letters.retry(conn) == 1


def test_a_dropped_row_counts_as_dropped(conn: Connection, shipping: Settings, with_one_aside: UUID) -> None:
    assert dead_letters.drop(conn, [UUID(int=1)]) == 0
    assert dead_letters.drop(conn) == 1
    state = account.read_state(conn)
    assert (state.shipped, state.quarantined, state.dropped) == (7, 0, 1)
    assert read_status(conn, shipping).adds_up
    assert dead_letters.read_dead_letters(conn) == []
    assert with_one_aside.version == 4


def test_the_quarantine_is_not_touched_beside_a_sender(
    conn: Connection, database: Mapping[str, str], with_one_aside: UUID
) -> None:
    with connection.connect(database) as other, lease.hold(other), pytest.raises(BusyError):
        dead_letters.retry(conn, [with_one_aside])


# -- the ledger against the receiver's -------------------------------------------------------------------------------


@pytest.fixture
def two_settled_one_frozen(conn: Connection, shipping: Settings, receiver: Receiver) -> list[ReceiverBatch]:
    """What the receiver has of two batches that were answered and one whose answer was lost."""
    paged = replace(shipping, batch_rows=2)
    pipeline.record_events(conn, make_events(6), paged)
    receiver.reply = lambda _: (204 if len(receiver.bodies) < 3 else 500, b"")
    pipeline.run_pass(conn, paged)
    frozen = outbox.fetch_batch(conn)
    assert frozen is not None
    settled = [ReceiverBatch(e.batch_id, e.seq, e.digest, e.events, "accepted") for e in ledger.read_ledger(conn)]
    return [*settled, ReceiverBatch(frozen.batch_id, frozen.seq, frozen.digest, frozen.event_count, "accepted")]


Change = Callable[[list[ReceiverBatch]], list[ReceiverBatch]]


@pytest.mark.parametrize(
    ("change", "agreed", "differences"),
    [
        (lambda there: there, 2, []),
        (lambda there: there[:2], 2, []),
        (lambda there: [*there, there[0]], 2, []),
        (lambda there: there[1:], 1, ["is not at the receiver"]),
        (lambda there: [replace(there[0], digest="sha256:00"), there[1]], 1, ["differs in sequence or digest"]),
        (lambda there: [there[0], replace(there[1], seq=7)], 1, ["differs in sequence or digest"]),
        (lambda there: [there[0], replace(there[1], events=99)], 1, ["differs in the number of events"]),
        (lambda there: [*there, replace(there[0], batch_id=UUID(int=9))], 2, ["is not in this ledger"]),
        (
            lambda there: [there[0], replace(there[1], status="quarantined", events=0)],
            1,
            ["was accepted, and is in the receiver's quarantine"],
        ),
    ],
)
def test_the_ledger_is_held_against_the_receivers(
    conn: Connection, two_settled_one_frozen: list[ReceiverBatch], change: Change, agreed: int, differences: list[str]
) -> None:
    found = ledger.compare(conn, change(two_settled_one_frozen))
    assert found.agreed == agreed
    assert [mismatch.difference for mismatch in found.mismatches] == differences


def test_a_batch_that_both_sides_know_as_quarantined_agrees(
    conn: Connection, two_settled_one_frozen: list[ReceiverBatch]
) -> None:
    conn.execute("UPDATE penpot_telemetry.ledger SET outcome = 'quarantined' WHERE seq = 1")
    first, second, _ = two_settled_one_frozen
    there = [replace(first, status="quarantined", events=0), second]
    assert ledger.compare(conn, there) == Verification(2, [], [])
