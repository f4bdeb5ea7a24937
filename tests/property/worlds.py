"""Small random worlds. Apart from the warehouses: what Hypothesis keeps must not keep DuckDB."""

from datetime import timedelta
from uuid import UUID

from hypothesis import strategies as st

from tests.property.reference import MONDAY, NOBODY, Batch, Event, Refused, World

DAY = timedelta(days=1)
INSTANCES = [UUID(int=(1 << 100) + n) for n in range(5)]
PROFILES = [UUID(int=(1 << 90) + n) for n in range(9)]
VERSIONS = ["2.9.0", "2.10.0", "2.10.0-RC1", "2.11.0"]
NAMES = ["navigate", "update-file", "create-shape", None, "not a name"]
PLATFORMS = [(None, None), ("Chrome", 1920), ("Chrome", 1280), ("Firefox", 1279), ("Safari", 2560), ("Edge", None)]


@st.composite
def events(draw: st.DrawFn, received: int) -> Event:
    """An event of a batch received so many days after MONDAY: mostly of the day before."""
    late = draw(st.sampled_from([1, 1, 1, 0, 2, 3, 9, 30, -2]))
    name = draw(st.sampled_from(NAMES))
    browser, width = draw(st.sampled_from(PLATFORMS))
    day = None if draw(st.integers(0, 40)) == 0 else MONDAY + (received - late) * DAY
    return Event(
        day,
        name,
        draw(st.sampled_from([NOBODY, *PROFILES])),
        browser,
        width,
        draw(st.sampled_from(["action", "action", "command", "Action!"])),
        draw(st.sampled_from(["telemetry", "telemetry", "telemetry:frontend", "else"])),
    )


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    received = draw(st.integers(0, 75))
    ours = draw(st.booleans())
    return Batch(
        instance=draw(st.sampled_from(INSTANCES)),
        version=draw(st.sampled_from(VERSIONS)),
        received_on=MONDAY + received * DAY,
        events=tuple(draw(st.lists(events(received), min_size=1, max_size=5))),
        seq=draw(st.one_of(st.integers(1, 9), st.sampled_from([1500, 10**11]))) if ours else None,
        repeats=draw(st.sampled_from([0, 0, 1, 3])),
        overlap=None if ours else draw(st.integers(0, 2)),
        context_keys=draw(st.sampled_from([0, 0, 2])),
        event_keys=draw(st.sampled_from([0, 0, 1])),
        totals=draw(st.one_of(st.none(), st.tuples(*[st.one_of(st.integers(0, 50), st.just(10**11))] * 3)))
        if ours
        else None,
    )


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Up to 25 batches of 5 instances over eleven weeks, and what is asked for."""
    arrived = sorted(draw(st.lists(batches(), min_size=6, max_size=25)), key=lambda batch: batch.received_on)
    refused = st.builds(
        Refused,
        st.integers(0, 75).map(lambda n: MONDAY + n * DAY),
        st.sampled_from(["not-json", "bad-blob"]),
        st.integers(0, 999),
        st.integers(0, 2),
        st.sampled_from([None, *INSTANCES[:2]]),
    )
    span = draw(st.one_of(st.none(), st.tuples(st.integers(-3, 80), st.integers(0, 60))))
    return World(
        tuple(arrived),
        tuple(draw(st.lists(refused, max_size=4))),
        first=MONDAY + span[0] * DAY if span else None,
        last=MONDAY + (span[0] + span[1]) * DAY if span else None,
        instance=draw(st.sampled_from([None, None, None, *INSTANCES[:2]])),
        version=draw(st.sampled_from([None, None, None, *VERSIONS[:2]])),
        vouch_days=draw(st.sampled_from([None, None, 1, 3, 5])),
    )
