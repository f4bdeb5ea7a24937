"""The body of `push-audit-events` as Penpot's frontend posts it: bytes and a content type in, raw events out.

Penpot's frontend writes transit in its verbose form; its server also takes plain JSON, whose keys may be in camel case
(`app.main.data.event`, `app.http.middleware`, `app.rpc.commands.audit`). Pure: what an event may hold is judged by
`anonymise`, event by event. No message repeats a value.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from penpot_telemetry.errors import DecodeError, EncodeError
from penpot_telemetry.wire.fressian.values import (
    BigInt,
    Char,
    Date,
    Instant,
    Keyword,
    Set,
    Symbol,
    Tagged,
    Uri,
    Value,
    from_key,
)
from penpot_telemetry.wire.transit import loads_verbose

BODY_BYTES = 16 * 1024 * 1024
"""Penpot's frontend posts at most a hundred events at once: some 100 KiB."""

TRANSIT = "application/transit+json"
JSON = "application/json"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read_push_body(body: bytes, content_type: str) -> Sequence[object]:
    """The events of a posted body, in its order, for `pipeline.push_audit_events`.

    Each event that is a map has plain text for keys; instants are aware datetimes, keywords text, uuids UUIDs. What is
    no map is passed on as it is, to be refused alone. Raises DecodeError for what is no such body.
    """
    if len(body) > BODY_BYTES:
        raise DecodeError(f"body: more than {BODY_BYTES:,} bytes", reason="too-large")
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in {TRANSIT, JSON}:
        raise DecodeError(f"content type: should be {TRANSIT} or {JSON}", reason="wrong-shape")
    try:
        text = body.decode("utf-8-sig")
        events = _read_transit(text) if kind == TRANSIT else _read_json(text)
    except EncodeError as error:
        raise DecodeError(f"body: {error}", reason="not-json") from None
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as error:
        raise DecodeError(f"body: not {kind} ({type(error).__name__})", reason="not-json") from None
    if events is None:
        raise DecodeError("body: should be a map whose `events` is a list", reason="wrong-shape")
    return events


def _read_transit(text: str) -> list[object] | None:
    """The events of a transit text; those of a verbose one are read one by one, so that a bad one spoils no other."""
    if text.lstrip().startswith("{"):
        found = msgspec.json.decode(text, type=dict[str, msgspec.Raw]).get("~:events")
        if found is None or not bytes(found).lstrip().startswith(b"["):
            return None
        return [_read_event(event) for event in msgspec.json.decode(found, type=list[msgspec.Raw])]
    document = loads_verbose(text)
    events = document.get(Keyword("events")) if isinstance(document, Mapping) else None
    return [_plain(event) for event in events] if isinstance(events, list) else None


def _read_event(raw: msgspec.Raw) -> object:
    try:
        return _plain(loads_verbose(bytes(raw).decode()))
    except (EncodeError, RecursionError):
        return None  # no map, so it is refused alone


def _read_json(text: str) -> list[object] | None:
    document = msgspec.json.decode(text)
    events = document.get("events") if isinstance(document, dict) else None
    return [_kebab(event) for event in events] if isinstance(events, list) else None


def _plain(value: Value) -> object:  # noqa: PLR0911  one case a type reads best
    """A transit value as Python's own: what `anonymise` looks at is text, numbers, maps, uuids and instants."""
    match value:
        case dict():
            return {_plain_key(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case Set():
            return [_plain(from_key(item)) for item in value]
        case Keyword() | Symbol():
            return f"{value.ns}/{value.name}" if value.ns else value.name
        case Instant() | Date():
            return _moment(value.ms)
        case BigInt():
            return value.value
        case Uri() | Char():
            return value.value
        case Tagged():
            return _plain(value.value[0]) if value.value else None
    return value


def _plain_key(key: Value) -> str:
    plain = _plain(from_key(key))
    return plain if isinstance(plain, str) else str(plain)


def _moment(ms: int) -> object:
    """An instant as a datetime; beyond the calendar the number, which is refused as a timestamp later."""
    try:
        return _EPOCH + timedelta(milliseconds=ms)
    except OverflowError:
        return ms


_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[_\s]+")


def _kebab(value: object) -> object:
    """The maps of a JSON value with the keys that Penpot's reader makes of them; a key with a slash stays."""
    match value:
        case dict():
            return {_kebab_key(key): _kebab(item) for key, item in value.items()}
        case list():
            return [_kebab(item) for item in value]
    return value


def _kebab_key(key: str) -> str:
    return key if "/" in key else _WORD_START.sub("-", key).lower()
