"""The codec against the JVM, on one core: decode, encode, both interpreted, and cold. All in processor time."""

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from unittest.mock import patch
from uuid import UUID

import msgspec
import polars as pl

from benchmarks import peer
from benchmarks.measure import Row, Timer, alone, interleave, pairs, processor_time, processor_time_of
from penpot_telemetry.wire import batch, blob, fressian
from penpot_telemetry.wire.batch import EventRow
from penpot_telemetry.wire.fressian import Keyword, Value
from penpot_telemetry.wire.transit import dumps_verbose
from receiver import frames

SAMPLE = files("penpot_telemetry") / "samples" / "penpot-batch-1.payload.json"


def read_sample() -> str:
    """The `events` text of a batch of 10,000 events that a Penpot backend wrote, in the current dialect."""
    return str(json.loads(SAMPLE.read_text())["events"])


def make_rows(events: str) -> list[EventRow]:
    """The rows that the batch was made of, as `audit_log` gives them: jsonb text, keys in jsonb's order."""
    return [
        EventRow(
            event[batch.NAME],
            event[batch.TYPE],
            event[batch.SOURCE],
            event[batch.TRACKED_AT].ms,
            event[batch.PROFILE_ID].bytes,
            jsonb_text(event[batch.PROPS]),
            jsonb_text(event[batch.CONTEXT]),
        )
        for event in fressian.loads(blob.decode_str(events))
    ]


def jsonb_text(mapping: dict[Keyword, Value]) -> str:
    """A map of scalars as Postgres writes a jsonb of verbose transit."""
    texts: dict[str, object] = {}
    for key, value in mapping.items():
        if isinstance(value, UUID):
            texts[f"~:{key.name}"] = f"~u{value}"
        elif isinstance(value, Keyword):
            texts[f"~:{key.name}"] = f"~:{value.name}"
        else:
            texts |= msgspec.json.decode(dumps_verbose({key.name: value}))
    ordered = sorted(texts, key=lambda key: (len(key.encode()), key))
    return json.dumps({key: texts[key] for key in ordered}, ensure_ascii=False)


# -- both builds -----------------------------------------------------------------------------------------------------


def interpreted_kernel() -> ModuleType:
    """The kernel from its source, whatever stands compiled beside it."""
    path = Path(batch.__file__).with_name("kernel.py")
    spec = importlib.util.spec_from_file_location("interpreted_kernel", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def with_kernel(kernel: ModuleType, work: Callable[[], object]) -> Callable[[], object]:
    """The same work on another build of the kernel."""

    def run() -> object:
        with patch.object(batch, "kernel", kernel), patch.object(frames, "kernel", kernel):
            return work()

    return run


def check(events: str, rows: list[EventRow], slow: ModuleType) -> None:
    """Everything that is timed gives the same, however it is built; and what is written is read as what it was."""
    frame = frames.decode_batch(events)
    text = batch.encode_events(rows)
    others = with_kernel(slow, lambda: (frames.decode_batch(events), batch.encode_events(rows)))()
    assert isinstance(others, tuple)
    again = frames.decode_batch(text)
    plain = ["name", "type", "source", "tracked_on", "profile_id"]
    same = (
        frame.equals(others[0])
        and text == others[1]
        and frame.select(plain).equals(again.select(plain))
        and all(read_json(frame, name) == read_json(again, name) for name in ("props", "context"))
    )
    if not same:
        raise AssertionError("the builds or the two directions do not agree")


def read_json(frame: pl.DataFrame, name: str) -> list[object]:
    """A column of JSON text as values."""
    return [msgspec.json.decode(text) for text in frame[name]]


# -- the rows --------------------------------------------------------------------------------------------------------


def measure(rounds: int, *, quick: bool) -> list[Row]:
    """The rows of the codec."""
    pin_to_one_core()
    events = read_sample()
    rows, slow = make_rows(events), interpreted_kernel()
    check(events, rows, slow)
    with as_file(SAMPLE) as path:
        return [*measure_warm(path, events, rows, slow, rounds, quick=quick), *measure_cold(path, rounds, quick=quick)]


def pin_to_one_core() -> None:
    """All that is started from here on, the JVM and polars' threads too, shares the last core."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def measure_warm(  # noqa: PLR0913
    path: Path, events: str, rows: list[EventRow], slow: ModuleType, rounds: int, *, quick: bool
) -> list[Row]:
    """Decode and encode, both builds, and the floors below them, in one set of rounds with the JVM."""
    data = blob.decode_str(events)
    times = 1 if quick else 5

    def decode() -> object:
        return frames.decode_batch(events)

    def encode() -> object:
        return batch.encode_events(rows)

    timers: dict[str, Timer] = {
        "decode": processor_time(decode, times),
        "encode": processor_time(encode, times),
        "slow decode": processor_time(with_kernel(slow, decode), 2),
        "slow encode": processor_time(with_kernel(slow, encode), 2),
        "open": processor_time(lambda: blob.decode_str(events), times),
        "close": processor_time(lambda: blob.encode_str(data), times),
    }
    note = "without the JVM" if quick else "no JVM here: apt-get install clojure libdata-fressian-clojure"
    if peer.is_there() and not quick:
        with peer.message(path) as (message, note):
            jvm = peer.Peer(message)
            timers |= {"jvm decode": several(jvm.decode, times), "jvm encode": several(jvm.encode, times)}
            found = interleave(rounds, timers)
            jvm.close()
    else:
        found = interleave(rounds, timers)
        found |= {"jvm decode": [0.0] * rounds, "jvm encode": [0.0] * rounds}
    return [
        Row("decode", "events text to polars frame", "ms", "JVM, warm", "faster", 3, 8,
            pairs(found["decode"], found["jvm decode"]), note),
        Row("encode", "rows to events text", "ms", "JVM, warm", "faster", 2, 4,
            pairs(found["encode"], found["jvm encode"]), note),
        Row("decode-interpreted", "events text to polars frame, interpreted", "ms", "JVM, warm", "faster", 1 / 8, 1 / 3,
            pairs(found["slow decode"], found["jvm decode"]), note),
        Row("encode-interpreted", "rows to events text, interpreted", "ms", "JVM, warm", "faster", 1 / 8, 1 / 3,
            pairs(found["slow encode"], found["jvm encode"]), note),
        Row("decode-floor", "events text to polars frame", "ms", "base64 and zstd alone", "floor", 0, 0,
            pairs(found["decode"], found["open"])),
        Row("encode-floor", "rows to events text", "ms", "base64 and zstd alone", "floor", 0, 0,
            pairs(found["encode"], found["close"])),
    ]  # fmt: skip


def several(once: Timer, times: int) -> Timer:
    """The best of so many runs of what is timed elsewhere."""
    return lambda: min(once() for _ in range(times))


def measure_cold(path: Path, rounds: int, *, quick: bool) -> list[Row]:
    """Processes from start to end."""
    with TemporaryDirectory() as folder:
        target = Path(folder) / "batch.parquet"
        timers = {
            "cold": processor_time_of([sys.executable, "-m", "benchmarks.cold", str(path), str(target)]),
            "help": processor_time_of([str(Path(sys.executable).with_name("penpot-telemetry")), "--help"]),
        }
        if peer.is_there() and not quick:
            with peer.message(path) as (message, _):
                timers["jvm"] = processor_time_of(peer.command("once", str(message)))
                found = interleave(rounds, timers)
        else:
            found = interleave(rounds, timers)
            found["jvm"] = [0.0] * rounds
        if pl.scan_parquet(target).select(pl.len()).collect().item() != 10_000:  # noqa: PLR2004
            raise AssertionError("the Parquet file does not hold the batch")
    return [
        Row("cold", "a cold process: one batch to Parquet", "ms", "JVM, cold, to maps", "faster", 3, 6,
            pairs(found["cold"], found["jvm"])),
        Row("help", "penpot-telemetry --help", "ms", "", "most", 200, 100, alone(found["help"])),
    ]  # fmt: skip
