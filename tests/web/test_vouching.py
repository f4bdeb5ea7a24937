"""Pages leave out Penpots that were heard on too few days, and take them in only when that singles out nobody."""

import asyncio
import json
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from click.testing import CliRunner
from starlette.requests import Request
from starlette.responses import Response

from receiver import open_warehouse
from receiver.cli.main import main
from receiver.dashboard import pages
from receiver.storage.warehouse import Warehouse
from tests.property.filled import fill
from tests.property.reference import DAY, MONDAY, Batch, Event, World


def heard(number: int, days: int) -> list[Batch]:
    """So many days of a Penpot, all events of one day, so that nothing but the receipts tells it from another."""
    event = Event(MONDAY, "navigate", UUID(int=number + 1))
    return [Batch(UUID(int=(1 << 100) + number), "2.18.0", MONDAY + (4 - n) * DAY, (event,)) for n in range(days)]


def receive(path: Path, strangers: int) -> None:
    """Six Penpots on four days, and strangers on the last one."""
    batches = [b for n in range(6) for b in heard(n, 4)] + [b for n in range(strangers) for b in heard(100 + n, 1)]
    with Warehouse(path) as warehouse:
        fill(warehouse.con, World(tuple(sorted(batches, key=lambda b: b.received_on))))


def ask(path: Path, query: str, *, threshold: int = 5, vouch_days: int = 3, page: bool = False) -> Response:
    """What a receiver with these settings answers."""

    async def answer(board: pages.Dashboard) -> Response:
        scope: dict[str, Any] = {
            "type": "http",
            "app": SimpleNamespace(state=SimpleNamespace(dashboard=board)),
            "headers": [],
            "query_string": query.encode(),
            "path_params": {"name": "active_instances", "kind": "json"},
        }
        return await (pages.question if page else pages.file)(Request(scope))

    with Warehouse(path) as warehouse, closing(warehouse):
        board = pages.open_dashboard(warehouse.reader, threshold, vouch_days)
        try:
            return asyncio.run(answer(board))
        finally:
            board.answers.close()


def count(response: Response) -> int | None:
    assert response.status_code == 200, response.body
    found: int | None = json.loads(bytes(response.body))["rows"][0]["active_1d"]
    return found


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("crowded") / "w.duckdb"
    receive(path, strangers=40)
    return path


def test_invented_penpots_do_not_outvote_real_ones_on_a_page(crowded: Path) -> None:
    assert count(ask(crowded, "")) == 6
    assert count(ask(crowded, "vouch_days=0")) == 46
    assert count(ask(crowded, "", vouch_days=0)) == 46
    page = bytes(ask(crowded, "vouch_days=0", page=True).body).decode()
    assert '<option value="0" selected>all that were heard</option>' in page
    assert "heard on 3 days or more" in page


def test_a_reader_cannot_single_out_penpots_by_the_days_on_which_they_were_heard(crowded: Path, tmp_path: Path) -> None:
    assert ask(crowded, "vouch_days=4").status_code == 400
    assert ask(crowded, "vouch_days=many").status_code == 400
    assert count(ask(crowded, "vouch_days=4", threshold=1)) == 6
    few = tmp_path / "w.duckdb"
    receive(few, strangers=3)
    assert count(ask(few, "")) == 6
    assert ask(few, "vouch_days=0").status_code == 400
    assert count(ask(few, "vouch_days=0", threshold=1)) == 9


def test_an_analyst_leaves_them_out_in_python_and_on_the_command_line(crowded: Path) -> None:
    with open_warehouse(crowded) as opened:
        assert opened.overview(threshold=1)["instances"].item() == 46
        assert opened.overview(threshold=1, vouch_days=3)["instances"].item() == 6
    at = ("--warehouse", str(crowded))
    asked = CliRunner().invoke(main, ["ask", *at, "overview", "--threshold", "1"], env={"RECEIVER_VOUCH_DAYS": "3"})
    assert "6 of 6 known instances" in asked.output
    lines = CliRunner().invoke(main, ["instances", *at]).output.splitlines()
    days = [line.split("\t")[lines[0].split("\t").index("days")] for line in lines[1:]]
    assert sorted(days) == ["1 new"] * 40 + ["4"] * 6
