"""A fleet of Penpots with a known truth, for the demo, the tests, the benchmarks and the notebooks.

A spec goes in; plans, events, batches and the truth come out. The same spec gives the same bytes on any machine. It
describes nobody: all people, ids and figures are drawn from a seed.

>>> fleet = demo_fleet()
>>> plan = fleet.plan(fleet.instances[2], fleet.days()[0])
>>> sum(1 for event in fleet.audit_events(plan)) == plan.events
True
"""

from penpot_telemetry.simulate.delivery import Senders, SimulatedAccount, SimulatedBatch
from penpot_telemetry.simulate.fleet import Chunk, Fleet, Incident, demo_fleet
from penpot_telemetry.simulate.people import Faults, FleetSpec, Instance, Profile
from penpot_telemetry.simulate.plan import DayPlan, Visit
from penpot_telemetry.simulate.truth import Tally, Truth

__all__ = [
    "Chunk",
    "DayPlan",
    "Faults",
    "Fleet",
    "FleetSpec",
    "Incident",
    "Instance",
    "Profile",
    "Senders",
    "SimulatedAccount",
    "SimulatedBatch",
    "Tally",
    "Truth",
    "Visit",
    "demo_fleet",
]
