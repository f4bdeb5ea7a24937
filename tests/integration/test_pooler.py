"""Behind PgBouncer in transaction mode: a connection of the server's belongs to nobody, and every transaction may get
another one. A pass ships, two senders are never at work at once, and no setting of ours reaches another client.

The pooler is Debian's own. Without it these tests are skipped; PENPOT_TELEMETRY_REQUIRE_POOLER=1 makes that a failure.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from pwd import getpwuid

import psycopg
import pytest

from penpot_telemetry import account, connection, lease, ledger, pass_report, pipeline
from penpot_telemetry.config import Settings
from penpot_telemetry.errors import BusyError
from penpot_telemetry.status import read_status
from tests.conftest import Receiver, accept, make_events, names_of

PGBOUNCER = shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin")
REQUIRED = os.environ.get("PENPOT_TELEMETRY_REQUIRE_POOLER") == "1"

pytestmark = pytest.mark.skipif(PGBOUNCER is None and not REQUIRED, reason="needs pgbouncer")

PASSWORD = "only in tests"  # noqa: S105
CONFIG = """
[databases]
* = host={host} port={port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
admin_users = pooler
pool_mode = transaction
default_pool_size = {size}
max_client_conn = 50
ignore_startup_parameters = extra_float_digits,options
server_tls_sslmode = disable
pidfile =
logfile =
"""


@dataclass(frozen=True, slots=True)
class Pooler:
    """A PgBouncer that listens on a port of this machine."""

    port: int
    user: str

    def reach(self, database: Mapping[str, str]) -> Mapping[str, str]:
        """The parameters of a database behind the pooler."""
        return {"host": "127.0.0.1", "port": str(self.port), "user": self.user, "dbname": database["dbname"]}

    def command(self, words: str) -> None:
        """A command of its console."""
        here = {"host": "127.0.0.1", "port": str(self.port), "user": "pooler", "dbname": "pgbouncer"}
        with closing(psycopg.connect(**here, autocommit=True)) as console:  # type: ignore[arg-type]
            psycopg.ClientCursor(console).execute(words.encode())


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@contextmanager
def open_pooler(postgres: Mapping[str, str], size: int = 3) -> Iterator[Pooler]:
    """A PgBouncer before the embedded server: `size` connections of the server for all clients of a database."""
    assert PGBOUNCER is not None, "PENPOT_TELEMETRY_REQUIRE_POOLER=1, and pgbouncer is not installed"
    with tempfile.TemporaryDirectory(prefix="pooler-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        pooler = Pooler(free_port(), postgres["user"])
        config = folder / "pgbouncer.ini"
        config.write_text(
            CONFIG.format(
                host=postgres["host"], port=postgres.get("port", "5432"), listen=pooler.port, folder=folder, size=size
            )
        )
        (folder / "users").write_text(f'"{postgres["user"]}" ""\n"pooler" ""\n')
        # Only the server's user gets to its socket, and a pooler is never root.
        owner = Path(postgres["host"]).stat().st_uid
        user = ["-u", getpwuid(owner).pw_name] if os.getuid() == 0 else []
        with (folder / "log").open("w") as log:
            process = subprocess.Popen([PGBOUNCER, *user, str(config)], stdout=log, stderr=log)
        try:
            wait_for_port(process, pooler.port, folder / "log")
            yield pooler
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for_port(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    """Until something listens there."""
    for _ in range(200):
        assert process.poll() is None, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def pooler(postgres: Mapping[str, str]) -> Iterator[Pooler]:
    """A pooler with three connections."""
    with open_pooler(postgres) as found:
        yield found


@pytest.fixture
def pooled(pooler: Pooler, shipping: Settings) -> Settings:
    """Settings that ship from the test's database through the pooler."""
    assert shipping.database is not None
    return replace(shipping, database=pooler.reach(shipping.database))


def run_pass(settings: Settings) -> pass_report.PassReport:
    """A pass on a connection of its own, opened as `run` opens it."""
    with connection.open_database(settings) as conn:
        return pipeline.run_pass(conn, settings)


def record(settings: Settings, count: int, start: int = 0) -> None:
    """Events, recorded through the pooler too."""
    with connection.open_database(settings) as conn:
        pipeline.record_events(conn, make_events(count, start=start), settings)


def sender_process(settings: Settings, **environ: str) -> "subprocess.Popen[str]":
    """`penpot-telemetry run` as a process of its own."""
    assert settings.database is not None and settings.endpoint is not None
    at = {"port": "5432", **settings.database}
    env = {
        **os.environ,
        "PENPOT_FLAGS": "enable-telemetry",
        "PENPOT_DATABASE_URI": f"postgresql:///{at['dbname']}?host={at['host']}&port={at['port']}",
        "PENPOT_DATABASE_USERNAME": at["user"],
        "PENPOT_TELEMETRY_URI": settings.endpoint.url,
        "PENPOT_TELEMETRY_RETRY_WAIT": str(settings.retry_wait),
        "PENPOT_TELEMETRY_RETRY_WAIT_MAX": str(settings.retry_wait_max),
        **environ,
    }
    return subprocess.Popen(
        [sys.executable, "-m", "penpot_telemetry.run", "--json"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# -- passes ----------------------------------------------------------------------------------------------------------


def test_passes_ship_through_a_pooler_and_the_account_adds_up(pooled: Settings, receiver: Receiver) -> None:
    for number in range(3):
        record(pooled, 50, 50 * number)
        assert run_pass(replace(pooled, batch_rows=20)).shipped == 50
    assert sorted(name for body in receiver.bodies for name in names_of(body)) == sorted(f"e-{n}" for n in range(150))
    with connection.open_database(pooled) as conn:
        assert read_status(conn, pooled).adds_up
        assert account.read_state(conn).shipped == 150


def test_a_sender_as_a_process_ships_through_a_pooler(pooled: Settings, receiver: Receiver) -> None:
    record(pooled, 30)
    process = sender_process(pooled)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads(out)["shipped"] == 30
    assert len(receiver.bodies) == 1


# -- the lease -------------------------------------------------------------------------------------------------------


def test_two_senders_are_never_at_work_at_once(pooled: Settings, receiver: Receiver) -> None:
    at_work: list[int] = []
    most: list[int] = []

    def reply(body: bytes) -> tuple[int, bytes]:
        at_work.append(1)
        most.append(len(at_work))
        time.sleep(0.02)
        at_work.pop()
        return accept(body)

    receiver.reply = reply
    record(pooled, 60)
    outcomes: list[str] = []

    def send() -> None:
        try:
            outcomes.append("shipped" if run_pass(replace(pooled, batch_rows=5)).shipped else "nothing")
        except BusyError:
            outcomes.append("busy")

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert outcomes.count("shipped") == 1
    assert len(outcomes) == 4
    names = [name for body in receiver.bodies for name in names_of(body)]
    assert sorted(names) == sorted(f"e-{n}" for n in range(60))


def test_a_killed_sender_blocks_the_others_until_its_lease_ends_and_no_longer(
    pooled: Settings, receiver: Receiver, database: Mapping[str, str]
) -> None:
    """Behind a pooler nobody sees that it is gone: its connection lives on in the pool."""
    reached = threading.Event()

    def hang(_: bytes) -> tuple[int, bytes]:
        reached.set()
        time.sleep(2)
        return 503, b""

    receiver.reply = hang
    record(pooled, 5)
    process = sender_process(pooled)
    assert reached.wait(30)
    process.kill()
    process.communicate(timeout=10)
    receiver.reply = accept
    with pytest.raises(BusyError, match="its lease lasts until"):
        run_pass(pooled)
    with connection.connect(database) as conn:
        found = conn.execute(
            "SELECT extract(epoch FROM lease_until - clock_timestamp())::float FROM penpot_telemetry.state"
        ).fetchone()
        assert found is not None
        assert 0 < found[0] < pooled.request_timeout + pooled.retry_wait_max + lease.MARGIN
        conn.execute("UPDATE penpot_telemetry.state SET lease_until = clock_timestamp()")  # the time has passed
    assert run_pass(pooled).shipped == 5
    assert receiver.bodies[0] == receiver.bodies[-1]


def test_a_connection_that_the_pooler_ends_does_not_let_a_second_sender_work(
    pooled: Settings, pooler: Pooler, receiver: Receiver
) -> None:
    """PgBouncer ends the server's connections at their age, or on RECONNECT, while a sender waits for its answer."""
    second: list[str] = []

    def reply(body: bytes) -> tuple[int, bytes]:
        if not second:
            second.append("")
            pooler.command("RECONNECT")
            time.sleep(0.5)
            try:
                run_pass(pooled)
            except BusyError as error:
                second[0] = str(error)
        return accept(body)

    receiver.reply = reply
    record(pooled, 5)
    report = run_pass(pooled)
    assert "another sender is at work" in second[0]
    assert (report.shipped, report.failure) == (5, None)
    assert len(receiver.bodies) == 1


def test_a_sender_whose_lease_was_taken_changes_nothing_any_more(pooled: Settings, receiver: Receiver) -> None:
    """It wakes up behind the other one, whose work stands."""
    shipped: list[int] = []

    def reply(body: bytes) -> tuple[int, bytes]:
        if not shipped:
            shipped.append(0)
            with connection.open_database(pooled) as conn:
                conn.execute("UPDATE penpot_telemetry.state SET lease_until = clock_timestamp()")
            shipped[0] = run_pass(pooled).shipped
        return accept(body)

    receiver.reply = reply
    record(pooled, 5)
    with pytest.raises(pipeline.lease.LeaseLostError):  # type: ignore[attr-defined]
        run_pass(pooled)
    assert shipped == [5]
    assert receiver.bodies[0] == receiver.bodies[1]
    with connection.open_database(pooled) as conn:
        assert (read_status(conn, pooled).adds_up, account.read_state(conn).shipped) == (True, 5)


# -- what other clients of the pool see ------------------------------------------------------------------------------

SETTINGS = ("datestyle", "timezone", "lock_timeout", "statement_timeout", "standard_conforming_strings")


def test_no_setting_of_a_sender_reaches_another_client_of_the_pool(
    postgres: Mapping[str, str], shipping: Settings, receiver: Receiver
) -> None:
    assert shipping.database is not None
    with open_pooler(postgres, size=1) as pooler:  # one connection of the server for everybody
        behind = pooler.reach(shipping.database)
        settings = replace(shipping, database=behind)

        def read() -> list[object]:
            with closing(psycopg.connect(**behind, autocommit=True, prepare_threshold=None)) as conn:  # type: ignore[arg-type]
                rows = [conn.execute(b"SHOW " + name.encode()).fetchone() for name in SETTINGS]
                return [row[0] for row in rows if row]

        before = read()
        seen: list[list[object]] = []

        def reply(body: bytes) -> tuple[int, bytes]:
            seen.append(read())
            return accept(body)

        receiver.reply = reply
        record(settings, 20)
        assert run_pass(replace(settings, batch_rows=5)).shipped == 20
        assert seen == [before] * 4
        assert read() == before


# -- databases that say something else -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "setting",
    [
        "datestyle = 'SQL, DMY'",
        "standard_conforming_strings = off",
        "timezone = 'America/St_Johns'",
        "bytea_output = escape",
    ],
)
@pytest.mark.parametrize("is_pooled", [False, True])
def test_a_pass_ships_whatever_the_database_sets(
    setting: str, is_pooled: bool, pooled: Settings, shipping: Settings, receiver: Receiver
) -> None:
    settings = pooled if is_pooled else shipping
    assert shipping.database is not None
    name = shipping.database["dbname"]
    with connection.connect(shipping.database) as conn:
        conn.execute(f"ALTER DATABASE {name} SET {setting}".encode())
    record(settings, 5)
    with connection.open_database(settings) as conn:
        conn.execute(
            "INSERT INTO audit_log (name, type, created_at, tracked_at, profile_id, ip_addr, props, source, context)"
            r" VALUES (%s, 'action', '2026-02-13', '2026-02-13', gen_random_uuid(), '0.0.0.0', %s,"
            " 'telemetry:frontend', '{}')",
            (r"back\slash", r'{"~:route":"a\\b\"c"}'),
        )
    assert run_pass(settings).shipped == 6
    assert sorted(names_of(receiver.bodies[0])) == [r"back\slash", *(f"e-{n}" for n in range(5))]
    with connection.open_database(settings) as conn:
        (entry,) = ledger.read_ledger(conn)
        assert entry.settled_at >= entry.frozen_at
        assert read_status(conn, settings).adds_up


@pytest.mark.parametrize("is_pooled", [False, True])
def test_a_time_limit_of_the_database_ends_a_pass_in_one_line_with_a_remedy(
    is_pooled: bool, pooler: Pooler, pooled: Settings, shipping: Settings, receiver: Receiver
) -> None:
    settings = pooled if is_pooled else shipping
    assert shipping.database is not None
    name = shipping.database["dbname"]
    record(settings, 5)
    with connection.connect(shipping.database) as conn:
        conn.execute(  # each deletion takes longer than that
            "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN PERFORM pg_sleep(0.2); RETURN NULL; END';"
            "CREATE TRIGGER slowly AFTER DELETE ON audit_log FOR EACH STATEMENT EXECUTE FUNCTION slowly();"
            f"ALTER DATABASE {name} SET statement_timeout = '50ms'"
        )
    pooler.command("RECONNECT")  # what is in the pool began before
    _, err = sender_process(settings).communicate(timeout=60)
    assert err.count("\n") == 1
    assert "statement timeout" in err
    assert "SET statement_timeout = 0" in err
    with connection.connect(shipping.database) as conn:
        conn.execute(f"ALTER DATABASE {name} RESET statement_timeout".encode())
        conn.execute("SET statement_timeout = 0")
        conn.execute("DROP TRIGGER slowly ON audit_log")
    pooler.command("RECONNECT")
    assert run_pass(settings).shipped == 5
    assert receiver.bodies[0] == receiver.bodies[-1]


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1", "UTF8"])
@pytest.mark.parametrize("is_pooled", [False, True])
def test_a_database_in_another_encoding_ships_what_it_can_hold(  # noqa: PLR0913, PLR0917
    encoding: str,
    is_pooled: bool,
    postgres: Mapping[str, str],
    pooler: Pooler,
    shipping: Settings,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    name = f"encoded_{encoding.lower()}_{int(is_pooled)}"
    here = {**postgres, "dbname": name}
    settings = replace(shipping, database=pooler.reach(here) if is_pooled else here, create_table=True)
    with closing(psycopg.connect(**postgres, autocommit=True)) as admin:  # type: ignore[arg-type]
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'".encode())
        try:
            record(settings, 5)
            with connection.open_database(settings) as conn:
                conn.execute(
                    "INSERT INTO audit_log (name, type, created_at, tracked_at, profile_id, props, source, context)"
                    " VALUES ('caf\u00e9', 'action', '2026-02-13', '2026-02-13', gen_random_uuid(),"
                    " '{\"~:route\":\"\u00e9\"}', 'telemetry:frontend', '{}')"
                )
            report = run_pass(settings)
            assert (report.shipped, report.quarantined, report.failure) == (6, 0, None)
            assert sorted(names_of(receiver.bodies[0])) == ["caf\u00e9", *(f"e-{n}" for n in range(5))]
        finally:
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def test_a_value_that_is_no_utf_8_costs_its_row_alone(
    postgres: Mapping[str, str], shipping: Settings, receiver: Receiver
) -> None:
    """A database in SQL_ASCII takes any bytes."""
    here = {**postgres, "dbname": "encoded_bytes"}
    settings = replace(shipping, database=here, create_table=True)
    with closing(psycopg.connect(**postgres, autocommit=True)) as admin:  # type: ignore[arg-type]
        admin.execute("CREATE DATABASE encoded_bytes TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
        try:
            record(settings, 5)
            with closing(psycopg.connect(**here, autocommit=True, client_encoding="SQL_ASCII")) as conn:  # type: ignore[arg-type]
                conn.execute(
                    b"INSERT INTO audit_log (name, type, created_at, tracked_at, profile_id, props, source, context)"
                    b" VALUES ('caf\xe9', 'action', '2026-02-13', '2026-02-13', gen_random_uuid(),"
                    b" '{}', 'telemetry:frontend', '{}')"
                )
            report = run_pass(settings)
            assert (report.shipped, report.quarantined, report.failure) == (5, 1, None)
            assert sorted(names_of(receiver.bodies[0])) == [f"e-{n}" for n in range(5)]
        finally:
            admin.execute("DROP DATABASE encoded_bytes WITH (FORCE)")
