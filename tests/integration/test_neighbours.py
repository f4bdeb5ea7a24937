"""Beside a live Penpot: its schema as it is, its writers and its purge at work, and a role that owns nothing of it.

SECONDS in the environment says how long the writers write: 10 without it.
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import Connection, errors

from penpot_telemetry import connection, dead_letters, grants, pass_report, pipeline, reconcile
from penpot_telemetry.config import Settings
from penpot_telemetry.endpoint import Endpoint
from penpot_telemetry.events import AuditEvent
from penpot_telemetry.status import read_status
from tests.conftest import Receiver, accept, names_of
from tests.integration import penpot_schema
from tests.integration.penpot_schema import INSTANCE_ID, PenpotDatabase, PenpotIds
from tests.integration.receiving import ask, running

SECONDS = float(os.environ.get("SECONDS", "10"))
WEEK_AGO = datetime.now(UTC) - timedelta(days=8)


def connect(parameters: Mapping[str, str]) -> Connection:
    """An autocommit connection."""
    return psycopg.connect(**parameters, autocommit=True)  # type: ignore[arg-type]


@pytest.fixture
def penpot(postgres: Mapping[str, str]) -> Iterator[PenpotDatabase]:
    """A live Penpot's database, where the sender's role was granted what `grants` prints."""
    with penpot_schema.penpot_database(postgres) as database:
        with connect(database.superuser) as conn:
            for statement in grants.grant_statements(database.telemetry["user"], database.telemetry["dbname"]):
                conn.execute(statement.encode())
        yield database


@pytest.fixture
def beside(penpot: PenpotDatabase, settings: Settings) -> Settings:
    """Settings of a sender beside that Penpot."""
    return replace(settings, database=penpot.telemetry)


@dataclass
class Crew:
    """Threads that do something again and again until they are told to stop. What goes wrong in one is kept."""

    stop: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)
    faults: list[BaseException] = field(default_factory=list)

    def add(self, database: Mapping[str, str], work: Callable[[Connection], None], pause: float) -> None:
        """One more, on a connection of its own."""

        def go_on() -> None:
            try:
                with connect(database) as conn:
                    while not self.stop.is_set():
                        work(conn)
                        self.stop.wait(pause)
            except BaseException as error:  # for the test to show
                self.faults.append(error)

        thread = threading.Thread(target=go_on)
        self.threads.append(thread)
        thread.start()

    def end(self) -> None:
        """Stop, and show what went wrong."""
        self.stop.set()
        for thread in self.threads:
            thread.join()
        assert self.faults == []


@contextmanager
def crew() -> Iterator[Crew]:
    """Ends with the block."""
    found = Crew()
    try:
        yield found
    finally:
        found.stop.set()
        for thread in found.threads:
            thread.join()


class Marks:
    """Marks of its own for each event of one writer."""

    def __init__(self, writer: str) -> None:
        self.writer = writer
        self.made: list[str] = []

    def next(self) -> str:
        """One more."""
        self.made.append(f"{self.writer}-{len(self.made)}")
        return self.made[-1]


# -- three writers and a pass a second -------------------------------------------------------------------------------


class Writers:
    """Three writers, each with marks of its own: two of Penpot, and one that records through this package."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.frontend, self.backend, self.ours = Marks("front"), Marks("back"), Marks("ours")
        self.ids = [PenpotIds(), PenpotIds()]
        self.odd: set[str] = set()

    @property
    def made(self) -> set[str]:
        """All marks."""
        return {*self.frontend.made, *self.backend.made, *self.ours.made}

    def write_frontend(self, conn: Connection) -> None:
        """Five rows in a transaction: some are committed later than others that were written after them."""
        with conn.transaction():
            for _ in range(5):
                penpot_schema.insert_penpot_rows(conn, 1, name=self.frontend.next(), ids=self.ids[0])
            time.sleep(0.01)

    def write_backend(self, conn: Connection) -> None:
        """A row; every tenth one odd."""
        mark = self.backend.next()
        with conn.transaction():
            penpot_schema.insert_penpot_rows(conn, 1, "telemetry:backend", name=mark, ids=self.ids[1])
            if len(self.backend.made) % 10 == 0:
                conn.execute("UPDATE audit_log SET props = '[]' WHERE name = %s", (mark,))
                self.odd.add(mark)

    def write_ours(self, conn: Connection) -> None:
        """Three events of this package."""
        now = datetime.now(UTC)
        events = [AuditEvent(self.ours.next(), "action", "frontend", now, now, PenpotIds().make(now)) for _ in range(3)]
        assert pipeline.record_events(conn, events, self.settings).accepted == 3


def test_three_writers_and_a_pass_a_second_lose_nothing(
    penpot: PenpotDatabase, beside: Settings, tmp_path: Path
) -> None:
    writers = Writers(beside)
    checks: list[int] = []
    passes: list[pass_report.PassReport] = []

    def check(conn: Connection) -> None:
        status = read_status(conn, beside)
        assert status.adds_up, status
        checks.append(status.pending)

    with running(tmp_path / "receiver") as receiver:
        settings = replace(beside, endpoint=Endpoint(receiver.url), batch_rows=200, data_dir=tmp_path)
        run_pass(settings)
        with crew() as others:
            others.add(penpot.owner, writers.write_frontend, 0.05)
            others.add(penpot.owner, writers.write_backend, 0.02)
            others.add(penpot.telemetry, writers.write_ours, 0.05)
            others.add(penpot.telemetry, check, 0.2)
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                began = time.monotonic()
                passes.append(run_pass(settings, lambda: time.monotonic() > end))
                time.sleep(max(0.0, 1 - (time.monotonic() - began)))
            others.end()
        passes.append(run_pass(settings))
        with connection.connect(penpot.telemetry) as conn:
            aside = {row.name for row in dead_letters.read_dead_letters(conn)}
            status = read_status(conn, settings)
        assert receiver.stop() == 0
    loaded = Counter(dict(ask(tmp_path / "receiver", "SELECT name, count(*) FROM events GROUP BY name")))
    print(  # noqa: T201  figures of a long run
        f"{SECONDS:.0f} s: {len(writers.made)} events, {len(passes)} passes, {len(loaded)} loaded, {len(aside)} set "
        f"aside, {len(checks)} checks, at most {max(checks)} waited"
    )
    assert [report.failure for report in passes if report.failure] == []
    assert {mark: number for mark, number in loaded.items() if number > 1} == {}
    assert loaded.keys() | aside == writers.made
    assert not loaded.keys() & aside
    assert aside <= writers.odd
    assert (status.adds_up, status.missing, status.pending) == (True, 0, 0)
    assert sum(report.dead_letters for report in passes) == 0
    assert len(checks) > SECONDS


def run_pass(settings: Settings, stopped: Callable[[], bool] = lambda: False) -> pass_report.PassReport:
    """A pass on a connection of its own."""
    with connection.open_database(settings) as conn:
        return pipeline.run_pass(conn, settings, stopped=stopped)


# -- Penpot's purge --------------------------------------------------------------------------------------------------


def test_penpots_purge_and_acknowledgements_never_stop_each_other(
    penpot: PenpotDatabase, beside: Settings, receiver: Receiver
) -> None:
    """Both delete the same rows at the same time, all of them older than a week."""
    settings = replace(beside, endpoint=Endpoint(receiver.url), batch_rows=200)
    marks, removed = Marks("old"), []
    ids = PenpotIds()

    def write(conn: Connection) -> None:
        with conn.transaction():
            for _ in range(40):
                penpot_schema.insert_penpot_rows(conn, 1, at=WEEK_AGO, name=marks.next(), ids=ids)

    def purge(conn: Connection) -> None:
        removed.append(penpot_schema.purge_older_than(conn))

    reports: list[pass_report.PassReport] = []
    with crew() as others:
        others.add(penpot.owner, write, 0.0)
        others.add(penpot.owner, write, 0.0)
        others.add(penpot.owner, purge, 0.02)
        end = time.monotonic() + min(SECONDS, 30) / 2
        while time.monotonic() < end:
            reports.append(run_pass(settings))
        others.end()
    reports.append(run_pass(settings))
    assert [report.failure for report in reports if report.failure] == []
    arrived = Counter(name for body in receiver.bodies for name in names_of(body))
    assert max(arrived.values(), default=1) == 1
    with connection.connect(penpot.telemetry) as conn:
        status = read_status(conn, settings)
        assert status.pending == 0
        # What was purged in its outbox batch arrived; what was purged before a look was never seen.
        assert status.missing <= sum(removed)
        assert status.adds_up == (status.missing == 0)
        assert status.recorded == len(arrived) + status.missing
        reconcile.accept_missing(conn)
        assert read_status(conn, settings).adds_up
    assert sum(removed) > 0


def test_a_purge_that_holds_rows_for_long_is_waited_for_and_not_aborted(
    penpot: PenpotDatabase, beside: Settings, receiver: Receiver
) -> None:
    """The purge deletes one row, waits, and deletes one that the sender holds by then, in another order."""
    settings = replace(beside, endpoint=Endpoint(receiver.url))
    with connect(penpot.owner) as conn:
        penpot_schema.insert_penpot_rows(conn, 20, name="row")
    faults: list[Exception] = []

    def purge() -> None:
        try:
            with connect(penpot.owner) as conn, conn.transaction():
                ids = [row_id for (row_id,) in conn.execute("SELECT id FROM audit_log ORDER BY id DESC").fetchall()]
                for row_id in ids:
                    conn.execute("DELETE FROM audit_log WHERE id = %s", (row_id,))
                    time.sleep(0.1)
        except errors.Error as error:
            faults.append(error)

    thread = threading.Thread(target=purge)

    def reply(body: bytes) -> tuple[int, bytes]:
        thread.start()
        time.sleep(0.3)
        return accept(body)

    receiver.reply = reply
    report = run_pass(settings)
    thread.join()
    assert faults == []
    assert (report.shipped, report.failure, report.missing) == (20, None, 0)
    with connection.connect(penpot.telemetry) as conn:
        assert read_status(conn, settings).adds_up


# -- the operator's day ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Operator:
    """Runs the documented commands as processes, with a role's rights."""

    role: Mapping[str, str]
    url: str
    folder: Path

    def __call__(self, command: str, code: int = 0, **environ: str) -> str:
        """What a command printed on stdout."""
        uri = f"postgresql:///{self.role['dbname']}?host={self.role['host']}"
        env = {
            **{name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "PYTHONPATH", "LANG"}},
            "PENPOT_FLAGS": "enable-telemetry",
            "PENPOT_DATABASE_URI": uri,
            "PENPOT_DATABASE_USERNAME": self.role["user"],
            "PENPOT_DATABASE_PASSWORD": self.role.get("password", ""),
            "PENPOT_TELEMETRY_URI": self.url,
            "PENPOT_TELEMETRY_DATA": str(self.folder),
            **environ,
        }
        start = "import sys; from penpot_telemetry.cli import main; main(sys.argv[1:])"
        found = subprocess.run(
            [sys.executable, "-c", start, *shlex.split(command)],
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert found.returncode == code, (command, found.stdout, found.stderr)
        assert "Traceback" not in found.stderr
        return found.stdout if code == 0 else found.stderr


def test_the_operators_day_beside_a_penpot(postgres: Mapping[str, str], tmp_path: Path) -> None:
    """Grants, a dry run, a preview, passes, a look at everything: with a role that may create nothing."""
    with penpot_schema.penpot_database(postgres) as penpot, running(tmp_path / "receiver") as receiver:
        day = Operator(penpot.telemetry, receiver.url, tmp_path)
        with connect(penpot.owner) as conn:
            penpot_schema.insert_penpot_rows(conn, 7, name="front")
            penpot_schema.insert_penpot_rows(conn, 5, "telemetry:backend", name="back")
            penpot_schema.insert_penpot_rows(conn, 3, "frontend", name="nobody's telemetry")
            conn.execute(
                "INSERT INTO audit_log (name, type, profile_id, props, source, context) VALUES"
                " ('odd', 'action', gen_random_uuid(), %s, 'telemetry:frontend', '{}')",
                ('{"~:route":"' + "x" * 1_100_000 + '"}',),
            )
        assert "grants" in day("run", code=1)  # before: one line that says what to do
        printed = day(f"grants {penpot.telemetry['user']} --database {penpot.telemetry['dbname']}")
        with connect(penpot.superuser) as conn:
            for line in printed.splitlines():
                if not line.startswith("--"):
                    conn.execute(line.encode())
        assert json.loads(day("run --dry-run --json"))["pending"] == 13
        assert len(json.loads(day("preview --all --json"))["events"]) == 12
        assert json.loads(day("status --json --check"))["pending"] == 13
        report = json.loads(day("run --json"))
        assert (report["shipped"], report["quarantined"], report["pending"]) == (12, 1, 0)
        assert json.loads(day("status --json"))["written-by-penpot"] == 13
        assert str(INSTANCE_ID) in day("instance-id")
        assert "odd" in day("quarantine list")
        assert "put back 1 rows" in day("quarantine retry --all")
        assert json.loads(day("run --json"))["quarantined"] == 1
        assert "dropped 1 rows" in day("quarantine drop --all")
        assert "1" in day("ledger list")
        day(f"ledger verify {receiver.url}")
        day("status --check")
        with connect(penpot.owner) as conn:
            assert conn.execute("SELECT count(*) FROM audit_log").fetchone() == (3,)  # nobody's telemetry
            penpot_schema.insert_penpot_rows(conn, 4, name="front")
        day("run")
        with connect(penpot.owner) as conn:
            penpot_schema.insert_penpot_rows(conn, 2, at=WEEK_AGO, name="front")
        day("run", PENPOT_TELEMETRY_URI="http://127.0.0.1:9/", code=1)
        with connect(penpot.owner) as conn:
            assert penpot_schema.purge_older_than(conn) == 2
        day("run")
        day("status --check")  # they were in the outbox
        assert receiver.stop() == 0
        assert ask(tmp_path / "receiver", "SELECT count(*) FROM events") == [(18,)]


@pytest.mark.parametrize("has_run", [False, True])
def test_a_role_that_may_only_read_looks_at_everything(
    has_run: bool,
    beside: Settings,
    penpot: PenpotDatabase,
    receiver: Receiver,
    tmp_path: Path,
) -> None:
    with connect(penpot.owner) as conn:
        penpot_schema.insert_penpot_rows(conn, 6, name="front")
    if has_run:
        run_pass(replace(beside, endpoint=Endpoint(receiver.url)))
        with connect(penpot.owner) as conn:
            penpot_schema.insert_penpot_rows(conn, 6, name="front")
    with connect(penpot.superuser) as conn:
        conn.execute("DROP ROLE IF EXISTS looker")
        conn.execute(f"CREATE ROLE looker LOGIN PASSWORD '{penpot_schema.PASSWORD}'".encode())
        conn.execute("ALTER ROLE looker SET default_transaction_read_only = on")
        statements = grants.grant_statements("looker", penpot.owner["dbname"], read_only=True)
        for statement in statements if has_run else statements[:-2]:
            conn.execute(statement.encode())
    try:
        look = Operator({**penpot.telemetry, "user": "looker"}, receiver.url, tmp_path)
        assert json.loads(look("status --json --check"))["pending"] == 6
        assert json.loads(look("run --dry-run --json"))["pending"] == 6
        assert len(json.loads(look("preview --all --json"))["events"]) == 6
        assert "Traceback" not in look("run", code=1)
        if has_run:
            assert "accepted" in look("ledger list")
            look("quarantine list")
    finally:
        with connect(penpot.superuser) as conn:
            conn.execute("DROP OWNED BY looker; DROP ROLE looker")


def test_a_hot_standby_shows_what_waits(penpot: PenpotDatabase, receiver: Receiver, tmp_path: Path) -> None:
    with connect(penpot.owner) as conn:
        penpot_schema.insert_penpot_rows(conn, 6, name="front")
    with open_standby(penpot.superuser) as standby:
        look = Operator({**penpot.telemetry, **standby}, receiver.url, tmp_path)
        assert json.loads(look("status --json --check"))["pending"] == 6
        assert json.loads(look("run --dry-run --json"))["pending"] == 6
        assert len(json.loads(look("preview --all --json"))["events"]) == 6
        assert "this one only reads" in look("run", code=1)


@contextmanager
def open_standby(server: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """A hot standby of a server, by the programs that came with it; where it is reached."""
    with connect(server) as conn:
        found = conn.execute("SELECT setting FROM pg_config() WHERE name = 'BINDIR'").fetchone()
        place = conn.execute("SHOW data_directory").fetchone()
    assert found is not None and place is not None
    programs, owner = Path(found[0]), Path(place[0]).stat()
    user = owner.st_uid if os.getuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="standby-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        data = folder / "data"
        data.mkdir(mode=0o700)
        if user is not None:
            os.chown(folder, owner.st_uid, owner.st_gid)
            os.chown(data, owner.st_uid, owner.st_gid)

        def call(program: str, *options: str) -> None:
            subprocess.run(
                [programs / program, *options], user=user, cwd="/", check=True, stdout=subprocess.DEVNULL, timeout=120
            )

        source = ("-h", server["host"], "-U", server["user"])
        call("pg_basebackup", *source, "-D", str(data), "-R", "-X", "stream", "-c", "fast")  # awaits no checkpoint
        start = f"-c listen_addresses= -c unix_socket_directories={folder}"
        call("pg_ctl", "start", "-w", "-D", str(data), "-l", str(folder / "log"), "-o", start)
        try:
            yield {"host": str(folder)}
        finally:
            call("pg_ctl", "stop", "-m", "immediate", "-D", str(data))
