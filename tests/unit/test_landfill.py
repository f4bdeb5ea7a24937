"""The log in front of the warehouse: whole records only, wherever a write was cut or a byte was turned."""

from datetime import UTC, date, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from receiver.storage import journal
from receiver.storage.journal import Damage, Journal, Record
from receiver.storage.records import Delivery, InUseError, Position

MONDAY = datetime(2026, 7, 20, 12, tzinfo=UTC)
TUESDAY = datetime(2026, 7, 21, 12, tzinfo=UTC)


def record_of(number: int, when: datetime = MONDAY) -> bytes:
    delivery = Delivery(uuid4(), when, "batch", "loaded", UUID(int=number), "sha256:", batch_seq=number)
    return journal.pack_record(delivery, "events", journal.pack_carried(f"events {number}"))


def fill(folder: Path, *whens: datetime) -> list[Position]:
    with Journal(folder) as log:
        return [log.append(record_of(number, when), when) for number, when in enumerate(whens)]


def numbers(records: list[Record]) -> list[int | None]:
    return [record.header.delivery.batch_seq for record in records]


def test_what_was_appended_is_read_back_in_order_with_what_it_carries(tmp_path: Path) -> None:
    fill(tmp_path, MONDAY, MONDAY, TUESDAY)
    with Journal(tmp_path) as log:
        found = journal.recover(log, None)
    assert (numbers(found.records), found.torn_bytes) == ([0, 1, 2], 0)
    assert [journal.read_carried(record) for record in found.records] == ["events 0", "events 1", "events 2"]


def test_a_write_cut_at_any_byte_leaves_the_records_before_it(tmp_path: Path) -> None:
    (first, second) = fill(tmp_path, MONDAY, MONDAY)
    path = journal.path_of(tmp_path, first.day)
    whole = path.read_bytes()
    for cut in range(first.offset + 1, second.offset):
        path.write_bytes(whole[:cut])
        with Journal(tmp_path) as log:
            found = journal.recover(log, None)
            assert (numbers(found.records), found.torn_bytes) == ([0], cut - first.offset)
            assert log.position == first
        assert path.stat().st_size == first.offset


def test_a_torn_record_of_a_day_before_is_damage_and_is_kept_beside(tmp_path: Path) -> None:
    first, _ = fill(tmp_path, MONDAY, TUESDAY)
    path = journal.path_of(tmp_path, first.day)
    cut = path.read_bytes()[:-1]
    path.write_bytes(cut)
    with Journal(tmp_path) as log:
        found = journal.recover(log, None)
    assert (numbers(found.records), found.torn_bytes, [one.size for one in found.damages]) == ([1], 0, [len(cut)])
    assert path.read_bytes() == cut == journal.list_kept(tmp_path)[0].read_bytes()


def test_a_turned_byte_costs_its_own_record_only(tmp_path: Path) -> None:
    positions = fill(tmp_path, MONDAY, MONDAY, MONDAY)
    path = journal.path_of(tmp_path, MONDAY.date())
    data = bytearray(path.read_bytes())
    data[(positions[0].offset + positions[1].offset) // 2] ^= 0xFF
    path.write_bytes(data)
    found = list(journal.scan_past_damage(path))
    assert numbers([one for one in found if isinstance(one, Record)]) == [0, 2]
    assert [one.size for one in found if isinstance(one, Damage)] == [positions[1].offset - positions[0].offset]
    assert journal.end_of(tmp_path) == positions[2]


def test_a_clock_that_goes_back_writes_on_in_the_newest_file(tmp_path: Path) -> None:
    fill(tmp_path, TUESDAY, MONDAY)
    assert journal.list_days(tmp_path) == [TUESDAY.date()]


def test_old_days_go_but_never_the_newest(tmp_path: Path) -> None:
    fill(tmp_path, MONDAY, TUESDAY)
    with Journal(tmp_path) as log:
        assert journal.expire(log, 1, date(2026, 7, 21)) == []
        assert journal.expire(log, 1, date(2026, 7, 22)) == [MONDAY.date()]
        assert journal.expire(log, 1, date(2027, 1, 1)) == []


def test_a_landfill_has_one_writer(tmp_path: Path) -> None:
    with Journal(tmp_path), pytest.raises(InUseError):
        Journal(tmp_path)
    Journal(tmp_path).close()
