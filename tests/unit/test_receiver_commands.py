"""The receiver's commands: their list, and what it costs to show it."""

import subprocess
import sys
from importlib import import_module

import click
import pytest

from receiver.cli.main import COMMANDS, main

SLOW = {"duckdb", "polars", "pyarrow", "requests", "starlette", "structlog", "uvicorn", "altair"}


@pytest.mark.parametrize("name", COMMANDS)
def test_each_line_of_the_help_is_that_of_its_command(name: str) -> None:
    place, line = COMMANDS[name]
    module, _, attribute = place.partition(":")
    command = getattr(import_module(f"receiver.cli.{module}"), attribute)
    assert isinstance(command, click.Command)
    assert line == command.get_short_help_str(200)


def test_the_names_are_in_order_and_an_unknown_one_is_an_argument_of_serve() -> None:
    ctx = click.Context(main)
    assert main.list_commands(ctx) == sorted(COMMANDS)
    assert main.get_command(ctx, "no-such-command") is None


@pytest.mark.parametrize(("words", "absent"), [(["--help"], SLOW), (["status", "--help"], SLOW - {"duckdb"})])
def test_help_loads_no_engine(words: list[str], absent: set[str]) -> None:
    program = f"""
import sys
from receiver.cli.main import main
try:
    main({words!r})
except SystemExit:
    pass
print(*sys.modules, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert not absent & set(done.stderr.split())
