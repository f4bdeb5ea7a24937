"""Names are written by strangers: what their text may not do to a terminal, a chart or a spreadsheet."""

import re

import polars as pl

UNSHOWABLE = r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff]"
"""What commands a terminal, is not allowed in XML, ends a line, or turns round the text beside it."""

ASTRAL = "[\U00010000-\U0010ffff]"

LABEL = 80
"""Characters of a name in a chart."""

FORMULA = r"^([\s\ufeff]*[=+\-@\t\r\uff1d\uff0b\uff0d\uff20])"
"""How a cell begins that a spreadsheet would compute: also in full width, behind spaces, or a mark of byte order."""


def make_showable(frame: pl.DataFrame) -> pl.DataFrame:
    """The same with a sign in the place of each character that must not be shown."""
    return frame.with_columns(pl.col(pl.String).str.replace_all(UNSHOWABLE, "\N{REPLACEMENT CHARACTER}"))


def make_labels(frame: pl.DataFrame) -> pl.DataFrame:
    """The same for a chart: texts of LABEL characters at most, and none that takes two UTF-16 units, which the chart's
    library may cut in two. Names that were different stay so.
    """
    return make_showable(frame).with_columns(
        frame[name].replace_strict(label_names(frame[name]), return_dtype=pl.String)
        for name, kind in frame.schema.items()
        if kind == pl.String
    )


def label_names(names: pl.Series) -> dict[str | None, str | None]:
    """A label for each name."""
    labels: dict[str | None, str | None] = {None: None}
    taken: set[str] = set()
    for name in names.drop_nulls().unique(maintain_order=True).to_list():
        whole = re.sub(f"{UNSHOWABLE}|{ASTRAL}", "\N{REPLACEMENT CHARACTER}", name[: LABEL + 1])
        label = plain = whole if len(whole) <= LABEL else whole[: LABEL - 1] + "…"
        number = 1
        while label in taken:
            number += 1
            label = f"{plain} ({number})"
        taken.add(label)
        labels[name] = label
    return labels


def make_printable(text: str) -> str:
    """A text of several lines for a terminal, which it may not command."""
    return "".join(one if one in "\n\t" else re.sub(UNSHOWABLE, "\N{REPLACEMENT CHARACTER}", one) for one in text)


def write_csv(frame: pl.DataFrame) -> str:
    """Rows as CSV. A text that a spreadsheet would compute gets a ' in front."""
    return make_showable(frame).with_columns(pl.col(pl.String).str.replace(FORMULA, "'$1")).write_csv()
