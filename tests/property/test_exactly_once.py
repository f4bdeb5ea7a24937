"""Any order of recording, shipping, failing, dying, coming back and meddling: after every step every event is in one
place, and both accounts say so.

The sender and its Postgres are real, requests go through a real socket, and behind it stand the receiver's own pipeline
and DuckDB. Hypothesis chooses the order; each event has a name of its own.
"""

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
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

from penpot_telemetry import outbox, pipeline, store
from penpot_telemetry.config import Endpoint, Settings
from penpot_telemetry.errors import BusyError
from penpot_telemetry.wire import payload
from penpot_telemetry.wire.batch import EventRow, encode_events
from tests.conftest import NOON, TEMPLATE, make_events, names_of
from tests.crash.house import Front, House, open_front

STEPS = 200
EXAMPLES = 3
GENEROUS = 100_000
SKEW = st.sampled_from([0, 0, 0, -1, 1])
PENPOT = UUID(int=7)

NETWORK = st.lists(
    st.sampled_from(
        [
            "delivered",
            "request lost",
            "answer lost",
            "delivered twice",
            "unavailable",
            "receiver dies",
            "one of before",
            "refused",
        ]
    ),
    max_size=6,
)
"""What becomes of the first requests of a pass; those after them are delivered."""

COUNT = st.integers(1, 12)
CAP = st.sampled_from([GENEROUS, GENEROUS, 20])

CREATE_ROWS = """
INSERT INTO audit_log (name, type, created_at, tracked_at, profile_id, ip_addr, props, source, context)
SELECT name, 'action', day, day, gen_random_uuid(), '0.0.0.0', '{}', 'telemetry:frontend', '{}'
FROM unnest(%(names)s::text[], %(days)s::timestamptz[]) AS r(name, day)
"""

TAKE_AWAY = """
DELETE FROM audit_log WHERE id IN (
    SELECT id FROM audit_log WHERE id <> ALL(%s::uuid[]) ORDER BY name LIMIT %s
) RETURNING name
"""


class Road(RuleBasedStateMachine):
    """One Penpot and one receiver. `entered` is every event there ever was, by name."""

    server: Mapping[str, str]
    front: Front
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.name = f"road_{uuid4().hex[:12]}"
        self.admin = psycopg.connect(**self.server, autocommit=True)  # type: ignore[arg-type]
        self.admin.execute(f"CREATE DATABASE {self.name} TEMPLATE {TEMPLATE}")
        self.database = {**self.server, "dbname": self.name}
        self.opened = store.connect(self.database)
        self.conn = self.opened.__enter__()
        self.folder = Path(tempfile.mkdtemp(prefix="house-"))
        self.house = House(self.folder, NOON)
        self.settings = Settings(
            telemetry=True,
            audit_log=False,
            data_dir=self.folder,
            version="2.18.0",
            endpoint=Endpoint(self.front.url),
            database=self.database,
            read_timeout=5.0,
            attempts=2,
            retry_wait=0.001,
            retry_wait_max=0.001,
        )
        self.entered: set[str] = set()
        self.foreign: set[str] = set()
        self.poison: set[str] = set()
        self.bodies: list[bytes] = []
        self.network: Iterator[str] = iter(())
        self.front.post = self.answer
        self.front.get = lambda path: (200, self.house.list_batches(path))

    def teardown(self) -> None:
        """Once nothing fails any more, everything arrives and the receiver knows what was lost."""
        try:
            self.poison.clear()
            self.record(1, 0)
            report = self.run_pass([], page_rows=1000)
            assert (report.failure, report.pending) == (None, 0)
            self.events_are_in_one_place()
            state = outbox.read_state(self.conn)
            found = self.house.read_account()
            assert found.lost_at_senders == state.dropped + state.quarantined
            assert found.missing_batches == 0
            settled = sum(entry.outcome == "accepted" for entry in outbox.read_ledger(self.conn))
            assert pipeline.verify_ledger(self.conn, Endpoint(self.front.url), self.settings) == (settled, [])
        finally:
            self.front.post, self.front.get = (lambda _: (503, b"")), (lambda _: (503, b""))  # lets go of the house
            self.house.store.close()
            self.opened.__exit__(None, None, None)
            self.admin.execute(f"DROP DATABASE {self.name} WITH (FORCE)")
            self.admin.close()
            shutil.rmtree(self.folder)

    # -- the network

    def answer(self, body: bytes) -> tuple[int | None, bytes]:
        """What one request meets."""
        meets = next(self.network, "delivered")
        if meets == "request lost":
            return None, b""
        if meets == "unavailable":
            return 503, b""
        if meets == "refused" or not self.poison.isdisjoint(names_of(body)):
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
        return (None, b"") if meets == "answer lost" else receipt

    # -- the sender

    def day_of(self, number: int, skew: int) -> datetime:
        """A day of its own for each event, so that the order of rows does not hang on their random ids."""
        return NOON + timedelta(days=number + 5000 * skew)

    @rule(count=COUNT, skew=SKEW)
    def record(self, count: int, skew: int) -> None:
        """Events on later and later days, or out of order by years, as a wrong clock has it."""
        first = len(self.entered)
        days = {n: self.day_of(n, skew) for n in range(first, first + count)}
        events = [event for n, day in days.items() for event in make_events(1, start=n, day=day)]
        assert pipeline.record_events(self.conn, events, self.settings).accepted == count
        self.entered |= {event.name for event in events}

    @rule(count=COUNT, skew=SKEW, network=NETWORK, cap=CAP)
    def ship_by_threes(self, count: int, skew: int, network: list[str], cap: int) -> None:
        """One pass in small pages, in which the network does most of what it can do."""
        self.record(count, skew)
        self.run_pass(network, page_rows=3, cap_rows=cap)

    @rule(count=COUNT, skew=SKEW, network=NETWORK, cap=CAP)
    def ship_by_eights(self, count: int, skew: int, network: list[str], cap: int) -> None:
        """One pass in larger pages."""
        self.record(count, skew)
        self.run_pass(network, page_rows=8, cap_rows=cap)

    @rule(count=COUNT, skew=SKEW, network=NETWORK, cap=CAP)
    def ship(self, count: int, skew: int, network: list[str], cap: int) -> None:
        """One pass, of few pages."""
        self.record(count, skew)
        self.run_pass(network, page_rows=1000, cap_rows=cap)

    def run_pass(self, network: Iterable[str], **changes: Any) -> pipeline.Report:
        """One pass over a network, with other settings."""
        self.network = iter(network)
        try:
            return pipeline.run_pass(self.conn, replace(self.settings, **changes))
        finally:
            self.network = iter(())

    @rule(cap=st.sampled_from([0, 5, 20, GENEROUS]), retention=st.sampled_from([None, None, 30]))
    def outage(self, cap: int, retention: int | None) -> None:
        """A pass in which nothing gets through, and gc all the same."""
        report = self.run_pass(repeat("request lost"), attempts=1, cap_rows=cap, retention_days=retention)
        frozen = outbox.fetch_page(self.conn)
        assert report.shipped == 0
        assert report.pending <= max(cap, frozen.event_count if frozen else 0)

    @rule()
    def second_sender(self) -> None:
        """Another sender at once does nothing at all."""
        before = outbox.read_state(self.conn)
        with store.connect(self.database) as other, outbox.hold_road(other), pytest.raises(BusyError):
            pipeline.run_pass(self.conn, self.settings)
        assert outbox.read_state(self.conn) == before

    @rule(seed=st.integers(0, 2**16), count=st.integers(0, 3))
    def poison_some(self, seed: int, count: int) -> None:
        """Some of what waits is refused from now on, be it on the way already, and nothing else."""
        waiting = sorted(self.waiting())
        self.poison = set(Random(seed).sample(waiting, min(count, len(waiting))))  # noqa: S311  chosen by Hypothesis

    @rule(which=st.integers(0, 5), keep=st.booleans())
    def empty_quarantine(self, which: int, keep: bool) -> None:
        """One row, or all, out of the quarantine: back to be sent, or away for good."""
        rows = outbox.read_quarantine(self.conn)
        rows = sorted(rows, key=lambda row: row.name)
        ids = [rows[which].id] if which < len(rows) else None
        action = pipeline.retry_quarantined if keep else pipeline.drop_quarantined
        assert action(self.conn, ids) == (len(rows) if ids is None else 1)

    @rule(count=st.integers(1, 10), skew=SKEW)
    def penpot_writes(self, count: int, skew: int) -> None:
        """Rows that Penpot itself wrote are adopted by the next pass."""
        first = len(self.entered)
        names = [f"e-{n}" for n in range(first, first + count)]
        days = [self.day_of(n, skew) for n in range(first, first + count)]
        self.conn.execute(CREATE_ROWS, {"names": names, "days": days})
        self.entered |= set(names)
        self.outage(GENEROUS, None)

    @rule(count=st.integers(1, 5))
    def another_hand(self, count: int) -> None:
        """Rows that vanish are missing in the account from the next pass on."""
        page = outbox.fetch_page(self.conn)
        self.conn.execute(TAKE_AWAY, (page.row_ids if page else store.NO_IDS, count))
        self.outage(GENEROUS, None)

    # -- the receiver

    @rule(dying=st.booleans())
    def restart_receiver(self, dying: bool) -> None:
        """The receiver stops and starts, or dies with something in hand that it had before."""
        if dying and self.bodies:
            self.house.die_before_commit(self.bodies[-1])
        else:
            self.house.restart()

    @rule(copies=st.integers(0, 2))
    def rebuild_warehouse(self, copies: int) -> None:
        """The warehouse is made anew, to the same content, though some of the landfill is there more than once."""
        before, folder = self.house.digest, self.house.places.landfill
        for n, file in enumerate(list(folder.glob("*.zst")) * copies):
            shutil.copyfile(file, folder / f"copy-{n}.zst")
        self.house.rebuild()
        assert self.house.digest == before
        for copy in folder.glob("copy-*.zst"):
            copy.unlink()

    @rule(hours=st.integers(-100, 100))
    def skew_clock(self, hours: int) -> None:
        """The receiver's clock jumps."""
        self.house.now = NOON + timedelta(hours=hours)

    @rule(seed=st.integers(0, 2**16), count=st.integers(1, 5))
    def repeat_bodies(self, seed: int, count: int) -> None:
        """What was delivered before comes again, in any order, some of it in one transaction."""
        chance = Random(seed)  # noqa: S311  chosen by Hypothesis
        receipts = self.house.receive(chance.choices(self.bodies, k=count)) if self.bodies else []
        assert {receipt.status for receipt in receipts} <= {"duplicate"}

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

    def waiting(self) -> set[str]:
        """The events in the sender's table."""
        return {name for (name,) in self.conn.execute("SELECT name FROM audit_log")}

    def frozen(self) -> set[str]:
        """The events of the frozen page."""
        page = outbox.fetch_page(self.conn)
        return set(names_of(page.body)) if page else set()

    @invariant()
    def events_are_in_one_place(self) -> None:
        """Sender: shipped, dropped, set aside, missing or waiting, by name. Receiver: what was received, once."""
        status = pipeline.read_status(self.conn, self.settings)
        assert status.adds_up == (status.missing == 0)
        marks = self.house.marks()
        assert {mark: number for mark, number in marks.items() if number != 1} == {}
        arrived = set(marks) - self.foreign
        assert len(marks) == len(arrived) + len(self.foreign)
        waiting, aside = self.waiting(), {row.name for row in outbox.read_quarantine(self.conn)}
        assert arrived <= self.entered
        assert arrived & waiting <= self.frozen()
        assert not aside & (arrived | waiting)
        state = status.state
        assert state.shipped == len(arrived - waiting)
        assert state.quarantined == len(aside)
        assert state.dropped + state.missing == len(self.entered - arrived - waiting - aside)
        assert state.recorded + state.tallied + state.adopted == len(self.entered)
        found = self.house.read_account()
        assert found.adds_up, found.checks
        query = "SELECT count(*) FROM deliveries a JOIN deliveries b ON b.delivery_no = a.delivery_no + 1 "
        backwards = self.house.store.warehouse.con.execute(query + "WHERE b.received_at <= a.received_at").fetchall()
        assert backwards == [(0,)]
        Road.steps += 1


def test_conservation_and_exactly_once_hold_after_every_step(postgres: Mapping[str, str]) -> None:
    Road.server, Road.steps = postgres, 0
    with open_front() as Road.front:
        run_state_machine_as_test(
            Road,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                derandomize=True,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                phases=[Phase.generate],
            ),
        )
    assert Road.steps > STEPS
