"""A table for a person on a terminal, and for a program elsewhere."""

import sys
from collections.abc import Sequence
from shutil import get_terminal_size

import click


def print_table(title: str, heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table where the terminal is wide enough, else a line for each field: nothing is ever cut.

    Elsewhere than on a terminal, one line a row with tabs between its cells.
    """
    if not rows:
        click.echo(f"{title}: nothing")
        return
    lines = [[_plain(str(cell)) for cell in row] for row in (heads, *rows)]
    if sys.stdout is None or not sys.stdout.isatty():
        for line in lines:
            click.echo("\t".join(line))
        return
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    click.echo(title)
    if sum(widths) + 2 * (len(widths) - 1) <= get_terminal_size().columns:
        for line in lines:
            click.echo("  ".join(map(_align, line, heads, widths)).rstrip())
        return
    for line in lines[1:]:
        click.echo()
        for head, cell in zip(heads, line, strict=True):
            click.echo(f"{head}: {cell}")


def _align(cell: str, head: str, width: int) -> str:
    return cell.rjust(width) if head in {"rows", "events", "bytes", "seq"} else cell.ljust(width)


def _plain(text: str) -> str:
    """Text without what a terminal would obey, such as colours and tabs."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
