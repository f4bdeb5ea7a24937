"""Bodies that cost far more than they weigh, written byte by byte from the description of the format.

None of this comes from the project's own writer, which would never say it. Struct and cache slots are those that the
format's rules give: the tags are vector 0, map 1, keyword 2, instant 3; a keyword key takes a slot, and its name the
next one.
"""

import base64
import json
import struct
from collections.abc import Callable, Iterable, Mapping

import zstandard

INSTANCE = "0bad0bad-0bad-4bad-8bad-0bad0bad0bad"
MIB = 1024 * 1024

DAY = 1_784_505_600_000  # 2026-07-20
NIL, END, PUT, RESET = b"\xf7", b"\xfd", b"\xcd", b"\xfe"
UUID = b"\xc3\xd9\x10" + bytes(16)
KEYS = (b"name", b"type", b"source", b"tracked-at", b"profile-id", b"props", b"context")
FREE_SLOT = 2 * len(KEYS)
"""The first slot of the priority cache behind the seven keys and their names."""


# --- values ---------------------------------------------------------------------------------------------------------


def whole(number: int) -> bytes:
    """An int that is not negative."""
    if number < 0x40:
        return bytes([number])
    for zero, size in ((0x50, 1), (0x68, 2), (0x72, 3), (0x76, 4), (0x7A, 5), (0x7E, 6)):
        high = number >> 8 * size
        if high < (16 if size == 1 else 8 if size == 2 else 2):
            return bytes([zero + high]) + (number & (1 << 8 * size) - 1).to_bytes(size, "big")
    return b"\xf8" + number.to_bytes(8, "big")


def text(raw: bytes) -> bytes:
    """A string."""
    return bytes([0xDA + len(raw)]) + raw if len(raw) < 8 else b"\xe3" + whole(len(raw)) + raw


def reference(slot: int) -> bytes:
    """A value that is in the priority cache."""
    return bytes([0x80 + slot]) if slot < 0x20 else b"\xcc" + whole(slot)


def new_tag(name: bytes, components: int) -> bytes:
    """The beginning of a struct whose tag is not in the struct cache yet."""
    return b"\xef" + text(name) + whole(components)


def new_key(name: bytes, *, first: bool = False) -> bytes:
    """A keyword key that is put into the cache with its name."""
    opening = new_tag(b"clj/keyword", 2) if first else b"\xa2"
    return PUT + opening + NIL + PUT + text(name)


def vector_of(count: int) -> bytes:
    """The beginning of a batch."""
    return new_tag(b"clj/vector", 1) + b"\xec" + whole(count)


def entries(values: Mapping[bytes, bytes], keys: Callable[[int, bytes], bytes]) -> bytes:
    """The entries of an event map."""
    return b"".join(keys(index, key) + values[key] for index, key in enumerate(KEYS) if key in values)


def fields(**changes: bytes | None) -> dict[bytes, bytes]:
    """The values of an event; underscores stand for hyphens, and None leaves one out."""
    values: dict[str, bytes | None] = {
        "name": text(b"navigate"),
        "type": text(b"action"),
        "source": text(b"telemetry"),
        "tracked_at": b"\xa3" + whole(DAY),
        "profile_id": UUID,
        "props": b"\xa1\xed" + END,
        "context": b"\xa1\xed" + END,
    }
    values.update(changes)
    return {key.replace("_", "-").encode(): value for key, value in values.items() if value is not None}


def first_event(**changes: bytes | None) -> bytes:
    """An event that fills the caches: all seven keys, and the tags."""
    changes = {"tracked_at": new_tag(b"java/instant", 1) + whole(DAY), **changes}
    opening = new_tag(b"clj/map", 1) + b"\xed"
    return opening + entries(fields(**changes), lambda index, key: new_key(key, first=index == 0)) + END


def event(**changes: bytes | None) -> bytes:
    """An event of 40 bytes or less: its keys are references."""
    return b"\xa1\xed" + entries(fields(**changes), lambda index, _: reference(2 * index)) + END


def batch(count: int, first: bytes, following: Iterable[bytes]) -> bytes:
    """A batch of so many events."""
    return vector_of(count) + first + b"".join(following)


def props(*parts: bytes) -> bytes:
    """A map with keys and values in turn."""
    return b"\xa1\xed" + b"".join(parts) + END


# --- bodies ---------------------------------------------------------------------------------------------------------


def body_of(data: bytes, level: int = 6) -> bytes:
    """A body around the fressian of its events."""
    blob = struct.pack(">hi", 4, len(data)) + zstandard.ZstdCompressor(level=level).compress(data)
    events = base64.urlsafe_b64encode(blob).rstrip(b"=").decode()
    fields = {"type": "telemetry-events", "version": "2.18.0", "instance-id": INSTANCE, "events": events}
    return json.dumps(fields).encode()


def repeated_name(count: int, size: int) -> bytes:
    """One name, written once and referred to by every further event."""
    named = reference(FREE_SLOT)
    long_name = PUT + text(b"a" * size)  # the name's slot is taken before the other keys are
    first = first_event() + event(name=long_name)
    return batch(count, first, [event(name=named)] * (count - 2))


def repeated_props(count: int, size: int, byte: bytes = b"a") -> bytes:
    """One long value, written once and referred to in the props of every further event."""
    first = first_event() + event(props=props(new_key(b"k"), PUT + text(byte * size)))
    again = event(props=props(reference(FREE_SLOT), reference(FREE_SLOT + 2)))
    return batch(count, first, [again] * (count - 2))


def repeated_context(count: int, size: int) -> bytes:
    """The same in the context."""
    first = first_event() + event(context=props(new_key(b"k"), PUT + text(b"a" * size)))
    again = event(context=props(reference(FREE_SLOT), reference(FREE_SLOT + 2)))
    return batch(count, first, [again] * (count - 2))


def references_in_one(count: int, size: int) -> bytes:
    """One event whose props are a list of references to one long string."""
    listed = b"\xed" + PUT + text(b"\x01" * size) + reference(FREE_SLOT + 2) * count + END
    return batch(2, first_event(), [event(props=props(new_key(b"k"), listed))])


def many_contexts(count: int) -> bytes:
    """A different context for each event."""
    first = first_event() + event(context=props(new_key(b"browser"), whole(0)))
    others = (event(context=props(reference(FREE_SLOT), b"\xf8" + struct.pack(">q", n))) for n in range(count - 2))
    return batch(count, first, others)


def bad_events(count: int) -> bytes:
    """Events that lack their instant: each becomes a dead letter."""
    return batch(count, first_event(), [event(tracked_at=None)] * (count - 1))


def reset_event() -> bytes:
    """An event behind a reset of the caches: the tags are map 0, keyword 1, instant 2 from there on."""
    empty = b"\xa0\xed" + END
    values = fields(props=empty, context=empty, tracked_at=new_tag(b"java/instant", 1) + whole(DAY))
    keys = (PUT + (new_tag(b"clj/keyword", 2) if key == b"name" else b"\xa1") + NIL + PUT + text(key) for key in KEYS)
    written = b"".join(key + values[name] for key, name in zip(keys, KEYS, strict=True))
    return RESET + new_tag(b"clj/map", 1) + b"\xed" + written + END


def report_of_lists(count: int) -> bytes:
    """A legacy report of empty lists."""
    stats = b"[" + b",".join([b"[]"] * count) + b"]"
    head = b'{"type":"telemetry-legacy-report","version":"2.18.0","instance-id":"' + INSTANCE.encode()
    return head + b'","stats":{"a":' + stats + b"}}"


COSTLY: Mapping[str, Callable[[], bytes]] = {
    "a name of 1 MiB for 300 events": lambda: body_of(repeated_name(300, MIB - 1)),
    "a name of 1 MiB for 2,000 events": lambda: body_of(repeated_name(2_000, MIB - 1)),
    "a name of 250 control characters": lambda: body_of(
        batch(
            50_000, first_event() + event(name=PUT + text(b"\x01" * 250)), [event(name=reference(FREE_SLOT))] * 49_998
        )
    ),
    "props of 1 MiB for 125 events": lambda: body_of(repeated_props(125, MIB - 1)),
    "props of 4 kB for 40,000 events": lambda: body_of(repeated_props(40_000, 4_000)),
    "props of control characters": lambda: body_of(repeated_props(125, MIB - 1, b"\x01")),
    "a context of 1 MiB for 2,000 events": lambda: body_of(repeated_context(2_000, MIB - 1)),
    "one event of 500 references to 1 MiB": lambda: body_of(references_in_one(500, MIB - 1)),
    "50,000 events of no profile": lambda: body_of(batch(50_000, first_event(), [event(profile_id=None)] * 49_999)),
    "50,000 short events": lambda: body_of(batch(50_000, first_event(), [event()] * 49_999)),
    "50,000 contexts": lambda: body_of(many_contexts(50_000)),
    "50,000 bad events": lambda: body_of(bad_events(50_000)),
    "50,000 empty maps": lambda: body_of(vector_of(50_000) + b"\xc0\xe4" * 50_000),
    "50,000 empty lists": lambda: body_of(vector_of(50_000) + b"\xe4" * 50_000),
    "50,000 events behind a reset each": lambda: body_of(vector_of(50_000) + first_event() + reset_event() * 49_999),
    "a list of 12 million lists": lambda: body_of(b"\xed" + b"\xe4" * 12_000_000 + END),
    "a list of 6 million closed lists": lambda: body_of(b"\xed" + b"\xed\xfd" * 6_000_000 + END),
    "12 million resets": lambda: body_of(RESET * 12_000_000 + NIL),
    "12 million lists in one event": lambda: body_of(
        batch(2, first_event(), [event(props=props(new_key(b"k"), b"\xed" + b"\xe4" * 12_000_000 + END))])
    ),
    "12 million lists behind a value that is none": lambda: body_of(
        batch(
            2,
            first_event(),
            [event(props=props(new_key(b"k"), b"\xdb\xff", text(b"j"), b"\xed" + b"\xe4" * 12_000_000 + END))],
        )
    ),
    "11 strings of 1 MiB in one event": lambda: body_of(
        batch(2, first_event(), [event(props=props(new_key(b"k"), b"\xed" + text(b"\x01" * (MIB - 1)) * 11 + END))])
    ),
    "600,000 uuids": lambda: body_of(
        batch(2, first_event(), [event(props=props(new_key(b"k"), b"\xed" + UUID * 600_000 + END))])
    ),
    "a report of a million lists": lambda: report_of_lists(999_990),
}
"""Each by what it is."""
