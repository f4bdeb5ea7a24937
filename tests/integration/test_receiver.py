"""The receiver as a process of its own, over HTTP: what it takes, knows again, puts aside and keeps."""

import gzip
import json
import socket
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import requests
import zstandard

from penpot_telemetry.wire import blob, payload
from penpot_telemetry.wire.payload import Totals
from tests.integration.receiving import (
    DATA,
    INSTANCE,
    Running,
    ask,
    body_of,
    body_of_bytes,
    body_of_maps,
    command,
    event,
    legacy_report,
    penpots_body,
    rows,
    running,
)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path) as started:
        yield started


def expected_events(name: str) -> list[dict[str, Any]]:
    with gzip.open(DATA / f"{name}.expected.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


def plain(value: object) -> object:
    """The expected lines write a keyword value as `:name`."""
    return value[1:] if isinstance(value, str) and value.startswith(":") else value


# -- taking ----------------------------------------------------------------------------------------------------------


SAFARI = "AppleWebKit/605.1.15 (KHTML, like Gecko) Version/{} Safari/605.1.15"
SYSTEMS = (
    "Windows NT 10.0; Win64; x64",
    "X11; Ubuntu; Linux x86_64",
    "X11; Linux x86_64",
    "Macintosh; Intel Mac OS X 10_15_7",
)
REDUCED = {
    **{
        f"Mozilla/5.0 ({system}) {SAFARI.format('18.5')}": f"Mozilla/5.0 ({system}) {SAFARI.format(18)}"
        for system in SYSTEMS
    },
    "axios/1.10.0": "axios/1",
    "curl/8.14.1": "curl/8",
    "python-requests/2.32.4": "python-requests/2",
    "Go-http-client/2.0": "Go-http-client/2",
}
"""What the rule for user agents makes of those in Penpot's own batches: no minor version."""


@pytest.mark.parametrize("name", ["penpot-batch-1", "penpot-legacy-1"])
def test_a_batch_of_penpots_own_backend_lands_as_it_was_written(receiver: Running, name: str) -> None:
    receipt = receiver.receipt(penpots_body(name))
    assert (receipt["status"], receipt["events"]) == ("accepted", 10_000)
    assert receiver.stop() == 0
    expected = expected_events(name)
    found = ask(
        receiver.folder,
        "SELECT name, type, source, tracked_on::TEXT, profile_id::TEXT, props, context FROM events ORDER BY rowid",
    )
    assert len(found) == len(expected)
    for (event_name, type_, source, day, profile, props, context), one in zip(found, expected, strict=True):
        assert (event_name, type_, source) == (one["name"], one["type"], one["source"])
        assert (f"{day}T00:00:00Z", profile) == (one["tracked-at"], one["profile-id"])
        assert json.loads(props) == one["props"]
        assert json.loads(context) == {key: REDUCED.get(value, plain(value)) for key, value in one["context"].items()}
    counts = "SELECT trust, event_count, dead_letters, dropped_context_keys, unknown_keys, changed_values FROM batches"
    assert ask(receiver.folder, counts) == [("digest", 10_000, 0, 0, 0, 1741)]


def test_an_empty_batch_is_a_batch(receiver: Running) -> None:
    first = receiver.receipt(body_of([]))
    assert (first["status"], first["events"]) == ("accepted", 0)
    assert receiver.receipt(body_of([]))["status"] == "duplicate"
    assert receiver.receipt(body_of(rows(1)))["status"] == "accepted"
    receiver.stop()
    assert command(receiver.folder, "check").returncode == 0


def test_both_addresses_take_bodies_whatever_their_content_type(receiver: Running) -> None:
    for number, path in enumerate(["/", "/telemetry"]):
        answer = requests.post(receiver.url + path, data=body_of(rows(1, number)), timeout=30)
        assert answer.json()["status"] == "accepted"


def test_the_same_batch_again_is_a_duplicate_with_the_first_receipt(receiver: Running) -> None:
    batch_id = uuid4()
    first = receiver.receipt(body_of(rows(3), batch_id=batch_id, batch_seq=1))
    assert receiver.receipt(body_of(rows(3), batch_id=batch_id, batch_seq=1)) == first | {"status": "duplicate"}
    receiver.stop()
    with running(receiver.folder) as again:
        assert again.receipt(body_of(rows(3), batch_id=batch_id, batch_seq=1)) == first | {"status": "duplicate"}
        assert again.receipt(body_of(rows(3), batch_id=uuid4()))["status"] == "accepted"
    assert ask(receiver.folder, "SELECT count(*) FROM events") == [(6,)]
    assert ask(receiver.folder, "SELECT repeats FROM batches ORDER BY batch_no") == [(2,), (0,)]


def test_a_used_batch_id_with_other_events_is_put_aside_and_not_dropped(receiver: Running) -> None:
    batch_id = uuid4()
    receiver.receipt(body_of(rows(3), batch_id=batch_id, batch_seq=1))
    receipt = receiver.receipt(body_of(rows(3, first=9), batch_id=batch_id, batch_seq=1))
    assert (receipt["status"], receipt["reason"]) == ("quarantined", "id-reused")
    other = receiver.receipt(body_of(rows(3, first=9), batch_id=batch_id, instance=uuid4()))
    assert other["status"] == "accepted"  # an id is known within its instance only
    receiver.stop()
    shown = command(receiver.folder, "quarantine", "show", "1")
    assert json.loads(shown.stdout)["batch-id"] == str(batch_id)


def test_the_answer_comes_after_the_commit(tmp_path: Path) -> None:
    for number in range(3):
        with running(tmp_path) as receiver:
            assert receiver.receipt(body_of(rows(2, number * 2)))["status"] == "accepted"
            receiver.kill()
        assert ask(tmp_path, "SELECT count(*) FROM events") == [(2 * number + 2,)]


def test_many_senders_at_once_are_each_counted_once(receiver: Running) -> None:
    statuses: list[str] = []
    receiver.receipt(body_of(rows(1, 99)))  # of a sender that was never heard only so many wait at once

    def send(number: int) -> None:
        body = body_of(rows(5), batch_id=UUID(int=number % 20 + 1), batch_seq=number % 20)
        statuses.append(receiver.receipt(body)["status"])

    threads = [threading.Thread(target=send, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == ["accepted"] * 20 + ["duplicate"] * 20
    account = receiver.get("/status")
    assert (account["received"], account["loaded"], account["duplicate"]) == (41, 21, 20)
    assert all(check["holds"] for check in account["checks"])


# -- refusing --------------------------------------------------------------------------------------------------------

TOO_LONG = b"\xef\xe3\x0aclj/vector\x01\xec" + b"\x76\x7f\xff\xff\xff"  # a list of 2^31 - 1
GOOD = json.loads(body_of(rows(1)))

REFUSED = {
    "not-json": b"{nope",
    "wrong-shape": json.dumps(GOOD | {"instance-id": 5}).encode(),
    "unknown-type": json.dumps(GOOD | {"type": "telemetry-other"}).encode(),
    "bad-base64": json.dumps(GOOD | {"events": "AAQ+"}).encode(),
    "bad-blob": json.dumps(GOOD | {"events": "AAEAAAAA"}).encode(),
    "bad-fressian": body_of_bytes(TOO_LONG),
    "too-large": body_of_bytes(b"\x00" * (129 * 1024 * 1024)),
    "too-many-events": body_of(rows(1) * 100_001),
    "wrong-digest": json.dumps(GOOD | {"digest": "sha256:" + "0" * 64}).encode(),
}


def test_what_can_never_be_read_is_answered_2xx_and_kept_with_its_reason(receiver: Running) -> None:
    for reason, body in REFUSED.items():
        receipt = receiver.receipt(body)
        assert (receipt["status"], receipt["reason"]) == ("quarantined", reason)
    assert receiver.receipt(body_of(rows(2)))["status"] == "accepted"
    receiver.stop()
    found = ask(receiver.folder, "SELECT reason, body FROM quarantine ORDER BY quarantine_no")
    assert [reason for reason, _ in found] == list(REFUSED)
    (folder,) = [path for path in receiver.folder.iterdir() if "quarantine" in path.name]
    for reason, name in found:
        assert (folder / name).read_bytes() == REFUSED[reason]
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    assert command(receiver.folder, "check").returncode == 0


def test_a_refused_body_sent_again_is_counted_and_kept_once(receiver: Running) -> None:
    for _ in range(3):
        receiver.receipt(b"{nope")
    receiver.stop()
    assert ask(receiver.folder, "SELECT reason, repeats FROM quarantine") == [("not-json", 2)]
    assert command(receiver.folder, "check").returncode == 0


def test_no_value_of_a_body_reaches_a_message_or_the_log(receiver: Running) -> None:
    mark = "ana.canary@example.org"
    for body in (
        f'{{"{mark}": ['.encode(),
        json.dumps(GOOD | {"type": mark}).encode(),
        json.dumps(GOOD | {"supersedes": [mark]}).encode(),
        json.dumps(GOOD | {"events": mark}).encode(),
    ):
        assert receiver.receipt(body)["status"] == "quarantined"
    assert receiver.receipt(json.dumps(GOOD | {"version": mark}).encode())["status"] == "accepted"
    for body in (body_of_maps(event(name=5, props={mark: mark})), body_of_maps(event(context=mark))):
        assert receiver.receipt(body)["dead-letters"] == 1
    receiver.stop()
    said = ask(receiver.folder, "FROM quarantine"), ask(receiver.folder, "SELECT message FROM dead_letters")
    assert mark not in str(said) + receiver.log


def test_a_body_that_says_it_is_too_large_is_refused_before_it_comes(receiver: Running) -> None:
    host, port = receiver.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999999\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")


def test_a_body_that_grows_too_large_is_refused_on_the_way(receiver: Running) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(20):
            yield b" " * 1024 * 1024

    answer = requests.post(receiver.url, data=chunks(), timeout=60)
    assert answer.status_code == 413
    assert receiver.memory < 400


def test_a_slow_body_ends_after_its_time(tmp_path: Path) -> None:
    with running(tmp_path, RECEIVER_BODY_SECONDS="1") as receiver:
        host, port = receiver.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{")
            assert connection.recv(4096).startswith(b"HTTP/1.1 408")
        assert receiver.receipt(body_of(rows(1)))["status"] == "accepted"


def test_when_too_much_is_arriving_the_slowest_gives_way(tmp_path: Path) -> None:
    with running(tmp_path, RECEIVER_ARRIVING="2") as receiver:
        host, port = receiver.url.removeprefix("http://").split(":")
        slow = [socket.create_connection((host, int(port)), timeout=20) for _ in range(2)]
        for connection, start in zip(slow, (b"{", b"{      "), strict=True):
            connection.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n" + start)
        time.sleep(1.5)  # so long nobody is slow
        assert receiver.receipt(body_of(rows(1)))["status"] == "accepted"
        slow[0].settimeout(2)  # less than a silent body has anyway
        assert slow[0].recv(4096).startswith(b"HTTP/1.1 408")
        for connection in slow:
            connection.close()


def test_a_compressed_body_is_refused_and_says_why(receiver: Running) -> None:
    answer = receiver.post(gzip.compress(body_of(rows(1))), headers={"content-encoding": "gzip"})
    assert answer.status_code == 415


def test_bombs_cost_little_and_valid_batches_land_meanwhile(receiver: Running) -> None:
    receiver.receipt(penpots_body())
    before = receiver.memory
    zeros = zstandard.ZstdCompressor().compress(b"\x00" * (512 * 1024 * 1024))
    lying = payload.build_events(
        payload.EventsBatch("2.18.0", INSTANCE, to_text(b"\x00\x04\x7f\xff\xff\xff" + zeros)),
    )
    nested = body_of_bytes(b"\xe5" * 2_000_000)
    for number, bomb in enumerate((lying, nested, body_of_bytes(TOO_LONG), b"[" * 10_000_000)):
        assert receiver.receipt(bomb)["status"] == "quarantined"
        assert receiver.receipt(body_of(rows(1, number)))["status"] == "accepted"
    assert receiver.memory - before < 200


def to_text(raw: bytes) -> str:
    import base64  # noqa: PLC0415

    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


# -- privacy ---------------------------------------------------------------------------------------------------------


def test_context_keys_that_are_not_safe_are_dropped_counted_and_nowhere_kept(receiver: Running) -> None:
    mark = "ana.canary@example.org"
    body = body_of(rows(2, context=f'{{"~:browser":"Firefox","~:session":"{mark}","~:os":{{"~:deep":"{mark}"}}}}'))
    first = receiver.receipt(body)
    assert first["status"] == "accepted"
    assert receiver.receipt(body) == first | {"status": "duplicate"}
    receiver.stop()
    assert ask(receiver.folder, "SELECT DISTINCT context FROM events") == [('{"browser":"Firefox"}',)]
    assert ask(receiver.folder, "SELECT dropped_context_keys, changed_values FROM batches") == [(2, 2)]
    for path in receiver.folder.rglob("*"):
        if path.is_file():
            kept = path.read_bytes()
            if path.suffix == ".zst":
                with zstandard.ZstdDecompressor().stream_reader(kept, read_across_frames=True) as stream:
                    kept = stream.read()
                for line in kept.decode().splitlines():
                    for text in line.split('"'):
                        if text.startswith("AAQ"):
                            kept += blob.decode_str(text)
            assert mark.encode() not in kept, path.name


def test_a_legacy_report_is_kept_as_figures_only(receiver: Running) -> None:
    mark = "canary.example.org"
    report = legacy_report(
        **{
            "total-teams": 12,
            "total-users": 40,
            "jvm-heap-max": 2**32,
            "avg-files-on-project": 3.5,
            "os-name": "Linux",
            "public-uri": f"https://{mark}/",
            "email-domains": [mark],
            "profile-emails": [f"ana@{mark}"],
        }
    )
    assert receiver.receipt(report)["status"] == "accepted"
    assert receiver.receipt(report)["status"] == "duplicate"
    receiver.stop()
    ((teams, users, heap, stats, dropped),) = ask(
        receiver.folder, "SELECT total_teams, total_users, jvm_heap_max, stats, dropped_stats FROM reports"
    )
    assert (teams, users, heap, dropped) == (12, 40, 2**32, 3)
    assert mark not in stats
    files = [path for path in receiver.folder.rglob("*") if path.is_file()]
    for path in files:
        raw = path.read_bytes()
        if path.suffix == ".zst":
            with zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True) as stream:
                raw = stream.read()
        assert mark.encode() not in raw, path.name


def test_no_client_address_is_logged_or_kept(receiver: Running) -> None:
    headers = {"x-forwarded-for": "203.0.113.77", "forwarded": "for=203.0.113.77"}
    receiver.post(body_of(rows(1)), headers=headers)
    receiver.post(b"{nope", headers=headers)
    requests.get(receiver.url + "/nothing", headers=headers, timeout=20)
    receiver.stop()
    tables = str([ask(receiver.folder, f"FROM {name}") for name in ("batches", "quarantine", "deliveries", "events")])
    without_own = receiver.log.replace(receiver.url, "")
    for address in ("203.0.113.77", "127.0.0.1"):
        assert address not in without_own + tables


# -- what is known of senders ----------------------------------------------------------------------------------------


def test_loss_at_a_sender_and_gaps_in_its_sequence_are_known_exactly(receiver: Running) -> None:
    for seq, dropped, quarantined in ((1, 0, 0), (2, 70, 1), (5, 100, 1)):
        totals = Totals(1000, 0, dropped, quarantined, 1000 - dropped - quarantined)
        receiver.receipt(body_of(rows(1, seq), batch_id=uuid4(), batch_seq=seq, totals=totals))
    account = receiver.get("/status")
    assert (account["lost-at-senders"], account["missing-batches"]) == (101, 2)
    assert [(gap["first-missing"], gap["last-missing"]) for gap in account["gaps"]] == [(3, 4)]
    assert [(loss["dropped"], loss["quarantined"]) for loss in account["losses"]] == [(100, 1)]
    batches = receiver.get(f"/instances/{INSTANCE}/batches?after=1")["batches"]
    assert [(one["batch-seq"], one["events"], one["status"]) for one in batches] == [
        (2, 1, "accepted"),
        (5, 1, "accepted"),
    ]


def test_the_largest_numbers_that_are_taken_are_in_no_sum(tmp_path: Path) -> None:
    most = Totals(*[payload.MOST] * 5)
    with running(tmp_path) as receiver:
        for _ in range(3):
            envelope = {"batch_id": uuid4(), "batch_seq": payload.MOST, "totals": most, "instance": uuid4()}
            assert receiver.receipt(body_of(rows(1), **envelope))["status"] == "accepted"
        more = replace(most, dropped=2**62)
        assert receiver.receipt(body_of(rows(1), batch_id=uuid4(), totals=more))["status"] == "accepted"
        account = receiver.get("/status")
        assert account["ignored-fields"] == 1
        assert (account["lost-at-senders"], account["missing-batches"]) == (0, 0)
        assert account["implausible-instances"] == 3
        assert receiver.get("/instances")["total"] == 4
        for path in ("/", "/questions/sequence_gaps.json", "/questions/sender_loss.json"):
            assert requests.get(receiver.url + path, timeout=60).status_code == 200


def test_the_overlap_of_pages_without_an_id_is_estimated(receiver: Running) -> None:
    receiver.receipt(body_of(rows(10)))
    receiver.receipt(body_of(rows(10, first=4)))
    receiver.stop()
    assert ask(receiver.folder, "SELECT overlap_events FROM batches ORDER BY batch_no") == [(0,), (6,)]


# -- the operator ----------------------------------------------------------------------------------------------------


def test_a_second_process_on_the_same_warehouse_says_so(receiver: Running) -> None:
    second = command(receiver.folder, "serve", "--port", "0")
    assert second.returncode == 1
    assert "in use" in second.stderr
    assert "Traceback" not in second.stderr
    assert command(receiver.folder, "check").returncode == 0  # which asks the server that holds it


def test_check_fails_when_a_row_is_missing(receiver: Running) -> None:
    receiver.receipt(body_of(rows(3)))
    receiver.stop()
    assert command(receiver.folder, "check").returncode == 0
    import duckdb  # noqa: PLC0415

    with duckdb.connect(str(receiver.folder / "w.duckdb")) as con:
        con.execute("DELETE FROM events WHERE rowid = 1")
    done = command(receiver.folder, "check")
    assert done.returncode == 1
    assert "DO NOT AGREE" in done.stdout


def test_a_rebuild_from_shuffled_and_repeated_files_has_the_same_content(receiver: Running) -> None:
    for number in range(6):
        receiver.receipt(body_of(rows(4, number), batch_id=UUID(int=number + 1), batch_seq=number + 1))
    receiver.receipt(body_of(rows(4), batch_id=UUID(int=1), batch_seq=1))
    receiver.receipt(body_of(rows(1, context='{"~:session":"x"}')))
    receiver.receipt(legacy_report(**{"total-teams": 3}))
    receiver.receipt(b"{nope")
    receiver.stop()
    before = command(receiver.folder, "digest").stdout
    (landfill,) = [path for path in receiver.folder.iterdir() if "landfill" in path.name]
    (day,) = landfill.glob("*.zst")
    (landfill / "copy-of-a-backup.zst").write_bytes(day.read_bytes())
    for path in receiver.folder.glob("w.duckdb*"):
        path.unlink()
    done = command(receiver.folder, "rebuild")
    assert done.returncode == 0, done.stderr
    assert command(receiver.folder, "digest").stdout == before
    assert command(receiver.folder, "check").returncode == 0
    with running(receiver.folder) as again:
        assert again.receipt(body_of(rows(4, 2), batch_id=UUID(int=3), batch_seq=3))["status"] == "duplicate"


def test_a_torn_end_of_the_landfill_is_cut_off_and_said(receiver: Running) -> None:
    receiver.receipt(body_of(rows(3)))
    receiver.stop()
    (landfill,) = [path for path in receiver.folder.iterdir() if "landfill" in path.name]
    (day,) = landfill.glob("*.zst")
    whole = day.read_bytes()
    day.write_bytes(whole + whole[: len(whole) // 2])
    with running(receiver.folder) as again:
        assert '"torn_bytes":' in again.log.replace(" ", "")
        assert again.receipt(body_of(rows(3)))["status"] == "duplicate"
        assert again.receipt(body_of(rows(3, 5)))["status"] == "accepted"
    assert command(receiver.folder, "check").returncode == 0


def test_what_the_landfill_holds_beyond_the_warehouse_is_replayed(receiver: Running) -> None:
    receiver.receipt(body_of(rows(3)))
    receiver.stop()
    kept = (receiver.folder / "w.duckdb").read_bytes()
    with running(receiver.folder) as again:
        again.receipt(body_of(rows(4, 10), batch_id=UUID(int=7), batch_seq=7))
    (receiver.folder / "w.duckdb").write_bytes(kept)  # as if the commit had not reached the disk
    with running(receiver.folder) as again:
        assert again.receipt(body_of(rows(4, 10), batch_id=UUID(int=7), batch_seq=7))["status"] == "duplicate"
        assert again.get("/status")["events"] == 7


def test_load_takes_bodies_from_files_without_a_server(tmp_path: Path) -> None:
    path = tmp_path / "body.json"
    path.write_bytes(penpots_body())
    for status in ("accepted", "duplicate"):
        done = command(tmp_path, "load", str(path))
        assert json.loads(done.stdout)["status"] == status, done.stderr
