"""The shapes an id can have in a text: its digits, its bytes in base64, or numbers. Pure.

Two patterns find where one may stand, in DuckDB, polars and Python alike; `list_ids` says which ids those are. Neither
pattern goes past the end of a line, so texts may be joined by line ends.
"""

import re
from base64 import b64decode
from collections.abc import Iterator
from itertools import pairwise, product
from urllib.parse import unquote
from uuid import UUID

RUN = r"[0-9A-Za-z+/=%_-]{22,}"
"""Characters of its digits, of base64 in both alphabets, and of percent escapes."""

NUMBERS = r"[0-9]{12,39}(?:[^0-9\n]{1,40}[0-9]{12,39})*"
"""Long numbers with little between them: its halves as two longs, or one number of 128 bits. One half in ten million
has fewer digits."""

ID = re.compile(r"(?=([0-9a-fA-F]{8}[-_]?[0-9a-fA-F]{4}[-_]?[0-9a-fA-F]{4}[-_]?[0-9a-fA-F]{4}[-_]?[0-9a-fA-F]{12}))")
"""Its digits anywhere in a run, also where another one begins before it ends."""

PLAIN = re.compile(r"u?[0-9a-fA-F-]*")
"""Digits and dashes alone, as nearly all ids are written: no base64."""

ID_BYTES = 16
BASE64 = re.compile(r"[0-9A-Za-z+/]{22,}")
URL_ALPHABET = str.maketrans("-_", "+/")
JOINED = 1024
"""Characters of base64 within which it may begin anywhere: behind a word and a slash, say."""

LONG = re.compile(r"[0-9]{12,39}")
HALF = 2**64


def find_runs(text: str) -> set[str]:
    """The places in a text where an id may stand."""
    return {*re.findall(RUN, text), *re.findall(NUMBERS, text)}


def list_ids(run: str) -> list[UUID]:
    """Every id that may be in a run.

    >>> UUID("7f1d3c52-9a64-8b07-8005-4c1be2a90d66") in list_ids("ab7f1d3c529a648b0780054c1be2a90d66")
    True
    >>> UUID("7f1d3c52-9a64-8b07-8005-4c1be2a90d66") in list_ids("7f1d3c52%2D9a64%2D8b07%2D8005%2D4c1be2a90d66")
    True
    """
    text = unquote(unquote(run, "latin-1"), "latin-1") if "%" in run else run
    return [*read_digits(text), *read_base64(text), *read_numbers(text)]


def read_digits(text: str) -> Iterator[UUID]:
    """Ids written in hex, with dashes, with underscores, or without."""
    yield from (UUID(one.replace("_", "-")) for one in ID.findall(text))


def read_base64(text: str) -> Iterator[UUID]:
    """Ids within bytes: as their 16 bytes, or written out."""
    if PLAIN.fullmatch(text):
        return
    for piece in {*BASE64.findall(text), *BASE64.findall(text.translate(URL_ALPHABET))}:
        for begin in range(4 if len(piece) <= JOINED else 1):
            digits = piece[begin : len(piece) - ((len(piece) - begin) % 4 == 1)]
            data = b64decode(digits + "=" * (-len(digits) % 4))
            yield from (UUID(bytes=data[at : at + ID_BYTES]) for at in range(len(data) - ID_BYTES + 1))
            yield from read_digits(data.decode("latin-1"))


def read_numbers(text: str) -> Iterator[UUID]:
    """Ids as two numbers in a row, in either order, or as one; with a sign or without."""
    numbers = [int(one) for one in LONG.findall(text)]
    yield from (UUID(int=one % HALF**2) for number in numbers if HALF < number < HALF**2 for one in (number, -number))
    for one, other in pairwise(numbers):
        if max(one, other) < HALF:
            for high, low in product((one, -one), (other, -other)):
                yield UUID(int=high % HALF * HALF + low % HALF)
                yield UUID(int=low % HALF * HALF + high % HALF)
