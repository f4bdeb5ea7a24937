"""Penpot's table `audit_log`: what it must look like; rows read, counted and deleted by id.

Functions take a connection; the caller owns the transaction. Only rows whose source is one of those that ship are
ever read or deleted, and an existing table is never altered.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from importlib.resources import files

import psycopg
from psycopg import Connection, errors

from penpot_telemetry.errors import DatabaseError
from penpot_telemetry.events import SHIPPED_SOURCES
from penpot_telemetry.rows import CONTENT_HASH, UNCHANGED, Rows
from penpot_telemetry.wire.batch import EventRow

BATCH_BYTES = 8 * 1024 * 1024
"""The most text that is read for one batch: that of ordinary rows has 3 MiB, and a body may have 16 MiB as base64."""

OLDEST_SERVER = 140_000
"""The oldest release of Postgres that its community keeps up."""

COLUMNS = frozenset(
    {"id", "name", "type", "created_at", "profile_id", "ip_addr", "props", "tracked_at", "source", "context"}
)

# -- the table ---------------------------------------------------------------------------------------------------------


def create_table(conn: Connection) -> None:
    """Penpot's table where there is none: for a database of our own."""
    text = (files("penpot_telemetry") / "sql" / "audit_log.sql").read_text(encoding="utf-8")
    conn.execute(text)


_SELECT_COLUMNS = """
SELECT attname FROM pg_attribute WHERE attrelid = to_regclass('audit_log') AND attnum > 0 AND NOT attisdropped
"""

_SELECT_UNIQUE_ID = """
SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
WHERE i.indrelid = to_regclass('audit_log') AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
  AND i.indnkeyatts = 1 AND a.attname = 'id'
"""


def check_table(conn: Connection) -> None:
    """Raises DatabaseError unless `audit_log` is there and has the columns that are read and written."""
    if conn.info.server_version < OLDEST_SERVER:
        raise DatabaseError("database: the server is older than PostgreSQL 14: upgrade it")
    found = {name for (name,) in conn.execute(_SELECT_COLUMNS)}
    if not found:
        raise DatabaseError(
            "database: there is no audit_log table: PENPOT_DATABASE_URI should name Penpot's database "
            "(PENPOT_TELEMETRY_CREATE_TABLE=true makes the table in a database of your own)"
        )
    if lacking := sorted(COLUMNS - found):
        raise DatabaseError(f"database: audit_log has no column {', '.join(lacking)}: it should be Penpot's table")
    if conn.execute(_SELECT_UNIQUE_ID).fetchone() is None:
        raise DatabaseError("database: audit_log has no unique index on id, by which rows are known: add one")


_SELECT_INDEX = """
SELECT EXISTS (
    SELECT FROM pg_index i
    WHERE i.indrelid = to_regclass('audit_log') AND i.indpred IS NULL AND i.indisvalid
      AND pg_get_indexdef(i.indexrelid) ~ '\\(source, created_at'
)
"""


def has_index(conn: Connection) -> bool:
    """Whether `audit_log` has Penpot's index by source and day: without it each pass reads the whole table."""
    found = conn.execute(_SELECT_INDEX).fetchone()
    return found is not None and bool(found[0])


# -- reading ---------------------------------------------------------------------------------------------------------

_FETCH_ROWS = f"""
WITH measured AS (
    SELECT *, sum(size) OVER (ROWS UNBOUNDED PRECEDING) AS bytes FROM (
        SELECT *, octet_length(name) + octet_length(props) + octet_length(context) AS size
        FROM unnest(%(ids)s::uuid[], %(hashes)s::bigint[]) WITH ORDINALITY i(id, known, n) CROSS JOIN LATERAL (
            SELECT a.name, a.type, a.source, a.profile_id, {CONTENT_HASH} AS hash,
                   coalesce(a.tracked_at, a.created_at) AT TIME ZONE 'UTC' AS tracked_at,
                   coalesce(nullif(a.props, 'null')::text, '{{}}') AS props,
                   coalesce(nullif(a.context, 'null')::text, '{{}}') AS context
            FROM audit_log a WHERE a.id = i.id AND a.source = ANY(%(sources)s) OFFSET 0
        ) texts WHERE known IS NULL OR known = hash
    ) sized
)
SELECT name, type, source,
       CASE WHEN tracked_at >= '0001-01-01' AND tracked_at < '10000-01-01'
            THEN (tracked_at::date - date '1970-01-01') * 86400000::bigint END,
       uuid_send(profile_id), CASE WHEN bytes <= %(bytes)s THEN props END, context, uuid_send(id) || int8send(hash), n
FROM measured WHERE bytes <= %(bytes)s OR bytes = size
"""  # noqa: S608  our own constant
"""Each id is looked up by itself, so the cost does not grow with the table, and nothing is sorted. OFFSET 0 keeps the
planner from changing that, and each jsonb is made text once. JSON null is read as no value, as Penpot does. The first
row comes also when it is too large alone, then without its props; a row whose day is beyond the calendar without it.
"""


AT_ONCE = 500 if psycopg.pq.version() >= 170_000 else 1  # noqa: PLR2004  libpq 17 began to hand out several at once
"""Rows of a batch that are read while Postgres prepares the next ones: it saves a fifth of the time."""


@dataclass(frozen=True, slots=True)
class FetchedRows:
    """Rows in the order in which they were asked for, and for each its reference, of REF_BYTES.

    `odd` are the references of rows that no batch can hold, with the reason. `read` is how many of the rows that were
    asked for are dealt with: the batch may be full before the last.
    """

    rows: list[EventRow]
    refs: list[bytes]
    odd: list[tuple[bytes, str]]
    read: int


def fetch_rows(conn: Connection, asked: Rows, max_bytes: int = BATCH_BYTES) -> FetchedRows:
    """Those of the named rows that are still there as they were and ship, up to `max_bytes` of text."""
    parameters = {"ids": asked.ids, "hashes": asked.hashes, "bytes": max_bytes, "sources": list(SHIPPED_SOURCES)}
    try:
        with conn.transaction(), conn.cursor(binary=True) as cursor:
            found = list(cursor.stream(_FETCH_ROWS, parameters, size=AT_ONCE))
    except errors.CharacterNotInRepertoire:
        return _fetch_readable(conn, asked)
    fetched = FetchedRows([], [], [], found[-1][8] if found else len(asked))
    for row in found:
        if row[3] is None:
            fetched.odd.append((row[7], "tracked_at or created_at is beyond the calendar"))
        elif row[5] is None:
            fetched.odd.append((row[7], f"larger than a batch may be ({max_bytes:,} bytes)"))
        else:
            fetched.rows.append(EventRow._make(row[:7]))
            fetched.refs.append(row[7])
    return fetched


_REFER = f"""
SELECT uuid_send(a.id) || int8send({CONTENT_HASH}), 'its text is not UTF-8' FROM audit_log a
WHERE a.id = ANY(%s::uuid[]) AND a.source = ANY(%s)
"""  # noqa: S608  our own constant


def _fetch_readable(conn: Connection, asked: Rows) -> FetchedRows:
    """The first half of the rows, where one cannot be read: a database in SQL_ASCII takes any bytes for text."""
    if len(asked) > 1:
        return fetch_rows(conn, asked.split(len(asked) // 2)[0])
    with conn.cursor(binary=True) as cursor:
        return FetchedRows([], [], cursor.execute(_REFER, (asked.ids, list(SHIPPED_SOURCES))).fetchall(), 1)


def count_rows(conn: Connection) -> int:
    """How many telemetry rows there are."""
    found = conn.execute("SELECT count(*) FROM audit_log WHERE source = ANY(%s)", (list(SHIPPED_SOURCES),)).fetchone()
    return int(found[0]) if found else 0


def count_before(conn: Connection, before: datetime) -> int:
    """How many telemetry rows were created before an instant."""
    query = "SELECT count(*) FROM audit_log WHERE source = ANY(%s) AND created_at < %s"
    found = conn.execute(query, (list(SHIPPED_SOURCES), before)).fetchone()
    return int(found[0]) if found else 0


@dataclass(frozen=True, slots=True)
class DayCount:
    """The rows of one day and source; no day where it is beyond the calendar."""

    day: date | None
    source: str
    rows: int


_COUNT_DAYS = """
SELECT CASE WHEN created_at >= '0001-01-01' AND created_at < '10000-01-01'
            THEN (created_at AT TIME ZONE 'UTC')::date END AS day, source, count(*)
FROM audit_log WHERE source = ANY(%s) GROUP BY day, source ORDER BY day NULLS FIRST, source
"""


def count_days(conn: Connection) -> Sequence[DayCount]:
    """The telemetry rows by day and source, oldest first."""
    return [DayCount(*row) for row in conn.execute(_COUNT_DAYS, (list(SHIPPED_SOURCES),))]


# -- removing --------------------------------------------------------------------------------------------------------


def remove_rows(conn: Connection, rows: Rows) -> int:
    """Removes rows that nobody changed, and says how many. Raises DatabaseError when one of them stays.

    A policy or a trigger may keep a row silently, and a row that stays would be sent again.
    """
    parameters = {"ids": rows.ids, "hashes": rows.hashes, "sources": list(SHIPPED_SOURCES)}
    deleted = conn.execute(f"DELETE {UNCHANGED}", parameters).rowcount
    if deleted < len(rows) and conn.execute(f"SELECT {UNCHANGED} LIMIT 1", parameters).fetchone() is not None:
        raise DatabaseError(
            "database: rows of audit_log stay when they are deleted: look for a policy or a trigger on the table"
        )
    return deleted


_DROP_OLDEST = """
WITH oldest AS MATERIALIZED (
    SELECT a.id FROM audit_log a
    WHERE a.source = ANY(%(sources)s) AND (%(before)s::timestamptz IS NULL OR a.created_at < %(before)s)
      AND NOT EXISTS (SELECT FROM penpot_telemetry.outbox o, unnest(o.row_ids) f(id) WHERE f.id = a.id)
    ORDER BY a.created_at LIMIT %(limit)s
), dropped AS (DELETE FROM audit_log a USING oldest WHERE a.id = oldest.id RETURNING a.id)
SELECT coalesce(array_agg(id), '{}')::text, count(*) FROM dropped
"""


def drop_oldest(conn: Connection, limit: int, before: datetime | None = None) -> tuple[str, int]:
    """Drops the oldest telemetry rows (created before an instant), but none of the outbox batch.

    Returns their ids and how many they were, at most `limit`.
    """
    parameters = {"sources": list(SHIPPED_SOURCES), "before": before, "limit": limit}
    found = conn.execute(_DROP_OLDEST, parameters).fetchone()
    assert found is not None  # noqa: S101  an aggregate has a row
    return found[0], int(found[1])
