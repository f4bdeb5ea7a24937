"""What a pass did, for a person or for a program: results on stdout, what needs attention on stderr."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from penpot_telemetry.passes import PassResult, make_pass

if TYPE_CHECKING:
    from penpot_telemetry.config import Settings
    from penpot_telemetry.pass_report import PassReport


def run_once(settings: "Settings", *, as_json: bool = False) -> int:
    """One pass, reported on stdout; problems on stderr. Returns the exit code."""
    return make_reported_pass(settings, Output(as_json)).exit


def make_reported_pass(
    settings: "Settings", output: "Output", stopped: Callable[[], bool] = lambda: False
) -> PassResult:
    """One pass, with its progress and its result on the standard streams."""
    result = make_pass(settings, _Progress(output), stopped)
    output.show(result)
    return result


@dataclass(frozen=True, slots=True)
class Output:
    """Where a pass reports what it did: results on stdout, what needs attention on stderr.

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
            f"{report.quarantined:,} rows cannot be sent and are dead letters now: "
            "see `penpot-telemetry quarantine list`",
            err=True,
        )
    for warning in report.warnings:
        output.say(warning, err=True)
    if report.failure:
        output.say(f"stopped: {report.failure}; {report.pending:,} events are kept", err=True)


class _Progress:
    """A line on stderr each second at most: overwritten on a terminal, one below the other elsewhere.

    The clock starts with the first batch, so a pass of one batch has no such line.
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        self._overwrites = not output.timed and sys.stderr is not None and sys.stderr.isatty()
        self._next: float | None = None

    def __call__(self, report: "PassReport") -> None:
        now = time.monotonic()
        if self._next is None:
            self._next = now + 1.0
        if now < self._next:
            return
        self._next = now + (1.0 if self._overwrites else 10.0)
        text = f"shipped {report.shipped:,} of {report.pending:,} events"
        if self._overwrites:
            click.echo(f"{text}\r", nl=False, err=True)
        else:
            self._output.say(text, err=True)
