"""Every call to the operating system and the database fails once, in SQLite's way: nothing answered is lost, nothing is
doubled, the next start works.

A few points, drawn with a fixed seed, unless STORAGE_FAULTS=all; STORAGE_FAULTS=7 takes each seventh.
"""

import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.storage.children import BATCHES, OPERATIONS
from tests.storage.conftest import Do
from tests.storage.faults import KINDS

WISH = os.environ.get("STORAGE_FAULTS", "")
FEW = 2
SENT = range(BATCHES + 3)
ERASED = [number for number in range(BATCHES) if number % 2]


@pytest.fixture(scope="module")
def before(do: Do, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The files before each operation: closed, or with three batches in the journal that were never committed."""
    top = tmp_path_factory.mktemp("before")
    closed, ahead = top / "closed", top / "ahead"
    closed.mkdir()
    do("fill", folder=str(closed), first=0, count=3, day=0)
    do("fill", folder=str(closed), first=3, count=3, day=1)
    shutil.copytree(closed, ahead)
    do("append_only", folder=str(ahead), first=BATCHES, count=3)
    return {name: ahead if name == "replay" else closed for name in OPERATIONS}


def points_of(operation: str, calls: int) -> list[tuple[int, str]]:
    """Which call fails and how."""
    every = [(call, kind) for call in range(1, calls + 1) for kind in KINDS]
    if WISH == "all":
        return every
    if WISH:
        return every[:: int(WISH)]
    return random.Random(operation).sample(every, FEW)  # noqa: S311  the same ones each time


def fault_of(do: Do, before: Path, folder: Path, operation: str, point: tuple[int, str]) -> str | None:
    """What is wrong after one call has failed, or None."""
    call, kind = point
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(before, folder)
    said = do("operate", folder=str(folder), operation=operation, at_call=call, kind=kind)
    answered = {int(line) for line in (folder / "answered").read_text().split()}
    found = do("survey", folder=str(folder))
    if "events" not in found:
        return f"the next start: {found}; before it: {said}"
    again = do("survey", folder=str(folder), resend=list(SENT))
    return wrong_in(operation, said, answered, found, again) or wrong_rebuild(do, folder, again)


def wrong_in(  # noqa: PLR0911  one return a promise
    operation: str, said: dict[str, Any], answered: set[int], found: dict[str, Any], again: dict[str, Any]
) -> str | None:
    """What of the promises does not hold."""
    there = {int(number): events for number, events in found["events"].items()}
    if any(events != number + 1 for number, events in there.items()):
        return f"doubled or cut: {there}"
    is_erased = operation == "erase" and not any(number in there for number in ERASED)
    kept = set(range(BATCHES)) - (set(ERASED) if is_erased else set()) | {one for one in answered if one >= 0}
    if -1 in answered and not is_erased:
        return "answered as erased, and still there"
    if not kept <= set(there):
        return f"lost: {kept - set(there)} of {answered} answered; {said}"
    if not (found["adds_up"] and again["adds_up"]):
        return f"does not add up: {found['wrong']} {again['wrong']}"
    if found["faults"]:
        return f"check finds {found['faults']}; {said}"
    if "error" in again or any(status not in ("accepted", "duplicate") for status in again["again"]):
        return f"sent again: {again}"
    everything = set(SENT) - (set(ERASED) if is_erased else set())
    if {int(number) for number in again["events"]} != everything:
        return f"after all was sent again: {again['events']}"
    return None


def wrong_rebuild(do: Do, folder: Path, again: dict[str, Any]) -> str | None:
    """Whether the journal makes the same warehouse anew."""
    rebuilt = do("rebuild", folder=str(folder))
    return None if rebuilt.get("digest") == again["digest"] else f"a rebuild is not the same: {rebuilt}"


@pytest.mark.parametrize("operation", [name for name in OPERATIONS if name != "retention"])
def test_any_call_may_fail_once(do: Do, before: dict[str, Path], tmp_path: Path, operation: str) -> None:
    shutil.copytree(before[operation], tmp_path / "counted")
    counted = do("operate", folder=str(tmp_path / "counted"), operation=operation, at_call=None, kind="")
    wrong = {
        point: fault
        for point in points_of(operation, counted["calls"])
        if (fault := fault_of(do, before[operation], tmp_path / "now", operation, point)) is not None
    }
    assert wrong == {}


def test_any_call_of_retention_may_fail_once(do: Do, before: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(before["retention"], tmp_path / "counted")
    counted = do("operate", folder=str(tmp_path / "counted"), operation="retention", at_call=None, kind="")
    for call, kind in points_of("retention", counted["calls"]):
        folder = tmp_path / "now"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(before["retention"], folder)
        do("operate", folder=str(folder), operation="retention", at_call=call, kind=kind)
        found = do("survey", folder=str(folder), resend=list(range(BATCHES)))
        assert (found["adds_up"], found["again"]) == (True, ["duplicate"] * BATCHES), (call, kind, found)
        assert found["events"] == {str(number): number + 1 for number in range(BATCHES)}, (call, kind)
