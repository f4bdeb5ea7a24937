"""Any order of recording, shipping, failing, dying, coming back and meddling: after every step every event is in one
place, and both accounts say so.

The sender and its Postgres are real, requests go through a real socket, and behind it stand the receiver's own pipeline
and DuckDB. A neighbour writes to the table, odd rows too, and deletes from it, between any two statements of a pass and
while a request is under way; the network answers anything. Hypothesis chooses the order; each event has a mark.
"""

import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import repeat
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from penpot_telemetry import account, connection, dead_letters, lease, ledger, outbox, pass_report, pipeline, reconcile
from penpot_telemetry.config import Settings
from penpot_telemetry.endpoint import Endpoint
from penpot_telemetry.errors import BusyError, DatabaseError
from penpot_telemetry.status import read_status
from penpot_telemetry.wire import payload
from penpot_telemetry.wire.batch import EventRow, decode_columns, encode_events
from tests.conftest import NOON, TEMPLATE, make_events
from tests.crash.house import Answer, Front, House, open_front
from tests.property import neighbour
from tests.property.neighbour import Neighbour

STEPS = 90
EXAMPLES = int(os.environ.get("EXAMPLES", "4"))
GENEROUS = 100_000
SKEW = st.sampled_from([0, 0, 0, -1, 1])
PENPOT = UUID(int=7)

DELIVERED = ("delivered", "answer lost", "delivered twice", "receiver dies", "one of before", "refused all the same")
REUSED = "quarantined: id-reused"
LIES = (
    *("request lost", "unavailable", "204", "HTML", "a 200 without a word", "a receipt of another batch"),
    *("status 400", "status 401", "status 413", "status 422", "status 500", "status 302", "cut off", "drips"),
    *("quarantined: bad-fressian", "quarantined: wrong-shape", "quarantined: too-large", "quarantined: id-reused"),
    *("quarantined: wrong-digest", "quarantined: bad-signature", "quarantined: superseded", "quarantined: nonsense"),
)
NETWORK = st.lists(st.sampled_from([*DELIVERED, *DELIVERED, *LIES]), max_size=6)
"""What becomes of the first requests of a pass; those after them are delivered. The batch of a lie does not arrive."""

REFUSED_ALL_THE_SAME = (400, 403, 413, 422)

COUNT = st.integers(1, 12)
CAP = st.sampled_from([GENEROUS, GENEROUS, 20])
MEDDLING = st.one_of(st.none(), st.integers(0, 2**16), st.integers(0, 2**16))
"""The dice of the neighbour, or no neighbour."""


def marks_of(body: bytes) -> list[str]:
    """The marks of a batch: the names of its events, and the type of one without a name."""
    columns = decode_columns(json.loads(body)["events"])
    return [name or kind for name, kind in zip(columns.name, columns.type, strict=True)]


class Flow(RuleBasedStateMachine):
    """One Penpot and one receiver. `made` is the mark of every row that there ever was, by id."""

    server: Mapping[str, str]
    front: Front
    steps = 0
    moves = 0

    def __init__(self) -> None:
        super().__init__()
        self.name = f"flow_{uuid4().hex[:12]}"
        self.admin = psycopg.connect(**self.server, autocommit=True)  # type: ignore[arg-type]
        self.admin.execute(f"CREATE DATABASE {self.name} TEMPLATE {TEMPLATE}")
        self.database = {**self.server, "dbname": self.name}
        self.neighbour = Neighbour(neighbour.connect(self.database))
        self.neighbour.conn.execute(neighbour.WITNESS)
        self.made = self.neighbour.made
        self.folder = Path(tempfile.mkdtemp(prefix="house-"))
        self.house = House(self.folder, NOON)
        self.settings = Settings(
            telemetry=True,
            audit_log=False,
            data_dir=self.folder,
            version="2.18.0",
            endpoint=Endpoint(self.front.url),
            database=self.database,
            read_timeout=20.0,  # more than a busy machine takes: no answer is lost but those that a rule loses
            request_timeout=20.0,
            attempts=2,
            retry_wait=0.001,
            retry_wait_max=0.001,
        )
        self.foreign: set[str] = set()
        self.poison: set[str] = set()
        self.bodies: list[bytes] = []
        self.late: list[bytes] = []
        self.given_up: set[UUID] = set()
        self.network: Iterator[str] = iter(())
        self.lock = threading.Lock()
        self.faults: list[Exception] = []
        self.front.post = self.answer
        self.front.get = self.list_batches
        self.stack = ExitStack()
        self.conn = self.stack.enter_context(connection.connect(self.database))
        self.connect()
        self.record(1, 0)  # from here on the address is known to give receipts
        assert self.run_pass([]).shipped == 1

    def connect(self) -> None:
        """A new connection of the sender's."""
        self.stack.close()
        self.conn = self.stack.enter_context(connection.connect(self.database))
        self.watched = self.stack.enter_context(connection.connect(self.database))
        neighbour.meddle(self.watched, self.neighbour.act)

    def teardown(self) -> None:
        """Once nothing fails any more, everything arrives and the receiver knows what was lost."""
        try:
            self.poison.clear()
            self.deliver_late(len(self.late))
            self.record(1, 0)
            report = self.run_pass([], batch_rows=1000)
            assert (report.failure, report.pending) == (None, 0)
            self.events_are_in_one_place()
            reconcile.accept_missing(self.conn)
            self.record(1, 0)
            assert self.run_pass([], batch_rows=1000).shipped >= 1
            state = account.read_state(self.conn)
            found = self.house.read_account()
            assert found.lost_at_senders == state.dropped + state.quarantined
            assert found.missing_batches == 0
            settled = sum(entry.outcome == "accepted" for entry in ledger.read_ledger(self.conn))
            found_ledger = ledger.verify(self.conn, Endpoint(self.front.url), self.settings)
            assert (found_ledger.agreed, found_ledger.mismatches) == (settled, [])
            Flow.moves += self.neighbour.moves
        finally:
            self.leave()

    def leave(self) -> None:
        """Nothing of it stays."""
        self.front.post, self.front.get = (lambda _: (503, b"")), (lambda _: (503, b""))  # lets go of the house
        self.house.store.close()
        self.stack.close()
        self.neighbour.conn.close()
        self.admin.execute(f"DROP DATABASE {self.name} WITH (FORCE)")
        self.admin.close()
        shutil.rmtree(self.folder)

    # -- the network

    def answer(self, body: bytes) -> Answer:
        """What one request meets, while the neighbour is at work."""
        with self.lock:
            self.neighbour.act()
            self.front.cut, self.front.drip = None, 0.0
            try:
                return self.meet(next(self.network, "delivered"), body)
            except Exception as error:
                self.faults.append(error)
                raise
            finally:
                self.neighbour.act()

    def list_batches(self, path: str) -> Answer:
        """The receiver's ledger."""
        with self.lock:
            self.front.cut, self.front.drip = None, 0.0
            return 200, self.house.list_batches(path)

    def meet(self, meets: str, body: bytes) -> Answer:
        """The answer to a body that meets this."""
        if meets == REUSED:  # only a receiver that has this id with other events says so, and never loads the body
            self.late = [other for other in self.late if other != body]
            meets = "delivered" if body in self.bodies else meets
        if meets in LIES:
            if meets != REUSED:
                self.late.append(body)
            return self.lie(meets, body)
        if not self.poison.isdisjoint(marks_of(body)):
            self.late.append(body)
            return 400, b""
        if meets == "receiver dies":
            self.house.die_before_commit(body)
        if meets == "one of before" and self.bodies:
            self.house.take(self.bodies[0])
        self.bodies.append(body)
        if meets == "receiver dies":
            return None, b""
        if meets == "delivered twice":
            self.house.take(body)
        receipt = self.house.take(body)
        if meets == "refused all the same":
            return REFUSED_ALL_THE_SAME[len(self.bodies) % len(REFUSED_ALL_THE_SAME)], b""
        return (None, b"") if meets == "answer lost" else receipt

    def lie(self, kind: str, body: bytes) -> Answer:
        """An answer of something that is no receiver, or that loads nothing."""
        own = json.loads(body)
        receipt = {"status": "accepted", "batch-id": own["batch-id"], "digest": own["digest"], "events": 1}
        if kind == "request lost":
            return None, b""
        if kind.startswith("quarantined: "):
            return 200, json.dumps(receipt | {"status": "quarantined", "reason": kind.partition(": ")[2]}).encode()
        if kind == "a receipt of another batch":
            return 200, json.dumps(receipt | {"batch-id": str(uuid4())}).encode()
        if kind in {"cut off", "drips"}:
            self.front.cut, self.front.drip = (20, 0.0) if kind == "cut off" else (None, 0.1)
            return 200, json.dumps(receipt).encode()
        if kind.startswith("status "):
            return int(kind.partition(" ")[2]), b"<h1>no</h1>"
        plain = {"unavailable": (503, b""), "204": (204, b""), "HTML": (200, b"<!doctype html><title>Log in</title>")}
        return plain.get(kind, (200, b"{}"))

    # -- the sender

    def day_of(self, number: int, skew: int) -> datetime:
        """A day of its own for each event, so that the order of rows does not hang on their random ids."""
        return NOON + timedelta(days=number % 1500 + 1600 * skew)

    @rule(count=COUNT, skew=SKEW)
    def record(self, count: int, skew: int) -> None:
        """Events on later and later days, or out of order by years, as a wrong clock has it."""
        first = len(self.made)
        days = {n: self.day_of(n, skew) for n in range(first, first + count)}
        events = [event for n, day in days.items() for event in make_events(1, start=n, day=day)]
        assert pipeline.record_events(self.conn, events, self.settings).accepted == count
        found = self.conn.execute(
            "SELECT id, name FROM audit_log WHERE name = ANY(%s)", ([event.name for event in events],)
        ).fetchall()
        assert len(found) == count
        self.made.update(found)

    @rule(count=COUNT, skew=SKEW, network=NETWORK, cap=CAP, dice=MEDDLING)
    def ship_by_threes(self, count: int, skew: int, network: list[str], cap: int, dice: int | None) -> None:
        """One pass in small pages, in which the network does most of what it can do."""
        self.record(count, skew)
        self.run_pass(network, dice, batch_rows=3, cap_rows=cap)

    @rule(count=COUNT, skew=SKEW, network=NETWORK, cap=CAP, dice=MEDDLING)
    def ship_by_eights(self, count: int, skew: int, network: list[str], cap: int, dice: int | None) -> None:
        """One pass in larger pages."""
        self.record(count, skew)
        self.run_pass(network, dice, batch_rows=8, cap_rows=cap)

    @rule(count=COUNT, skew=SKEW, network=NETWORK, cap=CAP, dice=MEDDLING)
    def ship(self, count: int, skew: int, network: list[str], cap: int, dice: int | None) -> None:
        """One pass, of few pages."""
        self.record(count, skew)
        self.run_pass(network, dice, batch_rows=1000, cap_rows=cap)

    def run_pass(self, network: Iterable[str], dice: int | None = None, **changes: Any) -> pass_report.PassReport:
        """One pass over a network, beside a neighbour that throws dice, with other settings."""
        if isinstance(network, list):
            changes |= {"request_timeout": 0.5} if "drips" in network else {}
        self.network = iter(network)
        self.neighbour.rate = 0.0
        if dice is not None:
            self.neighbour.dice, self.neighbour.rate = Random(dice), (dice % 3 + 1) * 0.06  # noqa: S311
            self.neighbour.victim = self.watched.info.backend_pid if dice % 4 == 0 else 0
        try:
            return pipeline.run_pass(self.watched, replace(self.settings, **changes))
        except DatabaseError:
            assert self.watched.closed or self.watched.broken
            return pass_report.PassReport(failure="the connection was cut")
        finally:
            with self.lock:  # what is under way arrives
                self.network = iter(())
                self.neighbour.rate = 0.0
            if self.watched.closed:
                self.connect()

    @rule(cap=st.sampled_from([0, 5, 20, GENEROUS]), retention=st.sampled_from([None, None, 30]), dice=MEDDLING)
    def outage(self, cap: int, retention: int | None, dice: int | None) -> None:
        """A pass in which nothing gets through, and gc all the same."""
        report = self.run_pass(repeat("request lost"), dice, attempts=1, cap_rows=cap, retention_days=retention)
        frozen = outbox.fetch_batch(self.conn)
        assert report.shipped == 0
        if dice is None:
            assert report.pending <= max(cap, frozen.event_count if frozen else 0)

    @rule()
    def second_sender(self) -> None:
        """Another sender at once does nothing at all."""
        before = account.read_state(self.conn)
        with connection.connect(self.database) as other, lease.hold(other), pytest.raises(BusyError):
            pipeline.run_pass(self.conn, self.settings)
        assert account.read_state(self.conn) == before

    @rule(seed=st.integers(0, 2**16), count=st.integers(0, 3))
    def poison_some(self, seed: int, count: int) -> None:
        """Some of what waits is refused from now on, be it on the way already, and nothing else."""
        waiting = sorted(self.made[row_id] for row_id in self.waiting() if self.made[row_id])
        self.poison = set(Random(seed).sample(waiting, min(count, len(waiting))))  # noqa: S311  chosen by Hypothesis

    @rule(which=st.integers(0, 5), keep=st.booleans())
    def empty_quarantine(self, which: int, keep: bool) -> None:
        """One row, or all, out of the quarantine: back to be sent, or away for good."""
        rows = sorted(dead_letters.read_dead_letters(self.conn), key=lambda row: (row.name[:30], row.since))
        ids = [rows[which].id] if which < len(rows) else None
        chosen = ids or [row.id for row in rows]
        action = dead_letters.retry if keep else dead_letters.drop
        assert action(self.conn, ids) == len(chosen)
        if not keep:
            self.given_up |= set(chosen)

    @rule(seed=st.integers(0, 2**16), count=st.integers(1, 10), skew=SKEW, odd=st.sampled_from([None, False, True]))
    def penpot_writes(self, seed: int, count: int, skew: int, odd: bool | None) -> None:
        """Rows that Penpot itself wrote, odd ones too, are adopted by the next pass."""
        for _ in range(count):
            day = self.day_of(len(self.made), skew).isoformat()
            self.neighbour.write(Random(seed + len(self.made)), odd, day)  # noqa: S311  chosen by Hypothesis

    @rule(seed=st.integers(0, 2**16))
    def another_program_deletes(self, seed: int) -> None:
        """Rows that vanish are missing in the account, also of a batch in the outbox once that is refused."""
        self.neighbour.delete(Random(seed))  # noqa: S311  chosen by Hypothesis

    # -- the receiver

    @rule(dying=st.booleans())
    def restart_receiver(self, dying: bool) -> None:
        """The receiver stops and starts, or dies with something in hand that it had before."""
        with self.lock:
            if dying and self.bodies:
                self.house.die_before_commit(self.bodies[-1])
            else:
                self.house.restart()

    @rule(copies=st.integers(0, 2))
    def rebuild_warehouse(self, copies: int) -> None:
        """The warehouse is made anew, to the same content, though some of the landfill is there more than once."""
        with self.lock:
            before, folder = self.house.digest, self.house.places.landfill
            for n, file in enumerate(list(folder.glob("*.zst")) * copies):
                shutil.copyfile(file, folder / f"copy-{n}.zst")
            self.house.rebuild()
            assert self.house.digest == before
        for copy in folder.glob("copy-*.zst"):
            copy.unlink()

    @rule(minutes=st.integers(-29, 29))
    def skew_clock(self, minutes: int) -> None:
        """The receiver's clock jumps, by less than an hour: it refuses to stamp anything beyond that."""
        self.house.now = NOON + timedelta(minutes=minutes)

    @rule(seed=st.integers(0, 2**16), count=st.integers(1, 5))
    def repeat_bodies(self, seed: int, count: int) -> None:
        """What was delivered before comes again, in any order, some of it in one transaction."""
        chance = Random(seed)  # noqa: S311  chosen by Hypothesis
        receipts = self.house.receive(chance.choices(self.bodies, k=count)) if self.bodies else []
        assert {receipt.status for receipt in receipts} <= {"duplicate", "quarantined"}
        assert {receipt.reason for receipt in receipts if receipt.status == "quarantined"} <= {"superseded"}

    @rule(count=st.integers(1, 3))
    def deliver_late(self, count: int) -> None:
        """What was answered by somebody else, or by nobody, was on its way all the time and arrives now."""
        for _ in range(min(count, len(self.late))):
            body = self.late.pop(0)
            with self.lock:
                (receipt,) = self.house.receive([body])
            assert receipt.status in {"accepted", "duplicate"} or receipt.reason == "superseded"
            self.bodies.append(body)

    @rule(count=st.integers(1, 5), times=st.integers(1, 3))
    def penpot_sends(self, count: int, times: int) -> None:
        """A Penpot without batch ids sends a page, perhaps again and again."""
        names = [f"p-{n}" for n in range(len(self.foreign), len(self.foreign) + count)]
        rows = [EventRow(name, "action", "backend", 1_784_548_800_000, bytes(16), "{}", "{}") for name in names]
        body = payload.build_events(payload.EventsBatch("2.18.0", PENPOT, encode_events(rows)))
        receipts = [receipt for _ in range(times) for receipt in self.house.receive([body])]
        assert [receipt.status for receipt in receipts] == ["accepted"] + ["duplicate"] * (times - 1)
        self.foreign |= set(names)

    # -- what always holds

    def waiting(self) -> set[UUID]:
        """The rows in the sender's table."""
        return self.read_ids("SELECT id FROM audit_log")

    def read_ids(self, query: str) -> set[UUID]:
        """One column of ids."""
        return {row_id for (row_id,) in self.conn.execute(query).fetchall()}

    def arrived(self) -> set[UUID]:
        """The rows whose event is at the receiver, by their marks; each is there once."""
        marks = self.house.marks()
        assert {mark: number for mark, number in marks.items() if number != 1} == {}, "doubled"
        assert self.foreign <= marks.keys()
        ids = {mark: row_id for row_id, mark in self.made.items() if mark}
        return {ids[mark] for mark in marks.keys() - self.foreign}

    def doubtful(self) -> set[UUID]:
        """The rows of batches that were refused here, and arrived all the same or may do so yet."""
        refused = {str(entry.batch_id) for entry in ledger.read_ledger(self.conn) if entry.outcome == "refused"}
        marks = {
            mark
            for body in [*self.bodies, *self.late]
            if json.loads(body)["batch-id"] in refused
            for mark in marks_of(body)
        }
        return {row_id for row_id, mark in self.made.items() if mark in marks}

    @invariant()
    def events_are_in_one_place(self) -> None:
        """Sender: shipped, dropped, set aside, missing or waiting, by id. Receiver: what was received, once."""
        assert self.faults == []
        status = read_status(self.conn, self.settings)
        state = status.state
        arrived, doubtful, waiting = self.arrived(), self.doubtful(), self.waiting()
        frozen = self.read_ids("SELECT unnest(row_ids) FROM penpot_telemetry.outbox")
        aside = self.read_ids("SELECT id FROM penpot_telemetry.quarantine")
        dropped = self.read_ids(neighbour.DROPPED) | self.given_up
        seen = self.read_ids(neighbour.SEEN) | waiting
        removed = self.neighbour.removed - frozen
        gone = (removed & seen) - aside - dropped - arrived
        # Every event is in one place.
        assert self.made.keys() - (arrived | waiting | frozen | aside | dropped | removed) == set(), "lost"
        assert not (waiting | frozen) & (aside | dropped)
        assert not aside & dropped
        assert arrived & (waiting | aside | dropped) <= frozen | doubtful
        # The account says which.
        assert status.adds_up == (status.missing == 0)
        assert (state.quarantined, status.dead_letters) == (len(aside), len(aside))
        assert state.dropped == len(dropped)
        assert status.pending == len(waiting | frozen)
        assert status.recorded == len(seen)
        # Red, when something is gone. What arrived although it was refused cannot be known by a row that vanished.
        assert len(gone) <= status.missing <= len(gone) + len(removed & seen & doubtful & arrived)
        found = self.house.read_account()
        assert found.adds_up, found.checks
        query = "SELECT count(*) FROM deliveries a JOIN deliveries b ON b.delivery_no = a.delivery_no + 1 "
        backwards = self.house.store.warehouse.con.execute(query + "WHERE b.received_at <= a.received_at").fetchall()
        assert backwards == [(0,)]
        Flow.steps += 1


def test_conservation_and_exactly_once_hold_after_every_step(postgres: Mapping[str, str]) -> None:
    Flow.server, Flow.steps = postgres, 0
    with open_front() as Flow.front:
        run_state_machine_as_test(
            Flow,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                derandomize="EXAMPLES" not in os.environ,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                phases=[Phase.generate],
            ),
        )
    assert Flow.steps > STEPS
    assert Flow.moves > STEPS // 2
