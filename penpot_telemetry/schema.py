"""The schema `penpot_telemetry` in Penpot's database: created, and brought forward from release to release.

One numbered file of `sql/` is one step of the schema.
"""

from collections.abc import Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable

from psycopg import Connection, errors

from penpot_telemetry.errors import DatabaseError

_SELECT_VERSION = "SELECT schema_version FROM penpot_telemetry.state"

_SELECT_SCHEMA = "SELECT 1 FROM pg_namespace WHERE nspname = 'penpot_telemetry'"

_SELECT_STATE_TABLE = """
SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'penpot_telemetry' AND c.relname = 'state'
"""
"""Read from the catalogue's tables: after a lock was waited for, `to_regclass` may still say what was before."""

_SETUP_LOCK = 7_031_542_201


def ensure_schema(conn: Connection) -> None:
    """Creates or upgrades the schema; a second call, or a second process, finds it done."""
    steps = _steps()
    if _read_version(conn) == steps[-1][0]:
        return
    try:
        with conn.transaction():
            conn.execute("SELECT pg_advisory_xact_lock(%s)", (_SETUP_LOCK,))
            _upgrade(conn, steps)
    except errors.InsufficientPrivilege:
        raise DatabaseError(
            "database: the role may not create the schema penpot_telemetry or its tables: let the owner run what "
            "`penpot-telemetry grants ROLE` prints"
        ) from None


def has_schema(conn: Connection) -> bool:
    """Whether a sender was here before. Raises DatabaseError when it was one of another release."""
    version, latest = _read_version(conn), _steps()[-1][0]
    if version > latest:
        raise _newer(version, latest)
    if 0 < version < latest:
        raise DatabaseError(
            f"database: schema penpot_telemetry is version {version}, this release reads {latest}: "
            "`penpot-telemetry run` brings it forward"
        )
    return version == latest


def _steps() -> Sequence[tuple[int, Traversable]]:
    return sorted(
        (int(file.name[:3]), file)
        for file in (files("penpot_telemetry") / "sql").iterdir()
        if file.name[:3].isdigit() and file.name.endswith(".sql")
    )


def _upgrade(conn: Connection, steps: Sequence[tuple[int, Traversable]]) -> None:
    version, latest = _read_version(conn), steps[-1][0]
    if version > latest:
        raise _newer(version, latest)
    if not _exists(conn, _SELECT_SCHEMA):
        conn.execute("CREATE SCHEMA penpot_telemetry")
    for number, file in steps:
        if number > version:
            conn.execute(file.read_text(encoding="utf-8"))
            if number == 1:
                conn.execute("INSERT INTO penpot_telemetry.state (schema_version) VALUES (1)")
            conn.execute("UPDATE penpot_telemetry.state SET schema_version = %s", (number,))


def _newer(version: int, latest: int) -> DatabaseError:
    return DatabaseError(
        f"database: schema penpot_telemetry is version {version}, made by a newer release: "
        f"this one knows {latest}, upgrade it"
    )


def _read_version(conn: Connection) -> int:
    if not _exists(conn, _SELECT_STATE_TABLE):
        return 0
    found = conn.execute(_SELECT_VERSION).fetchone()
    return int(found[0]) if found else 0


def _exists(conn: Connection, query: str) -> bool:
    return conn.execute(query).fetchone() is not None
