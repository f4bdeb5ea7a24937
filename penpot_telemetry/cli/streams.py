"""The standard streams: open when they were closed, able to show any text, and read as files."""

import codecs
import json
import os
import sys
from io import TextIOWrapper
from typing import IO, Any, cast

import click

from penpot_telemetry.errors import ConfigError


def open_missing_streams() -> None:
    """Opens those of the three standard streams that are closed: a database's socket must not get their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def escape_what_a_terminal_cannot_show() -> None:
    """Letters beyond the terminal's encoding are written as JSON writes them, so that JSON stays JSON."""
    codecs.register_error("json-escape", _escape_letters)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="json-escape")


def _escape_letters(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


class InputFile(click.File):
    """A file to read, or stdin as `-`."""

    def __init__(self) -> None:
        super().__init__("rb")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> IO[bytes]:
        """Opens it. Raises ConfigError when stdin is closed."""
        if value == "-" and sys.stdin is None:
            raise ConfigError("stdin is closed: name a file, or send something through a pipe")
        return cast("IO[bytes]", super().convert(value, param, ctx))
