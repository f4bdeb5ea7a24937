"""History that was loaded without the road is the same rows, and the account of it adds up."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from penpot_telemetry.simulate import Fleet, demo_fleet
from receiver.intake.load import load_history
from receiver.reports.account import content_digest, read_account
from receiver.storage.warehouse import Warehouse


@pytest.fixture
def fleet() -> Fleet:
    return demo_fleet()


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Warehouse]:
    with Warehouse(tmp_path / "telemetry.duckdb") as found:
        yield found


def test_every_event_is_there_on_its_day(opened: Warehouse, fleet: Fleet) -> None:
    truth = fleet.truth()
    assert load_history(opened, fleet.chunks(rows=5_000)) == truth.events
    by_day = opened.con.execute("SELECT tracked_on, count(*) FROM events GROUP BY 1").fetchall()
    assert dict(by_day) == dict(truth.events_by_day)
    by_instance = opened.con.execute("SELECT instance_id, count(*) FROM events GROUP BY 1").fetchall()
    assert dict(by_instance) == dict(truth.events_by_instance)


def test_the_account_adds_up_and_goes_on_from_there(opened: Warehouse, fleet: Fleet) -> None:
    first, second = fleet.days()[:3], fleet.days()[3:]
    load_history(opened, fleet.chunks(first))
    load_history(opened, fleet.chunks(second))
    account = read_account(opened.con)
    assert account.adds_up
    assert account.events == fleet.truth().events
    assert account.missing_batches == 0
    repeated = "SELECT count(*) - count(DISTINCT (instance_id, batch_seq)) FROM batches"
    assert opened.con.execute(repeated).fetchall() == [(0,)]
    assert account.batches == len(fleet.instances) * len(fleet.days()) - idle_days(fleet)


def test_chunks_of_another_size_make_the_same_content(tmp_path: Path, fleet: Fleet) -> None:
    digests = set()
    for rows in (1_000, 100_000):
        with Warehouse(tmp_path / f"{rows}.duckdb") as opened:
            load_history(opened, fleet.chunks(rows=rows))
            digests.add(content_digest(opened.con))
    assert len(digests) == 1


def idle_days(fleet: Fleet) -> int:
    return sum(not plan.events for plan in fleet.plans())
