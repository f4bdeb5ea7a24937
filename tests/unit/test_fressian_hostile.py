"""Bytes that nobody honest writes: each ends in DecodeError, and takes no more memory than a cap allows."""

import subprocess
import sys
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import pytest
import zstandard

from penpot_telemetry.errors import DecodeError, LimitError
from penpot_telemetry.wire.fressian import BigInt, Key, Keyword, Set, dumps, loads, plain, reader, values
from penpot_telemetry.wire.limits import MIB, Limits


def refuse(data: bytes, limits: Limits = Limits()) -> DecodeError:  # noqa: B008
    with pytest.raises(DecodeError) as refusal:
        loads(data, limits)
    assert refusal.value.offset is not None
    assert 0 <= refusal.value.offset <= len(data)
    return refusal.value


def nest(depth: int) -> Any:
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    "data",
    [
        "",
        "40",  # an int without its byte
        "f800",
        "f9000000",
        "fa00000000000000",
        "e35064",  # a string of 100 bytes, of which none is there
        "e37affffffffff",  # a string of 2^40 bytes
        "d97affffffffff",
        "ec767fffffff",  # a list of 2^31 - 1
        "ecff",  # a list of -1
        "e5",  # a list of one, which is not there
        "b0767fffffff",  # an array of 2^31 - 1
        "efdb78767fffffff",  # a struct of 2^31 - 1 components
        "ed01",  # a closed list without its end
        "e5fd",  # an end where a value is due
        "fd",
        "cd",
        "cdcd",
        "cdfe05",  # the caches are reset inside a value that is to be kept
        "ccff",  # cache reference -1
        "cc767fffffff",
        "f0ff",  # struct reference -1
        "f0767fffffff",
        "a0",
        "c3d101",  # a uuid of one byte
        "c3f7",
        "c6d0",  # a bigint of no bytes
        "c7d1017a00ffffffff",  # a scale of 2^32 - 1
        "efde6368617201690000",  # char 65,536
        "efde63686172017fffffffffffff",
        "b3017a00ffffffff",  # 2^32 - 1 in an int array
        "b201f7",  # nil in a boolean array
        "cfcfcfce00000000",  # no footer after all
        "cfcfcfcf00",
        "dbc3",  # half a character
        "dd61edb8",
        "dcc328",
        "e201",
        "e20161d0",  # a chunk, then what is no string
        "d80101d102",
    ],
    ids=lambda data: data or "nothing",
)
def test_a_broken_message_ends_in_decode_error(data: str) -> None:
    refuse(bytes.fromhex(data))


def test_the_error_says_at_which_byte_and_why() -> None:
    error = refuse(bytes.fromhex("e60180"))
    assert (error.offset, error.reason) == (2, "bad-fressian")
    assert str(error) == "cache reference 0, there are 0 (at byte 2)"


def test_a_length_is_held_against_the_bytes_that_remain() -> None:
    for head in ("ec", "b0", "e3", "d9"):
        error = refuse(bytes.fromhex(head + "767fffffff" + "00" * 9))
        assert str(error) == "a length of 2147483647 is declared, 9 bytes remain (at byte 1)"


# Caps


def test_depth_is_capped_at_what_the_limits_say() -> None:
    assert loads(dumps(nest(128))) == nest(128)
    assert isinstance(refuse(dumps(nest(129))), LimitError)
    assert loads(dumps(nest(3)), Limits(depth=3)) == nest(3)
    assert isinstance(refuse(dumps(nest(4)), Limits(depth=3)), LimitError)


@pytest.mark.parametrize(
    "unit", ["cd", "ef", "ee", "ed", "e5", "ec01", "c0", "c1", "c8", "c3", "b501", "ecf0", "cc", "f0", "e3", "d9"]
)
def test_no_code_can_nest_without_end(unit: str) -> None:
    data = bytes.fromhex(unit) * 100_000
    assert isinstance(refuse(data), LimitError)
    refuse(data, Limits(depth=10**9))


@pytest.mark.parametrize(
    "tag", ["clj/vector", "clj/map", "clj/keyword", "java/instant", "clj/ratio", "char", "unknown"]
)
def test_no_tag_can_nest_without_end(tag: str) -> None:
    first = dumps(nest(1)).replace(b"\xe3\x0aclj/vector", dumps(tag))[:-1]
    data = first + b"\xa0" * 100_000
    assert isinstance(refuse(data), LimitError)
    refuse(data, Limits(depth=10**9))


def test_resets_footers_and_chunks_are_read_in_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    assert loads(b"\xfe" * 100_000 + b"\x05") == 5
    footer = b"\xcf\xcf\xcf\xcf" + bytes(8)
    assert loads(footer * 10_000 + b"\x05") == 5
    assert loads(b"\xe2\x01a" * 10_000 + b"\xda") == "a" * 10_000
    monkeypatch.setattr(reader, "MEMORY", MIB)
    assert isinstance(refuse(b"\xfe" * 1_000_000), LimitError)


def test_strings_and_bytes_are_capped_whole_and_in_chunks() -> None:
    cap = Limits(string=100_000)
    assert loads(dumps("é" * 50_000), cap) == "é" * 50_000
    assert isinstance(refuse(dumps("é" * 50_001), cap), LimitError)
    assert isinstance(refuse(dumps("a" * 65_000), Limits(string=64_999)), LimitError)
    assert loads(dumps(bytes(100_000)), cap) == bytes(100_000)
    assert isinstance(refuse(dumps(bytes(100_001)), cap), LimitError)
    assert isinstance(refuse(dumps(bytes(101)), Limits(string=100)), LimitError)


def test_a_number_that_python_could_not_print_is_refused() -> None:
    assert loads(dumps(BigInt(2**8000))) == BigInt(2**8000)
    assert isinstance(refuse(dumps(BigInt(2**9000))), LimitError)


# References: a few bytes that stand for very much


def laughs(kind: str, levels: int) -> bytes:
    """A list that is kept and named twice by the next, which is kept and named twice by the next …"""
    head = {"vector": "efe30a636c6a2f766563746f7201", "map": "efe1636c6a2f6d617001", "set": "efe1636c6a2f73657401"}[
        kind
    ]
    data = b"\xed\xcd\xe3\x3f" + b"x" * 63
    for level in range(levels):
        ref = dumps(level)
        data += b"\xcd" + (bytes.fromhex(head) if not level else b"\xa0") + b"\xe6" + (b"\xcc" + ref) * 2
    return data + b"\xfd"


@pytest.mark.parametrize("kind", ["vector", "map", "set"])
def test_references_cannot_repeat_without_end(kind: str) -> None:
    value = loads(laughs(kind, 10))
    assert len(value) == 11
    plain(value)
    assert isinstance(refuse(laughs(kind, 60)), LimitError)


def test_small_values_cannot_be_repeated_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MEMORY", 2 * MIB)
    kept = b"\xed\xcd\xec" + dumps(1000) + b"\xe4" * 1000
    assert len(loads(kept + b"\x80" * 10 + b"\xfd")) == 11
    assert isinstance(refuse(kept + b"\x80" * 100 + b"\xfd"), LimitError)


def test_a_long_string_cannot_be_named_without_end() -> None:
    data = b"\xed\xcd" + dumps("x" * MIB) + b"\x80" * 10_000 + b"\xfd"
    assert isinstance(refuse(data), LimitError)


def test_a_keyword_of_a_long_name_cannot_be_named_without_end() -> None:
    keyword = bytes.fromhex("efe30b636c6a2f6b6579776f726402f7")
    data = b"\xed\xcd" + dumps("x" * MIB) + b"\xcd" + keyword + b"\x80" + b"\x81" * 10_000 + b"\xfd"
    assert isinstance(refuse(data), LimitError)


@pytest.mark.parametrize("head", ["efe1636c6a2f73657401", "c1"], ids=["clj/set", "set"])
def test_keys_that_share_a_hash_are_refused_before_they_cost(head: str) -> None:
    modulus = sys.hash_info.modulus
    ids = b"".join(b"\xc3\xd9\x10" + (index * modulus).to_bytes(16, "big") for index in range(20_000))
    assert isinstance(refuse(bytes.fromhex(head) + b"\xec" + dumps(20_000) + ids), LimitError)
    assert isinstance(refuse(bytes.fromhex("efe1636c6a2f6d617001ec") + dumps(20_000) + ids), LimitError)
    honest = Set(uuid.UUID(int=index) for index in range(20_000))
    assert loads(dumps(honest)) == honest


def test_a_deep_key_is_compared_and_hashed() -> None:
    value = {Key(nest(100)): 1, Key({Key(nest(50)): nest(20)}): 2, Key(Set([nest(5)])): 3}
    assert loads(dumps(value)) == value
    assert isinstance(refuse(dumps({Key(nest(128)): 1})), LimitError)


def test_keywords_of_a_message_are_forgotten_with_it() -> None:
    value = loads(dumps([Keyword(f"only-here-{index}") for index in range(1000)]))
    before = len(reader_keywords())
    del value
    assert len(reader_keywords()) <= before - 1000


def reader_keywords() -> Any:
    return values._keywords


def test_the_memory_of_the_values_is_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MEMORY", MIB)
    for item in ("e4", "d0", "ed01fd", "a0e4", "c1e4", "c0edfd", "00"):
        data = bytes.fromhex("efe1636c6a2f6d617001edfd" + item) * 50_000
        assert isinstance(refuse(b"\xed" + data + b"\xfd"), LimitError)
        assert isinstance(refuse(b"\xee" + data), LimitError)


# Memory, measured: each case in a process of its own, whose peak is compared with its peak before the bytes are read.

MEASURE = """
import sys
from penpot_telemetry.errors import DecodeError
from penpot_telemetry.wire import blob, fressian
from penpot_telemetry.wire.fressian import reader

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

reader.MEMORY = int(sys.argv[2])
data = sys.stdin.buffer.read()
blob.decode_str(blob.encode_str(fressian.dumps(["x"])))
before = peak()
try:
    if sys.argv[1] == "blob":
        blob.decode_str(data.decode())
    else:
        fressian.loads(data)
    outcome = "value"
except DecodeError as error:
    outcome = type(error).__name__ + " " + error.reason
print(peak() - before, outcome)
"""

KIB = 1024


def measure(kind: str, data: bytes, memory: int = 512 * MIB) -> tuple[int, str]:
    """The growth of the peak in bytes, and how it ended."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, kind, str(memory)], input=data, capture_output=True, check=True, timeout=120
    )
    growth, outcome = done.stdout.decode().strip().split(" ", 1)
    return int(growth) * KIB, outcome


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak memory from /proc")


def frame_of_zeros(size: int, *, window_log: int = 21, content_size: bool = True) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(
        3, window_log=window_log, write_content_size=content_size
    )
    writer = zstandard.ZstdCompressor(compression_params=parameters).compressobj(size if content_size else -1)
    return b"".join([*(writer.compress(bytes(MIB)) for _ in range(size // MIB)), writer.flush()])


def text_of(length: int, frames: bytes) -> bytes:
    return urlsafe_b64encode(b"\x00\x04" + length.to_bytes(4, "big") + frames)


BLOBS = {
    "inflates-to-512-mib": lambda: text_of(2**31 - 1, frame_of_zeros(512 * MIB)),
    "inflates-to-512-mib-without-saying-so": lambda: text_of(2**31 - 1, frame_of_zeros(512 * MIB, content_size=False)),
}
SMALL_BLOBS = {
    "claims-512-mib": lambda: text_of(512 * MIB, zstandard.ZstdCompressor().compress(b"\xf7")),
    "lying-header": lambda: text_of(100, frame_of_zeros(512 * MIB)),
    "lying-frame": lambda: text_of(2**31 - 1, bytes.fromhex("28b52ffde0ffffffffffffff7f") + bytes.fromhex("0b0000f7")),
    "huge-window": lambda: text_of(2**31 - 1, frame_of_zeros(64 * MIB, window_log=27, content_size=False)),
    "100,000-empty-frames": lambda: text_of(10, zstandard.ZstdCompressor().compress(b"") * 100_000),
}


@needs_proc
@pytest.mark.parametrize("name", BLOBS)
def test_an_inflating_blob_stops_at_the_cap(name: str) -> None:
    data = BLOBS[name]()
    assert len(data) < 24 * KIB
    growth, outcome = measure("blob", data)
    assert outcome == "LimitError too-large"
    assert growth < (128 + 16) * MIB


@needs_proc
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("claims-512-mib", "value"),
        ("lying-header", "DecodeError bad-blob"),
        ("lying-frame", "LimitError too-large"),
        ("huge-window", "LimitError too-large"),
        ("100,000-empty-frames", "value"),
    ],
)
def test_a_blob_that_only_claims_to_be_large_takes_next_to_nothing(name: str, expected: str) -> None:
    growth, outcome = measure("blob", SMALL_BLOBS[name]())
    assert outcome == expected
    assert growth < 16 * MIB


@needs_proc
@pytest.mark.parametrize(
    "data",
    [b"\xe5" * 4 * MIB, b"\xec\x76\x7f\xff\xff\xff" + bytes(MIB), b"\xcc\x76\x7f\xff\xff\xff", laughs("vector", 60)],
    ids=["nested-lists", "list-of-2^31", "reference-out-of-range", "laughs"],
)
def test_a_hostile_message_takes_next_to_nothing(data: bytes) -> None:
    growth, outcome = measure("fressian", data)
    assert outcome.endswith("bad-fressian")
    assert growth < 16 * MIB


@needs_proc
@pytest.mark.parametrize("item", ["e4", "ed01fd", "c0e60101", "c1e4", "c8f80123456789abcdef", "efdb4100", "00", "ed"])
@pytest.mark.slow
def test_small_values_in_great_number_stay_under_the_cap(item: str) -> None:
    """The estimate of what a value weighs is an estimate: half as much again is the most it may be wrong."""
    data = b"\xed" + bytes.fromhex(item) * (16 * MIB // (len(item) // 2))
    growth, outcome = measure("fressian", data, 64 * MIB)
    assert outcome == ("TooDeepError bad-fressian" if item == "ed" else "LimitError bad-fressian")
    assert growth < 96 * MIB
