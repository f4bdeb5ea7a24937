"""The dashboard's routes: a request is read, its questions are asked, a page or a file goes out.

What a reader may narrow is bounded by what the operator hides: the threshold can be raised and not lowered, a version
must be one of those that enough instances run, unvouched instances can be taken in only when they are enough, and one
instance can be asked for only where nothing is hidden at all.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import date
from typing import Any
from urllib.parse import urlencode

import duckdb
import msgspec
import polars as pl
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from penpot_telemetry.errors import DatabaseError
from receiver.dashboard import render
from receiver.dashboard.cache import Answers, CrowdedError, Mark
from receiver.dashboard.chart_process import ChartWorker, ChartWorkerError
from receiver.questions.cards import Card, QuestionError, all_cards, find_card
from receiver.questions.run import Asked, bind, read_asked
from receiver.questions.sanitize import write_csv

GROUPS = (
    ("Activity", ("active_instances", "active_profiles")),
    ("Versions and features", ("version_adoption", "feature_usage")),
    ("Platforms and sizes", ("platforms", "instance_sizes")),
    ("Quality of the data", ("lateness", "sequence_gaps", "duplicates", "quarantined", "sender_loss")),
)
WIDE, NARROW = 620, 340
LONGEST_VERSION = 250
BUSY_SECONDS = 5

PARAMETERS = ("first_day", "last_day", "version", "instance", "threshold", "vouch_days")

HELD = "SELECT min(day), max(day) FROM instance_days, as_of WHERE day BETWEEN epoch AND today"

COUNT_ON_VERSION = """
SELECT count(DISTINCT instance_id) FROM instance_days WHERE in_range(day) AND version = getvariable('version')
"""

COUNT_UNVOUCHED = "SELECT coalesce(len(unvouched_on(?)), 0)"


class ReaderError(Exception):
    """What was asked for cannot be given: the status, and a sentence for people."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Dashboard:
    """What the routes share while the server runs. Fewer than `threshold` are never shown.

    Instances that were heard on fewer days than `vouch_days` are left out unless a reader asks for all.
    """

    answers: Answers
    worker: ChartWorker
    threshold: int
    vouch_days: int

    async def close(self) -> None:
        """Stop the chart worker and the threads."""
        await self.worker.close()
        await asyncio.to_thread(self.answers.close)


def open_dashboard(
    reader: Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]], threshold: int, vouch_days: int
) -> Dashboard:
    """A dashboard over a warehouse; `reader` gives a connection of its own to each thread."""
    return Dashboard(Answers(reader), ChartWorker(), threshold, vouch_days)


@dataclass(frozen=True, slots=True)
class Reading:
    """One request, understood: the dashboard, the warehouse as it is now, and what is asked for."""

    board: Dashboard
    mark: Mark
    asked: Asked

    async def frame(self, card: Card) -> pl.DataFrame:
        """The answer to a question."""
        return await self.board.answers.frame(self.mark, card, self.asked)

    async def versions(self) -> pl.DataFrame:
        """The versions of these days, whichever is asked for."""
        asked = replace(self.asked, version=None)
        return await self.board.answers.frame(self.mark, find_card("versions_seen"), asked)

    async def picture(self, card: Card, width: int | None, *, is_dark: bool) -> bytes:
        """The chart of an answer, as SVG."""

        async def draw() -> bytes:
            return await self.board.worker.draw(card.name, await self.frame(card), width=width, is_dark=is_dark)

        key = ("picture", card.name, self.asked, width, is_dark)
        return await self.board.answers.get(self.mark, key, draw)


# --- pages ----------------------------------------------------------------------------------------------------------


async def front(request: Request) -> Response:
    """The dashboard."""

    async def show() -> Response:
        reading = await read(request)
        if reading.mark.days == 0:
            return page("empty.html", address=str(request.base_url))
        cards = [find_card(name) for _, names in GROUPS for name in names]
        versions, overview, *frames = await asyncio.gather(
            reading.versions(), reading.frame(find_card("overview")), *map(reading.frame, cards)
        )
        blocks = {card.name: block(request, reading, card, frame) for card, frame in zip(cards, frames, strict=True)}
        return page(
            "dashboard.html",
            groups=[(title, [blocks[name] for name in names]) for title, names in GROUPS],
            headlines=[render.headline(find_card(name), frames[n]) for n, name in enumerate(GROUPS[0][1])],
            overview=overview.row(0, named=True) if overview.height else None,
            held=await held_days(reading),
            form=form(reading, versions),
        )

    return await answered(show, as_page=True)


async def index(request: Request) -> Response:
    """All questions."""
    return page("questions.html", cards=public_cards(), query=query_of(request))


async def question(request: Request) -> Response:
    """One question, with its chart, its table and its card."""

    async def show() -> Response:
        card = public_card(request)
        reading = await read(request)
        frame, versions = await asyncio.gather(reading.frame(card), reading.versions())
        shown = block(request, reading, card, frame)
        return page("question.html", block=shown, held=await held_days(reading), form=form(reading, versions))

    return await answered(show, as_page=True)


def page(template: str, code: int = 200, **values: Any) -> Response:
    """A page from its template."""
    return Response(render.render(template, **values), code, media_type="text/html")


def block(request: Request, reading: Reading, card: Card, frame: pl.DataFrame) -> render.Block:
    """A question as the pages show it."""
    return render.read_block(card, frame, query_of(request), threshold_of(reading))


def form(reading: Reading, versions: pl.DataFrame) -> render.Form:
    """The filters, with the versions that may be asked for: those with enough instances."""
    asked = reading.asked
    names = versions.filter(~pl.col("suppressed") & (pl.col("version") != "(rare)"))["version"].to_list()[::-1]
    if asked.version is not None and asked.version not in names:
        names.append(asked.version)
    return render.Form(asked, names, reading.board.vouch_days, may_name_instance=threshold_of(reading) == 1)


# --- files ----------------------------------------------------------------------------------------------------------


async def file(request: Request) -> Response:
    """A question as JSON, CSV, SVG or the text of its SQL."""
    kind = request.path_params["kind"]

    async def show() -> Response:
        if kind not in FILES:
            raise ReaderError(404, f"a question is there as {', '.join(FILES)}, not in this form")
        card = public_card(request)
        return await FILES[kind](request, await read(request), card)

    return await answered(show, as_page=False)


async def as_json(request: Request, reading: Reading, card: Card) -> Response:
    """Rows, and what they are."""
    frame = await reading.frame(card)
    content = {
        "question": card.name,
        "asks": card.question,
        "denominator": card.denominator,
        "threshold": threshold_of(reading),
        "vouch_days": reading.asked.vouch_days,
        "columns": dict(card.columns),
        "rows": frame.to_dicts(),
    }
    return Response(msgspec.json.encode(content), media_type="application/json")


async def as_sql(request: Request, reading: Reading, card: Card) -> Response:
    """The text of the question, to be pasted into a shell."""
    return Response(card.sql, media_type="text/plain")


async def as_csv(request: Request, reading: Reading, card: Card) -> Response:
    """Rows, safe to be opened in a spreadsheet."""
    frame = await reading.frame(card)
    headers = {"content-disposition": f'attachment; filename="{card.name}.csv"'}
    return Response(write_csv(frame), headers=headers, media_type="text/csv")


async def as_svg(request: Request, reading: Reading, card: Card) -> Response:
    """The chart: for a page with `width` wide or narrow, `theme` dark or light; without these, to be taken away."""
    widths = {None: None, "wide": WIDE, "narrow": NARROW}
    themes = {None: False, "light": False, "dark": True}
    width, theme = request.query_params.get("width"), request.query_params.get("theme")
    if width not in widths or theme not in themes:
        raise ReaderError(400, "width is wide or narrow, theme is light or dark")
    picture = await reading.picture(card, widths[width], is_dark=themes[theme])
    return Response(picture, media_type="image/svg+xml")


FILES: dict[str, Callable[[Request, Reading, Card], Awaitable[Response]]] = {
    "json": as_json,
    "csv": as_csv,
    "svg": as_svg,
    "sql": as_sql,
}


# --- what is asked for ----------------------------------------------------------------------------------------------


async def read(request: Request) -> Reading:
    """What a request asks for, within what it may. Raises ReaderError and QuestionError."""
    board: Dashboard = request.app.state.dashboard
    unknown = set(request.query_params) - {*PARAMETERS, "width", "theme"}
    if unknown:
        raise ReaderError(400, f"one can ask for {', '.join(PARAMETERS)} and for nothing else")
    given = {name: request.query_params.get(name) for name in PARAMETERS}
    asked = read_asked(**given)
    asked = replace(
        asked,
        threshold=max(asked.threshold or board.threshold, board.threshold),
        vouch_days=board.vouch_days if asked.vouch_days is None else asked.vouch_days,
    )
    if asked.instance is not None and asked.threshold != 1:
        raise ReaderError(
            400,
            "numbers of one instance are numbers of fewer than the threshold: they are shown only where "
            "RECEIVER_THRESHOLD is 1; `python -m receiver ask` can ask for an instance",
        )
    reading = Reading(board, await board.answers.mark(), asked)
    if asked.version is not None:
        await require_version(reading, asked.version)
    if asked.vouch_days != board.vouch_days and asked.threshold != 1:
        await require_unvouched(reading)
    return reading


async def require_version(reading: Reading, version: str) -> None:
    """Refuse a version that too few instances run: all of an answer would be about them."""

    def count(con: duckdb.DuckDBPyConnection) -> int:
        bind(con, reading.asked)
        (found,) = con.execute(COUNT_ON_VERSION).fetchall()
        return int(found[0])

    too_long = len(version) > LONGEST_VERSION
    if too_long or await reading.board.answers.rows(reading.mark, ("on", reading.asked), count) < threshold_of(reading):
        raise ReaderError(400, f"fewer than {threshold_of(reading)} instances sent under this version on these days")


async def require_unvouched(reading: Reading) -> None:
    """Refuse to take in the unvouched instances while they are too few: two answers would differ by these alone."""
    if reading.asked.vouch_days != 0:
        raise ReaderError(400, "vouch_days is 0, for all instances, or left out")

    def count(con: duckdb.DuckDBPyConnection) -> int:
        (found,) = con.execute(COUNT_UNVOUCHED, [reading.board.vouch_days]).fetchall()
        return int(found[0])

    if 0 < await reading.board.answers.rows(reading.mark, "unvouched", count) < threshold_of(reading):
        raise ReaderError(
            400, f"fewer than {threshold_of(reading)} instances are left out, so that there is no answer with them"
        )


async def held_days(reading: Reading) -> tuple[date, date] | None:
    """The first and the last day with an event; None when there is none."""

    def look(con: duckdb.DuckDBPyConnection) -> tuple[date, date] | None:
        (days,) = con.execute(HELD).fetchall()
        return None if days[0] is None else (days[0], days[1])

    return await reading.board.answers.rows(reading.mark, "held", look)


def threshold_of(reading: Reading) -> int:
    """The threshold in force."""
    return reading.asked.threshold or reading.board.threshold


def query_of(request: Request) -> str:
    """What narrows a page, for its links: `?…`, or nothing."""
    given = [(name, request.query_params[name]) for name in PARAMETERS if request.query_params.get(name)]
    return f"?{urlencode(given)}" if given else ""


def public_cards() -> list[Card]:
    """The questions that may be published."""
    return [card for card in all_cards().values() if card.audience == "public"]


def public_card(request: Request) -> Card:
    """The question of a path. Raises ReaderError."""
    name = request.path_params["name"].replace("-", "_")
    card = all_cards().get(name)
    if card is None or card.audience != "public":
        raise ReaderError(404, "there is no question of that name here")
    return card


async def answered(show: Callable[[], Awaitable[Response]], *, as_page: bool) -> Response:
    """What `show` gives, or an answer in words that says why not."""
    try:
        return await show()
    except ReaderError as error:
        return refusal(error.status, str(error), as_page=as_page)
    except QuestionError as error:
        return refusal(400, str(error), as_page=as_page)
    except CrowdedError:
        return refusal(503, "too many questions are being answered: ask again in a few seconds", as_page=as_page)
    except ChartWorkerError:
        return refusal(503, "this chart cannot be drawn now", as_page=as_page)
    except (duckdb.Error, DatabaseError):
        return refusal(503, "the warehouse cannot be read now", as_page=as_page)


def refusal(status: int, message: str, *, as_page: bool) -> Response:
    """An error, for a person or for a program."""
    headers = {"retry-after": str(BUSY_SECONDS)} if status == 503 else None  # noqa: PLR2004  unavailable
    if as_page:
        response = page("error.html", status, status=status, message=message)
        response.headers.update(headers or {})
        return response
    words = {400: "bad-parameter", 404: "not-found"}
    content = {"error": words.get(status, "unavailable"), "message": message}
    return Response(msgspec.json.encode(content), status, headers, media_type="application/json")


ROUTES: list[BaseRoute] = [
    Route("/", front),
    Route("/questions", index),
    Route("/questions/{name}.{kind}", file),
    Route("/questions/{name}", question),
    Mount("/static", StaticFiles(packages=[("receiver.dashboard", "static")])),
]
