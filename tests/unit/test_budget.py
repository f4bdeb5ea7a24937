"""Bytes are shared out in turn, and no sender holds all decoders."""

import asyncio
from pathlib import Path
from uuid import UUID

from receiver.intake.commit import receive
from receiver.intake.prepare import prepare
from receiver.lifecycle.startup import open_store
from receiver.reports import instances
from receiver.server.budget import REMEMBERED, Budget, Lanes
from receiver.storage.paths import places_beside
from tests.integration.receiving import body_of, rows


def test_a_share_waits_until_others_gave_back_enough_and_they_are_served_in_turn() -> None:
    order: list[str] = []

    async def take(budget: Budget, name: str, size: int, keep: int) -> None:
        async with budget.share(size) as share:
            order.append(name)
            await asyncio.sleep(0)
            share.shrink(keep)
            await asyncio.sleep(0.01)
        order.append(f"{name} ends")

    async def run() -> int:
        budget = Budget(100)
        await asyncio.gather(take(budget, "a", 80, 20), take(budget, "b", 80, 80), take(budget, "c", 10, 10))
        return budget.used

    assert asyncio.run(run()) == 0
    assert order.index("a") < order.index("b") < order.index("c")
    assert order.index("b") < order.index("b ends")


def test_one_that_wants_more_than_there_is_is_served_alone() -> None:
    async def run() -> bool:
        budget = Budget(100)
        async with budget.share(500) as share:
            return share.size == budget.used == 500

    assert asyncio.run(run())


def test_all_unknown_senders_share_one_lane_and_a_known_one_has_its_own() -> None:
    async def run() -> None:
        lanes = Lanes()
        strangers, is_known = lanes.lane_of(UUID(int=1))
        assert not is_known
        assert lanes.lane_of(UUID(int=2))[0] is lanes.lane_of(None)[0] is strangers
        lanes.remember(UUID(int=1))
        own, is_known = lanes.lane_of(UUID(int=1))
        assert is_known
        assert own is not strangers
        assert lanes.lane_of(UUID(int=1))[0] is own
        for number in range(REMEMBERED):
            lanes.remember(UUID(int=number + 2))
        assert not lanes.lane_of(UUID(int=1))[1]

    asyncio.run(run())


def test_senders_of_before_the_start_are_known_those_heard_last_first(tmp_path: Path) -> None:
    senders = [UUID(int=number) for number in (3, 1, 2)]
    with open_store(places_beside(tmp_path / "w.duckdb")) as store:
        for number, one in enumerate([*senders, senders[0]]):
            receive(store, [prepare(body_of(rows(1, number), instance=one))])
        heard = instances.list_heard(store.warehouse.con, 2)
    assert heard == [senders[2], senders[0]]
    lanes = Lanes(heard)
    assert [lanes.lane_of(one)[1] for one in senders] == [True, False, True]
