"""Who does what on one day at one Penpot: the decisions, before any event is written.

The truth is counted from these plans and the events are rendered from them; neither looks at the other.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache

from penpot_telemetry.simulate import habits
from penpot_telemetry.simulate.habits import Kind, Release
from penpot_telemetry.simulate.people import (
    FleetSpec,
    Instance,
    Profile,
    about,
    id_base,
    penpot_id,
    since_epoch_ms,
    stream,
)

CLONE_PRESENCE = 0.3
"""A forgotten copy sees fewer people than the machine it was taken from."""

STALE_TABS = 0.3
"""On the day of an upgrade so many people still work in a page that was loaded before it."""

SIGNS_IN = 0.12
UNPLANNED_RESTARTS = 0.02
BOT_NUMBER = 16_383
"""Above every person's number: the counter in an id has 14 bits."""


@dataclass(frozen=True, slots=True)
class Visit:
    """One person's day: what they do and how often. `start` in seconds after midnight UTC."""

    profile: Profile
    start: int
    client_version: str
    counts: tuple[tuple[Kind, int], ...]

    @property
    def events(self) -> int:
        """How many events the day makes."""
        return sum(count for _, count in self.counts)


@dataclass(frozen=True, slots=True)
class DayPlan:
    """One instance's day. `starts` and `login_pages` are the events without a profile."""

    instance: Instance
    day: date
    version: str
    starts: int
    login_pages: int
    visits: tuple[Visit, ...]
    recorded: bool
    """False: the events happened and were not written down."""

    @property
    def events(self) -> int:
        """How many events the day makes, whether recorded or not."""
        return self.starts + self.login_pages + sum(visit.events for visit in self.visits)


def plan_day(spec: FleetSpec, instance: Instance, people: Sequence[Profile], day: date) -> DayPlan:
    """The plan of one day, from that day's own random numbers alone; `people` sorted by the day they joined."""
    rng = stream(spec.seed, "day", instance.number, day)
    version = instance.version_on(day)
    upgraded = instance.upgrades_on(day)
    starts = login_pages = 0
    visits: list[Visit] = []
    if instance.lives_on(day):
        visits = _plan_visits(spec, instance, people, day, rng)
        starts = int(upgraded or day == instance.born or rng.random() < UNPLANNED_RESTARTS)
        login_pages = about(rng, 0.05 + 0.1 * len(visits))
    if instance.bot and instance.bot[0] <= day <= instance.bot[1]:
        visits += _plan_bot(spec, instance, version, day)
    visits.sort(key=lambda visit: (visit.start, visit.profile.number))
    silent = instance.silent is not None and instance.silent[0] <= day <= instance.silent[1]
    return DayPlan(instance, day, version, starts, login_pages, tuple(visits), not silent)


def _plan_visits(
    spec: FleetSpec, instance: Instance, people: Sequence[Profile], day: date, rng: random.Random
) -> list[Visit]:
    factor = habits.WEEKDAYS[day.weekday()]
    if (day.month, day.day) in habits.HOLIDAYS:
        factor *= habits.HOLIDAY_FACTOR
    if instance.clone_of is not None:
        factor *= CLONE_PRESENCE
    version = instance.version_on(day)
    before = instance.version_on(day - timedelta(days=1)) if instance.upgrades_on(day) else version
    visits = []
    for person in people:
        if person.joined > day:
            break
        if person.left >= day and (rng.random() < person.presence * factor or person.joined == day):
            client = before if before != version and rng.random() < STALE_TABS else version
            visits.append(_plan_visit(spec, rng, person, day, client))
    return visits


def _plan_visit(spec: FleetSpec, rng: random.Random, person: Profile, day: date, version: str) -> Visit:
    draw = rng.random
    # The mean of two draws: mornings and evenings are rarer than noon, and the day ends before midnight UTC.
    start = int(6 * 3600 + 10 * 3600 * (draw() + draw()) / 2)
    busy = person.intensity * (0.5 + draw()) * spec.activity
    counts: list[tuple[Kind, int]] = []
    if person.joined == day or draw() < SIGNS_IN:
        counts += [(habits.LOGIN, 1), (habits.SIGNIN, 1)]
    if person.joined == day:
        counts.append((habits.ONBOARDING, 4))
    for kind in habits.ROUTINE:
        # `about`, written out: this line runs for every event kind of every person and day.
        count = int(kind.per_day * busy * (0.5 + draw()) + draw())
        if count or kind in habits.ALWAYS:
            counts.append((kind, count or 1))
    known = _features_of(spec.releases, version)
    for since, kind in person.habits:
        count = int(kind.per_day * busy * (0.5 + draw()) + draw())
        if count and since <= day and kind in known:
            counts.append((kind, count))
    return Visit(person, start, version, tuple(counts))


@lru_cache(maxsize=256)
def _features_of(releases: tuple[Release, ...], version: str) -> frozenset[Kind]:
    """The features that a version has. One that came with a release outside the calendar was always there."""
    order = {release.version: place for place, release in enumerate(releases)}
    return frozenset(kind for kind in habits.FEATURES if order.get(kind.since, -1) <= order[version])


def bot_profile(spec: FleetSpec, instance: Instance) -> Profile:
    """The account behind a bot: made on its first day, without a browser."""
    assert instance.bot is not None  # noqa: S101  asked for only where one strikes
    first, last = instance.bot
    identity = penpot_id(id_base(spec, instance.number), since_epoch_ms(first), BOT_NUMBER)
    return Profile(identity, BOT_NUMBER, first, last, 1.0, 1.0, None, ())


def _plan_bot(spec: FleetSpec, instance: Instance, version: str, day: date) -> list[Visit]:
    """The bot's even share of its events on this day; no visit when none is left for the day."""
    profile = bot_profile(spec, instance)
    share, rest = divmod(spec.faults.bot_events, (profile.left - profile.joined).days + 1)
    count = share + ((day - profile.joined).days < rest)
    return [Visit(profile, 0, version, ((habits.BOT_READ, count),))] if count else []
