"""Audit event in, telemetry event out: what names a person is left behind here, and nowhere later.

Pure: no I/O and no clock. Props and the address are not even looked at. Of the context the safe keys pass, with what
`context_values` leaves of their values: a safe key is no licence for free text. No message repeats a value.
"""

import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NoReturn
from uuid import UUID, uuid4

from penpot_telemetry.context_values import reduce_context
from penpot_telemetry.errors import InvalidEventError
from penpot_telemetry.events import FRONTEND_TYPES, NAME, ZERO_UUID, AuditEvent, Origin, TelemetryEvent

BACKEND_TYPE = re.compile(r"[a-z-]{1,50}")

LATEST_DELAY = timedelta(hours=1)

# -- the outline -----------------------------------------------------------------------------------------------------


def anonymise(event: AuditEvent, *, row_id: UUID | None = None, pseudonym_key: bytes | None = None) -> TelemetryEvent:
    """What may be stored and sent of an audit event. Raises InvalidEventError, which names the field.

    `row_id` is random when it is not given; with a `pseudonym_key` the profile id is replaced by its keyed hash.
    """
    check_name(event.name, event.type, event.origin)
    profile_id = event.profile_id or ZERO_UUID
    if pseudonym_key is not None:
        profile_id = pseudonymise(profile_id, pseudonym_key)
    reduced = reduce_context(event.origin, event.context)
    return TelemetryEvent(
        row_id or uuid4(),
        event.name,
        event.type,
        profile_id,
        truncate_day(event.created_at, "created-at"),
        truncate_day(event.tracked_at, "tracked-at"),
        reduced.context,
        reduced.changed,
    )


def check_event(event: object) -> AuditEvent:
    """An AuditEvent as it is; raises InvalidEventError for anything else."""
    if type(event) is AuditEvent:
        return event
    raise InvalidEventError("event: should be an AuditEvent")


def read_frontend_event(
    raw: object, *, profile_id: UUID | None, ip_addr: str | None, request_at: datetime
) -> AuditEvent:
    """One event as a browser posts it: `name`, `type`, and optionally `props`, `context` and `timestamp`.

    A timestamp after the request or more than an hour before it becomes the request's. The profile is the session's:
    what the event itself claims is not read. Raises InvalidEventError.
    """
    fields = _fields(raw)
    tracked_at = _instant(fields, request_at)
    if not request_at - LATEST_DELAY <= tracked_at <= request_at:
        tracked_at = request_at
    return _event(fields, "frontend", tracked_at, request_at, profile_id, ip_addr)


def read_backend_event(raw: object, *, now: datetime) -> AuditEvent:
    """One event of the server's own: as above, with its `profile-id`; a timestamp in the future becomes `now`."""
    fields = _fields(raw)
    profile_id = fields.get("profile-id")
    try:
        profile = None if profile_id is None else UUID(profile_id) if isinstance(profile_id, str) else _refuse()
    except ValueError:
        raise InvalidEventError("profile-id: not a uuid") from None
    tracked_at = min(_instant(fields, now), now)
    return _event(fields, "backend", tracked_at, tracked_at, profile, None)


# -- names, times, ids -----------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def check_name(name: str, type_: str, origin: Origin) -> None:
    """Raises InvalidEventError unless name and type are words that a program wrote."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise InvalidEventError("name: should be 1 to 250 of the characters A-Z a-z 0-9 _ -, with a letter among them")
    if origin == "frontend" and type_ not in FRONTEND_TYPES:
        raise InvalidEventError(f"type: should be one of {', '.join(sorted(FRONTEND_TYPES))}")
    if not isinstance(type_, str) or not BACKEND_TYPE.fullmatch(type_):
        raise InvalidEventError("type: should be 1 to 50 of the characters a-z -")


def truncate_day(moment: datetime, field: str) -> datetime:
    """Midnight UTC of the day of an aware datetime."""
    if moment.tzinfo is None:
        raise InvalidEventError(f"{field}: should have a time zone")
    try:
        moment = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    except OverflowError:
        raise InvalidEventError(f"{field}: beyond the calendar") from None
    return _midnight(moment.year, moment.month, moment.day)


@lru_cache(maxsize=512)
def _midnight(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, tzinfo=UTC)


@lru_cache(maxsize=65_536)
def pseudonymise(profile_id: UUID, key: bytes) -> UUID:
    """The keyed hash (HMAC-SHA-256) of a profile id, shaped as a random uuid: no instant, and no way back.

    The zero uuid stays: it says that there is no profile.
    """
    if profile_id == ZERO_UUID:
        return profile_id
    return UUID(bytes=hmac.digest(key, profile_id.bytes, "sha256")[:16], version=4)


# -- reading raw events ----------------------------------------------------------------------------------------------


def _event(  # noqa: PLR0913, PLR0917  one line for each field of the event
    fields: Mapping[str, object],
    origin: Origin,
    tracked_at: datetime,
    created_at: datetime,
    profile_id: UUID | None,
    ip_addr: str | None,
) -> AuditEvent:
    name, type_ = fields.get("name"), fields.get("type")
    if not isinstance(name, str):
        raise InvalidEventError("name: should be text")
    if not isinstance(type_, str):
        raise InvalidEventError("type: should be text")
    check_name(name, type_, origin)
    return AuditEvent(
        name=name,
        type=type_,
        origin=origin,
        tracked_at=tracked_at,
        created_at=created_at,
        profile_id=profile_id,
        ip_addr=ip_addr,
        props=_mapping(fields, "props"),
        context=_mapping(fields, "context"),
    )


def _fields(raw: object) -> Mapping[str, object]:
    if not isinstance(raw, Mapping):
        raise InvalidEventError("event: should be a map of fields")
    return raw


def _mapping(fields: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = fields.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidEventError(f"{name}: should be a map")
    return value


def _instant(fields: Mapping[str, object], default: datetime) -> datetime:
    """`timestamp` (or `tracked-at`): ISO 8601 with a zone, epoch milliseconds, or an aware datetime."""
    value = fields.get("timestamp", fields.get("tracked-at"))
    if value is None:
        return default
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            moment = datetime.fromtimestamp(value / 1000, UTC)
        elif isinstance(value, datetime):
            moment = value
        else:
            _refuse()
        return moment.astimezone(UTC) if moment.tzinfo else _refuse()
    except (ValueError, OverflowError, OSError):
        raise InvalidEventError("timestamp: should be ISO 8601 with a zone, or epoch milliseconds") from None


def _refuse() -> NoReturn:
    raise ValueError
