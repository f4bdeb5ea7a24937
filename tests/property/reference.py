"""Every question once more in plain Python: loops over lists, slow and plain to see. Nothing is hidden here.

A `World` is what a warehouse was told; each function below answers the question of its name with one dict a row, the
columns of its own (coverage and freshness are compared by themselves).
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from statistics import median
from typing import NamedTuple
from uuid import UUID

NOBODY = UUID(int=0)
MONDAY = date(2026, 3, 2)
DAY = timedelta(days=1)
FAR = 9_223_372_036_854_775_807

Row = dict[str, object]


class Event(NamedTuple):
    day: date | None
    name: str | None
    profile: UUID
    browser: str | None = None
    width: int | None = None
    type: str = "action"
    source: str = "telemetry"


@dataclass(frozen=True)
class Batch:
    instance: UUID
    version: str
    received_on: date
    events: tuple[Event, ...]
    seq: int | None = None
    repeats: int = 0
    overlap: int | None = None
    context_keys: int = 0
    event_keys: int = 0
    totals: tuple[int, int, int] | None = None
    """recorded, dropped, quarantined"""

    @property
    def trust(self) -> str:
        return "digest" if self.seq is None else "batch-id"


class Refused(NamedTuple):
    received_on: date
    reason: str
    size: int
    repeats: int
    instance: UUID | None


class Seen(NamedTuple):
    """One event with the batch around it."""

    instance: UUID
    version: str
    batch_no: int
    received_on: date
    day: date
    name: str | None
    profile: UUID
    browser: str | None
    width: int | None
    type: str
    source: str


@dataclass(frozen=True)
class World:
    batches: tuple[Batch, ...]
    """In the order of receipt: their place plus one is their number."""
    refused: tuple[Refused, ...] = ()
    first: date | None = None
    last: date | None = None
    instance: UUID | None = None
    version: str | None = None
    vouch_days: int | None = None

    @cached_property
    def unvouched(self) -> set[UUID]:
        """Instances whose batches came on too few days; nobody can be asked for more days than there were."""
        wanted = min(self.vouch_days or 0, len({b.received_on for b in self.batches}))
        came: dict[UUID, set[date]] = defaultdict(set)
        for b in self.batches:
            came[b.instance].add(b.received_on)
        return {instance for instance, days in came.items() if len(days) < wanted}

    @cached_property
    def heard(self) -> list[Batch]:
        """The batches of the instances that are not left out."""
        return [b for b in self.batches if b.instance not in self.unvouched]

    @cached_property
    def seen(self) -> list[Seen]:
        return [
            Seen(
                b.instance, b.version, no, b.received_on, e.day, e.name, e.profile, e.browser, e.width, e.type, e.source
            )
            for no, b in enumerate(self.batches, 1)
            for e in b.events
            if e.day is not None and b.instance not in self.unvouched
        ]

    @cached_property
    def today(self) -> date:
        return max([b.received_on for b in self.batches] + [r.received_on for r in self.refused])

    @cached_property
    def epoch(self) -> date | None:
        """The first day with at least a twentieth of the events of the day that the median event lies on, when days
        are put in the order of their counts.
        """
        oldest = min(b.received_on for b in self.batches) - 365 * DAY
        counts = Counter(s.day for s in self.seen if oldest <= s.day <= self.today)
        if not counts:
            return None
        of_each_event = sorted(count for count in counts.values() for _ in range(count))
        usual = of_each_event[(len(of_each_event) - 1) // 2]
        return min(day for day, count in counts.items() if Fraction(count, usual) >= Fraction(1, 20))

    @cached_property
    def open_from(self) -> date:
        firsts: dict[tuple[UUID, date], int] = {}
        for s in self.seen:
            if self.today - 104 * DAY <= s.day <= self.today - 15 * DAY:
                late = (s.received_on - s.day).days
                firsts[s.instance, s.day] = min(late, firsts.get((s.instance, s.day), late))
        delays = sorted(firsts.values())
        usual = delays[math.ceil(Fraction(95, 100) * len(delays)) - 1] if delays else 1
        return self.today - max(1, min(14, usual)) * DAY

    @cached_property
    def to_day(self) -> date:
        if self.last is not None:
            return min(self.last, self.today)
        oldest = min(b.received_on for b in self.batches) - 365 * DAY
        held = max((s.day for s in self.seen if oldest <= s.day <= self.today), default=self.today)
        return held if self.first is None and held <= self.today - 90 * DAY else self.today

    @cached_property
    def from_day(self) -> date:
        assert self.epoch is not None
        return max(self.first or self.to_day - 89 * DAY, self.epoch)

    @cached_property
    def days(self) -> list[date]:
        return [self.from_day + n * DAY for n in range((self.to_day - self.from_day).days + 1)]

    def in_range(self, day: date) -> bool:
        return self.from_day <= day <= self.to_day

    def picked(self, *, version: bool = True, between: tuple[date, date] | None = None) -> list[Seen]:
        """The events of the instance, and of the version, that was asked for."""
        low, high = between or (self.from_day, self.to_day)
        return [
            s
            for s in self.seen
            if low <= s.day <= high
            and self.instance in {None, s.instance}
            and (not version or self.version in {None, s.version})
        ]

    def history(self, *, version: bool = False) -> list[Seen]:
        assert self.epoch is not None
        return self.picked(version=version, between=(self.epoch, self.today))

    def picked_batches(self, *, version: bool = True) -> list[Batch]:
        return [
            b
            for b in self.heard
            if self.in_range(b.received_on)
            and self.instance in {None, b.instance}
            and (not version or self.version in {None, b.version})
        ]


def rank(version: str) -> tuple[int, int, int, int]:
    """2.9.0 before 2.10.0-RC1 before 2.10.0."""
    plain, _, suffix = version.partition("-")
    major, minor, patch = map(int, f"{plain}.0".split(".")[:3])
    return major, minor, patch, int(not suffix)


def share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def people(seen: Iterable[Seen]) -> set[UUID]:
    return {s.profile for s in seen if s.profile != NOBODY}


def instances(seen: Iterable[Seen]) -> set[UUID]:
    return {s.instance for s in seen}


def monday(day: date) -> date:
    return day - day.weekday() * DAY


def first_days(seen: Sequence[Seen], key: Callable[[Seen], UUID]) -> dict[UUID, date]:
    firsts: dict[UUID, date] = {}
    for s in seen:
        firsts[key(s)] = min(s.day, firsts.get(key(s), s.day))
    return firsts


def by_day(world: World, who: Callable[[Iterable[Seen]], set[UUID]]) -> dict[date, list[set[UUID]]]:
    """Who was active on each day asked for, in the 7 and in the 28 days up to it."""
    assert world.epoch is not None
    rows = {}
    for day in world.days:
        spans = [world.picked(between=(day - (n - 1) * DAY, day)) for n in (1, 7, 28)]
        rows[day] = [who(span) for span in spans]
    return rows


def coverage_of(world: World, low: date, high: date) -> tuple[int, int]:
    """Instances with an event in a span, and those with one in it or in the 27 days before."""
    reporting = instances(world.picked(version=False, between=(low, high)))
    known = instances(world.picked(version=False, between=(low - 27 * DAY, high)))
    return len(reporting), len(known)


def active(world: World, who: Callable[[Iterable[Seen]], set[UUID]]) -> list[Row]:
    assert world.epoch is not None
    return [
        {
            "day": day,
            "active_1d": len(one),
            "active_7d": len(seven),
            "active_28d": len(many),
            "is_warmup": day < world.epoch + 27 * DAY,
            "is_open": day >= world.open_from,
        }
        for day, (one, seven, many) in by_day(world, who).items()
    ]


def active_instances(world: World) -> list[Row]:
    return active(world, instances)


def active_profiles(world: World) -> list[Row]:
    return active(world, people)


def stickiness(world: World) -> list[Row]:
    assert world.epoch is not None
    rows = []
    for day in world.days:
        span = [day - n * DAY for n in range(28) if day - n * DAY >= max(world.epoch, day - 27 * DAY)]
        daily = [len(people(world.picked(between=(each, each)))) for each in span]
        many = len(people(world.picked(between=(day - 27 * DAY, day))))
        mean = sum(daily) / len(daily)
        rows.append(
            {"day": day, "active_1d": daily[0], "mean_daily": mean, "active_28d": many, "stickiness": share(mean, many)}
        )
    return rows


def profile_lifecycle(world: World) -> list[Row]:
    weeks: dict[UUID, set[date]] = defaultdict(set)
    picked: dict[date, set[UUID]] = defaultdict(set)
    for s in world.history():
        if s.profile != NOBODY:
            weeks[s.profile].add(monday(s.day))
            if world.version in {None, s.version}:
                picked[monday(s.day)].add(s.profile)
    rows = []
    for week in (day for day in world.days if day == monday(day)):
        before = week - 7 * DAY
        now = picked[week]
        new = {p for p in now if min(weeks[p]) == week}
        retained = {p for p in now if before in weeks[p]}
        lost = {p for p in picked[before] if week not in weeks[p]}
        rows.append(
            {
                "week": week,
                "active": len(now),
                "new": len(new),
                "retained": len(retained),
                "returned": len(now - new - retained),
                "lost": len(lost),
                "is_open": week + 6 * DAY >= world.open_from,
            }
        )
    return rows


def weekly_cohorts(world: World) -> list[Row]:
    history = [s for s in world.history() if s.profile != NOBODY]
    firsts = first_days(history, lambda s: s.profile)
    chosen = {
        s.profile
        for s in history
        if s.day == firsts[s.profile]
        and world.version in {None, s.version}
        and world.in_range(monday(firsts[s.profile]))
    }
    rows = []
    for cohort in sorted({monday(firsts[p]) for p in chosen}):
        members = {p for p in chosen if monday(firsts[p]) == cohort}
        week_no = 0
        while cohort + 7 * week_no * DAY < world.open_from:
            came = {
                s.profile for s in history if s.profile in members and (s.day - firsts[s.profile]).days // 7 == week_no
            }
            rows.append(
                {
                    "cohort": cohort,
                    "week_no": week_no,
                    "profiles": len(members),
                    "active": len(came),
                    "retention": len(came) / len(members),
                    "is_open": cohort + (12 + 7 * week_no) * DAY >= world.open_from,
                }
            )
            week_no += 1
    return rows


def version_adoption(world: World) -> list[Row]:
    rows = []
    for day in world.days:
        seen = world.picked(version=False, between=(day, day))
        ran = {s.instance: s.version for s in sorted(seen, key=lambda s: s.batch_no)}
        everybody = len(people(seen))
        for version in sorted(set(ran.values()), key=lambda v: (rank(v), v)):
            if world.version in {None, version}:
                on_it = {i for i, v in ran.items() if v == version}
                there = len(people(s for s in seen if s.instance in on_it))
                rows.append(
                    {
                        "day": day,
                        "version": version,
                        "instances": len(on_it),
                        "share": len(on_it) / len(ran),
                        "profiles": there,
                        "profile_share": share(there, everybody),
                        "instances_active": len(ran),
                        "profiles_active": everybody,
                    }
                )
    return rows


def kaplan_meier(lags: Sequence[tuple[int, bool]], left: Fraction) -> int | None:
    """The first time by which at most this share is left. A follow-up: how long, and whether the event ended it."""
    waiting = Fraction(1)
    for time in sorted({lag for lag, _ in lags}):
        at_risk = sum(lag >= time for lag, _ in lags)
        waiting *= 1 - Fraction(sum(lag == time and ended for lag, ended in lags), at_risk)
        if waiting <= left:
            return time
    return None


def upgrade_lag(world: World) -> list[Row]:
    history = world.history()
    appeared: dict[tuple[int, int, int, int], tuple[date, str]] = {}
    for s in history:
        if rank(s.version)[3]:
            day, name = appeared.get(rank(s.version), (s.day, s.version))
            appeared[rank(s.version)] = min(day, s.day), min(name, s.version)
    rows = []
    for number, (day, name) in sorted(appeared.items()):
        overtaken = any(other > number and seen_on <= day for other, (seen_on, _) in appeared.items())
        if overtaken or not world.in_range(day) or world.version not in {None, name}:
            continue
        lags = []
        moving = False
        for instance in instances(history):
            mine = [s for s in history if s.instance == instance]
            before = [s for s in mine if s.day < day]
            later = [s for s in mine if s.day >= day]
            if not later or not any(s.day >= day - 28 * DAY for s in before):
                continue
            if any(rank(s.version) >= number for s in before):
                continue
            ups = [s.day for s in later if rank(s.version) >= number]
            last = max(s.day for s in mine)
            lags.append(((min(ups) - day).days, True) if ups else ((last - day).days, False))
            moving |= not ups and last > world.today - 28 * DAY
        upgraded = sum(ended for _, ended in lags)
        rows.append(
            {
                "version": name,
                "appeared_on": day,
                "instances": len(lags),
                "upgraded": upgraded,
                "upgraded_share": share(upgraded, len(lags)),
                "median_days": kaplan_meier(lags, Fraction(1, 2)),
                "p90_days": kaplan_meier(lags, Fraction(1, 10)),
                "is_open": moving,
            }
        )
    return rows


def by_kind(seen: Iterable[Seen]) -> dict[tuple[str, str], list[Seen]]:
    kinds: dict[tuple[str, str], list[Seen]] = defaultdict(list)
    for s in seen:
        kinds[s.name if s.name is not None else "(none)", s.type].append(s)
    return kinds


def feature_usage(world: World) -> list[Row]:
    seen = world.picked()
    rows: list[Row] = []
    for (name, kind), uses in by_kind(seen).items():
        who = len(people(uses))
        rows.append(
            {
                "name": name,
                "type": kind,
                "instances": len(instances(uses)),
                "instance_share": len(instances(uses)) / len(instances(seen)),
                "profiles": who,
                "profile_share": share(who, len(people(seen))),
                "events": len(uses),
                "events_per_profile": share(sum(s.profile != NOBODY for s in uses), who),
                "instances_active": len(instances(seen)),
                "profiles_active": len(people(seen)),
            }
        )
    return rows


def feature_first_use(world: World) -> list[Row]:
    history = world.history()
    firsts = first_days([s for s in history if s.profile != NOBODY], lambda s: s.profile)
    newcomers = {p: day for p, day in firsts.items() if world.in_range(day)}
    weeks = {p for p, day in newcomers.items() if day + 6 * DAY < min(world.open_from, world.to_day + DAY)}
    rows: list[Row] = []
    for (name, kind), uses in by_kind(s for s in world.picked() if s.profile in newcomers).items():
        days = {p: (day - newcomers[p]).days for p, day in first_days(uses, lambda s: s.profile).items()}
        within = sum(p in weeks and n <= 6 for p, n in days.items())
        rows.append(
            {
                "name": name,
                "type": kind,
                "newcomers": len(newcomers),
                "profiles": len(days),
                "share": len(days) / len(newcomers),
                "newcomers_7d": len(weeks),
                "within_7d": within,
                "within_7d_share": share(within, len(weeks)),
                "median_days": float(median(days.values())),
                "first_seen_on": min(s.day for s in by_kind(history)[name, kind]),
            }
        )
    return rows


def mix(world: World, value: Callable[[Seen], str | None]) -> list[Row]:
    seen = [s for s in world.picked() if s.profile != NOBODY and value(s) is not None]
    known = len(people(seen))
    rows: list[Row] = []
    for each in {value(s) for s in seen}:
        there = [s for s in seen if value(s) == each]
        who = len(people(there))
        rows.append(
            {
                "value": each,
                "profiles": who,
                "share": who / known,
                "instances": len(instances(there)),
                "profiles_known": known,
            }
        )
    return rows


def platforms(world: World) -> list[Row]:
    rows = mix(world, lambda s: s.browser)
    both = [{"dimension": dimension, **row} for dimension in ("browser", "os") for row in rows]
    return [row | {"value": f"{row['value']} OS"} if row["dimension"] == "os" else row for row in both]


def locales(world: World) -> list[Row]:
    return [{"locale": str(row.pop("value")).lower(), **row} for row in mix(world, lambda s: s.browser)]


WIDTHS = {
    "to 1279": (0, 1279),
    "1280-1439": (1280, 1439),
    "1440-1919": (1440, 1919),
    "1920-2559": (1920, 2559),
    "from 2560": (2560, FAR),
}


def screens(world: World) -> list[Row]:
    def band(s: Seen) -> str | None:
        return next((b for b, (low, high) in WIDTHS.items() if s.width is not None and low <= s.width <= high), None)

    found = {row.pop("value"): row for row in mix(world, band)}
    known = next((row["profiles_known"] for row in found.values()), 0)
    none: Row = {"profiles": 0, "share": 0.0 if known else None, "instances": 0, "profiles_known": known}
    return [{"band": each, **found.get(each, none)} for each in WIDTHS]


SIZES = {
    "0": (0, 0),
    "1": (1, 1),
    "2-4": (2, 4),
    "5-9": (5, 9),
    "10-24": (10, 24),
    "25-99": (25, 99),
    "100-499": (100, 499),
    "from 500": (500, FAR),
}


def recent(world: World) -> list[Seen]:
    return [s for s in world.picked() if s.day > world.to_day - 28 * DAY]


def instance_sizes(world: World) -> list[Row]:
    seen = recent(world)
    sizes = [len(people(s for s in seen if s.instance == i)) for i in instances(seen)]
    rows: list[Row] = []
    for each, (low, high) in SIZES.items():
        inside = [size for size in sizes if low <= size <= high]
        rows.append(
            {
                "band": each,
                "instances": len(inside),
                "share": share(len(inside), len(sizes)),
                "profiles": sum(inside),
                "profile_share": share(sum(inside), sum(sizes)),
                "instances_active": len(sizes),
                "profiles_active": sum(sizes),
            }
        )
    return rows


def concentration(world: World) -> list[Row]:
    seen = recent(world)
    each = [[s for s in seen if s.instance == i] for i in instances(seen)]
    rows: list[Row] = []
    for measure, sizes in (("profiles", [len(people(e)) for e in each]), ("events", [len(e) for e in each])):
        sizes.sort()
        n, total = len(sizes), sum(sizes)
        if not n:
            continue
        rows.append(
            {
                "measure": measure,
                "instances": n,
                "total": total,
                "p50": sizes[math.ceil(n / 2) - 1] if n >= 2 else None,
                "p90": sizes[math.ceil(Fraction(9, 10) * n) - 1] if n >= 10 else None,
                "top_1pct_share": share(sum(sizes[-math.ceil(Fraction(1, 100) * n) :]), total),
                "top_10pct_share": share(sum(sizes[-math.ceil(Fraction(1, 10) * n) :]), total),
            }
        )
    return rows


def of_newest_version(world: World) -> dict[UUID, list[date]]:
    """The days of each instance, of those whose newest batch names the version asked for."""
    newest: dict[UUID, str] = {}
    for b in world.batches:
        if b.events and world.instance in {None, b.instance}:
            newest[b.instance] = b.version
    days: dict[UUID, set[date]] = defaultdict(set)
    for s in world.history():
        if world.version in {None, newest[s.instance]}:
            days[s.instance].add(s.day)
    return {i: sorted(d) for i, d in days.items()}


def instance_lifecycle(world: World) -> list[Row]:
    lives = of_newest_version(world)
    rows: list[Row] = []
    for week in (day for day in world.days if day == monday(day)):
        span = {week + n * DAY for n in range(7)}
        new = sum(days[0] in span for days in lives.values())
        returned = sum(b in span and (b - a).days > 28 for days in lives.values() for a, b in pairwise(days))
        gone = 0
        for days in lives.values():
            for at, following in zip(days, [*days[1:], None], strict=True):
                silent = following is None or (following - at).days > 28
                gone += silent and at + 28 * DAY in span and at + 28 * DAY <= world.today
        known = sum(any(week - 28 * DAY <= d < week for d in days) for days in lives.values())
        rows.append(
            {
                "week": week,
                "active": sum(any(d in span for d in days) for days in lives.values()),
                "new": new,
                "returned": returned,
                "gone": gone,
                "known_before": known,
                "churn": share(gone, known),
            }
        )
    return rows


def instance_survival(world: World) -> list[Row]:
    lives = [(d[0], d[-1]) for d in of_newest_version(world).values() if world.in_range(d[0])]
    ages = [((last - first).days, last + 28 * DAY < world.open_from) for first, last in lives]
    rows: list[Row] = []
    for age in range(0, max((n for n, _ in ages), default=-1) + 1, 7):
        alive = Fraction(1)
        for time in sorted({n for n, _ in ages if n < age}):
            at_risk = sum(n >= time for n, _ in ages)
            alive *= 1 - Fraction(sum(n == time and gone for n, gone in ages), at_risk)
        rows.append(
            {
                "age_days": age,
                "at_risk": sum(n >= age for n, _ in ages),
                "gone": sum(gone and age <= n <= age + 6 for n, gone in ages),
                "survival": float(alive),
                "instances": len(ages),
            }
        )
    return rows


def lateness(world: World) -> list[Row]:
    seen = world.picked()
    rows: list[Row] = []
    for late in range(-7, 29):
        ripe = [s for s in seen if s.day <= world.today - late * DAY]
        firsts: dict[tuple[UUID, date], int] = {}
        for s in ripe:
            days = (s.received_on - s.day).days
            firsts[s.instance, s.day] = min(days, firsts.get((s.instance, s.day), days))
        if ripe:
            arrived = sum((s.received_on - s.day).days <= late for s in ripe)
            first = sum(days <= late for days in firsts.values())
            rows.append(
                {
                    "late_days": late,
                    "events": len(ripe),
                    "arrived": arrived,
                    "arrived_share": arrived / len(ripe),
                    "instance_days": len(firsts),
                    "first_arrived": first,
                    "first_arrived_share": first / len(firsts),
                }
            )
    return rows


def days_since(world: World, instance: UUID, day: date) -> int:
    """Days since the receipt before; one when there was none."""
    before = [b.received_on for b in world.batches if b.instance == instance and b.received_on < day]
    return (day - max(before)).days if before else 1


BATCHES_A_DAY = 24 * 60
EVENTS_A_DAY = BATCHES_A_DAY * 10_000


def sequence_gaps(world: World) -> list[Row]:
    numbered: dict[tuple[UUID, int], list[Batch]] = defaultdict(list)
    for b in world.heard:
        if b.seq is not None and world.instance in {None, b.instance}:
            numbered[b.instance, b.seq].append(b)
    skipped: dict[tuple[UUID, date], int] = defaultdict(int)
    for (instance, seq), batches in numbered.items():
        before = max((n for i, n in numbered if i == instance and n < seq), default=0)
        skipped[instance, min(b.received_on for b in batches)] += seq - before - 1
    found: dict[date, list[tuple[UUID, int]]] = defaultdict(list)
    odd: dict[date, set[UUID]] = defaultdict(set)
    for (instance, seq), batches in numbered.items():
        if any(world.version in {None, b.version} for b in batches):
            before = max((n for i, n in numbered if i == instance and n < seq), default=0)
            day = min(b.received_on for b in batches)
            if skipped[instance, day] > BATCHES_A_DAY * days_since(world, instance, day):
                odd[day].add(instance)
            else:
                found[day].append((instance, seq - before - 1))
    return [
        {
            "day": day,
            "batches": len(found[day]),
            "missing": sum(n for _, n in found[day]),
            "expected": len(found[day]) + sum(n for _, n in found[day]),
            "missing_share": share(sum(n for _, n in found[day]), len(found[day]) + sum(n for _, n in found[day])),
            "instances_with_gaps": len({i for i, n in found[day] if n}),
            "instances_implausible": len(odd[day]),
        }
        for day in world.days
    ]


def duplicates(world: World) -> list[Row]:
    rows: list[Row] = []
    for day in world.days:
        batches = [b for b in world.picked_batches() if b.received_on == day]
        weak = [b for b in batches if b.trust == "digest"]
        repeats, overlap = sum(b.repeats for b in batches), sum(b.overlap or 0 for b in weak)
        events = sum(len(b.events) for b in weak)
        rows.append(
            {
                "day": day,
                "batches": len(batches),
                "repeats": repeats,
                "deliveries": len(batches) + repeats,
                "repeat_share": share(repeats, len(batches) + repeats),
                "events": sum(len(b.events) for b in batches),
                "weak_batches": len(weak),
                "weak_events": events,
                "overlap_events": overlap,
                "overlap_share": share(overlap, events),
            }
        )
    return rows


def quarantined(world: World) -> list[Row]:
    rows: list[Row] = []
    for day in world.days:
        refused = [r for r in world.refused if r.received_on == day and world.instance in {None, r.instance}]
        loaded = [b for b in world.picked_batches(version=False) if b.received_on == day]
        for reason in sorted({r.reason for r in refused}):
            bodies = [r for r in refused if r.reason == reason]
            rows.append(
                {
                    "day": day,
                    "reason": reason,
                    "bodies": len(bodies),
                    "repeats": sum(r.repeats for r in bodies),
                    "bytes": sum(r.size for r in bodies),
                    "batches": len(loaded),
                }
            )
    return rows


def sender_loss(world: World) -> list[Row]:
    before: dict[UUID, tuple[int, int, int]] = {}
    losses: dict[date, dict[UUID, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    received: dict[date, int] = defaultdict(int)
    in_order = sorted(
        (b for b in world.heard if b.totals),
        key=lambda b: (b.instance, b.seq is None, b.seq or 0, (b.totals or (0,))[0], b.received_on),
    )
    for b in in_order:
        assert b.totals is not None
        last = before.get(b.instance)
        began_anew = last is None or b.totals[0] < last[0]
        base = (0, 0, 0) if began_anew or last is None else last
        losses[b.received_on][b.instance][0] += b.totals[1] - base[1]
        losses[b.received_on][b.instance][1] += b.totals[2] - base[2]
        before[b.instance] = b.totals
    odd = {
        (day, i)
        for day, by_instance in losses.items()
        for i, loss in by_instance.items()
        if max(map(abs, loss)) > EVENTS_A_DAY * days_since(world, i, day)
    }
    for b in world.picked_batches(version=False):
        received[b.received_on] += len(b.events) if b.totals and (b.received_on, b.instance) not in odd else 0
    rows: list[Row] = []
    for day in world.days:
        mine = {i: loss for i, loss in losses[day].items() if world.instance in {None, i} and (day, i) not in odd}
        dropped = sum(loss[0] for loss in mine.values())
        rows.append(
            {
                "day": day,
                "dropped": dropped,
                "set_aside": sum(loss[1] for loss in mine.values()),
                "received": received[day],
                "lost_share": share(dropped, received[day] + dropped),
                "instances_with_loss": sum(loss[0] > 0 for loss in mine.values()),
                "instances_implausible": sum(on == day and world.instance in {None, i} for on, i in odd),
            }
        )
    return rows


def unknown_names(world: World) -> list[Row]:
    assert world.epoch is not None
    seen, history = world.picked(), world.history()
    rows: list[Row] = []
    for name, kind, source in {(s.name, s.type, s.source) for s in seen}:
        same = [s for s in seen if (s.name, s.type, s.source) == (name, kind, source)]
        first = min(s.day for s in history if (s.name, s.type, s.source) == (name, kind, source))
        if name is None:
            reason = "no-name"
        elif not name or not all(c.isascii() and (c.isalnum() or c in "_-") for c in name):
            reason = "malformed-name"
        elif not all(c in "abcdefghijklmnopqrstuvwxyz-" for c in kind):
            reason = "unknown-type"
        elif source not in {"telemetry", "telemetry:backend", "telemetry:frontend"}:
            reason = "unknown-source"
        elif first > world.to_day - 28 * DAY and first >= world.epoch + 28 * DAY:
            reason = "new"
        else:
            continue
        rows.append(
            {
                "reason": reason,
                "name": "(none)" if name is None else name,
                "type": kind,
                "source": source,
                "first_day": first,
                "last_day": max(s.day for s in same),
                "instances": len(instances(same)),
                "instance_share": len(instances(same)) / len(instances(seen)),
                "events": len(same),
            }
        )
    return rows


def unknown_keys(world: World) -> list[Row]:
    rows: list[Row] = []
    for day in world.days:
        batches = [b for b in world.picked_batches() if b.received_on == day]
        events, keys = sum(len(b.events) for b in batches), sum(b.context_keys for b in batches)
        others = sum(b.event_keys for b in batches)
        rows.append(
            {
                "day": day,
                "batches": len(batches),
                "events": events,
                "context_keys": keys,
                "event_keys": others,
                "batches_with_any": sum(b.context_keys + b.event_keys > 0 for b in batches),
                "keys_per_event": share(keys + others, events),
            }
        )
    return rows


def versions_seen(world: World) -> list[Row]:
    seen = world.picked()
    rows: list[Row] = []
    for version in sorted({s.version for s in seen}, key=lambda v: (rank(v), v)):
        same = [s for s in seen if s.version == version]
        rows.append(
            {
                "version": version,
                "is_release": bool(rank(version)[3]),
                "first_day": min(s.day for s in same),
                "last_day": max(s.day for s in same),
                "instances": len(instances(same)),
                "instance_share": len(instances(same)) / len(instances(seen)),
                "events": len(same),
                "instances_active": len(instances(seen)),
            }
        )
    return rows


def group_by_oldest(
    world: World, spans: dict[UUID, tuple[date, date]], of_profile: dict[UUID, set[UUID]]
) -> dict[tuple[str, UUID], dict[UUID, set[UUID]]]:
    """By kind and oldest id that a profile was seen under: the newer ids, each with the profiles that it shares."""
    holders: dict[UUID, list[UUID]] = defaultdict(list)
    for instance in sorted(spans, key=lambda i: (spans[i][0], i)):
        for profile in of_profile[instance]:
            holders[profile].append(instance)
    groups: dict[tuple[str, UUID], dict[UUID, set[UUID]]] = defaultdict(lambda: defaultdict(set))
    for profile, (oldest, *newer) in holders.items():
        for other in newer:
            kind = "reset" if spans[oldest][1] <= spans[other][0] + DAY else "copied"
            if world.in_range(spans[other][0]):
                groups[kind, oldest][other].add(profile)
    return groups


def suspect_ids(world: World) -> list[Row]:
    assert world.epoch is not None
    of_profile: dict[UUID, set[UUID]] = defaultdict(set)
    for b in world.heard:
        of_profile[b.instance] |= {e.profile for e in b.events if e.profile != NOBODY}
    inside = [s for s in world.seen if world.epoch <= s.day <= world.today]
    spans = {
        i: (min(s.day for s in inside if s.instance == i), max(s.day for s in inside if s.instance == i))
        for i in instances(inside)
    }
    groups = group_by_oldest(world, spans, of_profile)
    hints: list[tuple[str, UUID, int, UUID | None, date, str, int]] = []
    for (kind, oldest), shared in groups.items():
        example = max(shared, key=lambda i: (len(shared[i]), i))
        since = min(spans[i][0] for i in shared)
        if world.instance in {None, oldest, *shared}:
            hints.append(
                (kind, oldest, len(shared), example, since, "shared-profiles", len(set().union(*shared.values())))
            )
    for instance in {b.instance for b in world.heard}:
        mine = [b for b in world.heard if b.instance == instance]
        seqs: dict[int, list[Batch]] = defaultdict(list)
        for b in mine:
            if b.seq is not None:
                seqs[b.seq].append(b)
        twice = [max(b.received_on for b in same) for same in seqs.values() if len(same) > 1]
        back = [b.received_on for a, b in pairwise(mine) if rank(b.version) < rank(a.version)]
        fell = [b.received_on for a, b in pairwise(mine) if a.totals and b.totals and b.totals[0] < a.totals[0]]
        for days, sign, least in (
            (twice, "number-used-twice", 1),
            (back, "version-fell-back", 2),
            (fell, "totals-fell", 2),
        ):
            if len(days) >= least:
                hints.append(("cloned", instance, 1, None, min(days), sign, len(days)))
    return [
        {
            "kind": kind,
            "instance_id": str(instance),
            "ids": ids,
            "other_id": str(other) if other else None,
            "since": since,
            "sign": sign,
            "signs": signs,
            "profiles": len(of_profile[instance]) if other else None,
        }
        for kind, instance, ids, other, since, sign, signs in hints
        if world.in_range(since) and (other or world.instance in {None, instance})
    ]


def overview(world: World) -> list[Row]:
    seen, batches = world.picked(), world.picked_batches()
    return [
        {
            "first_day": world.from_day,
            "last_day": world.to_day,
            "epoch": world.epoch,
            "usual_lateness": (world.today - world.open_from).days,
            "instances": len(instances(seen)),
            "profiles": len(people(seen)),
            "events": len(seen),
            "versions": len({s.version for s in seen}),
            "batches": len(batches),
            "repeats": sum(b.repeats for b in batches),
            "refused": sum(
                world.in_range(r.received_on) and world.instance in {None, r.instance} for r in world.refused
            ),
        }
    ]


ANSWERS: dict[str, Callable[[World], list[Row]]] = {
    answer.__name__: answer
    for answer in (
        active_instances,
        active_profiles,
        stickiness,
        profile_lifecycle,
        weekly_cohorts,
        version_adoption,
        upgrade_lag,
        feature_usage,
        feature_first_use,
        platforms,
        locales,
        screens,
        instance_sizes,
        concentration,
        instance_lifecycle,
        instance_survival,
        lateness,
        sequence_gaps,
        duplicates,
        quarantined,
        sender_loss,
        unknown_names,
        unknown_keys,
        versions_seen,
        suspect_ids,
        overview,
    )
}
