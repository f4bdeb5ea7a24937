"""A seed as a schedule: what is recorded, how passes run, who dies where, and what the network does meanwhile.

Pure: the same seed is the same schedule. When exactly a process dies at a random moment is the machine's choice.
"""

from dataclasses import dataclass
from random import Random
from typing import Literal

from tests.crash import points
from tests.crash.proxy import FAULTS, Fault

READ_TIMEOUT = 0.6
"""Seconds that a sender waits for an answer; a delay above it makes a late duplicate."""


@dataclass(frozen=True, slots=True)
class Kill:
    """Who dies, and where: at the n-th time that a point is passed, or `after` seconds."""

    victim: str
    point: str
    nth: int = 1
    cut: float = 0.5
    after: float = 0.0


@dataclass(frozen=True, slots=True)
class Pass:
    """Events recorded before and during one run of the sender, and what goes wrong in it.

    `back`: a killed receiver is started again while the sender still runs. `second`: another sender at once.
    `refusing`: whatever comes is refused with 403, though some of it may have come through before. `neighbours`: other
    programs write to the table and delete from it all the time. `database`: its server ends the sender's connection, or
    a backend of it is killed so that it starts again with recovery. `lease`: a killed sender left one behind, or the
    sender is stopped until another one has taken its lease over. `moment` is when, in seconds.
    """

    record: int
    during: int
    kills: tuple[Kill, ...]
    faults: tuple[Fault, ...]
    down: bool
    back: bool
    second: bool
    refusing: bool
    late: int
    neighbours: bool = False
    database: Literal["", "cut", "crash"] = ""
    lease: Literal["", "left behind", "taken over"] = ""
    moment: float = 0.0


@dataclass(frozen=True, slots=True)
class Schedule:
    """`cap`: rows that may wait before gc drops some. `poison`: every so manyth event is refused with 400."""

    seed: int
    batch_rows: int
    cap: int | None
    poison: int
    passes: tuple[Pass, ...]


def make_schedule(seed: int) -> Schedule:
    """The schedule of a seed."""
    chance = Random(seed)  # noqa: S311  a seed, so that a failure can be seen again
    batch_rows = chance.choice((3, 7, 20))
    cap = chance.choice((None, None, 4, 12, 30))
    poison = chance.choice((0, 0, 0, 11))
    groups = {"always", "replay"} | ({"gc"} if cap is not None else set()) | ({"poison"} if poison else set())
    passes = tuple(make_pass(chance, batch_rows, groups) for _ in range(chance.randint(4, 7)))
    return Schedule(seed, batch_rows, cap, poison, passes)


def make_pass(chance: Random, batch_rows: int, groups: set[str]) -> Pass:
    """One pass. In two of three the sender is killed, in one of three the receiver; half have a bad network."""
    faults = [make_fault(chance) for _ in range(chance.choice((0, 0, 1, 2, 3)))]
    deaths = [
        make_kill(chance, victim, groups)
        for victim, share in (("sender", 0.65), ("receiver", 0.35))
        if chance.random() < share
    ]
    kills = tuple(death for death in deaths if isinstance(death, Kill))
    for death in deaths:
        if isinstance(death, Fault):
            faults.insert(chance.randint(0, min(1, len(faults))), death)
    has_gc_kill = any(kill.point.startswith("gc") for kill in kills)  # in an outage gc has something to drop
    return Pass(
        record=chance.randint(0, 3 * batch_rows),
        during=chance.choice((0, 0, 0, 5)),
        kills=kills,
        faults=tuple(faults),
        down=chance.random() < (0.7 if has_gc_kill else 0.1),
        back=chance.random() < 0.5,
        second=chance.random() < 0.1,
        refusing=chance.random() < 0.08,
        late=chance.choice((0, 0, 1)),
        neighbours=chance.random() < 0.75,
        database=chance.choice(("", "", "", "", "", "", "", "cut", "cut", "crash")),
        lease=chance.choice(("", "", "", "", "", "", "", "", "left behind", "taken over")),
        moment=chance.uniform(0.02, 0.5),
    )


def make_fault(chance: Random) -> Fault:
    """One fault, often none."""
    kind = chance.choice(("none", "none", *FAULTS))
    if kind.endswith("delayed"):
        return Fault(kind, READ_TIMEOUT * chance.choice((0.05, 0.2, 1.3)))
    return Fault(kind, chance.uniform(0.02, 0.98))


def make_kill(chance: Random, victim: str, groups: set[str]) -> Kill | Fault:
    """One death: at a point or a random moment, or as a fault where only the proxy sees the moment."""
    table = points.SENDER if victim == "sender" else points.RECEIVER
    named = [name for name, point in table.items() if point.group in groups]
    name = chance.choice((*named, *points.SEEN_BY_PROXY[victim], points.RANDOM_MOMENT, points.RANDOM_MOMENT))
    if name in points.SEEN_BY_PROXY[victim]:
        return Fault(name, chance.uniform(0.1, 0.9), victim)
    nth = chance.randint(1, 90) if name in points.STATEMENTS else chance.choice((1, 1, 2, 3))
    if name in table and table[name].group != "always":
        nth = 1
    return Kill(victim, name, nth, chance.uniform(0.01, 0.99), chance.uniform(0.0, 0.25))
