"""The `events` text and the bytes in it: base64url of a small header and one zstd frame.

    2 bytes   version, big-endian: 4 is fressian in zstd
    4 bytes   length of the content, big-endian
    rest      zstd: one frame when written; any number, skippable ones too, when read

No declared length is trusted: what is inflated at once is bounded by the blocks that are there and by the caps, and
the window of a frame is capped.
"""

import binascii
import struct

import msgspec
import zstandard

from penpot_telemetry.errors import DecodeError, EncodeError, LimitError
from penpot_telemetry.wire.limits import MIB, RECEIPT, Limits

VERSION = 4

_OTHER_VERSIONS = {1: "transit in lz4", 3: "transit in zstd", 5: "fressian in an lz4 frame"}
_HEADER = struct.Struct(">hi")
_MOST = 2**31 - 1

_TO_URL = bytes.maketrans(b"+/", b"-_")
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_STRAY = b"*"
_FROM_URL = bytes(code if code in _ALPHABET else _STRAY[0] for code in range(256)).translate(
    bytes.maketrans(b"-_", b"+/")
)
"""What is outside the alphabet becomes a character that base64 refuses too."""

_decode_digits = msgspec.json.Decoder(bytes).decode
"""A JSON string in base64: three times as fast as `binascii`, and as strict."""

_MOST_OF_BLOCK = 128 * 1024
"""RFC 8878, 3.1.1.2.4: no block inflates to more."""
_WINDOW = 8 * MIB
"""The library's default level needs 2 MiB; RFC 8878 asks a decoder for 8."""

_MAGIC = 0xFD2FB528
_SKIPPABLE = range(0x184D2A50, 0x184D2A60)
_RLE_BLOCK = 1


# ---------------------------------------------------------------------------------------------------- writing


def encode_str(data: bytes) -> str:
    """Fressian bytes as the `events` text, without padding. The same bytes give the same text."""
    if len(data) > _MOST:
        raise EncodeError(f"a blob holds at most {_MOST} bytes, these are {len(data)}")
    frame = zstandard.ZstdCompressor(level=0).compress(data)
    raw = _HEADER.pack(VERSION, len(data)) + frame
    return binascii.b2a_base64(raw, newline=False).rstrip(b"=").translate(_TO_URL).decode("ascii")


# ---------------------------------------------------------------------------------------------------- reading


def decode_str(text: str, limits: Limits = RECEIPT) -> bytes:
    """The fressian bytes of an `events` text. Raises DecodeError: `bad-base64`, `bad-blob`, `too-large`."""
    if len(text) > limits.body:
        raise LimitError(f"events of {len(text)} characters, the cap is {limits.body}", reason="too-large")
    raw = _decode_base64(text)
    length = _check_header(raw)
    blocks = _check_frames(raw)
    return _inflate(raw, blocks, length, limits.allowance(len(text)))


def _decode_base64(text: str) -> bytes:
    digits = text.encode("ascii", "replace").rstrip(b"=")
    padding, missing = len(text) - len(digits), -len(digits) % 4
    try:
        raw = _decode_digits(b'"%b%b"' % (digits.translate(_FROM_URL), b"=" * missing))
    except msgspec.MsgspecError:
        stray = digits.translate(None, _ALPHABET)
        if stray:
            raise _bad_base64("a character outside its alphabet", digits.index(stray[:1])) from None
        raise _bad_base64("its length cannot be", len(digits)) from None
    if padding and padding != missing:
        raise _bad_base64("its length cannot be", len(digits))
    return raw


def _bad_base64(what: str, offset: int) -> DecodeError:
    return DecodeError(f"events are not base64url: {what}", offset, "bad-base64")


def _check_header(raw: bytes) -> int:
    """The length that the blob declares for its content."""
    if len(raw) < _HEADER.size:
        raise _bad_blob(f"a blob of {len(raw)} bytes has no header", len(raw))
    version, length = _HEADER.unpack_from(raw)
    if version != VERSION:
        name = _OTHER_VERSIONS.get(version, "unknown here")
        raise _bad_blob(f"a blob of version {version} ({name}), expected {VERSION} (fressian in zstd)", 0)
    if length < 0:
        raise _bad_blob(f"a blob declares a length of {length}", 2)
    return int(length)


def _check_frames(raw: bytes) -> int:
    """Walk over the frames by their headers, inflating nothing, and count their blocks.

    The library takes a truncated frame in silence.
    """
    pos, end, blocks = _HEADER.size, len(raw), 0
    if pos == end:
        raise _bad_blob("a blob without a zstd frame", pos)
    while pos < end:
        start = pos
        try:
            pos, more = _skip_frame(raw, pos)
        except (struct.error, IndexError):
            pos, more = end + 1, 0
        if pos > end:
            raise _bad_blob("a zstd frame is cut short", start)
        blocks += more
    return blocks


def _skip_frame(raw: bytes, pos: int) -> tuple[int, int]:
    """The position after a frame, and the number of its blocks."""
    (magic,) = struct.unpack_from("<I", raw, pos)
    if magic in _SKIPPABLE:
        (size,) = struct.unpack_from("<I", raw, pos + 4)
        return pos + 8 + int(size), 0
    if magic != _MAGIC:
        raise _bad_blob("bytes that are no zstd frame", pos)
    # RFC 8878, 3.1.1.1: the descriptor says which fields of the header are there, and how long.
    descriptor = raw[pos + 4]
    single_segment = descriptor >> 5 & 1
    pos += 5 + (1 - single_segment) + (0, 1, 2, 4)[descriptor & 3] + (single_segment, 2, 4, 8)[descriptor >> 6]
    last, blocks = 0, 0
    while not last:
        header = raw[pos] | raw[pos + 1] << 8 | raw[pos + 2] << 16
        last, kind, size = header & 1, header >> 1 & 3, header >> 3
        pos += 3 + (1 if kind == _RLE_BLOCK else size)
        blocks += 1
    return pos + (4 if descriptor & 4 else 0), blocks


def _inflate(raw: bytes, blocks: int, length: int, most: int) -> bytes:
    frames = zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(
        memoryview(raw)[_HEADER.size :], read_across_frames=True
    )
    # One byte more than there may be, in one piece: an honest blob is inflated where it will stay.
    room = min(length, most, blocks * _MOST_OF_BLOCK) + 1
    chunks, size = [], 0
    try:
        while size < room and (chunk := frames.read(room - size)):
            size += len(chunk)
            chunks.append(chunk)
    except zstandard.ZstdError as error:
        if "too much memory" in str(error):
            raise LimitError(f"a zstd window of more than {_WINDOW} bytes", _HEADER.size, "too-large") from None
        raise _bad_blob(f"zstd cannot read a frame: {error}", _HEADER.size) from None
    if size > length:
        raise _bad_blob(f"a blob declares a length of {length}, its content is longer", 2)
    if size > most:
        raise LimitError(f"a blob of more than {most} bytes", reason="too-large")
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _bad_blob(what: str, offset: int) -> DecodeError:
    return DecodeError(what, offset, "bad-blob")
