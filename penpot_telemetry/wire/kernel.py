"""The two loops that nearly all of a batch takes, over flat arrays and machine integers.

Compiled by mypyc where a compiler is there (`COMPILED`); the same source also runs interpreted. It decides nothing:
what it was not taught, byte for byte, it leaves to the reader and the writer in `fressian`, by saying where it
stopped. A guess (where a head or a context may end) counts only once its bytes are found to be ones read before.
"""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from librt.strings import (
    BytesWriter,
    read_f64_be,
    read_i32_le,
    read_i64_be,
    read_i64_le,
    write_f64_be,
    write_i32_le,
    write_i64_le,
)
from librt.vecs import append, vec
from mypy_extensions import i32, i64, u8

from penpot_telemetry.wire.limits import ROW

COMPILED: Final = not __file__.endswith(".py")

END: Final = 0xFD
CLOSED: Final = 0xED
UUID_SIZE: Final = 16
DAY_MS: Final = 86_400_000
MOST_DAY: Final = 0x2_0000_0000_0000
"""Instants below are written here; this one is 19,807 years away."""
FAR: Final = 0x100_0000_0000
"""A position beyond all data: to read there ends the loop."""

HEAD_WINDOW: Final = 1_024
MAP_WINDOW: Final = 4_096
"""Within so many bytes the end of a head or of a context is looked for: what hostile bytes can make us walk in vain."""

MOST_KNOWN: Final = 4_096
"""So many heads, and so many contexts of a source, are remembered."""

MOST_STRING: Final = 4_096
"""The longest string that is read or written here."""

MOST_WORD: Final = 250
"""The longest name, type or source that is read here."""
NONE: Final = b""
NOTHING: Final = b"-"
"""No event begins like this."""

_write_double: Callable[[float], bytes] = msgspec.json.Encoder().encode

SPREAD: Final = 0x4F1BBCDD
GUESSES: Final = 2_048
GUESSES_MASK: Final = 2_047


def _widths() -> bytes:
    """For each code how many bytes it stands for, itself included; 0 where it does not tell, or is seldom met.

    The components of a struct count as codes of their own.
    """
    widths = [0] * 256
    for first, stop, width in (
        (0x00, 0x40, 1),  # ints
        (0x40, 0x60, 2),
        (0x60, 0x70, 3),
        (0x70, 0x74, 4),
        (0x74, 0x78, 5),
        (0x78, 0x7C, 6),
        (0x7C, 0x80, 7),
        (0x80, 0xB0, 1),  # references and known structs
        (0xC3, 0xC4, 3 + UUID_SIZE),
        (0xCC, 0xCE, 1),  # a long reference, and what is put into the cache
        (0xF5, 0xF8, 1),  # true, false, nil
        (0xF8, 0xF9, 9),
        (0xFA, 0xFB, 9),
        (0xFB, 0xFD, 1),  # the doubles 0 and 1
        (0xFF, 0x100, 1),
    ):
        widths[first:stop] = [width] * (stop - first)
    for size in range(8):
        widths[0xDA + size] = 1 + size
    return bytes(widths)


WIDTHS: Final = _widths()


def text_size(text: str) -> int:
    """The bytes of a text in UTF-8; half a surrogate pair has three."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def head_size(name: str, type_: str, source: str) -> int:
    """The most bytes of a name, a type and a source as JSON text, where a control character has six."""
    return text_size(name) * 6 + text_size(type_) * 6 + text_size(source) * 6


# -- reading ---------------------------------------------------------------------------------------------------------


def skip(data: bytes, pos: i64) -> i64:
    """Just after a string whose length is written out, or a uuid; FAR for whatever else has no width of its own."""
    code: i64 = data[pos]
    if code == 0xE3:
        size: i64 = data[pos + 1]
        if size < 0x40:
            return pos + 2 + size
        if 0x50 <= size < 0x60:
            low: i64 = data[pos + 2]
            return pos + 3 + ((size - 0x50) << 8 | low)
    return FAR


def after_code(data: bytes, pos: i64) -> i64:
    """Just after the code that stands there and what belongs to it, or FAR."""
    width: i64 = WIDTHS[data[pos]]
    return pos + width if width != 0 else skip(data, pos)


def int_size(code: i64) -> i64:
    """The bytes of a packed int of two to seven, its code included."""
    if code < 0x60:
        return 2
    if code < 0x70:
        return 3
    if code < 0x74:
        return 4
    return 5 if code < 0x78 else 6 if code < 0x7C else 7


def read_packed(data: bytes, pos: i64, code: i64) -> i64:
    """The value of a packed int of two to seven bytes."""
    size = int_size(code) - 1
    zero: i64 = 0x50 if size == 1 else 0x68 if size == 2 else 0x72 + (size - 3) * 4
    value: i64 = code - zero
    pos += 1
    while size > 0:
        byte: i64 = data[pos]
        value = value << 8 | byte
        pos += 1
        size -= 1
    return value


class Scanner:
    """One pass over a batch: events of known parts go into flat arrays.

    One index an event into heads and contexts, 16 bytes an event of `profiles`, and the JSON of the props one after
    the other in `text`, each up to its offset in `ends`. `no_profile` lists the events without a profile. `made` counts
    the bytes of all events as rows, however often a text is pointed to; copying stops above `most_made`.

    `keys` holds the JSON text of each slot of the priority cache that is a keyword, `strings` of each that is a string;
    empty for any other. `learned` tells what events taken here have put there: a keyword and its name (True), two
    slots, or the name of a keyword that is a value (False), one slot.
    """

    def __init__(self, data: bytes, most_made: int) -> None:
        self.data = data
        self.most_made: i64 = most_made
        self.made: i64 = 0
        self.head_of = vec[i32]()
        self.context_of = vec[i32]()
        self.profiles = BytesWriter()
        self.no_profile: list[int] = []
        self.text = BytesWriter()
        self.ends = vec[i64]([0])
        self.head_numbers: dict[tuple[str, str, str, int], int] = {}
        self.head_sources = vec[i64]()
        self.head_sizes = vec[i64]()
        self.source_numbers: dict[str, int] = {}
        self.sources: list[str] = []
        self.context_numbers: dict[tuple[str, str], int] = {}
        self.context_sizes = vec[i64]()
        self.reset()

    def reset(self) -> None:
        """Forget what was taught: the caches begin anew."""
        self.heads: dict[bytes, int] = {}
        self.contexts: list[dict[bytes, int]] = [{} for _ in self.sources]
        self.head_guesses: list[bytes] = [NOTHING] * GUESSES
        self.guessed_heads = vec[i64]([0] * GUESSES)
        self.context_guesses: list[bytes] = [NOTHING] * GUESSES
        self.guessed_contexts = vec[i64]([0] * GUESSES)
        self.guessed_sources = vec[i64]([0] * GUESSES)
        self.keys: list[bytes] = []
        self.strings: list[bytes] = []
        self.key_slots: dict[bytes, int] = {}
        self.seen = vec[i64]()
        self.turn: i64 = 0
        self.learned: list[tuple[bytes, bool]] = []
        self.map_code: i64 = -1
        self.instant_code: i64 = -1
        self.keyword_code: i64 = -1
        self.vector_code: i64 = -1
        self.head_keys = vec[i64]([-1, -1, -1, -1])
        self.profile_key: i64 = -1
        self.props_key: i64 = -1
        self.context_key: i64 = -1

    def teach(self, map_code: int, instant_code: int, keys: list[int]) -> None:
        """The codes of an event's map, of its instant and of its seven keys, in their order; -1 for a profile's key
        that was not met yet.
        """
        self.map_code = map_code
        self.instant_code = instant_code
        self.head_keys = vec[i64]([i64(key) for key in keys[:4]])
        self.profile_key, self.props_key, self.context_key = keys[4], keys[5], keys[6]

    def add_slot(self, key: bytes, string: bytes) -> None:
        """The next slot of the priority cache: the JSON text of a keyword or of a string, or nothing."""
        if key in self.key_slots:
            key = b""
        elif key:
            self.key_slots[key] = len(self.keys)
        self.keys.append(key)
        self.strings.append(string)
        self.seen = append(self.seen, 0)

    def take_learned(self) -> list[tuple[bytes, bool]]:
        """What is in the slots already and the reader does not have yet."""
        learned = self.learned
        self.learned = []
        return learned

    def number_head(self, head: tuple[str, str, str, int]) -> i64:
        """The index of a head, a new one if need be."""
        number: i64 = self.head_numbers.setdefault(head, len(self.head_numbers))
        if number == i64(len(self.head_sources)):
            source = self.source_numbers.setdefault(head[2], len(self.sources))
            if source == len(self.sources):
                self.sources.append(head[2])
                self.contexts.append({})
            self.head_sources = append(self.head_sources, i64(source))
            self.head_sizes = append(self.head_sizes, i64(ROW + head_size(head[0], head[1], head[2])))
        return number

    def number_context(self, source: str, context: str) -> i64:
        """The index of a context beside its source, a new one if need be."""
        number: i64 = self.context_numbers.setdefault((source, context), len(self.context_numbers))
        if number == i64(len(self.context_sizes)):
            self.context_sizes = append(self.context_sizes, i64(text_size(context)))
        return number

    def add(self, head: tuple[str, str, str, int], profile_id: bytes | None, props: bytes, context: str) -> None:
        """One event that was read elsewhere."""
        if profile_id is None:
            self.no_profile.append(len(self.head_of))
            profile_id = bytes(UUID_SIZE)
        head_number, context_number = self.number_head(head), self.number_context(head[2], context)
        self.head_of = append(self.head_of, i32(head_number))
        self.context_of = append(self.context_of, i32(context_number))
        self.profiles.write(profile_id)
        self.text.write(props)
        self.ends = append(self.ends, i64(len(self.text)))
        self.made += len(props) + self.head_sizes[head_number] + self.context_sizes[context_number]

    def learn_head(self, start: int, stop: int, head: tuple[str, str, str, int]) -> None:
        """From now on the bytes between these places are this head."""
        if len(self.heads) < MOST_KNOWN:
            self.heads[self.data[start:stop]] = int(self.number_head(head))

    def learn_context(self, start: int, stop: int, source: str, context: str) -> None:
        """From now on the bytes between these places are this context, beside this source."""
        known = self.contexts[self.source_numbers[source]]
        if len(known) < MOST_KNOWN:
            known[self.data[start:stop]] = int(self.number_context(source, context))

    def copy(self, pos: int, count: int, keyword_code: int, vector_code: int) -> int:
        """Take up to `count` events from `pos` on; returns the position of the first that was not taken.

        A keyword begins with `keyword_code` and a vector with `vector_code`, or -1 where there was none yet.
        """
        here: i64 = pos
        left: i64 = count
        self.keyword_code = keyword_code
        self.vector_code = vector_code
        while left > 0 and self.made <= self.most_made:
            size, keys = i64(len(self.text)), len(self.keys)
            try:
                stop = self.copy_event(here)
            except IndexError:
                stop = -1
            if stop < 0:
                self.text.truncate(size)
                if len(self.keys) > keys:
                    self.forget_slots(keys)
                break
            self.made += i64(len(self.text)) - size
            here = stop
            left -= 1
        return here

    def forget_slots(self, count: int) -> None:
        """Take back what was put into the cache by an event that was not taken after all."""
        while len(self.keys) > count:
            key = self.keys.pop()
            self.strings.pop()
            if key:
                self.learned.pop()
                del self.key_slots[key]
            elif not self.learned[-1][1]:
                self.learned.pop()
        self.seen = vec[i64]([0] * count)

    def map_end(self, pos: i64) -> tuple[i64, i64]:
        """Where the map that begins there may end, or FAR; and a number that is seldom the same for another map."""
        data = self.data
        if data[pos] != self.map_code or data[pos + 1] != CLOSED:
            return FAR, 0
        limit = pos + MAP_WINDOW
        mixed: i64 = 0
        pos += 2
        while pos <= limit:
            code: i64 = data[pos]
            if code == END:
                return pos + 1, mixed
            width: i64 = WIDTHS[code]
            if width == 1:
                mixed += code
                pos += 1
                continue
            stop = pos + width if width != 0 else skip(data, pos)
            if stop > limit:
                return FAR, 0
            while pos < stop:
                pos = pos + 8 if pos + 8 < stop else stop
                word = read_i64_le(data, pos - 8)
                mixed = ((mixed ^ word ^ word >> 32) & 0x7FFFFFFF) * SPREAD >> 11
        return FAR, 0

    def context_at(self, start: i64, stop: i64, mixed: i64, source: i64) -> i64:
        """The index of the context between two places, beside a source, or -1."""
        if stop == FAR:
            return -1
        slot = (mixed + source) & GUESSES_MASK
        raw = self.data[start:stop]
        if raw == self.context_guesses[slot] and self.guessed_sources[slot] == source:
            return self.guessed_contexts[slot]
        context: i64 = self.contexts[source].get(raw, -1)
        if context < 0:
            return self.read_context(start, stop, self.sources[source])
        self.context_guesses[slot] = raw
        self.guessed_contexts[slot] = context
        self.guessed_sources[slot] = source
        return context

    def copy_event(self, start: i64) -> i64:
        """Take the event there and return the position after it, or -1."""
        data = self.data
        if data[start] != self.map_code or data[start + 1] != CLOSED:
            return -1
        # One name, nearly always one head: what followed this name before is compared first.
        word = read_i64_le(data, start + 3)
        name: i64 = ((word ^ word >> 32) & 0xFFFFFFFF) * SPREAD >> 20 & GUESSES_MASK
        guess = self.head_guesses[name]
        pos: i64 = start + len(guess)
        if data[start:pos] == guess:
            head = self.guessed_heads[name]
        else:
            pos = self.head_end(start)
            head = self.head_at(start, pos)
            if head < 0:
                return -1
            self.head_guesses[name] = data[start:pos]
            self.guessed_heads[name] = head
        profile: i64 = -1
        if data[pos] == self.profile_key:
            if data[pos + 1] != 0xC3 or data[pos + 2] != 0xD9 or data[pos + 3] != 0x10:
                return -1
            profile = pos + 4
            pos = profile + UUID_SIZE
        if data[pos] != self.props_key:
            return -1
        pos = self.copy_map(pos + 1, self.text)
        if pos < 0 or data[pos] != self.context_key:
            return -1
        pos += 1
        start = pos
        pos, mixed = self.map_end(start)
        context = self.context_at(start, pos, mixed, self.head_sources[head])
        if context < 0 or data[pos] != END:
            return -1
        if profile < 0:
            self.no_profile.append(len(self.head_of))
        self.head_of = append(self.head_of, i32(head))
        self.context_of = append(self.context_of, i32(context))
        self.made += self.head_sizes[head] + self.context_sizes[context]
        write_i64_le(self.profiles, read_i64_le(data, profile) if profile >= 0 else 0)
        write_i64_le(self.profiles, read_i64_le(data, profile + 8) if profile >= 0 else 0)
        self.ends = append(self.ends, i64(len(self.text)))
        return pos + 1

    def head_end(self, start: i64) -> i64:
        """Where the head of the event that begins there may end, or FAR."""
        data, key, other, limit = self.data, self.profile_key, self.props_key, start + HEAD_WINDOW
        pos: i64 = start + 2
        while True:
            code: i64 = data[pos]
            if code == key:
                return pos
            if code == other:
                return pos
            width: i64 = WIDTHS[code]
            pos = pos + width if width != 0 else skip(data, pos)
            if pos > limit:
                return FAR

    def head_at(self, start: i64, stop: i64) -> i64:
        """The index of the head between two places, or -1."""
        if stop == FAR:
            return -1
        head: i64 = self.heads.get(self.data[start:stop], -1)
        return head if head >= 0 else self.read_head(start, stop)

    def read_head(self, start: i64, stop: i64) -> i64:
        """The index of a head not met before, or -1 when it is not written as most are."""
        data = self.data
        texts: list[str] = []
        pos: i64 = start + 2
        for field in range(3):
            if data[pos] != self.head_keys[field]:
                return -1
            after = after_code(data, pos + 1)
            code: i64 = data[pos + 1]
            begin: i64 = pos + 2 if code != 0xE3 else pos + 3 if data[pos + 2] < 0x40 else pos + 4
            if not (0xDA <= code <= 0xE1 or code == 0xE3) or after > stop or after - begin > MOST_WORD:
                return -1
            raw = data[begin:after]
            if not raw.isascii():
                return -1
            texts.append(raw.decode("ascii"))
            pos = after
        if data[pos] != self.head_keys[3] or data[pos + 1] != self.instant_code:
            return -1
        pos += 2
        code = data[pos]
        if code >= 0x80 or after_code(data, pos) != stop:
            return -1
        instant = code if code < 0x40 else read_packed(data, pos, code)
        head = (texts[0], texts[1], texts[2], int(instant))
        self.learn_head(start, stop, head)
        return self.number_head(head)

    def read_context(self, start: i64, stop: i64, source: str) -> i64:
        """The index of a context not met before, or -1 when it holds more than scalars."""
        out = BytesWriter()
        keys = len(self.keys)
        if self.copy_map(start, out) != stop:
            return -1
        context = out.getvalue().decode()
        if len(self.keys) == keys:
            self.learn_context(start, stop, source, context)
        return self.number_context(source, context)

    def copy_map(self, pos: i64, out: BytesWriter) -> i64:
        """A map of scalars, its keys known or put into the cache, as JSON; returns the position after it, or -1."""
        data = self.data
        if data[pos] != self.map_code or data[pos + 1] != CLOSED:
            return -1
        pos += 2
        out.append(0x7B)
        self.turn += 1
        turn, is_first = self.turn, True
        while data[pos] != END:
            slot: i64 = data[pos] - 0x80
            pos += 1
            if slot == 0xCC - 0x80:
                slot, pos = far_slot(data, pos)
            elif slot == 0xCD - 0x80:
                slot = len(self.keys)
                pos = self.learn_key(pos)
                if pos < 0:
                    return -1
            elif not 0 <= slot < 0x20:
                return -1
            if not 0 <= slot < i64(len(self.keys)) or self.seen[slot] == turn:
                return -1  # a key twice: which one counts is not decided here
            self.seen[slot] = turn
            key = self.keys[slot]
            if len(key) == 0:
                return -1
            if is_first:
                is_first = False
            else:
                out.append(0x2C)
            out.write(key)
            pos = self.copy_vector(pos, out) if data[pos] == self.vector_code else self.copy_scalar(pos, out)
            if pos < 0:
                return -1
        out.append(0x7D)
        return pos + 1

    def learn_key(self, pos: i64) -> i64:
        """A keyword without a namespace, its name written out and kept too; returns the position after it, or -1."""
        data = self.data
        if data[pos] != self.keyword_code or data[pos + 1] != 0xF7 or data[pos + 2] != 0xCD:
            return -1
        start, stop = self.name_between(pos + 3)
        if start == stop:
            return -1
        name = data[start:stop]
        text = b'"' + name + b'"'
        key = text + b":"
        if key in self.key_slots:
            return -1
        self.add_slot(key, NONE)
        self.add_slot(NONE, text)
        self.learned.append((name, True))
        return stop

    def copy_vector(self, pos: i64, out: BytesWriter) -> i64:
        """A vector of scalars as JSON text; returns the position after it, or -1."""
        data = self.data
        count: i64 = data[pos + 1]
        pos += 2
        if count == 0xEC:
            count = data[pos]
            pos += 1
            if count >= 0x40:
                return -1
        elif 0xE4 <= count <= 0xEB:
            count -= 0xE4
        else:
            return -1
        out.append(0x5B)
        for index in range(count):
            if index != 0:
                out.append(0x2C)
            pos = self.copy_scalar(pos, out)
            if pos < 0:
                return -1
        out.append(0x5D)
        return pos

    def copy_keyword(self, pos: i64, out: BytesWriter) -> i64:
        """A keyword as a value, without a namespace, after its code; returns the position after it, or -1."""
        data = self.data
        if data[pos] != 0xF7:
            return -1
        slot: i64 = data[pos + 1] - 0x80
        pos += 2
        if slot == 0xCC - 0x80:
            slot, pos = far_slot(data, pos)
        elif slot == 0xCD - 0x80:
            slot = len(self.keys)
            start, stop = self.name_between(pos)
            if start == stop:
                return -1
            name = data[start:stop]
            self.add_slot(NONE, b'"' + name + b'"')
            self.learned.append((name, False))
            pos = stop
        elif not 0 <= slot < 0x20:
            return -1
        if not 0 <= slot < i64(len(self.strings)):
            return -1
        string = self.strings[slot]
        out.write(string)
        return pos if len(string) != 0 else -1

    def name_between(self, pos: i64) -> tuple[i64, i64]:
        """Where a short name in plain ASCII begins and ends; twice the same where there is none."""
        data = self.data
        code: i64 = data[pos]
        pos += 1
        if code == 0xE3:
            code = data[pos]
            pos += 1
            if not 8 <= code < 0x40:
                return pos, pos
            stop = pos + code
        elif 0xDA < code <= 0xE1:
            stop = pos + code - 0xDA
        else:
            return pos, pos
        for place in range(pos, stop):
            byte: i64 = data[place]
            if byte < 0x20 or byte >= 0x7F or byte == 0x22 or byte == 0x5C:
                return pos, pos
        return pos, stop

    def copy_scalar(self, pos: i64, out: BytesWriter) -> i64:
        """A scalar as JSON text; returns the position after it, or -1."""
        data = self.data
        code: i64 = data[pos]
        if code == 0xC3:
            if data[pos + 1] != 0xD9 or data[pos + 2] != 0x10:
                return -1
            copy_uuid(data, pos + 3, out)
            return pos + 3 + UUID_SIZE
        if code < 0x40:
            write_decimal(code, out)
            return pos + 1
        if code < 0x80:
            write_decimal(read_packed(data, pos, code), out)
            return pos + int_size(code)
        if 0xDA <= code <= 0xE1 or code == 0xE3:
            stop = after_code(data, pos)
            if stop == FAR:
                return -1
            pos += 1 if code != 0xE3 else 2 if data[pos + 1] < 0x40 else 3
            out.append(0x22)
            while pos < stop:
                byte: i64 = data[pos]
                if byte < 0x20 or byte >= 0x7F or byte == 0x22 or byte == 0x5C:
                    return -1
                out.append(u8(byte))
                pos += 1
            out.append(0x22)
            return pos
        if code == 0xF5:
            out.write(b"true")
            return pos + 1
        if code == 0xF6:
            out.write(b"false")
            return pos + 1
        if code == 0xF7:
            out.write(b"null")
            return pos + 1
        if code == 0xFA:
            out.write(_write_double(read_f64_be(data, pos + 1)))
            return pos + 9
        if code == 0xFB:
            out.write(b"0.0")
            return pos + 1
        if code == 0xFC:
            out.write(b"1.0")
            return pos + 1
        if code == 0xF8:
            write_decimal(read_i64_be(data, pos + 1), out)
            return pos + 9
        return self.copy_keyword(pos + 1, out) if code == self.keyword_code else -1


def far_slot(data: bytes, pos: i64) -> tuple[i64, i64]:
    """A slot past those that have a code of their own, or -1, and the position after it."""
    slot: i64 = data[pos]
    if slot < 0x40:
        return slot, pos + 1
    if 0x50 <= slot < 0x60:
        low: i64 = data[pos + 1]
        return (slot - 0x50) << 8 | low, pos + 2
    return -1, pos


def copy_uuid(data: bytes, pos: i64, out: BytesWriter) -> None:
    """Sixteen bytes as the text of a uuid in quotes."""
    out.append(0x22)
    write_i64_le(out, hex_digits(read_i32_le(data, pos)))
    out.append(0x2D)
    digits = hex_digits(read_i32_le(data, pos + 4))
    write_i32_le(out, i32(digits & 0xFFFFFFFF))
    out.append(0x2D)
    write_i32_le(out, i32(digits >> 32))
    out.append(0x2D)
    digits = hex_digits(read_i32_le(data, pos + 8))
    write_i32_le(out, i32(digits & 0xFFFFFFFF))
    out.append(0x2D)
    write_i32_le(out, i32(digits >> 32))
    write_i64_le(out, hex_digits(read_i32_le(data, pos + 12)))
    out.append(0x22)


def hex_digits(word: i32) -> i64:
    """Four bytes as eight hex digits, both in the order of memory: the nibbles are spread, then each made a letter."""
    spread: i64 = i64(word) & 0xFFFFFFFF
    spread = (spread | spread << 16) & 0x0000FFFF0000FFFF
    spread = (spread | spread << 8) & 0x00FF00FF00FF00FF
    nibbles = spread >> 4 & 0x000F000F000F000F | (spread & 0x000F000F000F000F) << 8
    return write_letters(nibbles)


def write_letters(nibbles: i64) -> i64:
    """Eight nibbles, one in a byte, as the lower-case digits that stand for them."""
    letters = (nibbles + 0x0606060606060606) >> 4 & 0x0101010101010101
    return nibbles + 0x3030303030303030 + letters * 0x27


def write_decimal(value: i64, out: BytesWriter) -> None:
    """An int in decimal digits."""
    if 0 <= value < 10:
        out.append(u8(0x30 + value))
    else:
        out.write(str(value).encode())


# -- writing ---------------------------------------------------------------------------------------------------------


class Fragments:
    """Keys of maps as they stand in a message once the caches know them: `"~:team-id"` is one or a few bytes."""

    def __init__(self) -> None:
        self.number_of: dict[bytes, int] = {}
        self.keys: list[bytes] = []
        self.texts: list[bytes] = []
        self.follows = vec[i64]([0])
        self.seen = vec[i64]()
        self.turn: i64 = 0

    def learn(self, name: bytes, fragment: bytes) -> None:
        """From now on a key of this name is written as these bytes."""
        if name not in self.number_of:
            self.number_of[name] = len(self.keys)
            self.keys.append(fragment)
            self.texts.append(b"")
            self.follows = append(self.follows, 0)
            self.seen = append(self.seen, 0)

    def write_map(self, text: str, opening: bytes, out: BytesWriter) -> bool:
        """A verbose transit map after its `opening`; False, and too much written, where it cannot be written here."""
        if not opening:
            return False
        out.write(opening)
        try:
            return self.write_entries(text.encode(), out)
        except IndexError:  # the text ends where something was to come
            return False

    def write_entries(self, text: bytes, out: BytesWriter) -> bool:
        """The entries and the end; False where something is met that is not written here."""
        if text[0] != 0x7B or len(self.keys) == 0:
            return False
        self.turn += 1
        turn, pos, last = self.turn, i64(1), i64(0)
        while text[pos] != 0x7D:
            if last != 0:
                if text[pos] != 0x2C:
                    return False
                pos = skip_spaces(text, pos + 1)
            # After one key, often the same one as before: the text that stood there is compared first.
            number = self.follows[last]
            guess = self.texts[number]
            stop = pos + len(guess)
            if len(guess) == 0 or text[pos:stop] != guess:
                stop = self.key_end(text, pos)
                if stop < 0:
                    return False
                number = self.number_of.get(text[pos + 3 : stop], -1)
                if number < 0 or text[stop + 1] != 0x3A:
                    return False
                stop = skip_spaces(text, stop + 2)
                self.texts[number] = text[pos:stop]
                self.follows[last] = number
            if self.seen[number] == turn:
                return False
            self.seen[number] = turn
            out.write(self.keys[number])
            pos = write_scalar(text, stop, out)
            if pos < 0:
                return False
            last = number + 1
        out.append(END)
        return pos + 1 == len(text)

    def key_end(self, text: bytes, pos: i64) -> i64:
        """The closing quote of the keyword that begins there as a key, or -1."""
        if text[pos] != 0x22 or text[pos + 1] != 0x7E or text[pos + 2] != 0x3A:
            return -1
        pos += 3
        while text[pos] != 0x22:
            if text[pos] == 0x5C:
                return -1
            pos += 1
        return pos


class RowCopier:
    """Rows of known parts as event maps; of the props, the keys must be known and the values plain.

    `out` is the message so far. `heads`, `props` and `contexts` hold the bytes of what was written before, without and
    with its key; `props` need not hold what `fragments` can write.
    """

    def __init__(self) -> None:
        self.out = BytesWriter()
        self.heads: dict[tuple[str, str, str, int], bytes] = {}
        self.names: dict[str, tuple[str, str, int, bytes]] = {}
        self.props: dict[str, bytes] = {}
        self.contexts: dict[str, bytes] = {}
        self.name_opening = b""
        self.type_opening = b""
        self.source_opening = b""
        self.day_opening = b""
        self.profile_opening = b""
        self.props_opening = b""
        self.context_opening = b""
        self.fragments = Fragments()

    def copy(self, rows: Sequence[tuple[str, str, str, int, bytes | None, str, str]], index: int) -> int:
        """The rows from `index` on into `out`, up to the first with an unknown part, whose index is returned."""
        out = self.out
        while index < len(rows):
            name, type_, source, tracked_at, profile_id, props, context = rows[index]
            head = self.write_head(name, type_, source, tracked_at - tracked_at % DAY_MS)
            written = self.write_context(context)
            if head is None or written is None or not self.profile_opening:
                break
            start = i64(len(out))
            out.write(head)
            if profile_id is not None:
                out.write(self.profile_opening)
                out.write(profile_id)
            if not self.copy_props(props, out):
                out.truncate(start)
                break
            out.write(written)
            out.append(END)
            index += 1
        return index

    def write_head(self, name: str, type_: str, source: str, day: int) -> bytes | None:
        """The beginning of an event's map and its first four entries, which are remembered; or None."""
        # One name, nearly always one head: the one it had before is compared first.
        before = self.names.get(name)
        if before is not None:
            type_before, source_before, day_before, written = before
            if day == day_before and type_ == type_before and source == source_before:
                return written
        head = (name, type_, source, day)
        known = self.heads.get(head)
        if known is None and self.name_opening and 0 <= day < MOST_DAY:
            out = BytesWriter()
            if (
                write_entry(self.name_opening, name, out)
                and write_entry(self.type_opening, type_, out)
                and write_entry(self.source_opening, source, out)
            ):
                out.write(self.day_opening)
                write_int(day, out)
                known = self.heads[head] = out.getvalue()
        if known is not None:
            self.names[name] = (type_, source, day, known)
        return known

    def copy_props(self, props: str, out: BytesWriter) -> bool:
        """Props by their keys and values, or as they were written before; False for others."""
        start = i64(len(out))
        if self.fragments.write_map(props, self.props_opening, out):
            return True
        out.truncate(start)
        known = self.props.get(props)
        if known is None:
            return False
        out.write(known)
        return True

    def write_context(self, context: str) -> bytes | None:
        """The same for a context, which is remembered."""
        known = self.contexts.get(context)
        if known is None:
            out = BytesWriter()
            if self.fragments.write_map(context, self.context_opening, out):
                known = self.contexts[context] = out.getvalue()
        return known


def write_entry(opening: bytes, value: str, out: BytesWriter) -> bool:
    """A key that the cache knows, as it stands in a message, and a string; False for one that is not short ASCII."""
    raw = value.encode("utf-8", "replace")
    if not raw.isascii() or len(raw) >= MOST_STRING:
        return False
    out.write(opening)
    write_size(len(raw), out)
    out.write(raw)
    return True


def write_size(size: i64, out: BytesWriter) -> None:
    """The head of a string."""
    if size < 8:
        out.append(u8(0xDA + size))
    else:
        out.append(0xE3)
        write_int(size, out)


def skip_spaces(text: bytes, pos: i64) -> i64:
    """The next byte that is no space."""
    while text[pos] == 0x20:
        pos += 1
    return pos


def write_scalar(text: bytes, pos: i64, out: BytesWriter) -> i64:
    """A JSON scalar as fressian; returns the position after it, or -1."""
    byte: i64 = text[pos]
    if byte == 0x22:
        return write_string(text, pos + 1, out)
    if byte == 0x74:
        out.append(0xF5)
        return pos + 4 if text[pos : pos + 4] == b"true" else -1
    if byte == 0x66:
        out.append(0xF6)
        return pos + 5 if text[pos : pos + 5] == b"false" else -1
    if byte == 0x6E:
        out.append(0xF7)
        return pos + 4 if text[pos : pos + 4] == b"null" else -1
    value: i64 = 0
    start: i64 = pos
    while 0x30 <= byte <= 0x39:
        value = value * 10 + byte - 0x30
        pos += 1
        byte = text[pos]
    if byte == 0x2E and pos > start:
        return write_double(text, start, out)
    if pos == start or pos - start > 15 or byte == 0x65 or byte == 0x45:
        return -1
    if text[start] == 0x30 and pos - start > 1:
        return -1
    write_int(value, out)
    return pos


def write_double(text: bytes, start: i64, out: BytesWriter) -> i64:
    """A number with a point, without an exponent; returns the position after it, or -1."""
    pos: i64 = start
    while text[pos] != 0x2E:
        pos += 1
    if text[start] == 0x30 and pos - start > 1:
        return -1
    pos += 1
    point = pos
    while 0x30 <= text[pos] <= 0x39:
        pos += 1
    if pos == point or text[pos] == 0x65 or text[pos] == 0x45:
        return -1
    value = float(text[start:pos])
    if value == 0.0:
        out.append(0xFB)
    elif value == 1.0:
        out.append(0xFC)
    else:
        out.append(0xFA)
        write_f64_be(out, value)
    return pos


def write_int(value: i64, out: BytesWriter) -> None:
    """A non-negative int in its shortest form."""
    if value < 0x40:
        out.append(u8(value))
        return
    size: i64 = 1
    limit: i64 = 1 << 12
    code: i64 = 0x50
    if value >= limit:
        size, limit, code = 2, 1 << 19, 0x68
    if value >= limit:
        size, limit, code = 3, 1 << 25, 0x72
    while value >= limit and size < 6:
        size, limit, code = size + 1, limit << 8, code + 4
    if value >= limit:
        size, code = 8, 0xF8
        out.append(u8(code))
    else:
        out.append(code + (value >> (8 * size)))
    while size > 0:
        size -= 1
        out.append((value >> (8 * size)) & 0xFF)


def write_string(text: bytes, pos: i64, out: BytesWriter) -> i64:
    """The string that begins there: ASCII without an escape, or a uuid; returns the position after it, or -1."""
    byte: i64 = text[pos]
    if byte == 0x7E and text[pos + 1] == 0x75:
        return pos + 39 if text[pos + 38] == 0x22 and write_uuid(text, pos + 2, out) else -1
    if byte == 0x7E or byte == 0x5E or byte == 0x60:
        return -1
    start: i64 = pos
    while byte != 0x22:
        if byte < 0x20 or byte >= 0x7F or byte == 0x5C:
            return -1
        pos += 1
        byte = text[pos]
    if pos - start >= MOST_STRING:
        return -1
    write_size(pos - start, out)
    out.write(text[start:pos])
    return pos + 1


def write_uuid(text: bytes, pos: i64, out: BytesWriter) -> bool:
    """The 36 characters of a uuid as fressian; False where they are none."""
    if text[pos + 8] != 0x2D or text[pos + 13] != 0x2D or text[pos + 18] != 0x2D or text[pos + 23] != 0x2D:
        return False
    first = read_digits(read_i64_le(text, pos))
    second = read_digits(join_words(read_i32_le(text, pos + 9), read_i32_le(text, pos + 14)))
    third = read_digits(join_words(read_i32_le(text, pos + 19), read_i32_le(text, pos + 24)))
    fourth = read_digits(read_i64_le(text, pos + 28))
    if first < 0 or second < 0 or third < 0 or fourth < 0:
        return False
    out.append(0xC3)
    out.append(0xD9)
    out.append(0x10)
    write_i64_le(out, first | signed_word(second) << 32)
    write_i64_le(out, third | signed_word(fourth) << 32)
    return True


def join_words(low: i32, high: i32) -> i64:
    """Eight bytes of two times four."""
    return i64(low) & 0xFFFFFFFF | i64(high) << 32


def signed_word(word: i64) -> i64:
    """Four bytes as a signed number, as the upper half of eight."""
    return word if word < 0x80000000 else word - 0x100000000


def read_digits(text: i64) -> i64:
    """Eight hex digits as four bytes, both in the order of memory; or -1. The way back of `hex_digits`."""
    if text < 0 or text & 0x0080808080808080:
        return -1
    letters = text >> 6 & 0x0101010101010101
    nibbles = (text & 0x0F0F0F0F0F0F0F0F) + letters * 9
    if nibbles >> 4 & 0x0707070707070707 or write_letters(nibbles) != text | letters << 5:
        return -1
    packed = (nibbles << 4 | nibbles >> 8) & 0x00FF00FF00FF00FF
    packed = (packed | packed >> 8) & 0x0000FFFF0000FFFF
    return (packed | packed >> 16) & 0xFFFFFFFF
