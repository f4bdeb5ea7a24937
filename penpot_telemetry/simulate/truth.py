"""What is true of a fleet, counted from the plans: never from events, and never by a query.

A `Tally` takes plans one by one, each instance's in the order of its days, and keeps one entry a person, not an event.
It can count what happened, or what was recorded: the second leaves silent days out, puts each day where the
instance's clock put it and knows an instance by the id it gave, which is all that a perfect receiver could know.
Nobody is the zero profile: events without a profile count as events and keep an instance active, nothing else.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal, NamedTuple
from uuid import UUID

from penpot_telemetry.simulate.habits import INSTANCE_START, LOGIN_PAGE, Platform, Release
from penpot_telemetry.simulate.people import FleetSpec
from penpot_telemetry.simulate.plan import DayPlan

DAY = timedelta(days=1)
SILENCE = 28
"""Days without an event after which an instance counts as gone."""


class ActiveCounts(NamedTuple):
    """How many different ones were active on a day, in the 7 and in the 28 days that end with it."""

    day: int
    week: int
    four_weeks: int


class WeekArrivals(NamedTuple):
    """A calendar week's active profiles: seen for the first time, also seen in the week before, or back after a gap."""

    new: int
    retained: int
    returning: int


class Retention(NamedTuple):
    """A cohort in one week of its own: how many came, of how many whose whole week lies inside the data."""

    came: int
    of: int


class Usage(NamedTuple):
    """How much one kind of event was used."""

    events: int
    profiles: int
    instances: int
    first_day: date


class UpgradeLag(NamedTuple):
    """One instance and one release: days until it was seen on it or a later one; or, if not, until last seen."""

    instance: UUID
    version: str
    days: int
    upgraded: bool


class Lifespan(NamedTuple):
    """From when to when an instance was seen."""

    first_seen: date
    last_seen: date


@dataclass(frozen=True, slots=True)
class Truth:
    """The counted truth of a fleet, or of the part of it that was asked for. Instances and profiles by their ids."""

    releases: tuple[Release, ...]
    last_day: date
    events: int
    events_without_profile: int
    events_by_day: Mapping[date, int]
    events_by_instance: Mapping[UUID, int]
    instances: Mapping[date, ActiveCounts]
    profiles: Mapping[date, ActiveCounts]
    weeks: Mapping[date, WeekArrivals]
    """By the Monday of the week."""
    cohorts: Mapping[date, Mapping[int, Retention]]
    """By the Monday of the week in which they were first seen; week 0 is days 0-6 of each profile, week 1 days 7-13."""
    versions: Mapping[date, Mapping[UUID, str]]
    """What each active instance ran on each day; the newest, if one id ran two."""
    version_first_seen: Mapping[UUID, Mapping[str, date]]
    uses: Mapping[str, Usage]
    first_use: Mapping[str, Mapping[UUID, date]]
    """By event name: each profile that ever used it, and the first day."""
    first_use_by_instance: Mapping[str, Mapping[UUID, date]]
    platforms: Mapping[UUID, Platform]
    """The platform of each profile with an event from a browser."""
    sizes: Mapping[UUID, int]
    """Profiles active in the 28 days to the last day, by instance; those with none are left out."""
    lives: Mapping[UUID, Lifespan]

    def platform_mix(self, field: Literal["browser", "os", "locale", "width", "engine"]) -> dict[str | int, int]:
        """Profiles by one trait of their platform."""
        return dict(Counter(getattr(platform, field) for platform in self.platforms.values()))

    def gone(self) -> set[UUID]:
        """Instances without an event in the last 28 days."""
        return {instance for instance, life in self.lives.items() if (self.last_day - life.last_seen).days >= SILENCE}

    def upgrade_lags(self, releases: Sequence[Release] | None = None) -> list[UpgradeLag]:
        """The lag of each instance that was seen before a release, and since: reached or still open.

        `releases` in the order of their versions; by default the fleet's calendar. An instance that was first seen on
        or after the day of a release was never waiting for it; neither was one that ran a later version before.
        """
        releases = self.releases if releases is None else releases
        order = {release.version: place for place, release in enumerate(releases)}
        lags = []
        for instance, seen in self.version_first_seen.items():
            life = self.lives[instance]
            for place, release in enumerate(releases):
                reached = [day for version, day in seen.items() if order.get(version, -1) >= place]
                at = min(reached, default=None)
                if life.first_seen >= release.day or life.last_seen < release.day or (at and at < release.day):
                    continue
                until = at or life.last_seen
                lags.append(UpgradeLag(instance, release.version, (until - release.day).days, at is not None))
        return lags


class Tally:
    """Counts plans. Memory grows with people and days, not with events."""

    def __init__(self, spec: FleetSpec, *, as_recorded: bool = False) -> None:
        self.spec = spec
        self.as_recorded = as_recorded
        self._events: Counter[tuple[date, UUID]] = Counter()
        self._without_profile = 0
        self._instances = _Window()
        self._profiles = _Window()
        self._comings: defaultdict[date, Counter[str]] = defaultdict(Counter)
        self._came: defaultdict[date, Counter[int]] = defaultdict(Counter)
        self._versions: defaultdict[date, dict[UUID, str]] = defaultdict(dict)
        self._version_first_seen: defaultdict[UUID, dict[str, date]] = defaultdict(dict)
        self._uses: Counter[str] = Counter()
        self._first_use: defaultdict[str, dict[UUID, date]] = defaultdict(dict)
        self._first_use_by_instance: defaultdict[str, dict[UUID, date]] = defaultdict(dict)
        self._platforms: dict[UUID, Platform] = {}
        self._seen_on: defaultdict[UUID, dict[UUID, date]] = defaultdict(dict)
        self._order = {release.version: place for place, release in enumerate(spec.releases)}

    def add(self, plan: DayPlan) -> None:
        """Count one instance's day."""
        if (self.as_recorded and not plan.recorded) or not plan.events:
            return
        day = plan.day + DAY * plan.instance.clock_days if self.as_recorded else plan.day
        instance = plan.instance.id_on(plan.day) if self.as_recorded else plan.instance.machine
        self._events[day, instance] += plan.events
        self._instances.add(instance, day)
        self._count_version(instance, day, plan.version)
        for kind, count in ((INSTANCE_START, plan.starts), (LOGIN_PAGE, plan.login_pages)):
            self._without_profile += count
            if count:
                self._uses[kind.name] += count
                self._first_use_by_instance[kind.name].setdefault(instance, day)
        for visit in plan.visits:
            profile = visit.profile.id
            self._count_profile(profile, day)
            self._seen_on[instance][profile] = day
            if visit.profile.platform:
                self._platforms[profile] = visit.profile.platform
            for kind, count in visit.counts:
                self._uses[kind.name] += count
                self._first_use[kind.name].setdefault(profile, day)
                self._first_use_by_instance[kind.name].setdefault(instance, day)

    def finish(self) -> Truth:
        """The truth of all that was added."""
        days = sorted({day for day, _ in self._events} | {self.spec.first_day, self.spec.last_day})
        days = [days[0] + DAY * k for k in range((days[-1] - days[0]).days + 1)]
        by_day: Counter[date] = Counter()
        by_instance: Counter[UUID] = Counter()
        for (day, instance), count in self._events.items():
            by_day[day] += count
            by_instance[instance] += count
        return Truth(
            releases=self.spec.releases,
            last_day=days[-1],
            events=sum(by_day.values()),
            events_without_profile=self._without_profile,
            events_by_day={day: by_day[day] for day in days},
            events_by_instance=dict(by_instance),
            instances=self._instances.counts(days),
            profiles=self._profiles.counts(days),
            weeks={
                week: WeekArrivals(c["new"], c["retained"], c["returning"]) for week, c in sorted(self._comings.items())
            },
            cohorts=self._finish_cohorts(days[-1]),
            versions=dict(sorted(self._versions.items())),
            version_first_seen=dict(self._version_first_seen),
            uses=self._finish_uses(),
            first_use=dict(self._first_use),
            first_use_by_instance=dict(self._first_use_by_instance),
            platforms=dict(self._platforms),
            sizes=self._finish_sizes(days[-1]),
            lives={key: Lifespan(first, self._instances.last[key]) for key, first in self._instances.first.items()},
        )

    def _count_version(self, instance: UUID, day: date, version: str) -> None:
        newest = self._versions[day].get(instance, version)
        self._versions[day][instance] = max(newest, version, key=self._order.__getitem__)
        self._version_first_seen[instance].setdefault(version, day)

    def _count_profile(self, profile: UUID, day: date) -> None:
        first, last = self._profiles.first.get(profile), self._profiles.last.get(profile)
        self._profiles.add(profile, day)
        week = _monday(day)
        if first is None or last is None:
            self._comings[week]["new"] += 1
            self._came[day][0] += 1
            return
        if _monday(last) != week:
            self._comings[week]["retained" if _monday(last) == week - 7 * DAY else "returning"] += 1
        nth = (day - first).days // 7
        if nth != (last - first).days // 7:
            self._came[first][nth] += 1

    def _finish_cohorts(self, last_day: date) -> dict[date, dict[int, Retention]]:
        cohorts: defaultdict[date, dict[int, Retention]] = defaultdict(dict)
        for first, of in sorted(Counter(self._profiles.first.values()).items()):
            # Only weeks that are over: the others would mix those who did not come with those who still may.
            for nth in range(((last_day - first).days + 1) // 7):
                kept = cohorts[_monday(first)].get(nth, Retention(0, 0))
                cohorts[_monday(first)][nth] = Retention(kept.came + self._came[first][nth], kept.of + of)
        return dict(cohorts)

    def _finish_uses(self) -> dict[str, Usage]:
        uses = {}
        for name, events in sorted(self._uses.items()):
            instances = self._first_use_by_instance[name]
            profiles = len(self._first_use.get(name, ()))
            uses[name] = Usage(events, profiles, len(instances), min(instances.values()))
        return uses

    def _finish_sizes(self, last_day: date) -> dict[UUID, int]:
        since = last_day - (SILENCE - 1) * DAY
        sizes = {key: sum(day >= since for day in seen.values()) for key, seen in self._seen_on.items()}
        return {key: size for key, size in sizes.items() if size}


class _Window:
    """How many different keys were seen in windows of days; each key's days must come in order."""

    def __init__(self) -> None:
        self.first: dict[UUID, date] = {}
        self.last: dict[UUID, date] = {}
        self._steps: dict[int, Counter[date]] = {1: Counter(), 7: Counter(), 28: Counter()}

    def add(self, key: UUID, day: date) -> None:
        """Seen on a day: it counts on that day and on the days after it, as many as the window is long."""
        last = self.last.get(key)
        if last == day:
            return
        self.first.setdefault(key, day)
        self.last[key] = day
        for width, steps in self._steps.items():
            # It counts already until the end of the window that its last day opened.
            steps[day if last is None else max(day, last + width * DAY)] += 1
            steps[day + width * DAY] -= 1

    def counts(self, days: Sequence[date]) -> dict[date, ActiveCounts]:
        """The counts on each of these days, which follow one another."""
        running = dict.fromkeys(self._steps, 0)
        counts = {}
        for day in days:
            for width, steps in self._steps.items():
                running[width] += steps[day]
            counts[day] = ActiveCounts(running[1], running[7], running[28])
        return counts


def _monday(day: date) -> date:
    return day - DAY * day.weekday()
