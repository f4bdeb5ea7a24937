"""A day's plan as events: in full, as they happen; or as rows and columns, as they are after anonymisation.

The three forms say the same: the rows are what the safe sets leave of the audit events. Each event of a visit that
has the same name walks through the files the person works on that day, so texts are made once and repeated.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Literal
from uuid import UUID

from penpot_telemetry.events import SOURCE, ZERO_UUID, AuditEvent, Origin
from penpot_telemetry.simulate import habits
from penpot_telemetry.simulate.habits import From, Kind, Platform
from penpot_telemetry.simulate.people import (
    DAY_MS,
    FleetSpec,
    Profile,
    id_base,
    make_platform,
    penpot_id,
    since_epoch_ms,
    stream,
)
from penpot_telemetry.simulate.plan import DayPlan, Visit
from penpot_telemetry.wire.batch import Columns, EventRow
from penpot_telemetry.wire.limits import BATCH_ROWS

Dialect = Literal["first", "current"]
"""`first`: source `telemetry`, empty props (this project's own). `current`: source by origin, safe props."""

VISITOR = make_platform(habits.WINDOWS, habits.CHROME, (1920, 1080), "en")
"""Who looks at a login page: a common browser, and no profile."""

LONGEST_VISIT_MS = 5 * 3_600_000
PACE_MS = 40_000
"""Time between two events of a person, unless the visit would grow longer than it may."""


@dataclass(frozen=True, slots=True)
class _Run:
    """Equal events in a row. `values` fill the props, one set a file: each event takes the next one, in turn."""

    kind: Kind
    count: int
    profile: Profile | None
    client_version: str
    values: tuple[Mapping[str, object], ...]
    start_ms: int
    pace_ms: int


def render_audit_events(spec: FleetSpec, plan: DayPlan) -> Iterator[AuditEvent]:
    """The day as it happens: with the address, the names and the keys that must not leave."""
    midnight = datetime.combine(plan.day + timedelta(days=plan.instance.clock_days), time(), UTC)
    for run in _runs(spec, plan):
        context = _audit_context(plan.version, run)
        props = [_audit_props(run, values) for values in run.values]
        for k in range(run.count):
            at = midnight + timedelta(milliseconds=run.start_ms + k * run.pace_ms)
            late = timedelta(seconds=10 if run.kind.origin == "frontend" else 0)
            yield AuditEvent(
                name=run.kind.name,
                type=run.kind.type,
                origin=run.kind.origin,
                tracked_at=at,
                created_at=at + late,
                profile_id=run.profile.id if run.profile else None,
                ip_addr=_address(run.profile),
                props=props[k % len(props)],
                context=context,
            )


def render_rows(
    spec: FleetSpec, plan: DayPlan, dialect: Dialect, start: int = 0, stop: int | None = None
) -> Iterator[EventRow]:
    """The day, or its events `start` to `stop`, as a sender reads them: transit texts, cut to the day."""
    at = _midnight_ms(plan)
    for run, first, last in _cut(_runs(spec, plan), start, stop):
        props, context = _texts(plan.version, run, dialect, transit=True)
        source, profile = _source(run.kind, dialect), (run.profile.id if run.profile else ZERO_UUID).bytes
        for k in range(first, last):
            yield EventRow(run.kind.name, run.kind.type, source, at, profile, props[k % len(props)], context)


def render_columns(  # noqa: PLR0913  a range and a form of one day
    spec: FleetSpec, plan: DayPlan, dialect: Dialect, start: int = 0, stop: int | None = None, *, page: int = BATCH_ROWS
) -> Iterator[Columns]:
    """The same events column by column, with plain JSON texts: the fast way into a warehouse, `page` at a time."""
    at = _midnight_ms(plan)
    out = empty_columns()
    for run, begin, last in _cut(_runs(spec, plan), start, stop):
        props, context = _texts(plan.version, run, dialect, transit=False)
        source, profile = _source(run.kind, dialect), (run.profile.id if run.profile else ZERO_UUID).bytes
        first = begin
        while first < last:
            count = min(last - first, page - len(out.name))
            out.name.extend([run.kind.name] * count)
            out.type.extend([run.kind.type] * count)
            out.source.extend([source] * count)
            out.tracked_at.extend([at] * count)
            out.profile_id.extend([profile] * count)
            out.props.extend(_in_turn(props, first, count))
            out.context.extend([context] * count)
            first += count
            if len(out.name) == page:
                yield out
                out = empty_columns()
    if out.name:
        yield out


def empty_columns() -> Columns:
    """Columns to extend."""
    return Columns([], [], [], [], [], [], [], {})


def extend_columns(columns: Columns, more: Columns) -> None:
    """Append one set of columns to another."""
    columns.name.extend(more.name)
    columns.type.extend(more.type)
    columns.source.extend(more.source)
    columns.tracked_at.extend(more.tracked_at)
    columns.profile_id.extend(more.profile_id)
    columns.props.extend(more.props)
    columns.context.extend(more.context)


def _midnight_ms(plan: DayPlan) -> int:
    return (plan.day.toordinal() + plan.instance.clock_days - date(1970, 1, 1).toordinal()) * DAY_MS


def _in_turn(texts: list[str], first: int, count: int) -> list[str]:
    if len(texts) == 1:
        return texts * count
    offset = first % len(texts)
    return (texts * (count // len(texts) + 2))[offset : offset + count]


def _cut(runs: Iterator[_Run], start: int, stop: int | None) -> Iterator[tuple[_Run, int, int]]:
    """The part of each run that lies between the events `start` and `stop` of the day."""
    passed = 0
    for run in runs:
        first = max(0, start - passed)
        last = run.count if stop is None else min(run.count, stop - passed)
        if first < last:
            yield run, first, last
        passed += run.count
        if stop is not None and passed >= stop:
            return


def _runs(spec: FleetSpec, plan: DayPlan) -> Iterator[_Run]:
    """The day in order: the machine's own events, then each visit. Nothing when the day is not recorded."""
    if not plan.recorded:
        return
    machine = ({"version": plan.version, "public-uri": f"https://design{plan.instance.number}.example"},)
    if plan.starts:
        yield _Run(habits.INSTANCE_START, plan.starts, None, plan.version, machine, 4 * 3_600_000, PACE_MS)
    if plan.login_pages:
        yield _Run(habits.LOGIN_PAGE, plan.login_pages, None, plan.version, machine, 5 * 3_600_000, PACE_MS)
    desk = _Desk(spec, plan)
    for visit in plan.visits:
        values = desk.values_of(visit)
        pace = max(1, min(PACE_MS, LONGEST_VISIT_MS // visit.events))
        at = visit.start * 1000
        for kind, count in visit.counts:
            yield _Run(kind, count, visit.profile, visit.client_version, values, at, pace)
            at += count * pace


class _Desk:
    """Gives the people of one day the ids and numbers that their events mention."""

    def __init__(self, spec: FleetSpec, plan: DayPlan) -> None:
        home = plan.instance.number if plan.instance.clone_of is None else plan.instance.clone_of
        upper = str(penpot_id(id_base(spec, home), 0, 0))
        self._prefix = upper[:19]
        self._founded = since_epoch_ms(plan.instance.born)
        self._rng = stream(spec.seed, "values", plan.instance.number, plan.day)
        self._day = plan.day

    def values_of(self, visit: Visit) -> tuple[Mapping[str, object], ...]:
        """One set of values for each file the person works on that day; more files on a busy day."""
        profile, draw = visit.profile, self._rng.random()
        team = profile.number // 8
        age = (self._day - profile.joined).days
        of_person = {
            "profile": str(profile.id),
            "team": self._id(self._founded, team),
            "project": self._id(self._founded + 1, team * 4 + int(draw * 4)),
            "email-domain": habits.EMAIL_DOMAINS[team % len(habits.EMAIL_DOMAINS)],
            "lang": profile.platform.locale if profile.platform else "en",
        }
        of_person["team-text"] = of_person["team"]
        files = 1 + min(2, visit.events // 40)
        return tuple(self._values_of_file(of_person, profile, age // 9 - k) for k in range(files))

    def _values_of_file(self, of_person: Mapping[str, str], profile: Profile, nth: int) -> Mapping[str, object]:
        # A new file about every nine days; the older ones come back on busy days.
        made = since_epoch_ms(profile.joined) + max(0, nth) * 9 * DAY_MS + 36_000_000
        today = since_epoch_ms(self._day) + 39_600_000
        file, page, draw = self._id(made, profile.number), self._id(made + 5, profile.number), self._rng.random()
        numbers = {f"number-{limit}": 1 + int(draw * limit) for limit in habits.NUMBER_LIMITS}
        return {
            **of_person,
            **numbers,
            "file": file,
            "file-text": file,
            "page": page,
            "page-text": page,
            "media": self._id(today, profile.number),
            "thread": self._id(today + 7, profile.number),
            "library": self._id(made + 9, profile.number // 8),
        }

    def _id(self, ms: int, low: int) -> str:
        # `penpot_id` as text, without the detour over a UUID: a visit needs a dozen.
        digits = f"{1 << 63 | ms << 14 | low & 0x3FFF:016x}"
        return f"{self._prefix}{digits[:4]}-{digits[4:]}"


def dialect_of(plan: DayPlan) -> Dialect:
    """How an instance speaks on that day: this project's sender in the first, a plain Penpot as its version does."""
    return "first" if plan.instance.ours or plan.version in habits.FIRST_DIALECT else "current"


def _source(kind: Kind, dialect: Dialect) -> str:
    return SOURCE if dialect == "first" else f"{SOURCE}:{kind.origin}"


def _texts(version: str, run: _Run, dialect: Dialect, *, transit: bool) -> tuple[list[str], str]:
    """The props of a run, one text a file, and its one context."""
    template = _template(run.kind, transit) if dialect == "current" else "{}"
    props = [template % values for values in run.values] if "%" in template else [template]
    if run.kind is habits.INSTANCE_START:
        return props, "{}"
    platform = run.profile.platform if run.profile else VISITOR
    where = (run.kind.origin, run.kind.event_origin)
    return props, _context_text(where, platform, version, run.client_version, transit)


@lru_cache(maxsize=256)
def _template(kind: Kind, transit: bool) -> str:
    """The props of a kind as JSON text with gaps for a day's values, none of which needs an escape."""
    fields = []
    for prop, value in kind.props.items():
        key = json.dumps(f"~:{prop}" if transit else prop)
        if not isinstance(value, From):
            text = json.dumps(value)
        elif value.limit:
            text = f"%({value.key})d"
        else:
            text = f'"{"~u" if transit and value.what in habits.UUIDS else ""}%({value.key})s"'
        fields.append(f"{key}:{text}")
    return "{" + ",".join(fields) + "}"


Where = tuple[Origin, str | None]
"""An event's origin, and for the frontend the part of the page it came from."""


@lru_cache(maxsize=16_384)
def _context_text(where: Where, platform: Platform | None, version: str, client_version: str, transit: bool) -> str:
    context = _safe_context(where, platform, version, client_version)
    keyed = {f"~:{key}": value for key, value in context.items()} if transit else context
    return json.dumps(keyed, separators=(",", ":"))


def _safe_context(
    where: Where, platform: Platform | None, version: str, client_version: str
) -> Mapping[str, str | int]:
    """What of an event's context may leave; a script has no platform and no version of a client."""
    origin, event_origin = where
    if origin == "backend" and platform is None:
        return {"initiator": "app", "version": version, "client-user-agent": habits.SCRIPT_AGENT}
    platform = platform or VISITOR
    if origin == "backend":
        return {
            "initiator": "app",
            "version": version,
            "client-version": client_version,
            "client-user-agent": platform.user_agent,
        }
    context: dict[str, str | int] = {
        "version": client_version,
        "locale": platform.locale,
        "browser": platform.browser,
        "browser-version": platform.browser_version,
        "engine": platform.engine,
        "engine-version": platform.engine_version,
        "os": platform.os,
        "os-version": platform.os_version,
        "device-type": "unknown",
        "screen-width": platform.width,
        "screen-height": platform.height,
        "screen-color-depth": platform.depth,
        "screen-orientation": "landscape-primary",
    }
    if platform.arch:
        context["device-arch"] = platform.arch
    if event_origin:
        context["event-origin"] = event_origin
    return context


def _audit_context(version: str, run: _Run) -> dict[str, object]:
    """The safe context, and what a live Penpot has beside it."""
    context: dict[str, object] = {}
    if run.kind is not habits.INSTANCE_START:
        platform = run.profile.platform if run.profile else VISITOR
        context.update(_safe_context((run.kind.origin, run.kind.event_origin), platform, version, run.client_version))
    session = f"session-of-{run.profile.id}" if run.profile else "session-of-nobody"
    if run.kind.origin == "backend":
        context["external-session-id"] = session
        context["request-path"] = f"/api/rpc/command/{run.kind.name}"
    else:
        context["session"] = session
        context["timezone"] = "Europe/Madrid"
    return context


def _audit_props(run: _Run, values: Mapping[str, object]) -> dict[str, object]:
    """The props, and the person behind them."""
    props: dict[str, object] = {}
    for prop, value in run.kind.props.items():
        filled = values[value.key] if isinstance(value, From) else value
        props[prop] = UUID(str(filled)) if isinstance(value, From) and value.what in habits.UUIDS else filled
    if run.profile:
        who = f"person{run.profile.number}"
        props["fullname"] = f"Person {run.profile.number} of {values['email-domain']}"
        props["email"] = f"{who}@{values['email-domain']}"
    return props


def _address(profile: Profile | None) -> str:
    """From the blocks that documentation may use."""
    return f"203.0.113.{profile.number % 254 + 1}" if profile else "198.51.100.1"
