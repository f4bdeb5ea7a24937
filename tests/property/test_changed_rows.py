"""Another program changes rows while their batch is on the way: what a row holds at last arrives, and nothing twice."""

import os
from collections.abc import Mapping
from random import Random

import pytest

from penpot_telemetry import dead_letters, reconcile
from penpot_telemetry.status import read_status
from tests.crash.house import open_front
from tests.property.test_exactly_once import DELIVERED, LIES, Flow

SEEDS = range(int(os.environ.get("EXAMPLES", "6")))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_row_that_is_changed_on_the_way_is_another_event(postgres: Mapping[str, str], seed: int) -> None:
    chance = Random(seed)  # noqa: S311
    Flow.server = postgres
    with open_front() as Flow.front:
        flow = Flow()
        try:
            live(flow, chance)
            settle(flow)
            each_event_arrived_once(flow)
        finally:
            flow.leave()
    assert flow.neighbour.versions


def live(flow: Flow, chance: Random) -> None:
    """Passes over a bad network, with a program that changes rows at every moment."""
    flow.neighbour.changes = 0.9 if chance.random() < 0.5 else 1.0
    for _ in range(12):
        flow.record(chance.randrange(1, 12), 0)
        network = [chance.choice([*DELIVERED, *LIES]) for _ in range(chance.randrange(6))]
        flow.run_pass(network, 4 * chance.randrange(2**14) + 1, batch_rows=chance.choice([3, 8, 1000]), attempts=1)
        if chance.random() < 0.3:
            flow.deliver_late(chance.randrange(1, 4))
        if chance.random() < 0.2:
            dead_letters.retry(flow.conn)


def settle(flow: Flow) -> None:
    """Nothing fails any more, and nobody changes anything."""
    flow.deliver_late(len(flow.late))
    dead_letters.retry(flow.conn)
    for _ in range(2):  # what was changed on the way is sent by the next pass
        assert flow.run_pass([], batch_rows=1000).failure is None
    reconcile.accept_missing(flow.conn)
    flow.record(1, 0)
    assert flow.run_pass([], batch_rows=1000).failure is None


def each_event_arrived_once(flow: Flow) -> None:
    """By the names of events: each content of a row is another event."""
    assert flow.faults == []
    marks, status = flow.house.marks(), read_status(flow.conn, flow.settings)
    aside = {row.name for row in dead_letters.read_dead_letters(flow.conn)}
    last = {mark for row_id, mark in flow.made.items() if mark and row_id not in flow.neighbour.removed}
    assert last - marks.keys() - aside == set(), "lost"
    assert {mark: count for mark, count in marks.items() if count > 1} == {}, "doubled"
    assert not aside & marks.keys()
    assert status.adds_up
    assert status.pending == 0
    # Of a batch that was refused and arrived late, rows that were changed or deleted meanwhile are in no account.
    unknown = {mark for marks_of_row in flow.neighbour.versions.values() for mark in marks_of_row[:-1]}
    unknown |= {flow.made[row_id] for row_id in flow.neighbour.removed}
    assert 0 <= marks.total() - status.state.shipped <= len(unknown & marks.keys())
    found = flow.house.read_account()
    assert found.adds_up, found.checks
