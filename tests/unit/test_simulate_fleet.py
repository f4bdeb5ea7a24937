"""A simulated fleet: the same bytes from the same spec, in any order, and events that look like Penpot's."""

import gzip
import hashlib
import json
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from penpot_telemetry.anonymise import anonymise
from penpot_telemetry.context_values import reduce_context
from penpot_telemetry.events import CONTEXT_KEYS, FRONTEND_TYPES, ZERO_UUID
from penpot_telemetry.simulate import Fleet, FleetSpec, demo_fleet
from penpot_telemetry.simulate.habits import FEATURE_NAMES, HOLIDAYS
from penpot_telemetry.wire.batch import EventRow, decode_columns
from penpot_telemetry.wire.payload import digest_events

DATA = Path(__file__).parent.parent / "data"
SMALL = FleetSpec(
    seed=7, instances=5, days=15, sizes=(12, 6, 3, 2, 1), activity=0.5, plain=0.5, first_day=date(2026, 5, 4)
)
FIELDS = ("name", "type", "source", "tracked_at", "profile_id", "props", "context")


def digest(fleet: Fleet) -> str:
    state = hashlib.sha256()
    for plan in fleet.plans():
        for event in fleet.audit_events(plan):
            state.update(repr(event).encode())
        for row in fleet.rows(plan):
            state.update(repr(row).encode())
    for batch in fleet.batches():
        state.update(repr((batch.batch_id, batch.instance_id, batch.sent_at, batch.totals)).encode())
    return state.hexdigest()


def plain(transit: str) -> object:
    """The verbose transit JSON of these events as plain JSON: keyword keys and uuids lose their marks."""

    def strip(pairs: list[tuple[str, object]]) -> dict[str, object]:
        return {key.removeprefix("~:"): v[2:] if isinstance(v, str) and v[:2] == "~u" else v for key, v in pairs}

    return json.loads(transit, object_pairs_hook=strip)


def test_the_demo_is_three_penpots_over_a_week_with_thirty_thousand_events() -> None:
    fleet = demo_fleet()
    events: Counter[int] = Counter()
    for plan in fleet.plans():
        events[plan.instance.number] += sum(1 for _ in fleet.audit_events(plan))
    assert len(fleet.days()) == 7
    assert sum(events.values()) >= 30_000
    assert events[0] > 2 * events[1] > 4 * events[2] > 0


def test_the_same_spec_gives_the_same_bytes_and_another_seed_does_not() -> None:
    assert digest(Fleet(SMALL)) == digest(Fleet(SMALL))
    assert digest(Fleet(SMALL)) != digest(Fleet(replace(SMALL, seed=8)))


def test_the_bytes_stay_the_same_from_one_python_and_machine_to_the_next() -> None:
    # Change it with the simulation, in a commit that says that notebooks and figures change with it.
    tiny = Fleet(FleetSpec(seed=1, instances=2, days=3, sizes=(2, 1), activity=0.2))
    assert digest(tiny)[:12] == "943405363519"


def test_a_day_made_alone_is_that_day_of_the_stream() -> None:
    stream = {(plan.instance.number, plan.day): (plan, list(Fleet(SMALL).rows(plan))) for plan in Fleet(SMALL).plans()}
    for (number, day), (plan, rows) in reversed(stream.items()):
        fleet = Fleet(SMALL)
        alone = fleet.plan(fleet.instances[number], day)
        assert alone == plan
        assert list(fleet.rows(alone)) == rows


def test_rows_and_columns_are_what_the_safe_sets_leave_of_the_audit_events() -> None:
    fleet = Fleet(SMALL)
    for plan in fleet.plans():
        events = list(fleet.audit_events(plan))
        rows, columns = list(fleet.rows(plan, "first")), list(fleet.columns(plan, "first"))
        assert len(events) == len(rows) == sum(len(page.name) for page in columns) == plan.events
        for event, row in zip(events, rows, strict=True):
            midnight = datetime.combine(event.tracked_at.date(), datetime.min.time(), UTC)
            safe = {key: value for key, value in event.context.items() if key in CONTEXT_KEYS[event.origin]}
            assert (row.name, row.type, row.source, row.props) == (event.name, event.type, "telemetry", "{}")
            assert row.tracked_at == midnight.timestamp() * 1000
            assert row.profile_id == (event.profile_id or ZERO_UUID).bytes
            assert plain(row.context) == safe
        for field in FIELDS:
            flat = [value for page in columns for value in getattr(page, field)]
            expected = [getattr(row, field) for row in rows]
            assert (
                [json.loads(v) for v in flat] == [plain(v) for v in expected]
                if field == "context"
                else flat == expected
            )


def test_the_anonymiser_makes_the_rows_of_the_audit_events_and_shortens_their_user_agents() -> None:
    fleet = Fleet(SMALL)
    for plan in fleet.plans():
        for event, row in zip(fleet.audit_events(plan), fleet.rows(plan, "first"), strict=True):
            kept = anonymise(event)
            assert (kept.name, kept.type, kept.profile_id.bytes) == (row.name, row.type, row.profile_id)
            context = plain(row.context)
            assert isinstance(context, dict)
            assert {*kept.changed} <= {"client-user-agent"}
            assert kept.context == reduce_context(event.origin, context).context
            assert kept.context.keys() == context.keys()
            assert all(kept.context[key] == value for key, value in context.items() if key not in kept.changed)


@pytest.mark.parametrize("wrong", [{"send_hours": 5}, {"sizes": (3, 0)}, {"days": 0}, {"page": 0}])
def test_a_spec_that_describes_no_fleet_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        replace(SMALL, **wrong)


def test_the_current_dialect_tells_origins_and_keeps_props_without_the_person() -> None:
    fleet = Fleet(SMALL)
    for plan in fleet.plans():
        rows = list(fleet.rows(plan, "current"))
        pages = list(fleet.columns(plan, "current"))
        props = [json.loads(text) for page in pages for text in page.props]
        for event, row, kept in zip(fleet.audit_events(plan), rows, props, strict=True):
            wanted = {key: str(v) if isinstance(v, UUID) else v for key, v in event.props.items()}
            personal = {key: wanted.pop(key) for key in ("email", "fullname") if key in wanted}
            assert row.source == f"telemetry:{event.origin}"
            assert plain(row.props) == kept == wanted
            assert bool(personal) == (event.profile_id is not None)


def test_an_audit_event_carries_what_must_not_leave() -> None:
    fleet = Fleet(SMALL)
    events = [event for plan in fleet.plans() for event in fleet.audit_events(plan)]
    for event in events:
        assert event.ip_addr
        assert event.context.keys() - CONTEXT_KEYS[event.origin]
        assert event.tracked_at <= event.created_at
        assert event.tracked_at.date() == event.created_at.date()
        assert event.origin == "backend" or event.type in FRONTEND_TYPES
    assert any("@" in str(event.props.get("email")) for event in events)
    assert {event.origin for event in events if event.profile_id is None} == {"frontend", "backend"}


def test_every_kind_of_event_is_one_that_penpot_sends() -> None:
    penpots: defaultdict[tuple[str, str, str], set[str]] = defaultdict(set)
    contexts: defaultdict[str, set[str]] = defaultdict(set)
    with gzip.open(DATA / "penpot-batch-1.expected.jsonl.gz", "rt") as lines:
        for event in map(json.loads, lines):
            penpots[event["source"], event["type"], event["name"]] |= event["props"].keys()
            contexts[event["source"]] |= event["context"].keys()
    fleet = Fleet(replace(SMALL, sizes=(120, 60, 40, 30), instances=4, established=1.0, first_day=date(2026, 7, 20)))
    ours: defaultdict[tuple[str, str, str], set[str]] = defaultdict(set)
    for plan in fleet.plans():
        for row in fleet.rows(plan, "current"):
            ours[row.source, row.type, row.name] |= json.loads(row.props).keys()
            assert {key.removeprefix("~:") for key in json.loads(row.context)} <= contexts[row.source]
    assert ours.keys() == penpots.keys()
    for kind, props in ours.items():
        assert {key.removeprefix("~:") for key in props} <= penpots[kind], kind


def test_profile_ids_have_penpots_shape_and_tell_when_they_were_made() -> None:
    fleet = Fleet(SMALL)
    seen = set()
    for instance in fleet.instances:
        for person in fleet.people(instance):
            ms = (person.id.int & (1 << 62) - 1) >> 14
            assert person.id.version == 8
            assert (datetime(2022, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)).date() == person.joined
            seen.add(person.id)
    assert len(seen) == sum(len(fleet.people(instance)) for instance in fleet.instances)


def test_people_work_on_weekdays_and_rest_on_holidays() -> None:
    fleet = Fleet(FleetSpec(seed=4, instances=1, sizes=(150,), days=364, growth=0.0, established=1.0, churn=0.0))
    visits: defaultdict[int, list[int]] = defaultdict(list)
    holidays = []
    for plan in fleet.plans():
        if (plan.day.month, plan.day.day) in HOLIDAYS:
            holidays += [len(plan.visits)] if plan.day.weekday() < 5 else []
        else:
            visits[plan.day.weekday()].append(len(plan.visits))
    mean = {day: sum(counts) / len(counts) for day, counts in visits.items()}
    assert mean[1] > mean[4] > 3 * mean[5] > 3 * 0.5 * mean[6]
    assert sum(holidays) / len(holidays) < 0.4 * mean[4]


def test_retention_falls_and_flattens() -> None:
    fleet = Fleet(FleetSpec(seed=4, instances=40, days=120, established=0.0, churn=0.0))
    kept: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0])
    for cohort in fleet.truth().cohorts.values():
        for nth, (came, of) in cohort.items():
            kept[nth][0] += came
            kept[nth][1] += of
    rate = {nth: came / of for nth, (came, of) in kept.items()}
    assert rate[0] == 1.0
    assert 0.8 > rate[1] > rate[4] > rate[10] > 0.2
    assert rate[1] - rate[4] > rate[7] - rate[10]


def test_sizes_have_a_heavy_tail_and_a_year_brings_growth_births_and_deaths() -> None:
    fleet = Fleet(FleetSpec(seed=11, instances=400, days=365, growth=1.0))
    sizes = sorted(instance.size for instance in fleet.instances)
    assert 2 <= sizes[200] <= 6
    assert sum(sizes[-40:]) > sum(sizes) / 2
    first, last = fleet.days()[0], fleet.days()[-1]
    born = [instance.born for instance in fleet.instances if instance.born >= first]
    assert 100 < len(born) < 220
    assert sum(day > date(2026, 7, 6) for day in born) > len(born) / 2
    died = [instance for instance in fleet.instances if instance.died]
    assert 20 < len(died) < 200
    assert all(first < instance.died <= last for instance in died if instance.died)


def test_versions_only_rise_lag_behind_their_release_and_bring_new_features() -> None:
    spec = FleetSpec(seed=2, instances=60, days=200, sizes=(4,) * 60)
    fleet = Fleet(spec)
    order = {release.version: place for place, release in enumerate(spec.releases)}
    days = {release.version: release.day for release in spec.releases}
    for instance in fleet.instances:
        places = [order[version] for version, _ in instance.versions]
        assert places == sorted(set(places))
        assert all(installed >= days[version] for version, installed in instance.versions)
    truth = fleet.truth()
    lags = truth.upgrade_lags()
    assert 0.05 < sum(not lag.upgraded for lag in lags) / len(lags) < 0.7
    assert truth.uses["variant-switch"].first_day >= days["2.16.0"]
    assert truth.uses["apply-tokens"].first_day >= days["2.14.0"]
    assert set(truth.uses) >= set(FEATURE_NAMES)


@pytest.mark.parametrize("hours", [3, 24])
def test_a_sender_posts_numbered_pages_with_running_totals(hours: int) -> None:
    fleet = Fleet(replace(SMALL, send_hours=hours, page=50, plain=0.0))
    by_instance = defaultdict(list)
    for batch in fleet.batches():
        by_instance[batch.instance_id].append(batch)
        assert 0 < batch.events <= 50
        assert batch.events == len(fleet.batch_rows(batch)) == len(fleet.batch_columns(batch).name)
    for batches in by_instance.values():
        assert [batch.batch_seq for batch in batches] == list(range(1, len(batches) + 1))
        assert len({batch.batch_id for batch in batches}) == len(batches)
        shipped = 0
        for batch in batches:
            totals = batch.totals
            assert totals
            assert totals.shipped == shipped
            assert totals.recorded == totals.shipped + totals.dropped + totals.pending
            assert totals.pending >= batch.events
            shipped += batch.events
    arrived = sum(batch.events for batches in by_instance.values() for batch in batches)
    assert arrived == sum(plan.events for plan in fleet.plans())
    assert arrived == sum(account.arrived for account in fleet.delivered().accounts)


def test_the_pages_of_a_day_are_its_events_in_order() -> None:
    fleet = Fleet(replace(SMALL, send_hours=3, page=37, activity=2.0, plain=1.0, first_day=date(2026, 7, 20)))
    rows: defaultdict[int, list[EventRow]] = defaultdict(list)
    for batch in fleet.batches():
        page = fleet.batch_rows(batch)
        assert [json.loads(text) for text in fleet.batch_columns(batch).props] == [plain(row.props) for row in page]
        rows[batch.instance.number] += page
    for instance in fleet.instances:
        plans = [fleet.plan(instance, day) for day in fleet.days()]
        assert rows[instance.number] == [row for plan in plans for row in fleet.rows(plan)]


def test_a_plain_penpot_sends_without_an_id_and_in_the_dialect_of_its_version() -> None:
    fleet = Fleet(replace(SMALL, instances=20, days=80, sizes=(2,) * 20, plain=1.0, first_day=date(2026, 3, 2)))
    dialects = set()
    for batch in fleet.batches():
        assert (batch.batch_id, batch.batch_seq, batch.totals) == (None, None, None)
        dialects |= {(row.source == "telemetry", row.props == "{}") for row in fleet.batch_rows(batch)}
    assert {(True, True), (False, False)} <= dialects
    assert (True, False) not in dialects


def test_an_envelope_decodes_to_the_columns_of_its_batch() -> None:
    fleet = Fleet(replace(SMALL, days=3, first_day=date(2026, 7, 20)))
    kinds = set()
    for batch in fleet.batches():
        envelope, columns = fleet.envelope(batch), fleet.batch_columns(batch)
        decoded = decode_columns(envelope.events)
        for field in FIELDS:
            ours, theirs = getattr(columns, field), getattr(decoded, field)
            if field in ("props", "context"):
                ours, theirs = [json.loads(text) for text in ours], [json.loads(text) for text in theirs]
            assert ours == theirs
        assert envelope.digest in (None, digest_events(envelope.events))
        assert envelope.event_count in (None, batch.events)
        kinds.add(envelope.batch_id is None)
    assert kinds == {True, False}


def test_chunks_hold_every_recorded_event_once() -> None:
    fleet = Fleet(SMALL)
    chunks = list(fleet.chunks(rows=500))
    assert all(len(chunk.version) >= 500 for chunk in chunks[:-1])
    rows = [
        (UUID(bytes=instance), version, name)
        for chunk in chunks
        for instance, version, name in zip(chunk.instance_id, chunk.version, chunk.columns.name, strict=True)
    ]
    assert rows == [(p.instance.id, p.version, row.name) for p in fleet.plans() for row in fleet.rows(p)]


@pytest.mark.slow
def test_memory_grows_with_people_and_not_with_events() -> None:
    # About 600,000 events pass after the first reading; held, they would need more than a hundred megabytes.
    script = """
import resource
from penpot_telemetry.simulate import Fleet, FleetSpec, Senders
fleet = Fleet(FleetSpec(seed=5, instances=80, days=60))
for instance in fleet.instances:
    fleet.people(instance)
events, early = 0, 0
for batch in fleet.batches():
    events += len(fleet.batch_columns(batch).name)
    if not early and batch.sent_at.date() > fleet.days()[12]:
        early = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(events, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - early)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    events, grown_kib = map(int, result.stdout.split())
    assert events > 500_000
    assert grown_kib < 24 * 1024
