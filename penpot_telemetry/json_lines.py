"""JSON Lines from a file: plain or gzipped, with a byte order mark, blank lines and either end of line.

A file's bytes in, its lines out, one at a time and in bounded memory.
"""

import gzip
import zlib
from bisect import bisect_right
from codecs import BOM_UTF8
from collections.abc import Iterator
from io import BufferedReader, RawIOBase
from typing import IO, cast

from penpot_telemetry.errors import DecodeError

LINE_BYTES = 4 * 1024 * 1024
"""No event is longer. A longer line comes as None, and the next one as usual."""

_GZIP = b"\x1f\x8b"


class Lines:
    """The lines of a file that are not blank, and the number that each has in the file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._blank: list[int] = []
        self._given = 0

    def __iter__(self) -> Iterator[bytes | None]:
        """The lines. Raises DecodeError when a gzipped file is damaged."""
        try:
            for line in _split(_unpack(self._file)):
                if line is not None and not line.strip():
                    self._blank.append(self._given)
                    continue
                self._given += 1
                yield line
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise DecodeError("the gzipped file is damaged or cut short: nothing of it was recorded") from None

    def number_of(self, index: int) -> int:
        """The number, from 1, of the line that came as the `index`-th, from 0."""
        return index + 1 + bisect_right(self._blank, index)


def _unpack(file: IO[bytes]) -> IO[bytes]:
    buffered = file if hasattr(file, "peek") else BufferedReader(cast("RawIOBase", file))
    start = cast("BufferedReader", buffered).peek(len(_GZIP))
    return cast("IO[bytes]", gzip.open(buffered) if start.startswith(_GZIP) else buffered)


def _split(file: IO[bytes]) -> Iterator[bytes | None]:
    line = file.readline(LINE_BYTES).removeprefix(BOM_UTF8)
    while line:
        if len(line) < LINE_BYTES or line.endswith(b"\n"):
            yield line
        else:
            while line and not line.endswith(b"\n"):
                line = file.readline(LINE_BYTES)
            yield None
        line = file.readline(LINE_BYTES)
