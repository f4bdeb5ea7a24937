"""The truth, counted from plans, equals a slow and obvious recount of the events that the fleet streams."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import date, timedelta
from typing import NamedTuple
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from penpot_telemetry.events import ZERO_UUID
from penpot_telemetry.simulate import Faults, Fleet, FleetSpec, Truth

DAY = timedelta(days=1)


class Seen(NamedTuple):
    """What a receiver knows of one event."""

    day: date
    instance: UUID
    version: str
    name: str
    profile: UUID | None
    context: dict[str, object]


def observe(fleet: Fleet) -> list[Seen]:
    seen = []
    for chunk in fleet.chunks():
        columns = chunk.columns
        for k, version in enumerate(chunk.version):
            profile = UUID(bytes=columns.profile_id[k] or b"")
            seen.append(
                Seen(
                    date(1970, 1, 1) + DAY * ((columns.tracked_at[k] or 0) // 86_400_000),
                    UUID(bytes=chunk.instance_id[k]),
                    version,
                    columns.name[k],
                    None if profile == ZERO_UUID else profile,
                    json.loads(columns.context[k]),
                )
            )
    return seen


def distinct(pairs: Iterable[tuple[date, UUID]], day: date, width: int) -> int:
    return len({key for at, key in pairs if day - DAY * (width - 1) <= at <= day})


def monday(day: date) -> date:
    return day - DAY * day.weekday()


faults = st.builds(
    Faults,
    missing=st.integers(0, 2),
    missing_days=st.integers(1, 5),
    skews=st.integers(0, 2),
    skew_days=st.integers(1, 9),
    resets=st.integers(0, 2),
    clones=st.integers(0, 2),
    bots=st.integers(0, 1),
    bot_events=st.integers(1, 300),
    bot_days=st.integers(1, 3),
    outages=st.integers(0, 2),
    losses=st.integers(0, 1),
    loss_days=st.integers(1, 9),
    cap=st.sampled_from([50, 100_000]),
    duplicates=st.sampled_from([0.0, 0.3]),
    overlaps=st.sampled_from([0.0, 0.3, 1.0]),
)
specs = st.builds(
    FleetSpec,
    seed=st.integers(0, 10**6),
    instances=st.integers(1, 5),
    first_day=st.dates(date(2025, 6, 1), date(2026, 9, 1)),
    days=st.integers(1, 45),
    sizes=st.lists(st.integers(1, 6), min_size=5, max_size=5).map(tuple),
    established=st.sampled_from([0.0, 0.5, 1.0]),
    churn=st.sampled_from([0.0, 1.0, 30.0]),
    activity=st.sampled_from([0.05, 0.2]),
    plain=st.sampled_from([0.0, 0.5, 1.0]),
    send_hours=st.sampled_from([3, 24]),
    page=st.sampled_from([7, 100, 10_000]),
)
slow = settings(max_examples=40, deadline=None)


@slow
@given(specs, faults)
def test_active_instances_and_profiles_equal_a_recount(spec: FleetSpec, struck: Faults) -> None:
    fleet = Fleet(replace(spec, faults=struck))
    truth, seen = fleet.truth(as_recorded=True), observe(fleet)
    people = {(event.day, event.profile) for event in seen if event.profile}
    instances = {(event.day, event.instance) for event in seen}
    for day in truth.profiles:
        assert tuple(truth.profiles[day]) == tuple(distinct(people, day, width) for width in (1, 7, 28))
        assert tuple(truth.instances[day]) == tuple(distinct(instances, day, width) for width in (1, 7, 28))
    assert {day for day, _ in instances} <= truth.instances.keys() >= set(fleet.days())
    since = truth.last_day - 27 * DAY
    sizes = Counter(instance for instance, _ in {(e.instance, e.profile) for e in seen if e.profile and e.day >= since})
    assert truth.sizes == sizes
    assert {key: tuple(life) for key, life in truth.lives.items()} == {
        key: (min(days), max(days))
        for key in {e.instance for e in seen}
        for days in [[d for d, k in instances if k == key]]
    }


@slow
@given(specs, faults)
def test_events_and_uses_equal_a_recount(spec: FleetSpec, struck: Faults) -> None:
    fleet = Fleet(replace(spec, faults=struck))
    truth, seen = fleet.truth(as_recorded=True), observe(fleet)
    assert truth.events == len(seen)
    assert truth.events_without_profile == sum(event.profile is None for event in seen)
    assert +Counter(truth.events_by_day) == Counter(event.day for event in seen)
    assert truth.events_by_instance == Counter(event.instance for event in seen)
    assert truth.uses.keys() == {event.name for event in seen}
    for name, use in truth.uses.items():
        events = [event for event in seen if event.name == name]
        profiles = {event.profile for event in events if event.profile}
        instances = {event.instance for event in events}
        assert tuple(use) == (len(events), len(profiles), len(instances), min(event.day for event in events))
        assert truth.first_use.get(name, {}) == {p: min(e.day for e in events if e.profile == p) for p in profiles}
        assert truth.first_use_by_instance[name] == {
            i: min(e.day for e in events if e.instance == i) for i in instances
        }
    browsers = {
        event.profile: event.context["browser"] for event in seen if event.profile and "browser" in event.context
    }
    assert truth.platform_mix("browser") == Counter(browsers.values())


@slow
@given(specs, faults)
def test_comings_and_cohorts_equal_a_recount(spec: FleetSpec, struck: Faults) -> None:
    fleet = Fleet(replace(spec, faults=struck))
    truth, seen = fleet.truth(as_recorded=True), observe(fleet)
    days = {p: {e.day for e in seen if e.profile == p} for p in {e.profile for e in seen if e.profile}}
    for week, comings in truth.weeks.items():
        here = [d for d in days.values() if any(monday(day) == week for day in d)]
        new = [d for d in here if monday(min(d)) == week]
        kept = [d for d in here if any(monday(day) == week - 7 * DAY for day in d)]
        assert tuple(comings) == (len(new), len(kept), len(here) - len(new) - len(kept))
    assert sum(comings.new for comings in truth.weeks.values()) == len(days)
    for cohort, kept_by_week in truth.cohorts.items():
        for nth, kept_in_week in kept_by_week.items():
            members = [
                {(day - min(d)).days // 7 for day in d}
                for d in days.values()
                if monday(min(d)) == cohort and min(d) + DAY * (7 * nth + 6) <= truth.last_day
            ]
            assert tuple(kept_in_week) == (sum(nth in member for member in members), len(members))


@slow
@given(specs, faults)
def test_versions_and_lags_equal_a_recount(spec: FleetSpec, struck: Faults) -> None:
    fleet = Fleet(replace(spec, faults=struck))
    truth, seen = fleet.truth(as_recorded=True), observe(fleet)
    order = {release.version: place for place, release in enumerate(spec.releases)}
    ran = {(event.day, event.instance, order[event.version]) for event in seen}
    assert {(day, key): order[v] for day, on in truth.versions.items() for key, v in on.items()} == {
        (day, key): max(place for d, k, place in ran if (d, k) == (day, key)) for day, key, _ in ran
    }
    lags = {}
    for key in {event.instance for event in seen}:
        mine = [(day, place) for day, k, place in ran if k == key]
        for place, release in enumerate(spec.releases):
            before = [p for day, p in mine if day < release.day]
            after = [day for day, _ in mine if day >= release.day]
            if before and max(before) < place and after:
                reached = [day for day, p in mine if p >= place]
                end = min(reached) if reached else max(after)
                lags[key, release.version] = ((end - release.day).days, bool(reached))
    assert {(lag.instance, lag.version): (lag.days, lag.upgraded) for lag in truth.upgrade_lags()} == lags


@slow
@given(specs, faults)
def test_the_books_of_the_senders_agree_with_what_arrives(spec: FleetSpec, struck: Faults) -> None:
    fleet = Fleet(replace(spec, faults=struck))
    arrived: set[tuple[int, date, int]] = set()
    repeated = 0
    for batch in fleet.batches():
        places = [
            (batch.instance.number, part.plan.day, k) for part in batch.parts for k in range(part.start, part.stop)
        ]
        assert batch.repeated == len(arrived.intersection(places))
        repeated += batch.repeated
        arrived.update(places)
    senders = fleet.delivered()
    assert sum(account.arrived for account in senders.accounts) == len(arrived) == sum(senders.lateness.values())
    assert sum(account.repeated for account in senders.accounts) == repeated
    for account in senders.accounts:
        assert account.recorded == account.shipped + account.dropped + account.pending
        assert 0 <= account.pending <= max(struck.cap, 0)
    if not struck.overlaps:
        dropped = sum(
            account.dropped for account in senders.accounts if fleet.instances[account.number].clone_of is None
        )
        recorded = sum(plan.events for plan in fleet.plans() if plan.recorded)
        assert struck.clones or recorded == len(arrived) + dropped


@slow
@given(specs, faults)
def test_faults_on_the_road_and_in_ids_leave_what_happened_alone(spec: FleetSpec, struck: Faults) -> None:
    harmless = replace(struck, clones=0, bots=0)

    def happened(faults: Faults) -> Truth:
        return Fleet(replace(spec, faults=faults)).truth()

    assert happened(harmless) == happened(Faults())


@slow
@given(specs, st.integers(0, 44), st.integers(0, 44))
def test_a_range_is_the_truth_of_its_days_alone(spec: FleetSpec, since: int, until: int) -> None:
    fleet = Fleet(spec)
    first, last = spec.first_day + DAY * since, spec.first_day + DAY * until
    truth = fleet.truth(first, last, numbers={0})
    number_0 = fleet.instances[0].id
    expected = Counter(e.day for e in observe(fleet) if first <= e.day <= last and e.instance == number_0)
    assert +Counter(truth.events_by_day) == expected
