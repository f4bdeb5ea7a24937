"""Values to bytes: the codes of the format, byte for byte as Penpot writes them. What a type means is in `handlers`."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isnan
from struct import pack
from typing import Any, TypeAlias

from penpot_telemetry.errors import EncodeError
from penpot_telemetry.wire.fressian import codes
from penpot_telemetry.wire.fressian.values import Float32, Keyword, Value, as_key, from_key

WriteHandler: TypeAlias = Callable[["Writer", Any], None]


class Writer:
    """One message as it grows. The methods are what a handler may use."""

    __slots__ = ("_cache", "_structs", "handlers", "out")

    def __init__(self, handlers: Mapping[type[Value], WriteHandler]) -> None:
        self.out = bytearray()
        self.handlers = handlers
        self._cache: dict[Value, int] = {}
        self._structs: dict[tuple[Value, int], int] = {}

    def write(self, value: Value) -> bytes:
        """The message of one value."""
        try:
            self.write_object(value)
        except RecursionError:
            raise EncodeError("a value is nested too deep, or holds itself") from None
        return bytes(self.out)

    @property
    def cached(self) -> tuple[int, int]:
        """The entries of both caches: the same after a value that put nothing into them."""
        return len(self._cache), len(self._structs)

    def write_object(self, value: Value) -> None:
        """A value, whatever it is."""
        handler = self.handlers.get(type(value))
        if handler is None:
            handler = self._handler_of_base(type(value))
        handler(self, value)

    def write_int(self, number: int) -> None:
        """The shortest form; a negative number other than -1 has no form of one byte."""
        out = self.out
        if 0 <= number < 0x40:
            out.append(number)
            return
        if number == -1:
            out.append(codes.MINUS_ONE)
            return
        bits = (number if number >= 0 else ~number).bit_length()
        for most, zero, size in _INTS:
            if bits <= most:
                out.append(zero + (number >> 8 * size))
                out += (number & ((1 << 8 * size) - 1)).to_bytes(size, "big")
                return
        if bits > 63:
            raise EncodeError("an int of more than 64 bits: wrap it in BigInt")
        out.append(codes.INT)
        out += number.to_bytes(8, "big", signed=True)

    def write_text(self, text: str) -> None:
        """CESU-8; longer than 65,536 bytes in chunks that split no three-byte sequence."""
        raw = text.encode() if text.isascii() else _encode_text(text)
        size, start = len(raw), 0
        while size - start > codes.STRING_CHUNK_SIZE:
            stop = start + codes.STRING_CHUNK_SIZE
            while raw[stop] & 0xC0 == 0x80:
                stop -= 1
            self.out.append(codes.STRING_CHUNK)
            self.write_int(stop - start)
            self.out += raw[start:stop]
            start = stop
        self._write_size(size - start, codes.STRING_PACKED, codes.STRING)
        self.out += raw[start:] if start else raw

    def write_bytes(self, raw: bytes) -> None:
        """Bytes; longer than 65,535 in chunks, the last of which is never packed."""
        size, start = len(raw), 0
        while size - start > codes.BYTES_CHUNK_SIZE:
            self.out.append(codes.BYTES_CHUNK)
            self.write_int(codes.BYTES_CHUNK_SIZE)
            self.out += raw[start : start + codes.BYTES_CHUNK_SIZE]
            start += codes.BYTES_CHUNK_SIZE
        if start:
            self.out.append(codes.BYTES)
            self.write_int(size - start)
        else:
            self._write_size(size, codes.BYTES_PACKED, codes.BYTES)
        self.out += raw[start:] if start else raw

    def write_items(self, items: Sequence[Value]) -> None:
        """A list of a known length."""
        self.begin_list(len(items))
        for item in items:
            self.write_object(item)

    def begin_list(self, count: int) -> None:
        """The head of a list; `count` items must follow."""
        self._write_size(count, codes.LIST_PACKED, codes.LIST)

    def write_entries(self, entries: Iterable[tuple[Value, Value]]) -> None:
        """A closed list of keys and values; the keys go through the cache."""
        out, handlers, cache = self.out, self.handlers, self._cache
        out.append(codes.BEGIN_CLOSED_LIST)
        for key, value in entries:
            # A dict compares 1, 1.0 and True as equal; nothing but a string or a keyword is looked up as it is.
            slot = cache.get(key) if key.__class__ in _LOOKED_UP else None
            if slot is not None and slot < codes.PACKED_REFS:
                out.append(codes.CACHE_REF_PACKED + slot)
            else:
                self.write_key(key)
            handler = handlers.get(type(value)) or self._handler_of_base(type(value))
            handler(self, value)
        out.append(codes.END_COLLECTION)

    def write_key(self, value: Value) -> None:
        """A value that may come again: a map key, a namespace, a name. Its slot is taken before it is written."""
        key = as_key(value)
        slot = self._cache.get(key)
        if slot is None:
            value = from_key(key)
            if not _is_never_cached(value):
                self._cache[key] = len(self._cache)
                self.out.append(codes.CACHE_PUT)
            self.write_object(value)
        elif slot < codes.PACKED_REFS:
            self.out.append(codes.CACHE_REF_PACKED + slot)
        else:
            self.out.append(codes.CACHE_REF)
            self.write_int(slot)

    def take(self) -> bytes:
        """What was written since the last time, for a message that is put together elsewhere."""
        taken = bytes(self.out)
        self.out.clear()
        return taken

    def cached_key(self, value: Value) -> bytes:
        """The bytes of a key that the cache knows; none for another."""
        slot = self._cache.get(as_key(value))
        return b"" if slot is None else _reference(slot, codes.CACHE_REF_PACKED, codes.PACKED_REFS, codes.CACHE_REF)

    def cached_struct(self, tag: Value, count: int) -> bytes:
        """The head of a struct that the cache knows; none for another."""
        slot = self._structs.get((as_key(tag), count))
        return b"" if slot is None else _reference(slot, codes.STRUCT_PACKED, codes.PACKED_STRUCTS, codes.STRUCT)

    def begin_struct(self, tag: Value, count: int) -> None:
        """The head of a struct; `count` components must follow."""
        key = (as_key(tag), count)
        core = codes.CORE_TAGS.get(key)
        if core is not None:
            self.out.append(core)
            return
        slot = self._structs.get(key)
        if slot is None:
            self._structs[key] = len(self._structs)
            self.out.append(codes.STRUCTTYPE)
            self.write_object(tag)
            self.write_int(count)
        elif slot < codes.PACKED_STRUCTS:
            self.out.append(codes.STRUCT_PACKED + slot)
        else:
            self.out.append(codes.STRUCT)
            self.write_int(slot)

    def _write_size(self, size: int, packed: int, code: int) -> None:
        if size < codes.PACKED_LENGTHS:
            self.out.append(packed + size)
        else:
            self.out.append(code)
            self.write_int(size)

    def _handler_of_base(self, kind: type[Value]) -> WriteHandler:
        for base in kind.__mro__:
            if base in self.handlers:
                return self.handlers[base]
        raise EncodeError(f"a {kind.__name__} is no value of the format")


# ---------------------------------------------------------------------------------------------------- atoms


def _write_constant(writer: Writer, value: bool | None) -> None:
    writer.out.append(codes.NULL if value is None else codes.TRUE if value else codes.FALSE)


def _write_float(writer: Writer, number: Float32) -> None:
    writer.out.append(codes.FLOAT)
    writer.out += number.bits


def _write_double(writer: Writer, number: float) -> None:
    if number == 0.0:
        writer.out.append(codes.DOUBLE_0)  # -0.0 too: the format loses its sign
    elif number == 1.0:
        writer.out.append(codes.DOUBLE_1)
    else:
        writer.out.append(codes.DOUBLE)
        writer.out += _NAN if isnan(number) else pack(">d", number)


def _reference(slot: int, packed: int, most: int, code: int) -> bytes:
    if slot < most:
        return bytes((packed + slot,))
    writer = Writer({})
    writer.out.append(code)
    writer.write_int(slot)
    return bytes(writer.out)


def _encode_text(text: str) -> bytes:
    if max(text) > "\uffff":
        text = _ASTRAL.sub(_split_surrogates, text)
    return text.encode("utf-8", "surrogatepass")


def _split_surrogates(match: re.Match[str]) -> str:
    offset = ord(match[0]) - 0x10000
    return chr(0xD800 + (offset >> 10)) + chr(0xDC00 + (offset & 0x3FF))


def _is_never_cached(value: Value) -> bool:
    """Whatever costs one or two bytes (and the two constant doubles): a reference would save nothing."""
    if value is None or value is True or value is False or value == "":
        return True
    if type(value) is int:
        return -4096 <= value < 4096
    return type(value) is float and value in {0.0, 1.0}


# ---------------------------------------------------------------------------------------------------- the tables

_INTS = (
    (12, codes.INT_PACKED_2, 1),
    (19, codes.INT_PACKED_3, 2),
    (25, codes.INT_PACKED_4, 3),
    (33, codes.INT_PACKED_5, 4),
    (41, codes.INT_PACKED_6, 5),
    (49, codes.INT_PACKED_7, 6),
)
"""The most bits beside the sign, the code of a zero high part, the bytes that follow."""

_LOOKED_UP = {Keyword, str}

_NAN = b"\x7f\xf8\x00\x00\x00\x00\x00\x00"
_ASTRAL = re.compile("[\U00010000-\U0010ffff]")

WRITE_ATOMS: dict[type[Value], WriteHandler] = {
    type(None): _write_constant,
    bool: _write_constant,
    int: Writer.write_int,
    float: _write_double,
    Float32: _write_float,
    str: Writer.write_text,
    bytes: Writer.write_bytes,
}
