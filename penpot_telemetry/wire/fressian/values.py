"""What fressian values are in Python, how they compare, and how they look as JSON.

Natural in both directions: None, bool, str, int (a Java long), float (a double), bytes, uuid.UUID, `dict` (clj/map),
`list` (clj/vector), `tuple` (clj/seq). Everything else has a small frozen type below. Decoded lists and dicts may be
shared, because the format has references: treat them as frozen.

Java tells 1, 1.0 and true apart, and takes a list or a map as a map key; a Python dict does neither. So a key that
Python would confuse or refuse stands in a decoded dict as `Key(value)`, which compares as Java does; strings,
keywords, ints, uuids and the other scalars stand as themselves.
"""

import base64
import json
import math
import struct
import threading
import uuid
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, NoReturn, TypeAlias
from weakref import WeakValueDictionary

from penpot_telemetry.errors import EncodeError, LimitError

Value: TypeAlias = Any
"""A decoded value: one of the types this module's docstring names."""

Json: TypeAlias = Any
"""What `json.dumps` takes: None, bool, int, finite float, str, list, dict with str keys."""

# ---------------------------------------------------------------------------------------------------- names


class Keyword:
    """`:ns/name`. Interned: two keywords of one name are one object, so they compare and hash by identity.

    >>> Keyword("browser"), Keyword("origin", "app.main"), Keyword("browser") is Keyword("browser")
    (:browser, :app.main/origin, True)
    """

    __slots__ = ("__weakref__", "name", "ns")

    name: str
    ns: str | None

    def __new__(cls, name: str, ns: str | None = None) -> "Keyword":
        # Weak, so that hostile input cannot fill the table for good.
        found = _keywords.get((ns, name))
        if found is None:
            with _keywords_lock:
                found = _keywords.get((ns, name))
                if found is None:
                    found = object.__new__(cls)
                    object.__setattr__(found, "name", name)
                    object.__setattr__(found, "ns", ns)
                    _keywords[(ns, name)] = found
        return found

    def __setattr__(self, attribute: str, value: object) -> NoReturn:
        raise AttributeError(f"a keyword is frozen: cannot set {attribute}")

    def __reduce__(self) -> tuple[type["Keyword"], tuple[str, str | None]]:
        return Keyword, (self.name, self.ns)

    def __str__(self) -> str:
        return self.name if self.ns is None else f"{self.ns}/{self.name}"

    def __repr__(self) -> str:
        return f":{self}"


_keywords: "WeakValueDictionary[tuple[str | None, str], Keyword]" = WeakValueDictionary()
_keywords_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Symbol:
    """A Clojure symbol, `ns/name`."""

    name: str
    ns: str | None = None

    def __str__(self) -> str:
        return self.name if self.ns is None else f"{self.ns}/{self.name}"


@dataclass(frozen=True, slots=True)
class Char:
    """One UTF-16 unit, so possibly one half of a surrogate pair."""

    value: str

    def __post_init__(self) -> None:
        if len(self.value) != 1 or self.value > "\uffff":
            raise EncodeError("a char is exactly one UTF-16 unit")


# ---------------------------------------------------------------------------------------------------- numbers


@dataclass(frozen=True, slots=True)
class BigInt:
    """A Clojure BigInt: another type than a long, even where the number is the same."""

    value: int


@dataclass(frozen=True, slots=True)
class BigDec:
    """`unscaled` divided by ten to the power of `scale`. Java tells 1.0 from 1.00, so this does too."""

    unscaled: int
    scale: int

    @classmethod
    def of(cls, number: Decimal) -> "BigDec":
        """A finite Decimal, with its trailing zeros."""
        sign, digits, exponent = number.as_tuple()
        if not isinstance(exponent, int):
            raise EncodeError("a decimal must be finite")
        unscaled = int("".join(map(str, digits)))
        return cls(-unscaled if sign else unscaled, -exponent)

    def decimal(self) -> Decimal:
        """The same number as a Decimal."""
        sign = 1 if self.unscaled < 0 else 0
        return Decimal((sign, tuple(map(int, str(abs(self.unscaled)))), -self.scale))


@dataclass(frozen=True, slots=True)
class Ratio:
    """A Clojure ratio, as its two parts."""

    numerator: int
    denominator: int

    def __str__(self) -> str:
        return f"{self.numerator}/{self.denominator}"


@dataclass(frozen=True, slots=True, eq=False)
class Float32:
    """A Java float; rounded to single precision, compared by its bits."""

    value: float

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "value", struct.unpack(">f", struct.pack(">f", self.value))[0])
        except OverflowError:
            raise EncodeError("a float needs a number of single precision") from None

    @property
    def bits(self) -> bytes:
        """Its four bytes; every NaN is the same one."""
        return b"\x7f\xc0\x00\x00" if self.value != self.value else struct.pack(">f", self.value)

    def __eq__(self, other: object) -> bool:
        return self.bits == other.bits if isinstance(other, Float32) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.bits)


# ---------------------------------------------------------------------------------------------------- instants

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = 86_400_000
_DAYS_0000 = 719_468
"""Days from 0000-03-01 to 1970-01-01: a year that starts in March has its leap day last."""
_DAYS_ERA = 146_097
_LAST_PLAIN_YEAR = 9999


def iso(ms: int) -> str:
    """Epoch milliseconds as ISO 8601 in UTC, any year; the fraction only when it is not zero.

    >>> iso(1784505600000), iso(-1), iso(2**63 - 1)
    ('2026-07-20T00:00:00Z', '1969-12-31T23:59:59.999Z', '+292278994-08-17T07:12:55.807Z')
    """
    days, rest = divmod(ms, _DAY)
    era, day = divmod(days + _DAYS_0000, _DAYS_ERA)
    year_of_era = (day - day // 1460 + day // 36_524 - day // 146_096) // 365
    day_of_year = day - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * day_of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    year = year_of_era + era * 400 + (month <= 2)
    sign = "+" if year > _LAST_PLAIN_YEAR else "-" if year < 0 else ""
    seconds, milli = divmod(rest, 1000)
    fraction = f".{milli:03d}" if milli else ""
    return (
        f"{sign}{abs(year):04d}-{month:02d}-{day_of_year - (153 * shifted + 2) // 5 + 1:02d}"
        f"T{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{fraction}Z"
    )


@dataclass(frozen=True, slots=True, order=True)
class Instant:
    """A java.time.Instant as epoch milliseconds: exact, and not bound to datetime's years."""

    ms: int

    @classmethod
    def of(cls, moment: datetime) -> "Instant":
        """An aware datetime, cut to the millisecond (towards the past)."""
        if moment.tzinfo is None:
            raise EncodeError("a datetime needs a time zone: without one it is no instant")
        return cls((moment - _EPOCH) // timedelta(milliseconds=1))

    def datetime(self) -> datetime:
        """The same moment in UTC; OverflowError outside the years 1 to 9999."""
        return _EPOCH + timedelta(milliseconds=self.ms)

    def __str__(self) -> str:
        return iso(self.ms)


@dataclass(frozen=True, slots=True, order=True)
class Date:
    """A java.util.Date as epoch milliseconds: the same moment as an Instant, another type and other bytes."""

    ms: int

    def datetime(self) -> datetime:
        """The same moment in UTC; OverflowError outside the years 1 to 9999."""
        return _EPOCH + timedelta(milliseconds=self.ms)

    def __str__(self) -> str:
        return iso(self.ms)


# ---------------------------------------------------------------------------------------------------- texts


@dataclass(frozen=True, slots=True)
class Regex:
    """A java.util.regex.Pattern, as its text: never compiled here."""

    pattern: str

    def __str__(self) -> str:
        return self.pattern


@dataclass(frozen=True, slots=True)
class Uri:
    """A java.net.URI, as its text: never resolved here."""

    value: str

    def __str__(self) -> str:
        return self.value


# ---------------------------------------------------------------------------------------------------- collections


class JavaList(list[Value]):
    """A java.util.List: the bare list of the format, without a tag."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"JavaList({super().__repr__()})"


class JavaMap(dict[Value, Value]):
    """A java.util.Map: the core map of the format, without a tag."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"JavaMap({super().__repr__()})"


class LinkedMap(dict[Value, Value]):
    """A linked/map: Penpot's map that keeps its order."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"LinkedMap({super().__repr__()})"


class Set(AbstractSet[Value]):
    """A clj/set: any members, compared as in Java, in the order of the bytes.

    >>> Set([1, True, 1.0, [1, 2], (1, 2)])
    Set([1, True, 1.0, [1, 2]])
    """

    __slots__ = ("_members",)

    def __init__(self, members: Iterable[Value] = ()) -> None:
        self._members: dict[Value, None] = dict.fromkeys(map(as_key, members))

    def __contains__(self, member: object) -> bool:
        return as_key(member) in self._members

    def __iter__(self) -> Iterator[Value]:
        return map(from_key, self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __hash__(self) -> int:
        return hash(frozenset(self._members))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self)!r})"


class JavaSet(Set):
    """A java.util.Set: the core set of the format, without a tag."""

    __slots__ = ()


class LinkedSet(Set):
    """A linked/set: Penpot's set that keeps its order."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, eq=False)
class Tagged:
    """A struct whose tag nobody here knows, with its components."""

    tag: Value
    value: tuple[Value, ...]

    def __eq__(self, other: object) -> bool:
        return canonical(self) == canonical(other) if isinstance(other, Tagged) else NotImplemented

    def __hash__(self) -> int:
        return hash(canonical(self))


ArrayOf = Literal["long", "double", "boolean", "int", "float", "object"]


@dataclass(frozen=True, slots=True, eq=False)
class Array:
    """A Java array: ints in `long` and `int`, floats in `double`, `Float32` in `float`, bools in `boolean`."""

    of: ArrayOf
    items: tuple[Value, ...]

    def __eq__(self, other: object) -> bool:
        return canonical(self) == canonical(other) if isinstance(other, Array) else NotImplemented

    def __hash__(self) -> int:
        return hash(canonical(self))


# ---------------------------------------------------------------------------------------------------- comparison


class Key:
    """A map key that Python would confuse with another (1.0, True) or refuse (a list): it compares as Java does.

    >>> {1: "long", Key(1.0): "double", Key(True): "boolean"}
    {1: 'long', Key(1.0): 'double', Key(True): 'boolean'}
    >>> Key([1, 2]) == Key((1, 2)), Key(float("nan")) == Key(float("nan"))
    (True, True)
    """

    __slots__ = ("_hash", "canon", "value")

    value: Value
    canon: Value

    def __init__(self, value: Value) -> None:
        canon = canonical(value)
        object.__setattr__(self, "value", value)
        object.__setattr__(self, "canon", canon)
        object.__setattr__(self, "_hash", hash(canon))

    def __setattr__(self, attribute: str, value: object) -> NoReturn:
        raise AttributeError(f"a key is frozen: cannot set {attribute}")

    def __reduce__(self) -> tuple[type["Key"], tuple[Value]]:
        return Key, (self.value,)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Key):
            return NotImplemented
        return self._hash == other._hash and bool(self.canon == other.canon)  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return self._hash  # type: ignore[attr-defined, no-any-return]

    def __repr__(self) -> str:
        return f"Key({self.value!r})"


BARE: frozenset[type[Value]] = frozenset(
    (type(None), str, int, bytes, uuid.UUID, Keyword, Symbol, Char, BigInt, BigDec, Ratio, Float32, Instant, Date)
) | {Regex, Uri, Key}
"""Types whose Python equality is already Java's, so that they stand as keys by themselves."""


def as_key(value: Value) -> Value:
    """A value as it stands in a dict: itself, or wrapped in `Key`."""
    if type(value) in BARE:
        return value
    key = Key(value)
    return key.canon if type(key.canon) in BARE else key


def from_key(key: Value) -> Value:
    """What a dict key stands for."""
    return key.value if type(key) is Key else key


def canonical(value: Value) -> Value:
    """A hashable form that is equal for two values exactly when Java's `equals` holds between them."""
    kind = type(value)
    if kind is Key:
        return value.canon
    if kind in BARE:
        return value
    if isinstance(value, bool):
        return (bool, value)
    if isinstance(value, float):
        return (float, value.hex())
    if isinstance(value, list | tuple):
        return (list, *map(canonical, value))
    if isinstance(value, dict):
        return (dict, frozenset((as_key(key), canonical(entry)) for key, entry in value.items()))
    if isinstance(value, AbstractSet):
        return (set, frozenset(map(as_key, value)))
    if isinstance(value, Tagged):
        return (Tagged, canonical(value.tag), *map(canonical, value.value))
    if isinstance(value, Array):
        return (Array, value.of, *map(canonical, value.items))
    return _canonical_natural(value)


def _canonical_natural(value: Value) -> Value:
    """A Python value that only the writer meets, as the value the reader will give for it."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, datetime):
        return Instant.of(value)
    if isinstance(value, Decimal):
        return BigDec.of(value)
    return value


# ---------------------------------------------------------------------------------------------------- as JSON


def plain(value: Value) -> Json:
    """A value as JSON would carry it, for people and frames; it reads well and forgets types.

    Uuids, instants (ISO 8601), keywords, chars, ratios and decimals become strings, bytes base64 text, NaN and the
    infinities null, sets arrays in the order of their JSON text, map keys their plain text, a lone surrogate U+FFFD.

    >>> plain({Keyword("initiator"): Keyword("app"), Keyword("at"): Instant(1784505600000), 1: Ratio(1, 3)})
    {'initiator': 'app', 'at': '2026-07-20T00:00:00Z', '1': '1/3'}
    """
    try:
        return _plain(value)
    except RecursionError:
        raise LimitError("a value is nested too deep to be written as JSON") from None


def _plain(value: Value) -> Json:
    kind = type(value)
    if kind is str:
        return value if value.isascii() else _well_formed(value)
    if kind is dict:
        return {_plain_key(key): _plain(entry) for key, entry in value.items()}
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float | Float32):
        number = value.value if isinstance(value, Float32) else value
        return number if math.isfinite(number) else None
    if isinstance(value, uuid.UUID | Ratio):
        return str(value)
    if isinstance(value, Instant | Date):
        return iso(value.ms)
    return _plain_rare(value)


def _plain_rare(value: Value) -> Json:
    if isinstance(value, str | Keyword | Symbol | Regex | Uri):
        return _well_formed(str(value))
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {_plain_key(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, AbstractSet):
        return sorted(map(_plain, value), key=_json_text)
    if isinstance(value, Tagged):
        return {"tag": _plain(value.tag), "value": [_plain(item) for item in value.value]}
    if isinstance(value, Array):
        return [_plain(item) for item in value.items]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, BigInt):
        return value.value
    if isinstance(value, BigDec):
        return str(value.decimal())
    if isinstance(value, Char):
        return _well_formed(value.value)
    if isinstance(value, datetime):
        return iso(Instant.of(value).ms)
    raise EncodeError(f"a {type(value).__name__} is no value of the format")


def _plain_key(key: Value) -> str:
    text = _plain(from_key(key))
    return text if isinstance(text, str) else _json_text(text)


def _json_text(value: Json) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _well_formed(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
