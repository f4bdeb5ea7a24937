"""What strangers may do at the socket: raw requests on loopback to a real receiver under a small limit of files."""

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from tests.abuse.wire import talk
from tests.integration.receiving import Running, body_of, body_of_bytes, rows, running


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("door")) as started:
        yield started


def port_of(receiver: Running) -> int:
    return int(receiver.url.rpartition(":")[2])


def ask(receiver: Running, line: str, *headers: str) -> int:
    data = "\r\n".join([line + " HTTP/1.1", *headers, "", ""]).encode()
    return talk(port_of(receiver), data)[0][0]


@pytest.mark.parametrize("header", ["origin: http://127.0.0.1", "sec-fetch-site: same-origin", "sec-fetch-site: none"])
def test_a_page_of_the_receiver_may_post(receiver: Running, header: str) -> None:
    assert ask(receiver, "POST /snapshot", "host: 127.0.0.1", "content-length: 0", header) == 200


def test_a_line_that_repeats_is_written_once(receiver: Running) -> None:
    for _ in range(30):
        talk(port_of(receiver), b"\x00\r\n\r\n")
        ask(receiver, "GET /healthz", "host: localhost", "upgrade: websocket", "connection: upgrade")
    lines = [line for line in receiver.log.splitlines() if '"library"' in line]
    assert 1 <= len(lines) <= 3


def test_idle_connections_up_to_the_limit_of_files_stop_no_sender(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        with running(tmp_path / "few") as receiver, ExitStack() as stack:
            if before[0] < 6000:
                resource.setrlimit(resource.RLIMIT_NOFILE, (min(6000, before[1]), before[1]))
            for _ in range(4200):
                stack.enter_context(socket.create_connection(("127.0.0.1", port_of(receiver)), timeout=20))
            assert receiver.receipt(body_of(rows(2)))["status"] == "accepted"
            assert len(receiver.log.splitlines()) < 20
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_sixteen_bodies_that_stall_before_their_end_stop_no_sender(tmp_path: Path) -> None:
    size = 16 * 1024 * 1024
    head = f"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: {size}\r\n\r\n".encode()
    with running(tmp_path / "stalled") as receiver, ExitStack() as stack:
        for _ in range(16):
            line = stack.enter_context(socket.create_connection(("127.0.0.1", port_of(receiver)), timeout=20))
            line.sendall(head + bytes(size - 1))
        time.sleep(6)
        assert receiver.receipt(body_of(rows(300)))["status"] == "accepted"


def test_a_body_of_one_byte_that_stalls_is_ended_soon(receiver: Running) -> None:
    began = time.monotonic()
    data = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{"
    assert [status for status, _ in talk(port_of(receiver), data)] == [408]
    assert time.monotonic() - began < 15


def test_what_a_full_quarantine_cannot_keep_is_not_answered_with_success(tmp_path: Path) -> None:
    with running(tmp_path, RECEIVER_QUARANTINE_MIB="1") as receiver:
        kept = body_of_bytes(b"\xe5")
        assert receiver.receipt(kept)["status"] == "quarantined"
        for number in range(300):  # junk: counted, and no longer kept once the room is used up
            assert receiver.receipt(b"{junk %d" % number)["status"] == "quarantined"
        answer = receiver.post(body_of_bytes(b"\xe5\xe5"))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
        assert "share of this sender in the quarantine is full" in answer.json()["message"]
        assert receiver.receipt(kept)["status"] == "quarantined"
        assert receiver.receipt(body_of(rows(2)))["status"] == "accepted"
        assert receiver.receipt(body_of_bytes(b"\xe5\xe5"))["status"] == "quarantined", "it has a share of its own now"
        assert receiver.get("/status")["received"] == 304
        figures = requests.get(receiver.url + "/metrics", timeout=20).text
        assert 'receiver_quarantine_full_total{full="others"} 1.0' in figures
        assert len(list((tmp_path / "w.quarantine").iterdir())) == 33
