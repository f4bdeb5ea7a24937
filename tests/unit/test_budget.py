"""Bytes are shared out in turn, and no sender holds all decoders."""

import asyncio
from uuid import UUID

from receiver.server.budget import REMEMBERED, Budget, Lanes


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
