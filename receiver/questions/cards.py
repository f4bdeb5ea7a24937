"""The header of a question's file as a metric card: what it counts, out of what, and what not to read into it.

A header is the comment lines at the top of the file: `-- field: text`, in the order of FIELDS, then `-- columns:` and
one `--   name: meaning` for each column of the answer. A header that lacks something is refused, with the line.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Literal, cast, get_args

from penpot_telemetry.errors import TelemetryError

Unit = Literal["instances", "profiles", "batches", "bodies"]
Audience = Literal["public", "operator"]
Mark = Literal["lines", "bars", "columns", "stack", "heat", "steps"]

FIELDS = (
    "title",
    "question",
    "counts",
    "numerator",
    "denominator",
    "coverage",
    "suppression",
    "lateness",
    "epoch",
    "traps",
    "unit",
    "audience",
    "chart",
)

SHARED_COLUMNS = ("instances_reporting", "instances_known", "coverage", "fresh_at", "is_open", "suppressed")
"""How every answer ends: who is behind it, how fresh it is, what may still change, what is hidden."""


class QuestionError(TelemetryError, ValueError):
    """A question, or what it is asked for, cannot be understood; the message says what can."""


class CardError(TelemetryError, ValueError):
    """A question's file has no readable header; the message names the file and the line."""


@dataclass(frozen=True, slots=True)
class ChartHint:
    """How an answer is drawn. `x` and `y` are columns, `below` those of them that point down; `top` rows at most."""

    mark: Mark
    x: tuple[str, ...]
    y: tuple[str, ...]
    color: str | None = None
    facet: str | None = None
    is_share: bool = False
    top: int | None = None
    sort: str = "value"
    """value, given or release."""
    below: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Card:
    """One question: its file, taken apart. `sql` is the whole file, ready to be pasted into a shell."""

    name: str
    title: str
    question: str
    counts: str
    numerator: str
    denominator: str
    coverage: str
    suppression: str
    lateness: str
    epoch: str
    traps: str
    unit: Unit
    audience: Audience
    chart: ChartHint
    columns: Mapping[str, str]
    sql: str


@cache
def all_cards() -> Mapping[str, Card]:
    """Every question, by name in alphabetical order."""
    folder = files("receiver.questions").joinpath("sql")
    texts = {
        path.name.removesuffix(".sql"): path.read_text() for path in folder.iterdir() if path.name.endswith(".sql")
    }
    return {name: read_card(name, texts[name]) for name in sorted(texts)}


def find_card(name: str) -> Card:
    """The card of one question. Raises QuestionError with the names that are close."""
    cards = all_cards()
    found = cards.get(name.replace("-", "_"))
    if found is not None:
        return found
    close = get_close_matches(name.replace("-", "_"), cards, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"the questions are {', '.join(cards)}"
    raise QuestionError(f"there is no question of that name: {hint}")


def read_card(name: str, sql: str) -> Card:
    """The card in front of a file. Raises CardError."""
    fields, columns = read_header(name, sql)
    for field in FIELDS:
        if not fields.get(field):
            raise CardError(f"{name}.sql: the header has no '-- {field}: …'")
    unknown = set(fields) - set(FIELDS)
    if unknown:
        raise CardError(f"{name}.sql: the header has a field that no card has: {', '.join(sorted(unknown))}")
    if tuple(columns)[-len(SHARED_COLUMNS) :] != SHARED_COLUMNS:
        raise CardError(f"{name}.sql: the columns must end with {', '.join(SHARED_COLUMNS)}")
    texts = {field: fields[field] for field in FIELDS[:10]}
    return Card(
        name=name,
        **texts,
        unit=cast(Unit, one_of(name, "unit", fields["unit"], get_args(Unit))),
        audience=cast(Audience, one_of(name, "audience", fields["audience"], get_args(Audience))),
        chart=read_hint(name, fields["chart"], columns),
        columns=columns,
        sql=sql,
    )


def read_header(name: str, sql: str) -> tuple[dict[str, str], dict[str, str]]:
    """The fields and the columns of a header, in their order."""
    fields: dict[str, str] = {}
    columns: dict[str, str] = {}
    for number, line in enumerate(sql.splitlines(), 1):
        if not line.startswith("--"):
            break
        is_column = line.startswith("--   ")
        key, colon, text = line.removeprefix("--").strip().partition(":")
        if not colon or (is_column and "columns" not in fields):
            raise CardError(
                f"{name}.sql, line {number}: expected '-- field: text', or '--   column: text' after columns"
            )
        target = columns if is_column else fields
        if key in target:
            raise CardError(f"{name}.sql, line {number}: {key} is there twice")
        target[key] = text.strip()
    if "columns" not in fields:
        raise CardError(f"{name}.sql: the header has no '-- columns:'")
    del fields["columns"]
    return fields, columns


def read_hint(name: str, text: str, columns: Mapping[str, str]) -> ChartHint:
    """`mark x=… y=… [below=…] [color=…] [facet=…] [format=%] [top=…] [sort=…]`; what is named must be a column."""
    mark, *words = text.split()
    settings = dict(word.partition("=")[::2] for word in words)
    x, y = (tuple(settings.get(axis, "").split(",")) for axis in ("x", "y"))
    below = tuple(filter(None, settings.get("below", "").split(",")))
    color, facet = settings.get("color"), settings.get("facet")
    for column in (*x, *y, *below, *filter(None, (color, facet))):
        if column not in columns:
            raise CardError(f"{name}.sql: the chart names {column or 'no column'}, which is not among the columns")
    return ChartHint(
        mark=cast(Mark, one_of(name, "chart", mark, get_args(Mark))),
        x=x,
        y=y,
        color=color,
        facet=facet,
        is_share=settings.get("format") == "%",
        top=int(settings["top"]) if "top" in settings else None,
        sort=one_of(name, "chart sort", settings.get("sort", "value"), ("value", "given", "release")),
        below=below,
    )


def one_of(name: str, field: str, text: str, allowed: Iterable[str]) -> str:
    """A word that must be one of a few."""
    if text not in allowed:
        raise CardError(f"{name}.sql: {field} is not one of {', '.join(allowed)}")
    return text
