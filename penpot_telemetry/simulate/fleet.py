"""A fleet of Penpots, day by day: the one object that a notebook, a test or a benchmark talks to."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import date, timedelta
from typing import Literal, NamedTuple
from uuid import UUID

from penpot_telemetry.events import AuditEvent
from penpot_telemetry.simulate.delivery import Senders, SimulatedBatch
from penpot_telemetry.simulate.people import FleetSpec, Instance, Profile, found_instances, people_of
from penpot_telemetry.simulate.plan import DayPlan, plan_day
from penpot_telemetry.simulate.render import (
    Dialect,
    dialect_of,
    empty_columns,
    extend_columns,
    render_audit_events,
    render_columns,
    render_rows,
)
from penpot_telemetry.simulate.truth import Tally, Truth
from penpot_telemetry.wire.batch import Columns, EventRow, encode_events
from penpot_telemetry.wire.payload import EventsBatch, digest_events

Fault = Literal["missing", "cut-off", "bot", "skew", "reset", "clone"]


class Incident(NamedTuple):
    """One fault at one instance. `other` is the id after a reset, or the machine that copied the id."""

    fault: Fault
    instance_id: UUID
    first: date
    last: date
    other: UUID | None


class Chunk(NamedTuple):
    """Many events of many instances, column by column; `instance_id` as 16 bytes."""

    instance_id: list[bytes]
    version: list[str]
    columns: Columns


class Fleet:
    """What a spec describes. Keeps its instances and their people, and never an event: those are made as asked for."""

    def __init__(self, spec: FleetSpec) -> None:
        self.spec = spec
        self.instances: Sequence[Instance] = found_instances(spec)
        self._people: dict[int, tuple[Profile, ...]] = {}

    def days(self) -> Sequence[date]:
        """All days of the fleet, in order."""
        return [self.spec.first_day + timedelta(days=k) for k in range(self.spec.days)]

    def people(self, instance: Instance) -> Sequence[Profile]:
        """Everybody who ever comes to one instance, by the day they joined."""
        if instance.number not in self._people:
            self._people[instance.number] = people_of(self.spec, instance)
        return self._people[instance.number]

    def plan(self, instance: Instance, day: date) -> DayPlan:
        """What happens at one instance on one day; the same whatever was asked before."""
        return plan_day(self.spec, instance, self.people(instance), day)

    def plans(self) -> Iterator[DayPlan]:
        """The plan of each day and living instance, day by day and by the instance's number."""
        for day in self.days():
            yield from self.plans_of(day)

    def plans_of(self, day: date) -> Iterator[DayPlan]:
        """The plans of one day."""
        return (self.plan(instance, day) for instance in self.instances if instance.lives_on(day))

    def audit_events(self, plan: DayPlan) -> Iterator[AuditEvent]:
        """One day's events as they happen, before anything personal is removed."""
        return render_audit_events(self.spec, plan)

    def rows(self, plan: DayPlan, dialect: Dialect | None = None) -> Iterator[EventRow]:
        """The same events as a sender would read them from `audit_log`; in the instance's own dialect by default."""
        return render_rows(self.spec, plan, dialect or dialect_of(plan))

    def columns(self, plan: DayPlan, dialect: Dialect | None = None) -> Iterator[Columns]:
        """The same events column by column, at most a batch at a time: the fast way into a warehouse."""
        return render_columns(self.spec, plan, dialect or dialect_of(plan))

    def chunks(self, days: Iterable[date] | None = None, rows: int = 100_000) -> Iterator[Chunk]:
        """All recorded events of these days, or of all, in pieces of at least `rows` but the last: for bulk loads.

        As it was recorded, before delivery: nothing late, lost or repeated. Days can be shared among processes.
        """
        chunk = Chunk([], [], empty_columns())
        for day in self.days() if days is None else days:
            for plan in self.plans_of(day):
                for piece in self.columns(plan):
                    chunk.instance_id.extend([plan.instance.id_on(day).bytes] * len(piece.name))
                    chunk.version.extend([plan.version] * len(piece.name))
                    extend_columns(chunk.columns, piece)
                    if len(chunk.version) >= rows:
                        yield chunk
                        chunk = Chunk([], [], empty_columns())
        if chunk.version:
            yield chunk

    def batches(self, senders: Senders | None = None, tally: Tally | None = None) -> Iterator[SimulatedBatch]:
        """All batches in the order in which a receiver sees them, faults included.

        `senders` keeps the accounts and `tally` counts the truth on the way, for those who want both from one pass.
        """
        senders = senders or Senders(self.spec)
        for day in self.days():
            plans = list(self.plans_of(day))
            if tally:
                for plan in plans:
                    tally.add(plan)
            yield from senders.send_day(day, plans)

    def batch_rows(self, batch: SimulatedBatch) -> list[EventRow]:
        """The events of one batch, as the sender reads them."""
        return [
            row
            for part in batch.parts
            for row in render_rows(self.spec, part.plan, dialect_of(part.plan), part.start, part.stop)
        ]

    def batch_columns(self, batch: SimulatedBatch) -> Columns:
        """The events of one batch, column by column."""
        columns = empty_columns()
        for plan, start, stop in batch.parts:
            for piece in render_columns(self.spec, plan, dialect_of(plan), start, stop):
                extend_columns(columns, piece)
        return columns

    def envelope(self, batch: SimulatedBatch) -> EventsBatch:
        """One batch as the body that is posted, in the class of its sender."""
        events = encode_events(self.batch_rows(batch))
        if batch.batch_id is None:
            return EventsBatch(batch.version, batch.instance_id, events)
        return EventsBatch(
            version=batch.version,
            instance_id=batch.instance_id,
            events=events,
            batch_id=batch.batch_id,
            batch_seq=batch.batch_seq,
            event_count=batch.events,
            digest=digest_events(events),
            totals=batch.totals,
        )

    def truth(
        self,
        since: date | None = None,
        until: date | None = None,
        numbers: Collection[int] | None = None,
        *,
        as_recorded: bool = False,
    ) -> Truth:
        """What is true of the fleet, or of these days and instances alone; see `Tally` for what was recorded."""
        tally = Tally(self.spec, as_recorded=as_recorded)
        for day in self.days():
            if (since or day) <= day <= (until or day):
                for plan in self.plans_of(day):
                    if numbers is None or plan.instance.number in numbers:
                        tally.add(plan)
        return tally.finish()

    def delivered(self) -> Senders:
        """The senders after the last day: their accounts, and how late the events came."""
        senders = Senders(self.spec)
        for _ in self.batches(senders):
            pass
        return senders

    def incidents(self) -> list[Incident]:
        """Which faults struck where and when, by instance and day; shares of batches are not listed here."""
        found = []
        for machine in self.instances:
            spans: dict[Fault, tuple[date, date] | None] = {
                "missing": machine.silent,
                "cut-off": machine.cut_off,
                "bot": machine.bot,
            }
            if machine.clock_days:
                spans["skew"] = (max(machine.born, self.spec.first_day), machine.died or self.spec.last_day)
            found += [Incident(fault, machine.id, *span, None) for fault, span in spans.items() if span]
            if machine.reset:
                found.append(Incident("reset", machine.id, machine.reset[0], machine.reset[0], machine.reset[1]))
            if machine.clone_of is not None:
                found.append(Incident("clone", machine.id, machine.born, machine.born, machine.machine))
        return sorted(found, key=lambda incident: (incident.first, incident.fault, incident.instance_id))


def demo_fleet(seed: int = 2030) -> Fleet:
    """Three Penpots over one week in July 2026: a company, a studio and a household; one release on the Wednesday."""
    return Fleet(
        FleetSpec(
            seed=seed,
            instances=3,
            first_day=date(2026, 7, 20),
            days=7,
            sizes=(180, 50, 5),
            established=1.0,
            churn=0.0,
            activity=1.4,
            plain=0.0,
        )
    )
