"""The receiver against DuckDB: bodies over HTTP until they are committed, and how that grows with the rows."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import polars as pl
import requests

from benchmarks.codec import read_sample
from benchmarks.measure import Row, Timer, interleave, pairs
from penpot_telemetry.demo import Receiver
from penpot_telemetry.wire.payload import EventsBatch, build_events
from receiver.frames import decode_batch
from receiver.storage import connection, inserts, schema

INSTANCE = UUID(int=0xB6D7C1F45E0A8C1E80052D3F7A9B1C22)
VERSION = "2.18.0"
SENDERS = 4
"""Bodies on their way at once."""

EVENTS = 10_000


def make_body(events: str, number: int) -> bytes:
    """The same events under a batch id of their own."""
    batch_id = UUID(int=number | 4 << 76 | 2 << 62)
    return build_events(EventsBatch(VERSION, INSTANCE, events, batch_id, number))


@contextmanager
def serve() -> Iterator[str]:
    """The address of a receiver in a process of its own, on an empty warehouse."""
    with TemporaryDirectory() as folder:
        running = Receiver(Path(folder) / "warehouse.duckdb", Path(folder) / "log")
        try:
            yield running.start()
        finally:
            running.stop()


def send(url: str, bodies: Sequence[bytes], senders: int = SENDERS) -> float:
    """Seconds until the last of some bodies was answered with success."""
    with requests.Session() as session, ThreadPoolExecutor(senders) as pool:

        def post(body: bytes) -> None:
            answer = session.post(url, data=body, headers={"content-type": "application/json"}, timeout=60)
            answer.raise_for_status()
            if answer.json()["status"] != "accepted":
                raise AssertionError(answer.text)

        started = time.perf_counter()
        list(pool.map(post, bodies))
        return time.perf_counter() - started


@contextmanager
def open_floor(frame: pl.DataFrame, batches: int) -> Iterator[Timer]:
    """Seconds in which DuckDB appends the same ready frame so many times, one transaction each, and nothing else."""
    with TemporaryDirectory() as folder, connection.connect(Path(folder) / "floor.duckdb") as con:
        schema.upgrade(con)
        number = count(1)

        def append() -> float:
            started = time.perf_counter()
            for _ in range(batches):
                with connection.transaction(con), connection.registered(con, "page_rows", frame):
                    con.execute(inserts.INSERT_EVENTS, [next(number), INSTANCE, VERSION])
            return time.perf_counter() - started

        yield append


def measure(rounds: int, *, quick: bool) -> list[Row]:
    """The rows of the receiver."""
    events = read_sample()
    return [measure_intake(events, rounds, quick=quick), measure_growth(events, rounds, quick=quick)]


def measure_intake(events: str, rounds: int, *, quick: bool) -> Row:
    """Bodies to a running receiver, beside DuckDB appending what they decode to."""
    frame, batches, number = decode_batch(events), 2 if quick else 20, count(1)
    sent = 0
    with serve() as url, open_floor(frame, batches) as append:

        def intake() -> float:
            nonlocal sent
            sent += batches
            return send(url, [make_body(events, next(number)) for _ in range(batches)])

        found = interleave(rounds, {"intake": intake, "floor": append})
        check_committed(url, sent)
    rounds_of = pairs(found["intake"], found["floor"], 1e3 / batches)
    return Row("intake", "a batch: HTTP body to committed", "ms", "DuckDB appending the frame", "share", 0.6, 0.85,
               rounds_of)  # fmt: skip


def check_committed(url: str, batches: int) -> None:
    """Every event that was sent is in the account of the receiver."""
    account = requests.get(url + "/status", timeout=60).json()
    if account["events"] != batches * EVENTS:
        raise AssertionError(f"{account['events']} events are committed, {batches * EVENTS} were sent")


def measure_growth(events: str, rounds: int, *, quick: bool) -> Row:
    """What a row costs among a million, beside what it costs among ten thousand; one body at a time."""
    large, number, found = 3 if quick else 100, count(1), []
    for _ in range(1 if quick else min(rounds, 3)):
        with serve() as url:
            send(url, [make_body(events, next(number))], 1)  # the first one finds nothing warm
            small = sorted(send(url, [make_body(events, next(number))], 1) for _ in range(1 if quick else 9))
            seconds = send(url, [make_body(events, next(number)) for _ in range(large)], 1)
        found.append((1e6 * seconds / large / EVENTS, 1e6 * small[len(small) // 2] / EVENTS))
    return Row(
        "intake-growth",
        f"a row among {large * EVENTS:,}: decode and load",
        "us",
        "among 10,000",
        "times",
        1.15,
        1.0,
        found,
    )
