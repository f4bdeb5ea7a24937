from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID, uuid4

import pytest

from penpot_telemetry.anonymise import (
    anonymise,
    pseudonymise,
    read_backend_event,
    read_frontend_event,
)
from penpot_telemetry.errors import InvalidEventError
from penpot_telemetry.events import ZERO_UUID, AuditEvent, Origin

NOW = datetime(2026, 7, 20, 13, 37, 42, 123456, tzinfo=UTC)
DAY = datetime(2026, 7, 20, tzinfo=UTC)
PROFILE = UUID("7b528bf8-134c-814f-8005-048545218ba3")
KEY = b"0123456789abcdef0123456789abcdef"


def audit_event(
    name: str = "navigate", type_: str = "action", origin: Origin = "frontend", **more: object
) -> AuditEvent:
    return AuditEvent(name, type_, origin, NOW, NOW, PROFILE, **more)  # type: ignore[arg-type]


# -- what is kept ----------------------------------------------------------------------------------------------------


def test_the_day_is_all_that_is_left_of_the_time() -> None:
    event = anonymise(audit_event())
    assert (event.created_at, event.tracked_at) == (DAY, DAY)


def test_the_day_is_that_of_utc() -> None:
    late = datetime(2026, 7, 21, 1, tzinfo=timezone(timedelta(hours=2)))
    assert anonymise(AuditEvent("n", "action", "frontend", late, late)).tracked_at == DAY


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(InvalidEventError, match="tracked-at"):
        anonymise(AuditEvent("n", "action", "frontend", NOW.replace(tzinfo=None), NOW))


def test_row_ids_are_random_and_carry_no_time() -> None:
    assert {anonymise(audit_event()).id.version for _ in range(100)} == {4}


def test_the_profile_id_is_kept_and_the_zero_uuid_stands_for_none() -> None:
    assert anonymise(audit_event()).profile_id == PROFILE
    assert anonymise(AuditEvent("n", "action", "frontend", NOW, NOW)).profile_id == ZERO_UUID


def test_props_and_address_have_nowhere_to_go() -> None:
    event = anonymise(audit_event(props={"email": "ada@example.org"}, ip_addr="203.0.113.7"))
    assert "ada" not in repr(event)
    assert "203.0.113.7" not in repr(event)


# -- the context -----------------------------------------------------------------------------------------------------


def test_the_context_is_what_the_rule_for_values_leaves_of_it() -> None:
    sent = {"browser": "Ada Lovelace", "engine": "Blink", "screen-width": "wide", "email": "ada@example.org"}
    event = anonymise(audit_event(context=sent))
    assert event.context == {"browser": "other", "engine": "Blink"}
    assert event.changed == ("browser", "screen-width")


def test_the_safe_keys_are_those_of_the_origin() -> None:
    sent = {"browser": "Firefox", "client-version": "2.4.0"}
    assert anonymise(audit_event(context=sent)).context == {"browser": "Firefox"}
    assert anonymise(audit_event(origin="backend", context=sent)).context == {"client-version": "2.4.0"}


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["n", "navigate", "create_shape-2", "A" * 250])
def test_a_name_is_a_word_of_the_program(name: str) -> None:
    assert anonymise(audit_event(name)).name == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "A" * 251,
        "ada@example.org",
        "two words",
        "a.b",
        "año",
        "name\n",
        "a\tb",
        "a/b",
        "\u0661",
        "1784554662123",
        "_-",
    ],
)
def test_any_other_name_is_refused_without_repeating_it(name: str) -> None:
    with pytest.raises(InvalidEventError, match=r"^name: ") as caught:
        anonymise(audit_event(name))
    assert len(name) < 2 or name not in str(caught.value)


@pytest.mark.parametrize(
    ("origin", "type_", "good"),
    [
        ("frontend", "action", True),
        ("frontend", "identify", True),
        ("frontend", "trigger", True),
        ("frontend", "command", False),
        ("backend", "command", True),
        ("backend", "some-word", True),
        ("backend", "Command", False),
        ("backend", "", False),
        ("backend", "x" * 51, False),
    ],
)
def test_a_type_is_one_of_the_origin(origin: Origin, type_: str, good: bool) -> None:
    if good:
        assert anonymise(audit_event(type_=type_, origin=origin)).type == type_
    else:
        with pytest.raises(InvalidEventError, match=r"^type: "):
            anonymise(audit_event(type_=type_, origin=origin))


# -- pseudonyms ------------------------------------------------------------------------------------------------------


def test_a_pseudonym_is_the_same_each_time_and_tells_nothing() -> None:
    first = pseudonymise(PROFILE, KEY)
    assert first == pseudonymise(PROFILE, KEY)
    assert first.version == 4
    assert first != PROFILE
    assert first != pseudonymise(PROFILE, KEY[::-1])
    assert first != pseudonymise(uuid4(), KEY)


def test_no_profile_stays_no_profile_under_a_pseudonym() -> None:
    assert anonymise(AuditEvent("n", "action", "frontend", NOW, NOW), pseudonym_key=KEY).profile_id == ZERO_UUID


def test_with_a_key_the_profile_id_is_replaced() -> None:
    assert anonymise(audit_event(), pseudonym_key=KEY).profile_id == pseudonymise(PROFILE, KEY)


# -- raw events ------------------------------------------------------------------------------------------------------


def frontend(**fields: object) -> AuditEvent:
    raw = {"name": "navigate", "type": "action", **fields}
    return read_frontend_event(raw, profile_id=PROFILE, ip_addr="203.0.113.7", request_at=NOW)


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        (None, NOW),
        (NOW - timedelta(minutes=59), NOW - timedelta(minutes=59)),
        (NOW - timedelta(hours=1), NOW - timedelta(hours=1)),
        (NOW - timedelta(hours=1, seconds=1), NOW),
        (NOW + timedelta(seconds=1), NOW),
        ("2026-07-20T13:30:00Z", datetime(2026, 7, 20, 13, 30, tzinfo=UTC)),
        ("2026-07-20T15:30:00+02:00", datetime(2026, 7, 20, 13, 30, tzinfo=UTC)),
        (1784554200000, datetime(2026, 7, 20, 13, 30, tzinfo=UTC)),
        (0, NOW),
    ],
)
def test_a_clock_that_is_wrong_is_replaced_by_that_of_the_request(timestamp: object, expected: datetime) -> None:
    assert frontend(timestamp=timestamp).tracked_at == expected


def test_a_browser_does_not_choose_its_profile() -> None:
    assert frontend(**{"profile-id": str(uuid4())}).profile_id == PROFILE


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": None}, "name"),
        ({"name": 5}, "name"),
        ({"type": ["action"]}, "type"),
        ({"props": []}, "props"),
        ({"context": "Chrome"}, "context"),
        ({"timestamp": "yesterday"}, "timestamp"),
        ({"timestamp": "2026-07-20T13:30:00"}, "timestamp"),
        ({"timestamp": 10**30}, "timestamp"),
        ({"timestamp": float("nan")}, "timestamp"),
        ({"timestamp": True}, "timestamp"),
    ],
)
def test_a_bad_field_is_named(fields: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidEventError, match=f"^{field}: "):
        frontend(**fields)


@pytest.mark.parametrize("raw", [None, 5, "navigate", [], [{"name": "navigate"}]])
def test_what_is_no_map_is_no_event(raw: object) -> None:
    with pytest.raises(InvalidEventError, match=r"^event: "):
        read_frontend_event(raw, profile_id=None, ip_addr=None, request_at=NOW)


def test_a_backend_event_brings_its_own_profile_and_past() -> None:
    raw = {"name": "get-file", "type": "command", "profile-id": str(PROFILE), "timestamp": "2026-07-01T08:00:00Z"}
    event = read_backend_event(raw, now=NOW)
    assert (event.origin, event.profile_id) == ("backend", PROFILE)
    assert event.tracked_at == event.created_at == datetime(2026, 7, 1, 8, tzinfo=UTC)


def test_a_backend_event_of_the_future_happened_now() -> None:
    raw = {"name": "get-file", "type": "command", "timestamp": "2030-01-01T00:00:00Z"}
    assert read_backend_event(raw, now=NOW).tracked_at == NOW


@pytest.mark.parametrize("profile_id", ["me", 5, ""])
def test_a_backend_event_of_no_real_profile_is_refused(profile_id: object) -> None:
    with pytest.raises(InvalidEventError, match=r"^profile-id: "):
        read_backend_event({"name": "get-file", "type": "command", "profile-id": profile_id}, now=NOW)
