"""Batches that Penpot wrote, column by column, and what a batch may not do."""

import gzip
import json
from pathlib import Path

import pytest

from penpot_telemetry.errors import DecodeError, EncodeError, LimitError
from penpot_telemetry.wire import batch, blob, fressian
from penpot_telemetry.wire.batch import CONTEXT, NAME, PROFILE_ID, PROPS, SOURCE, TRACKED_AT, TYPE, EventRow
from penpot_telemetry.wire.fressian import Instant, Keyword, Value, codes
from penpot_telemetry.wire.fressian.handlers import WRITE
from penpot_telemetry.wire.fressian.writer import Writer
from penpot_telemetry.wire.limits import Limits

DATA = Path(__file__).parents[1] / "data"
EVENT: dict[Value, Value] = {NAME: "navigate", TYPE: "action", SOURCE: "telemetry", TRACKED_AT: Instant(0)}


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


@pytest.mark.parametrize(
    "page",
    [
        "text",
        [1],
        [{}],
        [EVENT | {NAME: 5}],
        [EVENT | {TYPE: None}],
        [EVENT | {TRACKED_AT: 5}],
        [EVENT | {PROFILE_ID: "x"}],
        [EVENT | {PROPS: [1]}],
        [EVENT | {CONTEXT: "x"}],
        [EVENT, EVENT, EVENT | {CONTEXT: "x"}],
    ],
)
def test_what_is_no_event_is_refused_by_its_shape(page: Value) -> None:
    with pytest.raises(DecodeError) as refused:
        batch.read_columns(fressian.dumps(page))
    assert refused.value.reason == "wrong-shape"


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
