"""The id under which this database ships: set by hand, else Penpot's own, else a random one; kept once it was used."""

from dataclasses import dataclass
from uuid import UUID, uuid4

from psycopg import Connection

from penpot_telemetry import lease, outbox, store
from penpot_telemetry.config import Settings
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
    own = store.read_instance_id(conn)
    return InstanceId(uuid4(), "random") if own is None else InstanceId(own, "penpot")


def show(conn: Connection, settings: Settings) -> InstanceId | None:
    """The id that is kept, else the one that the next pass will keep; None when that will be a random one."""
    state = outbox.read_state(conn) if outbox.has_schema(conn) else outbox.State()
    if state.instance_id is not None:
        return InstanceId(state.instance_id, state.instance_origin or "kept")
    found = find(conn, settings)
    return None if found.origin == "random" else found


def keep(conn: Connection, settings: Settings) -> None:
    """Keeps the id from the first time on. Raises ConfigError when another one is set, or Penpot's cannot be read."""
    kept = outbox.read_state(conn).instance_id
    if kept is None:
        found = find(conn, settings)
        outbox.keep_instance_id(conn, found.value, found.origin)
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
        if outbox.fetch_page(conn) or outbox.count_segments(conn):
            raise ConfigError(
                "a batch under the old instance id is still on its way: run passes until none is, then again"
            )
        outbox.keep_instance_id(conn, instance_id, origin)

    with store.database_errors(), lease.hold(conn) as held:
        held.step(step)
