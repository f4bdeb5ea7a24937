"""A Penpot that goes on living: it writes rows, odd ones too, and deletes some, between any two statements of a sender.

Nothing here is made by the sender's own code: rows are written as plain SQL, and whatever is deleted is remembered by
its id. Triggers note what nobody else would tell: which rows the sender ever saw, and which it dropped.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import psycopg
from psycopg import Connection, Cursor

WITNESS = """
CREATE SCHEMA witness;
CREATE TABLE witness.seen (id uuid);
CREATE TABLE witness.deleted (id uuid, step xid8 DEFAULT pg_current_xact_id());
CREATE TABLE witness.counted (step xid8 DEFAULT pg_current_xact_id());
CREATE FUNCTION witness.note_seen() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO witness.seen SELECT unnest(NEW.ids); RETURN NULL; END';
CREATE FUNCTION witness.note_deleted() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO witness.deleted SELECT id FROM gone; RETURN NULL; END';
CREATE FUNCTION witness.note_counted() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO witness.counted DEFAULT VALUES; RETURN NULL; END';
CREATE TRIGGER witness AFTER INSERT ON penpot_telemetry.entered
    FOR EACH ROW EXECUTE FUNCTION witness.note_seen();
CREATE TRIGGER witness AFTER DELETE ON audit_log
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION witness.note_deleted();
CREATE TRIGGER witness AFTER UPDATE ON penpot_telemetry.state
    FOR EACH ROW WHEN (NEW.dropped <> OLD.dropped) EXECUTE FUNCTION witness.note_counted();
"""
SEEN = "SELECT DISTINCT id FROM witness.seen"
DROPPED = "SELECT DISTINCT id FROM witness.deleted WHERE step IN (SELECT step FROM witness.counted)"

INSERT = """
INSERT INTO audit_log (id, name, type, created_at, tracked_at, profile_id, ip_addr, props, source, context)
VALUES (%(id)s, %(name)s, %(type)s, %(created_at)s, %(tracked_at)s, gen_random_uuid(), '0.0.0.0', %(props)s, %(source)s,
        %(context)s)
"""
DELETE = """
DELETE FROM audit_log WHERE id IN (
    SELECT id FROM audit_log ORDER BY md5(left(name, 30) || %s), created_at LIMIT %s FOR UPDATE SKIP LOCKED
) RETURNING id
"""
"""Some rows, whatever the sender does with them, unless it is at them in this moment."""

CHOOSE = "SELECT id, name FROM audit_log ORDER BY md5(name || %s), created_at LIMIT 1 FOR UPDATE SKIP LOCKED"
COPY_ANEW = """
WITH old AS (DELETE FROM audit_log WHERE id = %(id)s RETURNING *)
INSERT INTO audit_log SELECT new.* FROM old, jsonb_populate_record(
    NULL::audit_log, to_jsonb(old) || jsonb_build_object('name', %(name)s::text)
) new
"""
CHANGES = (
    "UPDATE audit_log SET name = %(name)s WHERE id = %(id)s",
    "UPDATE audit_log SET name = %(name)s, source = 'telemetry:backend', created_at = '2026-07-20' WHERE id = %(id)s",
    COPY_ANEW,
)
"""Ways in which a row becomes another event."""

TOUCH = "UPDATE audit_log SET ip_addr = '10.0.0.1', created_at = created_at WHERE id = %(id)s"
"""A change of nothing that is sent."""

LARGE = "x" * (1024 * 1024 + 1)


def nest(depth: int) -> str:
    """A map with lists in it, so deep."""
    return '{"~:deep":' + "[" * depth + "]" * depth + "}"


def odd_values() -> Sequence[str]:
    """JSON that is legal in a jsonb column, and not what a sender expects of props or of a context."""
    return [
        *("null", "[]", "5", '"x"', "true", "{}", "1e400"),
        json.dumps({"~:browser": LARGE, "~:route": LARGE}),
        *(nest(depth) for depth in (10, 126, 127, 128, 200)),
        '{"~:n":1e400}',
        f'{{"~:n":{10**400}}}',
        '{"~:n":-9223372036854775809}',
        '{"~:browser":1e400,"~:screen-width":1e400}',
        '{"~:browser":null,"~:browser-version":[],"~:os":{}}',
        '{"":"empty key","~:":"empty keyword","~":1}',
        '{"~:id":"~unot-a-uuid"}',
        '{"~:at":"~m99999999999999999999999"}',
        '{"~:at":"~tyesterday"}',
        '{"~:x":{"~#unknown":[1,2]}}',
        '{"~:x":"^0","^1":"~:y"}',
        '{"~#set":[1]}',
        '["^ ","~:a",1]',
        '{"~:\U0001f600":"\U0001f600 \ufffe"}',
        '{"~:version":5,"~:initiator":"~:a/b/c"}',
        '{"a b":1,"~:a b":2,"~$sym":3}',
    ]


ODD: Sequence[Mapping[str, object]] = [
    *({"props": value} for value in odd_values()),
    *({"context": value} for value in odd_values()),
    {"props": None, "context": None},
    *({"tracked_at": value} for value in (None, "infinity", "-infinity", "0044-03-15 BC", "20000-01-01", "0001-01-01")),
    *({"created_at": value} for value in ("infinity", "-infinity", "0044-03-15 BC", "20000-01-01")),
    {"tracked_at": None, "created_at": "infinity"},
    {"name": ""},
    {"name": LARGE},
    {"type": ""},
    {"type": LARGE},
]
"""What may be different in a row."""


class Move(NamedTuple):
    """A thing that a neighbour does, and how often in a hundred."""

    name: str
    share: int


@dataclass(slots=True)
class Neighbour:
    """Another program on the same table, with its own connection. `dice` says what it does next; None: nothing.

    `made` is the mark of every row that there ever was, by id; a row without a usable name has none. `removed` are the
    ids that this program deleted. `changes`: the share of moves that change a row; `versions` are all marks that a
    changed row had.
    """

    conn: Connection
    dice: Random | None = None
    rate: float = 0.0
    made: dict[UUID, str] = field(default_factory=dict)
    removed: set[UUID] = field(default_factory=set)
    victim: int = 0
    moves: int = 0
    changes: float = 0.0
    versions: dict[UUID, list[str]] = field(default_factory=dict)

    def write(self, chance: Random, odd: bool | None = None, day: str = "2026-07-21") -> UUID:
        """One row, now and then an odd one."""
        row_id = uuid4()
        mark = f"n-{len(self.made)}"
        is_odd = chance.random() < 0.3 if odd is None else odd
        row: dict[str, object] = {
            "id": row_id,
            "name": mark,
            "type": "action",
            "created_at": day,
            "tracked_at": day,
            "props": '{"~:route":"dashboard-files"}',
            "source": chance.choice(("telemetry", "telemetry:backend", "telemetry:frontend")),
            "context": '{"~:browser":"Firefox"}',
        }
        row |= chance.choice(ODD) if is_odd else {}
        row["type"] = row["type"] if row["name"] else mark
        self.conn.execute(INSERT, row)
        self.made[row_id] = mark if mark in {row["name"], row["type"]} else ""
        return row_id

    def delete(self, chance: Random) -> None:
        """A row or three, of those that wait, that are in the outbox, or that were refused."""
        found = self.conn.execute(DELETE, (str(chance.random()), chance.choice((1, 1, 3)))).fetchall()
        self.removed |= {row_id for (row_id,) in found}

    def change(self, chance: Random) -> None:
        """Another program changes a row, or stores it anew under its id, or touches what is not sent."""
        with self.conn.transaction():
            found = self.conn.execute(CHOOSE, (str(chance.random()),)).fetchone()
            if found is None:
                return
            row_id, old = found
            name = f"{old}-{self.moves}"
            is_touch = chance.random() < 0.3
            self.conn.execute(TOUCH if is_touch else chance.choice(CHANGES), {"id": row_id, "name": name})
        if not is_touch:
            self.versions.setdefault(row_id, [old]).append(name)
            self.made[row_id] = name

    def act(self) -> None:
        """Perhaps does something now."""
        chance = self.dice
        if chance is None or chance.random() >= self.rate:
            return
        self.moves += 1
        if self.changes and chance.random() < self.changes:
            self.change(chance)
            return
        move = chance.random()
        if move < 0.55:
            self.write(chance)
        elif move < 0.97 or not self.victim:
            self.delete(chance)
        else:
            self.end_connection()

    def end_connection(self) -> None:
        """The sender's connection is cut by the server, as at its restart."""
        pid, self.victim = self.victim, 0
        self.conn.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))


def meddle(conn: Connection, act: Callable[[], None]) -> None:
    """Calls `act` before and after every statement of a connection."""

    class Meddled(Cursor[Any]):
        def execute(self, *args: Any, **kwargs: Any) -> Any:
            act()
            found = super().execute(*args, **kwargs)
            act()
            return found

        def stream(self, *args: Any, **kwargs: Any) -> Any:
            act()
            yield from super().stream(*args, **kwargs)
            act()

    conn.cursor_factory = Meddled


def connect(parameters: Mapping[str, str]) -> Connection:
    """A connection of the neighbour's own."""
    return psycopg.connect(**parameters, autocommit=True)  # type: ignore[arg-type]
