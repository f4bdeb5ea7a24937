"""How the events of a fleet reach a receiver: batch by batch, and what goes wrong on the way.

Plans go in, batches come out, in the order in which a receiver would see them. A batch names its events and does not
hold them. Simplified against a live sender in one point: batches are made when they get out, not at the first attempt.
"""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple
from uuid import UUID

from penpot_telemetry.simulate.people import FleetSpec, Instance, stream
from penpot_telemetry.simulate.plan import DayPlan
from penpot_telemetry.wire.payload import Totals


class Part(NamedTuple):
    """The events `start` to `stop` of one day."""

    plan: DayPlan
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class SimulatedBatch:
    """One batch as it arrives. A plain Penpot's has no id, no number and no totals."""

    instance: Instance
    instance_id: UUID
    version: str
    sent_at: datetime
    parts: tuple[Part, ...]
    batch_id: UUID | None = None
    batch_seq: int | None = None
    totals: Totals | None = None
    """The sender's account when the batch was made: these events still count as pending."""
    repeated: int = 0
    """How many of its first events have arrived before."""
    duplicate: bool = False
    """It is the batch before it, once more."""

    @property
    def events(self) -> int:
        """How many events the batch holds."""
        return sum(part.stop - part.start for part in self.parts)


@dataclass(slots=True)
class SimulatedAccount:
    """What became of the events of one instance under one id: recorded = shipped + dropped + pending.

    After a reset what still waits moves to the new account; a clone's starts with the figures it was copied with.
    """

    number: int
    instance_id: UUID
    recorded: int = 0
    shipped: int = 0
    """Arrived, and known to have arrived."""
    dropped: int = 0
    """Removed above the cap, oldest first; a plain Penpot drops some that arrived and were never acknowledged."""
    arrived: int = 0
    """Events that arrived at least once."""
    repeated: int = 0
    """Arrivals beyond the first: in duplicates and in overlapping batches."""
    batches: int = 0
    duplicates: int = 0
    """Batches that arrived a second time."""

    @property
    def pending(self) -> int:
        """Recorded and still waiting."""
        return self.recorded - self.shipped - self.dropped


class Senders:
    """The senders of a whole fleet, fed one day at a time; holds what waits, as plans, and the accounts."""

    def __init__(self, spec: FleetSpec) -> None:
        self.spec = spec
        self.accounts: list[SimulatedAccount] = []
        self.lateness: Counter[int] = Counter()
        """Events by the days from the day they bear to the day of their first arrival."""
        self._senders: dict[int, _Sender] = {}

    def send_day(self, day: date, plans: Sequence[DayPlan]) -> Iterator[SimulatedBatch]:
        """Record one day at the living instances, send at each of its hours, and yield what arrives."""
        senders = [self._sender_of(plan.instance, day) for plan in plans]
        hours = self.spec.send_hours
        for hour in range(hours, 25, hours):
            midnight = datetime.combine(day, time(), UTC)
            for sender, plan in zip(senders, plans, strict=True):
                sender.record(plan, hour)
                at = midnight + timedelta(hours=hour, seconds=sender.instance.number)
                for batch in sender.send(day, at):
                    self._note_lateness(batch)
                    yield batch
                sender.collect_garbage()

    def _sender_of(self, instance: Instance, day: date) -> "_Sender":
        sender = self._senders.get(instance.number)
        if sender is None:
            sender = self._senders[instance.number] = _Sender(self.spec, instance)
            self._open_account(sender, instance.id_on(day))
            if instance.clone_of is not None:
                sender.copy(self._senders[instance.clone_of])
        elif instance.id_on(day) != sender.account.instance_id:
            waiting = sender.account.pending
            sender.account.recorded -= waiting
            self._open_account(sender, instance.id_on(day))
            sender.account.recorded = waiting
        return sender

    def _note_lateness(self, batch: SimulatedBatch) -> None:
        known = batch.repeated
        for part in batch.parts:
            new = max(0, part.stop - part.start - known)
            known -= part.stop - part.start - new
            day = part.plan.day + timedelta(days=batch.instance.clock_days)
            self.lateness[(batch.sent_at.date() - day).days] += new

    def _open_account(self, sender: "_Sender", instance_id: UUID) -> None:
        sender.account = SimulatedAccount(sender.instance.number, instance_id)
        sender.seq = 0
        self.accounts.append(sender.account)


class _Sender:
    """One instance's sender: a queue of day parts and its account."""

    account: SimulatedAccount

    def __init__(self, spec: FleetSpec, instance: Instance) -> None:
        self.spec = spec
        self.instance = instance
        self.seq = 0
        self._waiting: deque[Part] = deque()
        self._arrived = 0
        """How many of the first waiting events have arrived without an answer."""
        self._attempts = 0

    def copy(self, origin: "_Sender") -> None:
        """Go on from the numbers of the machine that this one was cloned from, with nothing waiting."""
        self.seq = origin.seq
        self.account.shipped, self.account.dropped = origin.account.shipped, origin.account.dropped
        self.account.recorded = self.account.shipped + self.account.dropped

    def record(self, plan: DayPlan, hour: int) -> None:
        """Queue the events of the visits that began in the `send_hours` before `hour`."""
        if not plan.recorded:
            return
        start, stop = _events_before(plan, hour - self.spec.send_hours), _events_before(plan, hour)
        if start < stop:
            self._waiting.append(Part(plan, start, stop))
            self.account.recorded += stop - start

    def send(self, day: date, at: datetime) -> Iterator[SimulatedBatch]:
        """Send batch after batch until nothing waits, nothing gets out, or an answer is lost."""
        cut_off = self.instance.cut_off
        if cut_off and cut_off[0] <= day <= cut_off[1]:
            return
        faults = self.spec.faults
        while self._waiting:
            parts = self._first(self.spec.page)
            batch = self._make_batch(day, at, parts)
            self._attempts += 1
            self.account.batches += 1
            self.account.arrived += batch.events - batch.repeated
            self.account.repeated += batch.repeated
            yield batch
            if self._happens("duplicates", faults.duplicates):
                self.account.duplicates += 1
                self.account.repeated += batch.events
                yield replace(batch, repeated=batch.events, duplicate=True)
            if not self.instance.ours and self._happens("overlaps", faults.overlaps):
                self._arrived = max(self._arrived, batch.events)
                return
            self._remove(batch.events)
            self.account.shipped += batch.events
            self.seq = batch.batch_seq or 0

    def collect_garbage(self) -> None:
        """Drop the oldest events above the cap."""
        excess = self.account.pending - self.spec.faults.cap
        if excess > 0:
            self._remove(excess)
            self.account.dropped += excess

    def _make_batch(self, day: date, at: datetime, parts: tuple[Part, ...]) -> SimulatedBatch:
        version, account = self.instance.version_on(day), self.account
        batch = SimulatedBatch(self.instance, account.instance_id, version, at, parts)
        batch = replace(batch, repeated=min(self._arrived, batch.events))
        if not self.instance.ours:
            return batch
        bits = stream(self.spec.seed, "batch", self.instance.number, account.instance_id, self.seq + 1).getrandbits(128)
        totals = Totals(
            recorded=account.recorded,
            shipped=account.shipped,
            dropped=account.dropped,
            quarantined=0,
            pending=account.pending,
        )
        return replace(batch, batch_id=UUID(int=bits, version=4), batch_seq=self.seq + 1, totals=totals)

    def _happens(self, fault: str, share: float) -> bool:
        return share > 0 and stream(self.spec.seed, fault, self.instance.number, self._attempts).random() < share

    def _first(self, count: int) -> tuple[Part, ...]:
        parts = []
        for part in self._waiting:
            taken = min(count, part.stop - part.start)
            parts.append(Part(part.plan, part.start, part.start + taken))
            count -= taken
            if not count:
                break
        return tuple(parts)

    def _remove(self, count: int) -> None:
        self._arrived = max(0, self._arrived - count)
        while count:
            plan, start, stop = self._waiting.popleft()
            taken = min(count, stop - start)
            count -= taken
            if start + taken < stop:
                self._waiting.appendleft(Part(plan, start + taken, stop))


def _events_before(plan: DayPlan, hour: int) -> int:
    """How many of a day's events belong to visits that began before that hour; the whole day at 24."""
    if hour <= 0:
        return 0
    if hour >= 24:  # noqa: PLR2004
        return plan.events
    return plan.starts + plan.login_pages + sum(visit.events for visit in plan.visits if visit.start < hour * 3600)
