"""A start after any one file was damaged: it works, or says in one line what to do; nothing sound is lost.

RECOVERY_CASES says how many cases are drawn (seed RECOVERY_SEED); a few here, hundreds before a release.
"""

import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from receiver.storage import journal
from receiver.storage.journal import Record
from tests.storage.children import BATCHES
from tests.storage.conftest import Do

SEED = int(os.environ.get("RECOVERY_SEED", "10"))
CASES = int(os.environ.get("RECOVERY_CASES", "6"))
DAMAGES = ("flip", "cut", "missing", "twice", "older", "zeros")
ALL = {str(number): number + 1 for number in range(BATCHES)}
WHOLE = slice(None)


@dataclass(frozen=True, slots=True)
class Home:
    """A receiver's files as they were after the first day, and as they are: closed, and killed with a log."""

    older: Path
    closed: Path
    killed: Path


@pytest.fixture(scope="module")
def home(do: Do, tmp_path_factory: pytest.TempPathFactory) -> Home:
    top = tmp_path_factory.mktemp("home")
    older, closed, killed = top / "older", top / "closed", top / "killed"
    older.mkdir()
    do("fill", folder=str(older), first=0, count=3, day=0)
    shutil.copytree(older, closed)
    do("fill", folder=str(closed), first=3, count=3, day=1)
    shutil.copytree(older, killed)
    do("fill", folder=str(killed), first=3, count=3, day=1, killed=True)
    assert (killed / "w.duckdb.wal").stat().st_size > 0
    return Home(older, closed, killed)


def files_of(folder: Path) -> list[Path]:
    """Every file that a start reads."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")


def damage(path: Path, how: str, older: Path, chance: random.Random) -> None:
    """Do to one file what a disk, a backup or an operator may do."""
    data = path.read_bytes()
    at = chance.randrange(len(data))
    match how:
        case "flip":
            path.write_bytes(data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :])
        case "cut":
            path.write_bytes(data[:at])
        case "zeros":
            path.write_bytes(data[:at] + bytes(len(data[at : at + 512])) + data[at + 512 :])
        case "missing":
            path.unlink()
        case "twice":
            path.write_bytes(data + data)
        case "older" if older.exists():
            shutil.copyfile(older, path)
        case _:
            path.write_bytes(b"")


def start(do: Do, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """What is there after a start, by following what its messages say to do; and the messages."""
    said: list[str] = []
    for _ in range(3):
        found = do("survey", folder=str(folder))
        if "error" not in found and "died" not in found:
            return found, said
        message = found.get("error", f"died with {found.get('died')}")
        said.append(message)
        wal = folder / "w.duckdb.wal"
        if "Move" in message and wal.exists():
            wal.rename(folder / "moved.wal")
        else:
            assert "rebuild" in message or "error" not in found, message
            do("rebuild", folder=str(folder))
    raise AssertionError(said)


def journal_of(folder: Path) -> list[Path]:
    return sorted((folder / "w.landfill").glob("*.zst"))


def sound_batches(folder: Path) -> dict[str, int]:
    """The batches with a sound record in the journal, by looking at each of its bytes."""
    found: dict[str, int] = {}
    for path in journal_of(folder):
        for one in journal.scan_past_damage(path):
            if isinstance(one, Record) and one.header.delivery.batch_id is not None:
                found[str(one.header.delivery.batch_id.int - 1)] = one.header.delivery.events
    return found


def cases() -> list[tuple[str, int]]:
    return [(DAMAGES[number % len(DAMAGES)], SEED * 1000 + number) for number in range(CASES)]


@pytest.mark.parametrize(("how", "seed"), cases())
def test_one_damaged_file_costs_nothing_and_check_says_so(
    do: Do, home: Home, tmp_path: Path, how: str, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311  reproducible
    before = chance.choice((home.closed, home.killed))
    folder = tmp_path / "now"
    shutil.copytree(before, folder)
    path = chance.choice([path for path in files_of(folder) if path.stat().st_size])
    name = path.relative_to(folder)
    damage(path, how, home.older / name, chance)
    records = sound_batches(folder)
    found, said = start(do, folder)
    assert found["events"] == ALL, (name, said)
    assert found["adds_up"], (name, found["wrong"], said)
    if records != sound_batches(before):
        assert found["faults"], (name, said)


@pytest.mark.parametrize(("how", "seed"), cases())
def test_a_damaged_journal_alone_brings_back_every_sound_record(
    do: Do, home: Home, tmp_path: Path, how: str, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311  reproducible
    folder = tmp_path / "now"
    shutil.copytree(home.killed, folder)
    path = chance.choice(journal_of(folder))
    damage(path, how, home.older / path.relative_to(folder), chance)
    sound = sound_batches(folder)
    for name in ("w.duckdb", "w.duckdb.wal"):
        (folder / name).unlink()
    found, _ = start(do, folder)
    assert found["events"] == sound
    assert found["adds_up"]
    if how in ("flip", "zeros") and sound != ALL:
        assert found["faults"]


def test_a_flipped_bit_in_the_first_record_leaves_the_others_when_the_log_is_lost(
    do: Do, home: Home, tmp_path: Path
) -> None:
    folder = tmp_path / "now"
    shutil.copytree(home.killed, folder)
    (folder / "w.duckdb.wal").unlink()
    path = journal_of(folder)[-1]
    first = next(one for one in journal.scan(path))
    data = bytearray(path.read_bytes())
    data[first.carried_at + 20] ^= 4
    path.write_bytes(data)
    found = do("survey", folder=str(folder), resend=[3])
    assert found["events"] == ALL
    assert found["again"] == ["accepted"]
    assert any("kept beside" in fault for fault in found["faults"])
    assert journal.list_kept(folder)[0].read_bytes() == bytes(data[first.start : first.end])


@pytest.mark.parametrize("name", ["w.duckdb", "w.duckdb.wal", "w.erased.json", "w.landfill/.lock", "w.quarantine"])
def test_a_folder_in_the_place_of_a_file_or_the_other_way_round_ends_in_one_line(
    do: Do, home: Home, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "now"
    shutil.copytree(home.closed, folder)
    path = folder / name
    if path.is_dir():
        shutil.rmtree(path)
        path.write_text("")
    else:
        path.unlink(missing_ok=True)
        path.mkdir()
    assert str(path) in do("survey", folder=str(folder))["error"]
