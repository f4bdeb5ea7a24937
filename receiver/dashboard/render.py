"""Frames and cards as what the templates show. Pure: no request, no warehouse, no clock.

Every text from outside is escaped by the templates and stands in a <bdi>, so that no name turns round what is beside
it. A hidden number says that it is hidden, never what it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from typing import Any

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined

from receiver.questions.cards import SHARED_COLUMNS, Card
from receiver.questions.notes import PAGE_LINES, Summary, say_nothing, summarise
from receiver.questions.run import Asked

ROWS_SHOWN = 100

TEXT = 250
"""Characters of a text in a table; no name is longer that was loaded since names have a cap."""

SHARES = ("share", "retention", "coverage", "stickiness", "survival", "churn")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its name, what it means, and whether it holds numbers."""

    name: str
    meaning: str
    is_number: bool


@dataclass(frozen=True, slots=True)
class Cell:
    """A value in words. `kind` is text for what strangers wrote, hidden, number or plain."""

    text: str
    kind: str


@dataclass(frozen=True, slots=True)
class Block:
    """A question as a page shows it. `rows` are `shown` of all `summary.rows`: the latest days, or the first ones.

    `query` is what narrows it, for its links; `threshold` is in force. `undrawn` says why there is no chart.
    """

    card: Card
    query: str
    threshold: int
    summary: Summary
    columns: list[Column]
    rows: list[tuple[list[Cell], bool]]
    are_latest: bool
    undrawn: str | None

    def picture(self, width: str, theme: str) -> str:
        """Where the chart is."""
        joint = "&" if self.query else "?"
        return f"/questions/{self.card.name}.svg{self.query}{joint}width={width}&theme={theme}"


@dataclass(frozen=True, slots=True)
class Form:
    """The filters as they stand, the versions that may be asked for, and the days that usually vouch for a Penpot."""

    asked: Asked
    versions: list[str]
    vouch_days: int
    may_name_instance: bool


@dataclass(frozen=True, slots=True)
class Headline:
    """Three numbers of one closed day, None where hidden, and the fleet that they are part of."""

    card: Card
    numbers: list[tuple[str, int | None]]
    day: date | None
    is_open: bool
    summary: Summary


def headline(card: Card, frame: pl.DataFrame) -> Headline:
    """The last closed day of `active_…`; the last one at all when none is closed."""
    closed = frame.filter(~pl.col("is_open"))
    rows = (frame if closed.is_empty() else closed).tail(1).to_dicts()
    row: dict[str, Any] = rows[0] if rows else {}
    spans = (("on the day", "active_1d"), ("in 7 days", "active_7d"), ("in 28 days", "active_28d"))
    return Headline(
        card,
        [(label, row.get(column)) for label, column in spans] if row else [],
        row.get("day"),
        is_open=bool(row.get("is_open")),
        summary=summarise(card, frame),
    )


def read_block(card: Card, frame: pl.DataFrame, query: str, threshold: int) -> Block:
    """What a page shows of an answer."""
    own = [name for name in frame.columns if name not in SHARED_COLUMNS]
    are_latest = "day" in own or "week" in own
    shown = frame.reverse().head(ROWS_SHOWN) if are_latest else frame.head(ROWS_SHOWN)
    rows = [
        ([read_cell(row[name], name, is_hidden=row["suppressed"]) for name in own], bool(row["is_open"]))
        for row in shown.iter_rows(named=True)
    ]
    columns = [Column(name, card.columns[name], frame.schema[name].is_numeric()) for name in own]
    return Block(
        card, query, threshold, summarise(card, frame, PAGE_LINES), columns, rows, are_latest, say_nothing(card, frame)
    )


def read_cell(value: object, column: str, *, is_hidden: bool) -> Cell:
    """One value in words."""
    if value is None:
        return Cell("hidden", "hidden") if is_hidden else Cell("", "plain")
    if isinstance(value, str):
        return Cell(value if len(value) <= TEXT else value[: TEXT - 1] + "…", "text")
    if isinstance(value, float):
        return Cell(f"{value:.1%}" if column.endswith(SHARES) else f"{value:,.1f}", "number")
    if isinstance(value, int) and not isinstance(value, bool):
        return Cell(f"{value:,}", "number")
    if isinstance(value, datetime):
        return Cell(f"{value:%Y-%m-%d %H:%M}", "plain")
    words = {True: "yes", False: "no"}
    return Cell(words[value] if isinstance(value, bool) else str(value), "plain")


def render(template: str, **values: Any) -> str:
    """A page."""
    return templates().get_template(template).render(values)


@cache
def templates() -> Environment:
    """The templates of this package; whatever they are given is escaped, and nothing may be missing."""
    environment = Environment(
        loader=PackageLoader("receiver.dashboard", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["thousands"] = thousands
    environment.filters["spaced"] = lambda name: name.replace("_", " ")
    environment.globals["fields"] = FIELDS
    return environment


FIELDS: Mapping[str, str] = {
    "counts": "What it counts",
    "numerator": "Numerator",
    "denominator": "Denominator",
    "coverage": "Coverage",
    "suppression": "What is hidden",
    "lateness": "Late events",
    "epoch": "How far back",
    "traps": "What not to read into it",
}


def thousands(number: int | None) -> str:
    """A number with its marks; hidden when there is none."""
    return "hidden" if number is None else f"{number:,}"
