"""The questions on a simulated fleet, against the truth that is counted from its plans: exact where nothing went wrong,
and what a bad road, a bot, a new id or a copied machine moves, or does not.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import date, timedelta
from fractions import Fraction
from functools import partial
from itertools import groupby, pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple
from uuid import UUID

import polars as pl
import pytest

from penpot_telemetry.simulate import Faults, Fleet, FleetSpec, Senders, SimulatedBatch
from penpot_telemetry.simulate.habits import Release
from penpot_telemetry.simulate.truth import SILENCE, Truth
from penpot_telemetry.wire.payload import build_events
from receiver.intake.commit import receive
from receiver.intake.load import load_history
from receiver.intake.prepare import prepare
from receiver.lifecycle.startup import open_store
from receiver.questions.reader import OpenWarehouse, open_warehouse
from receiver.storage import rollups
from receiver.storage.paths import places_beside
from receiver.storage.warehouse import Warehouse
from tests.property.reference import kaplan_meier

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


class Lag(NamedTuple):
    """A release: who waited for it, and how long until each was seen on it, or last seen at all."""

    appeared_on: date
    lags: list[tuple[int, bool]]


def seen_days(truth: Truth) -> dict[UUID, list[date]]:
    """The days on which each instance was active."""
    days: defaultdict[UUID, list[date]] = defaultdict(list)
    for day, ran in truth.versions.items():
        for instance in ran:
            days[instance].append(day)
    return days


def true_lags(truth: Truth) -> dict[str, Lag]:
    """By release, from the day on which it was first seen anywhere: of those active in the 28 days before it."""
    appeared = {
        release.version: min(
            seen[release.version] for seen in truth.version_first_seen.values() if release.version in seen
        )
        for release in truth.releases
        if any(release.version in seen for seen in truth.version_first_seen.values())
    }
    days = seen_days(truth)
    lags = {version: Lag(day, []) for version, day in appeared.items()}
    for lag in truth.upgrade_lags([Release(version, day) for version, day in appeared.items()]):
        if any(1 <= (appeared[lag.version] - day).days <= SILENCE for day in days[lag.instance]):
            lags[lag.version].lags.append((lag.days, lag.upgraded))
    return lags


def test_upgrades_are_the_true_ones(fleet: tuple[OpenWarehouse, Truth]) -> None:
    opened, truth = fleet
    lags = true_lags(truth)
    rows = opened.upgrade_lag(threshold=1).rows(named=True)
    assert sum(row["upgraded"] for row in rows) > 5
    for row in rows:
        appeared_on, waited = lags[row["version"]]
        assert row["appeared_on"] == appeared_on
        assert (row["instances"], row["upgraded"]) == (len(waited), sum(upgraded for _, upgraded in waited))
        if waited:
            assert row["median_days"] == kaplan_meier(waited, Fraction(1, 2))
            assert row["p90_days"] == kaplan_meier(waited, Fraction(1, 10))


def test_stickiness_is_the_true_one(fleet: tuple[OpenWarehouse, Truth]) -> None:
    opened, truth = fleet
    counts = list(truth.profiles.values())
    rows = opened.stickiness(threshold=1).rows(named=True)
    for place, row in enumerate(rows[:75]):
        held = counts[max(0, place - 27) : place + 1]
        mean = sum(count.day for count in held) / len(held)
        assert row["mean_daily"] == pytest.approx(mean)
        assert row["stickiness"] == pytest.approx(mean / counts[place].four_weeks)


def test_first_uses_are_the_true_ones(fleet: tuple[OpenWarehouse, Truth]) -> None:
    opened, truth = fleet
    since = SPEC.first_day + 35 * DAY
    came: dict[UUID, date] = {}
    for uses in truth.first_use.values():
        for profile, day in uses.items():
            came[profile] = min(day, came.get(profile, day))
    newcomers = {profile for profile, day in came.items() if day >= since}
    rows = opened.feature_first_use(first_day=since, last_day=SPEC.last_day, threshold=1).rows(named=True)
    assert len(rows) > 20
    for row in rows:
        uses = truth.first_use[row["name"]]
        waits = [(day - came[profile]).days for profile, day in uses.items() if profile in newcomers]
        assert (row["newcomers"], row["profiles"], row["median_days"]) == (len(newcomers), len(waits), median(waits))


@pytest.mark.parametrize(("question", "column"), [("platforms", "browser"), ("platforms", "os"), ("locales", "locale")])
def test_platforms_are_the_true_ones(fleet: tuple[OpenWarehouse, Truth], question: str, column: str) -> None:
    opened, truth = fleet
    frame = opened.ask(question, threshold=1)
    if question == "platforms":
        frame = frame.filter(pl.col("dimension") == column).rename({"value": column})
    true = {str(value).strip(): count for value, count in truth.platform_mix(column).items()}  # type: ignore[arg-type]
    assert dict(frame.select(column, "profiles").iter_rows()) == true
    assert frame["profiles_known"].unique().to_list() == [len(truth.platforms)]


def test_screens_are_the_true_ones(fleet: tuple[OpenWarehouse, Truth]) -> None:
    opened, truth = fleet
    widths = [platform.width for platform in truth.platforms.values()]
    edges = [0, 1280, 1440, 1920, 2560, 1_000_000]
    true = [sum(low <= width < high for width in widths) for low, high in pairwise(edges)]
    assert opened.screens(threshold=1)["profiles"].to_list() == true


def test_concentration_is_the_true_one(fleet: tuple[OpenWarehouse, Truth]) -> None:
    opened, truth = fleet
    recent = {instance for day, ran in truth.versions.items() if day > SPEC.last_day - 28 * DAY for instance in ran}
    sizes = sorted((truth.sizes.get(instance, 0) for instance in recent), reverse=True)
    (row,) = opened.concentration(last_day=SPEC.last_day, threshold=1).filter(measure="profiles").rows(named=True)
    assert (row["instances"], row["total"]) == (len(sizes), sum(sizes))
    assert row["p50"] == sizes[::-1][-(-len(sizes) // 2) - 1]
    assert row["top_10pct_share"] == pytest.approx(sum(sizes[: -(-len(sizes) // 10)]) / sum(sizes))


def test_comings_and_goings_of_instances_are_the_true_ones(fleet: tuple[OpenWarehouse, Truth]) -> None:
    opened, truth = fleet
    true: defaultdict[date, Counter[str]] = defaultdict(Counter)
    for days in seen_days(truth).values():
        for before, day, after in zip([None, *days], days, [*days[1:], None], strict=False):
            week, gone_on = day - DAY * day.weekday(), day + SILENCE * DAY
            true[week]["new"] += before is None
            true[week]["returned"] += before is not None and (day - before).days > SILENCE
            true[gone_on - DAY * gone_on.weekday()]["gone"] += after is None or after > gone_on
    weeks = opened.instance_lifecycle(last_day=SPEC.last_day, threshold=1).filter(
        pl.col("week") < SPEC.last_day - 7 * DAY
    )
    assert weeks["new"].sum() >= 10
    for row in weeks.rows(named=True):
        assert {name: row[name] for name in ("new", "returned", "gone")} == {
            name: true[row["week"]][name] for name in ("new", "returned", "gone")
        }


def test_survival_is_the_true_one(fleet: tuple[OpenWarehouse, Truth]) -> None:
    """Against the estimate of Kaplan and Meier over the true lives, one by one."""
    opened, truth = fleet
    frame = opened.instance_survival(threshold=1)
    settled = SPEC.last_day - DAY * (SILENCE + opened.overview(threshold=1)["usual_lateness"].item())
    lives = [((life.last_seen - life.first_seen).days, life.last_seen <= settled) for life in truth.lives.values()]
    for row in frame.rows(named=True):
        alive = 1.0
        for age in sorted({age for age, gone in lives if gone and age < row["age_days"]}):
            at_risk = sum(other >= age for other, _ in lives)
            alive *= 1 - sum(gone for other, gone in lives if other == age) / at_risk
        assert row["at_risk"] == sum(age >= row["age_days"] for age, _ in lives)
        assert row["survival"] == pytest.approx(alive)


def test_versions_and_new_names_are_the_true_ones(fleet: tuple[OpenWarehouse, Truth]) -> None:
    opened, truth = fleet
    ran = Counter(version for seen in truth.version_first_seen.values() for version in seen)
    assert dict(opened.versions_seen(threshold=1).select("version", "instances").iter_rows()) == ran
    since = SPEC.last_day - 27 * DAY
    new = {name for name, use in truth.uses.items() if use.first_day >= since}
    found = opened.unknown_names(last_day=SPEC.last_day, threshold=1)
    assert set(found["reason"]) <= {"new"}
    assert new <= set(found["name"])


BAD = Faults(
    outages=1, duplicates=0.1, overlaps=0.3, losses=1, loss_days=14, cap=100, resets=1, clones=1, skews=1, missing=1
)
ROAD = FleetSpec(
    seed=49, instances=9, first_day=date(2026, 3, 2), days=42, activity=0.12, median_size=5.0, largest_size=12
)
UNREADABLE = (b"{", b'{"type": "telemetry-events", "events": "?"}', b"{", b"{")


class Road(NamedTuple):
    """A fleet whose batches went through the receiver, each on its day, and what the senders know."""

    opened: OpenWarehouse
    fleet: Fleet
    senders: Senders
    batches: list[SimulatedBatch]
    held_back: SimulatedBatch | None


def deliver(path: Path, spec: FleetSpec, *, days: int = 7, holds_back: bool = False) -> Road:
    """All batches, so many days at a time; or all but one of a calm sender, and bodies that nobody can read."""
    fleet, senders = Fleet(spec), Senders(spec)
    batches = list(fleet.batches(senders))
    held_back = find_harmless(fleet, batches) if holds_back else None
    with open_store(places_beside(path)) as store:
        for _, arriving in groupby(batches, key=lambda batch: (batch.sent_at.date() - spec.first_day).days // days):
            together = [batch for batch in arriving if batch is not held_back]
            store.clock = partial(lambda batch: batch.sent_at, together[0])
            receive(store, [prepare(build_events(fleet.envelope(batch))) for batch in together])
        if holds_back:
            receive(store, [prepare(body) for body in UNREADABLE])
    return Road(open_warehouse(path), fleet, senders, batches, held_back)


def find_harmless(fleet: Fleet, batches: Sequence[SimulatedBatch]) -> SimulatedBatch:
    """A batch with a number, of an instance without a fault, that comes once and has others behind it."""
    struck = {incident.instance_id for incident in fleet.incidents()}
    repeated = {batch.batch_id for batch in batches if batch.duplicate}
    calm = [b for b in batches if b.instance.ours and b.instance_id not in struck and b.batch_id not in repeated]
    *_, held_back, _, _ = [batch for batch in calm if batch.instance_id == calm[0].instance_id]
    return held_back


@pytest.fixture(scope="module")
def bad_road(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    road = deliver(tmp_path_factory.mktemp("truth") / "bad.duckdb", replace(ROAD, faults=BAD), days=1, holds_back=True)
    with road.opened:
        yield road


def loaded(road: Road) -> list[SimulatedBatch]:
    """The batches that bring rows: not the ones that are known again, by their id or by the digest of the same page."""
    return [batch for batch in road.batches if batch.repeated < batch.events and batch is not road.held_back]


def test_repeats_and_overlaps_are_the_true_ones(bad_road: Road) -> None:
    """Exact for batches. The estimate of overlapping events is one from above: two events of one day may look alike."""
    frame = bad_road.opened.duplicates(threshold=1)
    sent = len(bad_road.batches) - 1
    assert frame["deliveries"].sum() == sent
    assert frame["batches"].sum() == len(loaded(bad_road))
    assert frame["repeats"].sum() == sent - len(loaded(bad_road)) > 10
    overlaps = sum(batch.repeated for batch in loaded(bad_road))
    assert 0 < overlaps <= frame["overlap_events"].sum() <= frame["weak_events"].sum()


def test_lateness_is_the_true_one(bad_road: Road) -> None:
    came: Counter[tuple[date, int]] = Counter()
    for batch in loaded(bad_road):
        for part in batch.parts:
            day = part.plan.day + batch.instance.clock_days * DAY
            came[day, (batch.sent_at.date() - day).days] += part.stop - part.start
    today = bad_road.batches[-1].sent_at.date()
    rows = bad_road.opened.lateness(last_day=today, threshold=1).rows(named=True)
    assert 0.5 < rows[8]["arrived_share"] < rows[12]["arrived_share"]
    for row in rows:
        by_late: Counter[int] = Counter()
        for (day, late), n in came.items():
            if (today - day).days >= max(0, row["late_days"]):  # a clock that is ahead names days to come
                by_late[late] += n
        assert row["events"] == by_late.total()
        assert row["arrived"] == sum(n for late, n in by_late.items() if late <= row["late_days"])


def test_the_batch_that_never_came_is_the_one_gap(bad_road: Road) -> None:
    gaps = bad_road.opened.sequence_gaps(threshold=1).filter(pl.col("missing") > 0)
    assert bad_road.held_back is not None
    later = [b for b in bad_road.batches if b.instance_id == bad_road.held_back.instance_id and not b.duplicate]
    following = later[later.index(bad_road.held_back) + 1]
    assert gaps.select("day", "missing", "instances_with_gaps").rows() == [(following.sent_at.date(), 1, 1)]


def test_what_nobody_can_read_is_counted_once(bad_road: Road) -> None:
    frame = bad_road.opened.quarantined(threshold=1)
    assert frame.select("reason", "bodies", "repeats").rows() == [("not-json", 1, 2), ("wrong-shape", 1, 0)]
    assert bad_road.opened.overview(threshold=1)["refused"].item() == 2


def test_losses_are_what_the_senders_dropped(bad_road: Road) -> None:
    """Our senders say what they drop; a Penpot that ships for itself drops in silence."""
    said = {instance.number for instance in bad_road.fleet.instances if instance.ours}
    true = sum(account.dropped for account in bad_road.senders.accounts if account.number in said)
    frame = bad_road.opened.sender_loss(threshold=1)
    assert frame["dropped"].sum() == true > 50
    assert frame["instances_with_loss"].max() == 1


def test_nothing_but_what_is_agreed_was_sent(bad_road: Road) -> None:
    """The simulated senders keep to the safe sets, whatever else goes wrong."""
    keys = bad_road.opened.unknown_keys(threshold=1)
    assert (keys["context_keys"].sum(), keys["event_keys"].sum()) == (0, 0)
    assert keys["events"].sum() == sum(batch.events for batch in loaded(bad_road))
    assert set(bad_road.opened.unknown_names(threshold=1)["reason"]) <= {"new"}


def test_reset_and_copied_ids_are_told_by_their_signs(bad_road: Road) -> None:
    struck = {incident.fault: incident for incident in bad_road.fleet.incidents()}
    signs = {
        (row["kind"], row["instance_id"], row["other_id"]) for row in bad_road.opened.suspect_ids().rows(named=True)
    }
    reset, clone = struck["reset"], struck["clone"]
    assert signs == {("reset", str(reset.instance_id), str(reset.other)), ("cloned", str(clone.instance_id), None)}


def test_a_bad_road_moves_no_more_than_its_account_says(bad_road: Road) -> None:
    """What is missing was dropped by a sender or held back, so at most so many events, and at most one profile or
    instance for each of them, on any day; what is too many is an overlap, and that moves events only.
    """
    opened, true = bad_road.opened, bad_road.fleet.truth(as_recorded=True)
    assert bad_road.held_back is not None
    lost = sum(account.dropped for account in bad_road.senders.accounts) + bad_road.held_back.events
    overlaps = sum(batch.repeated for batch in loaded(bad_road))
    row = opened.overview(threshold=1).row(0, named=True)
    assert -lost <= row["events"] - true.events <= overlaps
    for which in ("profiles", "instances"):
        missing = 0
        for found in opened.ask(f"active_{which}", threshold=1).rows(named=True):
            counts = getattr(true, which).get(found["day"])
            if counts is None:
                continue
            missing += counts.day - found["active_1d"]
            for name, count in zip(("active_1d", "active_7d", "active_28d"), counts, strict=True):
                assert 0 <= count - found[name] <= lost
        assert 0 <= missing <= lost


PEOPLE = ("active_profiles", "stickiness", "profile_lifecycle", "weekly_cohorts", "platforms", "locales", "screens")
INSTANCES = ("active_instances", "instance_lifecycle", "instance_survival", "instance_sizes")
VERSIONS = ("version_adoption", "versions_seen", "upgrade_lag")
USES = ("feature_usage", "feature_first_use", "concentration")
EVENTS = ("events", "events_per_profile", "fresh_at", "is_open")
"""Columns that count events, which overlaps move, and those that tell when it came."""


Answers = dict[str, pl.DataFrame]


def ask_all(opened: OpenWarehouse) -> Answers:
    """The answers that no accident of the road may move much; concentration by profiles only."""
    answers = {
        question: opened.ask(question, first_day=ROAD.first_day, last_day=ROAD.last_day, threshold=1)
        for question in ("overview", *PEOPLE, *INSTANCES, *VERSIONS, *USES)
    }
    answers["concentration"] = answers["concentration"].filter(measure="profiles")
    return answers


def differences(one: Answers, other: Answers, questions: Collection[str], without: Collection[str]) -> list[str]:
    """The questions that are answered differently, apart from some columns."""
    return [
        question
        for question in questions
        if not one[question].drop(without, strict=False).equals(other[question].drop(without, strict=False))
    ]


@pytest.fixture(scope="module")
def perfect(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    with deliver(tmp_path_factory.mktemp("truth") / "perfect.duckdb", ROAD).opened as opened:
        return ask_all(opened)


def test_what_comes_twice_moves_nothing(perfect: Answers, tmp_path: Path) -> None:
    road = deliver(tmp_path / "twice.duckdb", replace(ROAD, faults=Faults(duplicates=0.3)))
    with road.opened as twice:
        assert differences(perfect, ask_all(twice), (*PEOPLE, *INSTANCES, *VERSIONS, *USES), ()) == []
        assert twice.duplicates(threshold=1)["repeats"].sum() > 50


def test_overlaps_and_late_days_move_events_and_versions_only(perfect: Answers, tmp_path: Path) -> None:
    """Versions, because what is sent after an upgrade counts for the newer one, for the second time or the first."""
    road = deliver(tmp_path / "late.duckdb", replace(ROAD, faults=Faults(overlaps=0.4, outages=2, outage_days=9)))
    with road.opened as late:
        answers = ask_all(late)
        assert differences(perfect, answers, (*PEOPLE, *INSTANCES, *USES), EVENTS) == []
        assert differences(perfect, answers, ("feature_usage",), ("fresh_at", "is_open")) == ["feature_usage"]
        extra = answers["overview"]["events"].item() - perfect["overview"]["events"].item()
        assert extra == sum(batch.repeated for batch in loaded(road)) > 0
        assert extra <= late.duplicates(threshold=1)["overlap_events"].sum()
        by_day = [
            frame["version_adoption"].group_by("day").agg(pl.col("instances").sum()).sort("day")
            for frame in (perfect, answers)
        ]
        assert by_day[0].equals(by_day[1])


def test_a_new_id_moves_instances_only(perfect: Answers, tmp_path: Path) -> None:
    road = deliver(tmp_path / "reset.duckdb", replace(ROAD, faults=Faults(resets=1)))
    counted = ("fresh_at", "is_open", "instances", "instances_known", "instances_reporting", "coverage")
    with road.opened as reset:
        answers = ask_all(reset)
    assert differences(perfect, answers, PEOPLE, counted) == []
    assert differences(perfect, answers, ("active_instances",), ()) == ["active_instances"]
    before, after = (frames["overview"].row(0, named=True) for frames in (perfect, answers))
    assert (after["instances"], after["profiles"]) == (before["instances"] + 1, before["profiles"])
