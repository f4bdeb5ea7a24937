"""`python -m benchmarks`: measure, print one table, keep a JSON of the run. `compare` holds two runs together."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from benchmarks.measure import Machine, Row, describe_machine, from_json, run_section, to_json

SECTIONS = ("codec", "intake", "sender")
RESULTS = Path(__file__).with_name("results")


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--rounds", default=7, show_default=True, help="Rounds that take turns.")
@click.option("--only", multiple=True, type=click.Choice(SECTIONS), help="A part of the table; may be repeated.")
@click.option("--quick", is_flag=True, help="One small round of everything: whether it works, not how fast it is.")
@click.pass_context
def main(context: click.Context, rounds: int, only: Sequence[str], quick: bool) -> None:
    """Measure every row of the table beside its floor or peer, and keep the figures in benchmarks/results/."""
    if context.invoked_subcommand is not None:
        return
    machine = describe_machine()
    rows: list[Row] = []
    for name in only or SECTIONS:
        click.echo(f"{name} ...", err=True)
        rows += run_section(name, 1 if quick else rounds, quick=quick)
    show(rows, machine)
    if not quick:
        click.echo(f"kept in {keep(rows, machine)}", err=True)


@main.command(hidden=True)
@click.argument("name", type=click.Choice(SECTIONS))
@click.argument("rounds", type=int)
@click.option("--quick", is_flag=True)
def section(name: str, rounds: int, quick: bool) -> None:
    """Measure one section in this process and print its rows as JSON."""
    click.echo(to_json(import_module(f"benchmarks.{name}").measure(rounds, quick=quick)))


@main.command()
@click.argument("before", type=click.Path(exists=True, path_type=Path))
@click.argument("after", type=click.Path(exists=True, path_type=Path))
def compare(before: Path, after: Path) -> None:
    """Two kept runs, row by row: the figures, and the ratios, which mean more when the machine was not the same."""
    table = Table(title=f"{before.stem} → {after.stem}", title_justify="left", box=None, pad_edge=False)
    for head in ("row", "figure before", "after", "ratio before", "after"):
        table.add_column(head, justify="left" if head == "row" else "right")
    old = {row.key: row for row in load(before)}
    for row in load(after):
        was = old.get(row.key)
        table.add_row(row.what, *(figures(was) if was else ("", "")), *figures(row))
    Console().print(table)


def figures(row: Row) -> tuple[str, str]:
    """A row's figure and ratio as text."""
    return f"{row.figure:,.1f} {row.unit}", row.show(row.ratio) if row.ratios else ""


def show(rows: Sequence[Row], machine: Machine) -> None:
    """The table."""
    table = Table(box=None, pad_edge=False)
    for head in ("what", "figure", "beside", "", "ratio", "spread", "at least", "aim", "met"):
        table.add_column(head, justify="left" if head in {"what", "beside", "met"} else "right")
    for row in rows:
        ratios = row.ratios
        targets = ("", "") if row.judged == "floor" else (row.show(row.least), row.show(row.aim))
        table.add_row(
            row.what,
            f"{row.figure:,.1f} {row.unit}",
            row.against,
            f"{row.other:,.1f} {row.unit}" if row.is_compared else "",
            row.show(row.ratio) if ratios else "",
            f"{row.show(min(ratios))} … {row.show(max(ratios))}" if ratios else "",
            *targets,
            row.verdict,
        )
    console = Console(width=None if sys.stdout.isatty() else 180)
    console.print(table)
    for note in sorted({row.note for row in rows if row.note}):
        console.print(f"note: {note}")
    build = "compiled" if machine.compiled else "interpreted"
    console.print(
        f"{datetime.now(UTC):%Y-%m-%d}, {machine.commit}, {build} kernel, {machine.processor}, {machine.cores} cores, "
        f"Python {machine.python}, {machine.system}, load {machine.load:.1f}; medians of {len(rows[0].rounds)} rounds"
    )


def keep(rows: Sequence[Row], machine: Machine) -> Path:
    """One JSON file a run, named by its time and commit."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{machine.commit}.json"
    path.write_text(json.dumps({"machine": asdict(machine), "rows": json.loads(to_json(rows))}, indent=1) + "\n")
    return path


def load(path: Path) -> list[Row]:
    """The rows of a kept run."""
    return from_json(json.dumps(json.loads(path.read_text())["rows"]))


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
