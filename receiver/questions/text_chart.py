"""An answer as bars of blocks, for a terminal: the same hint as the chart, without its library."""

from dataclasses import dataclass
from datetime import date

import polars as pl

from receiver.questions.cards import Card

BLOCKS = " ▏▎▍▌▋▊▉█"
ROWS = 40


@dataclass(frozen=True, slots=True)
class Row:
    """A bar: its label, its length as a share of the longest, and its number."""

    label: str
    share: float
    text: str

    def bar(self, width: int) -> str:
        """The bar in eighths of a character."""
        eighths = round(self.share * width * 8)
        return BLOCKS[8] * (eighths // 8) + BLOCKS[eighths % 8].strip()


def measured(card: Card) -> str:
    """The column that gives the bars their length: the chart's first."""
    hint = card.chart
    if hint.mark == "heat" and hint.color:
        return hint.color
    return hint.x[0] if hint.mark == "bars" else hint.y[0]


def block_bars(card: Card, frame: pl.DataFrame) -> list[Row]:
    """One bar a row, the last ones of a series and the first ones of a ranking; ~ marks what is open."""
    hint, value = card.chart, measured(card)
    labels = {"bars": hint.y, "heat": (*hint.y, *hint.x)}.get(hint.mark, hint.x)
    keys = [hint.facet, *labels, hint.color if hint.color != value else None]
    shown = frame.head(hint.top or ROWS) if hint.mark == "bars" else frame.tail(ROWS)
    longest = max((number for number in shown[value].to_list() if number is not None), default=0) or 1
    rows = []
    for row in shown.iter_rows(named=True):
        number = row[value]
        label = " ".join(as_label(row[key]) for key in keys if key) + (" ~" if row["is_open"] else "")
        share = 0.0 if number is None else min(1.0, max(0.0, number / longest))
        rows.append(Row(label, share, "·" if number is None else as_number(number, is_share=hint.is_share)))
    return rows


def as_label(value: object) -> str:
    """A key in words."""
    return value.isoformat() if isinstance(value, date) else "" if value is None else str(value)


def as_number(value: float, *, is_share: bool) -> str:
    """A number as short as it can be read."""
    if is_share:
        return f"{value:.1%}"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"
