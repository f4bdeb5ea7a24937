"""Fuzz the readers of hostile bytes for a bounded time: `python tests/property/fuzz_wire.py --seconds 60`.

Seeds are the vectors and two whole batches; each round changes one and gives it to the reader it belongs to. Whatever
comes, the outcome must be a value or a DecodeError; a value must be shown and written again. What fails is printed as
hex, with the seed that finds it again.
"""

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from penpot_telemetry.errors import DecodeError
from penpot_telemetry.wire import batch, blob, fressian, payload
from penpot_telemetry.wire.fressian import reader
from penpot_telemetry.wire.limits import MIB, Limits

DATA = Path(__file__).parents[1] / "data"
LIMITS = Limits(body=MIB, decoded=MIB, events=1000)
INTERESTING = [bytes([code]) for code in range(256)] + [
    bytes.fromhex(text)
    for text in ("767fffffff", "f87fffffffffffffff", "cccc", "a0ed", "efe1636c6a2f6d617001ed", "e20161", "fe", "cd80")
]


def read_fressian(data: bytes) -> None:
    value = fressian.loads(data, LIMITS)
    json.dumps(fressian.plain(value), allow_nan=False).encode()
    again = fressian.loads(fressian.dumps(value))
    if fressian.canonical(again) != fressian.canonical(value):
        raise AssertionError("written again, it reads as another value")


def read_blob(data: bytes) -> None:
    blob.decode_str(data.decode("latin-1"), LIMITS)


def read_body(data: bytes) -> None:
    payload.parse(data, LIMITS)


def read_columns(data: bytes) -> None:
    batch.decode_columns(blob.encode_str(data), LIMITS)


Target = Callable[[bytes], None]


def find_seeds() -> list[tuple[Target, bytes]]:
    vectors = json.loads((DATA / "vectors.json").read_text())
    seeds: list[tuple[Target, bytes]] = [(read_fressian, bytes.fromhex(v["hex"])) for v in vectors if "hex" in v]
    for name in ("penpot-batch-1", "penpot-legacy-1"):
        body = payload.parse((DATA / f"{name}.payload.json").read_bytes())
        if not isinstance(body, payload.EventsBatch):
            raise AssertionError(f"{name} is no batch of events")
        events = fressian.dumps(fressian.loads(blob.decode_str(body.events))[:20])
        small = payload.EventsBatch(body.version, body.instance_id, blob.encode_str(events))
        seeds += [(read_fressian, events), (read_columns, events)] * 20
        seeds += [(read_blob, small.events.encode()), (read_body, payload.build_events(small))] * 20
    return seeds


def change(data: bytes, dice: random.Random) -> bytes:
    for _ in range(dice.choice((1, 1, 2, 3, 8))):
        place = dice.randrange(len(data) + 1)
        kind = dice.randrange(5)
        if kind == 0:
            data = data[:place] + dice.choice(INTERESTING) + data[place + 1 :]
        elif kind == 1:
            data = data[:place] + dice.choice(INTERESTING) + data[place:]
        elif kind == 2:
            data = data[:place] + data[place + dice.randrange(1, 9) :]
        elif kind == 3:
            start = dice.randrange(len(data) + 1)
            data = data[:place] + data[start : start + dice.randrange(1, 40)] + data[place:]
        else:
            data = data[:place] + dice.randbytes(dice.randrange(1, 5)) + data[place + 1 :]
    return data


def fuzz(seconds: float, seed: int) -> int:
    """Rounds until the time is over; 0 when all ended well."""
    dice, seeds, outcomes = random.Random(seed), find_seeds(), Counter[str]()
    reader.MEMORY = MIB  # what is read is written again in full, references and all
    stop = time.monotonic() + seconds
    while time.monotonic() < stop:
        target, data = dice.choice(seeds)
        data = change(data, dice)
        try:
            target(data)
            outcomes[f"{target.__name__} value"] += 1
        except DecodeError as error:
            outcomes[f"{target.__name__} {error.reason}"] += 1
        except BaseException as error:
            print(f"{target.__name__} failed with {error!r} on {data.hex()} (seed {seed})", file=sys.stderr)
            raise
    for outcome, rounds in sorted(outcomes.items()):
        print(f"{rounds:9,}  {outcome}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    options = parser.parse_args()
    print(f"fuzzing for {options.seconds:g} s, seed {options.seed}")
    return fuzz(options.seconds, options.seed)


if __name__ == "__main__":
    sys.exit(main())
