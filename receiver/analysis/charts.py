"""An answer as an Altair chart, for a notebook or a file. Nothing is computed here.

What may still change is drawn apart from what is settled (dashed, or pale), and below the title stands who is behind
the numbers, how fresh they are and how much is hidden.
"""

import re
from typing import Any

import altair as alt
import polars as pl

from receiver.analysis.cards import Card

COLORS = ["#3b6fb6", "#d9822b", "#3f9b6c", "#b5475a", "#7a5cab", "#8c7351", "#3aa1b5", "#b89b2e", "#6b7280", "#c05fa0"]
PALE = 0.4
WIDTH, ROW_HEIGHT, HEIGHT = 640, 22, 280

STATES = alt.Scale(domain=["closed", "open"], range=[[1, 0], [4, 3]])


def draw(card: Card, frame: pl.DataFrame) -> alt.Chart:
    """The chart that a card asks for. An empty answer gives a chart that says so."""
    if frame.is_empty():
        chart: Any = (
            alt.Chart(pl.DataFrame({"text": ["no rows for these days"]}), width=WIDTH, height=60)
            .mark_text(fontSize=14, color="#6b7280")
            .encode(text="text:N")
        )
    else:
        marks = {"lines": lines, "columns": columns, "stack": columns, "bars": bars, "heat": heat, "steps": steps}
        chart = marks[card.chart.mark](card, frame)
    title = alt.Title(card.title, subtitle=subtitles(card, frame), anchor="start", fontSize=16, subtitleColor="#6b7280")
    chart = chart.properties(title=title).configure_view(strokeWidth=0).configure_axis(gridColor="#e5e7eb")
    drawn: alt.Chart = chart.configure_legend(orient="top", title=None, labelLimit=220, columns=5)
    return drawn


def subtitles(card: Card, frame: pl.DataFrame) -> list[str]:
    """What stands below the title: the question, its denominator, coverage and freshness, what is open and hidden."""
    texts = [card.question]
    if frame.is_empty():
        return texts
    closed = frame.filter(~pl.col("is_open"))
    last = (frame if closed.is_empty() else closed).row(-1, named=True)
    coverage, fresh_at = last["coverage"], last["fresh_at"]
    if coverage is None:
        who = "coverage not shown"
    else:
        where = f" on {last['day']:%b %d}" if card.coverage.startswith("instances with an event on the day") else ""
        reporting, known = last["instances_reporting"], last["instances_known"]
        who = f"{reporting} of {known} known instances reporting ({coverage:.0%}){where}"
    texts.append(f"{who} · fresh at {fresh_at:%Y-%m-%d %H:%M} UTC")
    hidden, unsettled = frame["suppressed"].sum(), frame["is_open"].sum()
    apart = {"lines": "dashed", "columns": "pale", "stack": "pale", "heat": "pale"}.get(card.chart.mark)
    notes = [f"out of: {shorten(card.denominator)}"]
    if unsettled:
        notes.append(f"still open: {apart}" if apart else "the latest days are still open")
    if hidden:
        notes.append(f"{hidden} of {frame.height} rows with hidden numbers")
    texts.append(" · ".join(notes))
    return texts


def shorten(text: str) -> str:
    """The first clause, short enough for one line of a chart."""
    clause = text.partition(";")[0]
    return clause if len(clause) <= 96 else clause[:95].rsplit(" ", 1)[0] + " …"  # noqa: PLR2004  a line of the chart


def lines(card: Card, frame: pl.DataFrame) -> Any:
    """Lines over days. Where open days begin the line goes on dashed, from the last closed point."""
    hint = card.chart
    series = hint.color or "series"
    tidy = melt(card, frame).sort(series, hint.x[0])  # with the hidden ones: a line breaks there
    opened = tidy.filter("is_open")
    bridges = tidy.filter(~pl.col("is_open")).group_by(series, maintain_order=True).last().select(tidy.columns)
    bridges = bridges.filter(pl.col(series).is_in(opened[series].unique().to_list()))
    parts = pl.concat(
        [
            tidy.filter(~pl.col("is_open")).with_columns(state=pl.lit("closed")),
            pl.concat([bridges, opened]).with_columns(state=pl.lit("open")),
        ]
    )
    base = alt.Chart(parts, width=WIDTH, height=HEIGHT).encode(
        x=alt.X(f"{hint.x[0]}:T", title=None, axis=alt.Axis(format="%b %d", labelOverlap=True)),
        y=alt.Y("amount:Q", title=axis_title(card), axis=number_axis(card), scale=number_scale(tidy)),
        color=color(card, tidy, series),
        strokeDash=alt.StrokeDash("state:N", scale=STATES, legend=None),
    )
    # A day alone between hidden ones makes no line.
    points = base.mark_circle(size=14).encode(strokeDash=alt.Undefined)
    return base.mark_line(strokeWidth=2) + points


def columns(card: Card, frame: pl.DataFrame) -> Any:
    """Columns over days or weeks, stacked; open ones pale."""
    hint = card.chart
    series = hint.color or "series"
    tidy = melt(card, frame).drop_nulls("amount")
    scale = "O" if hint.mark == "stack" else "T"  # weeks stand side by side, days where they are
    tooltip = [alt.Tooltip(f"{hint.x[0]}:T"), alt.Tooltip(f"{series}:N"), alt.Tooltip("amount:Q")]
    return (
        alt.Chart(tidy, width=WIDTH, height=HEIGHT)
        .mark_bar()
        .encode(
            x=alt.X(
                f"yearmonthdate({hint.x[0]}):{scale}", title=None, axis=alt.Axis(format="%b %d", labelOverlap=True)
            ),
            y=alt.Y(
                "sum(amount):Q", title=axis_title(card), axis=number_axis(card), scale=number_scale(tidy), stack="zero"
            ),
            color=color(card, tidy, series),
            opacity=alt.Opacity("is_open:N", scale=alt.Scale(domain=[False, True], range=[1, PALE]), legend=None),
            tooltip=tooltip,
        )
    )


def bars(card: Card, frame: pl.DataFrame) -> Any:
    """Lying bars, one group a row; in the order of the answer when that has a meaning, else the longest first."""
    hint = card.chart
    key = hint.y[0]
    if hint.color is None and hint.facet is None and hint.top:
        frame = frame.head(hint.top) if hint.sort == "value" else frame.tail(hint.top)
    tidy = melt(card, frame, key).with_columns(pl.col(key).cast(pl.String))  # what is hidden keeps its place, empty
    order = list(dict.fromkeys(tidy[key].to_list()))
    several = len(hint.x) > 1
    encoding: dict[str, Any] = {
        "y": alt.Y(f"{key}:N", sort=order, title=None, axis=alt.Axis(labelLimit=220)),
        "x": alt.X("amount:Q", title=axis_title(card), axis=number_axis(card), stack=None if several else "zero"),
    }
    if several:
        encoding["yOffset"] = alt.YOffset("series:N", sort=list(hint.x))
    if several or hint.color:
        encoding["color"] = color(card, tidy, hint.color or "series")
    else:
        encoding["color"] = alt.value(COLORS[0])
    step = ROW_HEIGHT if not several else 13
    chart = alt.Chart(tidy, width=WIDTH, height=alt.Step(step)).mark_bar().encode(**encoding)
    if hint.facet is None:
        return chart
    facet = alt.Row(f"{hint.facet}:N", title=None, header=alt.Header(labelAngle=0, labelAlign="left"))
    return chart.encode(row=facet).resolve_scale(y="independent")


def heat(card: Card, frame: pl.DataFrame) -> Any:
    """A field of cells with their numbers; open cells pale."""
    hint = card.chart
    value = hint.color or hint.y[0]
    tidy = frame.drop_nulls(value).with_columns(pl.col(hint.y[0]).cast(pl.String))
    base = alt.Chart(tidy, width=WIDTH, height=alt.Step(ROW_HEIGHT)).encode(
        x=alt.X(f"{hint.x[0]}:O", title=hint.x[0].replace("_", " "), axis=alt.Axis(labelAngle=0, orient="top")),
        y=alt.Y(f"{hint.y[0]}:O", title=None),
    )
    cells = base.mark_rect(stroke="white").encode(
        color=alt.Color(f"{value}:Q", scale=alt.Scale(scheme="blues", domain=[0, 1]), legend=None),
        opacity=alt.Opacity("is_open:N", scale=alt.Scale(domain=[False, True], range=[1, PALE]), legend=None),
    )
    is_dark = (alt.datum[value] > 0.55) & ~alt.datum["is_open"]  # noqa: PLR2004  where dark text is hard to read
    texts = base.mark_text(fontSize=10).encode(
        text=alt.Text(f"{value}:Q", format=".0%"),
        color=alt.condition(is_dark, alt.value("white"), alt.value("#1f2937")),
    )
    return cells + texts


def steps(card: Card, frame: pl.DataFrame) -> Any:
    """Steps over a number: each value holds until the next."""
    hint = card.chart
    tidy = melt(card, frame).drop_nulls("amount")
    return (
        alt.Chart(tidy, width=WIDTH, height=HEIGHT)
        .mark_line(interpolate="step-after", strokeWidth=2)
        .encode(
            x=alt.X(
                f"{hint.x[0]}:Q",
                title=hint.x[0].replace("_", " "),
                axis=alt.Axis(tickMinStep=1),
                scale=alt.Scale(nice=False),
            ),
            y=alt.Y("amount:Q", title=axis_title(card), axis=number_axis(card), scale=number_scale(tidy)),
            color=color(card, tidy, "series"),
        )
    )


def melt(card: Card, frame: pl.DataFrame, key: str | None = None) -> pl.DataFrame:
    """One row a mark: key, series, value. `series` is the column's name, or the card's colour column."""
    hint = card.chart
    values = hint.x if hint.mark == "bars" else hint.y
    keys = [key or hint.x[0], *filter(None, (hint.color, hint.facet))]
    return frame.select(*dict.fromkeys([*keys, "is_open"]), *values).unpivot(
        values, index=list(dict.fromkeys([*keys, "is_open"])), variable_name="series", value_name="amount"
    )


def color(card: Card, tidy: pl.DataFrame, series: str) -> alt.Color:
    """The colours of the series, in the order of the card or of the answer; no legend for one alone."""
    names = sorted(tidy.drop_nulls("amount")[series].unique().to_list(), key=natural_key)
    if series == "series":
        names = list(card.chart.x if card.chart.mark == "bars" else card.chart.y)
    scale = alt.Scale(domain=names, range=COLORS)
    # Versions by the dozen: the newest keep their own colour.
    if len(names) > len(COLORS):
        scale = alt.Scale(domain=names, scheme="viridis")
    return alt.Color(f"{series}:N", scale=scale, legend=alt.Legend() if len(names) > 1 else None, sort=names)


def natural_key(name: str) -> list[tuple[int, str]]:
    """2.9.0 before 2.10.0."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]


def axis_title(card: Card) -> str | None:
    """What the numbers are: the name of the one column, or the unit."""
    values = card.chart.x if card.chart.mark == "bars" else card.chart.y
    if len(values) == 1:
        return values[0].replace("_", " ")
    return None if card.chart.is_share else card.unit if card.chart.mark != "bars" else None


def number_axis(card: Card) -> alt.Axis:
    """Percent for shares, thousands with their mark otherwise."""
    return alt.Axis(format=".0%" if card.chart.is_share else ",.1~f")


def number_scale(tidy: pl.DataFrame) -> alt.Scale:
    """From zero up; nothing at all stands on the axis, not in the middle."""
    return alt.Scale(zero=True) if (tidy["amount"] > 0).any() else alt.Scale(domain=[0, 1])
