"""What a body is: every kind of envelope fault has its reason, and of a report only figures are kept."""

import msgspec
import pytest

from penpot_telemetry.wire.limits import Limits
from receiver.ingest import Batch, Rejection, read_body, safe_stat
from tests.integration.receiving import body_of, rows

STATS = [
    # name, value, whether it is kept
    ("total-teams", 3, True),
    ("avg-files-on-project", 1.5, True),
    ("jvm-heap-max", 2**40, True),
    ("os-name", "Linux", True),
    ("os-version", "6.1.0-13 amd64", True),
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
    ("os-name", "x" * 65, False),
    ("os-name", 3, False),
    ("public-uri", "Linux", False),
    ("total-teams", None, False),
    ("total-teams", [3], False),
]


@pytest.mark.parametrize(("name", "value", "is_kept"), STATS, ids=[str(n) for n in range(len(STATS))])
def test_a_stat_is_kept_when_name_and_value_are_known_to_be_safe(name: str, value: object, is_kept: bool) -> None:
    assert safe_stat(name, value) == (value if is_kept else None)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("version", "2.18 of ana@example.org", "wrong-shape"),
        ("batch-seq", -1, "wrong-shape"),
        ("event-count", 4, "wrong-shape"),
        ("digest", "sha256:" + "0" * 64, "wrong-digest"),
        ("type", "telemetry-of-another-kind", "unknown-type"),
        ("events", "****", "bad-base64"),
    ],
)
def test_a_fault_of_the_envelope_has_its_reason_and_repeats_no_value(field: str, value: object, reason: str) -> None:
    body = msgspec.json.decode(body_of(rows(3)), type=dict[str, object]) | {field: value}
    found = read_body(msgspec.json.encode(body))
    assert isinstance(found, Rejection)
    assert found.reason == reason
    assert str(value) not in found.message or isinstance(value, int)


def test_a_limit_of_events_holds_to_the_event() -> None:
    assert isinstance(read_body(body_of(rows(3)), Limits(events=3)), Batch)
    found = read_body(body_of(rows(4)), Limits(events=3))
    assert isinstance(found, Rejection)
    assert found.reason == "too-many-events"
