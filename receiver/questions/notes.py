"""What stands beside every answer, in words: who is behind the numbers, how fresh they are, what is open and hidden."""

from dataclasses import dataclass

import polars as pl

from receiver.questions.cards import Card

LONGEST = 96  # a line below a chart's title
LINES, PAGE_LINES, ROWS = 40, 10, 40  # what a chart holds at most, when its card does not say


@dataclass(frozen=True, slots=True)
class Summary:
    """`who` and `fresh` are None for an empty answer.

    `hidden` of `rows` rows have a hidden number; `undrawn` names, lines or bars, are more than the chart holds.
    """

    who: str | None
    fresh: str | None
    has_open: bool
    hidden: int
    rows: int
    undrawn: int = 0


def summarise(card: Card, frame: pl.DataFrame, lines: int = LINES) -> Summary:
    """The summary of an answer whose chart has so many lines; coverage by day is that of the last closed one."""
    if frame.is_empty():
        return Summary(None, None, has_open=False, hidden=0, rows=0)
    closed = frame.filter(~pl.col("is_open"))
    last = (frame if closed.is_empty() else closed).row(-1, named=True)
    coverage = last["coverage"]
    if coverage is None:
        who = "coverage not shown"
    else:
        where = f" on {last['day']:%b %d}" if card.coverage.startswith("instances with an event on the day") else ""
        reporting, known = last["instances_reporting"], last["instances_known"]
        who = f"{reporting} of {known} known instances reporting ({coverage:.0%}){where}"
    return Summary(
        who,
        f"fresh at {last['fresh_at']:%Y-%m-%d %H:%M} UTC",
        has_open=bool(frame["is_open"].any()),
        hidden=int(frame["suppressed"].sum()),
        rows=frame.height,
        undrawn=count_names(card, frame) - count_names(card, drawn_rows(card, frame, lines)),
    )


def say_nothing(card: Card, frame: pl.DataFrame) -> str | None:
    """Why there is nothing to draw; None when there is something."""
    if frame.is_empty():
        return "no rows for these days"
    hint = card.chart
    drawn = [hint.color or hint.y[0]] if hint.mark == "heat" else hint.x if hint.mark == "bars" else hint.y
    amounts = frame.select(pl.concat_list(pl.col(drawn).cast(pl.Float64)).explode().alias("n"))["n"]
    if amounts.is_not_null().any() and amounts.drop_nulls().ne(0).any():
        return None
    names = " and ".join(name.replace("_", " ") for name in drawn)
    if amounts.is_null().all():
        return f"{names}: hidden in every row" if frame["suppressed"].all() else f"{names}: no number in any row"
    return f"{names}: none on these days" + (", or hidden" if frame["suppressed"].any() else "")


def shorten(text: str) -> str:
    """The first clause, short enough for one line of a chart."""
    clause = text.partition(";")[0]
    return clause if len(clause) <= LONGEST else clause[: LONGEST - 1].rsplit(" ", 1)[0] + " …"


def drawn_rows(card: Card, frame: pl.DataFrame, lines: int = LINES) -> pl.DataFrame:
    """The rows that a chart draws: all, or those of the largest `lines`, or the first bars of each group."""
    hint = card.chart
    if hint.mark == "lines" and hint.color:
        sums = frame.group_by(hint.color).agg(pl.col(hint.y[0]).sum())
        largest = sums.sort(hint.y[0], hint.color, descending=[True, False]).head(lines)
        return frame.filter(pl.col(hint.color).is_in(largest[hint.color].to_list()))
    if hint.mark != "bars":
        return frame
    top = hint.top or ROWS
    if hint.facet:
        return frame.group_by(hint.facet, maintain_order=True).head(top).select(frame.columns)
    return frame.tail(top) if hint.sort == "release" else frame.head(top)


def count_names(card: Card, frame: pl.DataFrame) -> int:
    """The lines of a chart, or its bars."""
    hint = card.chart
    return frame[hint.color].n_unique() if hint.mark == "lines" and hint.color else frame.height
