"""Names are written by strangers: what their text may not do to a terminal, a chart or a spreadsheet."""

import polars as pl

UNSHOWABLE = r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufffe\uffff]"
"""What commands a terminal, is not allowed in XML, or turns round the text beside it."""

FORMULA = r"^([=+\-@\t\r])"
"""How a cell begins that a spreadsheet would compute."""


def make_showable(frame: pl.DataFrame) -> pl.DataFrame:
    """The same with a sign in the place of each character that must not be shown."""
    return frame.with_columns(pl.col(pl.String).str.replace_all(UNSHOWABLE, "\N{REPLACEMENT CHARACTER}"))


def write_csv(frame: pl.DataFrame) -> str:
    """Rows as CSV. A text that a spreadsheet would compute gets a ' in front."""
    return make_showable(frame).with_columns(pl.col(pl.String).str.replace(FORMULA, "'$1")).write_csv()
