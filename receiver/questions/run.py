"""A question and what it is asked for in, a polars frame out.

Takes any connection to a warehouse, the server's own or a read-only one, and leaves it as it was: the values travel as
variables of a cursor, bound, never as text of a statement.
"""

from dataclasses import dataclass
from datetime import date
from uuid import UUID

import duckdb
import polars as pl

from penpot_telemetry.errors import DatabaseError
from receiver.questions.cards import QuestionError, find_card


@dataclass(frozen=True, slots=True)
class Asked:
    """What a question is asked for. Days are inclusive; None: the last 90 days, all instances, all versions, 5.

    `vouch_days` leaves out instances that were heard on fewer days of receipt; None, 0 and 1 leave out nobody.
    """

    first_day: date | None = None
    last_day: date | None = None
    instance: UUID | None = None
    version: str | None = None
    threshold: int | None = None
    vouch_days: int | None = None


def read_asked(  # noqa: PLR0913, PLR0917  what a question can be asked for
    first_day: date | str | None = None,
    last_day: date | str | None = None,
    instance: UUID | str | None = None,
    version: str | None = None,
    threshold: int | str | None = None,
    vouch_days: int | str | None = None,
) -> Asked:
    """The same from texts, as a query string or a command line has them. Raises QuestionError, naming the value."""
    first, last = read_day("first_day", first_day), read_day("last_day", last_day)
    if first and last and first > last:
        raise QuestionError(f"first_day is {first}, after last_day, {last}")
    try:
        asked_instance = None if instance in {None, ""} else UUID(str(instance))
    except ValueError:
        raise QuestionError("instance is not an id like 6f9c1a52-0b1e-4c7e-9d57-3a1f0e5b2c44") from None
    asked_threshold = read_number("threshold", threshold)
    if asked_threshold is not None and not 1 <= asked_threshold <= 1_000_000:  # noqa: PLR2004  nobody hides a million
        raise QuestionError("threshold is not between 1, which hides nothing, and 1000000")
    days = read_number("vouch_days", vouch_days)
    if days is not None and not 0 <= days <= 3650:  # noqa: PLR2004  ten years
        raise QuestionError("vouch_days is not between 0, which leaves nobody out, and 3650")
    return Asked(first, last, asked_instance, version or None, asked_threshold, days)


def read_number(name: str, value: int | str | None) -> int | None:
    """A whole number as itself or as text."""
    try:
        return None if value in {None, ""} else int(str(value))
    except ValueError:
        raise QuestionError(f"{name} is not a whole number") from None


def read_day(name: str, value: date | str | None) -> date | None:
    """A day as itself or as YYYY-MM-DD."""
    if value is None or value == "":
        return None
    try:
        return date.fromisoformat(value) if isinstance(value, str) else date(value.year, value.month, value.day)
    except ValueError:
        raise QuestionError(f"{name} is not a day like 2026-03-01") from None


def answer(con: duckdb.DuckDBPyConnection, question: str, asked: Asked = Asked()) -> pl.DataFrame:
    """The answer to a question, sorted. Raises QuestionError, or DatabaseError when the file lacks the rollups."""
    card = find_card(question)
    cursor = con.cursor()
    try:
        bind(cursor, asked)
        frame: pl.DataFrame = cursor.sql(card.sql).pl()
        return frame
    except duckdb.CatalogException:
        raise DatabaseError(
            "this warehouse has no rollups: start a receiver of this version on it once, or take a new snapshot"
        ) from None
    finally:
        cursor.close()


def bind(cursor: duckdb.DuckDBPyConnection, asked: Asked) -> None:
    """Set the variables of a session. Days that were left open are looked up first: a scan skips what lies outside.

    So is who is left out: the questions read this list many times.
    """
    values = {
        "first_day": asked.first_day,
        "last_day": asked.last_day,
        "instance": asked.instance,
        "version": asked.version,
        "threshold": asked.threshold,
    }
    for name, value in values.items():
        if value is not None:
            set_variable(cursor, name, value)
    if asked.vouch_days is not None:
        cursor.execute("SET VARIABLE unvouched = unvouched_on(?)", [asked.vouch_days])
    if asked.first_day is None or asked.last_day is None:
        days = cursor.execute("SELECT from_day(), to_day()").fetchall()[0]
        for name, day in zip(("first_day", "last_day"), days, strict=True):
            if day is not None:
                set_variable(cursor, name, day)


def set_variable(cursor: duckdb.DuckDBPyConnection, name: str, value: date | UUID | str | int) -> None:
    """One variable, its value bound."""
    cursor.execute(f"SET VARIABLE {name} = ?", [value])
