"""Each fault does what it says, to whom it says, and nothing else."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import date, timedelta
from itertools import pairwise
from uuid import UUID

import pytest

from penpot_telemetry.simulate import Faults, Fleet, FleetSpec, Instance, SimulatedAccount, SimulatedBatch
from penpot_telemetry.wire.batch import EventRow

BASE = FleetSpec(
    seed=3, instances=8, days=40, sizes=(30, 9, 6, 4, 3, 2, 2, 1), activity=0.4, plain=0.5, established=1.0, churn=0.0
)
Day = tuple[int, date]


def with_faults(faults: Faults) -> Fleet:
    return Fleet(replace(BASE, faults=faults))


def rows_by_day(fleet: Fleet) -> dict[Day, list[EventRow]]:
    return {(plan.instance.number, plan.day): list(fleet.rows(plan)) for plan in fleet.plans()}


def shapes(batches: Iterable[SimulatedBatch]) -> dict[int, list[tuple[object, ...]]]:
    """Everything about the batches of each instance but the plans themselves."""
    found: defaultdict[int, list[tuple[object, ...]]] = defaultdict(list)
    for batch in batches:
        parts = tuple((part.plan.day, part.start, part.stop) for part in batch.parts)
        found[batch.instance.number].append(
            (batch.instance_id, batch.version, batch.sent_at, batch.batch_id, batch.batch_seq, batch.totals, parts)
        )
    return found


def struck(fleet: Fleet, field: str) -> list[Instance]:
    return [instance for instance in fleet.instances if getattr(instance, field)]


def arrivals(fleet: Fleet) -> Counter[tuple[int, date, int]]:
    """How often each event arrived, by its place in its day."""
    seen: Counter[tuple[int, date, int]] = Counter()
    for batch in fleet.batches():
        places = [(batch.instance.number, part.plan.day, k) for part in batch.parts for k in range(*part[1:])]
        assert batch.repeated == sum(place in seen for place in places)
        assert all(place in seen for place in places[: batch.repeated])
        seen.update(places)
    return seen


def accounts(fleet: Fleet) -> dict[int, SimulatedAccount]:
    return {account.number: account for account in fleet.delivered().accounts}


CLEAN = Fleet(BASE)


@pytest.mark.parametrize("share", [Faults(), Faults(cap=1_000_000), Faults(outage_days=9, bot_events=5)])
def test_without_a_count_or_a_share_nothing_goes_wrong(share: Faults) -> None:
    fleet = with_faults(share)
    assert fleet.incidents() == []
    assert shapes(fleet.batches()) == shapes(CLEAN.batches())
    assert set(arrivals(fleet).values()) == {1}
    assert set(fleet.delivered().lateness) == {1}


def test_missing_days_happen_and_are_not_recorded() -> None:
    fleet = with_faults(Faults(missing=2, missing_days=4))
    lost = {(m.number, m.silent[0] + timedelta(days=k)) for m in fleet.instances if m.silent for k in range(4)}
    clean, rows = rows_by_day(CLEAN), rows_by_day(fleet)
    assert len(lost) == 8
    assert sum(len(clean[day]) for day in lost) > 0
    assert all(rows[day] == ([] if day in lost else clean[day]) for day in clean)
    assert fleet.truth() == CLEAN.truth()
    recorded = fleet.truth(as_recorded=True)
    assert recorded.events == CLEAN.truth().events - sum(len(clean[day]) for day in lost)
    assert sum(arrivals(fleet).values()) == recorded.events


def test_an_outage_delays_days_and_loses_none() -> None:
    fleet = with_faults(Faults(outages=2, outage_days=6))
    hit = struck(fleet, "cut_off")
    assert len(hit) == 2
    assert arrivals(fleet) == arrivals(CLEAN)
    batches, clean = shapes(fleet.batches()), shapes(CLEAN.batches())
    for instance in fleet.instances:
        if not instance.cut_off:
            assert batches[instance.number] == clean[instance.number]
            continue
        first, last = instance.cut_off
        assert (last - first).days == 5
        sent = {batch.sent_at.date() for batch in fleet.batches() if batch.instance is instance}
        assert not any(first < day <= last + timedelta(days=1) for day in sent)
    lateness = fleet.delivered().lateness
    assert max(lateness) in range(3, 8)
    assert sum(lateness.values()) == sum(CLEAN.delivered().lateness.values())


def test_above_the_cap_the_oldest_go_and_the_totals_say_so() -> None:
    fleet = with_faults(Faults(losses=1, loss_days=15, cap=600))
    (hit,) = struck(fleet, "cut_off")
    assert hit.size == max(instance.size for instance in fleet.instances)
    everything = [
        (hit.number, plan.day, k) for plan in fleet.plans() for k in range(plan.events) if plan.instance is hit
    ]
    arrived = {place for place in arrivals(fleet) if place[0] == hit.number}
    account = accounts(fleet)[hit.number]
    assert account.dropped > 0
    assert account.recorded == len(everything) == account.shipped + account.dropped
    assert account.arrived == account.shipped == len(arrived)
    gaps = [place for place in everything if place not in arrived]
    first = everything.index(gaps[0])
    assert gaps == everything[first : first + account.dropped]
    last = [batch for batch in fleet.batches() if batch.instance is hit][-1]
    assert last.totals is None or last.totals.dropped == account.dropped
    clean = shapes(CLEAN.batches())
    assert all(found == clean[number] for number, found in shapes(fleet.batches()).items() if number != hit.number)


def test_a_duplicate_is_the_batch_before_it_once_more() -> None:
    fleet = with_faults(Faults(duplicates=0.2))
    batches = list(fleet.batches())
    again = [(before, batch) for before, batch in pairwise(batches) if batch.duplicate]
    assert 0.1 < len(again) / len(batches) < 0.3
    assert all(replace(batch, duplicate=False, repeated=0) == before for before, batch in again)
    assert all(fleet.batch_rows(batch) == fleet.batch_rows(before) for before, batch in again)
    assert shapes(batch for batch in batches if not batch.duplicate) == shapes(CLEAN.batches())
    assert arrivals(fleet).keys() == arrivals(CLEAN).keys()
    assert sum(account.duplicates for account in fleet.delivered().accounts) == len(again)


def test_after_a_lost_answer_a_plain_penpot_sends_the_same_rows_among_new_ones() -> None:
    fleet = with_faults(Faults(overlaps=0.2))
    seen, clean = arrivals(fleet), shapes(CLEAN.batches())
    overlapping = [batch for batch in fleet.batches() if batch.repeated]
    assert overlapping
    assert any(batch.repeated < batch.events for batch in overlapping)
    assert not any(batch.instance.ours or batch.duplicate for batch in overlapping)
    assert seen.keys() == arrivals(CLEAN).keys()
    assert sum(seen.values()) - len(seen) == sum(account.repeated for account in fleet.delivered().accounts)
    for instance in fleet.instances:
        if instance.ours:
            assert shapes(fleet.batches())[instance.number] == clean[instance.number]


def test_a_skewed_clock_moves_an_instances_days_and_nothing_in_them() -> None:
    fleet = with_faults(Faults(skews=3, skew_days=4))
    assert [abs(instance.clock_days) for instance in struck(fleet, "clock_days")] == [4, 4, 4]
    clean = rows_by_day(CLEAN)
    for (number, day), rows in rows_by_day(fleet).items():
        shift = fleet.instances[number].clock_days * 86_400_000
        assert [row._replace(tracked_at=row.tracked_at - shift) for row in rows] == clean[number, day]
        plan = fleet.plan(fleet.instances[number], day)
        tracked = {event.tracked_at.date() for event in fleet.audit_events(plan)}
        assert tracked <= {day + timedelta(days=fleet.instances[number].clock_days)}
    assert fleet.truth() == CLEAN.truth()
    assert shapes(fleet.batches()) == shapes(CLEAN.batches())


def test_a_reset_gives_a_new_id_and_account_and_keeps_the_people() -> None:
    fleet = with_faults(Faults(resets=2))
    assert rows_by_day(fleet) == rows_by_day(CLEAN)
    assert fleet.truth() == CLEAN.truth()
    assert len(struck(fleet, "reset")) == 2
    for instance in fleet.instances:
        ids = list(dict.fromkeys(batch.instance_id for batch in fleet.batches() if batch.instance is instance))
        assert ids == ([instance.id, instance.reset[1]] if instance.reset else [instance.id])
        for identity in ids if instance.ours else []:
            numbers = [batch.batch_seq for batch in fleet.batches() if batch.instance_id == identity]
            assert numbers == list(range(1, len(numbers) + 1))
    recorded = fleet.truth(as_recorded=True)
    assert recorded.profiles == CLEAN.truth().profiles
    assert len(recorded.lives) == len(CLEAN.truth().lives) + 2


def test_a_clone_goes_on_under_the_same_id_and_sequence_with_some_of_the_people() -> None:
    fleet = with_faults(Faults(clones=2))
    *originals, one, other = fleet.instances
    assert len(originals) == BASE.instances
    clean = shapes(CLEAN.batches())
    found = shapes(fleet.batches())
    assert all(found[instance.number] == clean[instance.number] for instance in originals)
    later = 0
    for clone in (one, other):
        assert clone.clone_of is not None
        origin = fleet.instances[clone.clone_of]
        assert clone.id == origin.id
        assert clone.machine != origin.machine
        before = [person for person in fleet.people(origin) if person.joined < clone.born]
        assert list(fleet.people(clone)) == before
        later += len(fleet.people(origin)) - len(before)
        firsts = [batch.batch_seq for batch in fleet.batches() if batch.instance is clone][:1]
        done = [b for b in fleet.batches() if b.instance is origin and b.sent_at.date() <= clone.born]
        assert firsts in ([], [None], [len(done) + 1])
    assert later > 0
    batches = [batch for batch in fleet.batches() if batch.batch_seq]
    by_number = defaultdict(set)
    for batch in batches:
        by_number[batch.instance_id, batch.batch_seq].add(batch.batch_id)
    shared = {instance for (instance, _), ids in by_number.items() if len(ids) > 1}
    assert shared
    assert shared == {clone.id for clone in (one, other) if clone.ours and clone.number in found}
    truth = fleet.truth()
    assert truth.profiles.keys() == CLEAN.truth().profiles.keys()
    assert max(active.day for active in truth.instances.values()) >= max(
        active.day for active in fleet.truth(as_recorded=True).instances.values()
    )


def test_a_bot_is_one_profile_with_so_many_events() -> None:
    fleet = with_faults(Faults(bots=1, bot_events=30_001, bot_days=4))
    (hit,) = struck(fleet, "bot")
    clean, rows = rows_by_day(CLEAN), rows_by_day(fleet)
    by_profile: Counter[UUID] = Counter()
    for day, found in rows.items():
        extra = Counter(found)
        extra.subtract(clean[day])
        assert not -extra
        by_profile.update({UUID(bytes=row.profile_id or b""): count for row, count in (+extra).items()})
    assert list(by_profile.values()) == [30_001]
    truth, before = fleet.truth(), CLEAN.truth()
    assert hit.bot
    assert {day for day in truth.profiles if truth.profiles[day].day != before.profiles[day].day} == {
        hit.bot[0] + timedelta(days=k) for k in range(4)
    }
    assert max(batch.events for batch in fleet.batches()) <= BASE.page
    assert truth.platforms == before.platforms


def test_faults_do_not_disturb_each_other() -> None:
    everything = Faults(
        outages=2, missing=2, duplicates=0.1, overlaps=0.1, losses=1, cap=500, skews=2, resets=2, clones=2, bots=1,
        bot_events=3_000,
    )  # fmt: skip
    fleet = with_faults(everything)
    for field, alone in {
        "silent": Faults(missing=2),
        "clock_days": Faults(skews=2),
        "reset": Faults(resets=2),
        "bot": Faults(bots=1),
    }.items():
        expected = [(instance.number, getattr(instance, field)) for instance in struck(with_faults(alone), field)]
        found = [(m.number, getattr(m, field)) for m in struck(fleet, field) if m.clone_of is None]
        assert found == expected
    for account in fleet.delivered().accounts:
        assert account.recorded == account.shipped + account.dropped + account.pending
        assert account.pending >= 0
    arrivals(fleet)
