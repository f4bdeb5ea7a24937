"""The id under which this database ships: a chosen one, else Penpot's own, else a random one; kept from then on."""

from dataclasses import dataclass
from uuid import UUID, uuid4

from psycopg import Connection, errors

from penpot_telemetry import account, lease, outbox, schema, segments
from penpot_telemetry.config import Settings
from penpot_telemetry.connection import database_errors
from penpot_telemetry.errors import ConfigError


@dataclass(frozen=True, slots=True)
class InstanceId:
    """An id and where it is from: `set`, `penpot` (its server_prop) or `random`."""

    value: UUID
    origin: str


def find(conn: Connection, settings: Settings) -> InstanceId:
    """The id that the next pass would keep in a database that has none. Raises ConfigError, see `read_instance_id`."""
    if settings.instance_id is not None:
        return InstanceId(settings.instance_id, "set")
    own = read_penpot_id(conn)
    return InstanceId(uuid4(), "random") if own is None else InstanceId(own, "penpot")


def show(conn: Connection, settings: Settings) -> InstanceId | None:
    """The id that is kept, else the one that the next pass will keep; None when that will be a random one."""
    state = account.read_state(conn) if schema.has_schema(conn) else account.AccountState()
    if state.instance_id is not None:
        return InstanceId(state.instance_id, state.instance_origin or "kept")
    found = find(conn, settings)
    return None if found.origin == "random" else found


def keep(conn: Connection, settings: Settings) -> None:
    """Keeps the id from the first time on. Raises ConfigError when another one is set, or Penpot's cannot be read."""
    kept = account.read_state(conn).instance_id
    if kept is None:
        found = find(conn, settings)
        account.keep_instance_id(conn, found.value, found.origin)
    elif settings.instance_id not in {None, kept}:
        raise ConfigError(
            f"PENPOT_TELEMETRY_INSTANCE_ID differs from the id that this database ships under ({kept}): unset it, or "
            "change the id with `penpot-telemetry instance-id --set`"
        )


def change(conn: Connection, instance_id: UUID, origin: str = "set") -> None:
    """Ships under another id from the next batch on.

    Raises ConfigError while a batch of the old id, or a part of one, waits: it may have arrived, and would go twice.
    """

    def step() -> None:
        if outbox.fetch_batch(conn) or segments.count_segments(conn):
            raise ConfigError(
                "a batch under the old instance id is not acknowledged yet: run passes until none waits, then try again"
            )
        account.keep_instance_id(conn, instance_id, origin)

    with database_errors(), lease.hold(conn) as held:
        held.step(step)


_SELECT_SERVER_PROP = """
SELECT coalesce(content ->> '~#''', content #>> '{}') FROM server_prop WHERE id = 'instance-id'
"""
"""Verbose transit quotes a value that stands alone: Penpot's id is the map of `~#'` to `~u…`."""


def read_penpot_id(conn: Connection) -> UUID | None:
    """Penpot's own instance id, from its `server_prop`; None in a database without that table.

    Raises ConfigError when the table is there and the id cannot be read: another id would be a second Penpot.
    """
    try:
        with conn.transaction():
            found = conn.execute(_SELECT_SERVER_PROP).fetchone()
    except errors.UndefinedTable:
        return None
    except errors.InsufficientPrivilege:
        raise ConfigError(_no_instance_id("may not be read: GRANT SELECT ON server_prop to the role")) from None
    except (errors.ProgrammingError, errors.DataError) as error:  # and not a connection that was cut
        raise ConfigError(_no_instance_id(f"is not Penpot's ({type(error).__name__})")) from None
    try:
        return UUID(str(found[0]).removeprefix("~u") if found else "")
    except ValueError:
        raise ConfigError(_no_instance_id("has no instance-id: start Penpot once")) from None


def _no_instance_id(fault: str) -> str:
    return f"database: server_prop {fault}, or set the id with `penpot-telemetry instance-id --set UUID`"
