"""What many readers cost: one answer for all who wait, kept within a budget, and gone when its rows are."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from receiver.dashboard import cache
from receiver.dashboard.cache import Answers, CrowdedError, Mark
from receiver.storage.warehouse import Warehouse

OLD, NEW = Mark(1, 1, 0, 1, 1), Mark(2, 2, 0, 2, 2)
ERASED = Mark(3, 1, 0, 1, 2)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Answers]:
    with Warehouse(tmp_path / "w.duckdb") as warehouse:
        found = Answers(warehouse.reader)
        yield found
        found.close()


def counted(size: int = 10, seconds: float = 0.0) -> tuple[Callable[[], Awaitable[bytes]], list[int]]:
    """Something to be made, and how often it was."""
    made: list[int] = []

    async def make() -> bytes:
        made.append(len(made))
        await asyncio.sleep(seconds)
        return bytes([made[-1]]) * size

    return make, made


def test_ten_readers_at_once_have_it_made_once(kept: Answers) -> None:
    make, made = counted(seconds=0.05)

    async def ten() -> list[bytes]:
        return await asyncio.gather(*(kept.get(OLD, "chart", make) for _ in range(10)))

    assert set(asyncio.run(ten())) == {b"\0" * 10}
    assert made == [0]


def test_a_reader_who_leaves_takes_nothing_from_the_others(kept: Answers) -> None:
    make, made = counted(seconds=0.05)

    async def leave() -> bytes:
        first = asyncio.create_task(kept.get(OLD, "chart", make))
        second = asyncio.create_task(kept.get(OLD, "chart", make))
        await asyncio.sleep(0.01)
        first.cancel()
        return await second

    assert asyncio.run(leave()) == b"\0" * 10
    assert made == [0]


def test_an_answer_stays_while_the_warehouse_does(kept: Answers) -> None:
    make, made = counted()

    async def twice() -> None:
        for _ in range(2):
            await kept.get(OLD, "chart", make)

    asyncio.run(twice())
    assert made == [0]


def test_after_a_batch_the_old_answer_serves_once_more_and_the_new_one_follows(
    kept: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "PATIENCE", 0)
    make, made = counted()

    async def three() -> list[bytes]:
        got = [await kept.get(OLD, "chart", make)]
        got.append(await kept.get(NEW, "chart", make))
        while len(made) < 2:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        got.append(await kept.get(NEW, "chart", make))
        return got

    assert [answer[0] for answer in asyncio.run(three())] == [0, 0, 1]
    assert made == [0, 1]


def test_nothing_is_shown_of_what_was_erased(kept: Answers) -> None:
    make, made = counted(seconds=0.05)

    async def erase() -> bytes:
        await kept.get(NEW, "chart", make)
        return await kept.get(ERASED, "chart", make)

    assert asyncio.run(erase())[0] == 1
    assert made == [0, 1]


def test_what_was_begun_before_an_erasure_is_for_nobody_who_comes_after(kept: Answers) -> None:
    make, made = counted(seconds=0.05)
    after = NEW._replace(erased_at="2026-07-21 12:00:00")  # of one event: every count is as it was

    async def erase() -> tuple[bytes, bytes]:
        return await asyncio.gather(kept.get(NEW, "chart", make), kept.get(after, "chart", make))

    asyncio.run(erase())
    assert made == [0, 1]


def test_what_is_kept_stays_within_its_budget(kept: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "BUDGET", 100)
    make, made = counted(size=40)

    async def fill() -> None:
        for name in ("a", "b", "a", "c", "a", "b"):
            await kept.get(OLD, name, make)

    asyncio.run(fill())  # c pushes out b, the one not wanted for longest; a was never made again
    assert len(made) == 4


def test_more_different_answers_than_can_be_made_are_refused(kept: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MOST_UNDER_WAY", 2)
    make, _ = counted(seconds=0.05)

    async def three() -> list[bytes | BaseException]:
        return await asyncio.gather(*(kept.get(OLD, n, make) for n in range(3)), return_exceptions=True)

    *_, last = asyncio.run(three())
    assert isinstance(last, CrowdedError)


def test_a_failure_is_not_kept(kept: Answers) -> None:
    async def fail() -> bytes:
        raise ValueError("no ink")

    async def again() -> bytes:
        with pytest.raises(ValueError, match="no ink"):
            await kept.get(OLD, "chart", fail)
        return await kept.get(OLD, "chart", counted()[0])

    assert asyncio.run(again()) == b"\0" * 10


def test_a_mark_moves_with_the_warehouse(tmp_path: Path) -> None:
    with Warehouse(tmp_path / "w.duckdb") as warehouse:
        asked = Answers(warehouse.reader)
        assert asyncio.run(asked.mark()) == Mark(0, 0, 0, 0, 0)
        warehouse.con.execute(
            "INSERT INTO instance_days VALUES (7, DATE '2026-07-20', DATE '2026-07-21', uuid(), '2.18.0', 3)"
        )
        assert asyncio.run(asked.mark()) == Mark(0, 0, 0, 1, 7)
        asked.close()
