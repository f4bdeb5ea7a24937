"""One pass from settings to an exit code: opens the database, runs the pipeline, says how it ended.

0: shipped, nothing to do, or another sender is at work. 1: refused or unreachable, and everything is kept.
2: bad configuration.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from penpot_telemetry.errors import BusyError, ConfigError, TelemetryError

if TYPE_CHECKING:
    from penpot_telemetry.config import Settings
    from penpot_telemetry.pass_report import PassReport

SHIPPED, KEPT, BAD_CONFIG = 0, 1, 2

Outcome = Literal["shipped", "kept", "busy", "off", "error"]


@dataclass(frozen=True, slots=True)
class PassResult:
    """How one pass ended. `failure` says why it did not ship everything, `report` is there when it got to work."""

    time: datetime
    outcome: Outcome
    exit: int
    failure: str | None = None
    report: "PassReport | None" = None


def make_pass(
    settings: "Settings", progress: Callable[["PassReport"], None], stopped: Callable[[], bool] = lambda: False
) -> PassResult:
    """One pass. What goes wrong in an expected way is part of the result."""
    if not settings.active:
        return PassResult(datetime.now(UTC), "off", SHIPPED, settings.inactive_reason)
    from penpot_telemetry import connection, pipeline  # noqa: PLC0415  slow to import
    from penpot_telemetry.config import require_endpoint  # noqa: PLC0415

    try:
        require_endpoint(settings)
        with connection.open_database(settings) as conn:
            report = pipeline.run_pass(conn, settings, progress=progress, stopped=stopped)
    except TelemetryError as error:
        busy = isinstance(error, BusyError) and not error.overdue
        return PassResult(datetime.now(UTC), "busy" if busy else "error", code_of(error), str(error))
    if report.failure:
        return PassResult(datetime.now(UTC), "kept", KEPT, report.failure, report)
    return PassResult(datetime.now(UTC), "shipped", SHIPPED, None, report)


def code_of(error: TelemetryError) -> int:
    """The exit code of an error. Two overlapping cron jobs are no failure, unless one is stuck."""
    if isinstance(error, BusyError):
        return KEPT if error.overdue else SHIPPED
    return BAD_CONFIG if isinstance(error, ConfigError) else KEPT
