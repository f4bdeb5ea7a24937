"""What nobody honest sends: bombs of the wire format, and bodies that are wrong in an ordinary way.

Each is named, with the reason it is put aside for; None: it is a small batch after all, and is taken.
"""

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from uuid import UUID, uuid4

import zstandard

from penpot_telemetry.wire import fressian
from penpot_telemetry.wire.limits import MIB
from penpot_telemetry.wire.payload import EventsBatch, build_events
from tests.integration.receiving import body_of, body_of_bytes, rows
from tests.unit.test_fressian_hostile import BLOBS, SMALL_BLOBS, laughs

STRANGER = UUID("0bad0bad-0bad-4bad-8bad-0bad0bad0bad")
"""The instance of everything here, never one of an honest sender."""


@dataclass(frozen=True, slots=True)
class Bad:
    """A body and what becomes of it."""

    name: str
    body: bytes
    reason: str | None


def envelope(text: str, **more: object) -> bytes:
    """A well-formed body around an events text."""
    return build_events(EventsBatch("2.18.0", STRANGER, text, **more))  # type: ignore[arg-type]


# --- bombs ----------------------------------------------------------------------------------------------------------

VALUES: Mapping[str, Callable[[], bytes]] = {  # fressian, whole
    "nested-lists": lambda: b"\xe5" * 2_000_000,
    "list-of-2^31": lambda: b"\xec\x76\x7f\xff\xff\xff" + bytes(MIB),
    "reference-out-of-range": lambda: b"\xcc\x76\x7f\xff\xff\xff",
    "laughs": lambda: laughs("vector", 60),
    "64-mib-of-nil": lambda: b"\xed" + b"\xf7" * (64 * MIB) + b"\xfd",
}
REASONS = {
    "inflates-to-512-mib": "too-large",
    "inflates-to-512-mib-without-saying-so": "too-large",
    "claims-512-mib": "wrong-shape",  # nil, once it is read: no batch
    "lying-header": "bad-blob",
    "lying-frame": "too-large",
    "huge-window": "too-large",
    "100,000-empty-frames": "bad-fressian",
    "64-mib-of-nil": "too-large",
}


BOMBS: Mapping[str, Callable[[], bytes]] = BLOBS | SMALL_BLOBS


@cache
def bombs() -> list[Bad]:
    """Every bomb of the format, as a body. Built once: some take a second to build, and none to send."""
    frames = [Bad(name, envelope(make().rstrip(b"=").decode()), REASONS[name]) for name, make in BOMBS.items()]
    values = [Bad(name, body_of_bytes(make()), REASONS.get(name, "bad-fressian")) for name, make in VALUES.items()]
    json_bombs = [
        Bad("deep-json", b"[" * 10_000_000, "wrong-shape"),
        Bad("deep-json-objects", b'{"a":' * 2_000_000, "too-large"),
        Bad("number-of-8-mib", b'{"type":"telemetry-events","version":' + b"9" * (8 * MIB) + b"}", "wrong-shape"),
        Bad("16-mib-of-spaces", b" " * (16 * MIB), "not-json"),
        Bad("half-a-million-keys", json.dumps({str(key): 0 for key in range(500_000)}).encode(), "wrong-shape"),
        Bad("events-of-12-mib-of-A", envelope("A" * (12 * MIB)), "bad-blob"),
    ]
    return frames + values + json_bombs


@cache
def costly_bomb() -> Bad:
    """One that took eleven seconds of the processor once, before the values weighed too much."""
    return Bad("64-mib-of-lists", body_of_bytes(b"\xed" + b"\xe4" * (64 * MIB) + b"\xfd"), "too-large")


# --- ordinary mistakes ----------------------------------------------------------------------------------------------


def valid_fields() -> dict[str, object]:
    """A small batch as JSON fields."""
    fields: dict[str, object] = json.loads(body_of(rows(2), instance=STRANGER, batch_id=uuid4()))
    return fields


def with_fields(**changes: object) -> bytes:
    """A small batch with some fields changed; underscores stand for hyphens."""
    return json.dumps(valid_fields() | {name.replace("_", "-"): value for name, value in changes.items()}).encode()


def cut(dice: random.Random) -> bytes:
    """A small batch that ends too early."""
    body = body_of(rows(2), instance=STRANGER)
    return body[: dice.randrange(1, len(body))]


def damaged_text(dice: random.Random) -> bytes:
    """A small batch whose events hold a character that base64url has not."""
    text = str(valid_fields()["events"])
    place = dice.randrange(len(text))
    return with_fields(events=text[:place] + "*" + text[place + 1 :])


def no_blob(dice: random.Random) -> bytes:
    """A small batch whose events are a frame that is none."""
    return with_fields(events="AAQAAAAA" + dice.randbytes(30).hex())


def no_batch(_: random.Random) -> bytes:
    """A body whose events are sound fressian, but no events."""
    return body_of_bytes(fressian.dumps({"not": "events"}))


def many_frames(_: random.Random) -> bytes:
    """A small batch whose frames hold nothing."""
    return envelope("AAQAAAAA" + zstandard.ZstdCompressor().compress(b"").hex() * 10)


MISTAKES: Mapping[str, tuple[str, Callable[[random.Random], bytes]]] = {
    "not JSON": ("not-json", lambda dice: b"events=" + dice.randbytes(8).hex().encode()),
    "random bytes": ("not-json", lambda dice: b"\xff" + dice.randbytes(dice.randrange(1, 4000))),
    "truncated": ("not-json", cut),
    "deep JSON": ("wrong-shape", lambda dice: b"[" * dice.randrange(1000, 20_000)),
    "wrong shape": ("wrong-shape", lambda _: with_fields(events=["a", "list"])),
    "no instance": ("wrong-shape", lambda _: with_fields(instance_id="somebody")),
    "unknown type": ("unknown-type", lambda _: with_fields(type="telemetry-something")),
    "bad base64": ("bad-base64", damaged_text),
    "bad blob": ("bad-blob", no_blob),
    "empty frames": ("bad-blob", many_frames),
    "no events": ("wrong-shape", no_batch),
    "wrong digest": ("wrong-digest", lambda _: with_fields(digest="sha256:" + "0" * 64)),
}


def mistake(dice: random.Random) -> Bad:
    """One of the mistakes, with its reason."""
    name = dice.choice(list(MISTAKES))
    reason, make = MISTAKES[name]
    return Bad(name, make(dice), reason)
