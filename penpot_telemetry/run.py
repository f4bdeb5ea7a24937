"""`python -m penpot_telemetry.run`: one pass of the pipeline, or one every so often. Settings in, exit code out.

0: shipped, nothing to do, or another sender is at work. 1: refused or unreachable, and everything is kept.
2: bad configuration. The same as `penpot-telemetry run`.
"""

import json
import random
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from types import FrameType
from typing import TYPE_CHECKING

import click

from penpot_telemetry.errors import BusyError, ConfigError, TelemetryError

if TYPE_CHECKING:
    from penpot_telemetry.config import Settings
    from penpot_telemetry.pipeline import Report

SHIPPED, KEPT, BAD_CONFIG = 0, 1, 2

MOST_DELAY = 10.0
"""Seconds: scheduled passes start up to this much later, so that many Penpots do not call at one instant."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def parse_interval(text: str) -> float:
    """`3h`, `15m`, `90s` or `1d` in seconds.

    >>> parse_interval("3h")
    10800.0
    """
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)([smhd])", text.strip())
    if found is None or float(found[1]) <= 0:
        raise ConfigError("an interval should look like 3h, 15m, 90s or 1d")
    return float(found[1]) * _UNITS[found[2]]


def run_once(settings: "Settings", *, as_json: bool = False, stopped: Callable[[], bool] = lambda: False) -> int:
    """One pass, told on stdout; problems on stderr. Returns the exit code, raises TelemetryError."""
    if not settings.active:
        click.echo(settings.inactive_reason, err=True)
        return SHIPPED
    from stamina import instrumentation  # noqa: PLC0415  slow to import, and `--help` needs none of it

    from penpot_telemetry import pipeline  # noqa: PLC0415

    instrumentation.set_on_retry_hooks(())  # its own lines would go to stdout, between ours
    pipeline.require_endpoint(settings)
    with pipeline.open_database(settings) as conn:
        report = pipeline.run_pass(conn, settings, progress=_Progress(), stopped=stopped)
    print_report(report, as_json=as_json)
    return KEPT if report.failure else SHIPPED


def dry_run(settings: "Settings", *, as_json: bool = False) -> int:
    """Says what a pass would send, and changes nothing."""
    if not settings.active:
        click.echo(settings.inactive_reason, err=True)
        return SHIPPED
    from penpot_telemetry import pipeline  # noqa: PLC0415

    with pipeline.open_database(settings) as conn:
        pending = pipeline.read_status(conn, settings).pending
        page = pipeline.preview_page(conn, settings)
    plan = {
        "pending": pending,
        "batches": -(-pending // settings.page_rows),
        "first-batch-events": page.event_count if page else 0,
        "first-batch-bytes": len(page.body) if page else 0,
        "uri": settings.endpoint.url if settings.endpoint else None,
    }
    if as_json:
        click.echo(json.dumps(plan))
    elif page is None:
        click.echo("nothing waits: nothing would be sent")
    else:
        click.echo(
            f"would send {pending:,} events in {plan['batches']:,} batches to "
            f"{plan['uri'] or '(PENPOT_TELEMETRY_URI is not set)'}; the first one: "
            f"{page.event_count:,} events, {len(page.body):,} bytes. Nothing was sent"
        )
    return SHIPPED


def run_every(settings: "Settings", seconds: float, *, as_json: bool = False) -> int:
    """A pass now and one every `seconds`, until SIGTERM or SIGINT, which let the page at hand be settled."""
    stop = threading.Event()

    def finish(number: int, _: FrameType | None) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)  # the second one is not asked to wait

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, finish)
    while not stop.wait(random.uniform(0, MOST_DELAY)):  # noqa: S311  to spread load, nothing is secret
        started = time.monotonic()
        try:
            run_once(settings, as_json=as_json, stopped=stop.is_set)
        except ConfigError:
            raise
        except TelemetryError as error:  # the next pass may find it gone
            click.echo(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}Z {error}", err=True)
        stop.wait(max(0.0, seconds - (time.monotonic() - started)))
    return SHIPPED


def print_report(report: "Report", *, as_json: bool = False) -> None:
    """What a pass did: one line for a person or for a program, and what needs attention on stderr."""
    if as_json:
        click.echo(json.dumps(asdict(report)))
    else:
        click.echo(
            f"shipped {report.shipped:,} events in {report.batches:,} batches; "
            f"gc dropped {report.dropped:,}; {report.pending:,} wait",
        )
    if report.adopted and not as_json:
        click.echo(f"{report.adopted:,} of the rows were written by Penpot itself")
    if report.dropped:
        click.echo(
            f"gc dropped {report.dropped:,} of the oldest events: the receiver learns the number with the next batch",
            err=True,
        )
    if report.missing:
        click.echo(f"{report.missing:,} rows of audit_log vanished by another hand: see status", err=True)
    if report.quarantined:
        click.echo(
            f"set aside {report.quarantined:,} rows that are refused alone: see `penpot-telemetry quarantine list`",
            err=True,
        )
    for warning in report.warnings:
        click.echo(warning, err=True)
    if report.failure:
        click.echo(f"stopped: {report.failure}; {report.pending:,} events are kept", err=True)


class _Progress:
    """A line on stderr each second at most: overwritten on a terminal, one below the other elsewhere."""

    def __init__(self) -> None:
        self._next = time.monotonic() + 1.0

    def __call__(self, report: "Report") -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (1.0 if sys.stderr.isatty() else 10.0)
        end = "\r" if sys.stderr.isatty() else "\n"
        click.echo(f"shipped {report.shipped:,} of {report.pending:,} events{end}", nl=False, err=True)


def exit_code(error: TelemetryError) -> int:
    """Says in one line what is the matter, and what that means for a caller."""
    click.echo(str(error), err=True)
    if isinstance(error, BusyError):  # a cron job that overlaps the one before need not ring
        return SHIPPED
    return BAD_CONFIG if isinstance(error, ConfigError) else KEPT


if __name__ == "__main__":
    from penpot_telemetry.cli import main

    main(["run", *sys.argv[1:]], "python -m penpot_telemetry.run")
