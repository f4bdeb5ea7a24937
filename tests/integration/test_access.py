"""Who may do what, over HTTP: senders with the key, readers with the token, and nobody by default from afar."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from uuid import uuid4

import pytest
import requests

from penpot_telemetry import receiver_ledger
from penpot_telemetry.config import Settings
from penpot_telemetry.endpoint import Endpoint
from penpot_telemetry.errors import ConfigError
from receiver.server.auth import is_loopback
from receiver.server.secrets import Access, read_access
from receiver.server.settings import read_settings
from receiver.storage.paths import places_beside
from tests.integration.receiving import INSTANCE, Running, body_of, rows, running

WORLD = "0.0.0.0"  # noqa: S104  the bind that must not be open
TOKEN = "a-reading-token-of-tests"  # noqa: S105  of the tests only
KEY = "an-ingestion-key-of-tests"
LEDGER = f"/instances/{INSTANCE}/batches"
READING = ("/", "/status", "/instances", LEDGER, "/metrics", "/nothing-there")
BEARER = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "key").write_text(KEY + "\n")
    environ = {"RECEIVER_READ_TOKEN": TOKEN, "RECEIVER_INGEST_KEY_FILE": str(folder / "key")}
    with running(folder, "--host", WORLD, **environ) as started:
        started.url = started.url.replace(WORLD, "127.0.0.1")
        yield started


@pytest.mark.parametrize("path", READING)
@pytest.mark.parametrize("given", [None, "Bearer", "Bearer wrong", "Basic ****", f"Bearer {TOKEN}x"])
def test_nothing_is_read_without_the_token(receiver: Running, path: str, given: str | None) -> None:
    headers = {} if given is None else {"authorization": given}
    answer = requests.get(receiver.url + path, headers=headers, timeout=20)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Basic ")


def test_the_token_opens_reading_as_a_bearer_and_as_a_password(receiver: Running) -> None:
    for path in READING[:-1]:
        assert requests.get(receiver.url + path, headers=BEARER, timeout=20).status_code == 200
        assert requests.get(receiver.url + path, auth=("anyone", TOKEN), timeout=20).status_code == 200


def test_a_sender_reads_the_ledger_with_its_key_and_nothing_else(receiver: Running, settings: Settings) -> None:
    endpoint = Endpoint(receiver.url, token=KEY)
    batch_id = uuid4()
    body = body_of(rows(2), batch_id=batch_id, batch_seq=1)
    sent = requests.post(receiver.url, body, headers={"authorization": f"Bearer {KEY}"}, timeout=20)
    assert sent.json()["status"] == "accepted"
    assert [found.batch_id for found in receiver_ledger.fetch_received(endpoint, INSTANCE, settings)] == [batch_id]
    for path in READING:
        answer = requests.get(receiver.url + path, headers={"authorization": f"Bearer {KEY}"}, timeout=20)
        assert answer.status_code == (200 if path == LEDGER else 401)


def test_probes_need_no_token(receiver: Running) -> None:
    assert [requests.get(receiver.url + path, timeout=20).status_code for path in ("/healthz", "/readyz")] == [200] * 2


def test_bodies_are_taken_with_the_key_only(receiver: Running) -> None:
    body = body_of(rows(2))
    for given in ({}, {"authorization": "Bearer wrong"}, BEARER):
        answer = requests.post(receiver.url, data=body, headers=given, timeout=20)
        assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized")
    answer = requests.post(receiver.url, data=body, headers={"authorization": f"Bearer {KEY}"}, timeout=20)
    assert answer.json()["status"] == "accepted"


def test_answers_carry_the_security_headers_and_open_nothing_to_other_sites(receiver: Running) -> None:
    for headers in ({}, BEARER):
        found = requests.get(receiver.url, headers=headers | {"origin": "https://example.org"}, timeout=20).headers
        policy = found["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert found["x-content-type-options"] == "nosniff"
        assert found["referrer-policy"] == "no-referrer"
        assert found["cache-control"] == "no-store"
        assert not [name for name in found if name.lower().startswith("access-control")]


def test_status_takes_the_token_from_the_environment_and_no_secret_is_logged(receiver: Running) -> None:
    def status(**environ: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "receiver", "check", "--url", receiver.url]
        return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False, env=os.environ | environ)

    assert status(RECEIVER_READ_TOKEN=TOKEN).returncode == 0
    refused = status()
    assert refused.returncode == 1 and "RECEIVER_READ_TOKEN" in refused.stderr
    arguments = Path(f"/proc/{receiver.process.pid}/cmdline").read_text()
    assert not any(secret in text for secret in (TOKEN, KEY) for text in (receiver.log, arguments, refused.stderr))


@pytest.mark.parametrize("name", ["RECEIVER_METRICS_TOKEN_NEEDED", "RECEIVER_REQUIRE_SIGNATURES"])
def test_what_is_neither_yes_nor_no_is_refused(tmp_path: Path, name: str) -> None:
    for text, is_taken in (("yes", True), (" No ", True), ("", True), ("true", False)):
        with nullcontext() if is_taken else pytest.raises(ConfigError, match=f"{name} must be yes or no"):
            read_settings(places_beside(tmp_path / "w.duckdb"), "127.0.0.1", 0, {name: text})


def test_metrics_are_open_when_told_so(tmp_path: Path) -> None:
    environ = {"RECEIVER_READ_TOKEN": TOKEN, "RECEIVER_METRICS_TOKEN_NEEDED": "no"}
    with running(tmp_path, **environ) as started:
        codes = [requests.get(started.url + path, timeout=20).status_code for path in ("/metrics", "/status")]
    assert codes == [200, 401]


@pytest.mark.parametrize("host", [WORLD, "::", "receiver.example.org"])
def test_the_server_does_not_start_open_to_the_world(tmp_path: Path, host: str) -> None:
    line = [sys.executable, "-m", "receiver", "--warehouse", str(tmp_path / "w.duckdb"), "--host", host, "--port", "0"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "RECEIVER_READ_TOKEN" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_loopback_is_known() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("", WORLD, "::", "192.0.2.1", "example.org")))


@pytest.mark.parametrize("text", ["short", "with a space in between", "ünprintable-in-ascii", "x" * 1025])
def test_a_secret_that_is_none_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ConfigError, match="RECEIVER_READ_TOKEN must have") as caught:
        read_access({"RECEIVER_READ_TOKEN": text})
    assert text not in str(caught.value)


def test_an_empty_secret_file_is_an_error_and_a_repr_shows_no_secret(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    for environ in (
        {"RECEIVER_READ_TOKEN_FILE": str(tmp_path / "empty")},
        {"RECEIVER_READ_TOKEN_FILE": str(tmp_path / "gone")},
        {"RECEIVER_READ_TOKEN": TOKEN, "RECEIVER_READ_TOKEN_FILE": str(tmp_path / "empty")},
    ):
        with pytest.raises(ConfigError):
            read_access(environ)
    assert not any(secret in repr(Access(TOKEN, KEY)) for secret in (TOKEN, KEY))


# -- pages of other sites in the operator's browser ------------------------------------------------------------------


@pytest.fixture(scope="module")
def open_receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One without a token, as it starts on an operator's machine."""
    with running(tmp_path_factory.mktemp("open")) as started:
        yield started


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "[::2]:{port}", "["])
def test_without_a_token_a_name_that_was_made_to_point_here_reads_nothing(open_receiver: Running, host: str) -> None:
    named = host.format(port=open_receiver.url.rpartition(":")[2])
    for path in ("/", "/status", "/metrics", "/questions/overview.json"):
        answer = requests.get(open_receiver.url + path, headers={"host": named}, timeout=20)
        assert (answer.status_code, answer.json()["error"]) == (403, "foreign-host")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:{port}", "localhost:{port}", "LOCALHOST", "[::1]:{port}"])
def test_without_a_token_the_names_of_this_machine_read(open_receiver: Running, host: str) -> None:
    named = host.format(port=open_receiver.url.rpartition(":")[2])
    assert requests.get(open_receiver.url + "/status", headers={"host": named}, timeout=20).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://evil.example", "host": "evil.example"},  # the name was made to point here
    ],
)
@pytest.mark.parametrize("path", ["/", "/telemetry", "/snapshot"])
def test_no_page_of_another_site_posts(open_receiver: Running, path: str, headers: dict[str, str]) -> None:
    before = open_receiver.get("/status")["received"]
    answer = requests.post(open_receiver.url + path, data=body_of(rows(1)), headers=headers, timeout=20)
    assert answer.status_code == 403
    assert open_receiver.get("/status")["received"] == before


def test_a_sender_posts_under_whatever_name_it_knows_the_receiver(open_receiver: Running) -> None:
    answer = requests.post(open_receiver.url, body_of(rows(2)), headers={"host": "telemetry.internal"}, timeout=20)
    assert answer.json()["status"] == "accepted"


def test_a_body_with_two_lengths_is_refused_and_the_connection_ends(open_receiver: Running) -> None:
    body = body_of(rows(1))
    head = b"content-length: %d\r\ntransfer-encoding: chunked\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", int(open_receiver.url.rpartition(":")[2])), 20) as connection:
        connection.sendall(
            b"POST / HTTP/1.1\r\nhost: localhost\r\n" + head + b"\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\n\r\n"
        )
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1") == 1
