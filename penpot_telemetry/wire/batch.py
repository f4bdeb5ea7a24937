"""Rows to `events` text and `events` text to columns: the fast path, equal to `fressian` value for value.

A batch repeats itself: ten thousand events share some two hundred heads (name, type, source, day), as many contexts
and some sixty shapes of props. So whatever has been read once is known again by its bytes, and whatever has been
written once is copied. That is sound because a fressian value ends where it ends: bytes that were one whole value
before are one whole value again, as long as the cache entries they refer to stay. Entries are only ever added, except
by a reset (code FE), and a reset empties what is remembered.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, NamedTuple, TypeAlias
from uuid import UUID

import msgspec

from penpot_telemetry.errors import DecodeError, EncodeError, LimitError
from penpot_telemetry.wire import blob, kernel
from penpot_telemetry.wire.fressian import codes
from penpot_telemetry.wire.fressian.handlers import READ, WRITE, make_map
from penpot_telemetry.wire.fressian.lenient import LenientReader
from penpot_telemetry.wire.fressian.reader import Defect, Reader, defect_of
from penpot_telemetry.wire.fressian.values import Array, Instant, Json, Keyword, Tagged, Value, as_key, from_key, plain
from penpot_telemetry.wire.fressian.writer import Writer
from penpot_telemetry.wire.limits import CONTEXT as CONTEXT_WORK
from penpot_telemetry.wire.limits import EVENT, LETTER, MIB, RECEIPT, RESET, ROW, Limits
from penpot_telemetry.wire.transit import loads_verbose

DAY_MS = 86_400_000

KEYS = NAME, TYPE, SOURCE, TRACKED_AT, PROFILE_ID, PROPS, CONTEXT = tuple(
    Keyword(name) for name in ("name", "type", "source", "tracked-at", "profile-id", "props", "context")
)
"""The keys of an event map, in the order in which Penpot writes them."""


class EventRow(NamedTuple):
    """One stored event as the sender reads it from `audit_log`.

    `tracked_at` in epoch milliseconds; `profile_id` as its 16 bytes; `props` and `context` as verbose transit JSON.
    """

    name: str
    type: str
    source: str
    tracked_at: int
    profile_id: bytes | None
    props: str
    context: str


BadReason = Literal["not-a-map", "missing-field", "wrong-type", "too-long", "too-deep"]
"""Why one event of a batch cannot be loaded."""


@dataclass(frozen=True, slots=True)
class BadEvent:
    """An event that is no row of the columns.

    `index`: its place in the batch as it was sent, from 0. `message` names the field, never a value. `event`: a JSON
    object of what is kept of its seven fields, in the form of the columns, `tracked-at` as ISO 8601. It has at most
    MOST_KEPT characters, a few more where something was cut; what was cut ends in `…`, and then the event is not whole.
    Unsafe context keys are in it.
    """

    index: int
    reason: BadReason
    message: str
    event: str
    is_whole: bool = True


MOST_KEPT = 2 * MIB
"""Characters of JSON that are kept of one bad event; all in a batch together, as many as half its allowance."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The good events of a batch, column by column; all of one length, in the order of the batch; and the bad ones.

    `tracked_at` in epoch milliseconds; `profile_id` as 16 bytes; `props` and `context` as JSON text (uuids as
    strings, instants ISO 8601, a keyword value as its plain name). `unknown_keys` counts event keys beside the seven.
    """

    name: list[str] = field(default_factory=list)
    type: list[str] = field(default_factory=list)
    source: list[str] = field(default_factory=list)
    tracked_at: list[int] = field(default_factory=list)
    profile_id: list[bytes | None] = field(default_factory=list)
    props: list[str] = field(default_factory=list)
    context: list[str] = field(default_factory=list)
    unknown_keys: dict[str, int] = field(default_factory=dict)
    bad: list[BadEvent] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.name)


_Head: TypeAlias = tuple[str, str, str, int]


@dataclass(frozen=True, slots=True)
class FlatColumns:
    """The good events of a batch as flat arrays, in its order; what repeats is there once and pointed to. And the bad.

    `head_of` and `context_of`: one int32 an event into `heads` and `contexts`, where a context stands behind the source
    of its events, because what is safe in it depends on that. `profiles`: 16 bytes an event, zeros
    for those listed in `no_profile`. `props`: the UTF-8 of all JSON texts, event i from `props_ends[i]` to
    `props_ends[i + 1]` (int64). `size`: the bytes of the rows, good and bad, as `wire.limits` counts them.
    """

    heads: list[tuple[str, str, str, int]]
    head_of: memoryview
    profiles: bytes
    no_profile: list[int]
    props: bytes
    props_ends: memoryview
    contexts: list[tuple[str, str]]
    context_of: memoryview
    unknown_keys: dict[str, int]
    bad: list[BadEvent]
    size: int

    def __len__(self) -> int:
        return len(self.head_of)

    def columns(self) -> Columns:
        """The same as columns of Python values."""
        heads = [self.heads[index] for index in self.head_of]
        profiles: list[bytes | None] = [self.profiles[at : at + 16] for at in range(0, len(self.profiles), 16)]
        for index in self.no_profile:
            profiles[index] = None
        return Columns(
            [head[0] for head in heads],
            [head[1] for head in heads],
            [head[2] for head in heads],
            [head[3] for head in heads],
            profiles,
            [self.props[start:stop].decode() for start, stop in pairwise(self.props_ends)],
            [self.contexts[index][1] for index in self.context_of],
            self.unknown_keys,
            self.bad,
        )


# -- writing ---------------------------------------------------------------------------------------------------------


def encode_events(rows: Iterable[EventRow]) -> str:
    """Rows as the `events` text of a batch: base64url of a version-4 blob. Same rows, same text.

    `tracked_at` is cut to its UTC day. Raises EncodeError, whose `row` is the index of the row that cannot be written.
    """
    return blob.encode_str(write_rows(list(rows)))


def write_rows(rows: list[EventRow]) -> bytes:
    """Rows as the fressian of a vector of event maps, byte for byte what `fressian.dumps` gives for those maps."""
    writer, copier = Writer(WRITE), kernel.RowCopier()
    writer.begin_struct("clj/vector", 1)
    writer.begin_list(len(rows))
    index = 0
    while index < len(rows):
        copier.out.write(writer.take())
        index = copier.copy(rows, index)
        if index < len(rows):
            _RowWriter(writer, copier, index).write(rows[index])
            index += 1
    copier.out.write(writer.take())
    return copier.out.getvalue()


@dataclass(frozen=True, slots=True)
class _RowWriter:
    """Writes one row as it would be written anywhere, and teaches the copier what put nothing new into the caches."""

    writer: Writer
    copier: kernel.RowCopier
    index: int

    def write(self, row: EventRow) -> None:
        name, type_, source, tracked_at, profile_id, props, context = row
        copier = self.copier
        self.write_head((name, type_, source, tracked_at - tracked_at % DAY_MS))
        if profile_id is not None:
            self.write_profile(profile_id)
        self.write_transit(PROPS, props, copier.props)
        self.write_transit(CONTEXT, context, copier.contexts)
        self.writer.out.append(codes.END_COLLECTION)

    def write_head(self, head: _Head) -> None:
        """The beginning of an event's map and its first four entries."""
        writer, (name, type_, source, tracked_at) = self.writer, head
        if head in self.copier.heads:
            writer.out += self.copier.heads[head]
            return
        start, caches = len(writer.out), writer.cached
        writer.begin_struct("clj/map", 1)
        writer.out.append(codes.BEGIN_CLOSED_LIST)
        for key, value in ((NAME, name), (TYPE, type_), (SOURCE, source), (TRACKED_AT, Instant(tracked_at))):
            writer.write_key(key)
            writer.write_object(value)
        if writer.cached == caches:
            self.copier.heads[head] = bytes(writer.out[start:])

    def write_profile(self, profile_id: bytes) -> None:
        """The profile id; all but its bytes is the same every time."""
        writer = self.writer
        start, caches = len(writer.out), writer.cached
        writer.write_key(PROFILE_ID)
        writer.write_object(UUID(bytes=profile_id))
        if writer.cached == caches:
            self.copier.profile_opening = bytes(writer.out[start : -len(profile_id)])

    def write_transit(self, key: Keyword, text: str, known: dict[str, bytes]) -> None:
        """Props or a context from their text."""
        writer = self.writer
        if text in known:
            writer.out += known[text]
            return
        start, caches = len(writer.out), writer.cached
        writer.write_key(key)
        try:
            value = loads_verbose(text)
            writer.write_object(value)
        except EncodeError as error:
            raise EncodeError(f"{key.name}: {error}", row=self.index) from None
        if writer.cached == caches:
            known[text] = bytes(writer.out[start:])
        if kernel.COMPILED and isinstance(value, dict):
            self.teach_keys(value)

    def teach_keys(self, mapping: dict[Value, Value]) -> None:
        """How props and contexts begin, and how their keys are written now that the caches know them."""
        writer, copier = self.writer, self.copier
        map_opening = writer.cached_struct("clj/map", 1) + bytes((codes.BEGIN_CLOSED_LIST,))
        if writer.cached_key(CONTEXT):
            copier.props_opening = writer.cached_key(PROPS) + map_opening
            copier.context_opening = writer.cached_key(CONTEXT) + map_opening
            copier.name_opening = map_opening + writer.cached_key(NAME)
            copier.type_opening, copier.source_opening = writer.cached_key(TYPE), writer.cached_key(SOURCE)
            copier.day_opening = writer.cached_key(TRACKED_AT) + writer.cached_struct("java/instant", 1)
        for key in mapping:
            if type(key) is Keyword and key.name.isascii():
                copier.fragments.learn(str(key).encode(), writer.cached_key(key))


# -- reading ---------------------------------------------------------------------------------------------------------


def decode_columns(events: str, limits: Limits = RECEIPT) -> Columns:
    """The `events` text of a batch as columns. Raises DecodeError for whatever is not a batch."""
    return read_columns(blob.decode_str(events, limits), limits, len(events))


def read_columns(data: bytes, limits: Limits = RECEIPT, received: int | None = None) -> Columns:
    """The fressian of a batch as columns, equal to what `fressian.loads` gives, value for value.

    An event that is none, or that `fressian.loads` would not take, is in `bad`, and its neighbours are read. Raises
    DecodeError for bytes that cannot be cut into events, and for more events, rows or work than a body of `received`
    bytes may have (default: as many as the data).
    """
    scan = _Scan(data, limits, received)
    scan.read_batch()
    scan.check_rows(size_of(scan.columns))
    scan.check_contexts(len(set(zip(scan.columns.source, scan.columns.context, strict=True))))
    return scan.columns


def size_of(columns: Columns) -> int:
    """The bytes of the good events as rows, as `wire.limits` counts them."""
    heads = zip(columns.name, columns.type, columns.source, strict=True)
    sizes = {head: count * kernel.head_size(*head) for head, count in Counter(heads).items()}
    texts = (kernel.text_size(text) for column in (columns.props, columns.context) for text in column)
    return ROW * len(columns) + sum(sizes.values()) + sum(texts)


def size_of_bad(bad: list[BadEvent]) -> int:
    """The same for the bad events."""
    return sum(LETTER + kernel.text_size(one.event) for one in bad)


def decode_flat(events: str, limits: Limits = RECEIPT) -> FlatColumns:
    """The same batch as flat arrays: as fast as it gets where `kernel.COMPILED`, slower than columns elsewhere."""
    return read_flat(blob.decode_str(events, limits), limits, len(events))


def read_flat(data: bytes, limits: Limits = RECEIPT, received: int | None = None) -> FlatColumns:
    """The fressian of a batch as flat arrays. Raises DecodeError for whatever is not a batch."""
    scan = _FlatScan(data, limits, received)
    scan.read_batch()
    scan.check_contexts(len(scan.scanner.context_numbers))
    return scan.flat()


_VECTOR = b"\xef\xe3\x0aclj/vector\x01"
_SEQS = b"\xef\xe1clj/seq\x01", b"\xef\xe3\x08clj/list\x01"
_UUID_OPEN = b"\xc3\xd9\x10"
_UUID_SIZE = 16
_TWO_ENDS = bytes((codes.END_COLLECTION, codes.END_COLLECTION))

_HEAD_WINDOW = 1024
_MAP_WINDOW = 16_384
"""Within so many bytes the end of a head or of a map is looked for; a longer one is read without looking. It bounds
what a hostile batch can make us search in vain."""

_DEFECTS: dict[Defect, str] = {
    "wrong-type": "a value in the event is none of the format",
    "too-long": "a value in the event is longer than the reader takes",
    "too-deep": "the values of the event are nested deeper than the reader goes",
}

_SHAPES = 16
"""Shapes of one length and first key that are tried before a value is read."""

_FLAT_DEPTH = 8

_ALL_KEYS = list(KEYS)
_NO_PROFILE = [key for key in KEYS if key is not PROFILE_ID]


class _NoMap(NamedTuple):
    """In place of the JSON text of props or a context that are no map."""

    value: Value


_UNKNOWN_KEYS = 100
_KEY_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")


class _Shape:
    """Props that differ in their uuids only: the bytes and the JSON text around each of them."""

    __slots__ = ("around", "holes", "last", "texts")

    def __init__(self, value: bytes, holes: list[int], texts: list[str]) -> None:
        starts = [0, *(hole + _UUID_SIZE for hole in holes)]
        self.holes = list(zip(starts, holes, [value[a:b] for a, b in zip(starts, holes, strict=False)], strict=False))
        self.last = (starts[-1], value[starts[-1] :])
        self.texts = texts

    def text(self, value: bytes) -> str | None:
        """The JSON text of a value of this length, or None when it is of another shape."""
        start, around = self.last
        if value[start:] != around:
            return None
        pieces = []
        for (start, hole, around), text in zip(self.holes, self.texts, strict=False):
            if value[start:hole] != around:
                return None
            pieces.append(text)
            digits = value[hole : hole + _UUID_SIZE].hex()
            pieces.append(f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}")
        pieces.append(self.texts[-1])
        return "".join(pieces)


class _Place(NamedTuple):
    """Where the key and the value of an entry begin and end, and what of it left the caches as they were.

    `quiet_so_far`: all of the event up to the value; `quiet_key`, `quiet_value`: that part alone.
    """

    key: int
    value: int
    stop: int
    quiet_so_far: bool
    quiet_key: bool
    quiet_value: bool


class _Scan:
    """One pass over a batch: what is known by its bytes is copied, the rest is read and then known."""

    def __init__(self, data: bytes, limits: Limits, received: int | None = None) -> None:
        self.data = data
        self.limits = limits
        received = len(data) if received is None else received
        self.allowance = limits.allowance(received)
        self.reader = Reader(data, limits, READ, limits.event, limits.work(received))
        self.columns = Columns()
        self.unknown_keys, self.bad = self.columns.unknown_keys, self.columns.bad
        self.left_to_keep = self.allowance // 2  # characters of bad events
        self.junk = 0  # items that are no map
        self.inside = False
        self.made = 0  # bytes of JSON text that were written, for good events and bad ones
        self.forget()

    def forget(self) -> None:
        """The caches were reset: known bytes no longer mean what they meant."""
        self.heads: dict[bytes, _Head] = {}
        self.texts: dict[bytes, str] = {}
        self.shapes: dict[tuple[int, bytes], list[_Shape]] = {}
        self.profile_mark = self.props_mark = self.context_mark = b""

    def read_batch(self) -> None:
        """All of the message."""
        reader = self.reader
        if self.data.startswith(_VECTOR):
            reader.handlers = READ | {"clj/vector": self.read_vector}
        elif self.data.startswith(_SEQS):
            reader.handlers = READ | dict.fromkeys(("clj/seq", "clj/list"), self.read_vector)
        value = reader.read()
        if value is not self:
            self.add_events(value, 0)
        if self.bad and reader.pos < reader.end:  # damage can move the places where events begin
            left = reader.end - reader.pos
            raise DecodeError(f"{len(self.bad)} bad events, and {left} bytes behind the last one", reader.pos)

    def read_vector(self, reader: Reader) -> Value:
        """In place of the handler of the batch, which is the first of its kind. Those inside it are values."""
        if self.inside:
            return READ["clj/vector" if self.data.startswith(_VECTOR) else "clj/seq"](reader)
        self.inside = True
        start = reader.pos
        code = self.data[start]
        if codes.LIST_PACKED <= code < codes.LIST_PACKED + codes.PACKED_LENGTHS:
            reader.pos += 1
            count = code - codes.LIST_PACKED
        elif code == codes.LIST:
            reader.pos += 1
            count = reader.read_count()
        elif code in (codes.BEGIN_CLOSED_LIST, codes.BEGIN_OPEN_LIST):
            reader.pos += 1
            self.read_uncounted(reader, is_closed=code == codes.BEGIN_CLOSED_LIST)
            return self
        else:
            self.add_events(reader.read_items(), start)
            return self
        self.check_count(count, start)
        reader.enter()
        while (left := count - self.taken()) > 0:
            self.copy_events(reader, left)
            if self.taken() < count:
                self.read_event(reader)
        reader.leave()
        return self

    def read_uncounted(self, reader: Reader, *, is_closed: bool) -> None:
        """The events of a list that does not say how many they are."""
        start = reader.pos
        reader.enter()
        while is_closed or reader.pos < reader.end:
            if self.data[reader.pos] == codes.END_COLLECTION:
                reader.pos += 1
                break
            self.check_count(self.taken() + 1, start)
            self.read_event(reader)
        reader.leave()

    def taken(self) -> int:
        """Events so far, good and bad."""
        return self.size() + len(self.bad)

    def size(self) -> int:
        """Good events so far."""
        return len(self.columns)

    def copy_events(self, reader: Reader, count: int) -> None:
        """At most `count` events whose parts are all known, up to the first that is not: the loop nearly all take."""
        profile_mark, props_mark, context_mark = self.profile_mark, self.props_mark, self.context_mark
        if not (profile_mark and props_mark and context_mark):
            return
        data, find, columns = self.data, self.data.find, self.columns
        known_head, known_text, text_of = self.heads.get, self.texts.get, self.text_of_shape
        names, types, sources = columns.name, columns.type, columns.source
        tracked, profiles, props, contexts = columns.tracked_at, columns.profile_id, columns.props, columns.context
        to_profile, to_props = len(profile_mark), len(props_mark)
        pos = reader.pos
        for _ in range(count):
            at = find(profile_mark, pos, pos + _HEAD_WINDOW)
            head = known_head(data[pos:at])
            profile = at + to_profile
            start = profile + _UUID_SIZE
            if at < 0 or head is None or data[start : start + to_props] != props_mark:
                break
            start += to_props
            stop = find(context_mark, start, start + _MAP_WINDOW) + 1
            value = data[start:stop]
            text = known_text(value)
            if text is None:
                text = text_of(value)
                if text is None:
                    break
            start = stop + len(context_mark) - 1
            stop = find(_TWO_ENDS, start, start + _MAP_WINDOW) + 1
            context = known_text(data[start:stop])
            if context is None:
                break
            name, type_, source, tracked_at = head
            names.append(name)
            types.append(type_)
            sources.append(source)
            tracked.append(tracked_at)
            profiles.append(data[profile : profile + _UUID_SIZE])
            props.append(text)
            contexts.append(context)
            pos = stop + 1
        reader.pos = pos

    def text_of_shape(self, value: bytes) -> str | None:
        """The JSON text of props that differ from known ones in their uuids only."""
        for shape in self.shapes.get((len(value), value[2:4]), ()):
            text = shape.text(value)
            if text is not None:
                self.count_text(text)
                return text
        return None

    def read_event(self, reader: Reader) -> None:
        """One event as it comes; each part that left the caches as they were is known from then on."""
        reader.charge(EVENT)
        start, made, before = reader.pos, self.made, reader.mark()
        try:
            if reader.opens_map(start):
                self.read_entries(reader)
            else:
                self.add_map(reader.read_object())
        except (DecodeError, RecursionError) as error:
            if isinstance(error, DecodeError) and error.reason != "bad-fressian":
                raise  # a cap of the whole batch
            reader.go_back(before)
            self.made = made
            self.pass_event(reader, error)
        if reader.cached[0] != before.resets:
            reader.charge(RESET)
            self.forget()
        reader.release(before)

    def pass_event(self, reader: Reader, error: DecodeError | RecursionError) -> None:
        """An event that the reader did not take: it is found where the next one begins. Raises DecodeError if not."""
        lenient = LenientReader(reader)
        event = lenient.read()
        is_map, defect = isinstance(event, dict), defect_of(error)
        if not is_map:
            self.count_junk()
        self.put_aside(event if is_map else {}, defect, _DEFECTS[defect], is_whole=is_map and not lenient.is_cut)

    def read_entries(self, reader: Reader) -> None:
        """The entries of an event map, and where each of them stands."""
        data, start = self.data, reader.pos
        reader.enter()
        reader.pos += 2
        items: list[Value] = []
        places: list[_Place] = []
        before = reader.cached
        while data[reader.pos] != codes.END_COLLECTION:
            key_at, caches = reader.pos, reader.cached
            key = reader.read_object()
            value_at, known = reader.pos, reader.cached
            if key is PROPS or key is CONTEXT:
                value = self.read_map(reader, self.context_mark if key is PROPS else _TWO_ENDS)
            else:
                value = reader.read_object()
            items += (key, value)
            quiet = (known == before, known == caches, reader.cached == known)
            places.append(_Place(key_at, value_at, reader.pos, *quiet))
        reader.pos += 1
        reader.leave()
        is_good = self.add_event(make_map(items, start))
        if is_good and items[::2] in (_ALL_KEYS, _NO_PROFILE):
            self.learn_event(start, places)

    def learn_event(self, start: int, places: list[_Place]) -> None:
        """Know the head of the event just added by its bytes, and the bytes between its parts."""
        data, columns = self.data, self.columns
        if len(places) < len(KEYS):
            return
        profile, props, context = places[4:]
        if profile.quiet_so_far:
            head = (columns.name[-1], columns.type[-1], columns.source[-1], columns.tracked_at[-1])
            self.heads[data[start : profile.key]] = head
            if data[profile.value : profile.value + len(_UUID_OPEN)] == _UUID_OPEN:
                self.profile_mark = data[profile.key : profile.value + len(_UUID_OPEN)]
        if props.quiet_key:
            self.props_mark = data[props.key : props.value]
        if context.quiet_key:
            self.context_mark = bytes((codes.END_COLLECTION,)) + data[context.key : context.value]

    def read_map(self, reader: Reader, mark: bytes) -> Value:
        """Props or a context as JSON text, known from then on when it left the caches as they were; or as it comes.

        `mark` is what probably ends it: the last byte of the map and what follows.
        """
        start, before = reader.pos, reader.cached
        stop = self.data.find(mark, start, start + _MAP_WINDOW) + 1
        value = self.data[start:stop]
        known = self.texts.get(value) or self.text_of_shape(value)
        if known is not None:
            reader.pos = stop
            return known
        mapping = reader.read_object()
        if not isinstance(mapping, dict):
            return None if mapping is None else _NoMap(mapping)
        text = self.write_json(mapping)
        if reader.cached == before:
            self.texts[self.data[start : reader.pos]] = text
            if any(type(value) is UUID for value in mapping.values()) and reader.opens_map(start):
                self.learn_shape(reader, start, mapping)
        return text

    def learn_shape(self, reader: Reader, start: int, mapping: dict[Value, Value]) -> None:
        """Know props by their bytes around the uuids: where those stand is read once more, now with an eye on it."""
        data, stop = self.data, reader.pos
        value = data[start:stop]
        shapes = self.shapes.setdefault((len(value), value[2:4]), [])
        if len(shapes) == _SHAPES:
            return
        holes: list[int] = []
        texts: list[str] = []
        text, entries = "{", 0
        reader.pos = start + 2
        while data[reader.pos] != codes.END_COLLECTION:
            key = self.write_json(_plain_text(reader.read_object()))
            at = reader.pos
            entry = reader.read_object()
            text += f"{',' if entries else ''}{key}:"
            entries += 1
            if type(entry) is UUID and data[at : at + len(_UUID_OPEN)] == _UUID_OPEN:
                holes.append(at + len(_UUID_OPEN) - start)
                texts.append(text + '"')
                text = '"'
            else:
                text += self.write_json(entry)
        reader.pos = stop
        if entries == len(plain(mapping)):
            shapes.append(_Shape(value, holes, [*texts, text + "}"]))

    def write_json(self, value: Value) -> str:
        """A value as JSON text; what it makes is counted, because references can repeat a long value for two bytes."""
        text = _json_text(plain(value))
        self.count_text(text)
        return text

    def count_text(self, text: str) -> None:
        """Hold the cap on what has been made so far."""
        self.made += kernel.text_size(text)
        self.check_rows(self.made)

    def check_rows(self, size: int) -> None:
        """Hold the cap on what the events are as rows."""
        if size > self.allowance:
            raise LimitError(f"the events make rows of more than {self.allowance} bytes", reason="too-large")

    def check_contexts(self, count: int) -> None:
        """Each different context is reduced by itself, later."""
        self.reader.charge(count * CONTEXT_WORK)

    def check_count(self, count: int, start: int) -> None:
        """Hold the cap on events, before the first is read."""
        if count > self.limits.events:
            raise LimitError(f"{count} events, the cap is {self.limits.events}", start, "too-many-events")

    def add_events(self, value: Value, start: int) -> None:
        """A batch that came as any other kind of list."""
        if not isinstance(value, list | tuple):
            raise DecodeError(f"a batch is a vector of events, not a {type(value).__name__}", start, "wrong-shape")
        self.check_count(len(value), start)
        for event in value:
            self.add_map(event)

    def add_map(self, event: Value) -> None:
        """An event that came as any other kind of map, or as something else."""
        if not isinstance(event, dict):
            self.count_junk()
            self.put_aside({}, "not-a-map", f"an event is a map, not a {type(event).__name__}", is_whole=False)
            return
        fields = dict(event)
        for key in (PROPS, CONTEXT):
            value = fields.get(key)
            if value is not None:
                fields[key] = self.write_json(value) if isinstance(value, dict) else _NoMap(value)
        self.add_event(fields)

    def add_event(self, fields: dict[Value, Value]) -> bool:
        """One event whose props and context are JSON text already; False, and it is put aside, when it is none."""
        fault = find_fault(fields, self.limits)
        if fault is not None:
            self.put_aside(fields, *fault)
            return False
        profile_id, tracked_at = fields.get(PROFILE_ID), fields[TRACKED_AT].ms
        head = fields[NAME], fields[TYPE], fields[SOURCE], tracked_at
        props, context = fields.get(PROPS), fields.get(CONTEXT)  # nil is the empty map, as Penpot reads it
        self.add_row(head, profile_id and profile_id.bytes, props or "{}", context or "{}")
        if len(fields) > len(KEYS) or not fields.keys() <= set(KEYS):
            self.count_unknown(fields)
        return True

    def put_aside(self, fields: dict[Value, Value], reason: BadReason, message: str, *, is_whole: bool = True) -> None:
        """One bad event, with what is kept of it."""
        self.reader.charge(LETTER)
        event, is_cut = write_kept(fields, min(MOST_KEPT, self.left_to_keep))
        self.left_to_keep -= len(event)
        self.bad.append(BadEvent(self.taken(), reason, message, event, is_whole and not is_cut))
        self.check_rows(LETTER * len(self.bad))

    def count_junk(self) -> None:
        """One more item that is no map: with some of them, the others may still be events."""
        self.junk += 1
        if self.junk > self.limits.junk:
            raise DecodeError(f"more than {self.limits.junk} items are no map: no batch", reason="wrong-shape")

    def add_row(self, head: _Head, profile_id: bytes | None, props: str, context: str) -> None:
        """The parts of one event into the columns."""
        columns = self.columns
        for column, part in zip((columns.name, columns.type, columns.source), head[:3], strict=True):
            column.append(part)
        columns.tracked_at.append(head[3])
        columns.profile_id.append(profile_id)
        columns.props.append(props)
        columns.context.append(context)

    def count_unknown(self, fields: dict[Value, Value]) -> None:
        """Count the keys that no event has; by name only where the name can be no more than a name."""
        unknown = self.unknown_keys
        for key in fields:
            if key not in KEYS:
                name = key.name if type(key) is Keyword and key.ns is None and _KEY_NAME.fullmatch(key.name) else ""
                if name not in unknown and len(unknown) >= _UNKNOWN_KEYS:
                    name = ""
                unknown[name] = unknown.get(name, 0) + 1


_REF_CODES = range(codes.CACHE_REF_PACKED, codes.CACHE_REF_PACKED + codes.PACKED_REFS)
_STRUCT_CODES = range(codes.STRUCT_PACKED, codes.STRUCT_PACKED + codes.PACKED_STRUCTS)
_MOST_KEY_TEXT = 256
"""Bytes of a key's JSON text that the kernel writes: a long key named a million times is left to the caps here."""


class _FlatScan(_Scan):
    """The same pass into flat arrays: the kernel takes what it was taught, and everything else comes by here."""

    def __init__(self, data: bytes, limits: Limits, received: int | None = None) -> None:
        self.scanner = kernel.Scanner(data, limits.allowance(len(data) if received is None else received))
        self.last: tuple[_Head, str]  # the head and the context of the event just added
        # what the kernel reads is shallow and its strings are short; under tighter caps it is not asked
        are_wide = limits.string >= kernel.MOST_STRING and limits.word >= kernel.MOST_WORD
        self.is_taught = are_wide and limits.depth >= _FLAT_DEPTH
        super().__init__(data, limits, received)

    def forget(self) -> None:
        """The caches were reset, so the kernel forgets too."""
        super().forget()
        self.scanner.reset()

    def size(self) -> int:
        """Good events so far."""
        return len(self.scanner.head_of)

    def copy_events(self, reader: Reader, count: int) -> None:
        """At most `count` events by the kernel, up to the first that it was not taught."""
        scanner = self.scanner
        for value in reader.cached_values(len(scanner.keys)):
            text = b""
            if type(value) is str or type(value) is Keyword:
                text = _json_text(str(value)).encode("utf-8", "replace")
            if len(text) > _MOST_KEY_TEXT:
                text = b""
            is_key = text and type(value) is Keyword
            scanner.add_slot(text + b":" if is_key else b"", b"" if is_key else text)
        codes_now = reader.struct_code("clj/keyword"), reader.struct_code("clj/vector")
        reader.pos = scanner.copy(reader.pos, count, *codes_now)
        for name, is_key in scanner.take_learned():
            if is_key:
                reader.put_keyword(name.decode("ascii"))
            else:
                reader.put_name(name.decode("ascii"))
        self.check_rows(scanner.made)

    def add_row(self, head: _Head, profile_id: bytes | None, props: str, context: str) -> None:
        """The parts of one event into the arrays."""
        self.last = head, context
        self.scanner.add(head, profile_id, props.encode(), context)
        self.check_rows(self.scanner.made)

    def learn_event(self, start: int, places: list[_Place]) -> None:
        """Teach the kernel the head and the context of the event just added, and the keys of its parts.

        An event may have no profile; the head ends at its props then.
        """
        if not self.is_taught:
            return
        data, scanner = self.data, self.scanner
        head, context = places[3], places[-1]
        if places[4].quiet_so_far:
            scanner.learn_head(start, places[4].key, self.last[0])
        if context.quiet_value:
            scanner.learn_context(context.value, context.stop, self.last[0][2], self.last[1])
        keys = [data[place.key] for place in places]
        short = all(place.value == place.key + 1 and place.quiet_key for place in places) and head.quiet_value
        if short and all(key in _REF_CODES for key in keys) and data[head.value] in _STRUCT_CODES:
            if len(keys) < len(KEYS):
                keys.insert(4, scanner.profile_key)
            scanner.teach(data[start], data[head.value], keys)

    def flat(self) -> FlatColumns:
        """What the pass has filled."""
        scanner = self.scanner
        return FlatColumns(
            heads=list(scanner.head_numbers),
            head_of=memoryview(scanner.head_of),
            profiles=scanner.profiles.getvalue(),
            no_profile=scanner.no_profile,
            props=scanner.text.getvalue(),
            props_ends=memoryview(scanner.ends),
            contexts=list(scanner.context_numbers),
            context_of=memoryview(scanner.context_of),
            unknown_keys=self.unknown_keys,
            bad=self.bad,
            size=scanner.made + size_of_bad(self.bad),
        )


_KINDS: tuple[tuple[Keyword, type, str], ...] = (
    (NAME, str, "a string"),
    (TYPE, str, "a string"),
    (SOURCE, str, "a string"),
    (TRACKED_AT, Instant, "an instant"),
    (PROFILE_ID, UUID, "a uuid"),
)


def find_fault(fields: dict[Value, Value], limits: Limits) -> tuple[BadReason, str] | None:
    """What makes a map no event, by the first of its keys that does; None when it is one."""
    for key, kind, expected in _KINDS:
        value = fields.get(key)
        if value is None:
            if key is not PROFILE_ID:
                return "missing-field", f"{key} is missing"
        elif not isinstance(value, kind):
            return "wrong-type", f"{key} is a {type(value).__name__}, expected {expected}"
        elif isinstance(value, str) and len(value) > limits.word:
            return "too-long", f"{key} has {len(value)} characters, the cap is {limits.word}"
    for key in (PROPS, CONTEXT):
        if type(found := fields.get(key)) is _NoMap:
            return "wrong-type", f"{key} is a {type(found.value).__name__}, expected a map"
    return None


# -- keeping what is bad ---------------------------------------------------------------------------------------------

CUT = "…"
"""Where something was cut: at the end of a string, in place of a value, or as a key for the entries left out."""


def write_kept(fields: dict[Value, Value], most: int) -> tuple[str, bool]:
    """The seven fields of a bad event as a JSON object of about so many characters at most; whether one was cut."""
    keeper = _Keeper(most)
    kept = []
    for key in KEYS:
        value = fields.get(key)
        if value is None:
            continue
        if key in (PROPS, CONTEXT) and isinstance(value, str):  # JSON text already
            text = value if len(value) <= keeper.left else _json_text(CUT)
            keeper.is_cut |= text is not value
            keeper.left -= len(text)
        else:
            text = _json_text(keeper.keep(value.value if type(value) is _NoMap else value))
        kept.append(f'"{key.name}":{text}')
    return "{" + ",".join(kept) + "}", keeper.is_cut


class _Keeper:
    """Makes JSON of values, in one pass, and stops when `left` characters are used up."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.is_cut = False

    def keep(self, value: Value) -> Json:
        """As `plain`, as far as there is room."""
        self.left -= 8
        if self.left <= 0:
            self.is_cut = True
            return CUT
        if isinstance(value, dict):
            entries: dict[str, Json] = {}
            for key, entry in value.items():
                if self.left <= 0:
                    self.is_cut = True
                    entries[CUT] = CUT
                    break
                name = self.keep_key(from_key(key))
                entries[name] = self.keep(entry)
            return entries
        if isinstance(value, list | tuple | AbstractSet):
            items = []
            for item in value:
                items.append(self.keep(item))
                if self.is_cut and self.left <= 0:
                    break
            return items
        if isinstance(value, Tagged):
            return {"tag": self.keep(value.tag), "value": self.keep(value.value)}
        if isinstance(value, Array):
            return self.keep(value.items)
        made = plain(value)
        if isinstance(made, str):
            size = 1 if made.isprintable() else 6  # as JSON, a control character has six
            if size * len(made) > self.left:
                self.is_cut = True
                made = made[: self.left * 3 // 4 // size] + CUT  # the rest is for what follows
            self.left -= size * len(made)
        return made

    def keep_key(self, key: Value) -> str:
        """The same for a key."""
        text = self.keep(key)
        return text if isinstance(text, str) else _json_text(text)


_encode_json = msgspec.json.Encoder().encode


def _json_text(value: Json) -> str:
    try:
        return _encode_json(value).decode()
    except (OverflowError, msgspec.MsgspecError):  # an int of more than 64 bits
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _plain_text(key: Value) -> str:
    """A map key as `plain` writes it."""
    (text,) = plain({as_key(key): None})
    return str(text)
