"""A server that sends a byte now and then: a request ends in time, whatever part of the answer is drawn out."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from penpot_telemetry.config import Settings
from penpot_telemetry.endpoint import Endpoint
from penpot_telemetry.errors import TelemetryError
from penpot_telemetry.http_client import open_session
from penpot_telemetry.receipt import Answer, OutgoingBody
from penpot_telemetry.receiver_ledger import fetch_received
from penpot_telemetry.send import post_batch

SECONDS = 0.6
PATIENCE = 5.0
SETTINGS = Settings(
    telemetry=True,
    audit_log=False,
    data_dir=Path(),
    connect_timeout=SECONDS,
    read_timeout=SECONDS,
    request_timeout=SECONDS,
    attempts=1,
)
SENT = OutgoingBody(b"{}", UUID(int=1), "sha256:1")

DRAWN_OUT: dict[str, tuple[bytes, bytes]] = {
    "status line": (b"", b"H"),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"),
    "one header": (b"HTTP/1.1 200 OK\r\nx: ", b"a"),
    "100 Continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body": (b"HTTP/1.1 503 no\r\nContent-Length: 1000\r\n\r\n", b"a"),
    "chunk line": (b"HTTP/1.1 503 no\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
    "chunks": (b"HTTP/1.1 503 no\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
}
"""What is sent at once, and what again and again."""


@pytest.fixture
def drip() -> Iterator[Callable[[bytes, bytes], int]]:
    """Starts a server that answers with a beginning and then a piece every 50 ms, for ever; returns its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.1)
    ends = threading.Event()
    threads: list[threading.Thread] = []

    def serve(client: socket.socket, head: bytes, piece: bytes) -> None:
        with client, suppress(OSError):
            client.sendall(head)
            while not ends.wait(0.05):
                client.sendall(piece)

    def accept(head: bytes, piece: bytes) -> None:
        while not ends.is_set():
            with suppress(TimeoutError):
                client, _ = listener.accept()
                threads.append(threading.Thread(target=serve, args=(client, head, piece)))
                threads[-1].start()

    def start(head: bytes, piece: bytes) -> int:
        threads.append(threading.Thread(target=accept, args=(head, piece)))
        threads[-1].start()
        return int(listener.getsockname()[1])

    yield start
    ends.set()
    for thread in threads:
        thread.join()
    listener.close()


def post(url: str, settings: Settings = SETTINGS) -> Answer:
    endpoint = Endpoint(url)
    with open_session(endpoint) as session:
        return post_batch(session, endpoint, SENT, settings)


@pytest.mark.parametrize("part", DRAWN_OUT)
def test_an_answer_that_is_drawn_out_ends_in_time(drip: Callable[[bytes, bytes], int], part: str) -> None:
    port = drip(*DRAWN_OUT[part])
    started = time.monotonic()
    assert post(f"http://127.0.0.1:{port}/").outcome == "unknown"
    assert time.monotonic() - started < PATIENCE


def test_a_tls_handshake_that_is_drawn_out_ends_in_time(drip: Callable[[bytes, bytes], int]) -> None:
    port = drip(b"\x16\x03\x03\x40\x00", b"\x02")  # a record of 16 KiB that comes byte by byte
    started = time.monotonic()
    assert post(f"https://127.0.0.1:{port}/").outcome == "unknown"
    assert time.monotonic() - started < PATIENCE


def test_what_ran_out_of_time_is_not_tried_again_in_the_same_pass(drip: Callable[[bytes, bytes], int]) -> None:
    port = drip(*DRAWN_OUT["headers"])
    answer = post(f"http://127.0.0.1:{port}/", replace(SETTINGS, attempts=3, retry_wait=0.01, retry_wait_max=0.01))
    assert "did not answer to the end within 0.6 seconds" in answer.reason


@pytest.mark.parametrize("part", ["status line", "headers", "body"])
def test_a_ledger_that_is_drawn_out_ends_in_time(drip: Callable[[bytes, bytes], int], part: str) -> None:
    head, piece = DRAWN_OUT[part]
    port = drip(head.replace(b"503 no", b"200 OK"), piece)
    started = time.monotonic()
    with pytest.raises(TelemetryError):
        list(fetch_received(Endpoint(f"http://127.0.0.1:{port}/"), UUID(int=1), SETTINGS))
    assert time.monotonic() - started < PATIENCE


def test_a_receiver_that_is_slow_but_in_time_is_heard(drip: Callable[[bytes, bytes], int]) -> None:
    port = drip(b"HTTP/1.1 204 No Content\r\n", b"\r\n")
    assert post(f"http://127.0.0.1:{port}/").outcome == "accepted"
