"""Erasing an instance or a profile: no trace in any file, nothing comes back, and the sums still agree."""

import hashlib
import itertools
import json
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import msgspec
import pytest
import requests
import zstandard
from msgspec import structs
from starlette.datastructures import Headers

from penpot_telemetry.errors import DatabaseError, DecodeError
from penpot_telemetry.wire import batch, payload, signature
from penpot_telemetry.wire.batch import EventRow
from penpot_telemetry.wire.fressian import Keyword
from receiver.cli.account import find_account
from receiver.intake.commit import receive
from receiver.intake.operations import erase_id, unpin
from receiver.intake.prepare import prepare
from receiver.lifecycle.rebuild import mend_clock, rebuild
from receiver.lifecycle.startup import open_store
from receiver.reports.account import Account, content_digest
from receiver.server.auth import given_secret
from receiver.server.secrets import Access
from receiver.storage import journal, tombstones
from receiver.storage.connection import connect
from receiver.storage.paths import DataPaths, operator_file, places_beside, snapshot_of
from receiver.storage.tombstones import Scope
from tests.integration.receiving import (
    DAY,
    INSTANCE,
    Running,
    ask,
    body_of,
    body_of_maps,
    command,
    event,
    legacy_report,
    rows,
    running,
    wait_until,
)

PROFILE = UUID("7f1d3c52-9a64-8b07-8005-4c1be2a90d66")
PENPOT = UUID("c0ffee00-5e0a-8c1e-8005-2d3f7a9b1c77")
OTHER = UUID("0dd0dd00-5e0a-8c1e-8005-2d3f7a9b1c88")
BATCHES = [UUID(int=number) for number in range(100, 110)]


def of_profile(profile: UUID = PROFILE, props: str = "{}", name: str = "navigate") -> EventRow:
    return EventRow(name, "action", "telemetry", DAY, profile.bytes, props, "{}")


NAMES_IT = of_profile(UUID(int=77), json.dumps({"~:invited": f"~u{PROFILE}", "~:n": 1}), "invite")
FIRST = body_of([*rows(3), *[of_profile()] * 2, NAMES_IT], instance=PENPOT, batch_id=BATCHES[0], batch_seq=1)
ELSEWHERE = body_of(rows(4, 40), instance=OTHER, batch_id=BATCHES[5], batch_seq=1)
UNREADABLE = f"not JSON, of {PROFILE} at {PENPOT}".encode()


def wrong_digest(instance: UUID, number: int, profile: UUID = PROFILE) -> bytes:
    digest = "sha256:" + "0" * 64
    return body_of([of_profile(profile)], instance=instance, batch_id=BATCHES[number], batch_seq=9, digest=digest)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a receiver that was killed: what is to go is in its tables, its log, its landfill and quarantine."""
    folder = tmp_path_factory.mktemp("world") / "files"
    with running(folder) as receiver:
        send_all(receiver)
        receiver.kill()
    command(folder, "load", str(written(folder.parent / "body", body_of(rows(2, 60), instance=OTHER))))
    with duckdb.connect(str(folder / "w.duckdb")) as con:
        con.execute(f"ATTACH '{snapshot_of(folder / 'w.duckdb')}' AS copy")
        con.execute("COPY FROM DATABASE w TO copy")
    (folder / "w.landfill" / "copies").mkdir()
    shutil.copy(day_file(folder), folder / "w.landfill" / "copies" / "an older copy.zst")
    (folder / "w.quarantine" / "0.body").write_bytes(UNREADABLE)  # put aside, then killed before the commit
    return folder


def send_all(receiver: Running) -> None:
    """Batches with and without the profile, read from the bytes sent or as scrubbed rows; a report; what is refused."""
    scrubbed = body_of_maps(event(profile_id=PROFILE, unknown="x"), event(profile_id=UUID(int=5), unknown="x"))
    only_it = body_of([of_profile()] * 3, instance=PENPOT, batch_id=BATCHES[1], batch_seq=2)
    for body in (FIRST, FIRST, only_it, scrubbed, ELSEWHERE, legacy_report(**{"total-users": 7})):
        assert receiver.receipt(body)["status"] in {"accepted", "duplicate"}
    for body in (UNREADABLE, wrong_digest(PENPOT, 2), wrong_digest(PENPOT, 2), wrong_digest(OTHER, 3, UUID(int=9))):
        assert receiver.receipt(body)["status"] == "quarantined"


@pytest.fixture
def folder(world: Path, tmp_path: Path) -> Path:
    """A copy of the world to erase from."""
    return Path(shutil.copytree(world, tmp_path / "files"))


def written(path: Path, body: bytes) -> Path:
    path.write_bytes(body)
    return path


def day_file(folder: Path) -> Path:
    (path,) = (folder / "w.landfill").glob("*.zst")
    return path


# --- looking for traces ---------------------------------------------------------------------------------------------


def shapes(wanted: UUID) -> list[bytes]:
    """An id as text, as hex, as bytes, and as DuckDB stores it: 128 bits, little end first, the top bit turned."""
    stored = (wanted.int ^ (1 << 127)).to_bytes(16, "little")
    high = struct.unpack(">q", wanted.bytes[:8])[0]
    numbers = [str(high)] if abs(high) > 10**12 else []
    texts = [str(wanted), str(wanted).upper(), wanted.hex, wanted.hex.upper(), *numbers]
    return [*(text.encode() for text in texts), wanted.bytes, wanted.bytes_le, stored]


def layers(path: Path) -> Iterator[bytes]:
    """The bytes of a file, each zstd frame in them as it was before, and the columns of each events text in these."""
    data = path.read_bytes()
    yield data
    at = data.find(zstandard.FRAME_HEADER)
    while at >= 0:
        found = journal.unpack_frame(data[at:], 1 << 30)
        if found is not None:
            yield found[0]
            try:
                columns = batch.decode_columns(found[0].decode())
            except (DecodeError, UnicodeDecodeError):
                pass
            else:
                yield b" ".join(one for one in columns.profile_id if one)
                yield " ".join((*columns.props, *columns.context)).encode()
        at = data.find(zstandard.FRAME_HEADER, at + 1)
    try:
        yield json.dumps(json.loads(data)).encode()
        yield b" ".join(one for one in batch.decode_columns(json.loads(data)["events"]).profile_id if one)
    except (ValueError, KeyError, TypeError, DecodeError):
        pass


def traces(folder: Path, wanted: UUID) -> set[str]:
    """The kinds of files that hold an id in any shape or layer."""
    return {
        path.suffix if path.suffix != ".duckdb" else path.name
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "log"
        for layer in layers(path)
        if any(shape in layer for shape in shapes(wanted))
    }


def erase(folder: Path, *words: str) -> dict[str, Any]:
    done = command(folder, "erase", *words)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    receipt: dict[str, Any] = json.loads(done.stdout)
    return receipt


def erase_here(folder: Path, scope: Scope, wanted: UUID) -> dict[str, Any]:
    """The same in this process, which is quicker."""
    receipt: dict[str, Any] = msgspec.to_builtins(erase_id(places_of(folder), scope, wanted))
    return receipt


def places_of(folder: Path) -> DataPaths:
    return places_beside(folder / "w.duckdb")


def digest(folder: Path) -> str:
    with closing(connect(folder / "w.duckdb", read_only=True)) as con:
        return content_digest(con)


def post(folder: Path, *bodies: bytes) -> list[tuple[str, int, UUID | None]]:
    with open_store(places_of(folder)) as store:
        receipts = receive(store, [prepare(body) for body in bodies])
    return [(one.status, one.events, one.batch_id) for one in receipts]


def bodies_left(folder: Path) -> list[UUID]:
    """Whose quarantined bodies are kept: the same by the table and by the files."""
    kept = ask(folder, "SELECT body, instance_id FROM quarantine WHERE body IS NOT NULL ORDER BY 1")
    assert [name for name, _ in kept] == sorted(path.name for path in (folder / "w.quarantine").iterdir())
    return [instance for _, instance in kept]


def check(folder: Path) -> Account:
    """Whether everything adds up, and the warehouse ends where its landfill does."""
    found = find_account(places_of(folder), None)
    assert found.adds_up, found.checks
    return found


EVENTS = "SELECT count(*) FROM events"
EVENTS_OF_IT = f"SELECT count(*) FROM events WHERE profile_id = '{PROFILE}'"  # noqa: S608  a constant of ours
ROLLED_UP = "SELECT (SELECT sum(events) FROM instance_days), (SELECT count(*) FROM events)"


# --- a profile ------------------------------------------------------------------------------------------------------


def test_a_profile_leaves_no_trace_in_any_file_and_the_rest_stays(folder: Path) -> None:
    assert traces(folder, PROFILE) == {"w.duckdb", "w.snapshot.duckdb", ".zst", ".body"}
    ((before,),) = ask(folder, EVENTS)
    receipt = erase(folder, "--profile", str(PROFILE))
    assert traces(folder, PROFILE) == set()
    assert receipt["removed"] == {
        "events": 7,
        "dead-letters": 0,
        "batches": 0,
        "batches-shortened": 3,
        "reports": 0,
        "quarantine": 0,
        "quarantine-bodies": 3,
        "landfill-records": 10,  # five, and their copies
        "landfill-damaged-bytes": 0,
    }
    assert ask(folder, EVENTS) == [(before - 7,)]
    assert ask(folder, ROLLED_UP) == [(before - 7, before - 7)]
    assert check(folder).removed == {"erase": 7}
    assert "7 of the events removed since by erase" in command(folder, "status").stdout
    assert not snapshot_of(folder / "w.duckdb").exists()
    assert str(PROFILE) not in json.dumps(receipt)
    assert receipt["content-digest"] == digest(folder)
    assert bodies_left(folder) == [OTHER]
    assert post(folder, FIRST, wrong_digest(PENPOT, 2)) == [
        ("duplicate", 6, BATCHES[0]),
        ("quarantined", 0, BATCHES[2]),
    ]
    assert traces(folder, PROFILE) == set()
    check(folder)


@pytest.mark.parametrize(("scope", "wanted", "events"), [("profile", PROFILE, 7), ("instance", PENPOT, 9)])
def test_a_rebuild_after_an_erasure_makes_the_same_content(
    folder: Path, scope: Scope, wanted: UUID, events: int
) -> None:
    old = shutil.copytree(folder / "w.landfill", folder.parent / "old")
    content = erase_here(folder, scope, wanted)["content-digest"]
    for copied in (False, True):
        if copied:  # a landfill from before the erasure, in the place of the one that was written anew
            shutil.rmtree(folder / "w.landfill")
            shutil.copytree(old, folder / "w.landfill")
        rebuild(places_of(folder))
        assert digest(folder) == content
        assert traces(folder, wanted) == set()
        assert check(folder).removed == {"erase": events}


def test_what_comes_later_is_loaded_and_can_be_erased_again(folder: Path) -> None:
    erase_here(folder, "profile", PROFILE)
    later = body_of([*rows(2, 90), of_profile()], instance=PENPOT, batch_id=BATCHES[7], batch_seq=7)
    assert post(folder, later) == [("accepted", 3, BATCHES[7])]
    rebuild(places_of(folder))
    assert ask(folder, EVENTS_OF_IT) == [(1,)]
    receipt = erase_here(folder, "profile", PROFILE)
    assert (receipt["number"], receipt["removed"]["events"]) == (2, 1)
    assert ask(folder, EVENTS_OF_IT) == [(0,)]
    assert traces(folder, PROFILE) == set()
    check(folder)
    kept = command(folder, "erase", "--receipts").stdout.splitlines()
    assert [json.loads(line)["number"] for line in kept] == [1, 2]
    assert json.loads(kept[1]) == receipt


def test_an_erasure_of_a_wrong_clock_is_mended_with_the_receipts_and_takes_nothing_that_came_after(
    tmp_path: Path,
) -> None:
    now = datetime.now(UTC)
    bodies = [body_of(rows(1, n), instance=PENPOT, batch_id=BATCHES[n], batch_seq=n + 1) for n in range(4)]
    post(tmp_path, bodies[0])
    for body in bodies[1:3]:
        with open_store(places_of(tmp_path)) as store:
            store.clock = lambda: now + timedelta(days=70 * 365)
            assert receive(store, [prepare(body)])[0].status == "accepted"
        if body is bodies[1]:
            receipt = erase_id(places_of(tmp_path), "instance", PENPOT)
            assert receipt.erased_at > now + timedelta(days=365)
    assert mend_clock(places_of(tmp_path), datetime.now(UTC)) == 2
    (mended,) = tombstones.read(places_of(tmp_path).tombstones).erasures
    assert mended.erased_at < datetime.now(UTC)
    assert mended.digest != receipt.digest
    again = structs.replace(mended, digest="")
    assert mended.digest == "sha256:" + hashlib.sha256(msgspec.json.encode(again)).hexdigest()
    for _ in range(2):
        rebuild(places_of(tmp_path))
        assert [status for status, *_ in post(tmp_path, *bodies)][:3] == ["duplicate"] * 3
    assert ask(tmp_path, EVENTS) == [(2,)], "what came after the erasure, before the clock was mended and later"
    check(tmp_path)


def test_what_comes_later_is_stamped_later_although_the_clock_went_back(folder: Path) -> None:
    erase_here(folder, "profile", PROFILE)
    later = body_of([of_profile()], instance=PENPOT, batch_id=BATCHES[7], batch_seq=7)
    with open_store(places_of(folder)) as store:
        store.clock = lambda: datetime.now(UTC) - timedelta(minutes=50)
        assert receive(store, [prepare(later)])[0].status == "accepted"
    rebuild(places_of(folder))
    assert ask(folder, EVENTS_OF_IT) == [(1,)]


# --- an instance ----------------------------------------------------------------------------------------------------


def test_an_instance_leaves_no_trace_and_its_repeats_bring_nothing_back(folder: Path) -> None:
    assert traces(folder, PENPOT) == {"w.duckdb", "w.snapshot.duckdb", ".zst", ".body"}
    ((before,),) = ask(folder, EVENTS)
    receipt = erase(folder, "--instance", str(PENPOT))
    assert traces(folder, PENPOT) == set()
    assert bodies_left(folder) == [OTHER]
    removed = receipt["removed"]
    assert [removed[name] for name in ("events", "batches", "reports", "quarantine")] == [9, 2, 0, 1]
    assert ask(folder, ROLLED_UP) == [(before - 9, before - 9)]
    content = digest(folder)
    assert receipt["content-digest"] == content
    assert post(folder, FIRST, FIRST, wrong_digest(PENPOT, 2)) == [
        ("duplicate", 6, BATCHES[0]),
        ("duplicate", 6, BATCHES[0]),
        ("quarantined", 0, BATCHES[2]),
    ]
    assert traces(folder, PENPOT) == set()
    check(folder)
    content = digest(folder)
    rebuild(places_of(folder))
    assert digest(folder) == content
    check(folder)
    later = body_of(rows(2, 90), instance=PENPOT, batch_id=BATCHES[7], batch_seq=7)
    assert post(folder, later, later) == [("accepted", 2, BATCHES[7]), ("duplicate", 2, BATCHES[7])]
    check(folder)


def test_several_instances_go_in_one_pass_by_a_list_or_by_the_day_they_were_first_heard(folder: Path) -> None:
    invented = [UUID(int=0xBAD << 96 | number) for number in range(50)]
    bodies = [
        body_of(rows(1, 5000 + n), instance=one, batch_id=UUID(int=n, version=4)) for n, one in enumerate(invented)
    ]
    with open_store(places_of(folder)) as store:
        store.clock = lambda: datetime.now(UTC) + timedelta(days=2)
        assert {receipt.status for receipt in receive(store, [prepare(body) for body in bodies])} == {"accepted"}
    ((before,),) = ask(folder, EVENTS)
    day = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
    shown = command(folder, "erase", "--new-since", day, "--dry-run")
    assert shown.stdout.split() == [str(one) for one in invented]
    assert ask(folder, EVENTS) == [(before,)]
    some = [word for one in invented[:2] for word in ("--instance", str(one))]
    receipts = [json.loads(line) for line in command(folder, "erase", *some).stdout.splitlines()]
    assert [receipt["removed"].get("events") for receipt in receipts] == [2, None]
    assert receipts[1]["removed"] == {"counted-in-receipt": receipts[0]["number"]}
    done = command(folder, "erase", "--new-since", day)
    assert len(done.stdout.splitlines()) == 48
    assert ask(folder, EVENTS) == [(before - 50,)]
    assert all(traces(folder, one) == set() for one in invented[::10])
    check(folder)
    content = digest(folder)
    rebuild(places_of(folder))
    assert digest(folder) == content


def test_a_report_is_erased_with_its_instance_and_counted_once(folder: Path) -> None:
    report = legacy_report(**{"total-users": 7})
    receipt = erase_here(folder, "instance", INSTANCE)
    assert receipt["removed"]["reports"] == 1
    assert ask(folder, "SELECT count(*) FROM reports") == [(0,)]
    assert traces(folder, INSTANCE) == set()
    check(folder)
    assert [status for status, *_ in post(folder, report)] == ["duplicate"]
    assert traces(folder, INSTANCE) == set()
    check(folder)


def test_a_pinned_key_and_the_word_that_took_one_away_go_with_their_instance(folder: Path) -> None:
    def signed(number: int) -> bytes:
        text = batch.encode_events(rows(1, number))
        sent = payload.EventsBatch("2.18.0", PENPOT, text, UUID(int=number), number)
        return payload.build_events(signature.sign_batch(sent, bytes(range(32))))

    with open_store(places_of(folder)) as store:
        receive(store, [prepare(signed(500))])
        assert unpin(store, PENPOT) is not None
        receive(store, [prepare(signed(501))])
    unsigned = body_of(rows(1, 502), instance=PENPOT, batch_id=BATCHES[8], batch_seq=502)
    assert [status for status, *_ in post(folder, unsigned)] == ["quarantined"]
    content = erase_here(folder, "instance", PENPOT)["content-digest"]
    assert traces(folder, PENPOT) == set()
    check(folder)
    rebuild(places_of(folder))
    assert digest(folder) == content
    later = body_of(rows(1, 503), instance=PENPOT, batch_id=BATCHES[9], batch_seq=503)
    assert post(folder, signed(500), later) == [("duplicate", 1, UUID(int=500)), ("accepted", 1, BATCHES[9])]
    check(folder)


def test_an_old_copy_of_the_warehouse_is_refused_until_it_is_rebuilt(folder: Path) -> None:
    old = shutil.copy(folder / "w.duckdb", folder.parent / "old.duckdb")
    content = erase_here(folder, "instance", PENPOT)["content-digest"]
    shutil.copy(old, folder / "w.duckdb")
    with pytest.raises(DatabaseError, match=r"from before an erasure .* rebuild"):
        open_store(places_of(folder))
    assert traces(folder, PENPOT) == {"w.duckdb"}
    rebuild(places_of(folder))
    assert digest(folder) == content
    assert traces(folder, PENPOT) == set()


# --- when it goes wrong ---------------------------------------------------------------------------------------------

DIE = """
import functools, importlib, os, signal, sys
module, name, when, nth = sys.argv[1:5]
target = importlib.import_module(module)
real, calls = getattr(target, name), 0

@functools.wraps(real)
def dying(*args, **kwargs):
    global calls
    calls += 1
    if when == "before" and calls == int(nth):
        os.kill(os.getpid(), signal.SIGKILL)
    found = real(*args, **kwargs)
    if when == "after" and calls == int(nth):
        os.kill(os.getpid(), signal.SIGKILL)
    return found

setattr(target, name, dying)
from receiver.cli.main import main
main(sys.argv[5:], prog_name="python -m receiver")
"""

MOMENTS = [
    ("receiver.lifecycle.redaction", "remove_bodies", "after", 1),
    ("receiver.storage.journal", "rewrite", "after", 3),
    ("receiver.lifecycle.redaction", "erase_rows", "after", 2),
    ("receiver.storage.database_files", "replace_database", "before", 1),
    ("receiver.storage.database_files", "write_anew", "after", 1),
]


@pytest.mark.parametrize(("module", "name", "when", "nth"), MOMENTS, ids=lambda value: str(value).rpartition(".")[2])
def test_an_erasure_that_was_killed_is_finished_by_the_next_start(
    folder: Path, module: str, name: str, when: str, nth: int
) -> None:
    place = ["--warehouse", str(folder / "w.duckdb")]
    line = [sys.executable, "-c", DIE, module, name, when, str(nth), "erase", *place, "--profile", str(PROFILE)]
    killed = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert (killed.returncode, killed.stdout) == (-signal.SIGKILL, ""), killed.stderr
    assert post(folder, FIRST) == [("duplicate", 6, BATCHES[0])]
    assert traces(folder, PROFILE) == set()
    (receipt,) = tombstones.read(places_of(folder).tombstones).erasures
    assert receipt.finished_at is not None
    assert (receipt.removed["events"], receipt.removed["landfill-records"]) == (7, 10)
    check(folder)


def test_a_file_that_an_erasure_did_not_finish_is_found_by_the_server(folder: Path) -> None:
    place = ["--warehouse", str(folder / "w.duckdb")]
    line = [sys.executable, "-c", DIE, *map(str, MOMENTS[1]), "erase", *place, "--instance", str(PENPOT)]
    assert subprocess.run(line, capture_output=True, timeout=60, check=False).returncode == -signal.SIGKILL
    with running(folder) as receiver:
        assert '"finished_erasures": 1' in receiver.log
        assert receiver.receipt(FIRST)["status"] == "duplicate"
    assert traces(folder, PENPOT) == set()
    assert traces(folder, OTHER) != set()


# --- on a running server --------------------------------------------------------------------------------------------


def honest(number: int) -> bytes:
    return body_of(rows(2, 1000 + 2 * number), batch_id=UUID(int=1000 + number), batch_seq=number + 1)


def deliver(receiver: Running, number: int) -> None:
    """Post a batch until it is answered with success, as a sender does."""
    while (answer := receiver.post(honest(number))).status_code != 200:
        assert answer.status_code == 503 and int(answer.headers["retry-after"]) > 0
        time.sleep(0.05)
    assert answer.json()["status"] == "accepted"


def erase_there(receiver: Running, scope: Scope, **more: object) -> dict[str, Any]:
    """The same as the command asks for, over HTTP, which is quicker."""
    token = operator_file(receiver.folder / "w.duckdb").read_text().strip()
    headers = {"authorization": f"Bearer {token}"}
    answer = requests.post(receiver.url + "/erase", json={"scope": scope} | more, headers=headers, timeout=60)
    found: dict[str, Any] = answer.json()
    assert answer.status_code == 200, found
    return found


def deliver_until(is_over: threading.Event, receiver: Running, first: int) -> int:
    """Batch by batch, and one more when it is over; returns how many."""
    for count in itertools.count(1):
        is_last = is_over.is_set()
        deliver(receiver, first + count)
        if is_last:
            return count
    raise AssertionError


def test_a_running_server_erases_and_loses_nothing_that_is_delivered_meanwhile(folder: Path) -> None:
    day = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
    with running(folder) as receiver, ThreadPoolExecutor(4) as senders:
        wait_until(snapshot_of(folder / "w.duckdb").exists)
        before = receiver.get("/questions/overview.json")
        is_over = threading.Event()
        sending = [senders.submit(deliver_until, is_over, receiver, first) for first in (0, 100_000)]
        receipt = erase(folder, "--profile", str(PROFILE))
        is_over.set()
        sent = sum(one.result(60) for one in sending)
        assert receipt["removed"]["events"] == 7
        wait_until(snapshot_of(folder / "w.duckdb").exists)
        assert traces(folder, PROFILE) == set()
        assert receiver.get("/questions/overview.json") != before, "the dashboard reads the warehouse of now"
        ids = [str(PENPOT)]
        assert erase_there(receiver, "instance", **{"new-since": f"{day}T00:00:00Z"}) == {"ids": [], "receipts": []}
        assert erase_there(receiver, "instance", ids=ids, **{"dry-run": True}) == {"ids": ids, "receipts": []}
        (gone,) = erase_there(receiver, "instance", ids=ids * 2)["receipts"]
        assert gone["removed"]["batches"] == 2
        refused = {}
        for word, headers in (("nobody", {}), ("page", {"origin": "http://elsewhere.example"})):
            refused[word] = requests.post(receiver.url + "/erase", data=b"{}", headers=headers, timeout=20).status_code
        assert refused == {"nobody": 401, "page": 403}
        assert operator_file(folder / "w.duckdb").stat().st_mode & 0o777 == 0o600
        assert receiver.receipt(FIRST)["status"] == "duplicate"
        assert receiver.stop() == 0
    assert not operator_file(folder / "w.duckdb").exists()
    assert traces(folder, PROFILE) | traces(folder, PENPOT) == set()
    loaded = "SELECT count(*), sum(event_count)::INT FROM batches WHERE batch_seq > 1 AND instance_id = "
    assert ask(folder, f"{loaded}'{INSTANCE}'") == [(sent, 2 * sent)]
    check(folder)
    content = digest(folder)
    rebuild(places_of(folder))
    assert digest(folder) == content


def test_a_server_that_was_killed_in_an_erasure_finishes_it_at_the_next_start(folder: Path) -> None:
    module, name, when, nth = MOMENTS[3]
    place = ["--warehouse", str(folder / "w.duckdb")]
    line = [sys.executable, "-c", DIE, module, name, when, str(nth), "serve", *place, "--port", "0"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        receiver = Running(process, process.stdout.readline().split()[-1], folder)
        deliver(receiver, 0)
        asked = command(folder, "erase", "--profile", str(PROFILE))
        assert (asked.returncode, process.wait(20)) == (1, -signal.SIGKILL)
        assert "the next start finishes" in asked.stderr
    assert post(folder, FIRST, honest(0)) == [("duplicate", 6, BATCHES[0]), ("duplicate", 2, UUID(int=1000))]
    assert traces(folder, PROFILE) == set()
    (receipt,) = tombstones.read(places_of(folder).tombstones).erasures
    assert receipt.finished_at is not None
    check(folder)


def test_no_reader_may_erase_and_nobody_where_no_server_made_a_token() -> None:
    read, operate = "a-reading-token-of-tests", "a-token-of-the-operator"
    headers = {name: Headers({"authorization": f"Bearer {name}"}) for name in (read, operate, "")}
    made = Access(read_token=read, operator_token=operate)
    assert [made.may_operate(given_secret(headers[name])) for name in (read, operate, "")] == [False, True, False]
    assert not Access().may_operate(given_secret(headers[""]))
    assert not Access().may_operate(given_secret(Headers({})))


def test_a_start_refuses_a_damaged_file_of_tombstones(folder: Path) -> None:
    erase_here(folder, "profile", PROFILE)
    path = places_of(folder).tombstones
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DatabaseError, match=f"{path} cannot be read .* put its backup in place"):
        open_store(places_of(folder))


@pytest.mark.parametrize("words", [[], ["--profile", str(UUID(int=0))], ["--profile", "ana@example.org"]])
def test_what_names_nobody_erases_nothing(tmp_path: Path, words: list[str]) -> None:
    assert command(tmp_path, "erase", *words).returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_a_profile_that_nobody_is_known_to_hold_takes_every_body(folder: Path) -> None:
    receipt = erase_here(folder, "profile", UUID(int=4711))
    assert receipt["removed"] == dict.fromkeys(receipt["removed"], 0) | {"quarantine-bodies": 4, "landfill-records": 6}
    assert list((folder / "w.quarantine").iterdir()) == []
    check(folder)


def test_what_is_no_record_goes_too_since_it_cannot_be_read(folder: Path) -> None:
    path = day_file(folder)
    first = next(journal.scan(path))
    data = bytearray(path.read_bytes())
    data[first.carried_at + 20] ^= 1
    path.write_bytes(data)
    receipt = erase_here(folder, "profile", PROFILE)
    assert receipt["removed"]["landfill-damaged-bytes"] == first.end
    assert traces(folder, PROFILE) == set()
    check(folder)


# --- an id that hides -----------------------------------------------------------------------------------------------

HEX = PROFILE.hex
HALVES = struct.unpack(">qq", PROFILE.bytes)
HIDDEN: dict[str, Mapping[Keyword, object]] = {
    "behind more hex digits": event(props={"p": "ab" + HEX}),
    "before more hex digits": event(props={"p": HEX + "0123"}),
    "behind another id": event(props={"p": PENPOT.hex + HEX}),
    "alone, in capitals": event(props={"p": HEX.upper()}),
    "with some of its dashes": event(props={"p": f"{HEX[:8]}-{HEX[8:]}"}),
    "in a key": event(props={f"of-{PROFILE}": 1}),
    "in the name": event(name=f"open {PROFILE}"),
    "in the type": event(type=f"x{HEX}"),
    "in the source": event(source=HEX),
    "as bytes": event(props={"p": PROFILE.bytes}),
    "within bytes": event(props={"p": b"\1" + PROFILE.bytes + b"\2\3"}),
    "in what is kept of a bad event": event(name=5, props={"p": "ab" + HEX}),
    "as the bytes of a bad event": event(name=5, props={"p": PROFILE.bytes}),
    "with its dashes escaped": event(props={"p": str(PROFILE).replace("-", "%2D")}),
    "as two longs": event(props={"p": list(HALVES)}),
    "as two longs of a bad event": event(name=5, props={"p": list(HALVES)}),
}
LOOKS_LIKE_IT = event(props={"p": HEX[1:] + "00", "q": HEX[:16] + " " + HEX[16:]})


@pytest.mark.parametrize("shape", ["as two longs", "in what is kept of a bad event", "all of them"])
def test_a_profile_goes_wherever_its_id_is_written_and_a_rebuild_agrees(tmp_path: Path, shape: str) -> None:
    places = places_of(tmp_path)
    shapes_of_it = list(HIDDEN.values()) if shape == "all of them" else [HIDDEN[shape]]
    post(tmp_path, *(body_of_maps(one, LOOKS_LIKE_IT) for one in shapes_of_it))
    receipt = erase_id(places, "profile", PROFILE)
    assert receipt.removed["events"] + receipt.removed["dead-letters"] == len(shapes_of_it)
    assert ask(tmp_path, EVENTS) == [(len(shapes_of_it),)]
    assert traces(tmp_path, PROFILE) == set()
    content = digest(tmp_path)
    rebuild(places)
    assert digest(tmp_path) == content == receipt.content_digest
    assert traces(tmp_path, PROFILE) == set()
    check(tmp_path)


def test_a_version_that_holds_an_id_is_taken_from_batches_and_reports(tmp_path: Path) -> None:
    batch_of_it = body_of(rows(2), batch_id=BATCHES[0]).replace(b"2.18.0", f"v{PROFILE}".encode())
    report_of_it = legacy_report(**{"total-users": 7}).replace(b"2.18.0", f"1-{HEX}".encode())
    assert str(PROFILE).encode() in batch_of_it
    assert HEX.encode() in report_of_it
    post(tmp_path, batch_of_it, report_of_it, batch_of_it, body_of(rows(2, 5)))
    receipt = erase_here(tmp_path, "profile", PROFILE)
    assert traces(tmp_path, PROFILE) == set()
    assert ask(tmp_path, "SELECT version, count(*) FROM events GROUP BY ALL ORDER BY 1") == [
        ("2.18.0", 2),
        ("other", 2),
    ]
    rebuild(places_of(tmp_path))
    assert digest(tmp_path) == receipt["content-digest"]
    assert post(tmp_path, batch_of_it) == [("duplicate", 2, BATCHES[0])]


WHOLE = UUID("5b1c9e07-33d4-4f0a-9a55-e21d7c60b8f4")


def test_a_batch_whose_parts_were_erased_is_not_loaded_when_it_comes_late(tmp_path: Path) -> None:
    part = body_of(rows(2), batch_id=BATCHES[1], supersedes=(WHOLE,))
    whole = body_of(rows(4), batch_id=WHOLE)
    assert post(tmp_path, part) == [("accepted", 2, BATCHES[1])]
    receipt = erase_here(tmp_path, "instance", INSTANCE)
    assert traces(tmp_path, INSTANCE) == set()
    assert traces(tmp_path, WHOLE) == set()
    for _ in range(2):  # by the warehouse that was erased from, and by one that is rebuilt
        assert digest(tmp_path) == receipt["content-digest"]
        copied = Path(shutil.copytree(tmp_path, tmp_path.parent / f"{tmp_path.name}-copy", dirs_exist_ok=True))
        assert post(copied, whole, part) == [("quarantined", 0, WHOLE), ("duplicate", 2, BATCHES[1])]
        assert ask(copied, EVENTS) == [(0,)]
        rebuild(places_of(tmp_path))
        shutil.rmtree(copied)
