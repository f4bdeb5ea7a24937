"""Every input field carries a marker, and no marker gets past `anonymise`: not into a row, not onto the wire."""

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import quote
from uuid import UUID

import pytest
from psycopg import Connection

from penpot_telemetry import pipeline
from penpot_telemetry.config import Settings
from penpot_telemetry.decode import decode_lines
from penpot_telemetry.events import BACKEND_CONTEXT_KEYS, FRONTEND_CONTEXT_KEYS, AuditEvent, Origin
from penpot_telemetry.wire import blob
from tests.conftest import Receiver

NOW = datetime(2026, 7, 20, 13, 37, 42, 123456, tzinfo=UTC)
MILLIS = str(int(NOW.timestamp() * 1000))
MARKERS = {
    "e-mail": "zaphod.beeblebrox@example.org",
    "address": "203.0.113.77",
    "address 6": "2001:db8::cafe",
    "token": "tok_Zq8Xw2Lr9Vb4Nm7Kp1",
    "name": "Zaphod Beeblebrox",
    "instant": MILLIS,
    "moment": "13:37:42",
}
KEYS = sorted(FRONTEND_CONTEXT_KEYS | BACKEND_CONTEXT_KEYS)


def disguises(marker: str) -> Iterator[bytes]:
    """A marker plain, in base64 at each of the three offsets, in hex and in URL encoding."""
    plain = marker.encode()
    yield plain
    yield plain.upper()
    yield plain.lower()
    yield plain.hex().encode()
    yield plain.hex().upper().encode()
    yield quote(marker, safe="").encode()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for offset in range(3):
            middle = encode(b"\0" * offset + plain + b"\0" * 3)
            yield middle[4 : 4 + 4 * ((len(plain) + offset) // 3 - 1)]
    if marker == MILLIS:
        yield int(marker).to_bytes(8, "big")[2:]


def planted(marker: str) -> list[Mapping[str, object]]:
    """Events with the marker in every place that an event has, one place each and all places at once."""
    inside = {"deep": [{"deeper": marker}], marker: marker}
    context = {**dict.fromkeys(KEYS, marker), "session": marker, marker: marker, "nested": inside}
    wrapped = [marker, f"2.18.0 {marker}", f"Mozilla/5.0 ({marker})", f"Chrome/{marker}", f"2.18.0-{marker}"]
    single = [{key: value} for key in KEYS for value in [*wrapped, [marker], {"a": marker}]]
    good = {"name": "navigate", "type": "action"}
    return [
        {**good, "props": {"a": marker, "b": inside, marker: marker}, "context": context, "ip-addr": marker},
        {**good, marker: marker, "profile-id": marker, "id": marker, "source": marker, "created-at": marker},
        {**good, "timestamp": NOW.isoformat(), "tracked-at": marker},
        {**good, "timestamp": int(MILLIS)},
        *({**good, "context": one} for one in single),
        {**good, "name": marker.replace("_", " ")},
        {**good, "type": marker},
        {**good, "timestamp": marker},
    ]


@pytest.fixture
def everything(conn: Connection, shipping: Settings, receiver: Receiver) -> list[bytes]:
    """All that was stored, before and after shipping, all that was sent, and all that was said, as bytes."""
    said: list[bytes] = []
    for marker in MARKERS.values():
        recorded = pipeline.push_audit_events(
            conn,
            planted(marker),
            profile_id=UUID(int=7),
            ip_addr=MARKERS["address"],
            request_at=NOW,
            settings=shipping,
        )
        assert recorded.accepted > 100
        said.append(repr(recorded).encode())
        for origin, keys in (("frontend", FRONTEND_CONTEXT_KEYS), ("backend", BACKEND_CONTEXT_KEYS)):
            pipeline.record_event(conn, audit_event(origin, marker, keys), shipping)  # type: ignore[arg-type]
    said += dump(conn)
    receiver.reply = lambda body: (200 if "e" in str(body) else 500, b"")
    report = pipeline.run_pass(conn, replace(shipping, batch_rows=300))
    assert report.failure is None
    assert report.batches > 2
    said += dump(conn)
    for body in receiver.bodies:
        said.append(body)
        said.append(blob.decode_str(json.loads(body)["events"]))
        said += [line.encode() for line in decode_lines(body)]
    for headers in receiver.headers:
        said.append(repr({name: value for name, value in headers.items() if name != "Host"}).encode())
    return said


def audit_event(origin: Origin, marker: str, keys: frozenset[str]) -> AuditEvent:
    return AuditEvent(
        "navigate",
        "action",
        origin,
        NOW,
        NOW,
        None,
        ip_addr=marker,
        props={marker: marker},
        context={**dict.fromkeys(keys, marker), marker: marker, "x": {"y": [marker]}},
    )


def dump(conn: Connection) -> list[bytes]:
    """Every row of every table of both schemas, but for the clock of the ledger."""
    tables = conn.execute(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables "
        "WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
    ).fetchall()
    assert ("penpot_telemetry.outbox",) in tables
    found = []
    for (table,) in tables:
        for row in conn.execute(f"SELECT to_jsonb(t) - 'settled_at' - 'frozen_at' FROM {table} t"):  # noqa: S608  a catalogue's names
            found.append(json.dumps(row[0], ensure_ascii=False).encode())
    return found


def test_no_marker_gets_past(everything: list[bytes]) -> None:
    text = b"\n".join(everything)
    assert len(text) > 100_000
    found = {kind for kind, marker in MARKERS.items() for disguise in disguises(marker) if disguise in text}
    assert not found


def test_the_search_finds_each_disguise() -> None:
    for marker in MARKERS.values():
        padded = [b"x" * offset + marker.encode() + b"yyyy" for offset in range(3)]
        for text in padded:
            for hidden in (text, base64.b64encode(text), base64.urlsafe_b64encode(text), text.hex().encode()):
                assert any(disguise in hidden for disguise in disguises(marker)), (marker, hidden)
