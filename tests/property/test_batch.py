"""The columnar path against the plain codec: whatever the bytes are, both say the same."""

import base64
import importlib.util
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penpot_telemetry.errors import DecodeError
from penpot_telemetry.wire import batch, blob, fressian
from penpot_telemetry.wire import kernel as installed_kernel
from penpot_telemetry.wire.batch import KEYS, Columns, EventRow
from penpot_telemetry.wire.fressian import Instant, Keyword, Value
from penpot_telemetry.wire.fressian.reader import Reader
from penpot_telemetry.wire.limits import Limits
from penpot_telemetry.wire.transit import loads_verbose

DATA = Path(__file__).parents[1] / "data"
DAY_MS = 86_400_000

names = st.sampled_from(["navigate", "update-file", "create-shape", "ünïcode", "a" * 250])
keywords = st.builds(Keyword, st.sampled_from(["team-id", "file-id", "num", "route", "name", "props"]))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=20),
    st.uuids(),
    st.binary(max_size=20),
    keywords,
    st.builds(Instant, st.integers(-(10**12), 10**13)),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(keywords, inner, max_size=3), st.tuples(inner, inner)
    ),
    max_leaves=6,
)
maps = st.dictionaries(keywords, values, max_size=4)
NAME, TYPE, SOURCE, TRACKED_AT, PROFILE_ID, PROPS, CONTEXT = KEYS


@st.composite
def events(draw: st.DrawFn) -> dict[Value, Value]:
    """An event map: mostly as Penpot writes it, sometimes with keys that are missing, more or in another order."""
    event: dict[Value, Value] = {
        NAME: draw(names),
        TYPE: draw(st.sampled_from(["action", "command"])),
        SOURCE: draw(st.sampled_from(["telemetry", "telemetry:backend"])),
        TRACKED_AT: Instant(draw(st.integers(0, 3)) * DAY_MS),
        PROFILE_ID: draw(st.sampled_from([UUID(int=0), UUID(int=2**127 + 5)]) | st.uuids()),
        PROPS: draw(maps | st.fixed_dictionaries({Keyword("team-id"): st.uuids(), Keyword("file-id"): st.uuids()})),
        CONTEXT: draw(maps),
    }
    if draw(st.integers(0, 9)) == 0:
        for key in draw(st.lists(st.sampled_from([PROFILE_ID, PROPS, CONTEXT]), max_size=2)):
            event.pop(key, None)
        event |= draw(st.dictionaries(keywords, scalars, max_size=2))
        event = {key: event[key] for key in draw(st.permutations(list(event)))}
    return event


def by_values(data: bytes, limits: Limits) -> Columns:
    """The slow and obvious way: every event a dict."""
    scan = batch._Scan(data, limits)
    scan.add_events(fressian.loads(data, limits), 0)
    return scan.columns


class EachAlone(batch._Scan):
    """The same for bytes that may be damaged: every event a dict, none known by its bytes."""

    def copy_events(self, reader: Reader, count: int) -> None:
        pass

    def read_entries(self, reader: Reader) -> None:
        self.add_map(reader.read_object())


def by_events(data: bytes, limits: Limits) -> Columns:
    scan = EachAlone(data, limits)
    scan.read_batch()
    return scan.columns


def outcome(read: object, data: bytes, limits: Limits) -> Columns | None:
    try:
        return read(data, limits)  # type: ignore[operator, no-any-return]
    except DecodeError:
        return None


def interpreted_kernel() -> ModuleType:
    """The kernel from its source, whatever stands compiled beside it, and used as the compiled one is."""
    path = Path(batch.__file__).with_name("kernel.py")
    spec = importlib.util.spec_from_file_location("interpreted_kernel", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.COMPILED = True  # type: ignore[attr-defined]
    return module


KERNELS = [installed_kernel, interpreted_kernel()]
BUILDS = pytest.mark.parametrize("kernel", KERNELS, ids=["installed", "interpreted"])


def by_arrays(kernel: ModuleType) -> Callable[[bytes, Limits], Columns]:
    """The way by flat arrays, with one build of the kernel."""

    def read(data: bytes, limits: Limits) -> Columns:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(batch, "kernel", kernel)
            return batch.read_flat(data, limits).columns()

    return read


@BUILDS
@settings(max_examples=150, deadline=None)
@given(st.lists(events(), max_size=12), st.sampled_from([1, 3]))
def test_columns_equal_what_the_plain_codec_gives(
    kernel: ModuleType, page: list[dict[Value, Value]], repeat: int
) -> None:
    data = fressian.dumps(page * repeat)
    expected = outcome(by_values, data, Limits())
    assert outcome(batch.read_columns, data, Limits()) == expected
    assert outcome(by_arrays(kernel), data, Limits()) == expected


@BUILDS
@settings(max_examples=300, deadline=None)
@given(st.lists(events(), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_damaged_bytes_end_as_the_plain_codec_says(
    kernel: ModuleType, page: list[dict[Value, Value]], rng: random.Random
) -> None:
    data = bytearray(fressian.dumps(page * 4))
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data))
        if rng.random() < 0.3:
            del data[at : at + rng.randint(1, 4)]
        else:
            data[at] = rng.choice((0xFE, 0xFD, 0xED, 0x80, rng.randrange(256)))
        if not data:
            return
    limits = Limits(depth=40)
    expected = outcome(by_events, bytes(data), limits)
    assert outcome(batch.read_columns, bytes(data), limits) == expected
    assert outcome(by_arrays(kernel), bytes(data), limits) == expected


@BUILDS
def test_a_damaged_page_of_penpot_ends_as_the_plain_codec_says(kernel: ModuleType) -> None:
    payload = json.loads((DATA / "penpot-batch-1.payload.json").read_text())
    page = fressian.loads(blob.decode_str(payload["events"]))[:60]
    whole, rng = fressian.dumps(page), random.Random(7)  # noqa: S311  the same damage in every run
    read = cut = 0
    for _ in range(600):
        data = bytearray(whole)
        data[rng.randrange(len(data))] = rng.choice((0xFE, 0xFD, 0x8C, rng.randrange(256)))
        expected = outcome(by_events, bytes(data), Limits())
        assert outcome(batch.read_columns, bytes(data), Limits()) == expected
        assert outcome(by_arrays(kernel), bytes(data), Limits()) == expected
        read += expected is not None
        cut += expected is not None and len(expected.bad) > 0
    assert 100 < read < 550  # all outcomes are met
    assert 20 < cut < read


@BUILDS
def test_the_end_of_a_head_or_a_context_is_looked_for_within_bounds(kernel: ModuleType) -> None:
    def scan(filler: int) -> tuple[int, int]:
        data = b"\xa0\xed" + b"\x01" * filler + b"\x84\xfd" + bytes(20)
        scanner = kernel.Scanner(data, 1_000)
        scanner.teach(0xA0, 0xA1, list(range(0x80, 0x87)))
        return scanner.head_end(0), scanner.map_end(0)[0]

    assert scan(100) == (102, 104)
    assert scan(10_000) == (kernel.FAR, kernel.FAR)


@BUILDS
def test_a_key_met_in_an_event_that_is_left_to_the_reader_is_met_there(kernel: ModuleType) -> None:
    def event(**props: Value) -> dict[Value, Value]:
        return {
            NAME: "navigate",
            TYPE: "action",
            SOURCE: "telemetry",
            TRACKED_AT: Instant(0),
            PROFILE_ID: UUID(int=1),
            PROPS: {Keyword(key): value for key, value in props.items()},
            CONTEXT: {},
        }

    page = [event(), event(), event(a=1), event(b=1, c=[1]), event(c=2, d=3), event(b=4, a=5), event(e=1, a=[2], f=3)]
    data = fressian.dumps([*page, *page])
    assert by_arrays(kernel)(data, Limits()) == by_values(data, Limits())


transit_scalars = st.one_of(
    st.booleans(),
    st.none(),
    st.integers(-(2**50), 2**50),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, 1.0, 0.5, 64, 4095, 4096, 2**19, 2**25, 2**33, 2**41, 2**49]),
    st.text(max_size=12).filter(lambda text: not text.startswith(("~", "^", "`"))),
    st.uuids().map(lambda uuid: f"~u{uuid}"),
    st.just("~:exporter"),
    st.just("~m1784505600000"),
    st.sampled_from(["~u0D9E2F30-AAAA-4BBB-8CCC-00000000000f", "x" * 70]),
)
transit_maps = st.dictionaries(
    st.sampled_from(["~:id", "~:team-id", "~:version", "~:app/x", *(f"~:k{number}" for number in range(130))]),
    transit_scalars | st.lists(transit_scalars, max_size=2),
    max_size=3,
).map(json.dumps)
rows = st.builds(
    EventRow,
    names,
    st.just("action"),
    st.sampled_from(["telemetry", "telemetry:frontend"]),
    st.integers(-DAY_MS, 5 * DAY_MS),
    st.none() | st.binary(min_size=16, max_size=16),
    transit_maps,
    transit_maps,
)


@BUILDS
@settings(max_examples=150, deadline=None)
@given(st.lists(rows, max_size=12), st.sampled_from([1, 3]))
def test_rows_become_the_bytes_that_the_plain_codec_writes(
    kernel: ModuleType, page: list[EventRow], repeat: int
) -> None:
    def as_map(row: EventRow) -> dict[Value, Value]:
        event = dict(
            zip(KEYS, (row.name, row.type, row.source, Instant(row.tracked_at // DAY_MS * DAY_MS)), strict=False)
        )
        if row.profile_id is not None:
            event[PROFILE_ID] = UUID(bytes=row.profile_id)
        return event | {PROPS: loads_verbose(row.props), CONTEXT: loads_verbose(row.context)}

    page = page * repeat
    data = fressian.dumps([as_map(row) for row in page])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "kernel", kernel)
        assert batch.write_rows(page) == data
    assert batch.encode_events(page) == batch.encode_events(page)
    columns = batch.decode_columns(batch.encode_events(page))
    assert columns.tracked_at == [row.tracked_at // DAY_MS * DAY_MS for row in page]
    assert columns.profile_id == [row.profile_id for row in page]


def test_the_day_is_the_utc_day() -> None:
    late = int(datetime(2026, 7, 20, 23, 59, 59, 999000, tzinfo=UTC).timestamp() * 1000)
    row = EventRow("navigate", "action", "telemetry", late, None, "{}", "{}")
    assert batch.decode_columns(batch.encode_events([row])).tracked_at == [1784505600000]
    assert base64.urlsafe_b64decode(batch.encode_events([row])[:8])[:2] == b"\x00\x04"
