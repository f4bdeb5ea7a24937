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
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Literal

import click

from penpot_telemetry.errors import BusyError, ConfigError, TelemetryError

if TYPE_CHECKING:
    from penpot_telemetry.config import Settings
    from penpot_telemetry.pass_report import PassReport
    from penpot_telemetry.status import Status

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


# -- one pass --------------------------------------------------------------------------------------------------------

Outcome = Literal["shipped", "kept", "busy", "off", "error"]


@dataclass(frozen=True, slots=True)
class PassResult:
    """How one pass ended. `failure` says why it did not ship everything, `report` is there when it got to work."""

    time: datetime
    outcome: Outcome
    exit: int
    failure: str | None = None
    report: "PassReport | None" = None


@dataclass(frozen=True, slots=True)
class Output:
    """Where a pass tells what it did: results on stdout, what needs attention on stderr.

    `timed`: with the time (UTC) on each line, and as JSON one object for each pass, however it ended.
    """

    as_json: bool = False
    timed: bool = False

    def say(self, text: str, *, err: bool = False) -> None:
        """One line, with its time if lines have one."""
        click.echo(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}" if self.timed else text, err=err)

    def show(self, result: PassResult) -> None:
        """A pass: one line for a person or for a program, and what needs attention on stderr."""
        if self.as_json:
            self._show_json(result)
        elif result.report is not None:
            _say_work(self, result.report)
        if result.report is not None:
            _say_problems(self, result.report)
        elif result.failure:
            self.say(result.failure, err=True)

    def _show_json(self, result: PassResult) -> None:
        head: dict[str, object] = {}
        if self.timed:
            head = {"time": result.time.isoformat(timespec="seconds"), "outcome": result.outcome}
        if self.timed or result.report is None:
            head |= {"exit": result.exit, "failure": result.failure}
        if self.timed or result.outcome != "off":
            click.echo(json.dumps(head | (asdict(result.report) if result.report else {}), default=str))


def run_once(settings: "Settings", *, as_json: bool = False) -> int:
    """One pass, told on stdout; problems on stderr. Returns the exit code."""
    output = Output(as_json)
    result = make_pass(settings, output)
    output.show(result)
    return result.exit


def make_pass(settings: "Settings", output: Output, stopped: Callable[[], bool] = lambda: False) -> PassResult:
    """One pass. What goes wrong in an expected way is part of the result."""
    if not settings.active:
        return PassResult(datetime.now(UTC), "off", SHIPPED, settings.inactive_reason)
    from stamina import instrumentation  # noqa: PLC0415  slow to import, and `--help` needs none of it

    from penpot_telemetry import connection, pipeline  # noqa: PLC0415
    from penpot_telemetry.config import require_endpoint  # noqa: PLC0415

    instrumentation.set_on_retry_hooks(())  # its own lines would go to stdout, between ours
    try:
        require_endpoint(settings)
        with connection.open_database(settings) as conn:
            report = pipeline.run_pass(conn, settings, progress=_Progress(output), stopped=stopped)
    except TelemetryError as error:
        busy = isinstance(error, BusyError) and not error.overdue
        return PassResult(datetime.now(UTC), "busy" if busy else "error", code_of(error), str(error))
    if report.failure:
        return PassResult(datetime.now(UTC), "kept", KEPT, report.failure, report)
    return PassResult(datetime.now(UTC), "shipped", SHIPPED, None, report)


def _say_work(output: Output, report: "PassReport") -> None:
    output.say(
        f"shipped {report.shipped:,} events in {report.batches:,} batches; "
        f"gc dropped {report.dropped:,}; {report.pending:,} wait",
    )
    if report.adopted:
        output.say(f"{report.adopted:,} of the rows were written by Penpot itself")


def _say_problems(output: Output, report: "PassReport") -> None:
    if report.dropped:
        output.say(
            f"gc dropped {report.dropped:,} of the oldest events: the receiver learns the number with the next batch",
            err=True,
        )
    if report.missing:
        output.say(f"{report.missing:,} rows of audit_log were deleted by another program: see status", err=True)
    if report.quarantined:
        output.say(
            f"set aside {report.quarantined:,} rows that are refused alone: see `penpot-telemetry quarantine list`",
            err=True,
        )
    for warning in report.warnings:
        output.say(warning, err=True)
    if report.failure:
        output.say(f"stopped: {report.failure}; {report.pending:,} events are kept", err=True)


class _Progress:
    """A line on stderr each second at most: overwritten on a terminal, one below the other elsewhere."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._overwrites = not output.timed and sys.stderr is not None and sys.stderr.isatty()
        self._next = time.monotonic() + 1.0

    def __call__(self, report: "PassReport") -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (1.0 if self._overwrites else 10.0)
        text = f"shipped {report.shipped:,} of {report.pending:,} events"
        if self._overwrites:
            click.echo(f"{text}\r", nl=False, err=True)
        else:
            self._output.say(text, err=True)


def exit_code(error: TelemetryError) -> int:
    """Says in one line what is the matter, and what that means for a caller."""
    click.echo(str(error), err=True)
    return code_of(error)


def code_of(error: TelemetryError) -> int:
    """The exit code that an error stands for. A cron job that overlaps the one before need not ring."""
    if isinstance(error, BusyError):
        return KEPT if error.overdue else SHIPPED
    return BAD_CONFIG if isinstance(error, ConfigError) else KEPT


# -- one pass after the other ----------------------------------------------------------------------------------------


def run_every(
    settings: "Settings",
    seconds: float,
    *,
    as_json: bool = False,
    metrics: str | None = None,
    heartbeat: Path | None = None,
) -> int:
    """A pass now and one every `seconds`, until SIGTERM or SIGINT, which let the page at hand be settled.

    `metrics` is an address for Prometheus, `heartbeat` a file that is written after every pass.
    """
    stop = threading.Event()
    output = Output(as_json, timed=True)
    observe = _watch(output, metrics, heartbeat)

    def finish(number: int, _: FrameType | None) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)  # the second one is not asked to wait

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, finish)
    while not stop.wait(random.uniform(0, MOST_DELAY)):  # noqa: S311  to spread load, nothing is secret
        started = time.monotonic()
        result = make_pass(settings, output, stop.is_set)
        output.show(result)
        observe(result)
        if result.exit == BAD_CONFIG:
            return BAD_CONFIG
        stop.wait(max(0.0, seconds - (time.monotonic() - started)))
    return SHIPPED


def _watch(output: Output, address: str | None, heartbeat: Path | None) -> Callable[[PassResult], None]:
    """What is done with the result of each pass beside telling it."""
    from penpot_telemetry.heartbeat import write_heartbeat  # noqa: PLC0415  a daemon's affair

    numbers = None
    if address is not None:
        from penpot_telemetry.metrics import PassMetrics  # noqa: PLC0415

        numbers = PassMetrics(address)
    last_success = datetime.now(UTC)  # a sender that has just begun has not failed yet

    def observe(result: PassResult) -> None:
        nonlocal last_success
        if result.exit == SHIPPED:
            last_success = result.time
        if numbers is not None:
            numbers.observe(result)
        if heartbeat is not None:
            try:
                write_heartbeat(heartbeat, result, last_success)
            except OSError as error:
                output.say(f"{heartbeat}: the heartbeat cannot be written: {error.strerror}", err=True)

    return observe


# -- no pass at all --------------------------------------------------------------------------------------------------


def dry_run(settings: "Settings", *, as_json: bool = False) -> int:
    """Says what a pass would send, and changes nothing."""
    if not settings.active:
        click.echo(settings.inactive_reason, err=True)
        return SHIPPED
    from penpot_telemetry import connection  # noqa: PLC0415
    from penpot_telemetry.preview import preview_page  # noqa: PLC0415
    from penpot_telemetry.status import read_status  # noqa: PLC0415

    with connection.open_database(settings, read_only=True) as conn:
        status = read_status(conn, settings)
        page = preview_page(conn, settings)
    plan = {
        "pending": status.pending,
        "batches": -(-status.pending // settings.page_rows),
        "first-batch-events": page.event_count if page else 0,
        "first-batch-bytes": len(page.body) if page else 0,
        "first-batch-odd": page.odd if page else 0,
        "uri": settings.endpoint.url if settings.endpoint else None,
        "excess": status.excess,
        "would-expire": status.would_expire,
    }
    if as_json:
        click.echo(json.dumps(plan))
    elif page is None:
        click.echo("nothing waits: nothing would be sent")
    else:
        click.echo(
            f"would send up to {status.pending:,} events in {plan['batches']:,} batches to "
            f"{plan['uri'] or '(PENPOT_TELEMETRY_URI is not set)'}; the first one: "
            f"{page.event_count:,} events, {len(page.body):,} bytes. Nothing was sent"
        )
    if page and page.odd:
        click.echo(f"{page.odd:,} rows up to there cannot be sent and will go into quarantine", err=True)
    if drop := describe_drop(status):
        click.echo(f"will drop {drop}", err=True)
    return SHIPPED


def describe_drop(status: "Status") -> str | None:
    """What the gc of the next pass would delete unsent, for a person; None when nothing."""
    parts = [
        f"{status.excess:,} rows above the cap" if status.excess else "",
        f"{status.would_expire:,} older than the retention" if status.would_expire else "",
    ]
    said = " and ".join(part for part in parts if part)
    return f"{said}, if the next pass can ship nothing" if said else None


if __name__ == "__main__":
    from penpot_telemetry.cli import main

    main(["run", *sys.argv[1:]], "python -m penpot_telemetry.run")
