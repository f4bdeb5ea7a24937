"""`events` text in, one polars frame out: one explicit schema, straight from columns.

The safe context keys are applied once more here, whoever the sender is: what is not named in
`penpot_telemetry.events.CONTEXT_KEYS` for the event's source never reaches a frame, only a count of it does.
No I/O, no clock. Hostile bytes end in DecodeError.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import msgspec
import polars as pl
import pyarrow as pa

from penpot_telemetry.errors import DecodeError
from penpot_telemetry.events import CONTEXT_KEYS
from penpot_telemetry.wire import batch, kernel
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

HEADS: dict[str, pl.DataType] = {
    "name": pl.String(),
    "type": pl.String(),
    "source": pl.String(),
    "tracked_on": pl.Date(),
}
UUID_SIZE = 16
DAY_MS = 86_400_000
FIRST_DAY = -719_162  # 0001-01-01, in days since 1970: what a Python date can hold
LAST_DAY = 2_932_896  # 9999-12-31

_scalars = msgspec.json.Decoder(dict[str, str | int | float | bool | None])
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
    if kernel.COMPILED:
        return build_page(batch.decode_flat(events, limits))
    columns = batch.decode_columns(events, limits)
    context, dropped = filter_contexts(columns.source, columns.context)
    return Page(build_frame(columns, context), dropped, sum(columns.unknown_keys.values()))


def build_page(flat: batch.FlatColumns) -> Page:
    """Flat arrays as a page, without a Python object an event."""
    if not len(flat):  # pyarrow ends the process at the buffer of an empty array
        return Page(pl.DataFrame(schema=SCHEMA), 0, 0)
    try:
        heads = build_heads(flat.heads)
        frame = heads[as_series("head", pa.int32(), flat.head_of)]
        profiles = as_series("profile_id", pa.binary(UUID_SIZE), flat.profiles).cast(pl.Binary)
        if flat.no_profile:
            profiles = profiles.scatter(flat.no_profile, None)
        texts, ends = pa.py_buffer(flat.props), pa.py_buffer(flat.props_ends)
        props = pl.Series("props", pa.LargeStringArray.from_buffers(len(flat), ends, texts))
        context, dropped = keep_safe(flat)
    except (UnicodeEncodeError, OverflowError, TypeError, pl.exceptions.PolarsError) as error:
        raise not_a_table(error) from None
    return Page(pl.DataFrame([*frame, profiles, props, context]), dropped, sum(flat.unknown_keys.values()))


def build_heads(heads: Sequence[tuple[str, str, str, int]]) -> pl.DataFrame:
    """What many events have in common, one row each."""
    columns: dict[str, list[str] | list[date | None]] = {
        "name": well_formed([head[0] for head in heads]),
        "type": well_formed([head[1] for head in heads]),
        "source": well_formed([head[2] for head in heads]),
        "tracked_on": [read_day(head[3]) for head in heads],
    }
    return pl.DataFrame(columns, schema=HEADS)


def keep_safe(flat: batch.FlatColumns) -> tuple[pl.Series, int]:
    """The context of each event with its safe keys only, and how many were dropped."""
    kept = [filter_context(source, context) for source, context in flat.contexts]
    context_of = as_series("context", pa.int32(), flat.context_of)
    counts = [count for _, count in kept]
    dropped = int(pl.Series(counts, dtype=pl.Int64)[context_of].sum()) if any(counts) else 0
    return pl.Series("context", [text for text, _ in kept], pl.String)[context_of], dropped


def as_series(name: str, kind: pa.DataType, values: memoryview | bytes) -> pl.Series:
    """A buffer of fixed-width values as a series, without a copy."""
    width = kind.bit_width // 8
    array = pa.Array.from_buffers(kind, memoryview(values).nbytes // width, [None, pa.py_buffer(values)])
    return pl.Series(name, array)


def build_frame(columns: batch.Columns, context: Sequence[str]) -> pl.DataFrame:
    """Columns as a frame."""
    try:
        frame = pl.DataFrame(
            {
                "name": well_formed(columns.name),
                "type": well_formed(columns.type),
                "source": well_formed(columns.source),
                "tracked_on": columns.tracked_at,
                "profile_id": columns.profile_id,
                "props": columns.props,
                "context": context,
            },
            schema=SCHEMA | {"tracked_on": pl.Int64()},
        )
    except (UnicodeEncodeError, OverflowError, TypeError, pl.exceptions.PolarsError) as error:
        raise not_a_table(error) from None
    return frame.with_columns(calendar_day())


def not_a_table(error: Exception) -> DecodeError:
    """What values that fit no column are refused with: nothing of them is said."""
    return DecodeError(f"the columns of the batch do not form a table: {type(error).__name__}")


def calendar_day() -> pl.Expr:
    """`tracked_on` as a date, from epoch milliseconds; an instant that no calendar day can hold becomes null."""
    day = pl.col("tracked_on").floordiv(DAY_MS)
    return pl.when(day.is_between(FIRST_DAY, LAST_DAY)).then(day).cast(pl.Int32).cast(pl.Date)


def read_day(ms: int) -> date | None:
    """The same for one instant."""
    day = ms // DAY_MS
    return date.fromordinal(day - FIRST_DAY + 1) if FIRST_DAY <= day <= LAST_DAY else None


def well_formed(texts: list[str]) -> list[str]:
    """The same texts, half a surrogate pair become U+FFFD: JavaScript cuts strings there, no table can hold it."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return [text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace") for text in texts]
    return texts


def write_rows(frame: pl.DataFrame) -> str:
    """A frame as JSON lines: how a scrubbed batch is kept, when the bytes that were sent may not be."""
    return frame.with_columns(pl.col("profile_id").bin.encode("hex")).write_ndjson()


def read_rows(text: str) -> pl.DataFrame:
    """JSON lines as the frame they were written from."""
    rows = pl.read_ndjson(text.encode(), schema=SCHEMA | {"profile_id": pl.String()})
    return rows.with_columns(pl.col("profile_id").str.decode("hex"))


def mark_events(frame: pl.DataFrame) -> pl.Series:
    """A number for each event, the same for equal ones; of use within one process only."""
    return frame.hash_rows()


def count_common(marks: pl.Series, others: pl.Series) -> int:
    """How many events of one page are also in another, each matched once, from the marks of both."""
    counted, other = (one.alias("mark").value_counts(name="n") for one in (marks, others))
    return int(counted.join(other, on="mark").select(pl.min_horizontal("n", "n_right").sum()).item())


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
        if _scalars.decode(context).keys() <= safe:
            return context, 0
    except (msgspec.DecodeError, UnicodeEncodeError):
        pass  # a list or a map below a key, or no object at all: what follows tells which
    try:
        members = _members.decode(context)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return "{}", 1
    kept = {key: raw for key, raw in members.items() if key in safe and bytes(raw)[:1] not in (b"{", b"[")}
    if len(kept) == len(members):
        return context, 0
    return _encode(kept).decode(), len(members) - len(kept)
