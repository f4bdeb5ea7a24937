"""The steps of an explanation are the bytes, in order and without a gap; hostile bytes end in a DecodeError."""

import json
from pathlib import Path
from typing import Any

import pytest

from penpot_telemetry.errors import DecodeError
from penpot_telemetry.wire import blob
from penpot_telemetry.wire.fressian import Keyword, dumps, loads
from penpot_telemetry.wire.fressian.explain import explain

DATA = Path(__file__).parents[1] / "data"
VECTORS = json.loads((DATA / "vectors.json").read_text())
EVENT = {Keyword("name"): "navigate", Keyword("type"): "action"}


LYING = {"keyword-wrong-count"}
"""Readable, because the reader knows how many components the tag has; not what it declares."""


def readable() -> list[Any]:
    found = []
    for vector in VECTORS:
        if vector["id"] in LYING:
            continue
        data = bytes.fromhex(vector.get("hex", ""))
        try:
            loads(data)
        except DecodeError:
            continue
        found.append(pytest.param(data, id=vector["id"]))
    return found


@pytest.mark.parametrize("data", readable())
def test_steps_joined_are_the_bytes_that_the_reference_wrote(data: bytes) -> None:
    joined = b"".join(step.raw for step in explain(data))
    assert data.startswith(joined)
    assert loads(joined) == loads(data) or repr(loads(joined)) == repr(loads(data))


@pytest.mark.slow
def test_a_whole_batch_is_explained_without_a_gap() -> None:
    body = json.loads((DATA / "penpot-batch-1.payload.json").read_text())
    data = blob.decode_str(body["events"])
    place = 0
    for step in explain(data):
        assert step.start == place
        place += len(step.raw)
    assert place == len(data)


def test_what_is_kept_is_named_where_it_comes_again() -> None:
    meanings = [step.meaning for step in explain(dumps([EVENT, EVENT]))]
    again = meanings.index("struct 1 again: clj/map")
    assert meanings[again:] == [
        "struct 1 again: clj/map",
        "list, up to its end",
        "value 0 again: :name",
        "'navigate'",
        "value 2 again: :type",
        "'action'",
        "end of the list",
    ]


@pytest.mark.parametrize(
    "hexed",
    [
        "",
        "cc",
        "80",
        "e3ff",
        "efe3636c6a2f6d6170",
        "efe10b",
    ],
)
def test_hostile_bytes_end_in_a_decode_error(hexed: str) -> None:
    with pytest.raises(DecodeError):
        list(explain(bytes.fromhex(hexed)))


def test_a_struct_that_declares_other_components_than_its_tag_has_is_not_explained() -> None:
    honest = b"\xef" + b"\xde" + b"uuid" + b"\x01" + b"\xd9\x10" + bytes(16)
    assert b"".join(step.raw for step in explain(honest)) == honest
    lying = honest.replace(b"uuid\x01", b"uuid\x02")
    assert loads(lying) == loads(honest)
    with pytest.raises(DecodeError, match="components that it declares"):
        list(explain(lying))
