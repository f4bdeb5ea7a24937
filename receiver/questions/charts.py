"""An answer as an Altair chart, for a notebook or a file. Nothing is computed here.

What may still change is drawn apart from what is settled (dashed, or pale), and below the title stands who is behind
the numbers, how fresh they are and how much is hidden.
"""

import re
from datetime import date
from typing import Any

import altair as alt
import polars as pl

from receiver.questions.cards import SHARED_COLUMNS, Card
from receiver.questions.notes import PAGE_LINES, drawn_rows, say_nothing, shorten, summarise
from receiver.questions.sanitize import make_labels

COLORS = ["#3b6fb6", "#d9822b", "#3f9b6c", "#b5475a", "#7a5cab", "#8c7351", "#3aa1b5", "#b89b2e", "#6b7280", "#c05fa0"]
GREY, OLD = "#6b7280", "#c3c8d0"
PALE = 0.4
WIDTH, ROW_HEIGHT, HEIGHT = 640, 22, 280
MANY_DAYS, TICKS = 200, 8
CELLS = 18
"""Cells beside one another that have room for a number each."""

NARROW = 480
LETTER, BESIDE = 7, 90  # pixels of a letter at most, and of what else is beside a field
PADDING = {"left": 12, "right": 12, "top": 4, "bottom": 4}  # a reader's font may be wider than the one measured here

ON_DARK = ["#6ea3ea", "#efa050", "#5cc08c", "#e5788a", "#a78bda", "#c0a27c", "#5fc3d6", "#dcc25a", "#a0a8b5", "#e08cc4"]
DARKENED = dict(zip(COLORS, ON_DARK, strict=True)) | {OLD: "#5b6472", GREY: "#a0a8b5"}
LIGHT = {"text": "#374151", "faint": "#e5e7eb", "paper": "#ffffff"}
DARK = {"text": "#d5dae3", "faint": "#3a414d", "paper": "#181b21"}

STATES = alt.Scale(domain=["closed", "open"], range=[[1, 0], [4, 3]])


def draw(card: Card, frame: pl.DataFrame) -> alt.Chart:
    """The chart that a card asks for. An answer of nothing, or of nothing that may be shown, says so in words."""
    title = alt.Title(
        card.title, subtitle=subtitles(card, frame), anchor="start", fontSize=16, subtitleColor=GREY, offset=12
    )
    chart = plot(card, drawn_rows(card, frame)).properties(title=title).configure_view(strokeWidth=0)
    drawn: alt.Chart = chart.configure_axis(gridColor="#e5e7eb").configure_legend(
        orient="top", title=None, labelLimit=220, symbolOpacity=1
    )
    return drawn


def draw_for_page(card: Card, frame: pl.DataFrame, *, width: int, is_dark: bool) -> dict[str, Any]:
    """The same as a specification for a page: about `width` pixels wide, and without the title, which the page has."""
    theme = DARK if is_dark else LIGHT
    is_narrow = width < NARROW
    longest_label = 110 if is_narrow else 200
    spec: dict[str, Any] = refit(plot(card, drawn_rows(card, frame, PAGE_LINES)).to_dict(), DARKENED if is_dark else {})
    if "spec" in spec:  # groups of bars do not fit themselves
        letters = max(len(label) for label in frame[card.chart.y[0]].cast(pl.String).to_list())
        spec["spec"]["width"] = width - min(longest_label, letters * LETTER) - BESIDE
    else:
        spec["width"], spec["autosize"] = width, {"type": "fit-x", "contains": "padding"}
    text, faint = theme["text"], theme["faint"]
    spec["config"] = {
        "background": theme["paper"],
        "aria": False,
        "padding": PADDING,
        "font": "Arial, Helvetica, sans-serif",
        "view": {"strokeWidth": 0},
        "axis": {
            "gridColor": faint,
            "domainColor": faint,
            "tickColor": faint,
            "labelColor": text,
            "titleColor": text,
            "labelFontSize": 11,
            "labelLimit": longest_label,
            "titleFontWeight": "normal",
        },
        "header": {"labelColor": text},
        "legend": {
            "orient": "top",
            "title": None,
            "labelColor": text,
            "labelFontSize": 11,
            "labelLimit": 120,
            "columns": 3 if is_narrow else 5,
            "symbolOpacity": 1,
        },
    }
    return spec


def refit(part: Any, colors: dict[str, str]) -> Any:
    """A specification in other colours, and without what was meant for one width; the data stay as they are."""
    match part:
        case dict():
            dropped = {"config", "labelLimit"} | ({"columns"} if "symbolStrokeWidth" in part else set())
            return {
                key: value if key in {"datasets", "domain", "sort"} else refit(value, colors)
                for key, value in part.items()
                if key not in dropped
            }
        case list():
            return [refit(one, colors) for one in part]
        case str():
            return colors.get(part, part)
    return part


def plot(card: Card, frame: pl.DataFrame) -> Any:
    """The marks of a chart, without title and theme."""
    marks = {"lines": lines, "columns": columns, "stack": columns, "bars": bars, "heat": heat, "steps": steps}
    nothing = say_nothing(card, frame)
    if nothing:
        base = alt.Chart(pl.DataFrame({"text": [nothing]}), width=WIDTH, height=60)
        return base.mark_text(fontSize=14, color=GREY).encode(text="text:N")
    if frame.height == 1 and card.chart.mark == "bars" and len(card.chart.x) > 1:
        return figures(frame)
    return marks[card.chart.mark](card, make_labels(frame))


def figures(frame: pl.DataFrame) -> Any:
    """The counts of an answer of one row, large, each above its name."""
    names = [name for name in frame.columns if name not in SHARED_COLUMNS and frame.schema[name].is_integer()]
    values = frame.select(names).row(0)
    shown = pl.DataFrame(
        {
            "name": [name.replace("_", " ") for name in names],
            "figure": ["hidden" if value is None else f"{value:,}" for value in values],
        }
    )
    order = shown["name"].to_list()
    x = alt.X("name:N", sort=order, title=None, axis=alt.Axis(labelAngle=0, domain=False, ticks=False))
    base = alt.Chart(shown, width=WIDTH, height=40).encode(x=x, text="figure:N")
    return base.mark_text(fontSize=22, fontWeight="bold", color=COLORS[0])


def subtitles(card: Card, frame: pl.DataFrame) -> list[str]:
    """What stands below the title: the question, its denominator, coverage and freshness, what is open and hidden."""
    summary = summarise(card, frame)
    if summary.who is None:
        return [card.question]
    texts = [card.question, f"{summary.who} · {summary.fresh}", f"out of: {shorten(card.denominator)}"]
    apart = {"lines": "dashed", "columns": "pale", "stack": "pale", "heat": "pale"}.get(card.chart.mark)
    notes = []
    if summary.has_open:
        notes.append(f"still open: {apart}" if apart else "the latest days are still open")
    if summary.hidden:
        notes.append(f"{summary.hidden} of {summary.rows} rows with hidden numbers")
    return [*texts, " · ".join(notes)] if notes else texts


def lines(card: Card, frame: pl.DataFrame) -> Any:
    """Lines over days. Where open days begin the line goes on dashed, from the last closed point."""
    hint = card.chart
    series = hint.color or "series"
    has_come = ~(pl.col("is_open") & pl.col("instances_reporting").eq_missing(0))  # a fall to zero would be no news
    tidy = melt(card, frame.filter(has_come)).sort(series, hint.x[0])  # with the hidden ones: a line breaks there
    hidden = pl.col("amount").is_null()
    is_alone = ~hidden & hidden.shift(1, fill_value=True).over(series) & hidden.shift(-1, fill_value=True).over(series)
    tidy = tidy.with_columns(is_alone=is_alone)
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
        x=alt.X(f"{hint.x[0]}:T", title=None, axis=day_axis(tidy[hint.x[0]])),
        y=alt.Y("amount:Q", title=axis_title(card), axis=number_axis(card, tidy)),
        color=color(card, tidy, series),
        strokeDash=alt.StrokeDash("state:N", scale=STATES, legend=None),
    )
    # A day alone between hidden ones makes no line.
    points = base.transform_filter("datum.is_alone").mark_circle(size=18, opacity=1).encode(strokeDash=alt.Undefined)
    return base.mark_line(strokeWidth=2) + points


def columns(card: Card, frame: pl.DataFrame) -> Any:
    """Columns over days or weeks, stacked, the first of the card at the foot; open ones pale, losses below zero."""
    hint = card.chart
    series = hint.color or "series"
    tidy = melt(card, frame).drop_nulls("amount")
    if hint.below:
        sign = pl.when(pl.col("series").is_in(hint.below)).then(-1).otherwise(1)
        tidy = tidy.with_columns(pl.col("amount") * sign)
    names = list(hint.y) if series == "series" else tidy[series].unique(maintain_order=True).to_list()
    tidy = tidy.with_columns(place=pl.col(series).replace_strict(names, list(range(len(names))), return_dtype=pl.Int64))
    scale = "O" if hint.mark == "stack" else "T"  # weeks stand side by side, days where they are
    tooltip = [alt.Tooltip(f"{hint.x[0]}:T"), alt.Tooltip(f"{series}:N"), alt.Tooltip("amount:Q")]
    return (
        alt.Chart(tidy, width=WIDTH, height=HEIGHT)
        .mark_bar()
        .encode(
            x=alt.X(f"yearmonthdate({hint.x[0]}):{scale}", title=None, axis=day_axis(tidy[hint.x[0]])),
            y=alt.Y("sum(amount):Q", title=axis_title(card), axis=number_axis(card, tidy), stack="zero"),
            color=color(card, tidy, series),
            order="place:Q",
            opacity=alt.Opacity("is_open:N", scale=alt.Scale(domain=[False, True], range=[1, PALE]), legend=None),
            tooltip=tooltip,
        )
    )


def bars(card: Card, frame: pl.DataFrame) -> Any:
    """Lying bars, one group a row; in the order of the answer when that has a meaning, else the longest first."""
    hint = card.chart
    key = hint.y[0]
    # what is hidden keeps its place, empty, and says so
    tidy = melt(card, frame, key).with_columns(pl.col(key).cast(pl.String), label=label(card))
    order = list(dict.fromkeys(tidy[key].to_list()))
    several = len(hint.x) > 1
    encoding: dict[str, Any] = {
        "y": alt.Y(f"{key}:N", sort=order, title=None, axis=alt.Axis(labelLimit=220)),
        "x": alt.X("amount:Q", title=axis_title(card), axis=number_axis(card, tidy), stack=None if several else "zero"),
    }
    if several:
        encoding["yOffset"] = alt.YOffset("series:N", sort=list(hint.x))
    step = ROW_HEIGHT if not several else 13
    base = alt.Chart(tidy, width=WIDTH, height=alt.Step(step)).encode(**encoding)
    colored = color(card, tidy, hint.color or "series") if several or hint.color else alt.value(COLORS[0])
    chart: Any = base.mark_bar().encode(color=colored)
    if hint.color is None:
        texts = base.transform_calculate(end="datum.amount || 0").mark_text(align="left", dx=4, fontSize=10, color=GREY)
        chart += texts.encode(x=alt.X("end:Q", stack=None), text="label:N")
    if hint.facet is None:
        return chart
    header = alt.Header(labelOrient="top", labelAnchor="start", labelFontWeight="bold")
    return chart.facet(row=alt.Row(f"{hint.facet}:N", title=None, header=header)).resolve_scale(y="independent")


def label(card: Card) -> pl.Expr:
    """What stands at the end of a bar: its number, or why it has none."""
    amount = pl.col("amount")
    number = (
        pl.format("{}%", (100 * amount).round(1))
        if card.chart.is_share
        else amount.cast(pl.Float64).round(1).cast(pl.String)
    )
    if not card.chart.is_share:
        number = number.str.strip_suffix(".0")
    return (
        pl.when(amount.is_not_null())
        .then(number)
        .otherwise(pl.when("suppressed").then(pl.lit("hidden")).otherwise(pl.lit("not yet")))
    )


def heat(card: Card, frame: pl.DataFrame) -> Any:
    """A field of cells, with their numbers as long as these have room; open cells pale."""
    hint = card.chart
    value = hint.color or hint.y[0]
    tidy = frame.drop_nulls(value).with_columns(pl.col(hint.y[0]).cast(pl.String))
    has_room = tidy[hint.x[0]].n_unique() <= CELLS
    base = alt.Chart(tidy, width=WIDTH, height=alt.Step(ROW_HEIGHT if has_room else 11)).encode(
        x=alt.X(
            f"{hint.x[0]}:O",
            title=hint.x[0].replace("_", " "),
            axis=alt.Axis(labelAngle=0, orient="top", labelOverlap=True),
        ),
        y=alt.Y(f"{hint.y[0]}:O", title=None, axis=alt.Axis(labelOverlap=True)),
    )
    legend = None if has_room else alt.Legend(format=".0%", gradientLength=200)
    paper = base.mark_rect(color="white")  # the texts are for light cells, whatever the page is
    cells = base.mark_rect(stroke="white").encode(
        color=alt.Color(f"{value}:Q", scale=alt.Scale(scheme="blues", domain=[0, 1]), legend=legend),
        opacity=alt.Opacity("is_open:N", scale=alt.Scale(domain=[False, True], range=[1, PALE]), legend=None),
    )
    if not has_room:
        return paper + cells
    is_dark = (alt.datum[value] > 0.55) & ~alt.datum["is_open"]  # noqa: PLR2004  where dark text is hard to read
    texts = base.mark_text(fontSize=10).encode(
        text=alt.Text(f"{value}:Q", format=".0%"),
        color=alt.condition(is_dark, alt.value("white"), alt.value("#1f2937")),
    )
    return paper + cells + texts


def steps(card: Card, frame: pl.DataFrame) -> Any:
    """Steps over a number: each value holds until the next. The first series is wide, so that none hides another."""
    hint = card.chart
    tidy = melt(card, frame).drop_nulls("amount")
    width: Any = alt.value(2)
    if len(hint.y) > 1:
        width = alt.StrokeWidth("series:N", scale=alt.Scale(domain=list(hint.y), range=[5, 2, 2]), legend=None)
    return (
        alt.Chart(tidy, width=WIDTH, height=HEIGHT)
        .mark_line(interpolate="step-after")
        .encode(
            x=alt.X(
                f"{hint.x[0]}:Q",
                title=hint.x[0].replace("_", " "),
                axis=alt.Axis(tickMinStep=1),
                scale=alt.Scale(nice=False),
            ),
            y=alt.Y("amount:Q", title=axis_title(card), axis=number_axis(card, tidy)),
            color=color(card, tidy, "series"),
            strokeWidth=width,
        )
    )


def melt(card: Card, frame: pl.DataFrame, key: str | None = None) -> pl.DataFrame:
    """One row a mark: key, series, value. `series` is the column's name, or the card's colour column."""
    hint = card.chart
    values = hint.x if hint.mark == "bars" else hint.y
    keys = [key or hint.x[0], *filter(None, (hint.color, hint.facet))]
    kept = list(dict.fromkeys([*keys, "is_open", "suppressed"]))
    return frame.select(*kept, *values).unpivot(values, index=kept, variable_name="series", value_name="amount")


def color(card: Card, tidy: pl.DataFrame, series: str) -> alt.Color:
    """The colours of the series, in the order of the card or of the answer; no legend for one alone."""
    names = sorted(tidy.drop_nulls("amount")[series].unique().to_list(), key=natural_key)
    if series == "series":
        names = list(card.chart.x if card.chart.mark == "bars" else card.chart.y)
    # Versions by the dozen: the newest have a colour of their own, the older ones share one.
    own = names[-len(COLORS) :]
    colors = [OLD] * (len(names) - len(own)) + COLORS[: len(own)]
    is_needed = len(names) > 1 or series != "series"
    longest = max((len(name) for name in names), default=0)
    legend = alt.Legend(columns=max(2, WIDTH // (7 * longest + 36)), symbolStrokeWidth=3) if is_needed else None
    return alt.Color(f"{series}:N", scale=alt.Scale(domain=names, range=colors), legend=legend, sort=names)


def natural_key(name: str) -> list[tuple[int, str]]:
    """2.9.0 before 2.10.0."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]


def axis_title(card: Card) -> str | None:
    """What the numbers are: the name of the one column, or the unit."""
    values = card.chart.x if card.chart.mark == "bars" else card.chart.y
    if len(values) == 1:
        return values[0].replace("_", " ")
    return None if card.chart.is_share else card.unit if card.chart.mark != "bars" else None


def number_axis(card: Card, tidy: pl.DataFrame) -> alt.Axis:
    """Percent for shares, thousands with their mark otherwise; no half of a thing that is counted."""
    amounts = tidy["amount"].drop_nulls().cast(pl.Float64).to_list()
    is_counted = not card.chart.is_share and all(amount.is_integer() for amount in amounts)
    return alt.Axis(
        format=".0%" if card.chart.is_share else ",d" if is_counted else ",.1~f",
        tickCount=min(TICKS, max(1, int(max(map(abs, amounts))))) if is_counted and amounts else TICKS,
    )


def day_axis(days: pl.Series) -> alt.Axis:
    """Days as Mar 05; months with their year when there are many."""
    first, last = days.min(), days.max()
    is_long = isinstance(first, date) and isinstance(last, date) and (last - first).days > MANY_DAYS
    return alt.Axis(format="%b %Y" if is_long else "%b %d", labelOverlap=True)
