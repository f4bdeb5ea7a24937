"""A batch that was refused and comes in parts: the parts are loaded, or the whole was, and never both."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from penpot_telemetry.wire import payload, signature
from penpot_telemetry.wire.payload import EventsBatch
from receiver.intake.commit import receive
from receiver.intake.prepare import prepare
from receiver.lifecycle.rebuild import rebuild
from receiver.lifecycle.startup import open_store
from receiver.reports import account
from receiver.storage.paths import DataPaths
from receiver.storage.store import Store
from tests.integration.receiving import INSTANCE, body_of, rows

WHOLE, HALF, OTHER_HALF, QUARTER = (UUID(int=number) for number in range(1, 5))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    places = DataPaths(tmp_path / "telemetry.duckdb", tmp_path / "landfill", tmp_path / "quarantine")
    with open_store(places) as opened:
        yield opened


def body(batch_id: UUID, first: int, count: int, *supersedes: UUID, **more: Any) -> bytes:
    """A batch with these of the events."""
    return body_of(rows(count, first), batch_id=batch_id, supersedes=supersedes, **more)


def broken(batch_id: UUID) -> bytes:
    """A batch of this id that is refused."""
    return payload.build_events(EventsBatch("2.18.0", INSTANCE, "****", batch_id))


def take(store: Store, *bodies: bytes) -> list[tuple[str, str | None]]:
    return [(one.status, one.reason) for one in receive(store, [prepare(sent) for sent in bodies])]


def events(store: Store) -> int:
    """How many there are, each of which must be there once."""
    ((count, profiles),) = store.warehouse.con.execute(
        "SELECT count(*), count(DISTINCT profile_id) FROM events"
    ).fetchall()
    assert count == profiles
    return int(count)


@pytest.mark.parametrize("together", [False, True])
def test_the_parts_are_loaded_and_the_whole_that_comes_later_is_not(store: Store, together: bool) -> None:
    bodies = [body(HALF, 0, 5, WHOLE), body(OTHER_HALF, 5, 5, WHOLE), body(WHOLE, 0, 10)]
    answers = take(store, *bodies) if together else [take(store, one)[0] for one in bodies]
    assert answers == [("accepted", None), ("accepted", None), ("quarantined", "superseded")]
    assert events(store) == 10
    assert list(store.places.quarantine.iterdir()) == []
    assert account.read_account(store.warehouse.con).adds_up


@pytest.mark.parametrize("together", [False, True])
def test_a_part_of_a_batch_that_was_loaded_is_a_duplicate_of_it(store: Store, together: bool) -> None:
    bodies = [body(WHOLE, 0, 10), body(HALF, 0, 5, WHOLE), body(QUARTER, 0, 2, WHOLE, HALF)]
    jobs = [prepare(one) for one in bodies]
    receipts = receive(store, jobs) if together else [receive(store, [job])[0] for job in jobs]
    assert [one.status for one in receipts] == ["accepted", "duplicate", "duplicate"]
    assert [one.duplicate_of for one in receipts] == [None, WHOLE, WHOLE]
    assert [one.batch_id for one in receipts] == [WHOLE, HALF, QUARTER]
    half = payload.parse(bodies[1])
    assert isinstance(half, EventsBatch)
    assert receipts[1].digest == payload.digest_events(half.events)
    assert take(store, bodies[1]) == [("duplicate", None)]
    assert events(store) == 10


def test_the_kept_body_of_the_whole_goes_when_its_first_part_is_loaded(store: Store) -> None:
    assert take(store, broken(WHOLE)) == [("quarantined", "bad-base64")]
    assert len(list(store.places.quarantine.iterdir())) == 1
    take(store, body(HALF, 0, 5, WHOLE))
    assert list(store.places.quarantine.iterdir()) == []
    assert [one.body for one in account.list_refused(store.warehouse.con)] == [None]


def test_another_instance_supersedes_nothing_here(store: Store) -> None:
    take(store, body(HALF, 0, 5, WHOLE, instance=UUID(int=99)))
    assert take(store, body(WHOLE, 5, 10)) == [("accepted", None)]


def test_the_ids_that_end_are_signed_for(store: Store) -> None:
    sent = payload.parse(body(HALF, 0, 5, WHOLE))
    assert isinstance(sent, EventsBatch)
    signed = payload.build_events(signature.sign_batch(sent, bytes(32)))
    assert take(store, signed.replace(str(WHOLE).encode(), str(OTHER_HALF).encode())) == [
        ("quarantined", "bad-signature")
    ]
    assert take(store, signed) == [("accepted", None)]


@pytest.mark.parametrize("seed", range(12))
def test_in_any_order_with_repeats_each_event_is_loaded_once_and_a_rebuild_agrees(store: Store, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311  the same orders in every run
    bodies = [
        body(WHOLE, 0, 8),
        broken(WHOLE),
        body(HALF, 0, 4, WHOLE),
        body(OTHER_HALF, 4, 4, WHOLE),
        *(body(UUID(int=10 + n), 2 * n, 2, WHOLE, HALF) for n in range(2)),
    ]
    sent = bodies[2:4] if rng.random() < 0.5 else [bodies[3], *bodies[4:]]  # in halves, or one half in quarters
    order = [*sent, *rng.choices([*sent, *bodies[:2]], k=8)]
    rng.shuffle(order)
    while order:
        group = [order.pop() for _ in range(min(len(order), rng.randint(1, 4)))]
        take(store, *group)
    assert events(store) == 8
    before = account.content_digest(store.warehouse.con)
    assert account.read_account(store.warehouse.con).adds_up
    store.close()
    assert rebuild(store.places).unloadable == 0
    with open_store(store.places) as again:
        assert account.content_digest(again.warehouse.con) == before
        assert account.read_account(again.warehouse.con).adds_up


def test_a_batch_that_comes_late_under_a_number_given_back_counts_no_loss_again(store: Store) -> None:
    def sent(batch_id: UUID, seq: int, recorded: int, dropped: int) -> bytes:
        totals = payload.Totals(
            recorded=recorded, shipped=0, dropped=dropped, quarantined=0, pending=recorded - dropped
        )
        return body(batch_id, int(batch_id), 1, batch_seq=seq, totals=totals)

    take(store, sent(WHOLE, 1, 10, 5), sent(HALF, 2, 20, 7))
    take(store, sent(OTHER_HALF, 2, 15, 5))  # was refused, gave its number back, and arrives after all
    assert account.read_account(store.warehouse.con).lost_at_senders == 7
