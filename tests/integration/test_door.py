"""What strangers may do at the socket: raw requests on loopback to a real receiver under a small limit of files."""

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.abuse.wire import talk
from tests.integration.receiving import Running, body_of, rows, running


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("door")) as started:
        yield started


def port_of(receiver: Running) -> int:
    return int(receiver.url.rpartition(":")[2])


def ask(receiver: Running, line: str, *headers: str) -> int:
    data = "\r\n".join([line + " HTTP/1.1", *headers, "", ""]).encode()
    return talk(port_of(receiver), data)[0][0]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:6070", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:80"])
def test_without_a_token_this_machine_is_answered(receiver: Running, host: str) -> None:
    assert ask(receiver, "GET /healthz", f"host: {host}") == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:6070", "", "[::1]x"]
)
def test_without_a_token_no_other_host_is_answered(receiver: Running, host: str) -> None:
    assert ask(receiver, "GET /status", f"host: {host}") == 421


@pytest.mark.parametrize(
    "header",
    ["origin: http://evil.example", "origin: null", "sec-fetch-site: cross-site", "sec-fetch-site: same-site"],
)
@pytest.mark.parametrize("path", ["/", "/telemetry", "/snapshot"])
def test_a_page_of_another_site_posts_nothing(receiver: Running, path: str, header: str) -> None:
    assert ask(receiver, f"POST {path}", "host: 127.0.0.1", "content-length: 0", header) == 403


@pytest.mark.parametrize("header", ["origin: http://127.0.0.1", "sec-fetch-site: same-origin", "sec-fetch-site: none"])
def test_a_page_of_the_receiver_may_post(receiver: Running, header: str) -> None:
    assert ask(receiver, "POST /snapshot", "host: 127.0.0.1", "content-length: 0", header) == 200


def test_a_body_with_two_lengths_is_refused_and_the_connection_closed(receiver: Running) -> None:
    head = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n"
    hidden = b"0\r\n\r\nGET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
    assert [status for status, _ in talk(port_of(receiver), head + hidden, 2)] == [400]


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
