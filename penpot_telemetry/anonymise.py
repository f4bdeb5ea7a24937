"""Audit event in, telemetry event out: what names a person is left behind here, and nowhere later.

Pure: no I/O and no clock. Props and the address are not even looked at. Of the context the safe keys pass, and only
when the value has the shape that its key has in a Penpot: a safe key is no licence for free text. No message repeats
a value.
"""

import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import NoReturn
from uuid import UUID, uuid4

from penpot_telemetry.errors import InvalidEventError
from penpot_telemetry.events import CONTEXT_KEYS, FRONTEND_TYPES, ZERO_UUID, AuditEvent, Origin, TelemetryEvent

NAME = re.compile(r"(?=[0-9_-]*[A-Za-z])[A-Za-z0-9_-]{1,250}")
"""ASCII only: a name is a word of the program, and the letters of all scripts would let names of people through.

Without a letter it is no word but a number: an instant, a telephone, an address.
"""

BACKEND_TYPE = re.compile(r"[a-z-]{1,50}")

LATEST_DELAY = timedelta(hours=1)

# -- the outline -----------------------------------------------------------------------------------------------------


def anonymise(event: AuditEvent, *, row_id: UUID | None = None, pseudonym_key: bytes | None = None) -> TelemetryEvent:
    """What may be stored and sent of an audit event. Raises InvalidEventError, which names the field.

    `row_id` is random when it is not given; with a `pseudonym_key` the profile id is replaced by its keyed hash.
    """
    check_name(event.name, event.type, event.origin)
    profile_id = event.profile_id or ZERO_UUID
    if pseudonym_key is not None:
        profile_id = pseudonymise(profile_id, pseudonym_key)
    return TelemetryEvent(
        row_id or uuid4(),
        event.name,
        event.type,
        profile_id,
        truncate_day(event.created_at, "created-at"),
        truncate_day(event.tracked_at, "tracked-at"),
        filter_context(event.context, event.origin),
    )


def read_frontend_event(
    raw: object, *, profile_id: UUID | None, ip_addr: str | None, request_at: datetime
) -> AuditEvent:
    """One event as a browser posts it: `name`, `type`, and optionally `props`, `context` and `timestamp`.

    A timestamp after the request or more than an hour before it becomes the request's. The profile is the session's:
    what the event itself claims is not read. Raises InvalidEventError.
    """
    fields = _fields(raw)
    tracked_at = _instant(fields, request_at)
    if not request_at - LATEST_DELAY <= tracked_at <= request_at:
        tracked_at = request_at
    return _event(fields, "frontend", tracked_at, request_at, profile_id, ip_addr)


def read_backend_event(raw: object, *, now: datetime) -> AuditEvent:
    """One event of the server's own: as above, with its `profile-id`; a timestamp in the future becomes `now`."""
    fields = _fields(raw)
    profile_id = fields.get("profile-id")
    try:
        profile = None if profile_id is None else UUID(profile_id) if isinstance(profile_id, str) else _refuse()
    except ValueError:
        raise InvalidEventError("profile-id: not a uuid") from None
    tracked_at = min(_instant(fields, now), now)
    return _event(fields, "backend", tracked_at, tracked_at, profile, None)


# -- names, times, ids -----------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def check_name(name: str, type_: str, origin: Origin) -> None:
    """Raises InvalidEventError unless name and type are words that a program wrote."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise InvalidEventError("name: should be 1 to 250 of the characters A-Z a-z 0-9 _ -, with a letter among them")
    if origin == "frontend" and type_ not in FRONTEND_TYPES:
        raise InvalidEventError(f"type: should be one of {', '.join(sorted(FRONTEND_TYPES))}")
    if not isinstance(type_, str) or not BACKEND_TYPE.fullmatch(type_):
        raise InvalidEventError("type: should be 1 to 50 of the characters a-z -")


def truncate_day(moment: datetime, field: str) -> datetime:
    """Midnight UTC of the day of an aware datetime."""
    if moment.tzinfo is None:
        raise InvalidEventError(f"{field}: should have a time zone")
    try:
        moment = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    except OverflowError:
        raise InvalidEventError(f"{field}: beyond the calendar") from None
    return _midnight(moment.year, moment.month, moment.day)


@lru_cache(maxsize=512)
def _midnight(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, tzinfo=UTC)


@lru_cache(maxsize=65_536)
def pseudonymise(profile_id: UUID, key: bytes) -> UUID:
    """The keyed hash (HMAC-SHA-256) of a profile id, shaped as a random uuid: no instant, and no way back.

    The zero uuid stays: it says that there is no profile.
    """
    if profile_id == ZERO_UUID:
        return profile_id
    return UUID(bytes=hmac.digest(key, profile_id.bytes, "sha256")[:16], version=4)


# -- context ---------------------------------------------------------------------------------------------------------


def filter_context(context: Mapping[str, object], origin: str) -> Mapping[str, object]:
    """The part of a context that may pass: safe keys whose value has the shape that the key has in a Penpot."""
    try:  # contexts repeat: some two hundred different ones in ten thousand events
        return _filter_items(origin, tuple(context.items()), tuple(map(type, context.values())))
    except TypeError:  # a list or a map among the values cannot be remembered
        return _filter(origin, context.items())


@lru_cache(maxsize=4096)
def _filter_items(
    origin: str,
    items: tuple[tuple[str, object], ...],
    types: tuple[type, ...],  # noqa: ARG001  1, 1.0 and True are one key of a cache without it
) -> Mapping[str, object]:
    return _filter(origin, items)


def _filter(origin: str, items: Iterable[tuple[str, object]]) -> Mapping[str, object]:
    safe = CONTEXT_KEYS[origin]
    return MappingProxyType({key: value for key, value in items if key in safe and SHAPES[key](value)})


def _words(text: str, separator: str | None = None) -> frozenset[str]:
    return frozenset(text.split(separator))


_NUMBERS = r"\d{1,5}(?:[._]\d{1,5}){0,4}"
_STAGES = "alpha|beta|rc|RC|dev|develop|snapshot|SNAPSHOT|nightly|hotfix|pre|preview|staging|main|build|final|patch"
_VERSION = re.compile(
    rf"|unknown|develop|main|staging|%version%"
    rf"|v?{_NUMBERS}(?:[-.+]?(?:{_STAGES})[-.]?\d{{0,8}}){{0,3}}(?:-\d{{1,6}}-g[0-9a-f]{{7,12}})?"
)
_IPV4 = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.])")
_LOCALE = re.compile(r"[a-z]{2,3}(?:[_-](?:[A-Za-z]{2}|[A-Za-z]{4}|\d{3})){0,2}")
_WORD = r"[a-z]{1,20}\d{0,2}(?:-[a-z]{1,20}\d{0,2}){0,7}"
_INITIATOR = re.compile(rf":?{_WORD}")
_ORIGIN = re.compile(rf"{_WORD}(?::{_WORD}){{0,3}}")
_NAMESPACE = re.compile(rf"app(?:\.{_WORD}){{0,9}}")
_SYMBOL = re.compile(rf"{_WORD}[?!*]?")

_BROWSERS = _words(
    "Android Browser|Brave|Chrome|Chrome Headless|Chrome WebView|Chromium|DuckDuckGo|Edge|Edge WebView|Electron|"
    "Epiphany|Falkon|Firefox|Firefox Focus|Firefox Mobile|Huawei Browser|IE|Konqueror|LibreWolf|MIUI Browser|"
    "Mobile Chrome|Mobile Firefox|Mobile Safari|Opera|Opera GX|Opera Mini|Opera Mobi|Opera Touch|PaleMoon|Safari|"
    "Samsung Browser|Samsung Internet|SeaMonkey|Silk|UCBrowser|Vivaldi|Waterfox|WebKit|Whale|Yandex|unknown|",
    "|",
)
_ENGINES = _words("Blink EdgeHTML Gecko Goanna KHTML LibWeb Presto Servo Trident WebKit unknown") | {""}
_SYSTEMS = _words(
    "Android|Arch|CentOS|Chrome OS|Chromium OS|Debian|Fedora|FreeBSD|GNU|Gentoo|HarmonyOS|Linux|Mac OS|Manjaro|Mint|"
    "NetBSD|OpenBSD|OpenSUSE|PCLinuxOS|RedHat|SUSE|Slackware|Solaris|Ubuntu|Windows|Windows Phone|iOS|iPadOS|macOS|"
    "unknown|",
    "|",
)
_SYSTEM_VERSIONS = _words("2000 7 8 8.1 10 11 ME NT XP Vista unknown") | {""}
_DEVICES = _words("console desktop embedded mobile smarttv tablet unknown wearable xr") | {""}
_ARCHS = _words("68k aarch64 amd64 arm arm64 armhf ia32 ia64 mips ppc riscv64 sparc x86 x86_64 unknown") | {""}
_ORIENTATIONS = frozenset(f"{way}-{rank}" for way in ("landscape", "portrait") for rank in ("primary", "secondary")) | {
    "landscape",
    "portrait",
    "unknown",
    "",
}

_PRODUCTS = _words(
    "Apache-HttpClient AppleWebKit Brave Bun Chrome Chromium CriOS Dart Ddg Deno DuckDuckGo Edg EdgA EdgiOS Edge "
    "Electron Epiphany Falkon Firefox FxiOS Gecko Go-http-client GuzzleHttp HTTPie HeadlessChrome Java "
    "Java-http-client Konqueror LibreWolf Mobile Mozilla Node.js OPR OPT Opera PHP PaleMoon PostmanRuntime Python "
    "Python-urllib Ruby Safari SamsungBrowser SeaMonkey Trident UCBrowser Ubuntu Version Vivaldi Waterfox Wget Whale "
    "YaBrowser aiohttp axios curl got insomnia node node-fetch okhttp penpot penpot-exporter penpot-mcp "
    "penpot-telemetry python-httpx python-requests python-urllib3 reqwest undici"
)
_PRODUCT_VERSION = re.compile(rf"{_NUMBERS}|20\d{{6}}|\d{{1,3}}[A-Z]\d{{1,5}}[a-z]?")
_COMMENT_WORDS = _words(
    "ARM ARM64 Android Arch CPU CrOS Debian Fedora FreeBSD Gecko Intel K KHTML Linux MSIE Mac Macintosh Mobile NT "
    "NetBSD OS OpenBSD PPC Tablet Touch U Ubuntu WOW64 Wayland Win64 Windows X X11 aarch64 amd64 arm64 armv7l armv8l "
    "compatible i586 i686 iPad iPhone iPod like wv x64 x86 x86_64"
)
_COMMENT_VERSION = re.compile(rf"(?:rv:)?(?:{_NUMBERS})")
_AGENT_PART = re.compile(r"\(([^()]{1,200})\)|([A-Za-z][A-Za-z.-]{1,30})/([0-9A-Za-z._]{1,20})|\b(?:Mobile|Tablet)\b")


def _matches(pattern: re.Pattern[str]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _one_of(names: frozenset[str]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and value in names


def _between(least: int, most: int) -> Callable[[object], bool]:
    return lambda value: type(value) is int and least <= value <= most


def _is_version(value: object) -> bool:
    return isinstance(value, str) and _VERSION.fullmatch(value) is not None and not _has_address(value)


def _is_system_version(value: object) -> bool:
    return isinstance(value, str) and (value in _SYSTEM_VERSIONS or _is_version(value))


def _is_system(value: object) -> bool:
    """A system, alone or before its version: `macOS 10.15.7`, `Windows 11`, `Ubuntu ` (the version is empty)."""
    if not isinstance(value, str):
        return False
    name, space, version = value.rpartition(" ")
    return value in _SYSTEMS or (bool(space) and name in _SYSTEMS and _is_system_version(version))


def _is_user_agent(value: object) -> bool:
    """A user agent made of known words alone: the grammar of RFC 9110 with a closed vocabulary.

    A user agent is free text of its owner, who may be a person or a firm; one unknown word and it stays at home.
    """
    if not isinstance(value, str) or len(value) > 400 or _has_address(value):  # noqa: PLR2004  none known is half as long
        return False
    parts = _AGENT_PART.sub(lambda part: "+" if _is_agent_part(part) else "-", value)
    return re.fullmatch(r"\+(?: \+)*", parts) is not None


def _is_agent_part(part: re.Match[str]) -> bool:
    comment, product, version = part.groups()
    if comment is None and product is None:
        return True
    if comment is None:
        return product in _PRODUCTS and _PRODUCT_VERSION.fullmatch(version) is not None
    return all(
        word in _COMMENT_WORDS or _COMMENT_VERSION.fullmatch(word) is not None
        for word in re.split(r"[;,\s]+", comment)
        if word
    )


def _has_address(text: str) -> bool:
    """Four numbers that may be an IPv4 address. `138.0.0.0` is how browsers shorten their version, and no host."""
    return any(
        not found.endswith(".0.0") and all(int(number) < 256 for number in found.split("."))  # noqa: PLR2004  a byte
        for found in _IPV4.findall(text)
    )


SHAPES: Mapping[str, Callable[[object], bool]] = {
    "initiator": _matches(_INITIATOR),
    "version": _is_version,
    "client-version": _is_version,
    "client-user-agent": _is_user_agent,
    "locale": _matches(_LOCALE),
    "browser": _one_of(_BROWSERS),
    "browser-version": _is_version,
    "engine": _one_of(_ENGINES),
    "engine-version": _is_version,
    "os": _is_system,
    "os-version": _is_system_version,
    "device-type": _one_of(_DEVICES),
    "device-arch": _one_of(_ARCHS),
    "screen-width": _between(0, 100_000),
    "screen-height": _between(0, 100_000),
    "screen-color-depth": _between(0, 64),
    "screen-orientation": _one_of(_ORIENTATIONS),
    "event-origin": _matches(_ORIGIN),
    "event-namespace": _matches(_NAMESPACE),
    "event-symbol": _matches(_SYMBOL),
}
"""What the value of each safe key looks like in a Penpot. Anything else under that key is left behind."""

# -- reading raw events ----------------------------------------------------------------------------------------------


def _event(  # noqa: PLR0913, PLR0917  one line for each field of the event
    fields: Mapping[str, object],
    origin: Origin,
    tracked_at: datetime,
    created_at: datetime,
    profile_id: UUID | None,
    ip_addr: str | None,
) -> AuditEvent:
    name, type_ = fields.get("name"), fields.get("type")
    if not isinstance(name, str):
        raise InvalidEventError("name: should be text")
    if not isinstance(type_, str):
        raise InvalidEventError("type: should be text")
    check_name(name, type_, origin)
    return AuditEvent(
        name=name,
        type=type_,
        origin=origin,
        tracked_at=tracked_at,
        created_at=created_at,
        profile_id=profile_id,
        ip_addr=ip_addr,
        props=_mapping(fields, "props"),
        context=_mapping(fields, "context"),
    )


def _fields(raw: object) -> Mapping[str, object]:
    if not isinstance(raw, Mapping):
        raise InvalidEventError("event: should be a map of fields")
    return raw


def _mapping(fields: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = fields.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidEventError(f"{name}: should be a map")
    return value


def _instant(fields: Mapping[str, object], default: datetime) -> datetime:
    """`timestamp` (or `tracked-at`): ISO 8601 with a zone, epoch milliseconds, or an aware datetime."""
    value = fields.get("timestamp", fields.get("tracked-at"))
    if value is None:
        return default
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            moment = datetime.fromtimestamp(value / 1000, UTC)
        elif isinstance(value, datetime):
            moment = value
        else:
            _refuse()
        return moment.astimezone(UTC) if moment.tzinfo else _refuse()
    except (ValueError, OverflowError, OSError):
        raise InvalidEventError("timestamp: should be ISO 8601 with a zone, or epoch milliseconds") from None


def _refuse() -> NoReturn:
    raise ValueError
