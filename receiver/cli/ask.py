"""`python -m receiver ask QUESTION`: the answer as a table or a chart, on the terminal or in a file."""

from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal

import click
import polars as pl
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from penpot_telemetry.errors import TelemetryError
from receiver.questions.cards import SHARED_COLUMNS, Card, QuestionError, all_cards, find_card
from receiver.questions.reader import open_warehouse, read_kind, save
from receiver.questions.sanitize import make_showable

PICTURES = (".png", ".svg", ".html")
ROWS_SHOWN = 60
GAP, FOLDED = 2, 16
"""Between two columns; and how narrow a column of text may get before another one has to go."""
SHARES = ("share", "retention", "coverage", "stickiness", "survival", "churn")


@click.command()
@click.argument("question", required=False)
@click.option(
    "--warehouse",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("telemetry.duckdb"),
    envvar="RECEIVER_WAREHOUSE",
    show_envvar=True,
    show_default=True,
    help="The DuckDB file, or a snapshot of it. While a server has it, its snapshot is asked.",
)
@click.option("--first-day", metavar="YYYY-MM-DD", help="The first day, inclusive. [default: 90 days up to the last]")
@click.option("--last-day", metavar="YYYY-MM-DD", help="The last day, inclusive. [default: that of the newest receipt]")
@click.option("--instance", metavar="ID", help="Only this instance.")
@click.option("--version", metavar="VERSION", help="Only this version of Penpot, e.g. 2.18.0.")
@click.option("--threshold", type=int, metavar="N", help="Hide numbers below this. [default: 5; 1 hides nothing]")
@click.option(
    "--vouch-days",
    type=int,
    metavar="N",
    envvar="RECEIVER_VOUCH_DAYS",
    show_envvar=True,
    help="Leave out Penpots that were heard on fewer days. [default: nobody]",
)
@click.option(
    "--chart",
    "chart",
    is_flag=False,
    flag_value="-",
    metavar="[FILE]",
    help="A chart: on the terminal, or into a .png, .svg or .html file.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the answer to a .parquet, .csv, .arrow or .json file.",
)
@click.option("--all", "everything", is_flag=True, help="Every row and column, however wide.")
@click.option("--list", "lists", is_flag=True, help="List the questions.")
@click.option("--card", "shows_card", is_flag=True, help="Say what the question counts, without asking it.")
def ask(  # noqa: PLR0913  the options of a command
    question: str | None,
    warehouse: Path,
    chart: str | None,
    out: Path | None,
    *,
    everything: bool,
    lists: bool,
    shows_card: bool,
    **asked: Any,
) -> None:
    """Ask the warehouse a question: `ask --list` names them all, `ask --card QUESTION` explains one."""
    try:
        run(question, warehouse, chart, out, asked, everything=everything, lists=lists, shows_card=shows_card)
    except TelemetryError as error:
        raise click.ClickException(str(error)) from None


def run(  # noqa: PLR0913  likewise
    question: str | None,
    warehouse: Path,
    chart: str | None,
    out: Path | None,
    asked: dict[str, Any],
    *,
    everything: bool,
    lists: bool,
    shows_card: bool,
) -> None:
    """The same with errors of ours."""
    console = Console()
    if lists or question is None:
        print_list(console)
        return
    card = find_card(question)
    if shows_card:
        print_card(console, card)
        return
    picture = None if chart in {None, "-"} else Path(str(chart))
    if picture is not None and picture.suffix.lower() not in PICTURES:
        raise QuestionError(
            f"{picture.name} ends with none of {', '.join(PICTURES)}; for a chart here, put --chart last"
        )
    if out is not None:
        read_kind(out)
    for target in filter(None, (out, picture)):
        if not target.parent.is_dir():
            raise QuestionError(f"{target.parent} is not a folder: make it, or name another file")
    with open_warehouse(warehouse) as opened:
        if opened.is_snapshot:
            click.echo(f"{warehouse} is in use, asking its snapshot {opened.path}", err=True)
        frame = opened.ask(card.name, **asked)
    if out is not None:
        click.echo(f"{frame.height} rows in {save(frame, out)}", err=True)
    if picture is not None:
        save_picture(card, frame, picture)
        click.echo(f"chart in {picture}", err=True)
    if chart == "-":
        print_chart(console, card, make_showable(frame))
    elif out is None and picture is None:
        print_answer(console, card, make_showable(frame), everything=everything)


def save_picture(card: Card, frame: pl.DataFrame, path: Path) -> None:
    """A chart in a file."""
    draw(card, frame).save(str(path), scale_factor=2) if path.suffix.lower() == ".png" else draw(card, frame).save(
        str(path)
    )


def draw(card: Card, frame: pl.DataFrame) -> Any:
    """A chart. Raises QuestionError when the library is not there."""
    try:
        from receiver.questions import charts  # noqa: PLC0415  altair is an extra, and slow to load
    except ImportError:
        raise QuestionError("charts need the extra receiver: pip install 'penpot-telemetry[receiver]'") from None
    return charts.draw(card, frame)


def print_list(console: Console) -> None:
    """All questions."""
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False)
    table.add_column("question", no_wrap=True)
    table.add_column("asks")
    for card in all_cards().values():
        table.add_row(card.name, card.question)
    console.print(table)


def print_card(console: Console, card: Card) -> None:
    """A card."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    table.add_row(card.name, Text(card.question, style="bold"))
    for field in ("counts", "numerator", "denominator", "coverage", "suppression", "lateness", "epoch", "traps"):
        table.add_row(field, escape(getattr(card, field)))
    for name, meaning in card.columns.items():
        table.add_row(f"  {name}", escape(meaning))
    console.print(table)


def print_answer(console: Console, card: Card, frame: pl.DataFrame, *, everything: bool) -> None:
    """A table that fits, and below it who is behind the numbers. Open rows end with ~, hidden numbers are dots."""
    own = [column for column in frame.columns if everything or column not in SHARED_COLUMNS]
    if everything:
        console = Console(width=max(console.width, 24 * len(own)))
    last_ones = "day" in own
    shown = frame if everything else frame.tail(ROWS_SHOWN) if last_ones else frame.head(ROWS_SHOWN)
    is_mixed = frame["is_open"].n_unique() > 1
    console.print(card.question, style="bold", highlight=False)
    if frame.height == 1:
        print_row(console, frame.select(own), is_hidden=bool(frame["suppressed"][0]))
    elif frame.height:
        always = [] if everything else steady_columns(card, shown, own)
        texts = fit_columns(
            [
                column_of(column, shown, is_mixed=is_mixed and column == own[0], is_short=not everything)
                for column in own
                if column not in always
            ],
            console.width,
        )
        print_table(console, texts)
        if always:
            values = ", ".join(f"{as_words(name)} {column_of(name, shown).cells[0]}" for name in always)
            console.print(f"in every row: {values}", highlight=False)
        if left_out := [name for name in own if name not in always and name not in {text.name for text in texts}]:
            names = ", ".join(map(as_words, left_out))
            console.print(f"too wide for this terminal: {names}: --all, or --out FILE", highlight=False)
    if shown.height < frame.height:
        which = "last" if last_ones else "first"
        console.print(f"the {which} {shown.height} of {frame.height} rows: --all for every one, --out FILE for a file")
    print_footing(console, frame)


@dataclass(frozen=True, slots=True)
class Column:
    """A column as texts, as wide as its widest cell or the longest word of its name."""

    name: str
    cells: list[str]
    width: int
    is_text: bool
    is_number: bool


def column_of(name: str, frame: pl.DataFrame, *, is_mixed: bool = False, is_short: bool = False) -> Column:
    """A column's cells; the mark of open rows behind the first one's, ids by their first eight digits if short."""
    cells = []
    for value, is_hidden, is_open in frame.select(name, "suppressed", "is_open").iter_rows():
        text = cell(value, name, is_hidden=is_hidden)
        if is_short and name.endswith("_id"):
            text = text[:8]
        cells.append(text + (" ~" if is_mixed and is_open else ""))
    kind = frame.schema[name]
    width = max(map(cell_len, [*cells, *as_words(name).split()]))
    return Column(name, cells, width, kind == pl.String and not name.endswith("_id"), kind.is_numeric())


def steady_columns(card: Card, frame: pl.DataFrame, own: list[str]) -> list[str]:
    """Columns with the same in every row, said once below the table; never the first, nor one that is measured."""
    hint = card.chart
    kept = {own[0], *hint.x, *hint.y, hint.color, hint.facet}
    return [name for name in own if name not in kept and frame[name].n_unique() == 1]


def fit_columns(columns: list[Column], room: int) -> list[Column]:
    """As many columns as there is room for: texts are folded first, then the last columns go; no number is cut."""
    fitted = list(columns)
    while (excess := sum(column.width + GAP for column in fitted) - GAP - room) > 0:
        widest = max((column for column in fitted if column.is_text), key=lambda c: c.width, default=None)
        if widest is not None and widest.width > FOLDED:
            place = fitted.index(widest)
            fitted[place] = replace(widest, width=max(FOLDED, widest.width - excess))
        elif len(fitted) > 1:
            fitted.pop()
            originals = {column.name: column for column in columns}
            fitted = [originals[column.name] for column in fitted]
        else:
            break
    return fitted


def print_table(console: Console, columns: list[Column]) -> None:
    """Columns side by side."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.is_number else "left"
        table.add_column(as_words(column.name), justify=justify, overflow="fold", width=column.width)
    for cells in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*map(escape, cells))
    console.print(table, highlight=False)


def as_words(name: str) -> str:
    """A column's name in words."""
    return name.replace("_", " ")


def print_row(console: Console, frame: pl.DataFrame, *, is_hidden: bool) -> None:
    """One row alone, a line a column."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for column, value in frame.row(0, named=True).items():
        table.add_row(as_words(column), escape(cell(value, column, is_hidden=is_hidden)))
    console.print(table)


def print_footing(console: Console, frame: pl.DataFrame) -> None:
    """Coverage, freshness, what is open and hidden."""
    if frame.is_empty():
        console.print("no rows: nothing of the kind for these days")
        return
    closed = frame.filter(~pl.col("is_open"))
    last = (frame if closed.is_empty() else closed).row(-1, named=True)
    if last["coverage"] is None:
        who = "coverage is not shown: too few instances"
    else:
        when = f" on {last['day']}" if "day" in last else ""
        reporting, known = last["instances_reporting"], last["instances_known"]
        who = f"{reporting} of {known} known instances reporting ({last['coverage']:.0%}){when}"
    fresh = f"fresh at {last['fresh_at']:%Y-%m-%d %H:%M} UTC"
    has_room = len(who) + len(fresh) + 2 <= console.width
    console.print(f"{who}, {fresh}" if has_room else f"{who}\n{fresh}", highlight=False)
    if frame["is_open"].any():
        console.print("~ events may still come", highlight=False)
    if frame["suppressed"].any():
        console.print("· hidden: fewer than the threshold", highlight=False)


def print_chart(console: Console, card: Card, frame: pl.DataFrame) -> None:
    """Bars of blocks."""
    from receiver.questions.text_chart import block_bars, measured  # noqa: PLC0415  beside the other drawing

    rows = block_bars(card, frame)
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.title, table.title_justify = f"{card.question} ({measured(card)})", "left"
    labels = max((len(row.label) for row in rows), default=0)
    numbers = max((len(row.text) for row in rows), default=0)
    width = max(10, console.width - min(labels, 40) - numbers - 4)
    for row in rows:
        table.add_row(escape(row.label[:40]), row.bar(width), Text(row.text, justify="right"))
    console.print(table)
    print_footing(console, frame)


def cell(value: object, column: str, *, is_hidden: bool) -> str:
    """One value of a table."""
    if value is None:
        return "·" if is_hidden else ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1%}" if column.endswith(SHARES) else f"{value:,.1f}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return value.isoformat() if isinstance(value, date) else str(value)
