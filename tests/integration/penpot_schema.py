"""A database as a live Penpot has it, and what Penpot itself does in it: rows in, rows out.

Nothing here comes from this project's own code. The facts are from Penpot's sources: its migrations (see
`penpot_schema.sql`), `app.loggers.audit` and `app.rpc.commands.audit` (how rows are written), `app.tasks.telemetry` and
`app.loggers.audit.gc-task` (how rows are deleted), `app.setup` (the instance id) and `app.common.UUIDv8` (ids).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import randbits
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg import Connection, sql

SCHEMA = Path(__file__).with_name("penpot_schema.sql")
TEMPLATE = "penpot_template"
OWNER = "penpot"
TELEMETRY = "telemetry"
PASSWORD = "only in tests"  # noqa: S105
INSTANCE_ID = UUID("7f3c2a10-9d5e-4b61-8c7a-2e4f6a8b0c1d")

EPOCH = datetime(2022, 1, 1, tzinfo=UTC)
"""Penpot's ids count their milliseconds from here."""


@dataclass(frozen=True, slots=True)
class PenpotDatabase:
    """Connection parameters of one database, by who connects: the superuser, Penpot's role, the sender's role."""

    superuser: Mapping[str, str]
    owner: Mapping[str, str]
    telemetry: Mapping[str, str]


@contextmanager
def penpot_database(server: Mapping[str, str]) -> Iterator[PenpotDatabase]:
    """A database of its own with Penpot's schema, on a server that is given by a superuser's parameters.

    Penpot's role owns everything in it. The sender's role may connect and, until something is granted, no more: it has
    no CREATE on the database, none on the schema `public`, and no right on a table.
    """
    name = f"penpot_{uuid4().hex[:12]}"
    with _connect(server) as conn:
        _ensure_template(conn, server)
        conn.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}").format(*map(sql.Identifier, (name, TEMPLATE, OWNER)))
        )
        here = {**server, "dbname": name}
        try:
            yield PenpotDatabase(
                here,
                {**here, "user": OWNER, "password": PASSWORD},
                {**here, "user": TELEMETRY, "password": PASSWORD},
            )
        finally:
            conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _connect(parameters: Mapping[str, str]) -> "Connection[tuple[Any, ...]]":
    return psycopg.connect(**parameters, autocommit=True)  # type: ignore[arg-type]


def _ensure_template(conn: Connection, server: Mapping[str, str]) -> None:
    """The roles, and a database with the schema to copy from: once a server, in 0.2 s."""
    for role in (OWNER, TELEMETRY):
        if conn.execute("SELECT FROM pg_roles WHERE rolname = %s", (role,)).fetchone() is None:
            conn.execute(
                sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD {}").format(
                    sql.Identifier(role), sql.Literal(PASSWORD)
                )
            )
    if conn.execute("SELECT FROM pg_database WHERE datname = %s", (TEMPLATE,)).fetchone() is None:
        conn.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(*map(sql.Identifier, (TEMPLATE, OWNER))))
        with _connect({**server, "dbname": TEMPLATE, "user": OWNER, "password": PASSWORD}) as owner:
            owner.execute(SCHEMA.read_text(encoding="utf-8").encode())
            write_instance_id(owner, INSTANCE_ID)


def write_instance_id(conn: Connection, instance_id: UUID) -> None:
    """As `app.setup` does at the first start: a random uuid, which verbose transit wraps as a lone value."""
    conn.execute(
        "INSERT INTO server_prop (id, preload, content) VALUES ('instance-id', true, %s)",
        (json.dumps({"~#'": f"~u{instance_id}"}),),
    )


# -- ids -------------------------------------------------------------------------------------------------------------


class PenpotIds:
    """Ids as `app.common.UUIDv8` makes them: version 8, 56 random bits for each process, 48 bits of milliseconds
    since 2022, and a counter of 14 bits that goes on within a millisecond."""

    def __init__(self) -> None:
        self._process = randbits(64) & 0xFFFF_FFFF_FFFF_01FF  # a tag of 1: the JVM
        self._counter = randbits(14)

    def make(self, at: datetime) -> UUID:
        """The next id, of that instant."""
        self._counter = (self._counter + 1) & 0x3FFF
        milliseconds = (at - EPOCH) // timedelta(milliseconds=1)
        high = 0x8000 | self._process & 0xFFFF_FFFF_FFFF_0FFF
        low = 0x8000_0000_0000_0000 | milliseconds << 14 & 0x3FFF_FFFF_FFFF_C000 | self._counter
        return UUID(int=high << 64 | low)


# -- what Penpot writes ----------------------------------------------------------------------------------------------

_INSERT = """
INSERT INTO audit_log (id, name, source, type, tracked_at, created_at, profile_id, ip_addr, props, context)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""

BACKEND_CONTEXT = {
    "~:initiator": "app",
    "~:version": "2.17.0",
    "~:client-version": "2.17.0",
    "~:client-user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:141.0) Gecko/20100101 Firefox/141.0",
}

FRONTEND_CONTEXT = {
    "~:version": "2.17.0",
    "~:locale": "en",
    "~:browser": "Chrome",
    "~:browser-version": "138.0.0.0",
    "~:engine": "Blink",
    "~:engine-version": "138.0.0.0",
    "~:os": "Windows 10",
    "~:os-version": "10",
    "~:device-type": "unknown",
    "~:device-arch": "amd64",
    "~:screen-width": 1920,
    "~:screen-height": 1080,
    "~:screen-color-depth": 24,
    "~:screen-orientation": "landscape-primary",
    "~:event-origin": "dashboard",
}


def insert_penpot_rows(  # noqa: PLR0913  what a test may want to say of a row
    conn: Connection,
    count: int,
    source: str = "telemetry:frontend",
    *,
    at: datetime | None = None,
    name: str | None = None,
    profile_id: UUID | None = None,
    ids: PenpotIds | None = None,
) -> Sequence[UUID]:
    """Stores `count` rows as a Penpot of that time does, and returns their ids in the order of insertion.

    The four sources that there are: `telemetry:frontend` and `telemetry:backend` (times cut to the day, no address,
    safe context), `frontend` and `backend` (the rows of `enable-audit-log`, which are nobody's telemetry: exact times,
    an address, free text). A telemetry id still tells its millisecond. Rows that are not given an instant are of now.
    """
    ids = ids or PenpotIds()
    moment = at or datetime.now(UTC)
    made = [ids.make(moment) for _ in range(count)]
    with conn.cursor() as cursor:
        cursor.executemany(
            _INSERT, [_row(row_id, source, moment, name, profile_id or ids.make(moment), ids) for row_id in made]
        )
    return made


def _row(  # noqa: PLR0913, PLR0917
    row_id: UUID, source: str, at: datetime, name: str | None, profile_id: UUID, ids: PenpotIds
) -> tuple[object, ...]:
    kind = source.removeprefix("telemetry:")
    day = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    moment, address = (day, "0.0.0.0") if source.startswith("telemetry:") else (at, "203.0.113.7")  # noqa: S104
    props: dict[str, object] = {"~:file-id": f"~u{ids.make(at)}", "~:team-id": f"~u{ids.make(at)}"}
    context: dict[str, object] = dict(BACKEND_CONTEXT if kind == "backend" else FRONTEND_CONTEXT)
    if kind == "frontend":
        name, type_ = name or "navigate", "action"
        props |= {"~:route": "dashboard-files"}
    else:
        name, type_ = name or "update-file", "command"
        props |= {"~:revn": 7}
    if not source.startswith("telemetry:"):
        context |= {"~:external-session-id": "planted session", "~:session": f"~m{int(at.timestamp() * 1000)}"}
        props |= {"~:name": "Planted Design of Ada Lovelace"}
    return row_id, name, source, type_, moment, moment, profile_id, address, json.dumps(props), json.dumps(context)


# -- what Penpot deletes ---------------------------------------------------------------------------------------------


def purge_older_than(conn: Connection, days: int = 7) -> int:
    """The step before each report of `app.tasks.telemetry` (there: 7 days). Returns how many rows it deleted."""
    return conn.execute(
        "DELETE FROM audit_log WHERE source LIKE 'telemetry:%%' AND created_at < now() - make_interval(days => %s)",
        (days,),
    ).rowcount


def ship_as_penpot(conn: Connection, limit: int = 10_000) -> Sequence[UUID]:
    """One page of Penpot's own sender, answered with success: the oldest rows are read, then deleted by id.

    It reads `telemetry:…` only, takes no lock and has no account. Returns the ids of its page.
    """
    page = [
        row[0]
        for row in conn.execute(
            "SELECT id FROM audit_log WHERE source LIKE 'telemetry:%%' ORDER BY created_at LIMIT %s", (limit,)
        )
    ]
    conn.execute("DELETE FROM audit_log WHERE id = ANY(%s)", (page,))
    return page


def delete_archived(conn: Connection) -> int:
    """Penpot's `audit-log-gc`: what its archive took, of any age. Telemetry rows are archived too where that is on."""
    return conn.execute("DELETE FROM audit_log WHERE archived_at IS NOT NULL").rowcount


# -- what Penpot's people make ---------------------------------------------------------------------------------------


def insert_profile(conn: Connection, email: str, fullname: str = "", auth_backend: str | None = "penpot") -> UUID:
    """One profile with its default team and project, as a registration makes them. Returns the profile's id."""
    profile_id, team_id, project_id = uuid4(), uuid4(), uuid4()
    conn.execute("INSERT INTO team (id, name, is_default) VALUES (%s, 'Default', true)", (team_id,))
    conn.execute(
        "INSERT INTO project (id, team_id, name, is_default) VALUES (%s, %s, 'Drafts', true)", (project_id, team_id)
    )
    conn.execute(
        """
        INSERT INTO profile (id, fullname, email, password, is_active, auth_backend, default_team_id,
                             default_project_id, props)
        VALUES (%s, %s, %s, '!', true, %s, %s, %s, '{"~:newsletter-updates": true}')
        """,
        (profile_id, fullname, email, auth_backend, team_id, project_id),
    )
    conn.execute(
        "INSERT INTO team_profile_rel (team_id, profile_id, is_owner, can_edit) VALUES (%s, %s, true, true)",
        (team_id, profile_id),
    )
    return profile_id
