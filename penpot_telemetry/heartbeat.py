"""The heartbeat file of `run --every`: written after every pass that ended, read by `penpot-telemetry health`.

One JSON object: when the pass ended, how, and when one last ended well. It is replaced as a whole, so that a reader
never sees half of one.
"""

import json
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penpot_telemetry.passes import PassResult

FUTURE = 300.0
"""Seconds: clocks may differ by so much. A time further ahead is not believed."""


def write_heartbeat(path: Path, result: "PassResult", last_success: datetime) -> None:
    """Replaces the file. Raises OSError."""
    report = result.report
    content = {
        "time": result.time.isoformat(),
        "outcome": result.outcome,
        "exit": result.exit,
        "failure": result.failure,
        "last-success": last_success.isoformat(),
        "shipped": report.shipped if report else 0,
        "pending": report.pending if report else None,
    }
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        new.write_text(json.dumps(content) + "\n", encoding="utf-8")
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a sender is well, and why, for a person."""

    is_well: bool
    reason: str


def read_health(path: Path, max_age: float, now: datetime) -> Health:
    """Whether a pass ended, and one ended well, within the last `max_age` seconds."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        ended = datetime.fromisoformat(content["time"])
        succeeded = datetime.fromisoformat(content["last-success"])
        age, success_age = (now - ended).total_seconds(), (now - succeeded).total_seconds()
        failure = content["failure"]
    except OSError as error:
        return Health(
            False, f"the heartbeat file cannot be read ({type(error).__name__}): does `run --every` write it?"
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return Health(False, "the heartbeat file holds no heartbeat: is it the one that `run --every` writes?")
    if not -FUTURE <= age <= max_age:
        return Health(
            False, f"the last pass ended at {content['time']}, which is not within the age that was asked for"
        )
    if success_age > max_age:
        return Health(False, f"no pass ended well since {content['last-success']}: {failure or 'see the log'}")
    return Health(
        True, f"the last pass ended at {content['time']}" + (f", kept everything: {failure}" if failure else "")
    )
