"""Bodies that were put aside: read again after a fix, dropped, and what the account says of them afterwards."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import duckdb
import pytest

from penpot_telemetry.errors import Reason
from penpot_telemetry.wire.limits import RECEIPT
from receiver.intake import commit, operations
from receiver.intake.commit import receive
from receiver.intake.decode import Rejection
from receiver.intake.prepare import prepare
from receiver.lifecycle.rebuild import rebuild
from receiver.lifecycle.startup import open_store
from receiver.reports.account import Refused, content_digest, list_refused, read_account
from receiver.storage import connection, inserts
from receiver.storage.paths import DataPaths, places_beside
from receiver.storage.records import Receipt
from receiver.storage.store import Store, UnavailableError
from tests.integration.receiving import ask, body_of, command, legacy_report, rows, running
from tests.integration.test_receiver import REFUSED

BATCH_ID = UUID(int=9)
FEW = replace(RECEIPT, events=3)
"""Limits that refuse a batch of more than three events: the reader before its fix."""


@pytest.fixture
def places(tmp_path: Path) -> DataPaths:
    return places_beside(tmp_path / "w.duckdb")


@pytest.fixture
def store(places: DataPaths) -> Iterator[Store]:
    with open_store(places) as opened:
        yield opened


def refuse(store: Store, *bodies: bytes) -> list[Refused]:
    """Bodies as a reader of few events takes them: all put aside."""
    receipts = receive(store, [prepare(body, FEW) for body in bodies])
    assert [receipt.status for receipt in receipts] == ["quarantined"] * len(bodies)
    return list_refused(store.warehouse.con)[-len(bodies) :]


def names(store: Store) -> set[str]:
    return {path.name for path in store.places.quarantine.iterdir()}


def tables(con: duckdb.DuckDBPyConnection) -> list[Any]:
    """All that a rebuild must bring back as it was."""
    return [
        con.execute("FROM quarantine ORDER BY ALL").fetchall(),
        con.execute("FROM batches ORDER BY ALL").fetchall(),
        con.execute("SELECT kind, outcome, events FROM deliveries ORDER BY delivery_no").fetchall(),
    ]


def assert_rebuilt_the_same(store: Store, places: DataPaths) -> None:
    """The account adds up now and in a warehouse made anew from the landfill, which is the same."""
    assert read_account(store.warehouse.con).adds_up
    before, content = tables(store.warehouse.con), content_digest(store.warehouse.con)
    store.close()
    assert rebuild(places).unloadable == 0
    with closing(connection.connect(places.warehouse, read_only=True)) as con:
        assert read_account(con).adds_up
        assert content_digest(con) == content
        assert tables(con) == before
    with open_store(places) as again:
        assert again.found.replayed == 0


# -- retry -----------------------------------------------------------------------------------------------------------


def test_a_retry_after_a_fix_loads_exactly_the_missing_rows(store: Store, places: DataPaths) -> None:
    receive(store, [prepare(body_of(rows(2, 50)))])
    for_good, later = body_of(rows(4), batch_id=BATCH_ID, batch_seq=1), body_of(rows(5, 10))
    aside = refuse(store, for_good, later, b"{nope")
    receipts = [operations.retry(store, one) for one in aside]
    assert receipts == [
        Receipt("accepted", 4, BATCH_ID, receipts[0].digest if receipts[0] else None),
        Receipt("accepted", 5, None, receipts[1].digest if receipts[1] else None),
        Receipt("quarantined", 0, reason="not-json"),
    ]
    found = store.warehouse.con.execute("SELECT profile_id FROM events ORDER BY 1").fetchall()
    assert found == [(UUID(int=number + 1),) for number in [*range(4), *range(10, 15), 50, 51]]
    assert [(one.became, one.body is None) for one in list_refused(store.warehouse.con)] == [
        ("loaded", True),
        ("loaded", True),
        (None, False),
    ]
    assert names(store) == {aside[2].body}
    assert [receipt.status for receipt in receive(store, [prepare(for_good), prepare(later)])] == ["duplicate"] * 2
    assert_rebuilt_the_same(store, places)


def test_a_batch_that_came_by_another_way_since_is_a_duplicate(store: Store, places: DataPaths) -> None:
    body = body_of(rows(4), batch_id=BATCH_ID)
    (aside,) = refuse(store, body)
    receive(store, [prepare(body)])
    receipt = operations.retry(store, aside)
    assert receipt is not None
    assert (receipt.status, receipt.events) == ("duplicate", 4)
    account = read_account(store.warehouse.con)
    assert (account.received, account.loaded, account.duplicate, account.quarantined) == (3, 1, 1, 1)
    assert list_refused(store.warehouse.con)[0].became == "duplicate"
    assert not names(store)
    assert_rebuilt_the_same(store, places)


def test_the_same_body_twice_in_the_quarantine_is_loaded_once(store: Store, places: DataPaths) -> None:
    body = body_of(rows(4), batch_id=BATCH_ID)
    refuse(store, body)
    receive(store, [prepare(body, replace(RECEIPT, body=10)), prepare(body, FEW)])
    aside = list_refused(store.warehouse.con)
    assert [(one.reason, one.repeats) for one in aside] == [("too-many-events", 1), ("too-large", 0)]
    statuses = [receipt.status for one in aside if (receipt := operations.retry(store, one))]
    assert statuses == ["accepted", "duplicate"]
    assert_rebuilt_the_same(store, places)


def test_what_still_cannot_be_read_stays_with_the_reason_of_today(store: Store, places: DataPaths) -> None:
    (aside,) = refuse(store, body_of(rows(4), batch_id=BATCH_ID, batch_seq=7))
    receipt = operations.retry(store, aside, replace(RECEIPT, body=10))
    assert receipt is not None
    assert (receipt.status, receipt.reason) == ("quarantined", "too-large")
    (renewed,) = list_refused(store.warehouse.con)
    assert (renewed.reason, renewed.quarantine_no, renewed.body) == ("too-large", aside.quarantine_no, aside.body)
    assert read_account(store.warehouse.con).quarantine == {"too-large": 1}
    assert names(store) == {aside.body}
    receipt = operations.retry(store, renewed)
    assert receipt is not None
    assert receipt.status == "accepted"
    assert_rebuilt_the_same(store, places)


def test_a_retry_that_changes_nothing_writes_nothing(store: Store) -> None:
    (aside,) = refuse(store, b"{nope")
    before, position = tables(store.warehouse.con), store.landfill.position
    assert operations.retry(store, aside) == Receipt("quarantined", 0, reason="not-json")
    assert (tables(store.warehouse.con), store.landfill.position) == (before, position)


def test_a_used_batch_id_stays_used(store: Store, places: DataPaths) -> None:
    receive(store, [prepare(body_of(rows(2), batch_id=BATCH_ID))])
    receive(store, [prepare(body_of(rows(3), batch_id=BATCH_ID))])
    (aside,) = list_refused(store.warehouse.con)
    receipt = operations.retry(store, aside)
    assert receipt is not None
    assert (receipt.status, receipt.reason) == ("quarantined", "id-reused")
    assert list_refused(store.warehouse.con) == [aside]
    assert_rebuilt_the_same(store, places)


def test_a_report_is_one_of_the_day_on_which_it_came(store: Store, places: DataPaths) -> None:
    body = legacy_report(**{"total-teams": 3})
    refused = prepare(body, replace(RECEIPT, body=10))
    assert isinstance(refused.item, Rejection)
    receive(store, [replace(refused, item=replace(refused.item, is_kept=True))])  # as an older receiver kept it
    receive(store, [prepare(body)])
    (aside,) = list_refused(store.warehouse.con)
    day_after = store.clock().replace(year=store.clock().year + 1)
    store.clock = lambda: day_after
    receipt = operations.retry(store, aside)
    assert receipt is not None
    assert receipt.status == "duplicate"
    assert_rebuilt_the_same(store, places)


def test_rows_that_the_database_will_not_take_put_the_body_back(
    store: Store, places: DataPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    (aside,) = refuse(store, body_of(rows(4)))
    apply = inserts.apply

    def fail(*of: Any) -> None:
        if of[2] is not None:
            raise duckdb.ConversionException("with ana@example.org in it")
        apply(*of)

    monkeypatch.setattr(inserts, "apply", fail)
    receipt = operations.retry(store, aside)
    assert receipt is not None
    assert (receipt.status, receipt.reason) == ("quarantined", "bad-fressian")
    monkeypatch.undo()
    (renewed,) = list_refused(store.warehouse.con)
    assert "ana" not in renewed.message
    assert names(store) == {aside.body}
    receipt = operations.retry(store, renewed)
    assert receipt is not None
    assert receipt.status == "accepted"
    assert_rebuilt_the_same(store, places)


@pytest.mark.parametrize("broken", ["append_records", "load_plans", "commit"])
def test_a_retry_that_fails_on_the_way_can_be_made_again(
    store: Store, places: DataPaths, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    (aside,) = refuse(store, body_of(rows(4), batch_id=BATCH_ID))

    def fail(*_: object) -> None:
        raise OSError("disk")

    monkeypatch.setattr(commit, broken, fail)
    with pytest.raises(UnavailableError):
        operations.retry(store, aside)
    monkeypatch.undo()
    assert names(store) == {aside.body}
    store.close()
    with open_store(places) as again:  # which finds what the landfill has and the warehouse has not
        receipt = operations.retry(again, list_refused(again.warehouse.con)[0])
        if broken == "append_records":
            assert receipt is not None
            assert receipt.status == "accepted"
        else:
            assert receipt is None
        assert again.warehouse.con.execute("SELECT count(*) FROM events").fetchall() == [(4,)]
        assert [one.became for one in list_refused(again.warehouse.con)] == ["loaded"]
        assert_rebuilt_the_same(again, places)


def test_a_body_whose_file_is_gone_is_not_kept(store: Store) -> None:
    (aside,) = refuse(store, body_of(rows(4)))
    assert aside.body is not None
    (store.places.quarantine / aside.body).unlink()
    assert operations.retry(store, aside) is None
    assert list_refused(store.warehouse.con)[0].body is None


# -- the operator ----------------------------------------------------------------------------------------------------


def test_the_operator_retries_after_a_limit_was_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path, RECEIVER_MAX_EVENTS="3") as receiver:
        for body in (body_of(rows(4)), body_of(rows(5, 10), batch_id=BATCH_ID), b"{nope"):
            assert receiver.receipt(body)["status"] == "quarantined"
        busy = command(tmp_path, "quarantine", "retry", "--all")
        assert busy.returncode == 1
        assert "in use" in busy.stderr
    monkeypatch.setenv("RECEIVER_MAX_EVENTS", "4")
    done = command(tmp_path, "quarantine", "retry", "--reason", "too-many-events")
    assert done.stdout.splitlines() == ["     1  loaded: 4 events", "     2  still too-many-events"]
    assert done.returncode == 1
    monkeypatch.delenv("RECEIVER_MAX_EVENTS")
    assert command(tmp_path, "load", str(saved(tmp_path, body_of(rows(5, 10), batch_id=BATCH_ID)))).returncode == 0
    done = command(tmp_path, "quarantine", "retry", "1", "2")
    assert done.stdout.splitlines() == ["     1  not kept: a retry has made it loaded", "     2  duplicate: 5 events"]
    assert done.returncode == 0
    assert ask(tmp_path, "SELECT count(*) FROM events") == [(9,)]
    listed = command(tmp_path, "quarantine", "list").stdout.splitlines()
    assert [line.split()[4] for line in listed] == ["loaded", "duplicate", "kept"]
    assert command(tmp_path, "check").returncode == 0
    assert command(tmp_path, "rebuild").returncode == 0
    assert command(tmp_path, "check").returncode == 0
    assert command(tmp_path, "quarantine", "list").stdout.splitlines() == listed


def saved(folder: Path, body: bytes) -> Path:
    path = folder / "body.json"
    path.write_bytes(body)
    return path


def test_what_is_dropped_is_gone_and_still_counted(tmp_path: Path) -> None:
    with running(tmp_path) as receiver:
        for body in (b"{nope", b"{nope", b"{no", body_of(rows(1))):
            receiver.receipt(body)
    (folder,) = [path for path in tmp_path.iterdir() if "quarantine" in path.name]
    assert command(tmp_path, "quarantine", "drop", "1").stdout == "dropped 1 bodies\n"
    assert [path.read_bytes() for path in folder.iterdir()] == [b"{no"]
    again = command(tmp_path, "quarantine", "drop", "1")
    assert (again.returncode, again.stdout) == (0, "dropped 0 bodies; 1 were gone\n")
    shown = command(tmp_path, "quarantine", "show", "1")
    assert (shown.returncode, shown.stdout) == (1, "")
    retried = command(tmp_path, "quarantine", "retry", "1")
    assert (retried.returncode, retried.stdout) == (1, "     1  not kept: nothing to read again\n")
    assert command(tmp_path, "quarantine", "drop", "--all").stdout == "dropped 1 bodies\n"
    status = json.loads(command(tmp_path, "status", "--json").stdout)
    assert (status["quarantined"], status["quarantine"]) == (3, {"not-json": 3})
    assert command(tmp_path, "check").returncode == 0
    assert command(tmp_path, "rebuild").returncode == 0
    assert command(tmp_path, "check").returncode == 0
    assert not list(folder.iterdir())


@pytest.mark.parametrize("words", [(), ("1", "--all"), ("--all", "--reason", "not-json"), ("--reason", "unheard-of")])
def test_which_bodies_are_meant_is_said_in_one_way(tmp_path: Path, words: tuple[str, ...]) -> None:
    with open_store(places_beside(tmp_path / "w.duckdb")) as store:
        refuse(store, b"{nope")
    for name in ("retry", "drop"):
        assert command(tmp_path, "quarantine", name, *words).returncode == 2
    assert command(tmp_path, "quarantine", "drop", "2").returncode == 1
    assert command(tmp_path, "quarantine", "list").stdout.split()[4] == "kept"


def test_no_warehouse_is_made_by_a_retry(tmp_path: Path) -> None:
    done = command(tmp_path, "quarantine", "retry", "--all")
    assert done.returncode == 1
    assert "does not exist" in done.stderr
    assert not list(tmp_path.iterdir())


# -- reasons ---------------------------------------------------------------------------------------------------------


def test_each_typed_reason_has_a_body_that_gets_it() -> None:
    elsewhere = {"id-reused", "bad-signature", "superseded"}  # which no body has by itself
    assert {*REFUSED, *elsewhere} == set(get_args(Reason))
