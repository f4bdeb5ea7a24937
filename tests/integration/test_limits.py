"""What a receiver takes in a minute, what it says of itself in figures, and what it never writes into its log."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import requests

from penpot_telemetry.config import Settings, parse_endpoint
from penpot_telemetry.send import open_session, post_batch
from receiver.rates import Rates
from tests.integration.receiving import INSTANCE, Running, ask, body_of, rows, running
from tests.integration.test_receiver import REFUSED

OTHER = UUID(int=77)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path) as started:
        yield started


def connect(receiver: Running, source: str = "127.0.0.1") -> socket.socket:
    host, port = receiver.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20, source_address=(source, 0))


# -- buckets ---------------------------------------------------------------------------------------------------------


def test_a_bucket_gives_a_minutes_worth_at_once_and_then_one_as_time_goes() -> None:
    now = 1000.0
    rates = Rates(6, clock=lambda: now)
    assert [rates.take("a") for _ in range(6)] == [0.0] * 6
    assert rates.take("a") == pytest.approx(10.0)
    now += 4
    assert rates.take("a") == pytest.approx(6.0)
    assert rates.take("b") == 0
    now += 6
    assert [rates.take("a"), rates.take("a")] == [0.0, pytest.approx(10.0)]
    now += 3600
    assert [rates.take("a") for _ in range(7)] == [*[0.0] * 6, pytest.approx(10.0)]


@pytest.mark.parametrize("per_minute", [7, 600, 999])
def test_a_bucket_never_gives_more_than_its_rate(per_minute: int) -> None:
    now, taken = 0.0, 0
    rates = Rates(per_minute, clock=lambda: now)
    for _ in range(10 * per_minute):
        now += 0.03
        taken += rates.take() == 0
    assert taken == pytest.approx(min(10 * per_minute, per_minute + now * per_minute / 60), abs=2)


def test_made_up_keys_cost_bounded_memory_and_no_other_key_a_token() -> None:
    rates = Rates(2, most=100, clock=lambda: 0.0)
    for key in ("a", "a", "b", "b"):
        assert rates.take(key) == 0
    for number in range(50_000):
        assert rates.take(number) == 0
        if number % 50 == 0:
            assert rates.take("b") > 0  # who goes on asking is not forgotten
    assert len(rates) == 100
    assert rates.take("a") == 0  # who was quiet is, and has a full bucket


# -- rates over HTTP -------------------------------------------------------------------------------------------------


def metric(receiver: Running, name: str) -> float:
    lines = requests.get(receiver.url + "/metrics", timeout=20).text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


def test_one_instance_gets_its_share_and_no_other_notices(tmp_path: Path) -> None:
    with running(tmp_path, RECEIVER_INSTANCE_BATCHES_PER_MINUTE="2") as receiver:
        for number in range(2):
            assert receiver.receipt(body_of(rows(1, number)))["status"] == "accepted"
        answer = receiver.post(body_of(rows(1, 3)))
        assert (answer.status_code, answer.json()["error"]) == (429, "too-fast")
        assert 1 <= int(answer.headers["retry-after"]) <= 30
        assert str(INSTANCE) not in answer.text + receiver.log
        assert receiver.receipt(body_of(rows(1, 3), instance=OTHER))["status"] == "accepted"
        assert receiver.post(REFUSED["bad-blob"]).status_code == 429  # before it is decoded, so before it is put aside
        assert receiver.receipt(REFUSED["not-json"])["status"] == "quarantined"  # which says no instance
        assert metric(receiver, 'receiver_limited_total{limit="instance"}') == 2
        assert metric(receiver, 'receiver_refused_total{status="429"}') == 2
        assert receiver.get("/status")["received"] == 4
    assert ask(tmp_path, "SELECT instance_id, count(*) FROM events GROUP BY ALL ORDER BY 2") == [
        (OTHER, 1),
        (INSTANCE, 2),
    ]


def test_all_senders_together_get_a_share_too_and_the_rest_is_not_even_read(tmp_path: Path) -> None:
    environ = {"RECEIVER_BODIES_PER_MINUTE": "2", "RECEIVER_INGEST_KEY": "k" * 16}
    key = {"authorization": "Bearer " + "k" * 16}
    with running(tmp_path, **environ) as receiver:
        for _ in range(5):
            assert receiver.post(body_of(rows(1))).status_code == 401  # who may not deliver uses up nothing
        for number in range(2):
            answer = receiver.post(body_of(rows(1, number), instance=uuid4()), headers=key)
            assert answer.json()["status"] == "accepted"
        with connect(receiver) as connection:
            head = f"POST / HTTP/1.1\r\nhost: x\r\nauthorization: {key['authorization']}\r\ncontent-length: 100\r\n\r\n"
            connection.sendall(head.encode())
            said = connection.recv(4096)
        assert said.startswith(b"HTTP/1.1 429")
        assert b"retry-after: " in said
        assert metric(receiver, 'receiver_limited_total{limit="all"}') == 1
        assert receiver.get("/status")["received"] == 2


def test_a_backlog_of_a_million_rows_is_not_slowed(receiver: Running) -> None:
    for number in range(100):  # as many batches as a million rows are
        assert (
            receiver.receipt(body_of(rows(1, number), batch_id=uuid4(), batch_seq=number + 1))["status"] == "accepted"
        )
    assert metric(receiver, "receiver_limited_total") == 0


def test_our_sender_waits_as_long_as_it_is_told_and_then_delivers(tmp_path: Path) -> None:
    settings = Settings(telemetry=True, audit_log=False, data_dir=tmp_path, version="2.18.0", retry_wait=0.01)
    with running(tmp_path, RECEIVER_INSTANCE_BATCHES_PER_MINUTE="12") as receiver:
        sent = 0
        while receiver.post(body_of(rows(1, sent))).status_code == 200:
            sent += 1
        assert 12 <= sent < 50
        endpoint = parse_endpoint(receiver.url)
        started = time.monotonic()
        with open_session(endpoint) as session:
            answer = post_batch(session, endpoint, body_of(rows(1, sent)), settings)
        assert (answer.outcome, answer.repeated) == ("accepted", True)
        assert time.monotonic() - started >= 1  # the bucket gives one every five seconds
        assert receiver.get("/status")["events"] == sent + 1
