import json
import socket
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from psycopg import Connection
from psycopg.rows import dict_row

from penpot_telemetry import account, audit_log, connection, instance, pipeline, store
from penpot_telemetry.config import Settings
from penpot_telemetry.endpoint import Endpoint
from penpot_telemetry.errors import ConfigError, DatabaseError, InvalidEventError
from penpot_telemetry.events import SOURCE, ZERO_UUID, AuditEvent
from penpot_telemetry.rows import Rows
from penpot_telemetry.status import read_status
from tests.conftest import NOON, make_events, waiting_names

DAY = datetime(2026, 7, 20, tzinfo=UTC)
PROFILE = UUID("7b528bf8-134c-814f-8005-048545218ba3")


def rows_of(conn: Connection) -> list[dict[str, object]]:
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute("SELECT *, ip_addr::text AS ip_addr FROM audit_log ORDER BY created_at, name").fetchall()


def push(conn: Connection, settings: Settings, *events: object) -> store.RecordResult:
    return pipeline.push_audit_events(
        conn, events, profile_id=PROFILE, ip_addr="203.0.113.7", request_at=NOON, settings=settings
    )


# -- recording -------------------------------------------------------------------------------------------------------


def test_a_row_holds_what_may_be_kept_and_nothing_else(conn: Connection, settings: Settings) -> None:
    push(
        conn,
        settings,
        {
            "name": "navigate",
            "type": "action",
            "props": {"email": "ada@example.org"},
            "context": {"browser": "Chrome", "screen-width": 1920, "session": "secret", "screen-height": "~a"},
            "timestamp": "2026-07-20T11:30:00Z",
        },
    )
    (row,) = rows_of(conn)
    row_id = row.pop("id")
    assert isinstance(row_id, UUID)
    assert row_id.version == 4
    assert row == {
        "name": "navigate",
        "type": "action",
        "created_at": DAY,
        "archived_at": None,
        "profile_id": PROFILE,
        "ip_addr": "0.0.0.0/32",
        "props": {},
        "tracked_at": DAY,
        "source": SOURCE,
        "context": {"~:browser": "Chrome", "~:screen-width": 1920},
    }


def test_the_context_is_filtered_by_origin(conn: Connection, settings: Settings) -> None:
    context = {"browser": "Chrome", "version": "2.18.0", "initiator": "app"}
    for name, origin in (("a", "frontend"), ("b", "backend")):
        pipeline.record_event(
            conn,
            AuditEvent(name, "action", origin, NOON, NOON, context=context),  # type: ignore[arg-type]
            settings,
        )
    assert [row["context"] for row in rows_of(conn)] == [
        {"~:browser": "Chrome", "~:version": "2.18.0"},
        {"~:version": "2.18.0", "~:initiator": "app"},
    ]


def test_an_event_without_a_profile_has_the_zero_uuid(conn: Connection, settings: Settings) -> None:
    pipeline.record_event(conn, AuditEvent("n", "command", "backend", NOON, NOON), settings)
    assert rows_of(conn)[0]["profile_id"] == ZERO_UUID


def test_a_bad_event_is_refused_with_its_index_and_the_good_ones_are_kept(conn: Connection, settings: Settings) -> None:
    good = {"name": "navigate", "type": "action"}
    recorded = push(conn, settings, good, {**good, "name": "ada@example.org"}, "nonsense", {**good, "type": "x"}, good)
    assert recorded.accepted == 2
    assert [refusal.index for refusal in recorded.refused] == [1, 2, 3]
    assert "ada" not in repr(recorded)
    assert len(rows_of(conn)) == 2


def test_a_clock_ahead_of_the_request_is_put_right(conn: Connection, settings: Settings) -> None:
    push(conn, settings, {"name": "n", "type": "action", "timestamp": "2027-01-01T00:00:00Z"})
    assert rows_of(conn)[0]["tracked_at"] == DAY


def test_many_events_are_recorded_and_the_bad_ones_named(conn: Connection, settings: Settings) -> None:
    events = [*make_events(600), AuditEvent("not a name", "action", "frontend", NOON, NOON), *make_events(1)]
    recorded = pipeline.record_events(conn, events, settings)
    assert recorded.accepted == 601
    assert [refusal.index for refusal in recorded.refused] == [600]
    assert audit_log.count_rows(conn) == 601


def test_recording_is_counted_in_its_own_transaction(conn: Connection, settings: Settings) -> None:
    pipeline.record_events(conn, make_events(5), settings)
    pipeline.record_event(conn, make_events(1)[0], settings)
    assert account.read_state(conn).tallied == 6 == audit_log.count_rows(conn)


def test_a_recording_that_fails_leaves_nothing(conn: Connection, settings: Settings) -> None:
    def breaks_off() -> "list[AuditEvent]":
        raise RuntimeError

    def events() -> "object":
        yield from make_events(300)
        breaks_off()

    with pytest.raises(RuntimeError):
        pipeline.record_events(conn, events(), settings)  # type: ignore[arg-type]
    assert audit_log.count_rows(conn) == 0 == account.read_state(conn).expected


def test_one_bad_event_raises_when_it_is_recorded_alone(conn: Connection, settings: Settings) -> None:
    with pytest.raises(InvalidEventError, match="name"):
        pipeline.record_event(conn, AuditEvent("a b", "action", "frontend", NOON, NOON), settings)


def test_a_context_with_a_backslash_or_a_tilde_survives_copy(conn: Connection) -> None:
    event = make_events(1)[0]
    context = {"a": 'x\\y\t"z"\n\u2028', "b": "~tilde", "c": "\\N", "d": "\\."}
    from penpot_telemetry.anonymise import anonymise  # noqa: PLC0415

    store.copy_events(conn, [replace(anonymise(event), context=context)])
    assert rows_of(conn)[0]["context"] == {
        "~:a": 'x\\y\t"z"\n\u2028',
        "~:b": "~~tilde",
        "~:c": "\\N",
        "~:d": "\\.",
    }


def test_with_a_pseudonym_key_no_profile_id_is_stored(conn: Connection, settings: Settings) -> None:
    push(conn, replace(settings, pseudonym_key=b"k" * 32), {"name": "n", "type": "action"})
    profile_id = rows_of(conn)[0]["profile_id"]
    assert isinstance(profile_id, UUID)
    assert profile_id not in {PROFILE, ZERO_UUID}
    assert profile_id.version == 4


# -- off means off ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{"telemetry": False}, {"audit_log": True}])
def test_with_telemetry_inactive_nothing_is_stored(
    conn: Connection, settings: Settings, change: dict[str, bool]
) -> None:
    off = replace(settings, **change)  # type: ignore[arg-type]
    assert push(conn, off, {"name": "n", "type": "action"}).accepted == 0
    assert pipeline.record_event(conn, make_events(1)[0], off) is False
    assert pipeline.record_events(conn, make_events(3), off).accepted == 0
    assert audit_log.count_rows(conn) == 0 == account.read_state(conn).expected


# -- the table -------------------------------------------------------------------------------------------------------


def test_a_missing_index_is_said_and_not_made(conn: Connection, settings: Settings) -> None:
    assert read_status(conn, settings).warnings == ()
    conn.execute("DROP INDEX audit_log__source__created_at__idx")
    pipeline.record_events(conn, make_events(1), settings)
    (warning,) = read_status(conn, settings).warnings
    assert "no index by source and day" in warning
    report = pipeline.run_pass(conn, replace(settings, endpoint=Endpoint("http://127.0.0.1:9/"), attempts=1))
    assert warning in report.warnings
    assert not audit_log.has_index(conn)


def test_a_database_without_the_table_is_named_as_such(empty_database: Mapping[str, str], settings: Settings) -> None:
    with (
        pytest.raises(DatabaseError, match="no audit_log table"),
        connection.open_database(replace(settings, database=empty_database)),
    ):
        pass


def test_a_table_that_is_not_penpots_is_named_with_what_it_lacks(
    empty_database: Mapping[str, str], settings: Settings
) -> None:
    with connection.connect(empty_database) as conn:
        conn.execute("CREATE TABLE audit_log (id uuid, name text)")
    with (
        pytest.raises(DatabaseError, match="no column context, created_at"),
        connection.open_database(replace(settings, database=empty_database)),
    ):
        pass


def test_the_table_is_created_when_that_is_asked_for(empty_database: Mapping[str, str], settings: Settings) -> None:
    own = replace(settings, database=empty_database, create_table=True)
    for _ in range(2):
        with connection.open_database(own) as conn:
            pipeline.record_events(conn, make_events(1), own)
    with connection.connect(empty_database) as conn:
        assert audit_log.count_rows(conn) == 2


def test_an_existing_table_is_not_altered(empty_database: Mapping[str, str], settings: Settings) -> None:
    describe = (
        "SELECT attname, atttypid, attnotnull FROM pg_attribute WHERE attrelid = 'audit_log'::regclass ORDER BY attnum"
    )
    with connection.connect(empty_database) as conn:
        audit_log.create_table(conn)
        conn.execute("ALTER TABLE audit_log ADD COLUMN extra text DEFAULT 'kept'")
        before = conn.execute(describe).fetchall()
    with connection.open_database(replace(settings, database=empty_database, create_table=True)) as conn:
        assert conn.execute(describe).fetchall() == before


def test_a_role_without_rights_is_told_which(conn: Connection, database: Mapping[str, str], settings: Settings) -> None:
    name = f"reader_{uuid4().hex[:8]}"
    conn.execute(f"CREATE ROLE {name} LOGIN")
    try:
        with (
            pytest.raises(DatabaseError, match=r"permission denied.*grant"),
            connection.open_database(replace(settings, database={**database, "user": name})) as limited,
        ):
            pipeline.record_event(limited, make_events(1)[0], settings)
    finally:
        conn.execute(f"DROP ROLE {name}")


def test_a_database_that_is_not_there_is_one_line(settings: Settings) -> None:
    nowhere = {"host": "127.0.0.1", "port": str(free_port()), "dbname": "penpot", "user": "u", "password": "s3cret"}
    with (
        pytest.raises(DatabaseError, match="PENPOT_DATABASE_URI") as caught,
        connection.open_database(replace(settings, database=nowhere)),
    ):
        pass
    assert "\n" not in str(caught.value)
    assert "s3cret" not in str(caught.value)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_no_message_repeats_a_value_of_a_row(conn: Connection) -> None:
    with pytest.raises(DatabaseError) as caught, connection.database_errors():
        conn.execute("SELECT %s::int", ("ada@example.org",))
    assert "ada" not in str(caught.value)


# -- pages -----------------------------------------------------------------------------------------------------------


def all_rows(conn: Connection) -> Rows:
    """All rows, of whatever source."""
    return Rows.of_ids(b"".join(one for (one,) in conn.execute("SELECT uuid_send(id) FROM audit_log ORDER BY name")))


def test_a_page_is_the_oldest_first_and_only_of_the_sources_that_ship(conn: Connection, settings: Settings) -> None:
    pipeline.record_events(conn, make_events(3, start=10, day=NOON), settings)
    pipeline.record_events(conn, make_events(3, start=0, day=NOON - timedelta(days=2)), settings)
    conn.execute("UPDATE audit_log SET source = 'telemetry:backend' WHERE name = 'e-11'")
    conn.execute("UPDATE audit_log SET source = 'telemetry:frontend' WHERE name = 'e-1'")
    conn.execute("UPDATE audit_log SET source = 'backend' WHERE name IN ('e-2', 'e-12')")
    planned = waiting_names(conn)
    assert (sorted(planned[:2]), sorted(planned[2:])) == (["e-0", "e-1"], ["e-10", "e-11"])
    page = audit_log.fetch_rows(conn, all_rows(conn))
    assert sorted(row.name for row in page.rows) == ["e-0", "e-1", "e-10", "e-11"]
    names: dict[bytes, str] = dict(conn.execute("SELECT uuid_send(id), name FROM audit_log").fetchall())
    assert [names[ref[:16]] for ref in page.refs] == [row.name for row in page.rows]


def test_a_page_begins_with_the_oldest_day_whatever_the_ids(conn: Connection, settings: Settings) -> None:
    for day in range(10):
        pipeline.record_events(conn, make_events(5, start=10 * day, day=NOON - timedelta(days=day)), settings)
    assert sorted(waiting_names(conn)[:5]) == [f"e-{n}" for n in range(90, 95)]


def test_a_page_is_bounded_in_bytes_too(conn: Connection, settings: Settings) -> None:
    pipeline.record_events(conn, make_events(10), settings)
    page = audit_log.fetch_rows(conn, all_rows(conn), max_bytes=100)
    assert (len(page.rows), page.read, page.odd) == (3, 3, [])


def test_the_moment_of_a_row_of_penpots_own_is_cut_to_its_day(conn: Connection, settings: Settings) -> None:
    pipeline.record_events(conn, make_events(1), settings)
    conn.execute("UPDATE audit_log SET tracked_at = '2026-07-20 23:59:59.999+00', source = 'telemetry:backend'")
    (row,) = audit_log.fetch_rows(conn, all_rows(conn)).rows
    assert row.tracked_at == DAY.timestamp() * 1000


def test_a_connection_that_is_cut_while_the_instance_id_is_read_says_so(
    conn: Connection, database: Mapping[str, str]
) -> None:
    conn.execute("CREATE TABLE server_prop (id text PRIMARY KEY, preload boolean, content jsonb)")
    with pytest.raises(DatabaseError) as caught, connection.connect(database) as cut:
        conn.execute("SELECT pg_terminate_backend(%s, 5000)", (cut.info.backend_pid,))
        instance.read_penpot_id(cut)
    assert "server_prop" not in str(caught.value)


def test_penpots_own_instance_id_is_found_or_refused_and_never_guessed(conn: Connection) -> None:
    assert instance.read_penpot_id(conn) is None
    conn.execute("CREATE TABLE server_prop (id text PRIMARY KEY, preload boolean, content jsonb)")
    with pytest.raises(ConfigError, match="start Penpot once"):
        instance.read_penpot_id(conn)
    conn.execute("INSERT INTO server_prop VALUES ('instance-id', true, %s)", (json.dumps({"~#'": f"~u{PROFILE}"}),))
    assert instance.read_penpot_id(conn) == PROFILE
    conn.execute("UPDATE server_prop SET content = '\"nonsense\"'")
    with pytest.raises(ConfigError, match="instance-id --set"):
        instance.read_penpot_id(conn)
    conn.execute("CREATE ROLE blind LOGIN")
    try:
        conn.execute("SET ROLE blind")
        with pytest.raises(ConfigError, match="GRANT SELECT ON server_prop"):
            instance.read_penpot_id(conn)
    finally:
        conn.execute("RESET ROLE")
        conn.execute("DROP ROLE blind")
