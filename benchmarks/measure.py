"""Rounds that take turns, and the row that comes of them. Times in seconds unless a name says otherwise."""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

Timer = Callable[[], float]

Judged = Literal["faster", "share", "times", "most", "floor"]
"""faster: other / figure, at least the target. share: the same in percent. times: figure / other, at most the target.
most: the figure itself, at most the target. floor: figure / other, without a target."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `rounds` has (figure, other) of every round, `other` 0 where there is none."""

    key: str
    what: str
    unit: str
    against: str
    judged: Judged
    least: float
    aim: float
    rounds: Sequence[tuple[float, float]]
    note: str = ""

    @property
    def figure(self) -> float:
        """The middle round."""
        return statistics.median(figure for figure, _ in self.rounds)

    @property
    def other(self) -> float:
        """The middle round of the floor or peer."""
        return statistics.median(other for _, other in self.rounds)

    @property
    def ratios(self) -> list[float]:
        """What is judged, round by round."""
        if self.judged == "most":
            return [figure for figure, _ in self.rounds]
        if not self.is_compared:
            return []
        if self.judged in {"times", "floor"}:
            return [figure / other for figure, other in self.rounds]
        return [other / figure for figure, other in self.rounds]

    @property
    def is_compared(self) -> bool:
        """Whether the floor or the peer was there."""
        return all(other for _, other in self.rounds)

    @property
    def ratio(self) -> float:
        """The middle of the ratios."""
        return statistics.median(self.ratios)

    @property
    def verdict(self) -> str:
        """Which target is met."""
        if self.judged == "floor" or not self.ratios:
            return ""
        ratio, upwards = self.ratio, self.judged in {"faster", "share"}
        for target, word in ((self.aim, "aim"), (self.least, "at least")):
            if ratio >= target if upwards else ratio <= target:
                return word
        return "short"

    def show(self, ratio: float) -> str:
        """A ratio as it is read."""
        match self.judged:
            case "faster":
                return f"{ratio:.2f}x faster" if ratio >= 1 else f"1/{1 / ratio:.1f}"
            case "share":
                return f"{ratio:.0%}"
            case "times" | "floor":
                return f"{ratio:.2f}x"
            case "most":
                return f"{ratio:.4g} {self.unit}"


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it was measured."""

    processor: str
    cores: int
    python: str
    system: str
    commit: str
    compiled: bool
    load: float = field(default_factory=lambda: os.getloadavg()[0])


def interleave(rounds: int, timers: Mapping[str, Timer]) -> dict[str, list[float]]:
    """Every timer once in each round, in turn from another one on; after one round that does not count."""
    found: dict[str, list[float]] = {name: [] for name in timers}
    order = list(timers)
    for name in order if rounds > 1 else ():
        timers[name]()
    for number in range(rounds):
        first = number % len(order)
        for name in order[first:] + order[:first]:
            found[name].append(timers[name]())
    return found


def pairs(figures: Sequence[float], others: Sequence[float], scale: float = 1e3) -> list[tuple[float, float]]:
    """Rounds of two timers, in milliseconds unless scaled otherwise."""
    return [(figure * scale, other * scale) for figure, other in zip(figures, others, strict=True)]


def alone(figures: Sequence[float], scale: float = 1e3) -> list[tuple[float, float]]:
    """Rounds of a figure that stands beside nothing."""
    return [(figure * scale, 0.0) for figure in figures]


def processor_time(work: Callable[[], object], times: int = 1) -> Timer:
    """The best of so many runs, in time of the processor: what else runs on the machine counts little."""

    def run() -> float:
        best = float("inf")
        for _ in range(times):
            started = time.process_time()
            work()
            best = min(best, time.process_time() - started)
        return best

    return run


def processor_time_of(command: Sequence[str]) -> Timer:
    """A process from start to end, in time of the processor."""

    def run() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return run


def describe_machine() -> Machine:
    """This machine and this commit."""
    from penpot_telemetry.wire import kernel  # noqa: PLC0415

    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        processor = models[0] if models else processor
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    ).stdout.strip()
    return Machine(
        processor=processor,
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()}",
        commit=commit or "unknown",
        compiled=kernel.COMPILED,
    )


def to_json(rows: Sequence[Row]) -> str:
    """Rows as one line."""
    return json.dumps([asdict(row) for row in rows])


def from_json(text: str) -> list[Row]:
    """Rows from that line."""
    return [Row(**{**fields, "rounds": [tuple(pair) for pair in fields["rounds"]]}) for fields in json.loads(text)]


def run_section(name: str, rounds: int, *, quick: bool) -> list[Row]:
    """The rows of one module of this package, measured in a process of its own."""
    command = [sys.executable, "-m", "benchmarks", "section", name, str(rounds), *(["--quick"] if quick else [])]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(done.returncode)
    return from_json(done.stdout.splitlines()[-1])
