"""What a body costs, as numbers that are the same on every machine: bytes of rows, and work. And a search for worse.

The search is a fuzzer whose score is cost per byte: it changes the fressian of costly bodies, piece by piece, and
keeps what costs more for each byte of the body. `python -m tests.abuse.cost SECONDS` searches and rewrites the corpus.
"""

import json
import random
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from penpot_telemetry.errors import DecodeError
from penpot_telemetry.wire import batch, blob
from penpot_telemetry.wire.fressian.reader import Reader
from penpot_telemetry.wire.limits import RECEIPT
from tests.abuse.costly import COSTLY, body_of

CORPUS = Path(__file__).parents[1] / "data" / "costly_bodies.json"
KEPT = 12
LONGEST = 4096
"""The longest `events` text that is kept in the corpus; the search scores by byte, so its finds are short."""

BLOCK = 1 << 16


@dataclass(frozen=True, slots=True)
class Cost:
    """What one body was: its bytes, the work and the rows it made, and why it was refused, if it was."""

    received: int
    work: int
    rows: int
    inflated: int
    outcome: str

    @property
    def by_byte(self) -> float:
        """Bytes of work and rows for one that was received."""
        return (self.work + self.rows) / self.received


def cost_of(events: str) -> Cost:
    """The `events` text of a body, decoded as the receiver does it."""
    readers: list[Reader] = []
    begin = batch._FlatScan.__init__

    def watch(scan: batch._FlatScan, *args: object) -> None:
        begin(scan, *args)  # type: ignore[arg-type]
        readers.append(scan.reader)
        scans.append(scan)

    scans: list[batch._FlatScan] = []
    outcome, inflated = "loaded", 0
    with patch.object(batch._FlatScan, "__init__", watch):
        try:
            data = blob.decode_str(events)
            inflated = len(data)
            batch.read_flat(data, RECEIPT, len(events))
        except DecodeError as error:
            outcome = error.reason
    work = sum(RECEIPT.work(len(events)) - reader._work for reader in readers)
    rows = sum(scan.scanner.made for scan in scans)
    return Cost(len(events), work, rows, inflated, outcome)


def is_bounded(cost: Cost) -> bool:
    """Whether a body kept to the cost model: each number may pass its cap by the one step that is refused for it."""
    most = RECEIPT.allowance(cost.received)
    return (
        cost.inflated <= most
        and cost.rows <= most + 2 * RECEIPT.event * 6
        and cost.work <= RECEIPT.work(cost.received) + 2 * RECEIPT.event
    )


# --- the corpus -----------------------------------------------------------------------------------------------------


def read_corpus() -> dict[str, str]:
    """The best finds: a name, and the `events` text."""
    found: dict[str, str] = json.loads(CORPUS.read_text())
    return found


def events_of(body: bytes) -> str:
    """The `events` text of a body."""
    return str(json.loads(body)["events"])


# --- the search -----------------------------------------------------------------------------------------------------


def grow(data: bytes, dice: random.Random) -> bytes:
    """A short piece many times: what compression makes free."""
    at = dice.randrange(len(data))
    piece = data[at : at + dice.randrange(1, 64)]
    return data[:at] + piece * dice.randrange(1, 1 + BLOCK // len(piece)) + data[at:]


def drop(data: bytes, dice: random.Random) -> bytes:
    """A piece less."""
    at = dice.randrange(len(data))
    return data[:at] + data[at + dice.randrange(1, 64) :]


def change(data: bytes, dice: random.Random) -> bytes:
    """Another byte, wherever one like it stands nearby."""
    at, code = dice.randrange(len(data)), dice.randrange(256)
    part = data[at : at + BLOCK]
    return data[:at] + part.replace(part[:1], bytes([code])) + data[at + BLOCK :]


def set_code(data: bytes, dice: random.Random) -> bytes:
    """One byte, with a code of the format."""
    at = dice.randrange(len(data))
    return data[:at] + bytes([dice.choice(CODES)]) + data[at + 1 :]


CODES = bytes(
    (*range(0x80, 0xA8), *range(0xC0, 0xCB), 0xCC, 0xCD, 0xDA, 0xE3, 0xE4, 0xE5, 0xEC, 0xED, 0xEE, 0xEF, 0xF7)
)
CHANGES: Sequence[Callable[[bytes, random.Random], bytes]] = (grow, grow, drop, change, set_code, set_code)


def search(seconds: float, seed: int = 1, *, rewrite: bool = False) -> list[tuple[Cost, str]]:
    """The bodies that cost most for each of their bytes, the worst first, each of another origin.

    The search begins with the corpus, and to `rewrite` it with the bodies written by hand as well.
    """
    dice = random.Random(seed)
    best: dict[str, tuple[Cost, str, bytes]] = {}
    for name, events in (read_corpus() if CORPUS.exists() else {}).items():
        keep(best, name, blob_of(events))
    for name, make in COSTLY.items() if rewrite else ():
        if not name.startswith("a report"):
            keep(best, name, blob_of(events_of(make())))
    end = time.monotonic() + seconds
    while best and time.monotonic() < end:
        name = dice.choice(list(best))
        data = best[name][2]
        for _ in range(dice.randrange(1, 4)):
            data = dice.choice(CHANGES)(data or b"\xf7", dice)
        keep(best, name, data[: RECEIPT.decoded])
    found = sorted(((cost, events) for cost, events, _ in best.values()), key=lambda one: -one[0].by_byte)
    return found[:KEPT]


def blob_of(events: str) -> bytes:
    """The fressian of an `events` text, or none where it is more than a body of this size may have."""
    try:
        return blob.decode_str(events)
    except DecodeError:
        return b"\xf7"


def keep(best: dict[str, tuple[Cost, str, bytes]], name: str, data: bytes) -> None:
    """Remember a body of this origin when it costs more by byte than the one before."""
    events = events_of(body_of(data, level=3))
    cost = cost_of(events)
    if not is_bounded(cost):
        raise AssertionError(f"out of bounds: {cost}\n{events[:LONGEST]}")
    if len(events) <= LONGEST and (name not in best or cost.by_byte > best[name][0].by_byte):
        best[name] = cost, events, data


def write_corpus(found: Iterable[tuple[Cost, str]]) -> None:
    """The finds as a file for the tests."""
    named = {f"{cost.outcome}, {cost.by_byte:.0f} for a byte": events for cost, events in found}
    CORPUS.write_text(json.dumps(named, indent=1) + "\n")


if __name__ == "__main__":
    FOUND = search(float(sys.argv[1]), rewrite=True)
    for COST, _ in FOUND:
        sys.stdout.write(f"{COST.by_byte:12.0f} {COST}\n")
    write_corpus(FOUND)
