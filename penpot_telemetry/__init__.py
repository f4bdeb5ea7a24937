"""Anonymous product telemetry beside a Penpot: anonymise, store, ship and collect garbage, exactly once.

What a program uses is named here, and loaded when it is first used. The receiver also uses `wire`, `events`, `errors`
and `context_values`. Every other module is private to this package and may change with any release.

    with open_database(read_settings(os.environ)) as conn:
        record_event(conn, event, settings)
        report = run_pass(conn, settings)
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penpot_telemetry.config import Settings, read_settings
    from penpot_telemetry.connection import open_database
    from penpot_telemetry.errors import BusyError, ConfigError, DatabaseError, InvalidEventError, TelemetryError
    from penpot_telemetry.events import AuditEvent
    from penpot_telemetry.pass_report import PassReport
    from penpot_telemetry.pipeline import push_audit_events, record_event, record_events, run_pass
    from penpot_telemetry.status import Status, read_status
    from penpot_telemetry.store import RecordResult, RejectedEvent

__all__ = [
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

_MODULES = {
    "config": ("Settings", "read_settings"),
    "connection": ("open_database",),
    "errors": ("BusyError", "ConfigError", "DatabaseError", "InvalidEventError", "TelemetryError"),
    "events": ("AuditEvent",),
    "pass_report": ("PassReport",),
    "pipeline": ("push_audit_events", "record_event", "record_events", "run_pass"),
    "status": ("Status", "read_status"),
    "store": ("RecordResult", "RejectedEvent"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    """Loads a public name from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
