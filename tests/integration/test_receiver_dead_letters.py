"""One bad event costs one event: a live Penpot's page is loaded without it, and it can be brought back.

The bodies are built byte by byte from the description of the format, as Penpot writes them: keys through the caches.
"""

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
import requests
import zstandard

from penpot_telemetry.wire.limits import Limits
from receiver.intake import operations
from receiver.intake.commit import receive
from receiver.intake.operations import erase_id, revive
from receiver.intake.prepare import prepare
from receiver.lifecycle import retention
from receiver.lifecycle.rebuild import rebuild
from receiver.lifecycle.startup import open_store
from receiver.reports import account
from receiver.storage.paths import DataPaths
from receiver.storage.records import Receipt
from receiver.storage.store import Store
from tests.integration.receiving import ask, command, running

PENPOT = "b6d7c1f4-5e0a-8c1e-8005-2d3f7a9b1c22"
ANA = UUID("0d9e2f30-aaaa-4bbb-8ccc-00000000000f")
MIB = 1024 * 1024

MAP, KEYWORD, INSTANT = b"\xa1\xed", b"\xa2\xf7", b"\xa3"
VECTOR = b"\xef\xe3\x0aclj/vector\x01"
NAMES = ("name", "type", "source", "tracked-at", "profile-id", "props", "context")
KEYS = {name: bytes((0x80 + 2 * number,)) for number, name in enumerate(NAMES)}
"""Each keyword takes a slot of the cache, and its name the next."""


def number(value: int) -> bytes:
    """An int from 0 on."""
    if value < 64:
        return bytes((value,))
    if value < 1 << 11:
        return bytes((0x50 + (value >> 8), value & 0xFF))
    if value < 1 << 18:
        return bytes((0x68 + (value >> 16),)) + (value & 0xFFFF).to_bytes(2, "big")
    return b"\xf8" + value.to_bytes(8, "big")


def text(value: str) -> bytes:
    """A string: packed, with its length, or in chunks of 65,536."""
    raw = value.encode()
    if len(raw) < 8:
        return bytes((0xDA + len(raw),)) + raw
    head = b""
    while len(raw) > 65_536:
        head, raw = head + b"\xe2" + number(65_536) + raw[:65_536], raw[65_536:]
    return head + b"\xe3" + number(len(raw)) + raw


def uuid(value: UUID) -> bytes:
    """C3, and its 16 bytes."""
    return b"\xc3\xd9\x10" + value.bytes


def mapping(**entries: bytes) -> bytes:
    """A map with keyword keys that are not cached."""
    return MAP + b"".join(KEYWORD + text(key) + value for key, value in entries.items()) + b"\xfd"


DAY = INSTANT + b"\xf8" + (1_784_505_600_000).to_bytes(8, "big")
GOOD = {
    "name": text("navigate"),
    "type": text("action"),
    "source": text("telemetry:frontend"),
    "tracked-at": DAY,
    "profile-id": uuid(UUID(int=7)),
    "props": mapping(route=text("workspace")),
    "context": mapping(browser=text("Firefox"), email=text("ana@example.org")),
}
FIRST = (
    b"\xef\xe1clj/map\x01\xed"
    + b"\xcd\xef\xe3\x0bclj/keyword\x02\xf7\xcd"
    + text("name")
    + GOOD["name"]
    + b"".join(b"\xcd" + KEYWORD + b"\xcd" + text(name) + GOOD[name] for name in ("type", "source"))
    + b"\xcd"
    + KEYWORD
    + b"\xcd"
    + text("tracked-at")
    + b"\xef\xe3\x0cjava/instant\x01"
    + DAY[1:]
    + b"".join(b"\xcd" + KEYWORD + b"\xcd" + text(name) + GOOD[name] for name in NAMES[4:])
    + b"\xfd"
)
"""The first event: every tag and every key is written out."""


def event(**changes: bytes | None) -> bytes:
    """A later event; a key of None is left out, as Penpot leaves out nil."""
    fields = GOOD | {key.replace("_", "-"): value for key, value in changes.items()}
    entries = b"".join(KEYS[name] + value for name in NAMES if (value := fields[name]) is not None)
    return MAP + entries + b"\xfd"


def profile(owner: int) -> bytes:
    """An event of its own profile."""
    return event(profile_id=uuid(UUID(int=owner)))


def body_of(events: list[bytes], **envelope: object) -> bytes:
    """The POST body of a page."""
    data = VECTOR + b"\xec" + number(len(events)) + b"".join(events)
    blob = b"\x00\x04" + len(data).to_bytes(4, "big") + zstandard.ZstdCompressor().compress(data)
    sent = base64.urlsafe_b64encode(blob).rstrip(b"=").decode()
    return json.dumps(
        {"type": "telemetry-events", "version": "2.18.0", "instance-id": PENPOT, "events": sent} | envelope
    ).encode()


BAD = {
    "no map": (b"\x05", "not-a-map"),
    "no name": (event(name=None), "missing-field"),
    "no type": (event(type=None), "missing-field"),
    "no source": (event(source=None), "missing-field"),
    "no tracked-at": (event(tracked_at=None), "missing-field"),
    "a number as name": (event(name=b"\x05"), "wrong-type"),
    "a number as tracked-at": (event(tracked_at=b"\x05"), "wrong-type"),
    "a string as profile": (event(profile_id=text("ana")), "wrong-type"),
    "a vector as props": (event(props=b"\xa0\xe4"), "wrong-type"),
    "a string as context": (event(context=text("ana@example.org")), "wrong-type"),
    "a uuid of five bytes": (event(props=mapping(id=b"\xc3\xd5abcde")), "wrong-type"),
    "a long name": (event(name=text("n" * 251)), "too-long"),
    "a string over the limit": (event(props=mapping(route=text("r" * (MIB + 1)))), "too-long"),
    "lists in lists": (event(props=mapping(a=b"\xe5" * 200 + b"\x01")), "too-deep"),
    "lists in lists without end": (event(context=mapping(browser=b"\xe5" * 5_000 + b"\x01")), "too-deep"),
}


@pytest.fixture
def places(tmp_path: Path) -> DataPaths:
    return DataPaths(tmp_path / "telemetry.duckdb", tmp_path / "landfill", tmp_path / "quarantine")


@pytest.fixture
def store(places: DataPaths) -> Iterator[Store]:
    with open_store(places) as opened:
        yield opened


def take(store: Store, body: bytes) -> Receipt:
    (receipt,) = receive(store, [prepare(body)])
    return receipt


def is_rebuilt(store: Store) -> bool:
    """Whether a rebuild gives the same content and the sums agree, before and after. Closes the store."""
    before = account.content_digest(store.warehouse.con)
    assert [check for check in account.read_account(store.warehouse.con).checks if not check.holds] == []
    store.close()
    rebuild(store.places)
    with open_store(store.places) as again:
        assert account.read_account(again.warehouse.con).adds_up
        return account.content_digest(again.warehouse.con) == before


@pytest.mark.parametrize("kind", BAD)
def test_a_page_of_penpot_is_loaded_without_its_bad_event(store: Store, kind: str) -> None:
    bad, reason = BAD[kind]
    page = [FIRST, *map(profile, range(4_999)), bad, *map(profile, range(4_999, 9_998))]
    receipt = take(store, body_of(page))
    assert (receipt.status, receipt.events, receipt.dead_letters) == ("accepted", 9_999, 1)
    con = store.warehouse.con
    assert con.execute("SELECT count(*), count(DISTINCT profile_id) FROM events").fetchall() == [(9_999, 9_998)]
    assert con.execute("SELECT event_no, reason FROM dead_letters").fetchall() == [(5_000, reason)]
    assert account.read_account(con).dead_letters == {reason: 1}
    assert "ana@example.org" not in str(con.execute("FROM dead_letters").fetchall())
    assert is_rebuilt(store)


def test_all_kinds_at_once_by_http(tmp_path: Path) -> None:
    page = [FIRST]
    for bad, _ in BAD.values():
        page += [bad, event()]
    with running(tmp_path) as receiver:
        first = receiver.receipt(body_of(page, **{"batch-id": PENPOT, "batch-seq": 1, "event-count": len(page)}))
        assert (first["status"], first["events"], first["dead-letters"]) == ("accepted", len(BAD) + 1, len(BAD))
        again = receiver.receipt(body_of(page, **{"batch-id": PENPOT, "batch-seq": 1}))
        assert again == first | {"status": "duplicate"}
        (line,) = receiver.get(f"/instances/{PENPOT}/batches")["batches"]
        assert (line["events"], line["dead-letters"]) == (len(BAD) + 1, len(BAD))
        metrics = requests.get(receiver.url + "/metrics", timeout=30).text
        assert 'receiver_dead_letters_total{reason="missing-field"} 4.0' in metrics
    assert command(tmp_path, "check").returncode == 0
    assert len(command(tmp_path, "dead-letters", "list").stdout.splitlines()) == len(BAD)


def test_a_body_is_refused_whole_when_it_cannot_be_cut_and_not_for_another_count(store: Store) -> None:
    page = [FIRST, event(name=None), event()]
    assert take(store, body_of([*page, b"\xf1"])).reason == "bad-fressian"
    assert take(store, body_of(page, **{"event-count": 2})).dead_letters == 1
    assert account.read_account(store.warehouse.con).ignored_fields == 1


def test_a_kept_event_is_loaded_when_the_limit_is_higher_and_stays_so(store: Store) -> None:
    long = event(props=mapping(route=text("r" * (MIB + 1))), profile_id=uuid(ANA))
    take(store, body_of([FIRST, long, event(), event(name=None)]))
    letters = account.list_letters(store.warehouse.con)
    assert revive(store, letters) == []
    loaded = revive(store, letters, Limits(string=2 * MIB))
    assert [letter.event_no for letter in loaded] == [1]
    assert revive(store, account.list_letters(store.warehouse.con), Limits(string=2 * MIB)) == []
    con = store.warehouse.con
    assert con.execute("SELECT count(*) FROM events WHERE profile_id = ?", [ANA]).fetchall() == [(1,)]
    assert con.execute("SELECT event_count, dead_letters FROM batches").fetchall() == [(3, 1)]
    receipt = take(store, body_of([FIRST, long, event(), event(name=None)]))
    assert (receipt.status, receipt.events, receipt.dead_letters) == ("duplicate", 3, 1)
    assert is_rebuilt(store)


def test_what_is_dropped_is_dropped_after_a_rebuild_too(store: Store) -> None:
    take(store, body_of([FIRST, event(name=None), event(type=None)]))
    operations.drop_letters(store, account.list_letters(store.warehouse.con)[:1])
    kept = [letter.event is not None for letter in account.list_letters(store.warehouse.con)]
    assert kept == [False, True]
    assert is_rebuilt(store)


def test_the_commands_list_show_retry_and_drop(tmp_path: Path) -> None:
    with running(tmp_path) as receiver:
        receiver.receipt(body_of([FIRST, event(name=None), event(name=text("n" * 251))]))
    assert "missing-field" in command(tmp_path, "dead-letters", "list").stdout
    shown = json.loads(command(tmp_path, "dead-letters", "show", "1").stdout)
    assert (shown["type"], shown["context"], "name" in shown) == ("action", {"browser": "Firefox"}, False)
    retried = command(tmp_path, "dead-letters", "retry", "--all")
    assert (retried.returncode, retried.stdout.split()) == (
        1,
        ["1", "still", "missing-field", "2", "still", "too-long"],
    )
    assert command(tmp_path, "dead-letters", "drop", "2").returncode == 0
    assert command(tmp_path, "dead-letters", "show", "2").returncode == 1
    assert command(tmp_path, "dead-letters", "retry", "9").returncode == 1
    assert ask(tmp_path, "SELECT event IS NULL FROM dead_letters ORDER BY dead_letter_no") == [(False,), (True,)]
    assert command(tmp_path, "check").returncode == 0


@pytest.mark.parametrize("was_revived", [False, True])
def test_a_profile_leaves_no_trace_in_dead_letters_either(places: DataPaths, was_revived: bool) -> None:
    hers = event(profile_id=uuid(ANA), name=text("n" * 251))
    named = event(type=None, props=mapping(id=uuid(ANA)))
    with open_store(places) as store:
        take(store, body_of([FIRST, hers, event(), named, event(source=None)]))
        operations.drop_letters(store, account.list_letters(store.warehouse.con)[1:2])
        if was_revived:
            assert len(revive(store, account.list_letters(store.warehouse.con), Limits(word=300))) == 1
    erasure = erase_id(places, "profile", ANA)
    # Of what was dropped the warehouse holds no more; the journal does until now.
    assert erasure.removed["events"] + erasure.removed["dead-letters"] == 1
    for file in places.landfill.glob("*.zst"):
        content = zstandard.ZstdDecompressor().stream_reader(file.read_bytes(), read_across_frames=True).read()
        assert str(ANA).encode() not in content
        assert ANA.hex.encode() not in content
    assert ANA.bytes not in places.warehouse.read_bytes()
    assert str(ANA).encode() not in places.warehouse.read_bytes()
    with open_store(places) as store:
        assert is_rebuilt(store)


def test_an_instance_is_erased_with_its_dead_letters_and_superseded_batches(places: DataPaths) -> None:
    with open_store(places) as store:
        take(store, body_of([FIRST, event(name=None)], **{"batch-id": str(ANA), "supersedes": [str(UUID(int=5))]}))
    removed = erase_id(places, "instance", UUID(PENPOT)).removed
    assert (removed["events"], removed["dead-letters"], removed["batches"]) == (1, 1, 1)
    with open_store(places) as store:
        con = store.warehouse.con
        assert con.execute(
            "SELECT (SELECT count(*) FROM dead_letters), (SELECT count(*) FROM superseded)"
        ).fetchall() == [(0, 1)]  # a key alone, which keeps the whole out
        assert is_rebuilt(store)


def test_what_is_kept_of_an_event_goes_after_its_days(places: DataPaths) -> None:
    short = replace(places, event_days=30)
    with open_store(short) as store:
        store.clock = lambda: datetime(2026, 7, 25, tzinfo=UTC)
        take(store, body_of([FIRST, event(name=None)]))
        store.clock = lambda: datetime(2026, 7, 25, tzinfo=UTC) + timedelta(days=10)
        assert retention.tidy(store).dead_letters == 0
        store.clock = lambda: datetime(2026, 7, 25, tzinfo=UTC) + timedelta(days=40)
        assert retention.tidy(store).dead_letters == 1
        assert [letter.event for letter in account.list_letters(store.warehouse.con)] == [None]
        assert account.read_account(store.warehouse.con).adds_up


def test_an_old_name_of_any_length_is_read_again_from_the_journal(store: Store) -> None:
    """A record of a receiver that knew no cap on names: what was loaded once stays loaded."""
    long = body_of([FIRST, event(name=text("n" * 300), context=mapping()), event(context=mapping())])
    clean = body_of([FIRST.replace(GOOD["context"], mapping()), event(name=text("n" * 300), context=mapping())])
    job = prepare(clean, Limits(word=1_000))
    assert job.carried == "rows"
    receive(store, [job])
    take(store, long)
    assert is_rebuilt(store)


# -- what no reader looks at ------------------------------------------------------------------------------------------

MAIL = "eve@example.org"
CLEAN = FIRST.replace(GOOD["context"], mapping(browser=text("Firefox")))


def page_of(*events: bytes, behind: bytes = b"", before: bytes = b"") -> bytes:
    """A body, with bytes behind its fressian, or before its frame."""
    data = VECTOR + b"\xec" + number(len(events)) + b"".join(events) + behind
    blob = b"\x00\x04" + len(data).to_bytes(4, "big") + before + zstandard.ZstdCompressor().compress(data)
    sent = base64.urlsafe_b64encode(blob).rstrip(b"=").decode()
    return json.dumps({"type": "telemetry-events", "version": "2.18.0", "instance-id": PENPOT, "events": sent}).encode()


def again(name: str, value: bytes) -> bytes:
    """A later event that has one of its keys twice."""
    return event(context=mapping(browser=text("Firefox")))[:-1] + KEYS[name] + value + b"\xfd"


UNSEEN = {
    "a key of the event twice": page_of(CLEAN, again("context", mapping(email=text(MAIL)))),
    "a safe key twice": page_of(
        CLEAN, event(context=mapping(locale=text("en"))[:-1] + KEYWORD + text("locale") + text(MAIL) + b"\xfd")
    ),
    "bytes behind the vector": page_of(CLEAN, behind=text(MAIL)),
    "a footer and bytes behind it": page_of(CLEAN, behind=b"\xcf\xcf\xcf\xcf" + text(MAIL)),
    "a frame that is skipped": page_of(
        CLEAN, before=b"\x50\x2a\x4d\x18" + len(MAIL).to_bytes(4, "little") + MAIL.encode()
    ),
}


@pytest.mark.parametrize("place", UNSEEN)
def test_what_no_reader_looks_at_is_not_kept_either(tmp_path: Path, place: str) -> None:
    places = DataPaths(tmp_path / "w.duckdb", tmp_path / "landfill", tmp_path / "quarantine")
    with open_store(places) as store:
        assert take(store, UNSEEN[place]).status == "accepted"
        assert is_rebuilt(store)
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        held = path.read_bytes()
        if path.suffix == ".zst":
            held = zstandard.ZstdDecompressor().stream_reader(held, read_across_frames=True).read()
            held += b"".join(base64.urlsafe_b64decode(line + b"==") for line in held.split(b"\n") if line[:3] == b"AAQ")
        assert MAIL.encode() not in held


def test_a_value_that_repeats_itself_costs_its_own_event_alone(store: Store) -> None:
    def laughs(levels: int, width: int) -> bytes:
        """A list of lists that are references: a few bytes for width ** levels strings."""
        kept = b"\xcd" + text("ha")
        for level in range(levels):
            kept += b"\xcd\xec" + number(width) + (b"\xcc" + number(2 * len(NAMES) + level)) * width
        return b"\xec" + number(levels + 1) + kept

    page = [FIRST, event(name=laughs(6, 30)), event(), event()]
    receipt = take(store, body_of(page))
    assert (receipt.events, receipt.dead_letters) == (3, 1)


def test_a_dead_letter_with_the_line_ends_of_unicode_is_read_again_from_the_journal(store: Store) -> None:
    receipt = take(store, body_of([FIRST, event(name=text("a\u2028b\u2029c\u0085d\u000be" * 40))]))
    assert (receipt.events, receipt.dead_letters) == (1, 1)
    assert is_rebuilt(store)
