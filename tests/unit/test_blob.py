"""The blob: what is written, what the reference reads and so do we, what it refuses and so do we."""

import base64
import json
from pathlib import Path

import pytest
import zstandard

from penpot_telemetry.errors import DecodeError, LimitError
from penpot_telemetry.wire import blob
from penpot_telemetry.wire.limits import MIB, Limits

DATA = Path(__file__).parent.parent / "data"
CONTENT = b"one and the same content, " * 40


def text(frames: bytes, length: int = len(CONTENT), version: int = 4) -> str:
    raw = version.to_bytes(2, "big", signed=True) + length.to_bytes(4, "big", signed=True) + frames
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def frame(content: bytes = CONTENT, *, content_size: bool = True, checksum: bool = False) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=content_size, write_checksum=checksum).compress(content)


def skippable(content: bytes = b"not for us", number: int = 0) -> bytes:
    return (0x184D2A50 + number).to_bytes(4, "little") + len(content).to_bytes(4, "little") + content


def refuse(events: str, limits: Limits = Limits()) -> DecodeError:  # noqa: B008
    with pytest.raises(DecodeError) as refusal:
        blob.decode_str(events, limits)
    return refusal.value


# Writing


def test_a_blob_is_a_header_and_one_frame_with_its_size_and_without_a_checksum() -> None:
    events = blob.encode_str(CONTENT)
    raw = base64.urlsafe_b64decode(events + "=" * (-len(events) % 4))
    assert raw[:6] == b"\x00\x04" + len(CONTENT).to_bytes(4, "big")
    parameters = zstandard.get_frame_parameters(raw[6:])
    assert parameters.content_size == len(CONTENT)
    assert not parameters.has_checksum
    assert zstandard.ZstdDecompressor().decompress(raw[6:]) == CONTENT


@pytest.mark.parametrize("size", range(12))
def test_what_is_written_is_read_and_has_no_padding(size: int) -> None:
    content = bytes(range(size))
    events = blob.encode_str(content)
    assert "=" not in events
    assert blob.decode_str(events) == content


def test_the_same_content_gives_the_same_text() -> None:
    assert blob.encode_str(CONTENT) == blob.encode_str(CONTENT)


# Reading what the reference reads

READABLE = {
    "no-content-size": text(frame(content_size=False)),
    "checksum": text(frame(checksum=True)),
    "several-frames": text(frame(CONTENT[:100]) + frame(CONTENT[100:150]) + frame(CONTENT[150:])),
    "several-frames-of-both-kinds": text(frame(CONTENT[:9], checksum=True) + frame(CONTENT[9:], content_size=False)),
    "skippable-before": text(skippable() + frame()),
    "skippable-after": text(frame() + skippable(number=15) + skippable(b"")),
    "skippable-between": text(frame(CONTENT[:7]) + skippable() + frame(CONTENT[7:])),
    "empty-frame": text(frame(b"") + frame() + frame(b"")),
    "padding": text(frame()) + "=" * (-len(text(frame())) % 4),
    "over-large-length": text(frame(), 2**31 - 1),
    "stored": text(bytes.fromhex("28b52ffd20") + bytes([255]) + bytes([0xF9, 7, 0]) + CONTENT[:255], 255),
    "run-length": text(bytes.fromhex("28b52ffd2004230000") + b"\x61", 4),
}


@pytest.mark.parametrize("name", READABLE)
def test_what_the_reference_reads_is_read(name: str) -> None:
    expected = {"stored": CONTENT[:255], "run-length": b"aaaa"}.get(name, CONTENT)
    assert blob.decode_str(READABLE[name]) == expected


@pytest.mark.parametrize("name", ["penpot-batch-1", "penpot-legacy-1"])
def test_the_blob_of_a_whole_batch_is_as_long_as_it_says(name: str) -> None:
    events = json.loads((DATA / f"{name}.payload.json").read_text())["events"]
    content = blob.decode_str(events)
    assert len(content) == int.from_bytes(base64.urlsafe_b64decode(events[:8])[2:6], "big")


# Refusing

BASE64 = {
    "white-space": text(frame()).replace("A", " A", 1),
    "line-end": text(frame()) + "\n",
    "plus": "+" + text(frame())[1:],
    "slash": text(frame())[:20] + "/" + text(frame())[21:],
    "not-ascii": text(frame())[:20] + "é" + text(frame())[21:],
    "lone-surrogate": text(frame())[:20] + "\ud83d" + text(frame())[21:],
    "padding-inside": text(frame())[:20] + "=" + text(frame())[21:],
    "too-much-padding": "AAQAAA=",
    "only-padding": "====",
    "one-digit-too-many": "AAQAA",
}


@pytest.mark.parametrize("name", BASE64)
def test_what_is_not_base64url_is_refused(name: str) -> None:
    error = refuse(BASE64[name])
    assert error.reason == "bad-base64"
    assert error.offset is not None


def test_the_first_stray_character_is_named_by_its_place() -> None:
    assert refuse("AAQA*AAA+AA").offset == 4


BLOBS = {
    "nothing": "",
    "header-cut": "AAQA",
    "no-frame": text(b""),
    "too-small-length": text(frame(), len(CONTENT) - 1),
    "negative-length": text(frame(), -1),
    "trailing-garbage": text(frame() + b"x"),
    "more-trailing-garbage": text(frame() + b"garbage, and enough of it"),
    "frame-cut-in-its-magic": text(frame()[:3]),
    "frame-cut-in-its-header": text(frame()[:5]),
    "frame-cut-in-a-block": text(frame()[:-3]),
    "frame-cut-before-its-last-block": text(frame(content_size=False)[:6]),
    "checksum-cut": text(frame(checksum=True)[:-1]),
    "checksum-wrong": text(frame(checksum=True)[:-1] + b"\x00"),
    "skippable-cut": text(frame() + skippable()[:-1]),
    "second-frame-cut": text(frame() + frame()[:-1], 9999),
    "not-zstd": text(b"\x04\x22\x4d\x18" + bytes(20)),
    "reserved-block": text(bytes.fromhex("28b52ffd2004070000") + b"\x61", 4),
    "wrong-content-size": text(bytes.fromhex("28b52ffd2005230000") + b"\x61", 5),
}


@pytest.mark.parametrize("name", BLOBS)
def test_what_is_no_blob_is_refused(name: str) -> None:
    error = refuse(BLOBS[name])
    assert error.reason == "bad-blob"
    assert error.offset is not None


@pytest.mark.parametrize(
    ("version", "named"),
    [(1, "transit in lz4"), (3, "transit in zstd"), (5, "fressian in an lz4 frame"), (2, "unknown"), (-1, "unknown")],
)
def test_another_version_is_named_in_the_error(version: int, named: str) -> None:
    error = refuse(text(frame(), version=version))
    assert error.reason == "bad-blob"
    assert f"version {version} ({named}" in str(error)


# Caps


def test_the_text_the_content_and_the_window_are_capped() -> None:
    events = text(frame(bytes(MIB)), MIB)
    assert blob.decode_str(events, Limits(decoded=MIB)) == bytes(MIB)
    for error in (refuse(events, Limits(decoded=MIB - 1)), refuse(events, Limits(body=len(events) - 1))):
        assert isinstance(error, LimitError)
        assert error.reason == "too-large"
