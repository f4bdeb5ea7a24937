"""In which shapes an id is found in a text; each is written down by hand, as its bits say."""

import base64
import re
from uuid import UUID

import duckdb
import polars as pl
import pytest

from receiver.lifecycle.id_shapes import NUMBERS, RUN, find_runs, list_ids

WANTED = UUID("7f1d3c52-9a64-8b07-8005-4c1be2a90d66")
HIGH, LOW = 9159543542616722183, -9221880979320664730
"""Its halves as Java says them: getMostSignificantBits and getLeastSignificantBits."""

BYTES = bytes.fromhex("7f1d3c529a648b0780054c1be2a90d66")
SHAPES = {
    "with dashes": "7f1d3c52-9a64-8b07-8005-4c1be2a90d66",
    "in an address, its dashes escaped": "/p?id=7f1d3c52%2D9a64%2d8b07%2D8005%2D4c1be2a90d66",
    "escaped twice": "7f1d3c52%252D9a64%252D8b07%252D8005%252D4c1be2a90d66",
    "with underscores": "file_7f1d3c52_9a64_8b07_8005_4c1be2a90d66.svg",
    "as a list of two longs": f'{{"~:id":["~i{HIGH}","~i{LOW}"]}}',
    "as plain numbers among others": f"[1784505600000,{HIGH},{LOW},1784505600001]",
    "as a map, the low half first": f'{{"~:lsb":"~i{LOW}","~:msb":"~i{HIGH}"}}',
    "as two unsigned numbers": f"{HIGH},{LOW + 2**64}",
    "as one large number": f'"~n{0x7F1D3C529A648B0780054C1BE2A90D66}"',
    "as one large number with a sign": f"{0x7F1D3C529A648B0780054C1BE2A90D66 - 2**128}",
    "as bytes in the alphabet of addresses": base64.urlsafe_b64encode(b"\xfb\xff" + BYTES).decode().rstrip("="),
    "as bytes, their last digits escaped": base64.b64encode(BYTES).decode().replace("=", "%3D"),
    "as bytes behind a word and a slash": "of/" + base64.b64encode(BYTES).decode(),
    "written out within base64": base64.b64encode(b'{"sub":"7f1d3c52-9a64-8b07-8005-4c1be2a90d66"}').decode(),
}


def ids_in(text: str) -> set[UUID]:
    return {one for run in find_runs(text) for one in list_ids(run)}


def test_the_halves_are_those_of_the_id() -> None:
    assert WANTED.int == (HIGH << 64) + LOW + 2**64


@pytest.mark.parametrize("shape", SHAPES)
def test_an_id_is_found_in_whatever_shape(shape: str) -> None:
    assert WANTED in ids_in(SHAPES[shape])


@pytest.mark.parametrize("text", [f"{HIGH}", f"{HIGH},{HIGH}", "7f1d3c52%2D9a64", f"{HIGH},{'x' * 50},{LOW}", ""])
def test_what_is_not_the_id_is_not_taken_for_it(text: str) -> None:
    assert WANTED not in ids_in(text)


def test_the_database_the_frames_and_python_find_the_same_runs() -> None:
    texts = [*SHAPES.values(), "\n".join(SHAPES.values()), "é" * 30 + f"{HIGH}é{LOW}", "9" * 100]
    for pattern in (RUN, NUMBERS):
        ours = [re.findall(pattern, text) for text in texts]
        frames = pl.Series(texts).str.extract_all(pattern).to_list()
        with duckdb.connect() as con:
            found = con.execute(f"SELECT regexp_extract_all(unnest($1), '{pattern}')", [texts]).fetchall()
        assert ours == frames == [runs for (runs,) in found]
