"""Runs schedules: a sender and a receiver as processes, a bad network between them, and a count of every single event.

Other programs write rows to the sender's table, odd ones too, and delete some, all the time; the database's server
ends connections and starts again. Each event carries a mark of its own. Triggers in the sender's database, which nobody
but the rig reads, note which rows were written, seen, put into a batch and deleted, and what the same transaction
counted as dropped. After a schedule the faults stop, all that waits is sent, a fresh event must pass, and every mark is
looked for: it must be in the warehouse once, or else among those that were dropped, set aside or deleted by another
program. Both sides' own accounts must say the same, and be red exactly when something is gone.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM
from typing import Any, Self
from uuid import UUID, uuid4

import psycopg
from psycopg import Connection

from penpot_telemetry import account, audit_log, connection, embedded_postgres, pipeline, schema
from penpot_telemetry.config import Settings
from penpot_telemetry.errors import DatabaseError
from penpot_telemetry.events import AuditEvent
from receiver.storage import connection as reading
from receiver.storage import paths
from tests.crash import neighbours, points
from tests.crash.proxy import Proxy
from tests.crash.schedule import READ_TIMEOUT, Kill, Pass, Schedule, make_schedule

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
PASS_SECONDS = 60.0
NOON = datetime(2026, 7, 20, 12, tzinfo=UTC)

WITNESS = """
CREATE SCHEMA witness;
CREATE TABLE witness.written (id uuid PRIMARY KEY, mark text);
CREATE TABLE witness.removed (id uuid PRIMARY KEY);
CREATE TABLE witness.seen (id uuid);
CREATE TABLE witness.batch (batch_id uuid, ids uuid[]);
CREATE TABLE witness.deleted (id uuid, step xid8 DEFAULT pg_current_xact_id());
CREATE TABLE witness.counted (dropped bigint, step xid8 DEFAULT pg_current_xact_id());
CREATE FUNCTION witness.note_written() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN INSERT INTO witness.written SELECT id, left(coalesce(nullif(name, ''), type), 40) FROM made;
      RETURN NULL; END$$;
CREATE FUNCTION witness.note_seen() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO witness.seen SELECT unnest(NEW.ids); RETURN NULL; END';
CREATE FUNCTION witness.note_batch() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO witness.batch VALUES (NEW.batch_id, NEW.row_ids); RETURN NULL; END';
CREATE FUNCTION witness.note_deleted() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO witness.deleted SELECT id FROM gone; RETURN NULL; END';
CREATE FUNCTION witness.note_counted() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO witness.counted VALUES (NEW.dropped - OLD.dropped); RETURN NULL; END';
CREATE TRIGGER witness_written AFTER INSERT ON audit_log
    REFERENCING NEW TABLE AS made FOR EACH STATEMENT EXECUTE FUNCTION witness.note_written();
CREATE TRIGGER witness_seen AFTER INSERT ON penpot_telemetry.entered
    FOR EACH ROW EXECUTE FUNCTION witness.note_seen();
CREATE TRIGGER witness_batch AFTER INSERT ON penpot_telemetry.outbox
    FOR EACH ROW EXECUTE FUNCTION witness.note_batch();
CREATE TRIGGER witness_deleted AFTER DELETE ON audit_log
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION witness.note_deleted();
CREATE TRIGGER witness_counted AFTER UPDATE ON penpot_telemetry.state
    FOR EACH ROW WHEN (NEW.dropped <> OLD.dropped) EXECUTE FUNCTION witness.note_counted();
"""

DROPPED = """
SELECT d.id FROM witness.deleted d JOIN (
    SELECT step, sum(dropped) AS dropped FROM witness.counted GROUP BY step
) c USING (step)
WHERE c.dropped = (SELECT count(*) FROM witness.deleted d WHERE d.step = c.step)
"""
"""What was deleted in a transaction that counted exactly so many as dropped: nothing else is an accounted drop."""

REFUSED = """
SELECT DISTINCT unnest(ids) FROM witness.batch JOIN penpot_telemetry.ledger USING (batch_id) WHERE outcome = 'refused'
"""
"""The rows of batches that were refused here, and may have arrived all the same."""

LEAVE_LEASE = """
UPDATE penpot_telemetry.state SET lease_owner = gen_random_uuid(), lease_since = now(), lease_pid = pg_backend_pid(),
    lease_started_at = NULL, lease_until = clock_timestamp() + make_interval(secs => %s)
"""
END_LEASE = "UPDATE penpot_telemetry.state SET lease_until = clock_timestamp() - interval '1 second'"
SENDERS = """
SELECT pid FROM pg_stat_activity WHERE datname = %s AND application_name = 'penpot-telemetry'
"""


class RigError(Exception):
    """The rig itself cannot go on."""


# -- what came of it -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Tally:
    """What schedules came to. `kills` counts deaths that happened, by victim and point; marks are named."""

    schedules: int = 0
    events: int = 0
    dropped: int = 0
    set_aside: int = 0
    written: int = 0
    removed: int = 0
    missing: int = 0
    batches: int = 0
    duplicates: int = 0
    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        """Put another tally's numbers to these."""
        self.schedules += other.schedules
        self.events += other.events
        self.dropped += other.dropped
        self.set_aside += other.set_aside
        self.written += other.written
        self.removed += other.removed
        self.missing += other.missing
        self.batches += other.batches
        self.duplicates += other.duplicates
        self.kills += other.kills
        self.faults += other.faults
        self.lost += other.lost
        self.doubled += other.doubled
        self.problems += other.problems

    @property
    def is_clean(self) -> bool:
        """Whether nothing is lost, nothing doubled and every account agrees."""
        return not (self.lost or self.doubled or self.problems)


# -- processes -------------------------------------------------------------------------------------------------------


class Children:
    """The processes that `tests.crash.children` forks: started, killed and waited for by pid."""

    def __init__(self, *sabotage: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.children", *sabotage],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._changed = threading.Condition()
        self._ready = False
        self._number = 0
        self._started: dict[int, int] = {}
        self._exits: dict[int, int] = {}
        self._died: dict[int, str] = {}
        self._asked: dict[int, str] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._until(lambda: self._ready)

    def close(self) -> None:
        """End all of them."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        self._process.stdout.close()

    def start(self, role: str, argv: Sequence[str], env: Mapping[str, str], out: Path, arms: Path | None = None) -> int:
        """Start the real entry point of a role; returns its pid."""
        with self._changed:
            self._number += 1
            number = self._number
        self._tell(run=role, argv=list(argv), env=dict(env), out=str(out), arms=str(arms or ""), number=number)
        self._until(lambda: number in self._started)
        return self._started[number]

    def kill(self, pid: int, point: str, signal: int = SIGKILL) -> None:
        """Send a signal, and remember why."""
        with self._changed:
            if pid in self._exits:
                return
            self._asked.setdefault(pid, point)
        self._tell(kill=pid, signal=int(signal))

    def wait(self, pid: int, seconds: float = PATIENCE) -> int | None:
        """The exit code, or None when it still runs."""
        with self._changed:
            self._changed.wait_for(lambda: pid in self._exits, seconds)
            return self._exits.get(pid)

    def point_of(self, pid: int) -> str:
        """Where a killed process died."""
        return self._died.get(pid) or self._asked.get(pid, "for no known reason")

    def _tell(self, **request: object) -> None:
        assert self._process.stdin is not None
        with self._changed:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()

    def _until(self, met: Any) -> None:
        with self._changed:
            if not self._changed.wait_for(met, PATIENCE):
                raise RigError("the process that starts the others does not answer")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            with self._changed:
                match said:
                    case {"ready": _}:
                        self._ready = True
                    case {"started": number, "pid": pid}:
                        self._started[number] = pid
                    case {"died": point, "pid": pid}:
                        self._died[pid] = point
                    case {"exit": code, "pid": pid}:
                        self._exits[pid] = code
                self._changed.notify_all()


class Armed:
    """The file that says where a process is to die."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._token = 0

    def set(self, kill: Kill | None, point: str | None = None) -> None:
        """Arm a point, or none."""
        self._token += 1
        if kill is None:
            self.path.unlink(missing_ok=True)
            return
        armed = {"token": self._token, "point": point or kill.point, "nth": kill.nth, "cut": kill.cut}
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(armed))
        new.rename(self.path)


@dataclass(slots=True)
class Receiver:
    """The receiver's process, started again on the same files and port whenever it is wanted."""

    children: Children
    folder: Path
    kills: Counter[tuple[str, str]]
    armed: Armed = field(init=False)
    port: int = 0
    pid: int | None = None
    starts: int = 0

    def __post_init__(self) -> None:
        self.armed = Armed(self.folder / "receiver.arms")

    @property
    def warehouse(self) -> Path:
        """The DuckDB file."""
        return self.folder / "telemetry.duckdb"

    @property
    def url(self) -> str:
        """Where it listens, without the proxy."""
        return f"http://127.0.0.1:{self.port}/"

    @property
    def is_dead(self) -> bool:
        """Whether it is not there, counting a death that was not seen yet."""
        if self.pid is not None and (code := self.children.wait(self.pid, 0)) is not None:
            if code != -SIGKILL:
                raise RigError(f"the receiver ended with {code}: {tail(self.out)}")
            self.kills["receiver", self.children.point_of(self.pid)] += 1
            self.pid = None
        return self.pid is None

    @property
    def out(self) -> Path:
        """What the latest process printed."""
        return self.folder / f"receiver-{self.starts}.out"

    def ensure(self) -> None:
        """Have it run and listen; one that dies while it starts is started again."""
        deadline = time.monotonic() + PATIENCE
        while self.is_dead:
            self.starts += 1
            argv = ["--warehouse", str(self.warehouse), "--port", str(self.port)]
            self.pid = self.children.start("receiver", argv, {}, self.out, self.armed.path)
            while "listening on " not in (printed := self.out.read_text() if self.out.exists() else ""):
                if self.children.wait(self.pid, 0.005) is not None:
                    break
                if time.monotonic() > deadline:
                    raise RigError(f"the receiver does not start: {tail(self.out)}")
            else:
                self.port = int(printed.partition("listening on ")[2].split()[0].rsplit(":", 1)[1].strip("/"))
                return
            if self.is_dead:
                self.armed.set(None)

    def kill(self, point: str) -> None:
        """SIGKILL, if it lives."""
        if (pid := self.pid) is not None:
            self.children.kill(pid, point)

    def kill_and_wait(self, point: str) -> None:
        """SIGKILL, and gone."""
        self.kill(point)
        if self.pid is not None:
            self.children.wait(self.pid)
        assert self.is_dead

    def stop(self) -> int | None:
        """SIGTERM, as an operator would; the exit code."""
        if self.is_dead or self.pid is None:
            return 0
        self.children.kill(self.pid, "SIGTERM", SIGTERM)
        code = self.children.wait(self.pid)
        self.pid = None
        return code


def tail(path: Path) -> str:
    """The last words of an output."""
    return path.read_text()[-600:] if path.exists() else "(nothing)"


# -- one schedule ----------------------------------------------------------------------------------------------------


@contextmanager
def connect(database: Mapping[str, str]) -> Iterator[Connection]:
    """A connection to a database as soon as it takes one: its server may just be starting again."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            conn = psycopg.connect(**database, autocommit=True)  # type: ignore[arg-type]
            break
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    with closing(conn):
        yield conn


@dataclass(slots=True)
class Sender:
    """One Penpot: its database, its marks, and the sender's process while one runs.

    `was_refused`: everything was, for a while, so that rows may be blamed for what was no fault of theirs.
    """

    seed: int
    settings: Settings
    env: Mapping[str, str]
    poison_every: int
    was_refused: bool
    count: int = 0
    pid: int | None = None

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection to the database."""
        assert self.settings.database is not None
        with connect(self.settings.database) as conn:
            yield conn

    def record(self, count: int) -> None:
        """Record events, each with a mark of its own, over some days; once, also when the server dies meanwhile."""
        names = [f"evt-{self.seed}-{n}" for n in range(self.count, self.count + count)]
        chance = Random(self.seed * 1000 + self.count)  # noqa: S311  a seed, so that a failure can be seen again
        events = []
        for n, name in enumerate(names, start=self.count + 1):
            day = NOON + timedelta(days=chance.randrange(3))
            profile_id = UUID(int=(self.seed << 64) | n)
            events.append(AuditEvent(name, "action", "frontend", day, day, profile_id, context={"browser": "Firefox"}))
        while names and not self._are_written(names):
            with suppress(psycopg.OperationalError, DatabaseError), self.connect() as conn:
                assert pipeline.record_events(conn, events, self.settings).accepted == count
        self.count += count

    def _are_written(self, names: Sequence[str]) -> bool:
        with suppress(psycopg.OperationalError), self.connect() as conn:
            found = conn.execute("SELECT count(*) FROM witness.written WHERE mark = ANY(%s)", (names,)).fetchone()
            return found == (len(names),)
        return False

    def is_poison(self, mark: str) -> bool:
        """Whether the network refuses a mark."""
        number = mark.rpartition("-")[2]
        return self.poison_every > 0 and number.isdigit() and int(number) % self.poison_every == 0


class Rig:
    """One receiver and its files for some schedules, each with a sender of its own."""

    def __init__(self, server: Mapping[str, str], template: str, folder: Path, *sabotage: str) -> None:
        self.server = server
        self.template = template
        self.folder = folder
        self.children = Children(*sabotage)
        self.tally = Tally()
        self.sender: Sender | None = None
        self.seen: dict[UUID, Counter[str]] = {}
        self._passes = 0
        self._watched = threading.Lock()
        self.receiver = Receiver(self.children, folder, self.tally.kills)
        try:
            self.receiver.ensure()
            self.proxy = Proxy(self.receiver.port, self._kill)
            self.proxy.start()
        except BaseException:
            self.children.close()
            raise
        self.armed = Armed(folder / "sender.arms")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.proxy.close()
        self.children.close()

    def _kill(self, victim: str, point: str) -> None:
        """For the proxy and for timers: end the sender or the receiver, now."""
        if victim == "receiver":
            self.receiver.kill(point)
        elif self.sender is not None and (pid := self.sender.pid) is not None:
            self.children.kill(pid, point)
            self.children.wait(pid, 5)

    # -- running

    def run(self, schedule: Schedule) -> Tally:
        """One schedule to its end; what it came to is added to the rig's tally, and returned."""
        before = self.tally.kills.copy()
        self.proxy.counts.clear()
        came = Tally(schedules=1)
        with self._database(schedule) as sender:
            self.sender = sender
            try:
                for step in schedule.passes:
                    self._run_pass(sender, step, came)
                self._calm(sender, came)
                self._verify(sender, came)
            except RigError as error:
                came.problems.append(str(error))
                self._verify(sender, came)
            finally:
                self.sender = None
        came.problems = [f"seed {schedule.seed}: {problem}" for problem in came.problems]
        came.faults = self.proxy.counts.copy()
        self.tally.add(came)
        came.kills = self.tally.kills - before
        return came

    @contextmanager
    def _database(self, schedule: Schedule) -> Iterator[Sender]:
        name = f"crash_{uuid4().hex[:12]}"
        with connect(self.server) as admin:
            admin.execute(f"CREATE DATABASE {name} TEMPLATE {self.template}")
        try:
            was_refused = any(step.refusing for step in schedule.passes)
            settings = Settings(True, False, self.folder, "2.18.0", database={**self.server, "dbname": name})
            yield Sender(schedule.seed, settings, self._environ(schedule, name), schedule.poison, was_refused)
        finally:
            with connect(self.server) as admin:
                admin.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def _environ(self, schedule: Schedule, name: str) -> Mapping[str, str]:
        host, user = self.server["host"], self.server["user"]
        return {
            "PENPOT_FLAGS": "enable-telemetry",
            "PENPOT_DATABASE_URI": f"postgresql:///{name}?host={host}&user={user}",
            "PENPOT_TELEMETRY_URI": self.proxy.url,
            "PENPOT_TELEMETRY_PAGE_ROWS": str(schedule.batch_rows),
            "PENPOT_TELEMETRY_CAP_ROWS": str(100_000 if schedule.cap is None else schedule.cap),
            "PENPOT_TELEMETRY_READ_TIMEOUT": str(READ_TIMEOUT),
            "PENPOT_TELEMETRY_ATTEMPTS": "2",
            "PENPOT_TELEMETRY_RETRY_WAIT": "0.01",
            "PENPOT_TELEMETRY_RETRY_WAIT_MAX": "0.02",
        }

    def _run_pass(self, sender: Sender, step: Pass, came: Tally) -> None:
        sender.record(step.record)
        self.proxy.is_poison = sender.is_poison
        self.proxy.refusing = step.refusing
        self.proxy.faults = deque(fault for fault in step.faults if fault.kind != "none")
        at_sender = next((kill for kill in step.kills if kill.victim == "sender"), None)
        at_receiver = next((kill for kill in step.kills if kill.victim == "receiver"), None)
        if step.down:
            self.receiver.kill_and_wait("outage")
        else:
            self.receiver.ensure()
            self._arm_receiver(at_receiver)
        self.armed.set(at_sender if at_sender and at_sender.point in points.SENDER else None)
        if step.lease == "left behind":
            with sender.connect() as conn:
                conn.execute(LEAVE_LEASE, (step.moment,))
        timers = self._make_timers(sender, step)
        with self._neighbours(sender) if step.neighbours else nullcontext():
            out = self._start_sender(sender)
            for timer in timers:
                timer.start()
            other = self._start_other(sender) if step.second else None
            if step.during:
                sender.record(step.during)
            try:
                self._watch(sender, came, out, may_return=step.back and not step.down, at_receiver=at_receiver)
            finally:
                for timer in timers:
                    timer.cancel()
                    timer.join()
        if other is not None and (code := self.children.wait(other)) not in (0, 1):
            came.problems.append(f"a second sender ended with {code}: {tail(self.folder / 'other.out')}")
        self.proxy.settle()
        self.proxy.send_late(step.late)
        self._arm_replay(at_receiver)

    def _make_timers(self, sender: Sender, step: Pass) -> Sequence[threading.Timer]:
        """What happens at a moment of a pass, whatever the sender does then."""
        timers = [
            threading.Timer(kill.after, self._kill, (kill.victim, kill.point))
            for kill in step.kills
            if kill.point == points.RANDOM_MOMENT
        ]
        if step.database:
            work = self._cut_connection if step.database == "cut" else self._crash_database
            timers.append(threading.Timer(step.moment, work, (sender,)))
        if step.lease == "taken over":
            timers.append(threading.Timer(step.moment, self._take_over, (sender,)))
        return timers

    def _arm_receiver(self, kill: Kill | None) -> None:
        """Where the receiver is to die; to die in a replay it first must have something to replay."""
        if kill is None or kill.point not in points.RECEIVER:
            self.receiver.armed.set(None)
        elif points.RECEIVER[kill.point].group == "replay":
            self.receiver.armed.set(kill, "rows in, before the commit")
        else:
            self.receiver.armed.set(kill)

    def _arm_replay(self, kill: Kill | None) -> None:
        is_replay = kill is not None and kill.point in points.RECEIVER and points.RECEIVER[kill.point].group == "replay"
        self.receiver.armed.set(kill if is_replay and self.receiver.is_dead else None)

    def _start_sender(self, sender: Sender, **more: str) -> Path:
        self._passes += 1
        out = self.folder / f"sender-{self._passes}.out"
        env = {**sender.env, **more}
        sender.pid = self.children.start("sender", ["run", "--json"], env, out, self.armed.path)
        return out

    @contextmanager
    def _neighbours(self, sender: Sender) -> Iterator[None]:
        """Two processes, one that writes and one that deletes, which are killed at the end."""
        database, out = json.dumps(dict(sender.settings.database or {})), self.folder / "neighbours.out"
        seed = f"{sender.seed}-{self._passes}"
        pids = [self.children.start(role, [database, seed], {}, out) for role in neighbours.ROLES]
        try:
            yield
        finally:
            for pid in pids:
                self.children.kill(pid, "a neighbour")
                self.children.wait(pid)

    def _cut_connection(self, sender: Sender) -> None:
        """The server ends the connections of all senders."""
        with suppress(psycopg.Error), sender.connect() as conn:
            assert sender.settings.database is not None
            for (pid,) in conn.execute(SENDERS, (sender.settings.database["dbname"],)).fetchall():
                conn.execute("SELECT pg_terminate_backend(%s)", (pid,))
                self.proxy.counts["database: connection cut"] += 1

    def _crash_database(self, sender: Sender) -> None:
        """A backend dies by SIGKILL, so the server ends all others and starts again with recovery."""
        with suppress(psycopg.Error), sender.connect() as conn:
            found = conn.execute("SELECT pg_backend_pid()").fetchone()
            assert found is not None
            self.proxy.counts["database: killed, and recovered"] += 1
            os.kill(found[0], SIGKILL)

    def _take_over(self, sender: Sender) -> None:
        """The sender stands still until another one that took its lease over has done its pass."""
        if (pid := sender.pid) is None:
            return
        self.children.kill(pid, "", SIGSTOP)
        try:
            with suppress(psycopg.Error), sender.connect() as conn:
                conn.execute("SET lock_timeout = '200ms'")
                conn.execute(END_LEASE)
                out = self.folder / "taking-over.out"
                other = self.children.start("sender", ["run", "--json"], sender.env, out)
                self.children.wait(other, 3)
                self.children.kill(other, "took too long")
                self.proxy.counts["lease: taken over"] += 1
        finally:
            self.children.kill(pid, "", SIGCONT)

    def _start_other(self, sender: Sender) -> int:
        return self.children.start("sender", ["run", "--json"], sender.env, self.folder / "other.out")

    def _watch(
        self, sender: Sender, came: Tally, out: Path, *, may_return: bool, at_receiver: Kill | None
    ) -> dict[str, Any] | None:
        """Wait for the sender; its report, if it lived to make one. A receiver that died may return meanwhile."""
        assert sender.pid is not None
        deadline = time.monotonic() + PASS_SECONDS
        while (code := self.children.wait(sender.pid, 0.02)) is None:
            if self.receiver.is_dead and may_return:
                self._arm_replay(at_receiver)
                self.receiver.ensure()
            if time.monotonic() > deadline:
                self.children.kill(sender.pid, "it hung")
                self.children.wait(sender.pid)
                raise RigError(f"the sender hangs: {tail(out)}")
        pid, sender.pid = sender.pid, None
        if code == -SIGKILL:
            self.tally.kills["sender", self.children.point_of(pid)] += 1
            return None
        report = next((json.loads(line) for line in out.read_text().splitlines() if line.startswith("{")), None)
        is_busy = "another sender is at work" in out.read_text()
        if code not in (0, 1) or (report is None and not is_busy):
            came.problems.append(f"the sender ended with {code}: {tail(out)}")
        out.unlink()
        return dict(report) if report is not None else None

    # -- afterwards

    def _calm(self, sender: Sender, came: Tally) -> None:
        """No more faults: all that waits is sent, earlier requests come once more, and a fresh event passes."""
        self.armed.set(None)
        self.receiver.ensure()
        self.receiver.armed.set(None)
        self.proxy.faults.clear()
        self.proxy.is_poison = lambda _: False
        self.proxy.refusing = False
        self._drain(sender, came)
        self.proxy.send_late(len(self.proxy.late))
        sender.record(1)
        report = self._drain(sender, came)
        if report["shipped"] != 1:
            came.problems.append(f"a fresh event did not pass: {report}")
        self.proxy.settle()

    def _drain(self, sender: Sender, came: Tally) -> dict[str, Any]:
        report: dict[str, Any] | None = None
        with sender.connect():  # a server that was killed may still be at its recovery
            pass
        for _ in range(40):
            calm = {"PENPOT_TELEMETRY_READ_TIMEOUT": "20", "PENPOT_TELEMETRY_CAP_ROWS": "100000"}
            out = self._start_sender(sender, **calm)
            report = self._watch(sender, came, out, may_return=True, at_receiver=None)
            if report is not None and report["pending"] == 0 and report["failure"] is None:
                return report
            time.sleep(0.02)  # what a killed sender began may have to be rolled back first
        raise RigError(f"events still wait when nothing fails any more: {report}")

    def _verify(self, sender: Sender, came: Tally) -> None:
        with sender.connect() as conn:
            state = account.read_state(conn)
            known = read_rows(conn)
        assert state.instance_id is not None
        marks, aside = known.marks, known.aside
        with self._look() as con:
            found = read_marks(con, state.instance_id)
            query = "SELECT sum(dropped), sum(quarantined) FROM sender_loss WHERE instance_id = ?"
            known_loss = reading.one(con, query, [state.instance_id])
            query = "SELECT count(*) FROM sequence_gaps WHERE instance_id = ?"
            (gaps,) = reading.one(con, query, [state.instance_id])
            query = "SELECT count(*), coalesce(sum(repeats), 0)::BIGINT FROM batches WHERE instance_id = ?"
            came.batches, came.duplicates = reading.one(con, query, [state.instance_id])
        arrived = {row_id for row_id, mark in marks.items() if mark in found}
        away = known.dropped | aside | known.removed | known.waiting
        came.lost += sorted(marks[row_id] for row_id in marks.keys() - arrived - away)
        came.doubled += sorted(mark for mark, number in found.items() if number > 1)
        # What was refused may have arrived all the same, and a row that vanished while its batch was under way.
        came.doubled += sorted(marks[row_id] for row_id in arrived & (known.dropped | aside) - known.refused)
        self.seen[state.instance_id] = found
        came.events, came.dropped, came.set_aside = len(marks), len(known.dropped), len(aside)
        came.written = sum(not mark.startswith("evt-") for mark in marks.values())
        came.removed = len(known.removed)
        gone = (known.removed & known.seen) - arrived
        vague = arrived & known.refused & away
        innocents = [
            mark
            for row_id, mark in marks.items()
            if row_id in aside and mark.startswith(("evt-", "new-")) and not sender.is_poison(mark)
        ]
        came.missing = state.missing
        facts: Mapping[str, tuple[object, object]] = {
            "recorded": (state.recorded + state.tallied + state.adopted, len(known.seen)),
            "unknown marks": (sorted(found.keys() - set(marks.values())), []),
            "shipped": (state.shipped <= found.total() <= state.shipped + len(vague), True),
            "dropped": (state.dropped, len(known.dropped)),
            "set aside": (state.quarantined, len(aside)),
            "innocents set aside": ([] if sender.was_refused else sorted(innocents), []),
            "missing": (len(gone) <= state.missing <= len(gone) + len(vague & known.removed), True),
            "loss known at the receiver": (known_loss, (len(known.dropped), len(aside))),
            "gaps in the sequence": (gaps, 0),
            "rows that still wait": (len(known.waiting), 0),
            "rows that no look saw": (sorted(marks[row_id] for row_id in arrived - known.seen), []),
        }
        came.problems += [f"{name}: {left} is not {right}" for name, (left, right) in facts.items() if left != right]
        self._ask("sender", ["status", "--check"], sender.env, came, 1 if state.missing else 0)
        self._ask("sender", ["status", "--accept-missing"], sender.env, came)
        self._ask("sender", ["status", "--check"], sender.env, came)
        self._ask("sender", ["ledger", "verify", self.receiver.url], sender.env, came)
        self._ask("receiver", ["check", "--url", self.receiver.url], {}, came)

    def _ask(self, role: str, argv: Sequence[str], env: Mapping[str, str], came: Tally, expected: int = 0) -> str:
        """Run a command of an operator, which must end with a code."""
        out = self.folder / "asked.out"
        out.unlink(missing_ok=True)
        code = self.children.wait(self.children.start(role, argv, env, out))
        if code != expected:
            came.problems.append(f"{role} {' '.join(argv[:2])} ended with {code}: {tail(out)}")
        return out.read_text()

    @contextmanager
    def _look(self) -> Iterator[Any]:
        """A copy of the warehouse while nothing is under way: its own process holds the file."""
        copy = self.folder / "copy.duckdb"
        held = self.receiver.warehouse
        for source, target in ((held, copy), (paths.wal_of(held), paths.wal_of(copy))):
            target.unlink(missing_ok=True)
            if source.exists():
                shutil.copyfile(source, target)
        with closing(reading.connect(copy)) as con:
            yield con

    def finish(self) -> Tally:
        """Stop the receiver as an operator would; check, rebuild, and find every mark of every schedule again."""
        came = Tally()
        places = ["--warehouse", str(self.receiver.warehouse)]
        self.receiver.ensure()
        if (code := self.receiver.stop()) != 0:
            came.problems.append(f"the receiver ended with {code} after SIGTERM: {tail(self.receiver.out)}")
        self._ask("receiver", ["check", *places], {}, came)
        self._find_all(came)
        before = self._ask("receiver", ["digest", *places], {}, came)
        self._ask("receiver", ["rebuild", *places], {}, came)
        if self._ask("receiver", ["digest", *places], {}, came) != before:
            came.problems.append("the rebuilt warehouse has another content")
        self._find_all(came)
        self.tally.add(came)
        return came

    def _find_all(self, came: Tally) -> None:
        with closing(reading.connect(self.receiver.warehouse)) as con:
            for instance_id, marks in self.seen.items():
                compare(came, marks, read_marks(con, instance_id))


@dataclass(frozen=True, slots=True)
class Rows:
    """What the database's witness knows: the mark of every row by id, and where rows went, as ids."""

    marks: Mapping[UUID, str]
    removed: set[UUID]
    seen: set[UUID]
    dropped: set[UUID]
    aside: set[UUID]
    refused: set[UUID]
    waiting: set[UUID]


def read_rows(conn: Connection) -> Rows:
    """All that the witness noted."""

    def ids(query: str) -> set[UUID]:
        return {row_id for (row_id,) in conn.execute(query.encode()).fetchall()}

    return Rows(
        dict(conn.execute("SELECT id, mark FROM witness.written").fetchall()),
        ids("SELECT id FROM witness.removed"),
        ids("SELECT id FROM witness.seen"),
        ids(DROPPED),
        ids("SELECT id FROM penpot_telemetry.quarantine"),
        ids(REFUSED),
        ids("SELECT id FROM audit_log UNION SELECT unnest(row_ids) FROM penpot_telemetry.outbox"),
    )


def read_marks(con: Any, instance_id: UUID) -> Counter[str]:
    """How often each mark is in a warehouse; an event without a name has its mark as its type."""
    query = "SELECT coalesce(nullif(name, ''), type), count(*) FROM events WHERE instance_id = ? GROUP BY 1"
    return Counter(dict(con.execute(query, [instance_id]).fetchall()))


def compare(came: Tally, expected: Counter[str], found: Counter[str]) -> None:
    """Name every mark that should be there and is not, or is there more often than it should."""
    came.lost += sorted((expected - found).elements())
    came.doubled += sorted((found - expected).elements())


# -- a server for the senders' databases -------------------------------------------------------------------------------


@contextmanager
def open_server(folder: Path) -> Iterator[Mapping[str, str]]:
    """An embedded Postgres for as long as the rig runs. It is killed, and the machine is not, so it need not sync."""
    with embedded_postgres.serve(folder) as parameters:
        with psycopg.connect(**parameters, autocommit=True) as conn:  # type: ignore[arg-type]
            for setting in ("fsync", "full_page_writes"):
                conn.execute(f"ALTER SYSTEM SET {setting} = off")
            conn.execute("SELECT pg_reload_conf()")
        yield parameters


def make_template(server: Mapping[str, str]) -> str:
    """The name of a database that every sender starts from: an empty table, a fresh account, the rig's witness."""
    name = f"crash_template_{uuid4().hex[:8]}"
    with psycopg.connect(**server, autocommit=True) as admin:  # type: ignore[arg-type]
        admin.execute(f"CREATE DATABASE {name}")
    with connection.connect({**server, "dbname": name}) as conn:
        audit_log.create_table(conn)
        schema.ensure_schema(conn)
        conn.execute(WITNESS)
    return name


def run_schedules(seeds: Sequence[int]) -> Tally:
    """Schedules on one receiver and one Postgres, from the first to the rebuilt warehouse."""
    with (
        tempfile.TemporaryDirectory(prefix="crash-") as folder,
        tempfile.TemporaryDirectory(prefix="road-") as data,
    ):
        Path(data).chmod(0o755)
        with open_server(Path(data)) as server, Rig(server, make_template(server), Path(folder)) as rig:
            for seed in seeds:
                rig.run(make_schedule(seed))
            rig.finish()
            return rig.tally
