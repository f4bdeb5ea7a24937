"""Batches that Penpot wrote, column by column, and what a batch may not do."""

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from penpot_telemetry.errors import DecodeError, EncodeError, LimitError
from penpot_telemetry.wire import batch, blob, fressian
from penpot_telemetry.wire.batch import CONTEXT, NAME, PROFILE_ID, PROPS, SOURCE, TRACKED_AT, TYPE, Columns, EventRow
from penpot_telemetry.wire.fressian import Instant, Keyword, Value, codes
from penpot_telemetry.wire.fressian.handlers import WRITE
from penpot_telemetry.wire.fressian.writer import Writer
from penpot_telemetry.wire.limits import Limits

DATA = Path(__file__).parents[1] / "data"
MIB = 1024 * 1024
EVENT: dict[Value, Value] = {NAME: "navigate", TYPE: "action", SOURCE: "telemetry", TRACKED_AT: Instant(0)}
FULL = EVENT | {PROFILE_ID: UUID(int=7), PROPS: {}, CONTEXT: {}}


def nested(depth: int) -> str:
    """Stands for so many lists inside each other in `deep_bytes`: our writer does not go that deep."""
    return f"deep{depth:04}"


def deep_bytes(page: Value) -> bytes:
    """A page as bytes: each list of one is E5."""
    return re.sub(rb"\xe3\x08deep(\d{4})", lambda found: b"\xe5" * int(found[1]) + b"\x01", fressian.dumps(page))


def events_of(*maps: Value) -> str:
    return blob.encode_str(fressian.dumps(list(maps)))


def without_colon(value: object) -> object:
    return value[1:] if isinstance(value, str) and value.startswith(":") else value


@pytest.mark.parametrize("name", ["penpot-batch-1", "penpot-legacy-1"])
def test_a_page_of_penpot_reads_as_the_reference_reads_it(name: str) -> None:
    payload = json.loads((DATA / f"{name}.payload.json").read_text())
    with gzip.open(DATA / f"{name}.expected.jsonl.gz", "rt") as lines:
        expected = [json.loads(line) for line in lines]
    columns = batch.decode_columns(payload["events"])
    assert len(columns) == len(expected) == 10_000
    assert columns.name == [event["name"] for event in expected]
    assert columns.type == [event["type"] for event in expected]
    assert columns.source == [event["source"] for event in expected]
    assert [f"{fressian.iso(ms)}" for ms in columns.tracked_at] == [event["tracked-at"] for event in expected]
    assert [raw and raw.hex() for raw in columns.profile_id] == [e["profile-id"].replace("-", "") for e in expected]
    assert [json.loads(text) for text in columns.props] == [event["props"] for event in expected]
    assert [json.loads(text) for text in columns.context] == [
        {key: without_colon(value) for key, value in event["context"].items()} for event in expected
    ]
    assert columns.unknown_keys == {}


def test_an_empty_batch_has_no_events() -> None:
    assert len(batch.decode_columns(batch.encode_events([]))) == 0


def test_any_kind_of_list_is_a_batch() -> None:
    for page in ([EVENT], (EVENT,), fressian.JavaList([EVENT])):
        assert batch.read_columns(fressian.dumps(page)).name == ["navigate"]


WORD = "n" * 250
BAD: dict[str, tuple[Value, str]] = {
    "a number": (1, "not-a-map"),
    "nil": (None, "not-a-map"),
    "an empty map": ({}, "missing-field"),
    "a name that is a number": (EVENT | {NAME: 5}, "wrong-type"),
    "a name that is a keyword": (EVENT | {NAME: Keyword("navigate")}, "wrong-type"),
    "no type": (EVENT | {TYPE: None}, "missing-field"),
    "no source": ({key: value for key, value in EVENT.items() if key is not SOURCE}, "missing-field"),
    "no tracked-at": ({key: value for key, value in EVENT.items() if key is not TRACKED_AT}, "missing-field"),
    "a number as tracked-at": (EVENT | {TRACKED_AT: 5}, "wrong-type"),
    "a string as profile": (EVENT | {PROFILE_ID: "x"}, "wrong-type"),
    "a vector as props": (EVENT | {PROPS: [1]}, "wrong-type"),
    "a string as context": (EVENT | {CONTEXT: "x"}, "wrong-type"),
    "a long name": (EVENT | {NAME: WORD + "n"}, "too-long"),
    "a long type": (EVENT | {TYPE: WORD + "n"}, "too-long"),
    "a long source": (EVENT | {SOURCE: WORD + "n"}, "too-long"),
    "a long string in props": (EVENT | {PROPS: {Keyword("route"): "r" * (MIB + 1)}}, "too-long"),
    "a long number in props": (EVENT | {PROPS: {Keyword("n"): fressian.BigInt(1 << 8192)}}, "too-long"),
    "a deep context": (EVENT | {CONTEXT: {Keyword("a"): nested(200)}}, "too-deep"),
    "values beyond all depth": (EVENT | {PROPS: {Keyword("a"): [nested(600), 5]}}, "too-deep"),
}
READERS: list[Callable[[bytes], Columns]] = [batch.read_columns, lambda data: batch.read_flat(data).columns()]
"""The interpreted way, and the one by the kernel."""


@pytest.mark.parametrize("read", READERS, ids=["columns", "flat"])
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_event_costs_itself_and_not_its_neighbours(read: Callable[[bytes], Columns], kind: str) -> None:
    event, reason = BAD[kind]
    good = [FULL | {PROPS: {Keyword("id"): UUID(int=number), Keyword("n"): number}} for number in range(6)]
    page = [good[0], good[1], event, good[2], event, *good[3:]]
    columns = read(deep_bytes(page))
    assert [json.loads(text)["n"] for text in columns.props] == [0, 1, 2, 3, 4, 5]
    assert [(bad.index, bad.reason) for bad in columns.bad] == [(2, reason), (4, reason)]
    assert all(isinstance(json.loads(bad.event), dict) for bad in columns.bad)


def test_what_is_kept_of_a_bad_event_is_what_it_held() -> None:
    event = FULL | {
        NAME: None,
        PROPS: {Keyword("id"): UUID(int=5)},
        CONTEXT: [1, Keyword("x")],
        Keyword("ip"): "192.0.2.1",
    }
    (bad,) = batch.read_columns(fressian.dumps([event])).bad
    assert json.loads(bad.event) == {
        "type": "action",
        "source": "telemetry",
        "tracked-at": "1970-01-01T00:00:00Z",
        "profile-id": "00000000-0000-0000-0000-000000000007",
        "props": {"id": "00000000-0000-0000-0000-000000000005"},
        "context": [1, "x"],
    }
    assert "192.0.2.1" not in bad.message


def test_a_long_string_is_kept_up_to_a_cap_and_says_so() -> None:
    for size, kept in ((MIB + 1, MIB + 1), (3 * MIB, batch.MOST_KEPT * 3 // 4), (5 * MIB, 1)):
        event = FULL | {PROPS: {Keyword("route"): "r" * size, Keyword("n"): 1}}
        (bad,) = batch.read_columns(fressian.dumps([event])).bad
        props = json.loads(bad.event)["props"]
        route = props["route"]
        assert props["n"] == 1
        assert kept - 1000 <= len(route) <= kept
        assert (route[-1] == batch.CUT) == (size > 2 * MIB)
    many = [FULL | {PROPS: {Keyword("route"): "r" * 8_000}}] * 100
    limits = Limits(string=1_000, decoded=1_000_000)
    columns = batch.read_columns(fressian.dumps(many), limits)
    assert len(columns.bad) == 100
    assert sum(len(bad.event) for bad in columns.bad) < 500_000 + 100 * 200


@pytest.mark.slow
def test_a_whole_page_of_a_penpot_whose_events_are_all_bad_is_kept_event_by_event() -> None:
    text = json.loads((DATA / "penpot-batch-1.payload.json").read_text())["events"]
    events = fressian.loads(blob.decode_str(text))
    worse = blob.encode_str(fressian.dumps([{k: v for k, v in event.items() if k != TRACKED_AT} for event in events]))
    assert len(worse) < len(text)
    for read in (batch.decode_columns, lambda text: batch.decode_flat(text).columns()):
        columns = read(worse)
        assert (len(columns), len(columns.bad)) == (0, 10_000)
        assert all(bad.reason == "missing-field" and bad.is_whole for bad in columns.bad)


def test_a_string_that_was_too_long_is_too_long_for_every_event_that_names_it() -> None:
    long = "r" * (MIB + 1)
    plain = FULL | {PROPS: {Keyword("a"): 1}}
    page = [plain, FULL | {PROPS: {long: 1}}, plain, FULL | {PROPS: {long: 2}}, plain]
    data = fressian.dumps(page)
    assert MIB < len(data) < 2 * MIB  # the second time it is a reference
    for read in READERS:
        columns = read(data)
        assert [(bad.index, bad.reason) for bad in columns.bad] == [(1, "too-long"), (3, "too-long")]
        assert len(columns) == 3


def test_keys_that_a_bad_event_has_put_into_the_cache_are_known_to_the_next() -> None:
    page = [
        FULL,
        FULL | {PROPS: {Keyword("a"): nested(300), Keyword("fresh"): 1}},
        FULL | {PROPS: {Keyword("fresh"): 2}},
    ]
    for read in READERS:
        columns = read(deep_bytes(page))
        assert [bad.reason for bad in columns.bad] == ["too-deep"]
        assert columns.props[-1] == '{"fresh":2}'


@pytest.mark.slow
def test_one_event_that_takes_all_memory_leaves_it_to_the_next() -> None:
    rich = FULL | {PROPS: {Keyword("a"): [[]] * 20_000}}  # 5 MiB each: two of them are over the cap together
    columns = batch.read_columns(fressian.dumps([rich] * 6), Limits())
    assert (len(columns), columns.bad) == (6, [])


def test_nil_as_props_or_context_is_an_empty_map_as_for_penpot() -> None:
    data = fressian.dumps([FULL])
    for key in (PROPS, CONTEXT):
        at = data.rindex(b"\xa1\xed\xfd") if key is CONTEXT else data.index(b"\xa1\xed\xfd")
        for read in READERS:
            columns = read(data[:at] + b"\xf7" + data[at + 3 :])
            assert (columns.props, columns.context, columns.bad) == (["{}"], ["{}"], [])


@pytest.mark.parametrize("page", ["text", 5, {}, None])
def test_what_is_no_list_is_no_batch(page: Value) -> None:
    with pytest.raises(DecodeError) as refused:
        batch.read_columns(fressian.dumps(page))
    assert refused.value.reason == "wrong-shape"


def test_bytes_that_cannot_be_cut_are_refused_whole() -> None:
    data = fressian.dumps([FULL, EVENT | {NAME: 5}, FULL])
    for broken in (data[:-3], data + b"\x00", data[:-1] + b"\xf1", data[: data.rindex(b"\xa1")]):
        for read in READERS:
            with pytest.raises(DecodeError) as refused:
                read(broken)
            assert refused.value.reason == "bad-fressian"


def test_unknown_keys_are_counted_and_a_telling_one_is_not_named() -> None:
    event = EVENT | {Keyword("extra"): 1, Keyword("ana@example.com"): 1, "text": 1}
    columns = batch.decode_columns(events_of(event, event))
    assert columns.unknown_keys == {"extra": 2, "": 4}


def test_too_many_events_are_refused_before_the_first_is_read() -> None:
    with pytest.raises(LimitError) as refused:
        batch.decode_columns(events_of(EVENT, EVENT, EVENT), Limits(events=2))
    assert refused.value.reason == "too-many-events"


def test_references_cannot_multiply_a_long_value() -> None:
    writer = Writer(WRITE)
    writer.begin_struct("clj/vector", 1)
    writer.out += b"\xec\x50\xc8"  # a list of 200
    for _ in range(200):
        writer.begin_struct("clj/map", 1)
        writer.out.append(codes.BEGIN_CLOSED_LIST)
        for key, value in EVENT.items():
            writer.write_key(key)
            writer.write_object(value)
        writer.write_key(PROPS)
        writer.begin_struct("clj/map", 1)
        writer.out.append(codes.BEGIN_CLOSED_LIST)
        writer.write_key(Keyword("a"))
        writer.write_key("x" * 1000)  # written once, named 200 times
        writer.out += bytes((codes.END_COLLECTION, codes.END_COLLECTION))
    data = bytes(writer.out)
    assert len(data) < 10_000
    assert len(batch.read_columns(data)) == 200
    with pytest.raises(LimitError) as refused:
        batch.read_columns(data, Limits(decoded=50_000))
    assert refused.value.reason == "too-large"


@pytest.mark.parametrize("text", ["{", '{"~:a": 1.2.3}', '{"~:a": 01}', '{"~:a": "~uzz"}', '{"~:a": 1', '{"~:a" 1}'])
def test_a_row_that_cannot_be_written_is_named_by_its_index(text: str) -> None:
    good = EventRow("navigate", "action", "telemetry", 0, bytes(16), '{"~:a": 1}', '{"~:a": 1}')
    for bad in (good._replace(context=text), good._replace(props=text)):
        with pytest.raises(EncodeError) as refused:
            batch.encode_events([good, good, good, bad])
        assert refused.value.row == 3
