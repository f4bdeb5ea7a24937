"""One cold process: the payload of a batch in, a Parquet file out."""

import sys
from pathlib import Path

from penpot_telemetry.wire import payload
from receiver.frames import decode_batch

source, target = map(Path, sys.argv[1:])
parsed = payload.parse(source.read_bytes())
assert isinstance(parsed, payload.EventsBatch)
decode_batch(parsed.events).write_parquet(target)
