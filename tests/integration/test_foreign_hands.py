"""Other programs change `audit_log`, its columns and its rows under the sender's hands: nothing is lost or stuck."""

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from psycopg import Connection

from penpot_telemetry import audit_log, connection, dead_letters, instance, pipeline
from penpot_telemetry.config import Settings
from penpot_telemetry.errors import ConfigError, DatabaseError
from penpot_telemetry.status import read_status
from penpot_telemetry.wire.batch import decode_columns
from penpot_telemetry.wire.payload import MOST_SUPERSEDED
from tests.conftest import Receiver, accept, make_events, names_of
from tests.integration.test_odd_rows import PLAIN
from tests.property.neighbour import INSERT


def run_until_set_aside(conn: Connection, settings: Settings) -> None:
    """A row that is refused before another is accepted waits for the next pass."""
    before = dead_letters.count_dead_letters(conn)
    for _ in range(3):
        pipeline.run_pass(conn, settings)
        if dead_letters.count_dead_letters(conn) > before:
            return
    raise AssertionError("nothing was set aside")


def write(conn: Connection, row_id: UUID, **changes: object) -> None:
    """A row that another program wrote."""
    conn.execute(INSERT, {"id": row_id, **PLAIN, **changes})


def refuse(*names: str) -> Callable[[bytes], tuple[int, bytes]]:
    """A server that refuses whatever holds one of these events."""
    return lambda body: (400, b"") if set(names) & set(names_of(body)) else accept(body)


SAME_TO_JSONB_HASH = [
    ('{"~:a":{"~:b":1},"~:c":2}', '{"~:a":{"~:b":1,"~:c":2}}'),
    ('{"~:a":[null,true]}', '{"~:a":[true,false]}'),
    ('{"~:a":1}', '{"~:a":1.0}'),
    ('{"~:a":[[1],2]}', '{"~:a":[[1,2]]}'),
    ('{"~:a":"x"}', '{"~:a":"y"}'),
]
"""Props that Postgres' own hash of a jsonb takes for the same, but the last."""


@pytest.mark.parametrize(("before", "after"), SAME_TO_JSONB_HASH)
def test_props_that_are_changed_on_the_way_are_shipped_too(
    conn: Connection, shipping: Settings, receiver: Receiver, before: str, after: str
) -> None:
    row_id = uuid4()
    write(conn, row_id, props=before)

    def change(body: bytes) -> tuple[int, bytes]:
        conn_of_another.execute("UPDATE audit_log SET props = %s WHERE id = %s", (after, row_id))
        receiver.reply = accept
        return accept(body)

    with connection.connect(shipping.database or {}) as conn_of_another:
        receiver.reply = change
        assert pipeline.run_pass(conn, shipping).shipped == 1
        assert pipeline.run_pass(conn, shipping).shipped == 1
    props = [decode_columns(str(batch["events"])).props for batch in receiver.batches()]
    assert len(props) == 2
    assert props[0] != props[1]
    assert read_status(conn, shipping).adds_up


@pytest.mark.parametrize("is_odd", [True, False])
def test_a_row_that_is_stored_anew_under_the_id_of_a_dead_letter_stops_nobody(
    conn: Connection, shipping: Settings, receiver: Receiver, is_odd: bool
) -> None:
    receiver.reply = refuse("odd")
    row_id, changes = uuid4(), {"props": "[]"} if is_odd else {}
    for number in range(3):
        write(conn, row_id, **changes)
        pipeline.record_events(conn, make_events(1, start=number), shipping)
        run_until_set_aside(conn, shipping)
    assert audit_log.count_rows(conn) == 0
    assert [letter.id for letter in dead_letters.read_dead_letters(conn)] == [row_id] * 3
    assert read_status(conn, shipping).adds_up
    assert dead_letters.retry(conn) == 1  # the others wait until this one is gone
    assert dead_letters.retry(conn) == 0
    assert dead_letters.count_dead_letters(conn) == 2
    assert read_status(conn, shipping).adds_up
    assert dead_letters.drop(conn) == 2


def test_a_dead_letter_may_be_retried_a_hundred_times(conn: Connection, shipping: Settings, receiver: Receiver) -> None:
    receiver.reply = refuse("e-0")
    pipeline.record_events(conn, make_events(1), shipping)
    for number in range(100):
        pipeline.record_events(conn, make_events(1, start=1 + number), shipping)
        passes = [pipeline.run_pass(conn, shipping) for _ in range(2 if number == 0 else 1)]
        assert passes[-1].failure is None
        assert dead_letters.retry(conn) == 1
    receiver.reply = accept
    assert pipeline.run_pass(conn, shipping).shipped == 1
    named = receiver.batches()[-1]["supersedes"]
    assert isinstance(named, list)
    assert 100 <= len(named) < MOST_SUPERSEDED
    assert len(set(named)) == len(named)


def test_a_trigger_that_swallows_a_row_does_not_swallow_its_dead_letter(
    conn: Connection, shipping: Settings, receiver: Receiver
) -> None:
    receiver.reply = refuse("odd")
    write(conn, uuid4())
    pipeline.record_events(conn, make_events(1), shipping)
    run_until_set_aside(conn, shipping)
    conn.execute("CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    conn.execute("CREATE TRIGGER swallow BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION swallow()")
    assert dead_letters.retry(conn) == 0
    assert dead_letters.count_dead_letters(conn) == 1
    assert read_status(conn, shipping).adds_up


def test_a_dead_letter_goes_back_into_a_table_with_new_columns(
    conn: Connection, shipping: Settings, receiver: Receiver
) -> None:
    receiver.reply = refuse("odd")
    write(conn, uuid4())
    pipeline.record_events(conn, make_events(1), shipping)
    run_until_set_aside(conn, shipping)
    conn.execute("ALTER TABLE audit_log ADD COLUMN tenant text NOT NULL DEFAULT 'one'")
    conn.execute("ALTER TABLE audit_log ADD COLUMN size int GENERATED ALWAYS AS (length(name)) STORED")
    receiver.reply = accept
    assert dead_letters.retry(conn) == 1
    assert conn.execute("SELECT name, tenant, size FROM audit_log").fetchall() == [("odd", "one", 3)]
    assert pipeline.run_pass(conn, shipping).shipped == 1
    assert read_status(conn, shipping).adds_up


def test_the_instance_id_is_not_changed_while_a_part_of_a_batch_is_on_its_way(
    conn: Connection, shipping: Settings, receiver: Receiver
) -> None:
    pipeline.record_events(conn, make_events(4), shipping)
    answers = iter([(413, b""), (500, b""), (500, b"")])
    receiver.reply = lambda _: next(answers)
    assert pipeline.run_pass(conn, shipping).failure
    with pytest.raises(ConfigError, match="not acknowledged yet"):
        instance.change(conn, uuid4())
    receiver.reply = accept
    assert pipeline.run_pass(conn, shipping).shipped == 4
    instance.change(conn, uuid4())


def test_a_table_whose_ids_need_not_be_unique_is_refused(conn: Connection, shipping: Settings) -> None:
    conn.execute("ALTER TABLE audit_log DROP CONSTRAINT audit_log_pkey")
    with pytest.raises(DatabaseError, match="no unique index on id"), connection.open_database(shipping):
        pass
    conn.execute("CREATE UNIQUE INDEX by_id ON audit_log (id)")
    with connection.open_database(shipping) as found:
        audit_log.check_table(found)


def test_a_row_without_a_profile_is_shipped(conn: Connection, shipping: Settings, receiver: Receiver) -> None:
    conn.execute("ALTER TABLE audit_log ALTER COLUMN profile_id DROP NOT NULL")
    for number in range(3):
        write(conn, uuid4(), name=f"n-{number}")
    conn.execute("UPDATE audit_log SET profile_id = NULL WHERE name <> 'n-1'")
    assert pipeline.run_pass(conn, replace(shipping, batch_rows=10)).shipped == 3
    assert decode_columns(str(receiver.batches()[0]["events"])).profile_id.count(None) == 2
