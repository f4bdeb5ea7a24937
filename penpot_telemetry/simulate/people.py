"""Who there is: from a frozen spec to Penpots and the people on them.

Everything is drawn from streams named after what they decide, so a change to one decision leaves the others alone,
and any Penpot, person or day can be had without the ones before it. Reads no clock.
"""

import math
import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import lru_cache
from typing import TypeVar
from uuid import UUID

from penpot_telemetry.simulate import habits
from penpot_telemetry.simulate.habits import Kind, Platform, Release

T = TypeVar("T")

PENPOT_EPOCH = date(2022, 1, 1)
DAY_MS = 86_400_000

ARRIVALS_PER_WEEK = 0.04
"""Newcomers against the size: about as many stay as others leave."""


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong, each on its own: a count of instances it strikes, or a share of batches. Zero: never."""

    outages: int = 0
    """Instances that cannot reach the receiver for `outage_days`; their days arrive late."""
    outage_days: int = 5
    missing: int = 0
    """Instances that record nothing for `missing_days`, although people work."""
    missing_days: int = 3
    duplicates: float = 0.0
    """Share of batches that arrive twice, byte for byte."""
    overlaps: float = 0.0
    """Share of a plain Penpot's batches whose answer is lost: their rows are sent again among the next ones."""
    losses: int = 0
    """Instances that cannot reach the receiver for `loss_days`, so that more rows wait than `cap`."""
    loss_days: int = 21
    cap: int = 100_000
    """Rows that may wait on an instance; above it the oldest go. Holds for every instance."""
    skews: int = 0
    """Instances whose clock is off by `skew_days`, or by as much the other way."""
    skew_days: int = 3
    resets: int = 0
    """Instances that get a new id one day, and with it a new account of batches; the profiles stay."""
    clones: int = 0
    """Machines more than `instances`: each a copy of one that goes on under the same id."""
    bots: int = 0
    """Instances with a script that makes `bot_events` under one profile, over `bot_days`."""
    bot_events: int = 1_000_000
    bot_days: int = 5


@dataclass(frozen=True, slots=True)
class FleetSpec:
    """A fleet in one value: the same spec gives the same bytes."""

    seed: int = 1
    instances: int = 20
    first_day: date = date(2026, 1, 5)
    days: int = 28
    sizes: tuple[int, ...] = ()
    """People at a time on the first instances; the others draw theirs from a heavy tail."""
    median_size: float = 4.0
    tail: float = 1.05
    """The exponent of the sizes' tail: nearer to 1 is heavier."""
    largest_size: int = 600
    established: float = 0.6
    """Share of instances that ran before the first day."""
    growth: float = 0.5
    """By how much a year raises the arrival of people and of instances."""
    churn: float = 1.0
    """Scales how often an instance is shut down; 0: never."""
    activity: float = 1.0
    """Scales the events of a person's day (about 45 at 1)."""
    plain: float = 0.3
    """Share of Penpots that send for themselves, without a batch id."""
    send_hours: int = 24
    """Hours between two sends: a divisor of 24. Penpot's own is 3."""
    page: int = 10_000
    """The most events of one batch."""
    releases: tuple[Release, ...] = habits.RELEASES
    faults: Faults = field(default_factory=Faults)

    def __post_init__(self) -> None:
        if 24 % self.send_hours:
            raise ValueError(f"send_hours: found {self.send_hours}, expected a divisor of 24 (3 is Penpot's own)")
        if min(self.sizes, default=1) < 1 or min(self.days, self.page) < 1:
            raise ValueError("sizes, days and page: expected 1 or more, a Penpot has at least one person")

    @property
    def last_day(self) -> date:
        """The last day with events."""
        return self.first_day + timedelta(days=self.days - 1)


@dataclass(frozen=True, slots=True)
class Instance:
    """One Penpot. `number` is its place in the fleet and never leaves it; `id` is what it calls itself."""

    number: int
    id: UUID
    machine: UUID
    """Tells the machine itself, which a receiver cannot know: equal to `id` but for a clone."""
    size: int
    born: date
    died: date | None
    """The first day without it; none when it outlives the fleet."""
    ours: bool
    """Sends by this project's sender, with batch ids; otherwise a plain Penpot."""
    versions: tuple[Release, ...]
    """What it runs, and since when: here `day` is the day of the installation."""
    clone_of: int | None = None
    reset: tuple[date, UUID] | None = None
    clock_days: int = 0
    """By how many days its clock is ahead."""
    silent: tuple[date, date] | None = None
    """First and last day on which nothing is recorded."""
    cut_off: tuple[date, date] | None = None
    """First and last day on which nothing gets out."""
    bot: tuple[date, date] | None = None

    def lives_on(self, day: date) -> bool:
        """Whether it runs on that day."""
        return self.born <= day and (self.died is None or day < self.died)

    def id_on(self, day: date) -> UUID:
        """The id under which it speaks on that day."""
        return self.reset[1] if self.reset and day >= self.reset[0] else self.id

    def version_on(self, day: date) -> str:
        """The version that runs on that day (the first one, before its birth)."""
        return self.versions[max(0, bisect_right(self.versions, day, key=_installed) - 1)].version

    def upgrades_on(self, day: date) -> bool:
        """Whether a new version is installed on that day."""
        return any(installed.day == day for installed in self.versions[1:])


@dataclass(frozen=True, slots=True)
class Profile:
    """One person on one instance, with the same browser and the same leanings for as long as they come."""

    id: UUID
    number: int
    joined: date
    left: date
    """The last day on which they may come."""
    presence: float
    """The chance that they come on an average workday."""
    intensity: float
    platform: Platform | None
    """None: a script, which has no browser."""
    habits: tuple[tuple[date, Kind], ...]
    """Each habit and the day from which they may show it."""


def stream(*names: object) -> random.Random:
    """The random numbers that belong to these names, and to no others."""
    return random.Random("/".join(map(str, names)))


def pick(rng: random.Random, table: Sequence[tuple[float, T]]) -> T:
    """One value of a table of shares that sum to one."""
    draw = rng.random()
    for share, value in table:
        draw -= share
        if draw < 0:
            return value
    return table[-1][1]


def about(rng: random.Random, mean: float) -> int:
    """A whole number near `mean`, with `mean` as its exact expectation."""
    return int(mean * (0.5 + rng.random()) + rng.random())


def wait(rng: random.Random, mean: float) -> float:
    """A waiting time: exponential, of this mean."""
    return -mean * math.log(1.0 - rng.random())


def penpot_id(high: int, ms: int, low: int) -> UUID:
    """An id shaped as Penpot's own: version 8, 48 bits of milliseconds since 2022-01-01, 14 bits of a counter.

    Such an id tells when it was made, which is what an anonymiser has to deal with.
    """
    upper = (high & ~0xF000) | 0x8000
    return UUID(int=(upper & (1 << 64) - 1) << 64 | 0b10 << 62 | (ms & (1 << 48) - 1) << 14 | low & 0x3FFF)


def id_base(spec: FleetSpec, number: int) -> int:
    """The upper half that all ids made on one instance share."""
    return stream(spec.seed, "ids", number).getrandbits(64)


def since_epoch_ms(day: date) -> int:
    """Midnight UTC of a day on the clock of Penpot's ids."""
    return (day - PENPOT_EPOCH).days * DAY_MS


def found_instances(spec: FleetSpec) -> tuple[Instance, ...]:
    """All machines of a fleet, with the faults that strike them; the clones last."""
    machines = [_found(spec, number) for number in range(spec.instances)]
    faults = spec.faults

    def strike(fault: str, count: int, days: int) -> list[tuple[int, date, date]]:
        struck = _choose(spec, fault, count, days, machines)
        return [(number, start, start + timedelta(days=days - 1)) for number, start in struck]

    # One place per struck field, so each fault can be read beside what it does.
    for number, first, last in strike("missing", faults.missing, faults.missing_days):
        machines[number] = replace(machines[number], silent=(first, last))
    for number, first, last in strike("outages", faults.outages, faults.outage_days):
        machines[number] = replace(machines[number], cut_off=(first, last))
    for number, first, last in strike("losses", faults.losses, faults.loss_days):
        machines[number] = replace(machines[number], cut_off=(first, last))
    for number, first, _ in strike("skews", faults.skews, 1):
        days = faults.skew_days if first.toordinal() % 2 else -faults.skew_days
        machines[number] = replace(machines[number], clock_days=days)
    for number, first, _ in strike("resets", faults.resets, 1):
        new = UUID(int=stream(spec.seed, "reset", number).getrandbits(128), version=4)
        machines[number] = replace(machines[number], reset=(first, new))
    for number, first, last in strike("bots", faults.bots, faults.bot_days):
        machines[number] = replace(machines[number], bot=(first, last))
    copies = strike("clones", faults.clones, 1)
    return (*machines, *(_copy(machines[number], spec.instances + k, day) for k, (number, day, _) in enumerate(copies)))


def people_of(spec: FleetSpec, instance: Instance) -> tuple[Profile, ...]:
    """Everybody who comes to an instance between the fleet's first and last day, by the day they joined."""
    home = instance.number if instance.clone_of is None else instance.clone_of
    rng = stream(spec.seed, "people", home)
    base = id_base(spec, home)
    people = []
    for number, (joined, founder) in enumerate(_arrivals(spec, instance, rng)):
        person = _person(rng, base, number, joined, founder=founder)
        if person.left >= spec.first_day and joined <= spec.last_day:
            people.append(person)
    if instance.clone_of is not None:
        people = [person for person in people if person.joined < instance.born]
    return tuple(people)


def _installed(installed: Release) -> date:
    return installed.day


def _found(spec: FleetSpec, number: int) -> Instance:
    rng = stream(spec.seed, "instance", number)
    # Every draw is made whatever the spec says: a fixed size or birth must not shift the draws after it.
    drawn_size, age, birth, old = rng.random(), rng.random(), rng.random(), rng.random()
    ours, eager, life = rng.random() >= spec.plain, pick(rng, habits.UPGRADE_LAGS), wait(rng, 1.0)
    identity = UUID(int=rng.getrandbits(128), version=4)
    size = spec.sizes[number] if number < len(spec.sizes) else _draw_size(spec, drawn_size)
    if old < spec.established:
        born = spec.first_day - timedelta(days=20 + int(age * 400))
    else:
        born = spec.first_day + timedelta(days=int(spec.days * birth ** (1 / (1 + spec.growth))))
    # A Penpot of three people is given up sooner than one of a hundred: half-lives of about one and six years.
    mean_life = (500.0 if size < 5 else 3000.0) / spec.churn if spec.churn else math.inf  # noqa: PLR2004
    died = max(born, spec.first_day).toordinal() + 1 + life * mean_life
    return Instance(
        number=number,
        id=identity,
        machine=identity,
        size=size,
        born=born,
        died=date.fromordinal(int(died)) if died <= spec.last_day.toordinal() else None,
        ours=ours,
        versions=_draw_versions(spec, rng, born, eager),
    )


def _draw_size(spec: FleetSpec, draw: float) -> int:
    # Pareto with the wanted median: x = m * (2 * (1 - u)) ** (-1 / tail) is m where u is one half.
    wanted: float = spec.median_size * (2 * (1.0 - draw)) ** (-1 / spec.tail)
    return max(1, min(spec.largest_size, round(wanted)))


def _draw_versions(spec: FleetSpec, rng: random.Random, born: date, mean_lag: float) -> tuple[Release, ...]:
    """The versions one instance runs: the newest at its birth, then each that its operator gets to."""
    stays = rng.random() < habits.NEVER_UPGRADES
    installed = {0: born}
    for order, release in enumerate(spec.releases):
        lag = int(wait(rng, mean_lag))
        if release.day <= born:
            installed = {order: born}
        elif not stays:
            installed[order] = release.day + timedelta(days=lag)
    timeline: list[Release] = []
    newest = -1
    for order, day in sorted(installed.items(), key=lambda item: (item[1], -item[0])):
        if order > newest and day <= spec.last_day:
            timeline.append(Release(spec.releases[order].version, day))
            newest = order
    return tuple(timeline)


def _choose(spec: FleetSpec, fault: str, count: int, days: int, machines: Sequence[Instance]) -> list[tuple[int, date]]:
    """Which instances a fault strikes, and from which day: never in their first three, and wholly inside their life.

    By lot, but for losses: those strike the largest, where so much waits that something is lost.
    """
    struck: list[tuple[int, date]] = []
    rng = stream(spec.seed, "fault", fault)
    lots = [(-machine.size if fault == "losses" else 0, rng.random(), machine) for machine in machines]
    for _, draw, machine in sorted(lots, key=lambda lot: lot[:2]):
        first = max(machine.born, spec.first_day) + timedelta(days=3)
        last = min(machine.died or spec.last_day, spec.last_day) - timedelta(days=days)
        taken = fault in {"outages", "losses"} and machine.cut_off
        if len(struck) < count and first <= last and not taken:
            start = first + timedelta(days=int(draw * 1e6) % ((last - first).days + 1))
            struck.append((machine.number, start))
    return struck


def _copy(machine: Instance, number: int, day: date) -> Instance:
    """A copy that goes on by itself: the same id and people, on the version of that day for ever."""
    return Instance(
        number=number,
        id=machine.id_on(day),
        machine=UUID(int=machine.machine.int ^ number),
        size=machine.size,
        born=day,
        died=machine.died,
        ours=machine.ours,
        versions=(Release(machine.version_on(day), day),),
        clone_of=machine.number,
        reset=machine.reset if machine.reset and machine.reset[0] > day else None,
        clock_days=machine.clock_days,
    )


def _arrivals(spec: FleetSpec, instance: Instance, rng: random.Random) -> list[tuple[date, bool]]:
    """Who joins when, and whether they are founders: the size in the first two weeks, then a stream that grows."""
    origin = instance if instance.clone_of is None else _found(spec, instance.clone_of)
    arrivals = [(origin.born + timedelta(days=int(14 * rng.random() ** 2)), True) for _ in range(origin.size)]
    arrivals[0] = (origin.born, True)
    for week in range((spec.last_day - origin.born).days // 7 + 1):
        start = origin.born + timedelta(days=week * 7)
        growth = max(0.0, 1 + spec.growth * (start - spec.first_day).days / 365)
        arrivals += [
            (start + timedelta(days=int(7 * rng.random())), False)
            for _ in range(about(rng, origin.size * ARRIVALS_PER_WEEK * growth))
        ]
    end = origin.died or spec.last_day + timedelta(days=1)
    return sorted(arrival for arrival in arrivals if arrival[0] < end)


def _person(rng: random.Random, base: int, number: int, joined: date, *, founder: bool) -> Profile:
    lasting = pick(rng, habits.RETENTION)
    stay = int(wait(rng, habits.FOUNDERS_STAY if founder else lasting))
    instant = since_epoch_ms(joined) + 8 * 3_600_000 + int(rng.random() * 8 * 3_600_000)
    taken_up = []
    for kind in habits.FEATURES:
        draw, delay = rng.random(), int(wait(rng, 12.0))
        if draw < kind.share:
            taken_up.append((joined + timedelta(days=delay), kind))
    return Profile(
        id=penpot_id(base, instant, number),
        number=number,
        joined=joined,
        left=joined + timedelta(days=stay),
        presence=pick(rng, habits.PRESENCE),
        intensity=0.4 + wait(rng, 0.6),
        platform=_draw_platform(rng),
        habits=tuple(taken_up),
    )


def _draw_platform(rng: random.Random) -> Platform:
    system, browsers = pick(rng, habits.SYSTEMS)
    return make_platform(system, pick(rng, browsers), pick(rng, habits.SCREENS), pick(rng, habits.LOCALES))


@lru_cache(maxsize=4096)
def make_platform(system: habits.System, browser: habits.Browser, screen: tuple[int, int], locale: str) -> Platform:
    """The one object of this platform, shared by everybody who has it."""
    mac = system is habits.MACOS
    return Platform(
        browser=browser.name,
        browser_version=browser.version,
        engine=browser.engine,
        engine_version=browser.engine_version,
        os=system.name,
        os_version=system.version,
        arch=None if mac else "amd64",
        width=screen[0],
        height=screen[1],
        depth=30 if mac else 24,
        locale=locale,
        user_agent="Mozilla/5.0 " + browser.agent.format(system.agent),
    )
