"""Twenty schedules of kills and a bad network, each event counted; and the rig itself, which must see what is wrong."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from receiver.storage import connection
from tests.crash import points
from tests.crash.rig import Rig, make_template, open_server, run_schedules
from tests.crash.schedule import Kill, Pass, Schedule, make_schedule

SEEDS = range(1, 13)


@pytest.fixture(scope="module")
def server() -> Iterator[Mapping[str, str]]:
    """A Postgres that writes what it commits, so that it may be killed."""
    with tempfile.TemporaryDirectory(prefix="road-") as folder:
        Path(folder).chmod(0o755)
        with open_server(Path(folder)) as parameters:
            yield parameters


@pytest.fixture(scope="module")
def template(server: Mapping[str, str]) -> str:
    """The database that every sender starts from."""
    return make_template(server)


def test_a_dozen_schedules_lose_nothing_and_double_nothing() -> None:
    tally = run_schedules(SEEDS)
    assert (tally.lost, tally.doubled, tally.problems) == ([], [], [])
    assert tally.schedules == len(SEEDS)
    assert tally.kills.total() > 2 * len(SEEDS)
    assert {victim for victim, _ in tally.kills} == {"sender", "receiver"}
    assert tally.duplicates > 0
    assert tally.dropped > 0
    assert tally.set_aside > 0
    assert tally.written > 0
    assert tally.removed > tally.missing > 0


def test_a_seed_is_a_schedule_and_seeds_reach_every_point() -> None:
    assert make_schedule(7) == make_schedule(7)
    assert make_schedule(7) != make_schedule(8)
    steps = [step for seed in range(1000) for step in make_schedule(seed).passes]
    reached = {kill.point for step in steps for kill in step.kills}
    reached |= {fault.kind for step in steps for fault in step.faults if fault.victim}
    seen = {point for some in points.SEEN_BY_PROXY.values() for point in some}
    assert reached == {*points.SENDER, *points.RECEIVER, *seen, points.RANDOM_MOMENT}


# -- the rig sees what is wrong --------------------------------------------------------------------------------------


def one_pass(*kills: Kill, down: bool = False) -> Schedule:
    """Eight events, one pass of the sender on a good network."""
    step = Pass(8, 0, kills, (), down=down, back=False, second=False, refusing=False, late=0)
    return Schedule(1, 8, None, 0, (step,))


def test_a_sender_that_acknowledges_in_two_steps_is_found_to_double(
    server: Mapping[str, str], template: str, tmp_path: Path
) -> None:
    with Rig(server, template, tmp_path, "no transactions") as rig:
        came = rig.run(one_pass(Kill("sender", "acknowledge: receipt entered")))
    assert came.doubled == [f"evt-1-{n}" for n in range(8)]
    assert came.lost == []


def test_a_sender_that_drops_before_it_counts_is_found_to_lose(
    server: Mapping[str, str], template: str, tmp_path: Path
) -> None:
    freezing = one_pass(down=True).passes
    dropping = one_pass(Kill("sender", "gc: rows deleted"), down=True).passes
    with Rig(server, template, tmp_path, "no transactions") as rig:
        came = rig.run(Schedule(1, 8, 10, 0, freezing + dropping))  # 16 events, room for 10
    assert came.doubled == []
    assert len(came.lost) == 6
    assert "seed 1: missing: False is not True" in came.problems


def test_a_receiver_that_answers_without_a_commit_is_found_to_lose(
    server: Mapping[str, str], template: str, tmp_path: Path
) -> None:
    with Rig(server, template, tmp_path, "no commit") as rig:
        came = rig.run(one_pass())
    assert {f"evt-1-{n}" for n in range(8)} <= set(came.lost)
    assert came.problems


def test_a_warehouse_that_was_tampered_with_is_found_out(
    server: Mapping[str, str], template: str, tmp_path: Path
) -> None:
    with Rig(server, template, tmp_path) as rig:
        assert rig.run(one_pass()).is_clean
        assert rig.receiver.stop() == 0
        with closing(connection.connect(rig.receiver.warehouse)) as con:
            con.execute("DELETE FROM events WHERE name = 'evt-1-3'")
            con.execute("INSERT INTO events SELECT * FROM events WHERE name = 'evt-1-4'")
        came = rig.finish()
    assert (came.lost, came.doubled) == (["evt-1-3"], ["evt-1-4"])
    assert "the rebuilt warehouse has another content" in came.problems
