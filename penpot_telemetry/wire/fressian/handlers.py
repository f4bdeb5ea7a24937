"""What each tag means, in both directions: Penpot's own tags and those of the format. The tables are at the foot."""

from collections import Counter
from datetime import datetime
from decimal import Decimal
from functools import partial
from uuid import UUID

from penpot_telemetry.errors import DecodeError, LimitError
from penpot_telemetry.wire.fressian import codes, values
from penpot_telemetry.wire.fressian.reader import Reader, ReadHandler
from penpot_telemetry.wire.fressian.values import Value, as_key
from penpot_telemetry.wire.fressian.writer import WRITE_ATOMS, WriteHandler, Writer

_ARRAY_MAP = 8
"""Up to so many entries the JVM keeps a map as an array, where the first of two equal keys is found."""

_BIGINT_BYTES = 1024
"""No honest number is longer, and the decimal digits of a longer one cost Python seconds or an error."""

_MANY_KEYS = 256
_SAME_HASH = 32
"""Ints, uuids and decimals can be chosen to share one hash, which makes a dict of n keys cost n² steps."""


# ---------------------------------------------------------------------------------------------------- names


def _read_keyword(reader: Reader) -> values.Keyword:
    namespace, name = _read_name(reader)
    return values.Keyword(name, namespace)


def _write_keyword(writer: Writer, keyword: values.Keyword) -> None:
    writer.begin_struct("clj/keyword", 2)
    writer.write_key(keyword.ns)
    writer.write_key(keyword.name)


def _read_symbol(reader: Reader) -> values.Symbol:
    namespace, name = _read_name(reader)
    return values.Symbol(name, namespace)


def _write_symbol(writer: Writer, symbol: values.Symbol) -> None:
    writer.begin_struct("clj/symbol", 2)
    writer.write_key(symbol.ns)
    writer.write_key(symbol.name)


def _read_name(reader: Reader) -> tuple[str | None, str]:
    start = reader.pos
    namespace = reader.read_component()
    if namespace is not None and type(namespace) is not str:
        raise DecodeError("expected a string or nil as a namespace", start)
    return namespace, reader.read_text()


def _read_char(reader: Reader) -> values.Char:
    start = reader.pos
    unit = reader.read_int()
    if not 0 <= unit <= 0xFFFF:
        raise DecodeError(f"{unit} is no char", start)
    return values.Char(chr(unit))


def _write_char(writer: Writer, char: values.Char) -> None:
    writer.begin_struct("char", 1)
    writer.write_int(ord(char.value))


# ---------------------------------------------------------------------------------------------------- numbers


def _read_bigint(reader: Reader) -> values.BigInt:
    return values.BigInt(_read_unbounded_int(reader))


def _write_bigint(writer: Writer, number: values.BigInt) -> None:
    writer.begin_struct("clj/bigint", 1)
    _write_unbounded_int(writer, number.value)


def _read_bigdec(reader: Reader) -> values.BigDec:
    unscaled = _read_unbounded_int(reader)
    start = reader.pos
    scale = reader.read_int()
    if not -(2**31) <= scale < 2**31:
        raise DecodeError(f"{scale} is no scale of a decimal", start)
    return values.BigDec(unscaled, scale)


def _write_bigdec(writer: Writer, number: values.BigDec) -> None:
    writer.begin_struct("bigdec", 2)
    _write_unbounded_int(writer, number.unscaled)
    writer.write_int(number.scale)


def _write_decimal(writer: Writer, number: Decimal) -> None:
    _write_bigdec(writer, values.BigDec.of(number))


def _read_ratio(reader: Reader) -> values.Ratio:
    return values.Ratio(_read_ratio_part(reader), _read_ratio_part(reader))


def _write_ratio(writer: Writer, ratio: values.Ratio) -> None:
    writer.begin_struct("clj/ratio", 2)
    for part in (ratio.numerator, ratio.denominator):
        writer.begin_struct("bigint", 1)
        _write_unbounded_int(writer, part)


def _read_ratio_part(reader: Reader) -> int:
    start = reader.pos
    part = reader.read_component()
    if type(part) is values.BigInt:
        return part.value
    if type(part) is int:
        return part
    raise DecodeError("expected a bigint as a part of a ratio", start)


def _read_unbounded_int(reader: Reader) -> int:
    start = reader.pos
    raw = reader.read_bytes()
    if not raw:
        raise DecodeError("a bigint of no bytes", start)
    if len(raw) > _BIGINT_BYTES:
        raise LimitError(f"a bigint of {len(raw)} bytes, the cap is {_BIGINT_BYTES}", start)
    return int.from_bytes(raw, "big", signed=True)


def _write_unbounded_int(writer: Writer, number: int) -> None:
    bits = (number if number >= 0 else ~number).bit_length()
    writer.write_bytes(number.to_bytes(bits // 8 + 1, "big", signed=True))


# ---------------------------------------------------------------------------------------------------- moments


def _read_instant(reader: Reader) -> values.Instant:
    return values.Instant(reader.read_int())


def _write_instant(writer: Writer, instant: values.Instant) -> None:
    writer.begin_struct("java/instant", 1)
    writer.write_int(instant.ms)


def _write_datetime(writer: Writer, moment: datetime) -> None:
    _write_instant(writer, values.Instant.of(moment))


def _read_date(reader: Reader) -> values.Date:
    return values.Date(reader.read_int())


def _write_date(writer: Writer, date: values.Date) -> None:
    writer.begin_struct("inst", 1)
    writer.write_int(date.ms)


# ---------------------------------------------------------------------------------------------------- texts


def _read_uuid(reader: Reader) -> UUID:
    start = reader.pos
    raw = reader.read_bytes()
    if len(raw) != 16:
        raise DecodeError(f"a uuid of {len(raw)} bytes", start)
    # A profile or a team comes again and again, and making a UUID takes a microsecond.
    uuid = reader.memo.get(raw)
    if uuid is None:
        uuid = reader.memo[raw] = UUID(bytes=raw)
    return uuid


def _write_uuid(writer: Writer, uuid: UUID) -> None:
    writer.begin_struct("uuid", 1)
    writer.write_bytes(uuid.bytes)


def _read_regex(reader: Reader) -> values.Regex:
    return values.Regex(reader.read_text())


def _write_regex(writer: Writer, regex: values.Regex) -> None:
    writer.begin_struct("regex", 1)
    writer.write_text(regex.pattern)


def _read_uri(reader: Reader) -> values.Uri:
    return values.Uri(reader.read_text())


def _write_uri(writer: Writer, uri: values.Uri) -> None:
    writer.begin_struct("uri", 1)
    writer.write_text(uri.value)


# ---------------------------------------------------------------------------------------------------- sequences


def _read_vector(reader: Reader) -> list[Value]:
    return _read_items(reader)


def _read_items(reader: Reader) -> list[Value]:
    """The items of a list, none for nil: Penpot reads these tags with functions that take nil for an empty list."""
    if reader.data[reader.pos] == codes.NULL:
        reader.pos += 1
        return []
    return reader.read_items()


def _write_vector(writer: Writer, items: list[Value]) -> None:
    writer.begin_struct("clj/vector", 1)
    writer.write_items(items)


def _read_seq(reader: Reader) -> tuple[Value, ...]:
    return tuple(_read_items(reader))


def _write_seq(writer: Writer, items: tuple[Value, ...]) -> None:
    writer.begin_struct("clj/seq", 1)
    writer.write_items(items)


def _write_java_list(writer: Writer, items: values.JavaList) -> None:
    writer.write_items(items)


# ---------------------------------------------------------------------------------------------------- maps


def _read_map(reader: Reader) -> dict[Value, Value]:
    start = reader.pos
    return make_map(reader.read_items(), start)


def make_map(items: list[Value], start: int) -> dict[Value, Value]:
    """Keys and values in turn as the map that Penpot would make of them; `start` is where they were read."""
    keys, entries = _split_entries(items, start)
    mapping = dict(zip(keys, entries, strict=True))
    if len(mapping) < len(keys) <= _ARRAY_MAP:
        for key, entry in zip(reversed(keys), reversed(entries), strict=True):
            mapping[key] = entry
    return mapping


def _write_map(writer: Writer, mapping: dict[Value, Value]) -> None:
    writer.begin_struct("clj/map", 1)
    writer.write_entries(mapping.items())


def _read_linked_map(reader: Reader) -> values.LinkedMap:
    start = reader.pos
    return values.LinkedMap(zip(*_split_entries(_read_items(reader), start), strict=True))


def _write_linked_map(writer: Writer, mapping: values.LinkedMap) -> None:
    writer.begin_struct("linked/map", 1)
    writer.write_entries(mapping.items())


def _read_java_map(reader: Reader) -> values.JavaMap:
    start = reader.pos
    return values.JavaMap(zip(*_split_entries(reader.read_items(), start), strict=True))


def _write_java_map(writer: Writer, mapping: values.JavaMap) -> None:
    writer.begin_struct("map", 1)
    writer.write_items([part for key, entry in mapping.items() for part in (values.from_key(key), entry)])


def _split_entries(items: list[Value], start: int) -> tuple[list[Value], list[Value]]:
    if len(items) % 2:
        raise DecodeError("a map with a key that has no value", start)
    bare = values.BARE
    keys = [key if type(key) in bare else as_key(key) for key in items[::2]]
    _refuse_flood(keys, start)
    return keys, items[1::2]


# ---------------------------------------------------------------------------------------------------- sets


def _read_set(reader: Reader) -> values.Set:
    return values.Set(_distinct(reader.pos, _read_items(reader)))


def _read_linked_set(reader: Reader) -> values.LinkedSet:
    return values.LinkedSet(_distinct(reader.pos, _read_items(reader)))


def _read_java_set(reader: Reader) -> values.JavaSet:
    return values.JavaSet(_distinct(reader.pos, reader.read_items()))


def _distinct(start: int, items: list[Value]) -> list[Value]:
    keys = [as_key(item) for item in items]
    _refuse_flood(keys, start)
    return keys


def _write_set(writer: Writer, members: values.Set) -> None:
    writer.begin_struct("clj/set", 1)
    writer.write_items(list(members))


def _write_linked_set(writer: Writer, members: values.LinkedSet) -> None:
    writer.begin_struct("linked/set", 1)
    writer.write_items(list(members))


def _write_java_set(writer: Writer, members: values.JavaSet) -> None:
    writer.begin_struct("set", 1)
    writer.write_items(list(members))


def _write_python_set(writer: Writer, members: set[Value] | frozenset[Value]) -> None:
    # Python's own order of strings changes from run to run; their bytes do not.
    writer.begin_struct("clj/set", 1)
    writer.write_items(sorted(members, key=lambda member: Writer(writer.handlers).write(member)))


def _refuse_flood(keys: list[Value], start: int) -> None:
    if len(keys) > _MANY_KEYS and max(Counter(map(hash, keys)).values()) > _SAME_HASH:
        raise LimitError(f"more than {_SAME_HASH} of {len(keys)} keys share one hash", start)


# ---------------------------------------------------------------------------------------------------- arrays


def _read_array(reader: Reader, of: values.ArrayOf, kind: type[Value], low: int = 0, high: int = 0) -> values.Array:
    start = reader.pos
    items = reader.read_values(reader.read_count())
    for item in items:
        if kind is not object and type(item) is not kind:
            raise DecodeError(f"a {type(item).__name__} in an array of {of}", start)
        if high and not low <= item <= high:
            raise DecodeError(f"{item} in an array of {of}", start)
    return values.Array(of, tuple(items))


def _write_array(writer: Writer, array: values.Array) -> None:
    writer.begin_struct(_ARRAY_TAGS[array.of], 1)
    writer.write_int(len(array.items))
    for item in array.items:
        writer.write_object(item)


# ---------------------------------------------------------------------------------------------------- the rest


def _write_tagged(writer: Writer, tagged: values.Tagged) -> None:
    writer.begin_struct(tagged.tag, len(tagged.value))
    for component in tagged.value:
        writer.write_object(component)


def _write_wrapped(writer: Writer, key: values.Key) -> None:
    writer.write_object(key.value)


# ---------------------------------------------------------------------------------------------------- the tables

_ARRAY_TAGS: dict[values.ArrayOf, str] = {
    "long": "long[]",
    "double": "double[]",
    "boolean": "boolean[]",
    "int": "int[]",
    "float": "float[]",
    "object": "Object[]",
}

READ: dict[Value, ReadHandler] = {
    "clj/keyword": _read_keyword,
    "clj/symbol": _read_symbol,
    "char": _read_char,
    "clj/bigint": _read_bigint,
    "bigint": _read_bigint,
    "bigdec": _read_bigdec,
    "clj/ratio": _read_ratio,
    "ratio": _read_ratio,
    "java/instant": _read_instant,
    "inst": _read_date,
    "uuid": _read_uuid,
    "regex": _read_regex,
    "uri": _read_uri,
    "clj/vector": _read_vector,
    "clj/seq": _read_seq,
    "clj/list": _read_seq,
    "clj/map": _read_map,
    "linked/map": _read_linked_map,
    "map": _read_java_map,
    "clj/set": _read_set,
    "linked/set": _read_linked_set,
    "set": _read_java_set,
    "long[]": partial(_read_array, of="long", kind=int),
    "double[]": partial(_read_array, of="double", kind=float),
    "boolean[]": partial(_read_array, of="boolean", kind=bool),
    "int[]": partial(_read_array, of="int", kind=int, low=-(2**31), high=2**31 - 1),
    "float[]": partial(_read_array, of="float", kind=values.Float32),
    "Object[]": partial(_read_array, of="object", kind=object),
}

WRITE: dict[type[Value], WriteHandler] = {
    **WRITE_ATOMS,
    values.Keyword: _write_keyword,
    values.Symbol: _write_symbol,
    values.Char: _write_char,
    values.BigInt: _write_bigint,
    values.BigDec: _write_bigdec,
    Decimal: _write_decimal,
    values.Ratio: _write_ratio,
    values.Instant: _write_instant,
    datetime: _write_datetime,
    values.Date: _write_date,
    UUID: _write_uuid,
    values.Regex: _write_regex,
    values.Uri: _write_uri,
    list: _write_vector,
    tuple: _write_seq,
    values.JavaList: _write_java_list,
    dict: _write_map,
    values.LinkedMap: _write_linked_map,
    values.JavaMap: _write_java_map,
    values.Set: _write_set,
    values.LinkedSet: _write_linked_set,
    values.JavaSet: _write_java_set,
    set: _write_python_set,
    frozenset: _write_python_set,
    values.Array: _write_array,
    values.Tagged: _write_tagged,
    values.Key: _write_wrapped,
}
