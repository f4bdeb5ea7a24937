"""A fleet of Penpots, day by day: the one object that a notebook, a test or a benchmark talks to."""

from collections.abc import Iterator, Sequence
from datetime import date, timedelta

from penpot_telemetry.events import AuditEvent
from penpot_telemetry.simulate.people import FleetSpec, Instance, Profile, found_instances, people_of
from penpot_telemetry.simulate.plan import DayPlan, plan_day
from penpot_telemetry.simulate.render import Dialect, render_audit_events, render_columns, render_rows
from penpot_telemetry.wire.batch import Columns, EventRow


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
            for instance in self.instances:
                if instance.lives_on(day):
                    yield self.plan(instance, day)

    def audit_events(self, plan: DayPlan) -> Iterator[AuditEvent]:
        """One day's events as they happen, before anything personal is removed."""
        return render_audit_events(self.spec, plan)

    def rows(self, plan: DayPlan, dialect: Dialect = "first") -> Iterator[EventRow]:
        """The same events as a sender would read them from `audit_log`."""
        return render_rows(self.spec, plan, dialect)

    def columns(self, plan: DayPlan, dialect: Dialect = "first") -> Iterator[Columns]:
        """The same events column by column, at most a page at a time: the fast way into a warehouse."""
        return render_columns(self.spec, plan, dialect)


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
