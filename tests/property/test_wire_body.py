"""Blob and payload: whatever comes, the outcome is what was sent or a DecodeError with a reason."""

import base64
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from penpot_telemetry.errors import DecodeError
from penpot_telemetry.wire import blob
from penpot_telemetry.wire.limits import Limits
from penpot_telemetry.wire.payload import MOST, EventsBatch, LegacyReport, Totals, build_events, digest_events, parse

DATA = Path(__file__).parents[1] / "data"
SMALL = Limits(decoded=1_000_000)


@given(st.binary(max_size=2000))
def test_any_content_comes_back_out_of_its_blob(content: bytes) -> None:
    events = blob.encode_str(content)
    assert blob.decode_str(events) == content
    assert blob.decode_str(events + "=" * (-len(events) % 4)) == content


@given(
    st.lists(st.binary(max_size=300), min_size=1, max_size=5),
    st.lists(st.sampled_from(["plain", "checksum", "no-size", "skippable"]), min_size=5, max_size=5),
    st.integers(0, 1000),
)
def test_any_frames_are_read_as_one(parts: list[bytes], kinds: list[str], more: int) -> None:
    frames = b""
    for part, kind in zip(parts, kinds, strict=False):
        if kind == "skippable":
            frames += b"\x5f\x2a\x4d\x18" + len(part).to_bytes(4, "little") + part
        frames += zstandard.ZstdCompressor(
            write_checksum=kind == "checksum", write_content_size=kind != "no-size"
        ).compress(part)
    content = b"".join(parts)
    raw = b"\x00\x04" + (len(content) + more).to_bytes(4, "big") + frames
    assert blob.decode_str(base64.urlsafe_b64encode(raw).decode(), SMALL) == content
    with pytest.raises(DecodeError):
        blob.decode_str(base64.urlsafe_b64encode(raw[:-1]).decode(), SMALL)


def check_blob(events: str) -> None:
    try:
        blob.decode_str(events, SMALL)
    except DecodeError as error:
        assert error.reason in {"bad-base64", "bad-blob", "too-large"}


@given(st.text(st.characters(exclude_categories=()), max_size=60))
def test_any_text_is_a_blob_or_a_decode_error(events: str) -> None:
    check_blob(events)


@given(st.binary(max_size=60), st.sampled_from([b"", b"\x00\x04\x00\x00\xff\xff\x28\xb5\x2f\xfd"]))
def test_any_bytes_are_a_blob_or_a_decode_error(raw: bytes, head: bytes) -> None:
    check_blob(base64.urlsafe_b64encode(head + raw).decode())


RAW = base64.urlsafe_b64decode(blob.encode_str(bytes(range(256)) * 40 + b"events " * 500) + "==")
CHANGES = st.lists(st.tuples(st.integers(0, len(RAW)), st.integers(0, 3), st.binary(max_size=3)), max_size=4)


@given(CHANGES)
def test_a_changed_blob_is_a_blob_or_a_decode_error(changes: list[tuple[int, int, bytes]]) -> None:
    check_blob(base64.urlsafe_b64encode(change(RAW, changes)).decode())


def change(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    for place, removed, added in changes:
        data = data[:place] + added + data[place + removed :]
    return data


# The body

counts = st.integers(0, MOST)
batches = st.builds(
    EventsBatch,
    version=st.text(max_size=30),
    instance_id=st.uuids(),
    events=st.text(max_size=50),
    batch_id=st.none() | st.uuids(),
    batch_seq=st.none() | counts,
    event_count=st.none() | counts,
    digest=st.none() | st.text().map(digest_events),
    totals=st.none() | st.builds(Totals, counts, counts, counts, counts, counts),
    supersedes=st.lists(st.uuids(), max_size=3).map(tuple),
)


@given(batches)
def test_any_batch_comes_back_out_of_its_body(batch: EventsBatch) -> None:
    assert parse(build_events(batch)) == batch


REASONS = {"not-json", "wrong-shape", "unknown-type", "too-large", "wrong-digest", "bad-signature"}


def check_body(data: bytes) -> None:
    try:
        assert isinstance(parse(data, SMALL), EventsBatch | LegacyReport)
    except DecodeError as error:
        assert error.reason in REASONS


@given(st.binary(max_size=100))
def test_any_bytes_are_a_body_or_a_decode_error(data: bytes) -> None:
    check_body(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.uuids().map(str),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
KEYS = (
    *("type", "version", "instance-id", "events", "batch-id", "batch-seq", "event-count", "digest", "totals"),
    *("signature", "supersedes", "stats", "subscriptions", "more"),
)
bodies = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["telemetry-events", "telemetry-legacy-report"]) | json_values,
        "version": st.text(max_size=5) | json_values,
        "instance-id": st.uuids().map(str) | json_values,
    },
    optional=dict.fromkeys(KEYS[3:], json_values),
)


@given(bodies)
def test_any_json_is_a_body_or_a_decode_error(body: dict[str, Any]) -> None:
    check_body(json.dumps(body).encode())


BODY = build_events(EventsBatch("2.18.0", UUID(int=7), "AAQA", totals=Totals(1, 1, 0, 0, 0)))


@given(st.lists(st.tuples(st.integers(0, len(BODY)), st.integers(0, 3), st.binary(max_size=3)), max_size=4))
def test_a_changed_body_is_a_body_or_a_decode_error(changes: list[tuple[int, int, bytes]]) -> None:
    check_body(change(BODY, changes))
