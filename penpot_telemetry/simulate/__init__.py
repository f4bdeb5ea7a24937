"""A fleet of Penpots with a known truth, for the demo, the tests, the benchmarks and the notebooks.

A spec goes in; plans, events, batches and the truth come out. The same spec gives the same bytes on any machine. It
describes nobody: all people, ids and figures are drawn from a seed.

>>> fleet = demo_fleet()
>>> plan = fleet.plan(fleet.instances[2], fleet.days()[0])
>>> sum(1 for event in fleet.audit_events(plan)) == plan.events
True
"""

from penpot_telemetry.simulate.fleet import Fleet, demo_fleet
from penpot_telemetry.simulate.people import Faults, FleetSpec

__all__ = ["Faults", "Fleet", "FleetSpec", "demo_fleet"]
