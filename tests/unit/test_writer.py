"""The one thread that writes: what waits goes together, and a request that went away brings nothing down."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from penpot_telemetry.errors import DatabaseError
from penpot_telemetry.wire.limits import TRANSACTION
from receiver import open_warehouse
from receiver.intake.commit import receive
from receiver.intake.decode import Batch
from receiver.intake.prepare import prepare
from receiver.lifecycle.startup import open_store
from receiver.server.writer import Writer
from receiver.storage import rollups
from receiver.storage.dead_letters import BLOCK
from receiver.storage.paths import DataPaths
from receiver.storage.store import UnavailableError
from receiver.storage.warehouse import Warehouse
from tests.integration.receiving import body_of, rows


def test_a_receipt_that_nobody_waits_for_does_not_stop_the_writer(tmp_path: Path) -> None:
    places = DataPaths(tmp_path / "w.duckdb", tmp_path / "landfill", tmp_path / "quarantine")
    with open_store(places) as store:
        writer = Writer(store)
        kept = [writer.submit(prepare(body_of(rows(1, number)))) for number in range(3)]
        assert kept[1].cancel()
        with writer:
            assert [kept[number].result(20).status for number in (0, 2)] == ["accepted", "accepted"]
            later = writer.submit(prepare(body_of(rows(1, 9))))
            assert later.result(20).status == "accepted"
            assert writer.is_running
        assert store.warehouse.con.execute("SELECT count(*) FROM events").fetchall() == [(3,)]


def test_a_hold_comes_to_pass_while_jobs_wait_and_they_wait_for_its_end(tmp_path: Path) -> None:
    places = DataPaths(tmp_path / "w.duckdb", tmp_path / "landfill", tmp_path / "quarantine")
    jobs = [prepare(body_of(rows(1, number))) for number in range(80)]
    with open_store(places) as store:
        writer = Writer(store)
        receipts = [writer.submit(job) for job in jobs[:40]]
        with writer, writer.held() as held:
            assert held is store
            receipts += [writer.submit(job) for job in jobs[40:]]
            assert all(receipt.done() for receipt in receipts[:40])
            assert not any(receipt.running() or receipt.done() for receipt in receipts[40:])
            assert writer.waiting == 40
        assert {receipt.result(20).status for receipt in receipts} == {"accepted"}
        with writer.held() as held:
            assert held is None, "it has ended"


def test_two_that_hold_the_writer_take_turns(tmp_path: Path) -> None:
    places = DataPaths(tmp_path / "w.duckdb", tmp_path / "landfill", tmp_path / "quarantine")
    with open_store(places) as store, Writer(store) as writer, ThreadPoolExecutor(2) as others:
        inside = threading.Lock()

        def hold() -> bool:
            with writer.held() as held:
                is_alone = inside.acquire(blocking=False)
                inside.release()
                return is_alone and held is store

        turns = [others.submit(hold) for _ in range(6)]
        receipt = writer.submit(prepare(body_of(rows(1))))
        assert [turn.result(20) for turn in turns] == [True] * 6
        assert receipt.result(20).status == "accepted"


def test_the_rollups_catch_up_within_seconds_and_at_a_start_after_a_crash(tmp_path: Path) -> None:
    places = DataPaths(tmp_path / "w.duckdb", tmp_path / "landfill", tmp_path / "quarantine")
    with open_store(places) as store, Writer(store) as writer:
        for number in range(3):
            assert writer.submit(prepare(body_of(rows(2, number)))).result(20).status == "accepted"
        deadline = time.monotonic() + 20
        while writer.behind and time.monotonic() < deadline:
            time.sleep(0.005)
        with store.reader() as reader:
            assert reader.execute("SELECT sum(events) FROM instance_days").fetchall() == [(6,)]
            assert rollups.count_behind(reader) == 0
    with open_store(places) as store:
        receive(store, [prepare(body_of(rows(2, 9)))])
        assert rollups.count_behind(store.warehouse.con) == 1
        store.landfill.close()
        store.warehouse.con.close()  # as after a kill: what was not added up stays so
    with pytest.raises(DatabaseError, match="1 batches that its receiver had not added up"):
        open_warehouse(places.warehouse)
    Warehouse(places.warehouse).close()
    with open_warehouse(places.warehouse) as opened:
        assert opened.sql("SELECT sum(events)::INT AS n FROM instance_days")["n"].to_list() == [8]


def test_a_transaction_takes_no_further_batch_once_its_rows_fill_it(tmp_path: Path) -> None:
    places = DataPaths(tmp_path / "w.duckdb", tmp_path / "landfill", tmp_path / "quarantine")
    groups: list[int] = []
    with open_store(places) as store:
        writer = Writer(store, lambda _, jobs: groups.append(jobs))
        receipts = []
        for number in range(8):
            job = prepare(body_of(rows(1, number)))
            assert isinstance(job.item, Batch)
            page = replace(job.item.page, size=TRANSACTION // 2 - 1)
            receipts.append(writer.submit(replace(job, item=replace(job.item, page=page))))
        with writer:
            assert {receipt.result(20).status for receipt in receipts} == {"accepted"}
    assert groups == [3, 3, 2]


def test_a_body_without_room_in_the_quarantine_is_the_only_one_that_is_sent_away(tmp_path: Path) -> None:
    places = DataPaths(
        tmp_path / "w.duckdb", tmp_path / "landfill", tmp_path / "quarantine", quarantine_budget=16 * BLOCK
    )
    loud, honest = UUID(int=1), UUID(int=2)
    junk = [body_of(rows(1), instance=loud, digest="sha256:" + f"{number:064x}") for number in range(4)]
    bad = body_of(rows(1), instance=honest, digest="sha256:" + "0" * 64)
    with open_store(places) as store:
        receive(store, [prepare(body_of(rows(1, number), instance=one)) for number, one in enumerate((loud, honest))])
        writer = Writer(store)
        bodies = [*junk, bad, body_of(rows(1, 9), instance=honest)]
        receipts = [writer.submit(prepare(body)) for body in bodies]
        with writer:
            for receipt in receipts[2:4]:
                with pytest.raises(UnavailableError, match="share of this sender in the quarantine is full"):
                    receipt.result(20)
            kept = [receipts[number].result(20).status for number in (0, 1, 4, 5)]
        assert kept == ["quarantined", "quarantined", "quarantined", "accepted"]
    with open_store(places) as store:  # the shares are known again after a start
        with pytest.raises(UnavailableError):
            receive(store, [prepare(junk[2])])
        assert receive(store, [prepare(junk[0])])[0].status == "quarantined", "it is kept already"
        assert len(list(places.quarantine.iterdir())) == 3
