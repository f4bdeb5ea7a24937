"""The legacy report, made from a Penpot's tables that are full of names, addresses and domains: none of them leaves."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import Connection, errors
from psycopg.sql import SQL, Identifier

from penpot_telemetry import legacy_report
from penpot_telemetry.legacy_report import Stats
from penpot_telemetry.wire import payload
from receiver.intake import decode
from tests.integration import penpot_schema
from tests.integration.penpot_schema import INSTANCE_ID, PenpotDatabase

NOW = datetime.now(UTC)

PLANTED = (
    "ada@analytical.example",
    "analytical.example",
    "grace@navy.example",
    "Ada Lovelace",
    "Grace Hopper",
    "Plans for the Engine",
    "Engine Team",
    "design.analytical.example",
    "a comment of Ada's",
    "Engine Sans",
    "weekly snapshot of Ada",
)
"""What a person wrote, or what names a person or a firm. It is in the tables, and may not be in the report."""


@pytest.fixture
def penpot(postgres: Mapping[str, str]) -> Iterator[PenpotDatabase]:
    """A live Penpot's database, in which the sender's role has what `grants` says."""
    with penpot_schema.penpot_database(postgres) as database:
        with connect(database.owner) as owner:
            for statement in legacy_report.grants(penpot_schema.TELEMETRY):
                owner.execute(statement.encode())
        yield database


def connect(parameters: Mapping[str, str]) -> Connection:
    """An autocommit connection."""
    return psycopg.connect(**parameters, autocommit=True)  # type: ignore[arg-type]


def read(parameters: Mapping[str, str]) -> Stats:
    """What the report says, as a role reads it."""
    with connect(parameters) as conn, legacy_report.snapshot(conn):
        return legacy_report.read_stats(conn)


def fill(conn: Connection) -> None:
    """Four people, a team, three projects of the team, files, threads, fonts and changes, with what is planted.

    Each profile brings a default team with a default project, so there are five teams and seven projects.
    """
    ada = penpot_schema.insert_profile(conn, "ada@analytical.example", "Ada Lovelace", "oidc")
    grace = penpot_schema.insert_profile(conn, "grace@navy.example", "Grace Hopper", "penpot")
    penpot_schema.insert_profile(conn, "old@navy.example", "Old", None)
    penpot_schema.insert_profile(conn, "odd@navy.example", "Odd", "Grace <grace@navy.example>")
    team, *projects = (uuid4() for _ in range(4))
    conn.execute("INSERT INTO team (id, name) VALUES (%s, 'Engine Team')", (team,))
    for profile in (ada, grace):
        conn.execute("INSERT INTO team_profile_rel (team_id, profile_id) VALUES (%s, %s)", (team, profile))
    for project in projects:
        conn.execute("INSERT INTO project (id, team_id, name) VALUES (%s, %s, 'Plans for the Engine')", (project, team))
    files = [uuid4() for _ in range(4)]  # three in the first project, one in the second, none in the third
    for file, project in zip(files, (projects[0], projects[0], projects[0], projects[1]), strict=True):
        conn.execute("INSERT INTO file (id, project_id, name) VALUES (%s, %s, 'Plans for the Engine')", (file, project))
    for seqn, file in enumerate((files[0], files[0], files[0], files[1])):
        add_thread(conn, file, ada, seqn)
    for font in range(2):
        conn.execute(
            "INSERT INTO team_font_variant (team_id, font_id, font_family, font_weight, font_style)"
            " VALUES (%s, %s, 'Engine Sans', %s, 'normal')",
            (team, uuid4(), 400 + font),
        )
    midnight = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
    for file, at in ((files[0], midnight), (files[0], NOW), (files[0], NOW), (files[2], NOW)):
        conn.execute(
            "INSERT INTO file_change (file_id, created_at, label) VALUES (%s, %s, 'weekly snapshot of Ada')", (file, at)
        )
    conn.execute(
        "INSERT INTO file_change (file_id, created_at) VALUES (%s, %s)", (files[3], midnight - timedelta(days=1))
    )
    conn.execute("INSERT INTO server_prop (id, content) VALUES ('public-uri', '\"https://design.analytical.example\"')")


def add_thread(conn: Connection, file: UUID, owner: UUID, seqn: int) -> None:
    """A thread with one comment."""
    thread = uuid4()
    conn.execute(
        'INSERT INTO comment_thread (id, file_id, owner_id, page_id, participants, seqn, "position", page_name)'
        " VALUES (%s, %s, %s, %s, '[]', %s, '(1,2)', 'Plans for the Engine')",
        (thread, file, owner, uuid4(), seqn),
    )
    conn.execute(
        "INSERT INTO comment (thread_id, owner_id, content) VALUES (%s, %s, 'a comment of Ada''s')", (thread, owner)
    )


def add_events(conn: Connection) -> None:
    """Today's events by three names, one of which is a sentence; yesterday's; and the audit log, which is not sent."""
    penpot_schema.insert_penpot_rows(conn, 3, "telemetry:frontend", at=NOW, name="navigate")
    penpot_schema.insert_penpot_rows(conn, 2, "telemetry:backend", at=NOW, name="update-file")
    penpot_schema.insert_penpot_rows(conn, 1, "telemetry", at=NOW, name="navigate")
    penpot_schema.insert_penpot_rows(conn, 1, "telemetry:frontend", at=NOW, name="Ada Lovelace was here")
    penpot_schema.insert_penpot_rows(conn, 1, "telemetry:frontend", at=NOW, name="2026-07-20")
    penpot_schema.insert_penpot_rows(conn, 5, "telemetry:frontend", at=NOW - timedelta(days=1), name="navigate")
    penpot_schema.insert_penpot_rows(conn, 7, "backend", at=NOW, name="login-with-password")


# By hand, from `fill` and `add_events`. Penpot rounds its averages to whole numbers: 7 projects on 5 teams are 1.4,
# 4 files in 7 projects are 0.57, 4 threads on 4 files are 1, 6 members in 5 teams are 1.2.
TRUTH = {
    "total-teams": 5,
    "total-projects": 7,
    "total-files": 4,
    "total-users": 4,
    "total-fonts": 2,
    "total-comments": 4,
    "total-file-changes": 3,
    "total-touched-files": 2,
    "avg-projects-on-team": 1,
    "max-projects-on-team": 3,
    "avg-files-on-project": 1,
    "max-files-on-project": 3,
    "avg-comment-threads-on-file": 1,
    "max-comment-threads-on-file": 3,
    "avg-users-on-team": 1,
    "max-users-on-team": 2,
    "auth-backend-oidc": 1,
    "auth-backend-penpot": 2,
    "auth-backend-other": 1,
    "total-accomulated-events": 8,
    "event-counters": {"navigate": 4, "update-file": 2},
}


def test_the_figures_are_those_that_were_counted_by_hand(penpot: PenpotDatabase) -> None:
    with connect(penpot.owner) as conn:
        fill(conn)
        add_events(conn)
    found = read(penpot.telemetry)
    assert dict(found.values) == TRUTH
    assert found.missing == ()


def test_nothing_that_a_person_wrote_is_in_the_bytes(penpot: PenpotDatabase) -> None:
    with connect(penpot.owner) as conn:
        fill(conn)
        add_events(conn)
    body = legacy_report.build_report(read(penpot.telemetry), "2.17.0", INSTANCE_ID)
    assert [planted for planted in PLANTED if planted.encode() in body] == []
    assert b"@" not in body
    assert b"example" not in body


def test_the_keys_that_name_a_place_or_a_person_are_not_sent_at_all(penpot: PenpotDatabase) -> None:
    with connect(penpot.owner) as conn:
        fill(conn)
    sent = json.loads(legacy_report.build_report(read(penpot.telemetry), "2.17.0", INSTANCE_ID))
    assert sent["type"] == "telemetry-legacy-report"
    assert sent["version"] == "2.17.0"
    assert sent["instance-id"] == str(INSTANCE_ID)
    assert not sent.get("subscriptions")
    assert set(sent["stats"]) & {"public-uri", "referer", "email-domains"} == set()
    assert [key for key in sent["stats"] if key.startswith(("jvm-", "os-", "user-"))] == []


def test_an_empty_penpot_has_counts_and_no_averages(penpot: PenpotDatabase) -> None:
    found = read(penpot.telemetry).values
    assert found["total-teams"] == 0
    assert found["event-counters"] == {}
    assert [key for key in found if key.startswith(("avg-", "max-", "auth-"))] == []


def test_the_receiver_takes_the_report(penpot: PenpotDatabase) -> None:
    with connect(penpot.owner) as conn:
        fill(conn)
        add_events(conn)
    report = decode.decode_body(legacy_report.build_report(read(penpot.telemetry), "2.17.0", INSTANCE_ID))
    assert isinstance(report, decode.Report)
    assert report.instance_id == INSTANCE_ID
    assert {key: value for key, value in report.stats.items() if key.startswith(("total-", "avg-", "max-"))} == {
        key: value for key, value in TRUTH.items() if key.startswith(("total-", "avg-", "max-"))
    }


def test_a_table_that_is_not_there_leaves_out_its_own_figures_and_is_named(penpot: PenpotDatabase) -> None:
    with connect(penpot.owner) as conn:
        fill(conn)
        add_events(conn)
        conn.execute("DROP TABLE comment, comment_thread")
    found = read(penpot.telemetry)
    gone = {"total-comments", "avg-comment-threads-on-file", "max-comment-threads-on-file"}
    assert dict(found.values) == {key: value for key, value in TRUTH.items() if key not in gone}
    assert [line.partition(":")[0] for line in found.missing] == ["comment", "file, comment_thread"]
    assert all("not in this database" in line for line in found.missing)


def test_a_right_that_is_not_there_leaves_out_its_own_figures_and_is_named(penpot: PenpotDatabase) -> None:
    with connect(penpot.owner) as conn:
        fill(conn)
        conn.execute("REVOKE ALL ON profile FROM telemetry")
        conn.execute("REVOKE ALL (auth_backend) ON profile FROM telemetry")
    found = read(penpot.telemetry)
    assert [key for key in found.values if key == "total-users" or key.startswith("auth-")] == []
    assert found.values["total-teams"] == TRUTH["total-teams"]
    assert [line.partition(",")[0] for line in found.missing] == ["profile: no right to read"] * 2


def test_the_role_of_the_report_can_not_read_an_address_or_a_name(penpot: PenpotDatabase) -> None:
    with connect(penpot.telemetry) as conn:
        for column in ("email", "fullname", "props", "id"):
            with pytest.raises(errors.InsufficientPrivilege):
                conn.execute(SQL("SELECT {} FROM profile").format(Identifier(column)))


def test_the_report_is_of_one_moment(penpot: PenpotDatabase) -> None:
    with connect(penpot.owner) as owner, connect(penpot.telemetry) as conn, legacy_report.snapshot(conn):
        before = legacy_report.read_stats(conn)
        fill(owner)
        assert legacy_report.read_stats(conn) == before


def test_nothing_can_be_written_while_it_is_read(penpot: PenpotDatabase) -> None:
    with (
        pytest.raises(errors.ReadOnlySqlTransaction),
        connect(penpot.owner) as conn,
        legacy_report.snapshot(conn),
    ):
        conn.execute("DELETE FROM audit_log")


def test_the_day_is_utcs_whatever_the_session_says(penpot: PenpotDatabase) -> None:
    midnight = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
    with connect(penpot.owner) as conn:
        penpot_schema.insert_penpot_rows(conn, 1, at=midnight - timedelta(hours=1), name="yesterday")
        penpot_schema.insert_penpot_rows(conn, 1, at=NOW, name="today")
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
        with connect({**penpot.telemetry, "options": f"-c TimeZone={zone}"}) as conn, legacy_report.snapshot(conn):
            assert legacy_report.read_stats(conn).values["event-counters"] == {"today": 1}


def test_events_by_more_names_than_a_report_may_have_are_in_its_total(penpot: PenpotDatabase) -> None:
    with connect(penpot.owner) as conn:
        penpot_schema.insert_penpot_rows(conn, 1010, at=NOW)
        conn.execute("UPDATE audit_log SET name = 'made-up-' || number FROM (SELECT id, row_number() OVER () AS number"
                     " FROM audit_log) numbered WHERE numbered.id = audit_log.id")  # fmt: skip
    found = read(penpot.telemetry).values
    counters = found["event-counters"]
    assert isinstance(counters, Mapping)
    assert len(counters) == legacy_report.MOST_NAMES
    assert found["total-accomulated-events"] == 1010


def test_a_report_reads_back_as_what_was_built() -> None:
    body = legacy_report.build_report(Stats({"total-teams": 3}), "2.17.0", INSTANCE_ID)
    parsed = payload.parse(body)
    assert isinstance(parsed, payload.LegacyReport)
    assert parsed.stats == {"total-teams": 3}
