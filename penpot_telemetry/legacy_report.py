"""Penpot's tables in; out comes the legacy report: counts, averages and maxima, as Penpot's own task sends them.

Off unless `PENPOT_TELEMETRY_LEGACY_REPORT=true`. It reads by SELECT alone and never the text of a person: of `profile`
it needs the column `auth_backend` and no other, so that a role without a right on names and addresses is enough.

Penpot's task (`app.tasks.telemetry`) also sends `public-uri`, `referer`, the e-mail domains and the addresses of those
who subscribed: they are left out. So are the figures of its JVM and its system (`jvm-…`, `os-…`, `user-tz`): this
process is no JVM, and its own figures would be taken for Penpot's.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from uuid import UUID

from psycopg import Connection, errors
from psycopg.sql import SQL, Composed, Identifier

from penpot_telemetry import account, send
from penpot_telemetry.compose import UNKNOWN_VERSION
from penpot_telemetry.config import Settings, require_endpoint
from penpot_telemetry.connection import database_errors
from penpot_telemetry.events import NAME, SHIPPED_SOURCES
from penpot_telemetry.http_client import Session
from penpot_telemetry.lease import Lease
from penpot_telemetry.pass_report import PassReport
from penpot_telemetry.receipt import OutgoingBody
from penpot_telemetry.wire import payload

Stat = int | Mapping[str, int]
Query = SQL | Composed

AUTH_BACKEND = re.compile(r"[a-z0-9-]{1,40}")
"""What the name of a login method looks like. Whatever else is in that column is counted as `other`."""

MOST_NAMES = 1000
"""Event names of one report. A Penpot has some 300, but any user can post events by names of their own."""


@dataclass(frozen=True, slots=True)
class Stats:
    """What was counted, by the report's own keys, and what could not be: one line for each question."""

    values: Mapping[str, Stat]
    missing: tuple[str, ...] = ()


@contextmanager
def snapshot(conn: Connection) -> Iterator[None]:
    """A transaction in which every count is of one moment and nothing can be written. A standby allows it, too."""
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


def read_stats(conn: Connection) -> Stats:
    """The figures, inside the caller's transaction (see `snapshot`).

    A table, a column or a right that is not there leaves out its own figures and is named in `missing`. A figure that
    does not exist, such as the average of no team, is left out without a word, as Penpot does it.
    """
    values: dict[str, Stat] = {}
    missing: list[str] = []
    for question in QUESTIONS:
        try:
            with conn.transaction():
                values.update(question.read(conn, question.query))
        except (errors.UndefinedTable, errors.UndefinedColumn):
            missing.append(f"{question.tables}: not in this database, so the report goes without {question.figures}")
        except errors.InsufficientPrivilege:
            missing.append(f"{question.tables}: no right to read, so the report goes without {question.figures}")
    return Stats(MappingProxyType(values), tuple(missing))


def build_report(stats: Stats, version: str, instance_id: UUID) -> bytes:
    """The POST body as UTF-8 JSON: a `telemetry-legacy-report` without subscriptions."""
    return payload.build_legacy_report(payload.LegacyReport(version, instance_id, dict(stats.values), ()))


def send_report(held: Lease, session: Session, settings: Settings, report: PassReport, version: str | None) -> None:
    """Sends the counts of Penpot's tables once a day. One that fails is a warning, and tried again by the next pass."""
    conn, today = held.conn, datetime.now(UTC).date()
    state = account.read_state(conn)
    if state.report_sent_on == today or state.instance_id is None:
        return
    body, missing = build_current_report(conn, settings, state.instance_id, version)
    report.warnings += missing
    answer = send.post_batch(session, require_endpoint(settings), OutgoingBody(body), settings, before=held.renew)
    if answer.outcome == "accepted":
        held.step(lambda: account.keep_report_sent(conn, today))
    else:
        report.warnings.append(f"the legacy report was not sent: {answer.reason}")


def build_current_report(
    conn: Connection, settings: Settings, instance_id: UUID, version: str | None = None
) -> tuple[bytes, Sequence[str]]:
    """The body of the report as it would be sent now, and what could not be counted."""
    with database_errors(), snapshot(conn):
        stats = read_stats(conn)
    named = version or settings.version or UNKNOWN_VERSION
    return build_report(stats, named, instance_id), stats.missing


# -- the questions ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Question:
    """One statement: which tables it reads, the figures that it answers (for a message), and how it is read."""

    tables: str
    figures: str
    query: Query
    read: Callable[[Connection, Query], Mapping[str, Stat]]


def _read_row(conn: Connection, query: Query) -> Mapping[str, Stat]:
    """One row: a figure for each column, by the name of the column. NULL is no figure."""
    cursor = conn.execute(query)
    columns = cursor.description or ()
    row = cursor.fetchone() or ()
    return {column.name: int(value) for column, value in zip(columns, row, strict=True) if value is not None}


def _read_auth_backends(conn: Connection, query: Query) -> Mapping[str, Stat]:
    """`auth-backend-oidc` and so on: how many profiles log in by which method."""
    found: dict[str, int] = {}
    for backend, profiles in conn.execute(query):
        key = f"auth-backend-{backend if AUTH_BACKEND.fullmatch(backend) else 'other'}"
        found[key] = found.get(key, 0) + int(profiles)
    return found


def _read_events(conn: Connection, query: Query) -> Mapping[str, Stat]:
    """How many events wait that were created today, in all and by name. The total counts those of every name."""
    rows: Sequence[tuple[str, int, int]] = conn.execute(query, (list(SHIPPED_SOURCES), MOST_NAMES)).fetchall()
    total = rows[0][2] if rows else 0
    counters = {name: count for name, count, _ in rows if NAME.fullmatch(name)}
    return {"total-accomulated-events": total, "event-counters": counters}  # Penpot's own spelling


def _count(table: str, figure: str) -> Question:
    query = SQL("SELECT count(*) AS {} FROM {}").format(Identifier(figure), Identifier(table))
    return Question(table, figure, query, _read_row)


_AVERAGE = SQL(
    """
    SELECT avg(n)::integer AS {average}, max(n)::integer AS {most} FROM (
        SELECT count(part.{counted}) AS n FROM {whole} whole LEFT JOIN {part} part ON part.{key} = whole.id
        GROUP BY whole.id
    ) counts
    """
)


def _average(whole: str, part: str, key: str, figure: str, counted: str = "id") -> Question:
    query = _AVERAGE.format(
        average=Identifier(f"avg-{figure}"),
        most=Identifier(f"max-{figure}"),
        counted=Identifier(counted),
        whole=Identifier(whole),
        part=Identifier(part),
        key=Identifier(key),
    )
    return Question(f"{whole}, {part}", f"avg-{figure} and max-{figure}", query, _read_row)


_FILE_CHANGES = SQL(
    """
    SELECT count(*) AS "total-file-changes", count(DISTINCT file_id) AS "total-touched-files" FROM file_change
    WHERE created_at > date_trunc('day', now(), 'UTC') AND created_at < date_trunc('day', now(), 'UTC') + '1 day'
    """
)

_AUTH_BACKENDS = SQL("SELECT coalesce(auth_backend, 'penpot'), count(*) FROM profile GROUP BY 1 ORDER BY 1")

_EVENTS = SQL(
    """
    SELECT name, count(*) AS events, (sum(count(*)) OVER ())::bigint FROM audit_log WHERE source = ANY(%s)
    AND created_at >= date_trunc('day', now(), 'UTC') AND created_at < date_trunc('day', now(), 'UTC') + '1 day'
    GROUP BY name ORDER BY events DESC, name LIMIT %s
    """
)

QUESTIONS = (
    _count("team", "total-teams"),
    _count("project", "total-projects"),
    _count("file", "total-files"),
    _count("profile", "total-users"),
    _count("team_font_variant", "total-fonts"),
    _count("comment", "total-comments"),
    Question("file_change", "total-file-changes and total-touched-files", _FILE_CHANGES, _read_row),
    _average("team", "project", "team_id", "projects-on-team"),
    _average("project", "file", "project_id", "files-on-project"),
    _average("file", "comment_thread", "file_id", "comment-threads-on-file"),
    _average("team", "team_profile_rel", "team_id", "users-on-team", counted="profile_id"),
    Question("profile", "auth-backend-…", _AUTH_BACKENDS, _read_auth_backends),
    Question("audit_log", "total-accomulated-events and event-counters", _EVENTS, _read_events),
)
"""What Penpot's `get-legacy-stats` asks, with its bounds and its rounding: averages are whole numbers."""

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "team": ("id",),
    "project": ("id", "team_id"),
    "file": ("id", "project_id"),
    "file_change": ("file_id", "created_at"),
    "comment_thread": ("id", "file_id"),
    "comment": ("id",),
    "team_profile_rel": ("team_id", "profile_id"),
    "team_font_variant": ("id",),
    "profile": ("auth_backend",),
    "audit_log": ("name", "source", "created_at"),
}
"""Every column that the report reads: what a role must be granted for it, and no more (see `grants`)."""


def grants(role: str) -> Sequence[str]:
    """The statements that give a role what the report needs. `role` is the name as SQL writes it, quoted if need be."""
    return [f"GRANT SELECT ({', '.join(columns)}) ON {table} TO {role};" for table, columns in COLUMNS.items()]
