"""Two other programs on the sender's table, each a process: one writes rows, odd ones too, and one deletes some.

They go on until they are killed. What the deleter deletes it notes in the same transaction, which it now and then
leaves open for a while, so that whoever wants one of these rows has to wait.
"""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from random import Random
from uuid import uuid4

import psycopg
from psycopg import Connection

from tests.property.neighbour import INSERT, ODD

DELETE = """
WITH gone AS (
    DELETE FROM audit_log WHERE id IN (SELECT id FROM audit_log ORDER BY random() LIMIT %s) RETURNING id
)
INSERT INTO witness.removed SELECT id FROM gone
"""


def write_rows(database: str, seed: str) -> None:
    """A row now and then, some days old; every sixth one odd."""

    most = Random(seed).choice((10, 20, 40))  # noqa: S311  a pass goes on while a batch comes together

    def write(conn: Connection, chance: Random, number: int) -> None:
        if number > most:
            time.sleep(0.1)
            return
        is_odd = chance.random() < 1 / 6
        mark = f"{'odd' if is_odd else 'new'}-{seed}-{number}"
        day = f"2026-07-{chance.randint(18, 21)}"
        row: dict[str, object] = {"id": uuid4(), "name": mark, "type": "action", "created_at": day, "tracked_at": day}
        row |= {"props": "{}", "context": '{"~:browser":"Firefox"}'}
        row |= {"source": chance.choice(("telemetry", "telemetry:backend", "telemetry:frontend"))}
        row |= chance.choice(ODD) if is_odd else {}
        row["type"] = row["type"] if row["name"] else mark
        conn.execute(INSERT, row)
        time.sleep(chance.uniform(0.0, 0.06))

    go_on(database, seed, write)


def delete_rows(database: str, seed: str) -> None:
    """A row or three now and then, whatever the sender does with them."""

    def delete(conn: Connection, chance: Random, _: int) -> None:
        with conn.transaction():
            conn.execute(DELETE, (chance.choice((1, 1, 1, 3)),))
            time.sleep(chance.choice((0, 0, 0, 0.02, 0.4)))
        time.sleep(chance.uniform(0.0, 0.2))

    go_on(database, seed, delete)


def go_on(database: str, seed: str, work: Callable[[Connection, Random, int], None]) -> None:
    """Does it again and again; a connection that ends, or a transaction that had to give way, is begun anew."""
    chance, number = Random(seed), 0  # noqa: S311  a seed, so that a failure can be seen again
    while True:
        try:
            with closing(psycopg.connect(**json.loads(database), autocommit=True)) as conn:
                while True:
                    number += 1
                    work(conn, chance, number)
        except psycopg.OperationalError:
            time.sleep(0.05)


ROLES: Mapping[str, Callable[[str, str], None]] = {"writer": write_rows, "deleter": delete_rows}
