"""The questions on a simulated fleet, against the truth that is counted from its plans: exact where nothing went wrong,
and what a bot, a new id or a copied machine moves, or does not.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from penpot_telemetry.simulate import Faults, Fleet, FleetSpec
from penpot_telemetry.simulate.truth import Truth
from receiver import rollups
from receiver.analysis.opened import OpenWarehouse, open_warehouse
from receiver.bulk import load_history
from receiver.warehouse import Warehouse

DAY = timedelta(days=1)
SPEC = FleetSpec(
    seed=11, instances=14, first_day=date(2026, 3, 2), days=75, activity=0.1, largest_size=12, median_size=4.0
)
FAULTY = FleetSpec(
    seed=11,
    instances=14,
    first_day=SPEC.first_day,
    days=75,
    activity=0.1,
    largest_size=12,
    median_size=4.0,
    faults=Faults(resets=2, bots=1, bot_events=3000),
)


def load(spec: FleetSpec, path: Path) -> tuple[OpenWarehouse, Truth]:
    fleet = Fleet(spec)
    with Warehouse(path) as warehouse:
        load_history(warehouse, fleet.chunks())
        rollups.create(warehouse.con)
        rollups.rebuild(warehouse.con)
    return open_warehouse(path), fleet.truth(as_recorded=True)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OpenWarehouse, Truth]]:
    opened, truth = load(SPEC, tmp_path_factory.mktemp("truth") / "fleet.duckdb")
    with opened:
        yield opened, truth


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OpenWarehouse, Truth]]:
    opened, truth = load(FAULTY, tmp_path_factory.mktemp("truth") / "faulty.duckdb")
    with opened:
        yield opened, truth


@pytest.mark.parametrize("which", ["instances", "profiles"])
def test_active_ones_are_the_true_ones(fleet: tuple[OpenWarehouse, Truth], which: str) -> None:
    opened, truth = fleet
    rows = opened.ask(f"active_{which}", first_day="2026-01-01", threshold=1).rows(named=True)
    true = getattr(truth, which)
    assert len(rows) == 76
    for row in rows[:75]:
        assert (row["active_1d"], row["active_7d"], row["active_28d"]) == tuple(true[row["day"]])


def test_weeks_and_cohorts_are_the_true_ones(fleet: tuple[OpenWarehouse, Truth]) -> None:
    opened, truth = fleet
    for row in opened.profile_lifecycle(threshold=1).rows(named=True):
        assert (row["new"], row["retained"], row["returned"]) == tuple(truth.weeks[row["week"]])
    cells = opened.weekly_cohorts(threshold=1).rows(named=True)
    closed = [row for row in cells if not row["is_open"]]
    assert len(closed) > 20
    for row in closed:
        assert (row["active"], row["profiles"]) == tuple(truth.cohorts[row["cohort"]][row["week_no"]])


def test_versions_are_the_true_ones(fleet: tuple[OpenWarehouse, Truth]) -> None:
    opened, truth = fleet
    found = {(row["day"], row["version"]): row["instances"] for row in opened.version_adoption(threshold=1).to_dicts()}
    true = Counter((day, version) for day, ran in truth.versions.items() for version in ran.values())
    assert found == true


def test_features_are_the_true_ones(fleet: tuple[OpenWarehouse, Truth]) -> None:
    opened, truth = fleet
    found: dict[str, tuple[int, int, int]] = {}
    for row in opened.feature_usage(threshold=1).rows(named=True):
        found[row["name"]] = row["events"], row["profiles"], row["instances"]
    assert found == {name: (use.events, use.profiles, use.instances) for name, use in truth.uses.items()}


def test_sizes_are_the_true_ones(fleet: tuple[OpenWarehouse, Truth]) -> None:
    opened, truth = fleet
    last = truth.last_day
    frame = opened.instance_sizes(last_day=last, threshold=1)
    assert frame["profiles"].sum() == sum(truth.sizes.values())
    assert frame.filter(frame["band"] != "0")["instances"].sum() == len(truth.sizes)
    assert frame.filter(frame["band"] == "5-9")["instances"].item() == sum(5 <= n <= 9 for n in truth.sizes.values())


def test_the_bot_and_a_new_id_move_what_the_cards_say(
    fleet: tuple[OpenWarehouse, Truth], faulty: tuple[OpenWarehouse, Truth]
) -> None:
    """The bot is one profile more; a new id makes one instance more, and nobody else."""
    (clean, _), (struck, truth) = fleet, faulty
    before = clean.ask("active_profiles", threshold=1)["active_1d"].to_list()
    after = struck.ask("active_profiles", threshold=1)["active_1d"].to_list()
    assert len(before) == len(after)
    assert {b - a for a, b in zip(before, after, strict=True)} == {0, 1}
    one, other = clean.overview(threshold=1).row(0, named=True), struck.overview(threshold=1).row(0, named=True)
    assert other["events"] - one["events"] == 3000
    assert other["profiles"] - one["profiles"] == 1
    assert other["instances"] - one["instances"] == 2
    resets = struck.suspect_ids().filter(struck.suspect_ids()["kind"] == "reset")
    lives = truth.lives
    assert {str(i) for i in lives} >= set(resets["instance_id"]) | set(resets["other_id"])
    assert resets.height == 2


def test_upgrades_are_the_true_ones(fleet: tuple[OpenWarehouse, Truth]) -> None:
    """Among those that were known before the release appeared, those that are seen on it or a later one."""
    opened, truth = fleet
    for row in opened.upgrade_lag(threshold=1).rows(named=True):
        day, version = row["appeared_on"], row["version"]
        assert day == min(seen[version] for seen in truth.version_first_seen.values() if version in seen)
        assert row["upgraded"] <= row["instances"] <= len(truth.lives)
