"""One value, read past the caps: what is too long, too deep or malformed is shortened, and its end is found.

The reader stops at the first value that it does not take. A batch goes on after it, so that event is read once more
here: with a stack of its own instead of Python's, and with both caches filled as the reader would have filled them.
What cannot be passed over (a length beyond the data, a code without a meaning) ends in DecodeError here too.
"""

from collections.abc import Sequence

from penpot_telemetry.errors import DecodeError
from penpot_telemetry.wire.fressian import codes
from penpot_telemetry.wire.fressian.reader import (
    ITEM,
    READ_ATOM,
    STRUCT,
    Defect,
    Defective,
    Reader,
    ReadHandler,
    TooDeepError,
    core_struct,
    decode_text,
    defect_of,
)
from penpot_telemetry.wire.fressian.values import BARE, JavaList, Tagged, Value

SHORTENED = "…"
"""In place of a value that is not kept."""

MOST_NESTED = 100_000
"""Open collections at once. The JVM's stack ends at depths of 300 to 500, so Penpot never writes more."""

MOST_TEXT = 4 * 1024 * 1024
"""The longest string or bytes of which all is kept."""

_CLOSED, _OPEN = -1, -2
"""In place of a count: up to the code that ends a list, or to the end of the data."""

_ARRAYS = frozenset(("long[]", "double[]", "boolean[]", "int[]", "float[]", "Object[]"))
_TWO = frozenset(("clj/keyword", "clj/symbol", "bigdec", "clj/ratio", "ratio"))
"""The known tags of two components. All others but arrays have one."""


class _Frame:
    """A collection that is being read: `left` values are missing, `items` are here (None when they are not kept)."""

    __slots__ = ("handler", "is_struct", "items", "left", "put", "start", "tag")

    def __init__(self, left: int, start: int, items: list[Value] | None) -> None:
        self.left = left
        self.start = start
        self.items = items
        self.is_struct = False
        self.handler: ReadHandler | None = None
        self.tag: Value = None
        self.put: _Put | None = None


class _Put:
    """A slot of the priority cache that is being filled, and the counters when that began."""

    __slots__ = ("cache", "faults", "repeats", "room", "slot")

    def __init__(self, reader: Reader, faults: int) -> None:
        self.cache, self.slot = reader._cache, len(reader._cache)
        self.room, self.repeats, self.faults = reader._room, reader._repeats, faults
        reader._cache.append(None)


class _Components(Reader):
    """The components of one struct, read already, for the handler of its tag."""

    __slots__ = ("_items",)

    def __init__(self, reader: Reader, items: Sequence[Value]) -> None:
        nil_first = items[:1] == [None]  # some handlers look for a nil before they read
        super().__init__(bytes([codes.NULL]) if nil_first else b"\0", reader.limits, reader.handlers)
        self.memo = reader.memo
        self._items = iter(items)

    def read_component(self) -> Value:
        return next(self._items)

    read_object = read_component

    def read_int(self) -> int:
        value = next(self._items)
        if type(value) is not int:
            raise DecodeError("expected an int")
        return value

    def read_text(self) -> str:
        value = next(self._items)
        if type(value) is not str:
            raise DecodeError("expected a string")
        return value

    def read_bytes(self) -> bytes:
        value = next(self._items)
        if type(value) is not bytes:
            raise DecodeError("expected bytes")
        return value

    def read_items(self) -> list[Value]:
        value = next(self._items)
        if not isinstance(value, list | tuple):
            raise DecodeError("expected a list")
        return list(value)

    def read_count(self) -> int:
        return 0

    def read_values(self, count: int) -> list[Value]:  # noqa: ARG002  there are as many as there are
        return list(self._items)


class LenientReader:
    """Reads one value from where a reader stands.

    `defect`: the latest that was met, if any; `is_cut`: whether something of the value is not kept.
    """

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.faults = 0
        self.defect: Defect | None = None
        self.is_cut = False
        self.frames: list[_Frame] = []

    def read(self) -> Value:
        """The next value. Raises DecodeError when its end cannot be found."""
        reader = self.reader
        root: list[Value] = []
        frames = self.frames = [_Frame(1, reader.pos, root)]
        while True:
            frame = frames[-1]
            if not self.is_complete(frame):
                self.read_next()
            elif len(frames) == 1:
                return root[0]
            else:
                frames.pop()
                self.add(frames[-1], self.finish(frame))

    def is_complete(self, frame: _Frame) -> bool:
        """Whether nothing of a collection is missing; the code that ends it is passed over."""
        reader = self.reader
        if frame.left >= 0:
            return frame.left == 0
        if frame.left == _OPEN and reader.pos >= reader.end:
            return True
        if reader.data[reader.pos] != codes.END_COLLECTION:
            return False
        reader.pos += 1
        return True

    def read_next(self) -> None:
        """A value without parts into the collection that is open, or one more collection that is."""
        reader = self.reader
        start = reader.pos
        code = reader.data[start]
        reader.pos = start + 1
        if code in (codes.RESET_CACHES, codes.FOOTER):
            code = reader.pass_resets(code)
        if codes.LIST_PACKED <= code < codes.LIST_PACKED + codes.PACKED_LENGTHS:
            self.open(code - codes.LIST_PACKED, start)
        elif code == codes.LIST:
            self.open(reader.read_count(), start)
        elif code in (codes.BEGIN_CLOSED_LIST, codes.BEGIN_OPEN_LIST):
            self.open(_CLOSED if code == codes.BEGIN_CLOSED_LIST else _OPEN, start)
        elif code == codes.CACHE_PUT:
            put = _Put(reader, self.faults)
            self.open(1, start).put = put
        elif code in READ_ATOM:
            self.add(self.frames[-1], READ_ATOM[code](reader, code))
        elif (struct := reader.struct_at(code) or core_struct(reader, code)) is not None:
            self.open_struct(struct, start)
        elif (slot := reader.slot_at(code)) is not None:
            self.add(self.frames[-1], self.read_ref(slot))
        else:
            self.add(self.frames[-1], self.read_text(code, start))

    def open(self, left: int, start: int) -> _Frame:
        """One more level. Its items are kept as deep as the reader goes, and while there is memory."""
        frames, reader = self.frames, self.reader
        if len(frames) > MOST_NESTED:
            raise TooDeepError(f"values are nested deeper than {MOST_NESTED} levels", start)
        is_kept = len(frames) <= 2 * reader.limits.depth  # a vector is a struct and a list
        if not is_kept:
            self.note("too-deep")
        reader.charge(2 * ITEM)
        frame = _Frame(left, start, [] if is_kept and self.frames[-1].items is not None else None)
        frames.append(frame)
        return frame

    def open_struct(self, struct: tuple[ReadHandler | None, Value, int], start: int) -> None:
        """A struct: the components of a known tag are known, whatever is declared."""
        reader = self.reader
        handler, tag, count = struct
        self.spend(STRUCT)
        if handler is not None:
            count = reader.read_count() if tag in _ARRAYS else 2 if tag in _TWO else 1
        elif count > reader.end - reader.pos:
            raise DecodeError(f"a struct of {count} components, {reader.end - reader.pos} bytes remain", start)
        frame = self.open(count, start)
        frame.is_struct, frame.handler, frame.tag = True, handler, tag

    def add(self, frame: _Frame, value: Value) -> None:
        """One value more of a collection."""
        frame.left -= frame.left > 0
        if frame.items is not None:
            frame.items.append(value)
            self.spend(ITEM)
            if self.reader._room < 0 and len(self.frames) > 1:
                frame.items = None
                self.note("too-long")
        else:
            self.reader.charge(ITEM)

    def spend(self, size: int) -> None:
        """Count memory and work; only the work ends the reading."""
        self.reader._room -= size
        self.reader.charge(size)

    def finish(self, frame: _Frame) -> Value:
        """A collection that is complete, as the value it is."""
        value = self.build(frame)
        if frame.put is not None:
            self.keep(frame, frame.put, value)
        return value

    def build(self, frame: _Frame) -> Value:
        """The value of a collection; a short one where it is not kept or its parts do not make one."""
        items = frame.items
        if items is None:
            return self.cut()
        if frame.put is not None:
            return items[0]
        if not frame.is_struct:
            return JavaList(items)
        if frame.handler is None:
            return Tagged(frame.tag, tuple(items))
        try:
            return frame.handler(_Components(self.reader, items))
        except (DecodeError, RecursionError) as error:
            self.note(defect_of(error))
            return self.cut()

    def keep(self, frame: _Frame, put: _Put, value: Value) -> None:
        """A value into its slot, where the reader finds it, and knows it when it has a defect."""
        reader = self.reader
        if reader._cache is not put.cache:
            raise DecodeError("the caches are reset inside a value that is to be kept", frame.start)
        made = 0 if type(value) in BARE else put.room - reader._room
        weight = reader.pos - frame.start + reader._repeats - put.repeats + made
        if self.faults > put.faults and self.defect is not None:
            put.cache[put.slot] = (Defective(value, self.defect, weight), reader._most + 1)
        else:
            put.cache[put.slot] = (value, weight)

    def read_ref(self, slot: int) -> Value:
        """What is in a slot, be it with a defect."""
        reader = self.reader
        value, weight = reader.kept_at(slot)
        if type(value) is Defective:
            self.note(value.defect)
            value, weight = value.value, value.weight
        if reader._repeats + weight > reader._most:
            reader.charge(ITEM)
            self.note("too-long")
            return self.cut()
        reader._repeats += weight
        return value

    def read_text(self, code: int, start: int) -> Value:
        """A string or bytes of any length."""
        reader = self.reader
        parts: list[bytes] = []
        is_text, chunk = code in _TEXT, code in (codes.STRING_CHUNK, codes.BYTES_CHUNK)
        size = self.read_part(code, parts)
        while chunk:
            code = reader.data[reader.pos]
            reader.pos += 1
            if code not in (_TEXT if is_text else (codes.BYTES, codes.BYTES_CHUNK)):
                raise DecodeError(f"expected the next chunk, found code {code:02X}", reader.pos - 1)
            size += self.read_part(code, parts)
            chunk = code in (codes.STRING_CHUNK, codes.BYTES_CHUNK)
        raw = b"".join(parts)
        self.spend(size)
        if size > reader.limits.string:
            self.note("too-long")
        if size > MOST_TEXT:
            return self.cut()
        if not is_text:
            return raw
        try:
            return decode_text(raw, start)
        except DecodeError as error:
            self.note(defect_of(error))
            return self.cut()

    def read_part(self, code: int, parts: list[bytes]) -> int:
        """One chunk: its bytes into `parts`, unless it is too long to be kept; returns its length."""
        reader = self.reader
        if codes.STRING_PACKED <= code < codes.STRING_PACKED + codes.PACKED_LENGTHS:
            size = code - codes.STRING_PACKED
        elif codes.BYTES_PACKED <= code < codes.BYTES_PACKED + codes.PACKED_LENGTHS:
            size = code - codes.BYTES_PACKED
        elif code in _LONG:
            size = reader.read_count()
        else:
            raise DecodeError(f"no value begins with code {code:02X}", reader.pos - 1)
        if size > reader.end - reader.pos:
            raise DecodeError("the data ends inside a value", reader.pos)
        if size <= MOST_TEXT:
            parts.append(reader.data[reader.pos : reader.pos + size])
        reader.pos += size
        return size

    def cut(self) -> str:
        """What stands for a value that is not kept."""
        self.is_cut = True
        return SHORTENED

    def note(self, defect: Defect) -> None:
        """Something was not taken as it is."""
        self.faults += 1
        self.defect = defect


_LONG = frozenset((codes.STRING, codes.STRING_CHUNK, codes.BYTES, codes.BYTES_CHUNK))
_TEXT = frozenset(
    (
        codes.STRING,
        codes.STRING_CHUNK,
        *range(codes.STRING_PACKED, codes.STRING_PACKED + codes.PACKED_LENGTHS),
    )
)
