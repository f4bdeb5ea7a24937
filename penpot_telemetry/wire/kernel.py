"""The two loops that nearly all of a batch takes, over flat arrays and machine integers.

Compiled by mypyc where a compiler is there (`COMPILED`); the same source also runs interpreted. It decides nothing:
what it was not taught, byte for byte, it leaves to the reader and the writer in `fressian`, by saying where it
stopped. A guess (where a head or a context may end) counts only once its bytes are found to be ones read before.
"""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from librt.strings import BytesWriter, read_f64_be, read_i64_be, read_i64_le, write_f64_be
from librt.vecs import append, vec
from mypy_extensions import i32, i64, u8

COMPILED: Final = not __file__.endswith(".py")

END: Final = 0xFD
CLOSED: Final = 0xED
UUID_SIZE: Final = 16
DAY_MS: Final = 86_400_000
FAR: Final = 0x100_0000_0000
"""A position beyond all data: to read there ends the loop."""

TABLE: Final = 16_384
MASK: Final = 16_383
MOST_KNOWN: Final = 4_096
MOST_STRING: Final = 4_096
"""The longest string that is read or written here."""

MULTIPLIER: Final = 0x9E3779B97F4A7C1
POSITIVE: Final = 0x3FFFFFFFFFFFFFFF
BITS: Final = 62
HEX: Final = b"0123456789abcdef"

_write_double: Callable[[float], bytes] = msgspec.json.Encoder().encode

# -- reading ---------------------------------------------------------------------------------------------------------


class Known:
    """Stretches of one message, by their bytes; each stands for a number."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.slots = vec[i64]([0] * TABLE)
        self.starts = vec[i64]()
        self.lengths = vec[i64]()
        self.numbers = vec[i64]()

    def learn(self, start: i64, stop: i64, number: i64) -> None:
        """From now on these bytes stand for this number; a few thousand stretches are remembered."""
        if i64(len(self.starts)) >= MOST_KNOWN or self.find(start, stop) >= 0:
            return
        self.starts = append(self.starts, start)
        self.lengths = append(self.lengths, stop - start)
        self.numbers = append(self.numbers, number)
        slot = hash_bytes(self.data, start, stop)
        while self.slots[slot] != 0:
            slot = (slot + 1) & MASK
        self.slots[slot] = i64(len(self.starts))

    def find(self, start: i64, stop: i64) -> i64:
        """The number of these bytes, or -1."""
        slot = hash_bytes(self.data, start, stop)
        length = stop - start
        while True:
            entry = self.slots[slot] - 1
            if entry < 0:
                return -1
            if self.lengths[entry] == length and same_bytes(self.data, self.starts[entry], start, length):
                return self.numbers[entry]
            slot = (slot + 1) & MASK


def hash_bytes(data: bytes, start: i64, stop: i64) -> i64:
    """A slot for a stretch of bytes."""
    state: i64 = stop - start
    pos: i64 = start
    while pos + 8 <= stop:
        state = ((state ^ read_i64_le(data, pos)) * MULTIPLIER) & POSITIVE
        state ^= state >> 29
        pos += 8
    while pos < stop:
        byte: i64 = data[pos]
        state = ((state ^ byte) * MULTIPLIER) & POSITIVE
        pos += 1
    return (state ^ (state >> 31)) & MASK


def same_bytes(data: bytes, left: i64, right: i64, length: i64) -> bool:
    """Whether two stretches of one message are the same."""
    offset: i64 = 0
    while offset + 8 <= length:
        if read_i64_le(data, left + offset) != read_i64_le(data, right + offset):
            return False
        offset += 8
    while offset < length:
        if data[left + offset] != data[right + offset]:
            return False
        offset += 1
    return True


def skip(data: bytes, pos: i64) -> i64:
    """Just after the code that stands there and what belongs to it; components of a struct count as codes of their own.

    A guess: FAR for what is seldom met.
    """
    code: i64 = data[pos]
    if code < 0x40 or 0x80 <= code < 0xB0 or 0xF5 <= code <= 0xF7 or 0xFB <= code <= 0xFC or code in (0xCC, 0xFF):
        return pos + 1
    if code < 0x80:
        return pos + int_size(code)
    if 0xDA <= code <= 0xE1:
        return pos + 1 + code - 0xDA
    if code == 0xE3:
        size: i64 = data[pos + 1]
        if size < 0x40:
            return pos + 2 + size
        if 0x50 <= size < 0x60:
            low: i64 = data[pos + 2]
            return pos + 3 + ((size - 0x50) << 8 | low)
        return FAR
    if code == 0xC3:
        return pos + 3 + UUID_SIZE
    if code in (0xFA, 0xF8):
        return pos + 9
    return FAR


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
    the bytes of props and contexts, however often they are pointed to; copying stops above `most_made`.
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
        self.context_numbers: dict[str, int] = {}
        self.context_texts: list[str] = []
        self.context_sizes = vec[i64]()
        self.reset()

    def reset(self) -> None:
        """Forget what was taught: the caches begin anew."""
        self.heads = Known(self.data)
        self.contexts = Known(self.data)
        self.keys: list[bytes] = []
        self.map_code: i64 = -1
        self.instant_code: i64 = -1
        self.head_keys = vec[i64]([-1, -1, -1, -1])
        self.profile_key: i64 = -1
        self.props_key: i64 = -1
        self.context_key: i64 = -1

    def teach(self, map_code: int, instant_code: int, keys: list[int]) -> None:
        """The codes of an event's map, of its instant and of its seven keys, in the order of the message."""
        self.map_code = map_code
        self.instant_code = instant_code
        self.head_keys = vec[i64]([i64(key) for key in keys[:4]])
        self.profile_key, self.props_key, self.context_key = keys[4], keys[5], keys[6]

    def number_head(self, head: tuple[str, str, str, int]) -> i64:
        """The index of a head, a new one if need be."""
        return self.head_numbers.setdefault(head, len(self.head_numbers))

    def number_context(self, context: str) -> i64:
        """The index of a context, a new one if need be."""
        number: i64 = self.context_numbers.setdefault(context, len(self.context_numbers))
        if number == i64(len(self.context_sizes)):
            self.context_sizes = append(self.context_sizes, i64(len(context)))
            self.context_texts.append(context)
        return number

    def add(self, head: tuple[str, str, str, int], profile_id: bytes | None, props: bytes, context: str) -> None:
        """One event that was read elsewhere."""
        if profile_id is None:
            self.no_profile.append(len(self.head_of))
            profile_id = bytes(UUID_SIZE)
        self.head_of = append(self.head_of, i32(self.number_head(head)))
        self.context_of = append(self.context_of, i32(self.number_context(context)))
        self.profiles.write(profile_id)
        self.text.write(props)
        self.ends = append(self.ends, i64(len(self.text)))
        self.made += len(props) + len(context)

    def copy(self, pos: int, count: int) -> int:
        """Take up to `count` events from `pos` on; returns the position of the first that was not taken."""
        here: i64 = pos
        left: i64 = count
        while left > 0 and self.made <= self.most_made:
            size = i64(len(self.text))
            try:
                stop = self.copy_event(here)
            except IndexError:
                stop = -1
            if stop < 0:
                self.text.truncate(size)
                break
            self.made += i64(len(self.text)) - size
            here = stop
            left -= 1
        return here

    def find_context(self, start: int) -> tuple[int, int]:
        """The index and the end of the context that begins there, when it is a known one or can be read here; or -1."""
        begin: i64 = start
        try:
            stop = self.map_end(begin)
            return self.context_at(begin, stop), stop
        except IndexError:
            return -1, -1

    def map_end(self, pos: i64) -> i64:
        """Where the map that begins there may end, or FAR."""
        data = self.data
        if data[pos] != self.map_code or data[pos + 1] != CLOSED:
            return FAR
        pos += 2
        while data[pos] != END:
            pos = skip(data, pos)
        return pos + 1

    def context_at(self, start: i64, stop: i64) -> i64:
        """The index of the context between two places, or -1."""
        if stop == FAR:
            return -1
        context = self.contexts.find(start, stop)
        return context if context >= 0 else self.read_context(start, stop)

    def copy_event(self, start: i64) -> i64:
        """Take the event there and return the position after it, or -1."""
        data = self.data
        if data[start] != self.map_code or data[start + 1] != CLOSED:
            return -1
        pos: i64 = start + 2
        while data[pos] != self.profile_key:
            pos = skip(data, pos)
        head = self.heads.find(start, pos)
        if head < 0:
            head = self.read_head(start, pos)
        if head < 0 or data[pos + 1] != 0xC3 or data[pos + 2] != 0xD9 or data[pos + 3] != 0x10:
            return -1
        profile: i64 = pos + 4
        pos = profile + UUID_SIZE
        if data[pos] != self.props_key:
            return -1
        pos = self.copy_map(pos + 1, self.text)
        if pos < 0 or data[pos] != self.context_key:
            return -1
        pos += 1
        start = pos
        pos = self.map_end(start)
        context = self.context_at(start, pos)
        if context < 0 or data[pos] != END:
            return -1
        self.head_of = append(self.head_of, i32(head))
        self.context_of = append(self.context_of, i32(context))
        self.made += self.context_sizes[context]
        self.profiles.write(data[profile : profile + UUID_SIZE])
        self.ends = append(self.ends, i64(len(self.text)))
        return pos + 1

    def read_head(self, start: i64, stop: i64) -> i64:
        """The index of a head not met before, or -1 when it is not written as most are."""
        data = self.data
        texts: list[str] = []
        pos: i64 = start + 2
        for field in range(3):
            if data[pos] != self.head_keys[field]:
                return -1
            after = skip(data, pos + 1)
            code: i64 = data[pos + 1]
            begin: i64 = pos + 2 if code != 0xE3 else pos + 3 if data[pos + 2] < 0x40 else pos + 4
            if not (0xDA <= code <= 0xE1 or code == 0xE3) or after > stop:
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
        if code >= 0x80 or skip(data, pos) != stop:
            return -1
        instant = code if code < 0x40 else read_packed(data, pos, code)
        number = self.number_head((texts[0], texts[1], texts[2], int(instant)))
        self.heads.learn(start, stop, number)
        return number

    def read_context(self, start: i64, stop: i64) -> i64:
        """The index of a context not met before, or -1 when it holds more than scalars."""
        out = BytesWriter()
        if self.copy_map(start, out) != stop:
            return -1
        number = self.number_context(out.getvalue().decode())
        self.contexts.learn(start, stop, number)
        return number

    def copy_map(self, pos: i64, out: BytesWriter) -> i64:
        """A map of known keys and scalars as JSON text; returns the position after it, or -1."""
        data, keys = self.data, self.keys
        if data[pos] != self.map_code or data[pos + 1] != CLOSED:
            return -1
        pos += 2
        out.append(0x7B)
        seen_low: i64 = 0
        seen_high: i64 = 0
        while data[pos] != END:
            slot: i64 = data[pos] - 0x80
            pos += 1
            if slot == 0xCC - 0x80:
                slot = data[pos]
                pos += 1
                if slot >= 0x40:
                    if not 0x50 <= slot < 0x60:
                        return -1
                    low: i64 = data[pos]
                    slot = (slot - 0x50) << 8 | low
                    pos += 1
            elif not 0 <= slot < 0x20:
                return -1
            if slot >= i64(len(keys)) or slot >= 2 * BITS:
                return -1
            bit: i64 = 1
            if slot < BITS:
                bit <<= slot
                if seen_low & bit:
                    return -1  # a key twice: which one counts is not decided here
                comma = seen_low != 0 or seen_high != 0
                seen_low |= bit
            else:
                bit <<= slot - BITS
                if seen_high & bit:
                    return -1
                comma = seen_low != 0 or seen_high != 0
                seen_high |= bit
            key = keys[slot]
            if len(key) == 0:
                return -1
            if comma:
                out.append(0x2C)
            out.write(key)
            pos = self.copy_scalar(pos, out)
            if pos < 0:
                return -1
        out.append(0x7D)
        return pos + 1

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
            stop = skip(data, pos)
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
        return -1


def copy_uuid(data: bytes, pos: i64, out: BytesWriter) -> None:
    """Sixteen bytes as the text of a uuid in quotes."""
    out.append(0x22)
    for offset in range(UUID_SIZE):
        if offset == 4 or offset == 6 or offset == 8 or offset == 10:
            out.append(0x2D)
        byte: i64 = data[pos + offset]
        out.append(HEX[byte >> 4])
        out.append(HEX[byte & 15])
    out.append(0x22)


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

    def learn(self, name: bytes, fragment: bytes) -> None:
        """From now on a key of this name is written as these bytes."""
        if name not in self.number_of:
            self.number_of[name] = len(self.keys)
            self.keys.append(fragment)

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
        if text[0] != 0x7B:
            return False
        size = i64(len(text))
        pos: i64 = 1
        seen_low: i64 = 0
        seen_high: i64 = 0
        while text[pos] != 0x7D:
            if seen_low != 0 or seen_high != 0:
                if text[pos] != 0x2C:
                    return False
                pos = skip_spaces(text, pos + 1)
            if text[pos] != 0x22 or text[pos + 1] != 0x7E or text[pos + 2] != 0x3A:
                return False
            start: i64 = pos + 3
            pos = start
            while text[pos] != 0x22:
                if text[pos] == 0x5C:
                    return False
                pos += 1
            number: i64 = self.number_of.get(text[start:pos], -1)
            bit: i64 = 1
            if number < 0 or number >= 2 * BITS:
                return False
            if number < BITS:
                bit <<= number
                if seen_low & bit:
                    return False
                seen_low |= bit
            else:
                bit <<= number - BITS
                if seen_high & bit:
                    return False
                seen_high |= bit
            out.write(self.keys[number])
            if text[pos + 1] != 0x3A:
                return False
            pos = write_scalar(text, skip_spaces(text, pos + 2), out)
            if pos < 0:
                return False
        out.append(END)
        return pos + 1 == size


class RowCopier:
    """Rows of known parts as event maps; of the props, the keys must be known and the values plain.

    `heads`, `props` and `contexts` hold the bytes of what was written before, without and with its key; `props` need
    not hold what `fragments` can write.
    """

    def __init__(self) -> None:
        self.heads: dict[tuple[str, str, str, int], bytes] = {}
        self.props: dict[str, bytes] = {}
        self.contexts: dict[str, bytes] = {}
        self.profile_opening = b""
        self.props_opening = b""
        self.context_opening = b""
        self.fragments = Fragments()

    def copy(self, rows: Sequence[tuple[str, str, str, int, bytes | None, str, str]], index: int) -> tuple[int, bytes]:
        """The rows from `index` on, up to the first with an unknown part: its index, and the bytes of those before."""
        out = BytesWriter()
        while index < len(rows):
            name, type_, source, tracked_at, profile_id, props, context = rows[index]
            head = self.heads.get((name, type_, source, tracked_at - tracked_at % DAY_MS))
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
        return index, out.getvalue()

    def copy_props(self, props: str, out: BytesWriter) -> bool:
        """Props as they were written before, or by their keys and values; False for others."""
        known = self.props.get(props)
        if known is not None:
            out.write(known)
            return True
        return self.fragments.write_map(props, self.props_opening, out)

    def write_context(self, context: str) -> bytes | None:
        """The same for a context, which is remembered."""
        known = self.contexts.get(context)
        if known is None:
            out = BytesWriter()
            if self.fragments.write_map(context, self.context_opening, out):
                known = self.contexts[context] = out.getvalue()
        return known


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
    start: i64 = pos
    byte: i64 = text[pos]
    while byte != 0x22:
        if byte < 0x20 or byte >= 0x7F or byte == 0x5C:
            return -1
        pos += 1
        byte = text[pos]
    size = pos - start
    first: i64 = text[start]
    if size > 0 and (first == 0x7E or first == 0x5E or first == 0x60):
        if size != 38 or text[start + 1] != 0x75:
            return -1
        return pos + 1 if write_uuid(text, start + 2, out) else -1
    if size >= MOST_STRING:
        return -1
    if size < 8:
        out.append(u8(0xDA + size))
    else:
        out.append(0xE3)
        write_int(size, out)
    while start < pos:
        out.append(text[start])
        start += 1
    return pos + 1


def write_uuid(text: bytes, pos: i64, out: BytesWriter) -> bool:
    """The 36 characters of a uuid as fressian; False where they are none."""
    out.append(0xC3)
    out.append(0xD9)
    out.append(0x10)
    for offset in range(UUID_SIZE):
        if offset == 4 or offset == 6 or offset == 8 or offset == 10:
            if text[pos] != 0x2D:
                return False
            pos += 1
        high, low = hex_value(text[pos]), hex_value(text[pos + 1])
        if high < 0 or low < 0:
            return False
        out.append(u8(high << 4 | low))
        pos += 2
    return True


def hex_value(byte: i64) -> i64:
    """The value of a hex digit, or -1."""
    if 0x30 <= byte <= 0x39:
        return byte - 0x30
    if 0x61 <= byte <= 0x66:
        return byte - 0x57
    if 0x41 <= byte <= 0x46:
        return byte - 0x37
    return -1
