"""Connections to the database, and what Postgres objects to in one line."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import psycopg
from psycopg import Connection, errors

from penpot_telemetry import audit_log, embedded_postgres, schema
from penpot_telemetry.config import Settings
from penpot_telemetry.errors import DatabaseError


@contextmanager
def open_database(settings: Settings, *, read_only: bool = False) -> Iterator[Connection]:
    """A connection to the database that was named, or to the embedded one, with everything in place that we need.

    `read_only`: nothing is created or brought forward, and the right to read is enough.
    """
    served = (
        nullcontext(settings.database) if settings.database is not None else embedded_postgres.serve(settings.data_dir)
    )
    with served as parameters, connect(parameters) as conn:
        if settings.database is None or (settings.create_table and not read_only):
            audit_log.create_table(conn)
        audit_log.check_table(conn)
        if not read_only:
            schema.ensure_schema(conn)
        yield conn


NEEDS = {"client_encoding": "UTF8"}
"""What every connection asks for, whatever the database or the environment says."""

_SESSION = "SET TIME ZONE 'UTC'; SET datestyle = 'ISO, YMD'; SET standard_conforming_strings = on"
"""A pooler in transaction mode follows a client in just these settings, so they hold behind one too."""


@contextmanager
def connect(parameters: Mapping[str, str]) -> Iterator[Connection]:
    """An autocommit connection in UTC. Whatever Postgres objects to inside the block is a DatabaseError."""
    chosen = {"connect_timeout": "10", "application_name": "penpot-telemetry", **parameters, **NEEDS}
    with database_errors(), psycopg.connect(**chosen, autocommit=True, prepare_threshold=None) as conn:  # type: ignore[arg-type]
        conn.execute(_SESSION)
        yield conn


@contextmanager
def database_errors() -> Iterator[None]:
    """Says in one line what Postgres objects to and what to do. Never repeats a value of a row."""
    try:
        yield
    except psycopg.Error as error:
        raise DatabaseError(_explain(error)) from None


_REMEDIES: Sequence[tuple[type[psycopg.Error], str]] = (
    (errors.InsufficientPrivilege, "grant the role that right, or name another in PENPOT_DATABASE_USERNAME"),
    (errors.DiskFull, "the database's disk is full: nothing was changed, make room and run again"),
    (errors.TooManyConnections, "try again later, or raise max_connections"),
    (errors.ReadOnlySqlTransaction, "PENPOT_DATABASE_URI should name the primary server, this one only reads"),
    (errors.LockNotAvailable, "another process holds rows of audit_log: nothing was changed, run again"),
    (errors.DeadlockDetected, "another process holds rows of audit_log: nothing was changed, run again"),
    (errors.SerializationFailure, "another process holds rows of audit_log: nothing was changed, run again"),
    (errors.QueryCanceled, "nothing was changed: give the role more time, ALTER ROLE … SET statement_timeout = 0"),
    (errors.AdminShutdown, "the server is shutting down: nothing was changed, run again"),
    (errors.CharacterNotInRepertoire, "it holds text that is not UTF-8: Penpot wants a database in UTF8"),
    (errors.CannotConnectNow, "the server is starting: run again"),
)


def _explain(error: psycopg.Error) -> str:
    remedy = next((text for kind, text in _REMEDIES if isinstance(error, kind)), None)
    if isinstance(error, psycopg.DataError):  # its message repeats the value
        return f"database: a value is not accepted ({type(error).__name__})" + (f"; {remedy}" if remedy else "")
    said = error.diag.message_primary or next(iter(str(error).splitlines()), type(error).__name__)
    if remedy is None and error.sqlstate is None:
        remedy = "check PENPOT_DATABASE_URI, _USERNAME and _PASSWORD, and that the server is up"
    return f"database: {said}" + (f"; {remedy}" if remedy else "")
