import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from threading import Thread
from uuid import UUID, uuid4

import pytest

from penpot_telemetry.config import Settings
from penpot_telemetry.endpoint import Endpoint, parse_endpoint
from penpot_telemetry.errors import DecodeError, TelemetryError
from penpot_telemetry.http_client import open_session
from penpot_telemetry.receipt import Answer, OutgoingBody, judge
from penpot_telemetry.receiver_ledger import fetch_received
from penpot_telemetry.send import post_batch
from tests.conftest import Receiver

BODY = b'{"type":"telemetry-events"}'
SENT = OutgoingBody(BODY, UUID(int=7), "sha256:7")
SETTINGS = Settings(
    telemetry=True,
    audit_log=False,
    data_dir=Path(),
    version="2.18.0",
    connect_timeout=2.0,
    read_timeout=0.5,
    attempts=3,
    retry_wait=0.01,
    retry_wait_max=0.2,
)


def post(endpoint: Endpoint | str, settings: Settings = SETTINGS) -> Answer:
    if isinstance(endpoint, str):
        endpoint = parse_endpoint(endpoint)
    with open_session(endpoint) as session:
        return post_batch(session, endpoint, SENT, settings)


# -- outcomes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206])
def test_penpots_notion_of_success_is_206_or_below(receiver: Receiver, status: int) -> None:
    receiver.reply = lambda _: (status, b"")
    answer = post(receiver.url)
    assert (answer.outcome, answer.receipt) == ("accepted", {"status": status})
    assert receiver.bodies == [BODY]


@pytest.mark.parametrize("status", [400, 403, 404, 413, 422, 499])
def test_a_4xx_refuses_for_good_and_is_not_repeated(receiver: Receiver, status: int) -> None:
    receiver.reply = lambda _: (status, b"")
    assert post(receiver.url).outcome == "refused"
    assert len(receiver.bodies) == 1


@pytest.mark.parametrize("status", [207, 226, 300, 304, 401, 407, 408, 425, 500, 501, 505])
def test_any_other_answer_leaves_it_unknown_without_a_repetition(receiver: Receiver, status: int) -> None:
    receiver.reply = lambda _: (status, b"")
    assert post(receiver.url).outcome == "unknown"
    assert len(receiver.bodies) == 1


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_an_answer_that_may_change_is_asked_for_again_with_the_same_bytes(receiver: Receiver, status: int) -> None:
    receiver.reply = lambda _: (status if len(receiver.bodies) < 3 else 204, b"")
    assert post(receiver.url).outcome == "accepted"
    assert receiver.bodies == [BODY] * 3


def test_attempts_come_to_an_end(receiver: Receiver) -> None:
    receiver.reply = lambda _: (503, b"")
    answer = post(receiver.url)
    assert (answer.outcome, len(receiver.bodies)) == ("unknown", 3)
    assert "503" in answer.reason


def test_a_connection_that_ends_without_an_answer_is_tried_again(receiver: Receiver) -> None:
    receiver.reply = lambda _: (None if len(receiver.bodies) < 2 else 204, b"")
    assert post(receiver.url).outcome == "accepted"
    assert len(receiver.bodies) == 2


def test_nobody_listening_is_unknown() -> None:
    answer = post("http://127.0.0.1:9/")
    assert answer.outcome == "unknown"
    assert "cannot be reached" in answer.reason


def test_a_silent_server_is_given_up_after_the_read_timeout(receiver: Receiver) -> None:
    def answer_late(_: bytes) -> tuple[int, bytes]:
        time.sleep(0.4)
        return 204, b""

    receiver.reply = answer_late
    answer = post(receiver.url, replace(SETTINGS, attempts=1, read_timeout=0.1))
    assert answer.outcome == "unknown"
    assert "in time" in answer.reason


def test_a_stop_ends_the_repetitions(receiver: Receiver) -> None:
    receiver.reply = lambda _: (503, b"")
    endpoint = parse_endpoint(receiver.url)
    with open_session(endpoint) as session:
        post_batch(session, endpoint, SENT, SETTINGS, stopped=lambda: True)
    assert len(receiver.bodies) == 1


# -- Retry-After -----------------------------------------------------------------------------------------------------


def test_retry_after_is_waited_for(receiver: Receiver) -> None:
    receiver.reply = lambda _: (503 if len(receiver.bodies) < 2 else 204, b"")
    receiver.extra = {"Retry-After": "0.15"}
    started = time.monotonic()
    assert post(receiver.url).outcome == "accepted"
    assert time.monotonic() - started >= 0.15


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_wait_beyond_the_bound_is_left_to_the_next_run(receiver: Receiver, form: str) -> None:
    receiver.reply = lambda _: (503, b"")
    wait = "3600" if form == "seconds" else format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    receiver.extra = {"Retry-After": wait}
    assert post(receiver.url).outcome == "unknown"
    assert len(receiver.bodies) == 1


@pytest.mark.parametrize("wait", ["soon", "nan", "inf", "-5", "", "Wed, 99 Foo 2026"])
def test_a_retry_after_that_says_nothing_does_no_harm(receiver: Receiver, wait: str) -> None:
    receiver.reply = lambda _: (503, b"")
    receiver.extra = {"Retry-After": wait}
    post(receiver.url)
    assert len(receiver.bodies) == 3


# -- what leaves -----------------------------------------------------------------------------------------------------


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.reply = lambda _: (307, b"")
    receiver.extra = {"Location": receiver.url + "elsewhere"}
    answer = post(receiver.url)
    assert (answer.outcome, len(receiver.bodies)) == ("unknown", 1)
    assert "redirect" in answer.reason


def test_the_user_agent_names_the_project_and_the_body_is_json(receiver: Receiver) -> None:
    post(receiver.url)
    (headers,) = receiver.headers
    assert headers["User-Agent"].startswith("penpot-telemetry/")
    assert headers["Content-Type"] == "application/json"
    assert "Authorization" not in headers


def test_credentials_travel_in_the_header_and_in_no_message(receiver: Receiver) -> None:
    url = receiver.url.replace("http://", "http://ada:s3cret@")
    receiver.reply = lambda _: (500, b"")
    answer = post(url)
    assert receiver.headers[0]["Authorization"].startswith("Basic ")
    assert "s3cret" not in answer.reason
    assert "s3cret" not in post("http://ada:s3cret@127.0.0.1:9/").reason


def test_a_token_is_a_bearer(receiver: Receiver) -> None:
    post(Endpoint(receiver.url, token="t0ken"))  # noqa: S106
    assert receiver.headers[0]["Authorization"] == "Bearer t0ken"


def test_the_users_netrc_stays_unread(receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login ada password s3cret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    post(receiver.url)
    assert "Authorization" not in receiver.headers[0]


def test_no_cookie_is_kept(receiver: Receiver) -> None:
    receiver.extra = {"Set-Cookie": "id=1"}
    endpoint = parse_endpoint(receiver.url)
    with open_session(endpoint) as session:
        post_batch(session, endpoint, SENT, SETTINGS)
        post_batch(session, endpoint, SENT, SETTINGS)
    assert "Cookie" not in receiver.headers[1]


def test_the_proxy_of_the_environment_is_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", receiver.url)
    assert post("http://telemetry.invalid/").outcome == "accepted"
    assert receiver.headers[0]["Host"] == "telemetry.invalid"


# -- receipts --------------------------------------------------------------------------------------------------------


def test_a_receipt_keeps_its_known_fields_only() -> None:
    content = json.dumps({"status": "accepted", "events": 3, "x": "y", "batch-id": None, "reason": ["z"]}).encode()
    assert judge(200, content, "u", SENT).receipt == {"status": "accepted", "events": 3, "http-status": 200}


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'"accepted"'])
def test_an_answer_that_is_no_receipt_is_a_success_all_the_same(content: bytes) -> None:
    answer = judge(200, content, "u", SENT)
    assert (answer.outcome, answer.receipt) == ("accepted", {"status": 200})


def test_a_receipt_cannot_smuggle_control_characters_or_length() -> None:
    hostile = json.dumps({"status": "a\x00b\x1b[31m\ud800", "reason": "r" * 10_000, "events": 10**400}).encode()
    receipt = judge(200, hostile, "u", SENT).receipt
    assert receipt["status"] == "ab[31m"
    assert receipt["reason"] == "r" * 300
    json.dumps(receipt).encode()


def test_an_endless_answer_is_cut_and_its_status_counts(receiver: Receiver) -> None:
    receiver.reply = lambda _: (200, b"x" * 1_000_000)
    assert post(receiver.url) == Answer("accepted", f"{receiver.url} answered 200", {"status": 200})


# -- the receiver's ledger -------------------------------------------------------------------------------------------

INSTANCE = UUID("b6d7c1f4-0000-4000-8000-000000000001")


@pytest.fixture
def ledger_server() -> Iterator[tuple[str, list[bytes], list[str]]]:
    """Answers each GET with the next of a list."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer  # noqa: PLC0415

    answers: list[bytes] = []
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            content = answers.pop(0)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", answers, paths
    server.shutdown()
    server.server_close()
    thread.join()


def batches(*seqs: int) -> bytes:
    return json.dumps(
        {
            "batches": [
                {"batch-id": str(uuid4()), "batch-seq": seq, "digest": "sha256:0", "events": 1, "status": "accepted"}
                for seq in seqs
            ]
        }
    ).encode()


def test_the_receivers_ledger_is_read_page_by_page(ledger_server: tuple[str, list[bytes], list[str]]) -> None:
    url, answers, paths = ledger_server
    answers += [batches(1, 2), batches(3), batches()]
    assert [batch.seq for batch in fetch_received(parse_endpoint(url), INSTANCE, SETTINGS)] == [1, 2, 3]
    assert paths == [f"/instances/{INSTANCE}/batches?after={after}" for after in (0, 2, 3)]


def test_batches_without_an_id_are_of_another_sender(ledger_server: tuple[str, list[bytes], list[str]]) -> None:
    url, answers, _ = ledger_server
    nameless = {"batch-id": None, "batch-seq": None, "digest": "sha256:0", "events": 1, "status": "accepted"}
    answers += [batches(1).replace(b"[", b"[" + json.dumps(nameless).encode() + b", "), batches()]
    assert [batch.seq for batch in fetch_received(parse_endpoint(url), INSTANCE, SETTINGS)] == [1]


@pytest.mark.parametrize("content", [b"<html>", b"{}", b'{"batches":[{}]}', b'{"batches":[1]}', b"[]"])
def test_an_answer_that_is_no_ledger_is_said_to_be_none(
    ledger_server: tuple[str, list[bytes], list[str]], content: bytes
) -> None:
    url, answers, _ = ledger_server
    answers.append(content)
    with pytest.raises(DecodeError, match="list of batches"):
        list(fetch_received(parse_endpoint(url), INSTANCE, SETTINGS))


def test_a_ledger_that_repeats_itself_is_not_read_for_ever(ledger_server: tuple[str, list[bytes], list[str]]) -> None:
    url, answers, _ = ledger_server
    answers += [batches(1), batches(1)]
    with pytest.raises(DecodeError, match="repeats itself"):
        list(fetch_received(parse_endpoint(url), INSTANCE, SETTINGS))


def test_a_receiver_that_cannot_be_reached_says_so() -> None:
    with pytest.raises(TelemetryError, match="cannot be reached"):
        list(fetch_received(parse_endpoint("http://127.0.0.1:9/"), INSTANCE, SETTINGS))
