"""`events` text in, one polars frame out: one explicit schema, straight from columns; and dead letters.

The rule for contexts (`penpot_telemetry.context_values`) is applied once more here, whoever the sender is: what it
does not let pass never reaches a frame or a dead letter, only a count of it does. No I/O, no clock. Bytes that cannot
be cut into events end in DecodeError.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

import msgspec
import polars as pl
import pyarrow as pa

from penpot_telemetry.context_values import reduce_json
from penpot_telemetry.errors import DecodeError
from penpot_telemetry.events import CONTEXT_KEYS
from penpot_telemetry.wire import batch, kernel
from penpot_telemetry.wire.batch import BadEvent
from penpot_telemetry.wire.fressian import Instant
from penpot_telemetry.wire.limits import RECEIPT, Limits
from receiver.storage.records import DeadLetter

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

UUID_TEXT = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
EPOCH, MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_letter = msgspec.json.Decoder(DeadLetter)
_scalars = msgspec.json.Decoder(dict[str, str | int | float | bool | None])
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.Encoder().encode


Reduce: TypeAlias = Callable[[str, str], tuple[str, tuple[str, ...], int]]
"""Source and context (JSON text) to the context that passes, the keys of changed values, and how many were dropped."""


@dataclass(frozen=True, slots=True)
class Page:
    """A decoded batch: its frame, its bad events, and how much of what was sent did not enter the frame.

    `changed_values`: context values that were reduced or left out, by key. `size`: the bytes of the rows, good and
    bad, as `penpot_telemetry.wire.limits` counts them.
    """

    frame: pl.DataFrame
    dropped_context_keys: int
    unknown_keys: int
    changed_values: Mapping[str, int] = field(default_factory=dict)
    dead_letters: Sequence[DeadLetter] = ()
    size: int = 0

    @property
    def events(self) -> int:
        """The events that were found, good and bad."""
        return self.frame.height + len(self.dead_letters)


def decode_batch(events: str, limits: Limits = RECEIPT) -> pl.DataFrame:
    """The good events of a batch as a frame of SCHEMA, in its order. Raises DecodeError."""
    return decode_page(events, limits).frame


def decode_page(events: str, limits: Limits = RECEIPT, reduce: Reduce = reduce_json) -> Page:
    """The same, with the bad events and the counts of what was left out. Raises DecodeError."""
    if kernel.COMPILED:
        return build_page(batch.decode_flat(events, limits), reduce)
    columns = batch.decode_columns(events, limits)
    context, dropped, changed = reduce_contexts(columns.source, columns.context, reduce)
    letters = [write_dead_letter(bad, reduce) for bad in columns.bad]
    size = batch.size_of(columns) + batch.size_of_bad(columns.bad)
    return Page(build_frame(columns, context), dropped, sum(columns.unknown_keys.values()), changed, letters, size)


def build_page(flat: batch.FlatColumns, reduce: Reduce = reduce_json) -> Page:
    """Flat arrays as a page, without a Python object an event."""
    letters = [write_dead_letter(bad, reduce) for bad in flat.bad]
    if not len(flat):  # pyarrow ends the process at the buffer of an empty array
        return Page(pl.DataFrame(schema=SCHEMA), 0, 0, {}, letters, flat.size)
    try:
        heads = build_heads(flat.heads)
        frame = heads[as_series("head", pa.int32(), flat.head_of)]
        profiles = as_series("profile_id", pa.binary(UUID_SIZE), flat.profiles).cast(pl.Binary)
        if flat.no_profile:
            profiles = profiles.scatter(flat.no_profile, None)
        texts, ends = pa.py_buffer(flat.props), pa.py_buffer(flat.props_ends)
        props = pl.Series("props", pa.LargeStringArray.from_buffers(len(flat), ends, texts))
        context, dropped, changed = keep_safe(flat, reduce)
    except (UnicodeEncodeError, OverflowError, TypeError, pl.exceptions.PolarsError) as error:
        raise not_a_table(error) from None
    unknown = sum(flat.unknown_keys.values())
    return Page(pl.DataFrame([*frame, profiles, props, context]), dropped, unknown, changed, letters, flat.size)


def build_heads(heads: Sequence[tuple[str, str, str, int]]) -> pl.DataFrame:
    """What many events have in common, one row each."""
    columns: dict[str, list[str] | list[date | None]] = {
        "name": well_formed([head[0] for head in heads]),
        "type": well_formed([head[1] for head in heads]),
        "source": well_formed([head[2] for head in heads]),
        "tracked_on": [read_day(head[3]) for head in heads],
    }
    return pl.DataFrame(columns, schema=HEADS)


def keep_safe(flat: batch.FlatColumns, reduce: Reduce) -> tuple[pl.Series, int, dict[str, int]]:
    """The context of each event as it may be kept, the number of keys dropped, and of values changed by key."""
    kept = [reduce(source, context) for source, context in flat.contexts]
    context_of = as_series("context", pa.int32(), flat.context_of)
    dropped, changed = 0, Counter[str]()
    if any(keys or count for _, keys, count in kept):
        dropped, changed = count_reduced(kept[number] for number in flat.context_of)
    return pl.Series("context", [text for text, _, _ in kept], pl.String)[context_of], dropped, dict(changed)


def count_reduced(kept: Iterable[tuple[str, tuple[str, ...], int]]) -> tuple[int, Counter[str]]:
    """The keys dropped and the values changed, over the contexts of all events."""
    dropped, changed = 0, Counter[str]()
    for _, keys, count in kept:
        dropped += count
        if keys:
            changed.update(keys)
    return dropped, changed


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


def write_rows(frame: pl.DataFrame, letters: Sequence[DeadLetter] = ()) -> str:
    """A frame as JSON lines: how a scrubbed batch is kept, when the bytes that were sent may not be.

    Dead letters follow after an empty line.
    """
    rows = frame.with_columns(pl.col("profile_id").bin.encode("hex")).write_ndjson()
    return rows + "\n" + "".join(_encode(letter).decode() + "\n" for letter in letters) if letters else rows


def read_rows(text: str) -> tuple[pl.DataFrame, list[DeadLetter]]:
    """JSON lines as the frame and the dead letters they were written from."""
    rows, _, rest = ("", "", text[1:]) if text.startswith("\n") else text.partition("\n\n")
    letters = [_letter.decode(line) for line in rest.split("\n") if line]
    if not rows:
        return pl.DataFrame(schema=SCHEMA), letters
    frame = pl.read_ndjson(rows.encode(), schema=SCHEMA | {"profile_id": pl.String()})
    return frame.with_columns(pl.col("profile_id").str.decode("hex")), letters


def mark_events(frame: pl.DataFrame) -> pl.Series:
    """A number for each event, the same for equal ones; of use within one process only."""
    return frame.hash_rows()


def count_common(marks: pl.Series, others: pl.Series) -> int:
    """How many events of one page are also in another, each matched once, from the marks of both."""
    counted, other = (one.alias("mark").value_counts(name="n") for one in (marks, others))
    return int(counted.join(other, on="mark").select(pl.min_horizontal("n", "n_right").sum()).item())


def reduce_contexts(
    sources: Sequence[str], contexts: Sequence[str], reduce: Reduce = reduce_json
) -> tuple[list[str], int, dict[str, int]]:
    """Every context as it may be kept, the number of keys dropped, and of values changed by key."""
    known: dict[tuple[str, str], tuple[str, tuple[str, ...], int]] = {}
    kept: list[tuple[str, tuple[str, ...], int]] = []
    for pair in zip(sources, contexts, strict=True):
        found = known.get(pair)
        if found is None:
            found = known[pair] = reduce(*pair)
        kept.append(found)
    dropped, changed = count_reduced(kept)
    return [text for text, _, _ in kept], dropped, dict(changed)


def keep_safe_keys(source: str, context: str) -> tuple[str, tuple[str, ...], int]:
    """One context (JSON text of an object) with its safe scalars only, whatever they are: what was loaded once.

    For the journal alone: its `events` records hold what had passed the rule of their day, and a rebuild gives it back.
    A safe key with a list or a map below it is dropped. When nothing is dropped the text is returned as it came.
    """
    safe = CONTEXT_KEYS.get(source, frozenset())
    try:
        if _scalars.decode(context).keys() <= safe:
            return context, (), 0
    except (msgspec.DecodeError, UnicodeEncodeError):
        pass  # a list or a map below a key, or no object at all: what follows tells which
    try:
        members = _members.decode(context)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return "{}", (), 1
    kept = {key: raw for key, raw in members.items() if key in safe and bytes(raw)[:1] not in (b"{", b"[")}
    if len(kept) == len(members):
        return context, (), 0
    return _encode(kept).decode(), (), len(members) - len(kept)


# --- dead letters ---------------------------------------------------------------------------------------------------


def write_dead_letter(bad: BadEvent, reduce: Reduce = reduce_json) -> DeadLetter:
    """A bad event as it may be kept: its context reduced like any other, or left out where it is no object."""
    try:
        fields = _fields.decode(bad.event)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return DeadLetter(bad.index, bad.reason, bad.message, "{}", is_whole=False)
    if "context" in fields:
        source = read_text(fields.get("source"))
        kept = bytes(fields["context"])[:1] == b"{"
        context = reduce(source, bytes(fields["context"]).decode())[0] if kept else "{}"
        fields["context"] = msgspec.Raw(context.encode())
    return DeadLetter(bad.index, bad.reason, bad.message, _encode(fields).decode(), is_whole=bad.is_whole)


def read_text(raw: msgspec.Raw | None) -> str:
    """The string that JSON text is, or an empty one."""
    try:
        return "" if raw is None else msgspec.json.decode(raw, type=str)
    except msgspec.DecodeError:
        return ""


def read_dead_letters(events: Sequence[str], limits: Limits) -> tuple[pl.DataFrame, list[int]]:
    """The kept events that the reader of today takes, as a frame, and their indexes; JSON stands for what it says."""
    read = [(index, row) for index, event in enumerate(events) if (row := read_dead_letter(event, limits)) is not None]
    parts: Any = [[row[part] for _, row in read] for part in range(len(SCHEMA))]
    columns = batch.Columns(*parts)
    contexts, _, _ = reduce_contexts(columns.source, columns.context)
    return build_frame(columns, contexts), [index for index, _ in read]


def read_dead_letter(event: str, limits: Limits) -> tuple[Any, ...] | None:
    """One kept event as the values of its columns; None when it is no event today either."""
    try:
        fields = msgspec.json.decode(event, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return None
    instant, profile = read_instant(fields.get("tracked-at")), fields.get("profile-id")
    is_profile = isinstance(profile, str) and UUID_TEXT.fullmatch(profile) is not None
    values: dict[Any, Any] = {
        batch.NAME: fields.get("name"),
        batch.TYPE: fields.get("type"),
        batch.SOURCE: fields.get("source"),
        batch.TRACKED_AT: None if instant is None else Instant(instant),
        batch.PROFILE_ID: UUID(profile) if is_profile else profile,
    }
    maps = [fields.get("props") or {}, fields.get("context") or {}]
    if batch.find_fault(values, limits) or not all(isinstance(one, dict) for one in maps):
        return None
    if longest_text(maps) > limits.string:
        return None
    head = values[batch.NAME], values[batch.TYPE], values[batch.SOURCE], instant
    props, context = (_encode(one).decode() for one in maps)
    return *head, UUID(profile).bytes if is_profile else None, props, context


def read_instant(text: object) -> int | None:
    """Epoch milliseconds of an ISO 8601 instant in UTC, of the years that a calendar holds."""
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    if moment is None or moment.tzinfo is None:
        return None
    return (moment - EPOCH) // MILLISECOND


def longest_text(value: object) -> int:
    """The bytes of the longest string in a JSON value."""
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, dict):
        return max((max(len(key), longest_text(entry)) for key, entry in value.items()), default=0)
    return max(map(longest_text, value), default=0) if isinstance(value, list) else 0
