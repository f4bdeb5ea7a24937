"""Context in, reduced context out: the one rule for the values under the safe keys, applied at both ends.

A safe key is no licence for free text: what passes is a word of a closed list, a number in its range, or a text of a
grammar that has no room for an address or a sentence. For the words of the program, as in `event-origin`, there is no
list, because each release brings new ones: a single word in lower case passes there. An unknown word becomes `other`,
so that it is counted and not lost; a value of the wrong type, or a number out of range, is left out. What was changed
is told by key, never by value.

The rule is idempotent: the receiver changes nothing of what a sender reduced. Pure: no I/O and no clock.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from penpot_telemetry.errors import EncodeError
from penpot_telemetry.events import CONTEXT_KEYS
from penpot_telemetry.user_agents import OTHER, reduce_user_agent
from penpot_telemetry.vocabulary import (
    ARCHITECTURES,
    BROWSERS,
    DEVICES,
    ENGINES,
    ORIENTATIONS,
    SYSTEM_VERSIONS,
    SYSTEMS,
)
from penpot_telemetry.wire import transit
from penpot_telemetry.wire.fressian.values import Keyword

Scalar = str | int | float | bool | None

REMEMBERED = 4096
"""Contexts that are remembered; there are some two hundred different ones in ten thousand events."""

LONGEST_REMEMBERED = 4096
"""Characters of a context that may be remembered, so that hostile ones cannot fill the memory."""


class ReducedContext(NamedTuple):
    """What is left of a context.

    `changed`: the safe keys whose value became another or was left out, sorted. `dropped`: how many keys are not safe.
    """

    context: Mapping[str, Scalar]
    changed: tuple[str, ...]
    dropped: int


# -- the three forms of a context ------------------------------------------------------------------------------------


def reduce_context(source: str, context: Mapping[str, object]) -> ReducedContext:
    """The part of a context that may pass. `source` is an origin or a source: a key of `events.CONTEXT_KEYS`.

    No key of an unknown source is safe. A keyword counts as its text: `:workspace`.
    """
    items = tuple(context.items())
    case = (source, items, tuple(map(type, context.values())))  # 1, 1.0 and True are equal: the types tell them apart
    try:
        found = _remembered.get(case)
    except TypeError:  # a list or a map among the values cannot be remembered
        return _reduce(source, items)
    if found is None:
        found = _reduce(source, items)
        if _count_characters(items) <= LONGEST_REMEMBERED:
            if len(_remembered) >= REMEMBERED:
                _remembered.clear()
            _remembered[case] = found
    return found


def reduce_json(source: str, text: str) -> tuple[str, tuple[str, ...], int]:
    """The same for the JSON text of an object: the text that is left, what was changed, and how many were dropped.

    A text in which nothing is changed is returned as the same object. What is no object becomes `{}`, and counts as
    one dropped key unless it is null. Of a repeated key the last value is taken, and the text is written anew.
    """
    if len(text) > LONGEST_REMEMBERED:
        return _reduce_json(source, text)
    left = _reduce_short_json(source, text)
    return (text, *left[1:]) if left[0] == text else left  # what is remembered may be an equal text of before


def reduce_transit(source: str, text: str) -> tuple[str, tuple[str, ...], int]:
    """The same for transit, as `audit_log` holds it: for the rows that Penpot writes, which no rule has seen.

    A verbose text in which nothing is changed is returned as the same object; the array form of a map, and an object
    with a repeated key, are written anew. Null becomes `{}`. A text that stands for anything else that is no map, or
    for nothing at all, is returned unchanged, with nothing counted: the caller makes such a row a dead letter.
    """
    if len(text) > LONGEST_REMEMBERED:
        return _reduce_transit(source, text)
    left = _reduce_short_transit(source, text)
    return (text, *left[1:]) if left[0] == text else left  # what is remembered may be an equal text of before


# -- reading and writing them ----------------------------------------------------------------------------------------


_remembered: dict[tuple[str, tuple[tuple[str, object], ...], tuple[type, ...]], ReducedContext] = {}


def _count_characters(items: Iterable[tuple[str, object]]) -> int:
    return sum(len(part) for item in items for part in item if isinstance(part, str | bytes))


def _reduce(source: str, items: Iterable[tuple[str, object]]) -> ReducedContext:
    safe = CONTEXT_KEYS.get(source, frozenset())
    kept: dict[str, Scalar] = {}
    changed: set[str] = set()
    dropped = 0
    for key, value in items:
        if key not in safe:
            dropped += 1
            continue
        plain = _as_text(value) if type(value) is Keyword else value
        reduced = RULES[key](plain)
        if reduced is not None:
            kept[key] = reduced
        if reduced is None or reduced != plain:
            changed.add(key)
    return ReducedContext(MappingProxyType(kept), tuple(sorted(changed)), dropped)


def _as_text(value: Keyword) -> str:
    return f":{value}"


def _reduce_json(source: str, text: str) -> tuple[str, tuple[str, ...], int]:
    try:
        pairs = json.loads(text, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        return "{}", (), 1
    if not isinstance(pairs, _Pairs):
        return "{}", (), int(pairs is not None)
    context = dict(pairs)
    repeated = len(pairs) - len(context)
    reduced = reduce_context(source, context)
    if not (reduced.changed or reduced.dropped or repeated):
        return text, (), 0
    return msgspec.json.encode(dict(reduced.context)).decode(), reduced.changed, reduced.dropped + repeated


_reduce_short_json = lru_cache(maxsize=REMEMBERED)(_reduce_json)


class _Pairs(list[tuple[str, object]]):
    """The members of a JSON object, repeated keys and all."""

    __slots__ = ()


def _reduce_transit(source: str, text: str) -> tuple[str, tuple[str, ...], int]:
    try:
        document = transit.loads_verbose(text)
    except EncodeError:
        return text, (), 0
    if document is None:
        return "{}", (), 0
    if not isinstance(document, dict):
        return text, (), 0
    named = {str(key): value for key, value in document.items() if type(key) in (Keyword, str)}
    unnamed = len(document) - len(named)
    reduced = reduce_context(source, named)
    if not (reduced.changed or reduced.dropped or unnamed) and _names_each_key_once(text):
        return text, (), 0
    kept: dict[str, Scalar | Keyword] = {}
    for key, value in reduced.context.items():
        given = named[key]
        kept[key] = given if isinstance(given, Keyword) and _as_text(given) == value else value
    return transit.dumps_verbose(kept), reduced.changed, reduced.dropped + unnamed


def _names_each_key_once(text: str) -> bool:
    """Whether a text is a JSON object in which no value stands that its reader did not see."""
    try:
        pairs = json.loads(text, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        return False
    return isinstance(pairs, _Pairs) and len(dict(pairs)) == len(pairs)


_reduce_short_transit = lru_cache(maxsize=REMEMBERED)(_reduce_transit)

# -- words -----------------------------------------------------------------------------------------------------------

Rule = Callable[[object], str | int | None]
"""A value to what is left of it: itself, another, or None for a value of the wrong type."""

_LONGEST_WORD = 250


def _text(reduce: Callable[[str], str]) -> Rule:
    """A rule for texts. The empty text says nothing and stays."""

    def rule(value: object) -> str | None:
        if type(value) is not str:
            return None
        return reduce(value) if value else value

    return rule


def _known_word(names: frozenset[str]) -> Callable[[str], str]:
    """One word of a closed list, as the list spells it."""
    folded = {name.casefold(): name for name in sorted(names, reverse=True)}

    def reduce(text: str) -> str:
        if text in names:
            return text
        return folded.get(text.casefold(), OTHER) if len(text) <= _LONGEST_WORD else OTHER

    return reduce


def _of_grammar(pattern: str) -> Callable[[str], str]:
    matches = re.compile(pattern, re.ASCII).fullmatch
    return lambda text: text if text == OTHER or (len(text) <= _LONGEST_WORD and matches(text)) else OTHER


_WORD = r"[a-z]{1,20}\d{0,2}(?:-[a-z]{1,20}\d{0,2}){0,7}"
_reduce_locale = _of_grammar(r"[a-z]{2,3}(?:[_-](?:[A-Za-z]{2}|[A-Za-z]{4}|\d{3})){0,2}")
_reduce_initiator = _of_grammar(rf":?{_WORD}")
_reduce_origin = _of_grammar(rf":?{_WORD}(?::{_WORD}){{0,3}}")
_reduce_namespace = _of_grammar(rf":?app(?:\.{_WORD}){{0,9}}")
_reduce_symbol = _of_grammar(rf":?{_WORD}[?!*]?")
"""Words of a program. They come from keywords (`:workspace`) and from texts (`workspace:sidebar`)."""

# -- versions --------------------------------------------------------------------------------------------------------

_NUMBERS = r"\d{1,5}(?:[._]\d{1,5}){0,4}"
_BRANCHES = "develop|main|master|staging|production|release|stable|nightly|beta|test|hotfix|next|preview"
_STAGES = (
    "alpha|beta|prealpha|rc|RC|dev|DEV|develop|snapshot|SNAPSHOT|nightly|hotfix|pre|preview|staging|main|build|final|"
    "patch"
)
_penpot_version = re.compile(
    rf"unknown|{OTHER}|%version%|{_BRANCHES}"
    rf"|v?(?:(?:{_BRANCHES})-?)?{_NUMBERS}(?:[-.+]?(?:{_STAGES})[-.]?\d{{0,8}}){{0,3}}(?:-\d{{1,6}})?"
    rf"(?:-g[0-9a-f]{{7,12}})?",
    re.ASCII,
).fullmatch
"""A release, a branch, or what `git describe` says of one: `2.5.0-DEV`, `develop-2.17.0-RC1-17-g66bb6a11df`."""

_leading_numbers = re.compile(rf"v?({_NUMBERS})(?=[-+_ a-zA-Z])", re.ASCII).match
_windows_nt = re.compile(r"NT \d{1,2}(?:\.\d{1,2})?", re.ASCII).fullmatch
_ipv4 = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.])", re.ASCII).findall
_BYTE = 256


def _has_address(text: str) -> bool:
    """Four numbers that may be an IPv4 address. `138.0.0.0` is how browsers shorten their version, and no host."""
    return any(
        not found.endswith(".0.0") and all(int(number) < _BYTE for number in found.split(".")) for found in _ipv4(text)
    )


def _reduce_penpot_version(text: str) -> str:
    known = len(text) <= _LONGEST_WORD and _penpot_version(text) and not _has_address(text)
    return text if known else OTHER


def _reduce_version(text: str) -> str:
    """The version of a program: as above, else the numbers that it opens with: `3.0.4-1.fc10` is `3.0.4`."""
    if _reduce_penpot_version(text) != OTHER:
        return text
    numbers = _leading_numbers(text[:_LONGEST_WORD])
    return _reduce_penpot_version(numbers[1]) if numbers else OTHER


_reduce_version_word = _known_word(SYSTEM_VERSIONS)


def _reduce_system_version(text: str) -> str:
    if _windows_nt(text):
        return text
    word = _reduce_version_word(text)
    return word if word != OTHER else _reduce_version(text)


_reduce_system_name = _known_word(SYSTEMS)


def _reduce_system(text: str) -> str:
    """A system, alone or before its version: `macOS 10.15.7`, `Linux x86_64`, `Ubuntu ` (the version is empty).

    Of a known system with a version that is not known the system is left.
    """
    if len(text) > _LONGEST_WORD:
        return OTHER
    name, version = text, None
    while (system := _reduce_system_name(name)) == OTHER and " " in name:
        name = name.rpartition(" ")[0]
        version = text[len(name) + 1 :]
    if version is None or system in (OTHER, "unknown"):
        return system
    reduced = _reduce_system_version(version) if version else version
    return f"{system} {reduced}" if reduced != OTHER else system


# -- numbers ---------------------------------------------------------------------------------------------------------


def _between(least: int, most: int) -> Rule:
    return lambda value: value if type(value) is int and least <= value <= most else None


# -- the table -------------------------------------------------------------------------------------------------------

RULES: Mapping[str, Rule] = {
    "initiator": _text(_reduce_initiator),
    "version": _text(_reduce_penpot_version),
    "client-version": _text(_reduce_penpot_version),
    "client-user-agent": _text(reduce_user_agent),
    "locale": _text(_reduce_locale),
    "browser": _text(_known_word(BROWSERS)),
    "browser-version": _text(_reduce_version),
    "engine": _text(_known_word(ENGINES)),
    "engine-version": _text(_reduce_version),
    "os": _text(_reduce_system),
    "os-version": _text(_reduce_system_version),
    "device-type": _text(_known_word(DEVICES)),
    "device-arch": _text(_known_word(ARCHITECTURES)),
    "screen-width": _between(0, 100_000),
    "screen-height": _between(0, 100_000),
    "screen-color-depth": _between(0, 64),
    "screen-orientation": _text(_known_word(ORIENTATIONS)),
    "event-origin": _text(_reduce_origin),
    "event-namespace": _text(_reduce_namespace),
    "event-symbol": _text(_reduce_symbol),
}
"""What is left of the value of each safe key."""
