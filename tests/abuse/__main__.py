"""`python -m tests.abuse --scale 20`: every mix in its long form, then a table; exit code 1 when one is untrue."""

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click

from penpot_telemetry.wire.limits import MIB
from tests.abuse import lives
from tests.abuse.costly import COSTLY
from tests.abuse.siege import besiege
from tests.abuse.suite import TIGHT, Came, Mix, list_mixes, run_mix

HEAD = ("mix", "requests", "landed", "p50 ms", "p99 ms", "MiB", "bound", "answers to the abuse")
ROW = "{:<22} {:>9} {:>8} {:>8} {:>8} {:>6} {:>6}  {}"
DISK = 64 * MIB


@click.command()
@click.option("--scale", default=20, show_default=True, type=click.IntRange(1), help="Times the short form.")
@click.option("--siege", type=click.FloatRange(0.1), help="Everything at once for so many minutes, and nothing else.")
@click.option("--only", multiple=True, metavar="MIX", help="This mix only; may be given again.")
def main(scale: int, siege: float | None, only: Sequence[str]) -> None:
    """Abuse a receiver beside honest senders and count every batch."""
    if siege is not None:
        sys.exit(lay_siege(siege))
    came: list[Came] = []
    with tempfile.TemporaryDirectory(prefix="abuse-") as name:
        for number, mix in enumerate(mix for mix in list_mixes(scale) if not only or mix.name in only):
            click.echo(f"{mix.name} ...", nl=False)
            began = time.monotonic()
            came.append(run_mix(Path(name) / str(number), mix))
            click.echo(f" {time.monotonic() - began:.0f} s")
        if not only or "full disk" in only:
            came += fill_disk(Path(name) / "disk")
    click.echo("\n" + ROW.format(*HEAD))
    for one in came:
        click.echo(row(one))
    problems = [f"{one.name}: {problem}" for one in came for problem in one.problems]
    click.echo("\n".join(problems) or "every answer was true, nothing acknowledged is missing")
    sys.exit(1 if problems else 0)


def lay_siege(minutes: float) -> int:
    """The siege as a table; 0 when every honest batch landed and nothing was wrong."""
    with tempfile.TemporaryDirectory(prefix="siege-") as name:
        bodies = [make() for make in COSTLY.values()]
        came = besiege(Path(name) / "r", 60 * minutes, int(minutes), bodies)
        lines = {
            "honest batches": f"{len(came.seconds):,} landed, {came.undelivered} still under way at the end",
            "seconds to a receipt": f"{came.median:.2f} median, {max(came.seconds, default=0.0):.1f} most",
            "bad bodies": ", ".join(f"{n:,} answered {word}" for word, n in came.strange.most_common()),
            "most memory": f"{came.memory} MiB",
            "restarts": f"{len(came.restarts)}, {max(came.restarts, default=0.0):.1f} s at most",
            "log": f"{came.log_bytes / 1024:.0f} KiB",
            "disk": f"{came.disk_bytes / MIB:.1f} MiB",
            "wrong": "; ".join(came.wrong) or "nothing",
        }
    for title, text in lines.items():
        click.echo(f"{title:<22} {text}")
    return 1 if came.wrong else 0


def fill_disk(folder: Path) -> list[Came]:
    """The mix that needs a disk of its own; none where it may not be mounted."""
    ballast = folder / "ballast"
    with lives.small_disk(folder, DISK) as is_small:
        if not is_small:
            click.echo("full disk: may not mount a tmpfs here")
            return []
        return [run_mix(folder, Mix("full disk", lambda ground: lives.drown(ground, ballast), TIGHT, alone=True))]


def row(came: Came) -> str:
    """One line of the table. `landed`: of the honest batches, at the first try, while it lasted."""
    ground = came.ground
    book = ground.book
    answers = [f"{n} {word}" for word, n in ground.answers.most_common()]
    answers += [f"{n} honest batches asked with {status} to come later" for status, n in book.refusals.items()]
    answers += [f"{len(book.unanswered)} honest batches without an answer"] if book.unanswered else []
    return ROW.format(
        came.name,
        f"{book.sent + ground.answers.total():,}",
        f"{100 * book.share:.1f} %",
        f"{1000 * book.percentile(0.5):.0f}",
        f"{1000 * book.percentile(0.99):.0f}",
        ground.memory,
        came.bound,
        ", ".join(answers),
    ).rstrip()


if __name__ == "__main__":
    main()
