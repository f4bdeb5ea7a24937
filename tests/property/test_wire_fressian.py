"""Whatever is written is read back; whatever bytes come, the outcome is a value or a DecodeError."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penpot_telemetry.errors import DecodeError
from penpot_telemetry.wire import blob
from penpot_telemetry.wire.fressian import (
    Array,
    BigDec,
    BigInt,
    Char,
    Date,
    Float32,
    Instant,
    JavaList,
    JavaMap,
    JavaSet,
    Keyword,
    LinkedMap,
    LinkedSet,
    Ratio,
    Regex,
    Set,
    Symbol,
    Tagged,
    Uri,
    Value,
    canonical,
    dumps,
    loads,
    plain,
    reader,
)
from penpot_telemetry.wire.fressian.values import as_key, from_key
from penpot_telemetry.wire.limits import MIB

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(autouse=True, scope="module")
def _little_memory() -> Any:
    """References may repeat a megabyte, not five hundred: what is read here is written again in full."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "MEMORY", MIB)
        yield


def join_pairs(text: str) -> str:
    """Java has no other form for the two halves of a pair than the pair."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


texts = st.text(st.characters(exclude_categories=()), max_size=12).map(join_pairs)
namespaces = st.none() | texts
longs = st.integers(-(2**63), 2**63 - 1)
big = st.integers(-(2**600), 2**600)
doubles = st.floats().map(lambda number: number + 0.0)  # the format has no -0.0
float32s = st.builds(Float32, st.floats(width=32))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    longs,
    doubles,
    texts,
    st.binary(max_size=20),
    st.uuids(),
    st.builds(Keyword, texts, namespaces),
    st.builds(Symbol, texts, namespaces),
    st.characters(exclude_categories=(), max_codepoint=0xFFFF).map(Char),
    big.map(BigInt),
    st.builds(BigDec, big, st.integers(-(2**31), 2**31 - 1)),
    st.builds(Ratio, big, big),
    float32s,
    longs.map(Instant),
    longs.map(Date),
    texts.map(Regex),
    texts.map(Uri),
    st.lists(longs, max_size=4).map(lambda items: Array("long", tuple(items))),
    st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4).map(lambda items: Array("int", tuple(items))),
    st.lists(doubles, max_size=4).map(lambda items: Array("double", tuple(items))),
    st.lists(float32s, max_size=4).map(lambda items: Array("float", tuple(items))),
    st.lists(st.booleans(), max_size=4).map(lambda items: Array("boolean", tuple(items))),
)


def collections(inner: st.SearchStrategy[Value]) -> st.SearchStrategy[Value]:
    items = st.lists(inner, max_size=12)
    entries = st.lists(st.tuples(inner.map(as_key), inner), max_size=12)
    return st.one_of(
        *(items.map(kind) for kind in (list, tuple, JavaList, Set, LinkedSet, JavaSet)),
        *(entries.map(kind) for kind in (dict, LinkedMap, JavaMap)),
        items.map(lambda values: Array("object", tuple(values))),
        st.builds(lambda tag, values: Tagged("x/" + tag, tuple(values)), texts, items),
    )


values = st.recursive(scalars, collections, max_leaves=25)


def typed(value: Value) -> str:
    """A value as a text in which every type shows: what `==` in Python passes over."""
    value = from_key(value)
    name = type(value).__name__
    if isinstance(value, dict):
        return f"{name}({', '.join(sorted(f'{typed(key)}={typed(entry)}' for key, entry in value.items()))})"
    if isinstance(value, Set):
        return f"{name}({', '.join(sorted(map(typed, value)))})"
    if isinstance(value, list | tuple):
        return f"{name}({', '.join(map(typed, value))})"
    if isinstance(value, Tagged | Array):
        items = value.value if isinstance(value, Tagged) else value.items
        return f"{name}({value.tag if isinstance(value, Tagged) else value.of}, {', '.join(map(typed, items))})"
    return f"{name}({value!r})"


@given(values)
def test_every_value_is_read_back_as_it_was_written(value: Value) -> None:
    data = dumps(value)
    again = loads(data)
    assert canonical(again) == canonical(value)
    assert dumps(again) == data
    hash(as_key(again))
    json.dumps(plain(again), allow_nan=False).encode()


@given(st.recursive(scalars, lambda inner: st.lists(inner, max_size=5) | st.lists(inner, max_size=5).map(tuple)))
def test_every_type_is_read_back_as_it_was_written(value: Value) -> None:
    assert typed(loads(dumps(value))) == typed(value)


@given(st.lists(values, max_size=4), values)
def test_what_stands_before_a_value_changes_nothing_but_its_references(before: list[Value], value: Value) -> None:
    assert canonical(loads(dumps([*before, value]))[-1]) == canonical(value)


@given(values)
def test_a_truncated_value_is_refused(value: Value) -> None:
    data = dumps(value)
    for stop in range(len(data)) if len(data) < 100 else range(0, len(data), 17):
        with pytest.raises(DecodeError):
            loads(data[:stop])


def check(data: bytes) -> None:
    """A value, which can be shown and written again, or DecodeError."""
    try:
        value = loads(data)
    except DecodeError as error:
        assert error.offset is not None
        assert 0 <= error.offset <= len(data)
        return
    json.dumps(plain(value), allow_nan=False).encode()
    assert canonical(loads(dumps(value))) == canonical(value)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_a_decode_error(data: bytes) -> None:
    check(data)


CODES = st.sampled_from([bytes([code]) for code in (*range(0x7C, 0x100), 0, 1, 2, 3, 0x50)])
PIECES = st.one_of(
    CODES, st.binary(max_size=3), st.sampled_from(["clj/map", "clj/vector", "clj/set", "clj/keyword", "a"]).map(dumps)
)


@given(st.lists(PIECES, max_size=60).map(b"".join))
def test_any_codes_are_a_value_or_a_decode_error(data: bytes) -> None:
    check(data)


def some_events() -> bytes:
    body = json.loads((DATA / "penpot-batch-1.payload.json").read_text())
    return dumps(loads_all(body["events"])[:12])


def loads_all(events: str) -> Value:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "MEMORY", 512 * MIB)
        return loads(blob.decode_str(events))


EVENTS = some_events()


@given(
    st.lists(
        st.tuples(st.integers(0, len(EVENTS)), st.integers(0, 4), st.one_of(CODES, st.binary(max_size=4))), max_size=6
    )
)
def test_a_changed_batch_is_a_value_or_a_decode_error(changes: list[tuple[int, int, bytes]]) -> None:
    data = EVENTS
    for place, removed, added in changes:
        data = data[:place] + added + data[place + removed :]
    check(data)
