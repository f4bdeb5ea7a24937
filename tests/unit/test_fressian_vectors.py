"""Bytes that the JVM wrote, or was asked to read: every vector of tests/data/vectors.json, and two whole batches."""

import base64
import gzip
import json
import struct
import uuid
from collections import deque
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from penpot_telemetry.errors import DecodeError, EncodeError
from penpot_telemetry.wire import blob, payload
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
    Key,
    Keyword,
    LinkedMap,
    LinkedSet,
    Ratio,
    Regex,
    Set,
    Symbol,
    Tagged,
    Uri,
    canonical,
    dumps,
    loads,
    plain,
)
from penpot_telemetry.wire.fressian.values import as_key

DATA = Path(__file__).parent.parent / "data"
VECTORS = json.loads((DATA / "vectors.json").read_text())


def of_kind(*kinds: str) -> pytest.MarkDecorator:
    """The vectors of a kind as parameters, each under its own name."""
    return pytest.mark.parametrize("vector", [pytest.param(v, id=v["id"]) for v in VECTORS if v["kind"] in kinds])


# The value that a typed JSON object of the vectors stands for.


def build(typed: Any) -> Any:
    return BUILD[typed["t"]](typed)


def build_map(kind: type) -> Callable[[Any], Any]:
    def build_entries(typed: Any) -> Any:
        mapping = kind()
        for key, value in typed["v"]:
            mapping.setdefault(as_key(build(key)), build(value))
        return mapping

    return build_entries


def build_items(kind: Callable[[list[Any]], Any]) -> Callable[[Any], Any]:
    return lambda typed: kind([build(item) for item in typed["v"]])


BUILD: dict[str, Callable[[Any], Any]] = {
    "nil": lambda _: None,
    "bool": lambda t: t["v"],
    "int": lambda t: int(t["v"]),
    "double": lambda t: struct.unpack(">d", bytes.fromhex(t["bits"]))[0],
    "float": lambda t: Float32(struct.unpack(">f", bytes.fromhex(t["bits"]))[0]),
    "string": lambda t: t["v"],
    "bytes": lambda t: bytes.fromhex(t["v"]),
    "char": lambda t: Char(chr(t["code"])),
    "uuid": lambda t: uuid.UUID(t["v"]),
    "inst": lambda t: Date(int(t["ms"])),
    "instant": lambda t: Instant(int(t["ms"])),
    "offset-date-time": lambda t: datetime.fromisoformat(t["iso"]),
    "keyword": lambda t: Keyword(t["name"], t["ns"]),
    "symbol": lambda t: Symbol(t["name"], t["ns"]),
    "ratio": lambda t: Ratio(int(t["n"]), int(t["d"])),
    "bigint": lambda t: BigInt(int(t["v"])),
    # Never decoded (the reference reads it back as a BigInt): written as the struct it is.
    "biginteger": lambda t: Tagged("bigint", (int(t["v"]).to_bytes(13, "big", signed=True),)),
    "bigdec": lambda t: BigDec(int(t["unscaled"]), int(t["scale"])),
    "regex": lambda t: Regex(t["v"]),
    "uri": lambda t: Uri(t["v"]),
    "vector": build_items(list),
    "seq": build_items(tuple),
    "list": build_items(JavaList),
    "set": build_items(Set),
    "linked-set": build_items(LinkedSet),
    "java-set": build_items(JavaSet),
    "map": build_map(dict),
    "linked-map": build_map(LinkedMap),
    "java-map": build_map(JavaMap),
    "array": lambda t: Array("object" if "." in t["of"] else t["of"], tuple(build(item) for item in t["v"])),
    "tagged": lambda t: Tagged(build(t["tag"]), tuple(build(item) for item in t["v"])),
}


def test_every_vector_is_of_a_kind_that_is_tested() -> None:
    kinds = [vector["kind"] for vector in VECTORS]
    assert len(kinds) == 204
    assert set(kinds) == {"encode", "decode", "decode-error", "encode-error"}


@of_kind("encode")
def test_what_the_jvm_writes_is_written_byte_for_byte(vector: Any) -> None:
    assert dumps(build(vector["written"])).hex() == vector["hex"]


@of_kind("encode", "decode")
def test_what_the_jvm_reads_is_read_as_the_same_value(vector: Any) -> None:
    value, expected = loads(bytes.fromhex(vector["hex"])), build(vector["decoded"])
    assert type(value) is type(expected)
    assert canonical(value) == canonical(expected)


@of_kind("encode")
def test_what_is_read_is_written_back_byte_for_byte(vector: Any) -> None:
    data = bytes.fromhex(vector["hex"])
    if vector["reencode_same_bytes"]:
        assert dumps(loads(data)) == data
    else:
        assert loads(dumps(loads(data))) == loads(data)


@of_kind("decode-error")
def test_what_the_jvm_refuses_is_refused(vector: Any) -> None:
    with pytest.raises(DecodeError) as refusal:
        loads(bytes.fromhex(vector["hex"]))
    assert refusal.value.reason == "bad-fressian"
    assert refusal.value.offset is not None


@pytest.mark.parametrize(
    "value",
    [deque([1]), date(1970, 1, 1), timedelta(milliseconds=5), object(), 1j, datetime(2026, 7, 20), 2**63],
    ids=["queue", "local-date", "duration", "object", "complex", "naive-datetime", "int-of-65-bits"],
)
def test_what_the_format_cannot_carry_is_refused_by_the_writer(value: Any) -> None:
    with pytest.raises(EncodeError):
        dumps([value])


def test_keys_that_python_would_confuse_stay_apart() -> None:
    value = {as_key(key): index for index, key in enumerate([1, True, 1.0, Float32(1.0), BigInt(1), "1", 100_000])}
    assert list(value) == [1, Key(True), Key(1.0), Float32(1.0), BigInt(1), "1", 100_000]
    assert loads(dumps(value)) == value


def test_the_first_of_two_equal_keys_counts_in_a_small_map_and_the_last_in_a_big_one() -> None:
    small, big = (next(v for v in VECTORS if v["id"] == name) for name in ("map-dup-key", "map-dup-key-big"))
    assert loads(bytes.fromhex(small["hex"])) == {"a": 1}
    assert loads(bytes.fromhex(big["hex"]))["k0"] == 2


# Whole batches


@pytest.mark.parametrize("name", ["penpot-batch-1", "penpot-legacy-1"])
def test_a_whole_batch_of_penpot_reads_as_expected_and_is_written_back(name: str) -> None:
    body = payload.parse((DATA / f"{name}.payload.json").read_bytes())
    assert isinstance(body, payload.EventsBatch)
    data = blob.decode_str(body.events)
    events = loads(data)
    with gzip.open(DATA / f"{name}.expected.jsonl.gz", "rt") as lines:
        expected = [json.loads(line) for line in lines]
    for event in expected:
        # There a keyword value is written ":name"; here it is its plain name.
        if event["context"].get("initiator", "").startswith(":"):
            event["context"]["initiator"] = event["context"]["initiator"][1:]
    assert plain(events) == expected
    assert dumps(events) == data
    assert blob.decode_str(blob.encode_str(data)) == data


# Chunks, as the reference cuts them


@pytest.mark.parametrize(
    ("value", "size", "head", "place", "next_head"),
    [
        ("y" * 65_536, 65_540, "e3690000", 4, "7979"),
        ("y" * 65_537, 65_542, "e2690000", 65_540, "db79"),
        ("y" * 65_550, 65_556, "e2690000", 65_540, "e30e79"),
        ("é" * 21_846, 43_696, "e368aaac", 4, "c3a9"),
        ("€" * 30_000, 90_008, "e268ffff", 65_539, "e3685f91e282ac"),
        (bytes(65_535), 65_539, "d968ffff", 4, "00"),
        (bytes(65_536), 65_542, "d868ffff", 65_539, "d90100"),
        (bytes(131_070), 131_078, "d868ffff", 65_539, "d968ffff"),
    ],
    ids=["whole", "one-more", "more", "two-bytes", "three-bytes", "bytes", "bytes-one-more", "bytes-twice"],
)
def test_long_strings_and_bytes_are_cut_as_the_reference_cuts_them(
    value: str | bytes, size: int, head: str, place: int, next_head: str
) -> None:
    data = dumps(value)
    assert len(data) == size
    assert data.hex().startswith(head)
    assert data[place:].hex().startswith(next_head)
    assert loads(data) == value


def test_a_pair_of_surrogates_may_stand_in_two_chunks() -> None:
    value = "a" * 65_533 + "😀b"
    data = dumps(value)
    assert data[4 + 65_533 : 4 + 65_536] == bytes.fromhex("eda0bd")
    assert loads(data) == value


# As JSON


def test_plain_shows_every_type_as_json_would() -> None:
    shown = {
        "at": Instant(1784505600000),
        "at-ms": Date(1784505600123),
        "kw": Keyword("origin", "app.main"),
        "sym": Symbol("x"),
        "uuid": uuid.UUID(int=0),
        "set": Set(["b", "a", 2]),
        "seq": (1, None, True),
        "ratio": Ratio(1, 3),
        "bytes": b"\x00\xff",
        "char": Char("c"),
        "big": BigInt(2**70),
        "dec": BigDec(314, 2),
        "nan": float("nan"),
        "inf": Float32(float("inf")),
        "float": Float32(0.5),
        "tagged": Tagged("t", (1, Keyword("k"))),
        "array": Array("long", (1, 2)),
        "lone": "a\ud83d",
        "when": datetime(2026, 7, 20, tzinfo=UTC),
    }
    assert plain(shown) == {
        "at": "2026-07-20T00:00:00Z",
        "at-ms": "2026-07-20T00:00:00.123Z",
        "kw": "app.main/origin",
        "sym": "x",
        "uuid": "00000000-0000-0000-0000-000000000000",
        "set": ["a", "b", 2],
        "seq": [1, None, True],
        "ratio": "1/3",
        "bytes": base64.b64encode(b"\x00\xff").decode(),
        "char": "c",
        "big": 2**70,
        "dec": "3.14",
        "nan": None,
        "inf": None,
        "float": 0.5,
        "tagged": {"tag": "t", "value": [1, "k"]},
        "array": [1, 2],
        "lone": "a\ufffd",
        "when": "2026-07-20T00:00:00Z",
    }


def test_plain_gives_every_map_key_a_text() -> None:
    keys = [Keyword("a"), "b", 1, True, None, 0.5, [1, 2], uuid.UUID(int=0), Instant(0)]
    shown = plain({as_key(key): 0 for key in keys})
    assert list(shown) == [
        "a",
        "b",
        "1",
        "true",
        "null",
        "0.5",
        "[1,2]",
        "00000000-0000-0000-0000-000000000000",
        "1970-01-01T00:00:00Z",
    ]


NIL_COMPONENTS = {
    "clj/vector": ("efe30a636c6a2f766563746f7201f7", []),
    "clj/seq": ("efe1636c6a2f73657101f7", ()),
    "clj/set": ("efe1636c6a2f73657401f7", Set([])),
    "linked/map": ("efe30a6c696e6b65642f6d617001f7", LinkedMap()),
    "linked/set": ("efe30a6c696e6b65642f73657401f7", LinkedSet([])),
}
"""A struct type of one component, its name as a string (packed up to seven bytes), and nil."""


@pytest.mark.parametrize("tag", NIL_COMPONENTS)
def test_nil_in_place_of_the_items_is_the_empty_collection(tag: str) -> None:
    text, empty = NIL_COMPONENTS[tag]
    value = loads(bytes.fromhex(text))
    assert type(value) is type(empty)
    assert value == empty


@pytest.mark.parametrize("text", ["efe1636c6a2f6d617001f7", "c0f7", "c1f7"], ids=["clj/map", "map", "set"])
def test_nil_in_place_of_entries_is_refused_where_the_jvm_refuses_it(text: str) -> None:
    with pytest.raises(DecodeError, match="expected a list"):
        loads(bytes.fromhex(text))
