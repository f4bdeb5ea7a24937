"""`python -m tests.crash --n 1000`: many schedules, then a table; exit code 1 when an event was lost or doubled.

A schedule that failed is named by its seed: `python -m tests.crash --replay SEED` prints and runs it alone.
"""

import pprint
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

import click

from tests.crash.rig import Tally, run_schedules
from tests.crash.schedule import make_schedule

TOGETHER = 20
"""Schedules that share one receiver and its files, which are rebuilt at their end."""

SHOWN = 10
"""Marks that are named of each kind."""


@click.command()
@click.option("--n", "count", default=20, show_default=True, type=click.IntRange(1), help="Schedules to run.")
@click.option("--seed", default=1, show_default=True, type=int, help="The first one; the others count on from it.")
@click.option("--jobs", default=2, show_default=True, type=click.IntRange(1, 16), help="Receivers at work at once.")
@click.option("--replay", type=int, metavar="SEED", help="Print the schedule of this seed and run it alone.")
def main(count: int, seed: int, jobs: int, replay: int | None) -> None:
    """Kill sender and receiver, spoil the network, and count every event."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()
    if replay is not None:
        pprint.pp(make_schedule(replay), width=118)
        count, seed, jobs = 1, replay, 1
    tally = Tally()
    for came in run_all(range(seed, seed + count), jobs):
        tally.add(came)
        click.echo(
            f"{tally.schedules:>6} schedules  {tally.events:>8,} events  {tally.kills.total():>6,} kills  "
            f"{len(tally.lost)} lost  {len(tally.doubled)} doubled  {time.monotonic() - began:>6.0f} s"
        )
        tell_failures(came)
    tell(tally, seed, time.monotonic() - began)
    sys.exit(0 if tally.is_clean and tally.schedules == count else 1)


def run_all(seeds: Sequence[int], jobs: int) -> Iterator[Tally]:
    """Every schedule, some together, `jobs` receivers at once; tallies as they come."""
    groups = [seeds[start : start + TOGETHER] for start in range(0, len(seeds), TOGETHER)]
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        work = [pool.submit(run_schedules, list(group)) for group in groups]
        try:
            yield from (done.result() for done in as_completed(work))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def tell_failures(came: Tally) -> None:
    """What went wrong, and how to see it again."""
    for title, found in (("lost", came.lost), ("doubled", came.doubled)):
        for mark in found[:SHOWN]:
            seed = mark.split("-")[1] if "-" in mark else "?"
            click.echo(f"  {title}: {mark}    (replay: python -m tests.crash --replay {seed})")
    for problem in came.problems:
        click.echo(f"  {problem}")


def tell(tally: Tally, seed: int, seconds: float) -> None:
    """The closing table."""
    rows: list[tuple[str, object]] = [
        ("seeds", f"{seed} to {seed + tally.schedules - 1}"),
        ("schedules", tally.schedules),
        ("events", tally.events),
        ("  written by another program", tally.written),
        ("deleted by another program", tally.removed),
        ("  missing, and said so", tally.missing),
        ("batches", tally.batches),
        ("batches known again", tally.duplicates),
        ("dropped by gc, known by name", tally.dropped),
        ("set aside, known by name", tally.set_aside),
        ("kills", tally.kills.total()),
    ]
    rows += [(f"  {victim}: {point}", number) for (victim, point), number in sorted(tally.kills.items())]
    rows += [("faults", tally.faults.total())]
    rows += [(f"  {kind}", number) for kind, number in sorted(tally.faults.items())]
    rows += [
        ("lost", len(tally.lost)),
        ("doubled", len(tally.doubled)),
        ("accounts that do not agree", len(tally.problems)),
        ("wall time", f"{seconds:.0f} s"),
    ]
    for name, value in rows:
        click.echo(f"{name:<44} {value:>12,}" if isinstance(value, int) else f"{name:<44} {value:>12}")


if __name__ == "__main__":
    main()
