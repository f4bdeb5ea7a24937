"""The database that stands for a live Penpot is one: its keys and indexes, the roles, the rows, the purge."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import errors

from tests.integration import penpot_schema
from tests.integration.penpot_schema import INSTANCE_ID, PenpotDatabase, PenpotIds

NOON = datetime(2026, 7, 20, 12, 30, 15, tzinfo=UTC)


@pytest.fixture
def penpot(postgres: Mapping[str, str]) -> Iterator[PenpotDatabase]:
    """A live Penpot's database."""
    with penpot_schema.penpot_database(postgres) as database:
        yield database


def connect(parameters: Mapping[str, str]) -> "psycopg.Connection[tuple[object, ...]]":
    """An autocommit connection."""
    return psycopg.connect(**parameters, autocommit=True)  # type: ignore[arg-type]


def test_penpots_role_owns_every_table_and_the_sender_has_no_right_on_one(penpot: PenpotDatabase) -> None:
    with connect(penpot.owner) as conn:
        owners = conn.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert owners == [("penpot",)]
    with connect(penpot.telemetry) as conn:
        for statement in ("SELECT FROM audit_log", "SELECT FROM server_prop", "SELECT FROM profile"):
            with pytest.raises(errors.InsufficientPrivilege):
                conn.execute(statement)
        with pytest.raises(errors.InsufficientPrivilege, match="for database"):
            conn.execute("CREATE SCHEMA mine")
        with pytest.raises(errors.InsufficientPrivilege, match="for schema public"):
            conn.execute("CREATE TABLE mine ()")


def test_the_indexes_of_audit_log_are_penpots(penpot: PenpotDatabase) -> None:
    with connect(penpot.owner) as conn:
        found = conn.execute("SELECT indexname FROM pg_indexes WHERE tablename = 'audit_log' ORDER BY 1").fetchall()
    assert [name for (name,) in found] == [
        "audit_log__archived_at__idx",
        "audit_log__created_at__idx",
        "audit_log__source__created_at__idx",
        "audit_log_pkey",
    ]


def test_a_telemetry_row_has_its_times_cut_to_the_day_and_an_id_that_tells_the_millisecond(
    penpot: PenpotDatabase,
) -> None:
    with connect(penpot.owner) as conn:
        (row_id,) = penpot_schema.insert_penpot_rows(conn, 1, at=NOON)
        found = conn.execute(
            "SELECT id, created_at, tracked_at, host(ip_addr), props ->> '~:route', context ->> '~:browser'"
            " FROM audit_log"
        ).fetchone()
    midnight = NOON.replace(hour=0, minute=0, second=0)
    assert found == (row_id, midnight, midnight, "0.0.0.0", "dashboard-files", "Chrome")  # noqa: S104
    assert row_id.version == 8
    assert (row_id.int >> 14 & (1 << 48) - 1) == (NOON - penpot_schema.EPOCH) // timedelta(milliseconds=1)


def test_ids_of_one_millisecond_differ() -> None:
    ids = PenpotIds()
    assert len({ids.make(NOON) for _ in range(16_384)}) == 16_384


def test_the_purge_takes_old_telemetry_rows_and_leaves_the_audit_log_of_others(penpot: PenpotDatabase) -> None:
    now = datetime.now(UTC)
    with connect(penpot.owner) as conn:
        penpot_schema.insert_penpot_rows(conn, 2, "telemetry:frontend", at=now - timedelta(days=9))
        kept = penpot_schema.insert_penpot_rows(conn, 2, "telemetry:backend", at=now - timedelta(days=5))
        others = penpot_schema.insert_penpot_rows(conn, 2, "backend", at=now - timedelta(days=9))
        assert penpot_schema.purge_older_than(conn, 7) == 2
        assert _ids(conn) == {*kept, *others}


def test_penpots_own_sender_takes_the_oldest_rows_and_not_those_of_this_project(penpot: PenpotDatabase) -> None:
    with connect(penpot.owner) as conn:
        old = penpot_schema.insert_penpot_rows(conn, 2, at=NOON - timedelta(days=1))
        new = penpot_schema.insert_penpot_rows(conn, 1, "telemetry:backend", at=NOON)
        ours = penpot_schema.insert_penpot_rows(conn, 1, "telemetry", at=NOON - timedelta(days=2))
        assert set(penpot_schema.ship_as_penpot(conn, 2)) == set(old)
        assert _ids(conn) == {*new, *ours}


def test_a_profile_is_not_deleted_by_a_plain_delete(penpot: PenpotDatabase) -> None:
    with connect(penpot.owner) as conn:
        penpot_schema.insert_profile(conn, f"{uuid4().hex}@example.org")
        with pytest.raises(errors.RaiseException, match="unable to proceed"):
            conn.execute("DELETE FROM profile")


def test_the_instance_id_is_stored_as_the_quoted_value_of_verbose_transit(penpot: PenpotDatabase) -> None:
    with connect(penpot.owner) as conn:
        found = conn.execute("SELECT content, preload FROM server_prop WHERE id = 'instance-id'").fetchone()
    assert found == ({"~#'": f"~u{INSTANCE_ID}"}, True)


def _ids(conn: "psycopg.Connection[tuple[object, ...]]") -> set[UUID]:
    return {row_id for (row_id,) in conn.execute("SELECT id FROM audit_log") if isinstance(row_id, UUID)}
