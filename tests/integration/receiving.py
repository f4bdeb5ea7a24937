"""What the receiver's tests share: a receiver as a process of its own, and bodies to send to it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import requests

from penpot_telemetry.wire import blob, fressian, payload
from penpot_telemetry.wire.batch import EventRow, encode_events
from penpot_telemetry.wire.fressian import Instant, Keyword

DATA = Path(__file__).parents[1] / "data"
INSTANCE = UUID("b6d7c1f4-5e0a-8c1e-8005-2d3f7a9b1c22")
DAY = 1_784_505_600_000  # 2026-07-20
HEADERS = {"content-type": "application/json"}


@dataclass(slots=True)
class Running:
    """A receiver that listens."""

    process: subprocess.Popen[str]
    url: str
    folder: Path

    def post(self, body: bytes, **options: Any) -> requests.Response:
        return requests.post(self.url, data=body, timeout=60, **{"headers": HEADERS} | options)

    def receipt(self, body: bytes) -> dict[str, Any]:
        """The receipt of a body that is answered with 200."""
        answer = self.post(body)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def get(self, path: str) -> dict[str, Any]:
        answer = requests.get(self.url + path, timeout=60)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def wait_until_added_up(self) -> None:
        """Wait for the rollups to have all that was loaded."""
        wait_until(lambda: "receiver_rollups_behind_events 0.0" in requests.get(self.url + "/metrics", timeout=60).text)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(30)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def memory(self) -> int:
        """The most memory that the process has held so far, in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) // 1024


@contextmanager
def running(folder: Path, *options: str, **environ: str) -> Iterator[Running]:
    """A receiver on a free port with its files in `folder`; ends with the block."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "receiver", "--warehouse", str(folder / "w.duckdb"), "--port", "0", *options]
    with (folder / "log").open("a") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ | environ)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("listening on "), (folder / "log").read_text()
        yield Running(process, line.split()[-1], folder)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        process.stdout.close()


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """One of the operator's commands on the files in `folder`."""
    place = ["--warehouse", str(folder / "w.duckdb")]
    line = [sys.executable, "-m", "receiver", *words, *place]
    return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)


def ask(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    """Rows of the warehouse, while no receiver holds it."""
    with duckdb.connect(str(folder / "w.duckdb"), read_only=True) as con:
        return con.execute(sql).fetchall()


def penpots_body(name: str = "penpot-batch-1") -> bytes:
    """A body that a live Penpot backend wrote."""
    return (DATA / f"{name}.payload.json").read_bytes()


def rows(count: int = 3, first: int = 0, context: str = '{"~:browser":"Firefox"}') -> list[EventRow]:
    """Events with a profile each, the profiles numbered from `first`."""
    return [
        EventRow("navigate", "action", "telemetry", DAY, UUID(int=number + 1).bytes, "{}", context)
        for number in range(first, first + count)
    ]


def body_of(events: Iterable[EventRow], **envelope: Any) -> bytes:
    """A body with these events."""
    text = encode_events(list(events))
    return payload.build_events(payload.EventsBatch("2.18.0", envelope.pop("instance", INSTANCE), text, **envelope))


def body_of_bytes(data: bytes) -> bytes:
    """A body whose events are these fressian bytes."""
    return payload.build_events(payload.EventsBatch("2.18.0", INSTANCE, blob.encode_str(data)))


def event(**more: object) -> Mapping[Keyword, object]:
    """An event map with its four needed keys and others."""
    base = {"name": "navigate", "type": "action", "source": "telemetry", "tracked-at": Instant(DAY)}
    return {Keyword(name.replace("_", "-")): value for name, value in (base | more).items()}


def body_of_maps(*events: Mapping[Keyword, object]) -> bytes:
    """A body whose events are these maps."""
    return body_of_bytes(fressian.dumps([dict(one) for one in events]))


def legacy_report(**stats: object) -> bytes:
    """A legacy report with these stats, and with what must not be kept."""
    return json.dumps(
        {
            "type": "telemetry-legacy-report",
            "version": "2.18.0",
            "instance-id": str(INSTANCE),
            "stats": stats,
            "subscriptions": ["ana@example.org"],
        }
    ).encode()


def wait_until(holds: Any, seconds: float = 20.0) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)
