"""Bytes to values: the codes of the format. What a tag means is told from outside, in `handlers`.

Whatever the bytes are, the outcome is a value or a DecodeError. Every declared length is held against the bytes that
remain before memory is taken; depth, strings, the memory of the values and what references repeat are capped.
"""

from collections.abc import Callable, Mapping
from struct import unpack_from
from typing import Literal, NamedTuple, NoReturn, TypeAlias

from penpot_telemetry.errors import DecodeError, LimitError
from penpot_telemetry.wire.fressian import codes
from penpot_telemetry.wire.fressian.values import BARE, Float32, JavaList, Keyword, Tagged, Value
from penpot_telemetry.wire.limits import MIB, Limits

ReadHandler: TypeAlias = Callable[["Reader"], Value]

MEMORY = 512 * MIB
"""What the values of one message may weigh in Python, estimated; and again what its references may repeat.

One byte can stand for an empty map of 64 bytes, or for a cached list of a million items: a cap on the bytes is not
enough. A batch of 10,000 events weighs about 75 MiB. A reader of batches is given less, see `limits.Limits.event`.
"""

ITEM = 64
STRUCT = 192
_BLOCK = 32

Defect = Literal["wrong-type", "too-long", "too-deep"]
"""What can be wrong with a value whose end can be found all the same."""


class TooDeepError(LimitError):
    """Values are nested deeper than the cap."""


class DefectError(LimitError):
    """A reference to a value that was not taken when it was written out."""

    def __init__(self, defect: Defect, offset: int) -> None:
        super().__init__(f"a reference to a value that is {defect}", offset)
        self.defect: Defect = defect


class Defective(NamedTuple):
    """In a slot of the priority cache: what is left of a value that was not taken. Only `lenient` puts one there."""

    value: Value
    defect: Defect
    weight: int


def defect_of(error: DecodeError | RecursionError) -> Defect:
    """What is wrong with the value at which reading stopped."""
    if isinstance(error, DefectError):
        return error.defect
    if isinstance(error, TooDeepError | RecursionError):
        return "too-deep"
    return "too-long" if isinstance(error, LimitError) else "wrong-type"


class Position(NamedTuple):
    """A place in a message, and all that reading on from there changes."""

    pos: int
    cache: list[tuple[Value, int] | None]
    slots: int
    structs: list[tuple["ReadHandler | None", Value, int]]
    tags: int
    depth: int
    room: int
    repeats: int
    resets: int
    base: int


class Reader:
    """One message and the place in it. The public names are what a handler may use; `memo` is its to fill.

    `most` (MEMORY, if it is 0) is what the values that are held at once may weigh, and again what references repeat;
    `work` (as much, if it is 0) what all that are ever read may weigh together, and is not given back.
    """

    __slots__ = (
        "_base",
        "_cache",
        "_depth",
        "_most",
        "_repeats",
        "_resets",
        "_room",
        "_structs",
        "_work",
        "data",
        "end",
        "handlers",
        "limits",
        "memo",
        "pos",
    )

    def __init__(
        self, data: bytes, limits: Limits, handlers: Mapping[Value, ReadHandler], most: int = 0, work: int = 0
    ) -> None:
        self.data = data
        self.pos = 0
        self.end = len(data)
        self.limits = limits
        self.handlers = handlers
        self._depth = limits.depth
        self._most = self._room = most or MEMORY
        self._work = work or self._most
        self._repeats = 0
        self._resets = 0
        self._base = 0
        self.memo: dict[bytes, Value] = {}
        self._cache: list[tuple[Value, int] | None] = []
        self._structs: list[tuple[ReadHandler | None, Value, int]] = []

    def read(self) -> Value:
        """The first value of the message; what follows it is not looked at."""
        try:
            return self.read_object()
        except IndexError:
            # A code was to be read where the data ends; every other length is checked where it is declared.
            raise self._ends_early(self.end) from None
        except RecursionError:
            raise TooDeepError("values are nested deeper than the stack allows", self.pos) from None

    def read_object(self) -> Value:
        """The next value, whatever it is."""
        pos = self.pos
        code = self.data[pos]
        self.pos = pos + 1
        return _READ[code](self, code)

    def read_component(self) -> Value:
        """The next value, one level down: a component of a struct."""
        self.enter()
        value = self.read_object()
        self._depth += 1
        return value

    def read_int(self) -> int:
        """The next value, which must be an int."""
        start = self.pos
        code = self.data[start]
        if code < codes.CACHE_REF_PACKED:  # nearly always, and no other code below is anything but an int
            self.pos = start + 1
            return code if code < 0x40 else _read_int_packed(self, code)
        value = self.read_component()
        if type(value) is not int:
            raise DecodeError(f"expected an int, found {_name(value)}", start)
        return value

    def read_text(self) -> str:
        """The next value, which must be a string."""
        start = self.pos
        value = self.read_component()
        if type(value) is not str:
            raise DecodeError(f"expected a string, found {_name(value)}", start)
        return value

    def read_bytes(self) -> bytes:
        """The next value, which must be bytes."""
        start = self.pos
        if self.data[start] == codes.BYTES:
            self.pos = start + 1
            return _read_bytes(self, codes.BYTES)
        value = self.read_component()
        if type(value) is not bytes:
            raise DecodeError(f"expected bytes, found {_name(value)}", start)
        return value

    def read_items(self) -> list[Value]:
        """The items of the next value, which must be a list; for the caller to keep."""
        start = self.pos
        read_list = _LISTS.get(self.data[start])
        if read_list is not None:
            self.pos = start + 1
            return read_list(self, self.data[start])
        value = self.read_component()
        if isinstance(value, list | tuple):
            return list(value)
        raise DecodeError(f"expected a list, found {_name(value)}", start)

    def read_count(self) -> int:
        """A declared number of things to come, each of at least one byte: held against what remains."""
        start = self.pos
        count = self.read_int()
        if not 0 <= count <= self.end - self.pos:
            raise self._bad_length(count, start)
        return count

    def read_values(self, count: int) -> list[Value]:
        """Exactly `count` values, one level down."""
        self.enter()
        self.take(count * ITEM)
        data, read = self.data, _READ
        items = []
        for _ in range(count):
            pos = self.pos
            code = data[pos]
            self.pos = pos + 1
            items.append(read[code](self, code))
        self._depth += 1
        return items

    def take(self, size: int) -> None:
        """Count memory before it is taken."""
        self._room -= size
        self._work -= size
        if self._room < 0:
            raise LimitError(f"the values need more than {self._most} bytes of memory", self.pos)
        if self._work < 0:
            self.charge(0)

    def charge(self, size: int) -> None:
        """Count work that takes no memory. Raises LimitError, `too-large`, when the message has had its share."""
        self._work -= size
        if self._work < 0:
            raise LimitError("the values are more work than a body of this size may cause", self.pos, "too-large")

    def enter(self) -> None:
        """One level down."""
        self._depth -= 1
        if self._depth < 0:
            raise TooDeepError(f"values are nested deeper than {self.limits.depth} levels", self.pos)

    def leave(self) -> None:
        """One level up."""
        self._depth += 1

    def mark(self) -> Position:
        """The place where the reader stands."""
        return Position(
            self.pos,
            self._cache,
            len(self._cache),
            self._structs,
            len(self._structs),
            self._depth,
            self._room,
            self._repeats,
            self._resets,
            self._base,
        )

    def go_back(self, mark: Position) -> None:
        """To a place from before, as if nothing had been read since."""
        self.pos, self._depth, self._room, self._repeats = mark.pos, mark.depth, mark.room, mark.repeats
        self._resets, self._base = mark.resets, mark.base
        self._cache, self._structs = mark.cache, mark.structs
        del self._cache[mark.slots :], self._structs[mark.tags :]

    def release(self, mark: Position) -> None:
        """Give back the memory of what was read since, but for what the caches keep of it; not the work.

        A value in a cache weighs what its references repeat, which may be far more than the memory that it took.
        """
        kept = self._cache[mark.slots :] if self._cache is mark.cache else self._cache
        weights = (entry[0].weight if type(entry[0]) is Defective else entry[1] for entry in kept if entry is not None)
        self._room = mark.room - min(mark.room - self._room, sum(weights))
        self.charge(self._repeats - mark.repeats)
        self._repeats = mark.repeats

    def pass_resets(self, code: int) -> int:
        """Pass over resets and footers, any number of them; returns the code of the value that follows."""
        while code in {codes.RESET_CACHES, codes.FOOTER}:
            self.take(ITEM)
            if code == codes.FOOTER:
                _check_footer(self)
            self._cache, self._structs = [], []
            self._resets += 1
            code = self.data[self.pos]
            self.pos += 1
        return code

    def struct_at(self, code: int) -> tuple[ReadHandler | None, Value, int] | None:
        """The handler, tag and declared count of a struct that begins with this code, read already; None for others."""
        if code == codes.STRUCTTYPE:
            return self.read_tag()
        if codes.STRUCT_PACKED <= code < codes.STRUCT_PACKED + codes.PACKED_STRUCTS:
            return self.struct_of(code - codes.STRUCT_PACKED)
        return self.struct_of(self.read_int()) if code == codes.STRUCT else None

    def read_tag(self) -> tuple[ReadHandler | None, Value, int]:
        """A new tag, and a place for it among the structs."""
        tag = self.read_component()
        start = self.pos
        count = self.read_int()
        if count < 0:
            raise DecodeError(f"a struct of {count} components", start)
        handler = self.handlers.get(tag) if type(tag) is str else None
        self._structs.append((handler, tag, count))
        return handler, tag, count

    def struct_of(self, slot: int) -> tuple[ReadHandler | None, Value, int]:
        """A tag met before."""
        if not 0 <= slot < len(self._structs):
            raise DecodeError(f"struct reference {slot} of {len(self._structs)}", self.pos - 1)
        return self._structs[slot]

    def slot_at(self, code: int) -> int | None:
        """The slot that a reference of this code names, read already; None for other codes."""
        if codes.CACHE_REF_PACKED <= code < codes.CACHE_REF_PACKED + codes.PACKED_REFS:
            return code - codes.CACHE_REF_PACKED
        return self.read_int() if code == codes.CACHE_REF else None

    def kept_at(self, slot: int) -> tuple[Value, int]:
        """What a slot of the priority cache holds, and its weight."""
        kept = self._cache[slot] if 0 <= slot < len(self._cache) else None
        if kept is None:
            raise _bad_ref(self, slot)
        return kept

    @property
    def cached(self) -> tuple[int, int, int]:
        """Resets so far, and the entries of both caches: the same after a value that left the caches as they were."""
        return self._resets, len(self._cache), len(self._structs)

    def cached_values(self, start: int) -> list[Value]:
        """The entries of the priority cache from a slot on; None for one whose value is being read."""
        return [None if entry is None else entry[0] for entry in self._cache[start:]]

    def put_keyword(self, name: str) -> None:
        """What reading a keyword to be kept, its name written out and kept too, leaves behind."""
        self.take(STRUCT + 2 * ITEM)
        self._cache += ((Keyword(name), ITEM), (name, ITEM))

    def put_name(self, name: str) -> None:
        """What reading a string to be kept leaves behind."""
        self.take(ITEM)
        self._cache.append((name, ITEM))

    def struct_code(self, tag: str) -> int:
        """The code of one byte that a struct of this tag begins with now, or -1."""
        slots = range(min(len(self._structs), codes.PACKED_STRUCTS))
        return next((codes.STRUCT_PACKED + slot for slot in slots if self._structs[slot][1] == tag), -1)

    def opens_map(self, pos: int) -> bool:
        """Whether a `clj/map` known to the struct cache begins there, its entries in a closed list."""
        slot = self.data[pos] - codes.STRUCT_PACKED
        return (
            0 <= slot < min(len(self._structs), codes.PACKED_STRUCTS)
            and self._structs[slot][1] == "clj/map"
            and self.data[pos + 1] == codes.BEGIN_CLOSED_LIST
        )

    def _slice(self, size: int) -> bytes:
        start, stop = self.pos, self.pos + size
        if stop > self.end:
            raise self._ends_early(start)
        self.pos = stop
        return self.data[start:stop]

    def _bad_length(self, length: int, start: int) -> DecodeError:
        return DecodeError(f"a length of {length} is declared, {self.end - self.pos} bytes remain", start)

    def _ends_early(self, offset: int) -> DecodeError:
        return DecodeError(f"the data ends inside a value, after {self.end} bytes", offset)


def _name(value: Value) -> str:
    return "nil" if value is None else type(value).__name__


# ---------------------------------------------------------------------------------------------------- atoms


def _read_int_1(_: Reader, code: int) -> int:
    return code


def _read_minus_one(_: Reader, _code: int) -> int:
    return -1


def _read_int_packed(reader: Reader, code: int) -> int:
    high, size = _INTS[code]
    start = reader.pos
    stop = reader.pos = start + size
    if stop > reader.end:
        raise reader._ends_early(start)
    return high + int.from_bytes(reader.data[start:stop], "big")


def _read_int_8(reader: Reader, _code: int) -> int:
    return int.from_bytes(reader._slice(8), "big", signed=True)


def _read_float(reader: Reader, _code: int) -> Float32:
    return Float32(unpack_from(">f", reader._slice(4))[0])


def _read_double(reader: Reader, _code: int) -> float:
    number: float = unpack_from(">d", reader._slice(8))[0]
    return number


def _read_constant(_: Reader, code: int) -> Value:
    return _CONSTANTS[code]


def _read_string_packed(reader: Reader, code: int) -> str:
    start = reader.pos
    stop = reader.pos = start + code - codes.STRING_PACKED
    if stop > reader.end:
        raise reader._ends_early(start)
    return decode_text(reader.data[start:stop], start)


def _read_string(reader: Reader, _code: int) -> str:
    size = _read_size(reader)
    reader.take(size)
    start = reader.pos
    stop = reader.pos = start + size
    return decode_text(reader.data[start:stop], start)


def _read_string_chunks(reader: Reader, code: int) -> str:
    # A chunk may end between the halves of a surrogate pair: join first, decode then.
    start, total, parts = reader.pos, 0, []
    while True:
        if codes.STRING_PACKED <= code < codes.STRING_PACKED + codes.PACKED_LENGTHS:
            size = code - codes.STRING_PACKED
        elif code in {codes.STRING, codes.STRING_CHUNK}:
            size = _read_size(reader)
        else:
            raise DecodeError(f"expected the next chunk of a string, found code {code:02X}", reader.pos - 1)
        total += size
        if total > reader.limits.string:
            raise LimitError(f"a string is longer than {reader.limits.string} bytes", start)
        reader.take(size)
        parts.append(reader._slice(size))
        if code != codes.STRING_CHUNK:
            return decode_text(b"".join(parts), start)
        reader.take(ITEM)
        code = reader.data[reader.pos]
        reader.pos += 1


def _read_bytes_packed(reader: Reader, code: int) -> bytes:
    return reader._slice(code - codes.BYTES_PACKED)


def _read_bytes(reader: Reader, _code: int) -> bytes:
    return reader._slice(_read_size(reader))


def _read_bytes_chunks(reader: Reader, code: int) -> bytes:
    start, total, parts = reader.pos, 0, []
    while True:
        if code not in {codes.BYTES, codes.BYTES_CHUNK}:
            raise DecodeError(f"expected the next chunk of bytes, found code {code:02X}", reader.pos - 1)
        size = _read_size(reader)
        total += size
        if total > reader.limits.string:
            raise LimitError(f"bytes are longer than {reader.limits.string}", start)
        parts.append(reader._slice(size))
        if code == codes.BYTES:
            return b"".join(parts)
        reader.take(ITEM)
        code = reader.data[reader.pos]
        reader.pos += 1


def _read_size(reader: Reader) -> int:
    start = reader.pos
    size = reader.read_int()
    if not 0 <= size <= reader.end - reader.pos:
        raise reader._bad_length(size, start)
    if size > reader.limits.string:
        raise LimitError(f"a string or bytes of {size}, the cap is {reader.limits.string}", start)
    return size


def decode_text(raw: bytes, start: int) -> str:
    """CESU-8: each half of a surrogate pair in three bytes of its own, and no sequence of four."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return _decode_surrogates(raw, start)
    if not text.isascii() and max(text) > "\uffff":
        raise DecodeError("a string holds a four-byte sequence, which the format does not know", start)
    return text


def _decode_surrogates(raw: bytes, start: int) -> str:
    try:
        # C0 80 is how Java writes NUL; C0 can only begin a sequence, so the replacement hits nothing else.
        text = raw.replace(b"\xc0\x80", b"\x00").decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise DecodeError(f"a string is not CESU-8: {error.reason}", start + error.start) from None
    if max(text) > "\uffff":
        raise DecodeError("a string holds a four-byte sequence, which the format does not know", start)
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


# ---------------------------------------------------------------------------------------------------- lists


def _read_java_list(reader: Reader, code: int) -> JavaList:
    reader.take(ITEM)
    return JavaList(_LISTS[code](reader, code))


def _read_list_packed(reader: Reader, code: int) -> list[Value]:
    count = code - codes.LIST_PACKED
    if count > reader.end - reader.pos:
        raise reader._ends_early(reader.pos)
    return reader.read_values(count)


def _read_list(reader: Reader, _code: int) -> list[Value]:
    return reader.read_values(reader.read_count())


def _read_list_closed(reader: Reader, _code: int) -> list[Value]:
    reader.enter()
    data, read = reader.data, _READ
    items: list[Value] = []
    append = items.append
    while True:
        reader.take(_BLOCK * ITEM)
        for unused in range(_BLOCK, 0, -1):
            pos = reader.pos
            code = data[pos]
            reader.pos = pos + 1
            if code == codes.END_COLLECTION:
                reader._room += unused * ITEM
                reader._work += unused * ITEM
                reader._depth += 1
                return items
            append(read[code](reader, code))


def _read_list_open(reader: Reader, _code: int) -> list[Value]:
    reader.enter()
    items: list[Value] = []
    while reader.pos < reader.end:
        if reader.data[reader.pos] == codes.END_COLLECTION:
            reader.pos += 1
            break
        reader.take(ITEM)
        items.append(reader.read_object())
    reader._depth += 1
    return items


# ---------------------------------------------------------------------------------------------------- cache


def _read_put(reader: Reader, _code: int) -> Value:
    """A value that is also kept. Its slot is taken before it is read, so what it keeps itself comes after it."""
    start, room, repeats = reader.pos, reader._room, reader._repeats
    cache, slot = reader._cache, len(reader._cache)
    cache.append(None)
    reader.take(ITEM)
    value = reader.read_component()
    if reader._cache is not cache:
        raise DecodeError("the caches are reset inside a value that is to be kept", start)
    made = 0 if type(value) in BARE else room - reader._room
    cache[slot] = (value, reader.pos - start + reader._repeats - repeats + made)
    return value


def _read_ref_packed(reader: Reader, code: int) -> Value:
    slot = code - codes.CACHE_REF_PACKED
    cache = reader._cache
    if slot >= len(cache) or (kept := cache[slot]) is None:
        raise _bad_ref(reader, slot)
    # A value kept once and named a million times is a million values to whoever walks over the result.
    repeats = reader._repeats = reader._repeats + kept[1]
    if repeats > reader._most:
        if type(kept[0]) is Defective:  # its weight is more than may be repeated, so that it is looked for here only
            raise DefectError(kept[0].defect, reader.pos - 1)
        raise LimitError(f"references repeat more than {reader._most} bytes", reader.pos - 1)
    return kept[0]


def _read_ref(reader: Reader, _code: int) -> Value:
    slot = reader.read_int()
    if slot < 0:
        raise _bad_ref(reader, slot)
    return _read_ref_packed(reader, codes.CACHE_REF_PACKED + slot)


def _bad_ref(reader: Reader, slot: int) -> DecodeError:
    if 0 <= slot < len(reader._cache):
        return DecodeError(f"cache reference {slot} to the value that holds it", reader.pos - 1)
    return DecodeError(f"cache reference {slot}, there are {len(reader._cache)}", reader.pos - 1)


# ---------------------------------------------------------------------------------------------------- structs


def _read_core(reader: Reader, code: int) -> Value:
    tag, count = _CORE[code]
    return _read_struct(reader, reader.handlers.get(tag), tag, count)


def core_struct(reader: Reader, code: int) -> tuple[ReadHandler | None, Value, int] | None:
    """The handler, tag and count of a struct whose tag has a code of its own; None for other codes."""
    if code not in _CORE:
        return None
    tag, count = _CORE[code]
    return reader.handlers.get(tag), tag, count


def _read_struct_type(reader: Reader, _code: int) -> Value:
    return _read_struct(reader, *reader.read_tag())


def _read_struct_packed(reader: Reader, code: int) -> Value:
    slot = code - codes.STRUCT_PACKED
    if slot >= len(reader._structs):
        raise DecodeError(f"struct reference {slot} of {len(reader._structs)}", reader.pos - 1)
    handler, tag, count = reader._structs[slot]
    return _read_struct(reader, handler, tag, count)


def _read_struct_ref(reader: Reader, _code: int) -> Value:
    return _read_struct(reader, *reader.struct_of(reader.read_int()))


def _read_struct(reader: Reader, handler: ReadHandler | None, tag: Value, count: int) -> Value:
    reader.take(STRUCT)
    if handler is not None:
        return handler(reader)  # which knows its components: the declared count is ignored
    if count > reader.end - reader.pos:
        raise DecodeError(f"a struct of {count} components, {reader.end - reader.pos} bytes remain", reader.pos)
    return Tagged(tag, tuple(reader.read_values(count)))


# ---------------------------------------------------------------------------------------------------- the rest


def _read_between(reader: Reader, code: int) -> Value:
    """Resets and footers, any number of them (a loop, not recursion), then the value that follows."""
    code = reader.pass_resets(code)
    return _READ[code](reader, code)


def _check_footer(reader: Reader) -> None:
    # magic, length since the last footer, checksum; the reference does not look at the checksum either.
    start = reader.pos - 1
    footer = reader._slice(11)
    if not footer.startswith(codes.FOOTER_MAGIC[1:]):
        raise DecodeError("a footer does not begin with CF CF CF CF", start)
    (length,) = unpack_from(">i", footer, 3)
    if length != start - reader._base:
        raise DecodeError(f"a footer counts {length} bytes, there are {start - reader._base}", start)
    reader._base = reader.pos


def _read_reserved(reader: Reader, code: int) -> NoReturn:
    raise DecodeError(f"no value begins with code {code:02X}", reader.pos - 1)


# ---------------------------------------------------------------------------------------------------- the tables

_INTS = {
    zero + high: (high << 8 * size, size)
    for zero, size, highs in (
        (codes.INT_PACKED_2, 1, range(-16, 16)),
        (codes.INT_PACKED_3, 2, range(-8, 8)),
        (codes.INT_PACKED_4, 3, range(-2, 2)),
        (codes.INT_PACKED_5, 4, range(-2, 2)),
        (codes.INT_PACKED_6, 5, range(-2, 2)),
        (codes.INT_PACKED_7, 6, range(-2, 2)),
    )
    for high in highs
}

_CONSTANTS = {
    codes.TRUE: True,
    codes.FALSE: False,
    codes.NULL: None,
    codes.DOUBLE_0: 0.0,
    codes.DOUBLE_1: 1.0,
}

_ATOMS = frozenset((*_CONSTANTS, codes.INT, codes.FLOAT, codes.DOUBLE, codes.MINUS_ONE))

_CORE = {code: tag_and_count for tag_and_count, code in codes.CORE_TAGS.items()}

_Read: TypeAlias = Callable[[Reader, int], Value]

_LISTS: dict[int, Callable[[Reader, int], list[Value]]] = {
    **dict.fromkeys(range(codes.LIST_PACKED, codes.LIST_PACKED + codes.PACKED_LENGTHS), _read_list_packed),
    codes.LIST: _read_list,
    codes.BEGIN_CLOSED_LIST: _read_list_closed,
    codes.BEGIN_OPEN_LIST: _read_list_open,
}

_BY_CODE: dict[int, _Read] = {
    **dict.fromkeys(range(0x40), _read_int_1),
    **dict.fromkeys(_INTS, _read_int_packed),
    **dict.fromkeys(range(codes.CACHE_REF_PACKED, codes.CACHE_REF_PACKED + codes.PACKED_REFS), _read_ref_packed),
    **dict.fromkeys(range(codes.STRUCT_PACKED, codes.STRUCT_PACKED + codes.PACKED_STRUCTS), _read_struct_packed),
    **dict.fromkeys(_CORE, _read_core),
    codes.CACHE_REF: _read_ref,
    codes.CACHE_PUT: _read_put,
    codes.FOOTER: _read_between,
    **dict.fromkeys(range(codes.BYTES_PACKED, codes.BYTES_PACKED + codes.PACKED_LENGTHS), _read_bytes_packed),
    codes.BYTES_CHUNK: _read_bytes_chunks,
    codes.BYTES: _read_bytes,
    **dict.fromkeys(range(codes.STRING_PACKED, codes.STRING_PACKED + codes.PACKED_LENGTHS), _read_string_packed),
    codes.STRING_CHUNK: _read_string_chunks,
    codes.STRING: _read_string,
    **dict.fromkeys(_LISTS, _read_java_list),
    codes.STRUCTTYPE: _read_struct_type,
    codes.STRUCT: _read_struct_ref,
    **dict.fromkeys(_CONSTANTS, _read_constant),
    codes.INT: _read_int_8,
    codes.FLOAT: _read_float,
    codes.DOUBLE: _read_double,
    codes.RESET_CACHES: _read_between,
    codes.MINUS_ONE: _read_minus_one,
}

READ_ATOM: dict[int, _Read] = {
    code: read for code, read in _BY_CODE.items() if code < codes.CACHE_REF_PACKED or code in _ATOMS
}
"""The codes of values without parts whose width their code tells: numbers, booleans and nil."""

_READ: list[_Read] = [_BY_CODE.get(code, _read_reserved) for code in range(256)]
