"""The rights that a sender needs: as SQL for the owner of the database, and compared with those that a role has.

The role owns nothing of Penpot's. It owns the schema `penpot_telemetry`, where its own tables are.
"""

from collections.abc import Sequence

from psycopg import Connection

from penpot_telemetry import audit_log
from penpot_telemetry.errors import ConfigError, DatabaseError

SCHEMA = "penpot_telemetry"

INDEX = (
    "CREATE INDEX CONCURRENTLY IF NOT EXISTS audit_log__source__created_at__idx ON audit_log (source, created_at ASC)"
)
"""Optional, for the owner of `audit_log`: without it each pass reads the whole table."""

AUDIT_LOG_RIGHTS = ("SELECT", "INSERT", "DELETE")
TABLE_RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")


def grant_statements(role: str, database: str | None = None, *, read_only: bool = False) -> Sequence[str]:
    """The SQL that lets `role` do everything a sender does, each statement without its semicolon.

    With `read_only` only what `status`, `preview` and `run --dry-run` need. The last two statements of that need the
    schema, which the first pass of a sender creates.
    """
    name = quote_name(role)
    connect = [f"GRANT CONNECT ON DATABASE {quote_name(database)} TO {name}"] if database else []
    public = f"GRANT USAGE ON SCHEMA public TO {name}"
    properties = f"GRANT SELECT ON TABLE server_prop TO {name}"
    if read_only:
        return [
            *connect,
            public,
            f"GRANT SELECT ON TABLE audit_log TO {name}",
            properties,
            f"GRANT USAGE ON SCHEMA {SCHEMA} TO {name}",
            f"GRANT SELECT ON ALL TABLES IN SCHEMA {SCHEMA} TO {name}",
        ]
    return [
        *connect,
        public,
        f"GRANT {', '.join(AUDIT_LOG_RIGHTS)} ON TABLE audit_log TO {name}",
        properties,
        f"CREATE SCHEMA IF NOT EXISTS {SCHEMA} AUTHORIZATION {name}",
    ]


def quote_name(name: str) -> str:
    """A name as an SQL identifier, with its case."""
    if not name or "\0" in name:
        raise ConfigError("the name of a role or a database should not be empty")
    return '"' + name.replace('"', '""') + '"'


_SELECT_TABLES = """
SELECT c.oid, CASE WHEN n.nspname = %(schema)s THEN n.nspname || '.' || c.relname ELSE c.relname END,
       n.nspname = %(schema)s
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid IN (to_regclass('audit_log'), to_regclass('server_prop')) OR (n.nspname = %(schema)s AND c.relkind = 'r')
ORDER BY 3, 2
"""
_SELECT_LACKING = """
SELECT r.name FROM unnest(%s::text[]) WITH ORDINALITY r(name, place)
WHERE NOT has_table_privilege(%s::oid, r.name) ORDER BY r.place
"""
_SELECT_SCHEMA = """
SELECT oid IS NOT NULL, has_schema_privilege(oid, 'USAGE'), has_schema_privilege(oid, 'CREATE'),
       has_database_privilege(current_database(), 'CREATE'), current_database()
FROM (SELECT to_regnamespace(%s)::oid AS oid) s
"""


def missing_rights(conn: Connection, *, read_only: bool = False) -> Sequence[str]:
    """What the role of this connection may not do and a sender must, such as `DELETE on audit_log`; empty when nothing.

    A table that is not there lacks nothing here. The catalogue is asked and nothing is tried, so it also works on a
    standby and in a transaction.
    """
    lacking = []
    for oid, name, ours in conn.execute(_SELECT_TABLES, {"schema": SCHEMA}).fetchall():
        needed = TABLE_RIGHTS if ours else AUDIT_LOG_RIGHTS if name == "audit_log" else ("SELECT",)
        if read_only:
            needed = ("SELECT",)
        lacking += [f"{right} on {name}" for (right,) in conn.execute(_SELECT_LACKING, (list(needed), oid))]
    return lacking + _missing_on_schema(conn, read_only=read_only)


def _missing_on_schema(conn: Connection, *, read_only: bool) -> list[str]:
    row = conn.execute(_SELECT_SCHEMA, (SCHEMA,)).fetchone()
    assert row is not None  # noqa: S101  a select without FROM has one row
    is_there, may_use, may_create, may_make_one, database = row
    if not is_there:
        return [] if read_only or may_make_one else [f"CREATE on database {database}, or a schema {SCHEMA} of its own"]
    lacking = [] if may_use else [f"USAGE on schema {SCHEMA}"]
    if not (read_only or may_create):
        lacking.append(f"CREATE on schema {SCHEMA}")
    return lacking


def check_rights(conn: Connection) -> None:
    """Raises DatabaseError when a right is missing, so that it is found before anything is sent."""
    lacking = [right for right in missing_rights(conn) if not right.endswith("server_prop")]  # see instance.find
    if lacking:
        raise DatabaseError(
            f"database: the role lacks {', '.join(lacking)}: nothing was sent; "
            "let the owner run what `penpot-telemetry grants ROLE` prints"
        )


def warn_of_index(conn: Connection) -> Sequence[str]:
    """A warning when `audit_log` lacks Penpot's index, else nothing."""
    if audit_log.has_index(conn):
        return ()
    return (
        "audit_log has no index by source and day, so each pass reads the whole table: "
        "`penpot-telemetry grants` prints the statement that adds it",
    )
