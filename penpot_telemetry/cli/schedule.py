"""`run --every`: one pass after the other, until a signal ends the process between two batches."""

import random
import re
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from penpot_telemetry.cli.output import Output, make_reported_pass
from penpot_telemetry.errors import ConfigError
from penpot_telemetry.passes import BAD_CONFIG, SHIPPED, PassResult

if TYPE_CHECKING:
    from penpot_telemetry.config import Settings

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


def run_every(
    settings: "Settings",
    seconds: float,
    *,
    as_json: bool = False,
    metrics: str | None = None,
    heartbeat: Path | None = None,
) -> int:
    """A pass now and one every `seconds`, until SIGTERM or SIGINT, which let the batch under way be acknowledged.

    `metrics` is an address for Prometheus, `heartbeat` a file that is written after every pass.
    """
    stop = threading.Event()
    output = Output(as_json, timed=True)
    observe = _watch(output, metrics, heartbeat)

    def finish(number: int, _: FrameType | None) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)  # a second signal ends the process at once

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, finish)
    while not stop.wait(random.uniform(0, MOST_DELAY)):  # noqa: S311  to spread load, nothing is secret
        started = time.monotonic()
        result = make_reported_pass(settings, output, stop.is_set)
        observe(result)
        if result.exit == BAD_CONFIG:
            return BAD_CONFIG
        stop.wait(max(0.0, seconds - (time.monotonic() - started)))
    return SHIPPED


def _watch(output: Output, address: str | None, heartbeat: Path | None) -> Callable[[PassResult], None]:
    """What is done with the result of each pass: metrics and heartbeat."""
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
