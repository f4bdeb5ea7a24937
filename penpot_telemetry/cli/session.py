"""What a command works with: the settings, and a connection to the database."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from psycopg import Connection

    from penpot_telemetry.config import Settings


def read_settings(**overrides: str | None) -> "Settings":
    """Settings from the environment; an override that is given comes before it."""
    from penpot_telemetry import config  # noqa: PLC0415

    given = {name: value for name, value in overrides.items() if value is not None}
    return config.read_settings({**os.environ, **given}, root=hasattr(os, "geteuid") and os.geteuid() == 0)


@contextmanager
def open_sender(*, read_only: bool = False) -> "Iterator[tuple[Settings, Connection]]":
    """The settings and a connection; with telemetry off it says so, opens nothing and leaves with success."""
    settings = read_settings()
    if not settings.active:
        click.echo(settings.inactive_reason, err=True)
        sys.exit(0)
    from penpot_telemetry.connection import database_errors, open_database  # noqa: PLC0415

    with open_database(settings, read_only=read_only) as conn, database_errors():
        yield settings, conn
