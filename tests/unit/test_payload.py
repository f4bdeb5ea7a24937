"""The POST bodies: both kinds, the optional envelope, and every way a body can be wrong."""

import base64
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from penpot_telemetry.errors import DecodeError, LimitError
from penpot_telemetry.wire.limits import Limits
from penpot_telemetry.wire.payload import (
    MOST,
    MOST_SUPERSEDED,
    EventsBatch,
    LegacyReport,
    Signature,
    Totals,
    build_events,
    build_legacy_report,
    digest_events,
    parse,
)

DATA = Path(__file__).parent.parent / "data"
INSTANCE = UUID("b6d7c1f4-5e0a-8c1e-8005-2d3f7a9b1c22")
PLAIN = EventsBatch("2.18.0", INSTANCE, "AAQAAA")
FULL = EventsBatch(
    "2.18.0",
    INSTANCE,
    "AAQAAA",
    batch_id=UUID(int=1),
    batch_seq=0,
    event_count=10_000,
    digest=digest_events("AAQAAA"),
    totals=Totals(recorded=5, shipped=4, dropped=1, quarantined=0, pending=0),
    signature=Signature(bytes(range(32)), bytes(range(64))),
    supersedes=(UUID(int=2), UUID(int=3)),
)
REPORT = LegacyReport("2.18.0", INSTANCE, {"total-users": 3, "nested": {"a": [1, None, "é"]}}, ["a@b.c"])


def body(**changes: Any) -> bytes:
    """A full body with some keys replaced, or removed where the value is `...`."""
    full = json.loads(build_events(FULL)) | {key.replace("_", "-"): value for key, value in changes.items()}
    return json.dumps({key: value for key, value in full.items() if value is not ...}).encode()


def refuse(data: bytes, limits: Limits = Limits()) -> DecodeError:  # noqa: B008
    with pytest.raises(DecodeError) as refusal:
        parse(data, limits)
    return refusal.value


# Both ways


@pytest.mark.parametrize("batch", [PLAIN, FULL], ids=["penpot", "ours"])
def test_a_batch_is_built_and_parsed(batch: EventsBatch) -> None:
    assert parse(build_events(batch)) == batch


def test_a_body_begins_with_the_keys_of_penpot_in_its_order() -> None:
    assert build_events(PLAIN) == (
        b'{"type":"telemetry-events","version":"2.18.0",'
        b'"instance-id":"b6d7c1f4-5e0a-8c1e-8005-2d3f7a9b1c22","events":"AAQAAA"}'
    )
    assert list(json.loads(build_events(FULL))) == [
        "type",
        "version",
        "instance-id",
        "events",
        "batch-id",
        "batch-seq",
        "event-count",
        "digest",
        "totals",
        "signature",
        "supersedes",
    ]


def test_a_legacy_report_is_built_and_parsed() -> None:
    data = build_legacy_report(REPORT)
    assert parse(data) == REPORT
    assert list(json.loads(data)) == ["type", "version", "instance-id", "stats", "subscriptions"]


@pytest.mark.parametrize("name", ["penpot-batch-1", "penpot-legacy-1"])
def test_a_body_of_penpot_is_parsed_and_built_again_byte_for_byte(name: str) -> None:
    data = (DATA / f"{name}.payload.json").read_bytes()
    batch = parse(data)
    assert isinstance(batch, EventsBatch)
    assert (batch.batch_id, batch.totals, batch.instance_id.version) == (None, None, 8)
    assert build_events(batch) == data.rstrip()


def test_a_digest_is_of_the_text_as_it_was_sent() -> None:
    assert digest_events("AAQAAA") == "sha256:" + hashlib.sha256(b"AAQAAA").hexdigest()
    assert digest_events("\ud83d").startswith("sha256:")


# Tolerance


def test_what_nobody_here_knows_is_ignored_and_null_is_absence() -> None:
    ours = ("batch_id", "batch_seq", "event_count", "digest", "totals", "signature", "supersedes")
    nulls: dict[str, Any] = dict.fromkeys(ours)
    assert parse(body(something={"new": [1, 2, {"deep": 10**400}]}, **nulls)) == PLAIN


@pytest.mark.parametrize("instance", [str(UUID(int=0)), str(UUID(int=2**128 - 1)), str(INSTANCE).upper()])
def test_any_uuid_is_an_instance(instance: str) -> None:
    batch = parse(body(instance_id=instance))
    assert batch.instance_id == UUID(instance)


ODD: dict[str, list[Any]] = {
    "batch_id": ["", 1, "x", ["x"]],
    "batch_seq": [-1, 1.5, "1", True, MOST + 1, 2**63, 10**400],
    "event_count": [-1, 1.5, "1", False, MOST + 1, 2**63],
    "totals": [
        5,
        [],
        {},
        {"recorded": 1},
        {**dict.fromkeys(("recorded", "shipped", "dropped", "quarantined"), 1), "pending": -1},
    ],
}


@pytest.mark.parametrize(
    ("key", "value"),
    [pytest.param(key, value, id=f"{key}-{i}") for key, values in ODD.items() for i, value in enumerate(values)],
)
def test_an_odd_field_of_ours_counts_as_absent_and_is_named(key: str, value: Any) -> None:
    batch = parse(body(**{key: value}))
    absent: dict[str, Any] = {key: None}
    assert batch == replace(FULL, **absent, ignored=(key.replace("_", "-"),))


VERSIONS = [
    (..., "unknown"),
    (None, "unknown"),
    (5, "unknown"),
    (["2.18.0"], "unknown"),
    ("%version%", "%version%"),
    ("v" * 250, "v" * 250),
    ("v" * 251, "other"),
]


@pytest.mark.parametrize(("sent", "read"), VERSIONS)
def test_a_body_is_not_refused_for_its_version(sent: Any, read: str) -> None:
    assert parse(body(version=sent)).version == read
    report = json.loads(build_legacy_report(REPORT)) | {"version": sent}
    data = json.dumps({key: value for key, value in report.items() if value is not ...}).encode()
    assert parse(data).version == read


@pytest.mark.parametrize("absent", [..., None])
def test_a_report_without_stats_or_subscriptions_has_none(absent: Any) -> None:
    report = json.loads(build_legacy_report(REPORT)) | {"stats": absent, "subscriptions": absent}
    data = json.dumps({key: value for key, value in report.items() if value is not ...}).encode()
    assert parse(data) == LegacyReport("2.18.0", INSTANCE, {}, [])


def test_as_many_superseded_batches_are_read_as_may_be_named() -> None:
    ids = tuple(UUID(int=number) for number in range(MOST_SUPERSEDED))
    most = replace(PLAIN, supersedes=ids)
    assert parse(build_events(most)) == most
    assert refuse(build_events(replace(PLAIN, supersedes=(*ids, UUID(int=99))))).reason == "wrong-shape"


# Refusal

WRONG: dict[str, tuple[str, list[Any]]] = {
    "instance_id": ("wrong-shape", [..., None, 5, "", "b6d7c1f4", "b6d7c1f4-5e0a-8c1e-8005-2d3f7a9b1c2g"]),
    "events": ("wrong-shape", [..., None, 5, ["AAQA"]]),
    "supersedes": ("wrong-shape", [5, "x", {}, [5], ["x"], [None], str(INSTANCE)]),
    "digest": (
        "wrong-digest",
        [
            "",
            5,
            "sha256:",
            "sha256:" + "g" * 64,
            "sha256:" + "0" * 63,
            "md5:" + "0" * 64,
            "sha256:" + "0" * 64 + "\n",
        ],
    ),
    "signature": (
        "bad-signature",
        [
            "",
            5,
            {},
            {"key": base64.b64encode(bytes(32)).decode()},
            {"key": base64.b64encode(bytes(31)).decode(), "value": base64.b64encode(bytes(64)).decode()},
            {"key": base64.b64encode(bytes(32)).decode(), "value": base64.b64encode(bytes(65)).decode()},
            {"key": "*" * 44, "value": base64.b64encode(bytes(64)).decode()},
        ],
    ),
}


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        pytest.param(key, value, reason, id=f"{key}-{i}")
        for key, (reason, values) in WRONG.items()
        for i, value in enumerate(values)
    ],
)
def test_a_key_that_a_body_cannot_do_without_or_that_guards_it_is_refused(key: str, value: Any, reason: str) -> None:
    assert refuse(body(**{key: value})).reason == reason


@pytest.mark.parametrize(
    ("key", "value"), [("stats", 5), ("stats", "x"), ("stats", []), ("subscriptions", 5), ("subscriptions", "x")]
)
def test_a_legacy_report_of_another_shape_is_refused(key: str, value: Any) -> None:
    data = json.dumps(json.loads(build_legacy_report(REPORT)) | {key: value}).encode()
    assert refuse(data).reason == "wrong-shape"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not-json"),
        (b"hello", "not-json"),
        (b"{", "not-json"),
        (b'{"type":"telemetry-events"} {}', "not-json"),
        (b'{"type":NaN}', "not-json"),
        (b'{"type":"telemetry-events","x":NaN}', "not-json"),
        (b'{"type":"telemetry-events","x":Infinity}', "not-json"),
        (b'{"type":"\xff"}', "not-json"),
        (b'{"type":"\xed\xa0\xbd"}', "not-json"),
        (b'{"type":"\\ud800"}', "unknown-type"),
        (b'\xef\xbb\xbf{"type":"telemetry-events"}', "not-json"),
        ('{"type":"telemetry-events"}'.encode("utf-16"), "not-json"),
        (b"null", "wrong-shape"),
        (b"[]", "wrong-shape"),
        (b"{}", "wrong-shape"),
        (b'{"type":5}', "wrong-shape"),
        (b'{"type":null}', "wrong-shape"),
        (b'{"type":"telemetry-other"}', "unknown-type"),
        (b'{"type":""}', "unknown-type"),
    ],
)
def test_each_reason_has_its_word(data: bytes, reason: str) -> None:
    error = refuse(data)
    assert error.reason == reason


def test_no_message_repeats_what_the_body_says() -> None:
    for data in (
        body(instance_id="s3cret"),
        b'{"type":"s3cret"}',
        body(supersedes=["s3cret"]),
        body(digest="s3cret"),
        b's3cret{"type"',
    ):
        assert "s3cret" not in str(refuse(data))


# Bombs


@pytest.mark.parametrize("data", [b'{"a":' * 200_000, b'{"type":"telemetry-events","x":' + b"[" * 200_000])
def test_a_body_nested_without_end_is_refused(data: bytes) -> None:
    assert isinstance(refuse(data), DecodeError)


def test_a_report_is_capped_in_depth_and_in_values() -> None:
    def nested(depth: int) -> bytes:
        data = json.loads(build_legacy_report(REPORT))
        value: Any = []
        for _ in range(depth - 2):
            value = [value]
        return json.dumps(data | {"stats": {"x": value}}).encode()

    assert isinstance(parse(nested(100), Limits(depth=101)), LegacyReport)
    assert isinstance(refuse(nested(103), Limits(depth=101)), LimitError)
    data = json.dumps(json.loads(build_legacy_report(REPORT)) | {"subscriptions": [[]] * 500_001}).encode()
    assert isinstance(refuse(data), LimitError)
    assert refuse(data).reason == "too-large"


def test_a_body_over_the_cap_is_not_looked_at() -> None:
    error = refuse(b"x" * 101, Limits(body=100))
    assert (type(error), error.reason) == (LimitError, "too-large")
