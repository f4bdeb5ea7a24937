"""What a body is: every kind of envelope fault has its reason, and of a report only figures are kept."""

import msgspec
import pytest

from penpot_telemetry.wire.limits import Limits
from receiver.intake.decode import Batch, Rejection, Report, decode_body, safe_stat
from tests.integration.receiving import body_of, rows

STATS = [
    # name, value, whether it is kept
    ("total-teams", 3, True),
    ("avg-files-on-project", 1.5, True),
    ("jvm-heap-max", 2**40, True),
    ("os-name", "Linux", True),
    ("os-version", "6.1.0", True),
    ("total-teams", True, False),
    ("total-teams", "3", False),
    ("total-teams", 2**63, False),
    ("total-teams", float("nan"), False),
    ("total-teams", float("inf"), False),
    ("email-domains", 3, False),
    ("TOTAL-teams", 3, False),
    ("total-" + "x" * 65, 3, False),
    ("total-teams\n", 3, False),
    ("os-name", "ana@example.org", False),
    ("os-name", "acme.example.org", False),
    ("os-name", "x" * 65, False),
    ("os-name", 3, False),
    ("public-uri", "Linux", False),
    ("total-teams", None, False),
    ("total-teams", [3], False),
]


@pytest.mark.parametrize(("name", "value", "is_kept"), STATS, ids=[str(n) for n in range(len(STATS))])
def test_a_stat_is_kept_when_name_and_value_are_known_to_be_safe(name: str, value: object, is_kept: bool) -> None:
    assert safe_stat(name, value) == (value if is_kept else None)


VERSIONS = [
    ("2.18.0", "2.18.0"),
    ("develop-2.17.0-RC1", "develop-2.17.0-RC1"),
    ("%version%", "unknown"),
    ("", "unknown"),
    (None, "unknown"),
    ("2.18 of ana@example.org", "other"),
    ("v" * 129, "other"),
    ("v" * 300, "other"),
]


@pytest.mark.parametrize(("sent", "stored"), VERSIONS)
def test_a_version_that_is_none_costs_no_events(sent: object, stored: str) -> None:
    body = msgspec.json.decode(body_of(rows(3)), type=dict[str, object]) | {"version": sent}
    found = decode_body(msgspec.json.encode(body))
    assert isinstance(found, Batch)
    assert (found.version, found.page.frame.height) == (stored, 3)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("supersedes", ["ana@example.org"], "wrong-shape"),
        ("digest", "sha256:" + "0" * 64, "wrong-digest"),
        ("type", "telemetry-of-another-kind", "unknown-type"),
        ("events", "****", "bad-base64"),
    ],
)
def test_a_fault_of_the_envelope_has_its_reason_and_repeats_no_value(field: str, value: object, reason: str) -> None:
    body = msgspec.json.decode(body_of(rows(3)), type=dict[str, object]) | {field: value}
    found = decode_body(msgspec.json.encode(body))
    assert isinstance(found, Rejection)
    assert found.reason == reason
    assert str(value) not in found.message or isinstance(value, int)


def test_a_limit_of_events_holds_to_the_event() -> None:
    assert isinstance(decode_body(body_of(rows(3)), Limits(events=3)), Batch)
    found = decode_body(body_of(rows(4)), Limits(events=3))
    assert isinstance(found, Rejection)
    assert found.reason == "too-many-events"


def report(**fields: object) -> bytes:
    """A legacy report of a current Penpot."""
    base = {
        "type": "telemetry-legacy-report",
        "version": "2.18.0",
        "instance-id": "b6d7c1f4-5e0a-8c1e-8005-2d3f7a9b1c22",
    }
    return msgspec.json.encode(base | fields)


def test_the_counts_of_a_report_are_kept_and_nothing_that_names_somebody() -> None:
    counters: dict[str, object] = {"navigate": 7, "update-file": 2, "ana@example.org": 1, "create file": 1, "push": "x"}
    stats = {
        "total-users": 3,
        "total-accomulated-events": 9,
        "auth-backend-penpot": 2,
        "auth-backend-oidc": 1,
        "auth-backend-ana": 4,
        "auth-backend-eva": 5,
        "email-domains": ["example.org"],
        "public-uri": "https://penpot.example.org",
        "referer": "taiga",
        "event-counters": counters,
    }
    found = decode_body(report(stats=stats, subscriptions=["ana@example.org"]))
    assert isinstance(found, Report)
    assert found.stats == {
        "total-users": 3,
        "total-accomulated-events": 9,
        "auth-backend-penpot": 2,
        "auth-backend-oidc": 1,
        "auth-backend-other": 9,
        "event-counters": {"navigate": 7, "update-file": 2},
    }
    assert found.dropped_stats == 3 + 3


def test_a_report_counts_a_bounded_number_of_names() -> None:
    found = decode_body(report(stats={"event-counters": {f"e-{number:04}": number for number in range(2_000)}}))
    assert isinstance(found, Report)
    kept = found.stats["event-counters"]
    assert isinstance(kept, dict)
    assert list(kept) == [f"e-{number:04}" for number in range(1_500, 2_000)]


def test_a_report_without_stats_or_subscriptions_is_one() -> None:
    for body in (report(), report(subscriptions=["ana@example.org"]), report(stats={})):
        assert isinstance(decode_body(body), Report)


@pytest.mark.parametrize(
    "body",
    [
        report(stats=["ana@example.org"]),
        report(stats={"total-users": 1})[:-9],
        report(subscriptions="ana@example.org"),
        b'{"version":"1.0","instance-id":5,"email-domains":["example.org"]}',
        b'{"subscriptions":["ana@example.org"],',
    ],
)
def test_of_a_report_that_cannot_be_read_no_byte_is_kept(body: bytes) -> None:
    found = decode_body(body)
    assert isinstance(found, Rejection)
    assert not found.is_kept
