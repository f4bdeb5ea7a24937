"""The names that a program may use are there, naming the package loads nothing, and the map of the modules is right."""

import re
import subprocess
import sys
from inspect import getdoc
from pathlib import Path

import pytest

import penpot_telemetry

NAMES = [
    "AuditEvent",
    "BusyError",
    "ConfigError",
    "DatabaseError",
    "InvalidEventError",
    "PassReport",
    "RecordResult",
    "RejectedEvent",
    "Settings",
    "Status",
    "TelemetryError",
    "open_database",
    "push_audit_events",
    "read_settings",
    "read_status",
    "record_event",
    "record_events",
    "run_pass",
]
"""Written out by hand: to take one away breaks a program."""


def test_the_public_names_are_these() -> None:
    assert sorted(penpot_telemetry.__all__) == NAMES
    assert set(NAMES) <= set(dir(penpot_telemetry))


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_can_be_imported_and_says_what_it_is(name: str) -> None:
    found = getattr(penpot_telemetry, name)
    assert found.__module__.startswith("penpot_telemetry.")
    assert getdoc(found)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'ship_everything'"):
        _ = penpot_telemetry.ship_everything


def test_importing_the_package_loads_none_of_its_modules() -> None:
    code = "import sys, penpot_telemetry; print([m for m in sys.modules if m.startswith('penpot_telemetry.')])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_the_modules_that_the_map_names_are_there() -> None:
    root = Path(__file__).parents[2]
    text = (root / "docs" / "where-to-change.md").read_text()
    named = set(re.findall(r"`([\w/]+\.(?:py|toml|json))`", text))
    sender = root / "penpot_telemetry"
    assert len(named) > 20
    assert [path for path in named if not (root / path).exists() and not (sender / path).exists()] == []
