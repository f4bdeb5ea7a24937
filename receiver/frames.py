"""`events` text in, one polars frame out: one explicit schema, straight from columns.

The safe context keys are applied once more here, whoever the sender is: what is not named in
`penpot_telemetry.events.CONTEXT_KEYS` for the event's source never reaches a frame, only a count of it does.
No I/O, no clock. Hostile bytes end in DecodeError.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import polars as pl

from penpot_telemetry.errors import DecodeError
from penpot_telemetry.events import CONTEXT_KEYS
from penpot_telemetry.wire import batch
from penpot_telemetry.wire.limits import RECEIPT, Limits

SCHEMA: dict[str, pl.DataType] = {
    "name": pl.String(),
    "type": pl.String(),
    "source": pl.String(),
    "tracked_on": pl.Date(),
    "profile_id": pl.Binary(),
    "props": pl.String(),
    "context": pl.String(),
}
"""The frame of a batch. `profile_id` is 16 bytes, which DuckDB casts to UUID; `props` and `context` are JSON text."""

DAY_MS = 86_400_000
FIRST_DAY = -719_162  # 0001-01-01, in days since 1970: what a Python date can hold
LAST_DAY = 2_932_896  # 9999-12-31

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Page:
    """A decoded batch: its frame, and how much of what was sent did not enter it."""

    frame: pl.DataFrame
    dropped_context_keys: int
    unknown_keys: int

    @property
    def is_clean(self) -> bool:
        """Whether the sent bytes hold nothing but what the frame holds."""
        return not (self.dropped_context_keys or self.unknown_keys)


def decode_batch(events: str, limits: Limits = RECEIPT) -> pl.DataFrame:
    """The `events` text of a batch as a frame of SCHEMA, in the order of the batch. Raises DecodeError."""
    return decode_page(events, limits).frame


def decode_page(events: str, limits: Limits = RECEIPT) -> Page:
    """The same, with the counts of what was left out. Raises DecodeError."""
    columns = batch.decode_columns(events, limits)
    context, dropped = filter_contexts(columns.source, columns.context)
    return Page(build_frame(columns, context), dropped, sum(columns.unknown_keys.values()))


def build_frame(columns: batch.Columns, context: Sequence[str]) -> pl.DataFrame:
    """Columns as a frame; an instant that no calendar day can hold becomes null."""
    try:
        frame = pl.DataFrame(
            {
                "name": columns.name,
                "type": columns.type,
                "source": columns.source,
                "tracked_on": columns.tracked_at,
                "profile_id": columns.profile_id,
                "props": columns.props,
                "context": context,
            },
            schema=SCHEMA | {"tracked_on": pl.Int64()},
        )
    except (UnicodeEncodeError, OverflowError, TypeError, pl.exceptions.PolarsError) as error:
        raise DecodeError(f"the columns of the batch do not form a table: {type(error).__name__}") from None
    day = pl.col("tracked_on").floordiv(DAY_MS)
    return frame.with_columns(pl.when(day.is_between(FIRST_DAY, LAST_DAY)).then(day).cast(pl.Int32).cast(pl.Date))


def write_rows(frame: pl.DataFrame) -> str:
    """A frame as JSON lines: how a scrubbed batch is kept, when the bytes that were sent may not be."""
    return frame.with_columns(pl.col("profile_id").bin.encode("hex")).write_ndjson()


def read_rows(text: str) -> pl.DataFrame:
    """JSON lines as the frame they were written from."""
    rows = pl.read_ndjson(text.encode(), schema=SCHEMA | {"profile_id": pl.String()})
    return rows.with_columns(pl.col("profile_id").str.decode("hex"))


def count_common(one: pl.DataFrame, other: pl.DataFrame) -> int:
    """How many events of one frame are also in the other, each matched once."""
    counted = one.group_by(pl.all()).len("n").join(other.group_by(pl.all()).len("m"), on=list(SCHEMA), nulls_equal=True)
    return int(counted.select(pl.min_horizontal("n", "m").sum()).item())


def filter_contexts(sources: Sequence[str], contexts: Sequence[str]) -> tuple[list[str], int]:
    """Every context with its safe keys only, and how many keys were dropped; each distinct pair is read once."""
    known: dict[tuple[str, str], tuple[str, int]] = {}
    kept: list[str] = []
    dropped = 0
    for pair in zip(sources, contexts, strict=True):
        found = known.get(pair)
        if found is None:
            found = known[pair] = filter_context(*pair)
        kept.append(found[0])
        dropped += found[1]
    return kept, dropped


def filter_context(source: str, context: str) -> tuple[str, int]:
    """One context (JSON text of an object) with its safe scalars only, and the number of keys dropped.

    A safe key with a list or a map below it is dropped too: only the key was found to be safe. When nothing is
    dropped the text is returned as it came.
    """
    safe = CONTEXT_KEYS.get(source, frozenset())
    try:
        members = _members.decode(context)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return "{}", 1
    kept = {key: raw for key, raw in members.items() if key in safe and bytes(raw)[:1] not in (b"{", b"[")}
    if len(kept) == len(members):
        return context, 0
    return _encode(kept).decode(), len(members) - len(kept)
