"""A warehouse opened for reading, as an analyst likes it: questions as methods, frames out, a chart for each.

Opens the file itself when nobody writes to it, and otherwise the snapshot beside it that the server publishes.
"""

from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self
from uuid import UUID

import duckdb
import polars as pl

from penpot_telemetry.errors import DatabaseError
from receiver.questions.cards import Card, QuestionError, all_cards, find_card
from receiver.questions.methods import Questions
from receiver.questions.run import answer, read_asked
from receiver.questions.sanitize import write_csv
from receiver.storage import rollups
from receiver.storage.connection import check_version, connect
from receiver.storage.paths import snapshot_of as snapshot_of  # noqa: PLC0414  who reads a warehouse finds it here
from receiver.storage.records import InUseError

if TYPE_CHECKING:
    import altair as alt

Format = Literal["parquet", "csv", "arrow", "json"]


class OpenWarehouse(Questions):
    """A read-only warehouse. `path` is the file that is open, `is_snapshot` whether that is a published copy."""

    def __init__(self, con: duckdb.DuckDBPyConnection, path: Path, *, is_snapshot: bool) -> None:
        self._con = con
        self.path = path
        self.is_snapshot = is_snapshot

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._con.close()

    def __repr__(self) -> str:
        what = "snapshot" if self.is_snapshot else "warehouse"
        return f"<{what} {self.path}, fresh at {self.fresh_at or 'no time: it is empty'}>"

    @property
    def fresh_at(self) -> datetime | None:
        """The newest receipt, UTC; None when nothing was ever received."""
        fresh_at: datetime | None = self._con.execute("SELECT fresh_at FROM as_of").fetchall()[0][0]
        return fresh_at

    def ask(  # noqa: PLR0913  what a question can be asked for
        self,
        question: str,
        *,
        first_day: date | str | None = None,
        last_day: date | str | None = None,
        instance: UUID | str | None = None,
        version: str | None = None,
        threshold: int | None = None,
        vouch_days: int | None = None,
    ) -> pl.DataFrame:
        """The answer to any question by name; the methods do the same with completion. Raises QuestionError."""
        return answer(self._con, question, read_asked(first_day, last_day, instance, version, threshold, vouch_days))

    def chart(  # noqa: PLR0913  likewise
        self,
        question: str,
        *,
        first_day: date | str | None = None,
        last_day: date | str | None = None,
        instance: UUID | str | None = None,
        version: str | None = None,
        threshold: int | None = None,
        vouch_days: int | None = None,
    ) -> "alt.Chart":
        """The answer as an Altair chart: open days apart from closed ones, denominators below the title."""
        from receiver.questions.charts import draw  # noqa: PLC0415  altair is an extra, and slow to load

        frame = self.ask(
            question,
            first_day=first_day,
            last_day=last_day,
            instance=instance,
            version=version,
            threshold=threshold,
            vouch_days=vouch_days,
        )
        return draw(find_card(question), frame)

    def sql(self, query: str, parameters: dict[str, object] | None = None) -> pl.DataFrame:
        """The rows of a statement of your own; `$name` in it is bound from `parameters`. The file cannot be changed."""
        cursor = self._con.cursor()
        try:
            frame: pl.DataFrame = cursor.sql(query, params=parameters).pl()
            return frame
        except duckdb.Error as error:
            raise QuestionError(f"DuckDB refuses the statement: {error}") from None
        finally:
            cursor.close()

    def card(self, question: str) -> Card:
        """What a question counts, out of what, and what not to read into it."""
        return find_card(question)

    def questions(self) -> pl.DataFrame:
        """All questions, with what they ask."""
        cards = all_cards().values()
        return pl.DataFrame(
            {"name": [c.name for c in cards], "question": [c.question for c in cards], "unit": [c.unit for c in cards]}
        )


def open_warehouse(path: str | Path) -> OpenWarehouse:
    """Open a warehouse for reading; its snapshot when a server holds the file. Raises DatabaseError.

    >>> with open_warehouse("telemetry.duckdb") as warehouse:  # doctest: +SKIP
    ...     warehouse.active_profiles(first_day="2026-03-01")
    """
    wanted = Path(path)
    con, opened = open_file(wanted)
    try:
        con.execute("SELECT fresh_at FROM as_of").fetchall()
        if behind := rollups.count_behind(con):
            raise DatabaseError(
                f"{opened} has {behind} batches that its receiver had not added up when it was cut off: "
                "start the receiver on it once"
            )
    except duckdb.CatalogException:
        con.close()
        raise DatabaseError(
            f"{opened} has no rollups: start a receiver of this version on it once, or take a new snapshot"
        ) from None
    except BaseException:
        con.close()
        raise
    return OpenWarehouse(con, opened, is_snapshot=opened != wanted)


def open_file(wanted: Path) -> tuple[duckdb.DuckDBPyConnection, Path]:
    """A reading connection to a warehouse of today's version, or to its snapshot when a server holds the file; says
    which file is open. Raises DatabaseError.
    """
    if not wanted.exists():
        raise DatabaseError(f"{wanted} is not there: name the file that `python -m receiver --warehouse FILE` writes")
    snapshot = snapshot_of(wanted)
    try:
        con, opened = connect(wanted, read_only=True), wanted
    except InUseError:
        if not snapshot.exists():
            raise DatabaseError(
                f"{wanted} is in use by a server and has no snapshot beside it: "
                f"`python -m receiver snapshot --warehouse {wanted}` publishes one"
            ) from None
        con, opened = connect(snapshot, read_only=True), snapshot
    try:
        check_version(con, opened)
    except BaseException:
        con.close()
        raise
    return con, opened


def save(frame: pl.DataFrame, path: str | Path, kind: Format | None = None) -> Path:
    """Write a frame as Parquet, CSV, Arrow (IPC file) or JSON; by the ending when no kind is given."""
    target = Path(path)
    kind = kind or read_kind(target)
    if kind == "parquet":
        frame.write_parquet(target)
    elif kind == "csv":
        target.write_text(write_csv(frame))
    elif kind == "arrow":
        frame.write_ipc(target)
    else:
        frame.write_json(target)
    return target


def read_kind(path: Path) -> Format:
    """The kind of file that an ending stands for. Raises QuestionError."""
    kinds: dict[str, Format] = {
        ".parquet": "parquet",
        ".csv": "csv",
        ".arrow": "arrow",
        ".feather": "arrow",
        ".json": "json",
    }
    kind = kinds.get(path.suffix.lower())
    if kind is None:
        raise QuestionError(f"{path.name} ends with none of {', '.join(kinds)}: name the file so that its kind shows")
    return kind
