"""Each question against the same question in plain Python, on small random worlds; and what no question may do."""

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from uuid import UUID

import duckdb
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from receiver.questions.cards import all_cards
from receiver.questions.run import Asked, answer
from receiver.storage import rollups
from tests.property.filled import create_warehouse, fill
from tests.property.reference import ANSWERS, DAY, MONDAY, NOBODY, Batch, Event, Row, World, coverage_of
from tests.property.worlds import VERSIONS, batches, worlds

EXAMPLES = 4  # of worlds that are worth it: a longer run found nothing more
FEWER = settings(max_examples=1, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
FEW = settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

KEYS = {
    "weekly_cohorts": ("cohort", "week_no"),
    "version_adoption": ("day", "version"),
    "quarantined": ("day", "reason"),
    "feature_usage": ("name", "type"),
    "feature_first_use": ("name", "type"),
    "platforms": ("dimension", "value"),
    "unknown_names": ("reason", "name", "type", "source"),
    "suspect_ids": ("kind", "instance_id", "sign"),
}
"""What tells the rows of an answer apart, where it is more than the first column."""


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    con = create_warehouse()
    yield con
    con.close()


def asked_of(world: World, threshold: int = 1) -> Asked:
    return Asked(world.first, world.last, world.instance, world.version, threshold, world.vouch_days)


def keyed(name: str, rows: list[Row]) -> dict[tuple[object, ...], Row]:
    keys = KEYS.get(name)
    return {tuple(row[key] for key in keys or list(row)[:1]): row for row in rows}


def same(found: object, expected: object) -> bool:
    if isinstance(found, float) and isinstance(expected, float | int):
        return math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-9)
    return found == expected


def is_empty(world: World) -> bool:
    return world.epoch is None or world.from_day > world.to_day


@pytest.mark.parametrize("name", sorted(ANSWERS))
@FEW
@given(world=worlds())
def test_a_question_agrees_with_the_same_question_in_plain_python(
    con: duckdb.DuckDBPyConnection, name: str, world: World
) -> None:
    fill(con, world)
    frame = answer(con, name, asked_of(world))
    if is_empty(world):
        return
    found, expected = keyed(name, frame.rows(named=True)), keyed(name, ANSWERS[name](world))
    assert len(found) == frame.height
    assert set(found) == set(expected)
    for key, row in expected.items():
        for column, value in row.items():
            assert same(found[key][column], value), (key, column, found[key][column], value)
    assert not frame["suppressed"].any() or name == "concentration"


@FEW
@given(world=worlds())
def test_every_answer_says_who_is_behind_it(con: duckdb.DuckDBPyConnection, world: World) -> None:
    fill(con, world)
    for name in ("active_profiles", "feature_usage"):
        frame = answer(con, name, asked_of(world))
        if is_empty(world):
            continue
        for row in frame.rows(named=True):
            span = (row["day"], row["day"]) if "day" in row else (world.from_day, world.to_day)
            reporting, known = coverage_of(world, *span)
            assert (row["instances_reporting"], row["instances_known"]) == (reporting, known)
            assert same(row["coverage"], reporting / known if known else None)
            assert row["fresh_at"].date() == world.today


@FEWER
@given(world=worlds(), threshold=st.integers(2, 6))
def test_a_number_below_the_threshold_is_nowhere_to_be_read(
    con: duckdb.DuckDBPyConnection, world: World, threshold: int
) -> None:
    """The columns that count distinct instances or profiles, of every public question."""
    fill(con, world)
    counted = {"instances", "profiles", "active", "new", "retained", "returned", "lost", "gone", "known_before"}
    counted |= {"active_1d", "active_7d", "active_28d", "instances_reporting", "instances_known", "newcomers"}
    counted |= {"instances_active", "at_risk", "upgraded", "within_7d", "newcomers_7d", "instances_with_gaps"}
    counted |= {"instances_with_loss", "instances_implausible", "profiles_known"}
    for card in all_cards().values():
        if card.audience == "operator" or (card.name == "instance_sizes"):
            continue
        frame = answer(con, card.name, asked_of(world, threshold))
        for column in counted & set(frame.columns):
            shown = frame[column].drop_nulls()
            assert not shown.is_between(1, threshold - 1).any(), (card.name, column, shown.to_list())


@settings(parent=FEW, max_examples=10)
@given(
    sizes=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), min_size=2, max_size=14),
    threshold=st.integers(2, 5),
)
def test_what_is_hidden_cannot_be_had_by_subtraction(
    con: duckdb.DuckDBPyConnection, sizes: list[tuple[int, int]], threshold: int
) -> None:
    """Versions of a day and sizes of instances add up to a published total: what is hidden is never a small rest.

    All instances on one day, each with so many profiles and one of three versions.
    """
    crowd = [
        Batch(
            UUID(int=(1 << 100) + n),
            VERSIONS[version],
            MONDAY,
            tuple(Event(MONDAY, "navigate", UUID(int=(n << 20) + k)) for k in range(1, size + 1))
            or (Event(MONDAY, "navigate", NOBODY),),
        )
        for n, (size, version) in enumerate(sizes)
    ]
    fill(con, World(tuple(crowd)))
    for name in ("version_adoption", "instance_sizes"):
        frame = answer(con, name, Asked(threshold=threshold))
        shown = frame["instances"].sum()
        assert frame["instances_active"][0] == (len(sizes) if len(sizes) >= threshold else None)
        assert shown == len(sizes) or len(sizes) - shown >= threshold or len(sizes) < threshold, name


def test_parts_of_a_row_are_hidden_together(con: duckdb.DuckDBPyConnection) -> None:
    """New, retained and returned add up to active: the same for every combination of small numbers."""
    rows = con.execute("""
        SELECT [new, retained, returned],
               [hidden_of_three(part, new, retained, returned) FOR part IN [new, retained, returned]]
        FROM range(12) a(new), range(12) b(retained), range(12) c(returned)
    """).fetchall()
    assert len(rows) == 12**3
    for parts, hidden in rows:
        rest = sum(part for part, is_hidden in zip(parts, hidden, strict=True) if is_hidden)
        assert all(is_hidden for part, is_hidden in zip(parts, hidden, strict=True) if 1 <= part < 5)
        assert not 1 <= rest < 5 or sum(parts) < 5 or all(h for p, h in zip(parts, hidden, strict=True) if p), parts


@FEW
@given(world=worlds())
def test_a_batch_at_a_time_or_all_at_once_the_rollups_are_the_same(
    con: duckdb.DuckDBPyConnection, world: World
) -> None:
    fill(con, world, by_batch=True)
    landed = {table: contents(con, table) for table in rollups.TABLES}
    rollups.rebuild(con)
    assert {table: contents(con, table) for table in rollups.TABLES} == landed
    ((events, rolled),) = con.execute(
        "SELECT (SELECT count(*) FROM events), (SELECT coalesce(sum(events), 0) FROM instance_days)"
    ).fetchall()
    assert events == rolled
    ((profiles, rolled),) = con.execute("""
        SELECT (SELECT count(*) FROM events WHERE profile_id <> '00000000-0000-0000-0000-000000000000'),
               (SELECT coalesce(sum(events), 0) FROM profile_days)
    """).fetchall()
    assert profiles == rolled


@FEW
@given(world=worlds(), data=st.data())
def test_rollups_follow_what_is_erased(con: duckdb.DuckDBPyConnection, world: World, data: st.DataObject) -> None:
    fill(con, world)
    gone = data.draw(st.sampled_from([event.profile for batch in world.batches for event in batch.events]))
    touched = con.execute("SELECT DISTINCT batch_no FROM events WHERE profile_id = ?", [gone]).fetchall()
    con.execute("DELETE FROM events WHERE profile_id = ?", [gone])
    rollups.rebuild(con, [number for (number,) in touched])
    after = {table: contents(con, table) for table in rollups.TABLES}
    rollups.rebuild(con)
    assert {table: contents(con, table) for table in rollups.TABLES} == after


def contents(con: duckdb.DuckDBPyConnection, table: str) -> list[tuple[object, ...]]:
    return con.execute(f"SELECT * FROM {table} ORDER BY ALL").fetchall()  # noqa: S608  our own table names


MOVED_BY_COPIES = {"events", "events_per_profile", "repeats", "deliveries", "batches", "repeat_share", "weak_batches"}
OF_INSTANCES = {"instances", "instances_reporting", "instances_known", "coverage", "is_open"}
STEADY = (
    "active_instances",
    "active_profiles",
    "stickiness",
    "profile_lifecycle",
    "weekly_cohorts",
    "platforms",
    "screens",
)


@FEWER
@given(world=worlds())
def test_what_comes_twice_moves_no_distinct_count(con: duckdb.DuckDBPyConnection, world: World) -> None:
    """A page of a sender without a batch id that holds the page before it once more, and repeats of any batch."""
    fill(con, world)
    names = (*STEADY, "feature_usage", "version_adoption", "instance_sizes", "instance_lifecycle", "upgrade_lag")
    before = {name: answer(con, name, asked_of(world)) for name in names}
    doubled = tuple(
        replace(b, events=b.events * 2, repeats=b.repeats + 1) if b.seq is None else b for b in world.batches
    )
    fill(con, replace(world, batches=doubled))
    for name, frame in before.items():
        again = answer(con, name, asked_of(world))
        steady = [column for column in frame.columns if column not in MOVED_BY_COPIES]
        assert again.select(steady).equals(frame.select(steady)), name


@FEWER
@given(world=worlds())
def test_a_new_instance_id_moves_no_number_of_profiles(con: duckdb.DuckDBPyConnection, world: World) -> None:
    everywhere = replace(world, instance=None)
    half, old = len(world.batches) // 2, world.batches[0].instance
    new = UUID(int=old.int + (1 << 110))
    moved = [replace(b, instance=new) if b.instance == old and n >= half else b for n, b in enumerate(world.batches)]
    profiles = {
        name: [column for column in all_cards()[name].columns if column not in OF_INSTANCES]
        for name in STEADY
        if name != "active_instances"
    }
    fill(con, everywhere)
    before = {name: answer(con, name, asked_of(everywhere)).select(columns) for name, columns in profiles.items()}
    fill(con, replace(everywhere, batches=tuple(moved)))
    for name, frame in before.items():
        again = answer(con, name, asked_of(everywhere)).select(profiles[name])
        # What counts as late is looked at by instance: a cell may open or close, and a cohort's last cell come or go.
        keys = [
            key for key in ("day", "week", "cohort", "week_no", "dimension", "value", "band") if key in frame.columns
        ]
        kept = again.join(frame, on=keys, how="semi"), frame.join(again, on=keys, how="semi")
        assert kept[0].equals(kept[1]), name


@pytest.mark.parametrize("old_days", [1, 60])
def test_a_few_events_of_a_wrong_clock_do_not_begin_the_data(con: duckdb.DuckDBPyConnection, old_days: int) -> None:
    """Forty days of real events, and one event on each of some days of the year before."""
    last = MONDAY + 39 * DAY
    real = tuple(Event(MONDAY + n * DAY, "navigate", UUID(int=k + 1)) for n in range(40) for k in range(25))
    stray = tuple(Event(MONDAY - (300 - n) * DAY, "navigate", UUID(int=1)) for n in range(old_days))
    honest = World((Batch(UUID(int=1 << 100), VERSIONS[0], last, real),))
    fill(con, honest)
    before = answer(con, "stickiness", Asked(threshold=1))
    fill(con, replace(honest, batches=(*honest.batches, Batch(UUID(int=1 << 101), VERSIONS[0], last, stray))))
    after = answer(con, "stickiness", Asked(threshold=1))
    same_columns = ["day", "mean_daily", "stickiness", "is_warmup"]
    assert before.height == 40
    assert after.select(same_columns).equals(before.select(same_columns))


def test_where_nothing_is_held_a_question_has_no_days_without_end(con: duckdb.DuckDBPyConnection) -> None:
    fill(con, World(()))
    assert answer(con, "active_profiles", Asked(date(1, 1, 1), date(9999, 12, 31))).height <= 1


STRANGERS = [UUID(int=(1 << 111) + n) for n in range(3)]


@st.composite
def invented(draw: st.DrawFn, honest: World) -> tuple[Batch, ...]:
    """Batches of strangers: under ids of their own, with anybody's profiles, on the first two days that there were."""
    two_days = sorted({b.received_on for b in honest.batches})[:2]
    sent = draw(st.lists(batches(), min_size=3, max_size=6))
    return tuple(
        replace(b, instance=draw(st.sampled_from(STRANGERS)), received_on=draw(st.sampled_from(two_days))) for b in sent
    )


OF_EACH_TABLE = ("active_instances", "feature_usage", "sender_loss", "suspect_ids", "overview")


@settings(parent=FEWER, max_examples=2)
@given(world=worlds(), data=st.data())
def test_invented_penpots_move_no_answer_that_leaves_out_the_unvouched(
    con: duckdb.DuckDBPyConnection, world: World, data: st.DataObject
) -> None:
    """Every column, open days and coverage too, is what it was before the strangers came."""
    world = replace(world, vouch_days=3)
    assume(len({b.received_on for b in world.batches}) > 3)
    fill(con, world)
    before = {name: answer(con, name, asked_of(world, 2)) for name in OF_EACH_TABLE}
    fill(con, replace(world, batches=(*world.batches, *data.draw(invented(world)))))
    for name, frame in before.items():
        assert answer(con, name, asked_of(world, 2)).equals(frame), name


def test_a_receiver_in_its_first_days_leaves_out_only_those_heard_on_fewer_days_than_it_was(
    con: duckdb.DuckDBPyConnection,
) -> None:
    """Written by hand: one Penpot on both days, another on the second only."""
    event = (Event(MONDAY, "navigate", UUID(int=1)),)
    old, new = UUID(int=1 << 100), UUID(int=1 << 101)
    first = (Batch(old, "2.9.0", MONDAY, event),)
    second = (Batch(old, "2.9.0", MONDAY + DAY, event), Batch(new, "2.9.0", MONDAY + DAY, event))
    for sent, vouch_days, instances in (
        (first, 3, 1),
        (first + second, 3, 1),
        (first + second, 0, 2),
        (first + second, 1, 2),
        (first + second, None, 2),
    ):
        fill(con, World(sent))
        found = answer(con, "overview", Asked(threshold=1, vouch_days=vouch_days))
        assert found["instances"].item() == instances, vouch_days


def test_two_thousand_invented_penpots_are_a_few_groups_of_suspect_ids(con: duckdb.DuckDBPyConnection) -> None:
    """All of them with the profile of an honest one, which itself was reset once; 300 are two machines under one id.

    Each pair as a row would be two million rows.
    """
    mine = (Event(MONDAY, "navigate", UUID(int=7)), Event(MONDAY, "navigate", UUID(int=8)))
    later = tuple(event._replace(day=MONDAY + 3 * DAY) for event in mine)
    old, new = UUID(int=1 << 99), UUID(int=(1 << 99) + 1)
    crowd = [UUID(int=(1 << 100) + n) for n in range(2000)]
    sent = [Batch(old, "2.9.0", MONDAY + DAY, mine * 80), Batch(new, "2.9.0", MONDAY + 4 * DAY, later)]
    sent += [Batch(one, "2.9.0", MONDAY + 5 * DAY, later[:1], seq=1) for one in (*crowd, *crowd[:300])]
    fill(con, World(tuple(sent)))
    frame = answer(con, "suspect_ids", Asked(threshold=1))
    groups = frame.select("kind", "instance_id", "ids", "since", "sign", "signs", "profiles").rows()
    assert groups[0] == ("cloned", str(crowd[0]), 1, MONDAY + 5 * DAY, "number-used-twice", 1, None)
    assert groups[200] == ("cloned", None, 100, MONDAY + 5 * DAY, "number-used-twice", 1, None)
    assert groups[201:] == [("reset", str(old), 2001, MONDAY + 3 * DAY, "shared-profiles", 2, 2)]
    assert frame["other_id"][-1] == str(new)
    assert answer(con, "suspect_ids", Asked(instance=crowd[-1]))["ids"].to_list() == [2001]
