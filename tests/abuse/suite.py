"""The suite: every mix by name, in a short form for `make test` and a long one for `make abuse`."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from penpot_telemetry.wire.limits import AT_WORK, MIB, RESERVED, TRANSACTION
from receiver.server.settings import Settings, read_settings
from receiver.server.state import DECODERS
from receiver.storage.paths import DataPaths
from tests.abuse import fuzz, lives, mixes
from tests.abuse.bodies import bombs
from tests.abuse.load import Ground, abused, honest_senders

BASE_MIB = 300
"""What a receiver holds that has taken some thousand small batches, and half as much again: Python, polars, DuckDB."""

TIGHT = {"RECEIVER_BODY_MIB": "4", "RECEIVER_DECODED_MIB": "8", "RECEIVER_BODY_BUDGET_MIB": "32"}
"""Settings under which the bound below is close to what an idle receiver holds, so that it can be broken."""

IMPATIENT = {"RECEIVER_BODY_SECONDS": "1"}


def memory_bound(environ: Mapping[str, str]) -> int:
    """The most that a receiver may hold under these settings, in MiB.

    Bodies are held up to their budget, whole or not; two are decoded, and so many as are at work hold their rows, all
    within the budget for that; a transaction holds what fills it and one more; the rest is there without any body.
    """
    nowhere = Path()
    found: Settings = read_settings(DataPaths(nowhere, nowhere, nowhere), "", 0, environ)
    most = found.limits.decoded
    at_work = min(AT_WORK, (DECODERS * RESERVED + found.at_work) * most)
    return BASE_MIB + (found.body_budget + at_work + TRANSACTION + most) // MIB


@dataclass(frozen=True, slots=True)
class Mix:
    """One kind of abuse. `alone`: it brings its own senders, at the moments that it needs them."""

    name: str
    run: Callable[[Ground], None]
    environ: Mapping[str, str] = field(default_factory=lambda: TIGHT)
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Came:
    """What became of a mix."""

    name: str
    ground: Ground
    bound: int

    @property
    def problems(self) -> list[str]:
        """What must not be, in words."""
        book = self.ground.book
        found = list(book.problems)
        if self.ground.memory > self.bound:
            found.append(f"{self.ground.memory} MiB were held, {self.bound} is the most")
        if not book.taken:
            found.append("no honest batch landed meanwhile")
        return found


def run_mix(folder: Path, mix: Mix) -> Came:
    """Abuse a receiver in `folder`, compare, and tell."""
    bombs()  # built before the clock runs
    folder.mkdir(exist_ok=True)
    with abused(folder, **mix.environ) as ground, nullcontext() if mix.alone else honest_senders(ground):
        try:
            mix.run(ground)
        except AssertionError as error:  # of the suite itself: something that it waited for never came
            ground.book.problems.append(f"the mix did not come to its end: {error!r}")
    return Came(mix.name, ground, memory_bound(mix.environ))


def list_mixes(scale: int) -> list[Mix]:
    """Every mix, `scale` times as long as in the short form."""
    return [
        Mix("bombs", partial(mixes.throw_bombs, rounds=1 + scale // 10), {}),
        Mix("costly bodies", partial(mixes.send_costly, rounds=scale), {}),
        Mix("100 % invalid", partial(mixes.send_mixed, part=1.0, count=100 * scale)),
        Mix("50 % invalid", partial(mixes.send_mixed, part=0.5, count=100 * scale)),
        Mix("5 % invalid", partial(mixes.send_mixed, part=0.05, count=100 * scale)),
        Mix("200 slow connections", partial(mixes.drip_slowly, seconds=2.5 * scale), TIGHT | IMPATIENT),
        Mix("odd requests", partial(mixes.ask_oddly, count=80 * scale)),
        Mix("tiny batches", partial(mixes.send_tiny, count=500 * scale)),
        Mix("too many at once", partial(mixes.send_tiny, count=100 * scale), TIGHT | {"RECEIVER_UNDER_WAY": "2"}),
        Mix("damaged requests", partial(ask_damaged, count=2000 * scale), TIGHT | IMPATIENT),
        Mix("files may not grow", partial(lives.stunt, seconds=scale), alone=True),
        Mix("SIGTERM", lives.terminate, TIGHT | {"RECEIVER_SHUTDOWN_SECONDS": "2"}, alone=True),
        Mix("kill -9", partial(lives.kill, times=scale), alone=True),
    ]


def ask_damaged(ground: Ground, count: int) -> None:
    """`count` damaged requests."""
    fuzz.ask_damaged(ground, range(count))
