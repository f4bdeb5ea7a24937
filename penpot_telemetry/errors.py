"""Every error this project raises on purpose: one small tree.

A leaf also subclasses the builtin that one would catch. Messages say where, what was found, what was expected
and what to do; they never carry a value taken from an event.
"""

from typing import Literal


class TelemetryError(Exception):
    """The root: everything below is an answer to a situation, not a defect."""


class ConfigError(TelemetryError, ValueError):
    """A setting is missing or cannot be understood; the message names the setting and what to put there."""


class InvalidEventError(TelemetryError, ValueError):
    """An audit event cannot be recorded; the message names the field, never its value."""


Reason = Literal[
    "not-json",
    "wrong-shape",
    "unknown-type",
    "bad-base64",
    "bad-blob",
    "bad-fressian",
    "too-large",
    "too-many-events",
    "wrong-digest",
    "id-reused",
    "bad-signature",
    "superseded",
]
"""Why a body can never be accepted, in the words of the quarantine table."""


class DecodeError(TelemetryError, ValueError):
    """Bytes that are not what they claim to be.

    `reason` is the typed cause; `offset` the byte (or character, for text) where reading stopped, when there is one.
    """

    def __init__(self, message: str, offset: int | None = None, reason: Reason = "bad-fressian") -> None:
        super().__init__(message if offset is None else f"{message} (at byte {offset})")
        self.offset = offset
        self.reason: Reason = reason


class LimitError(DecodeError):
    """Bytes that may be well formed but exceed a cap of the reader."""


class EncodeError(TelemetryError, ValueError):
    """A value that the format cannot carry; `row` is the index of the event that holds it, where events are written."""

    def __init__(self, message: str, row: int | None = None) -> None:
        super().__init__(message if row is None else f"event {row}: {message}")
        self.row = row


class DatabaseError(TelemetryError):
    """The database cannot do what is asked: unreachable, wrong table, missing right. Says what to do."""


class BusyError(TelemetryError):
    """Another sender has the lease of this database.

    `overdue`: it has had it for longer than a pass can last, so something is wrong, and the exit code is 1.
    """

    def __init__(self, message: str, *, overdue: bool = False) -> None:
        super().__init__(message)
        self.overdue = overdue


class LeaseLostError(TelemetryError):
    """Another sender took over while this one was silent; what this one did until then is kept."""
