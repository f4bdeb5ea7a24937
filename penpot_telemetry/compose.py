"""Rows in, a batch out: which of these rows can be sent, as bytes, and what cannot, with the reason.

Pure: no I/O and no clock. The finished bytes are read back by the very reader that a receiver uses, so a row that a
receiver would make a dead letter never leaves: it becomes one here, and the other rows are sent.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from penpot_telemetry import context_values
from penpot_telemetry.errors import DecodeError, EncodeError
from penpot_telemetry.wire import batch
from penpot_telemetry.wire.batch import EventRow

UNKNOWN_VERSION = "unknown"
"""What a batch says when neither a row nor a setting names the version of its Penpot."""


@dataclass(frozen=True, slots=True)
class BatchContent:
    """The `events` text of a batch, and beside it the reference of each row in it, in their order.

    `odd` are the references of rows that cannot be sent, with the reason; `changed` counts the events whose value under
    a context key was changed; `version` is the newest version of Penpot that a row names.
    """

    events: str
    refs: Sequence[bytes]
    odd: Sequence[tuple[bytes, str]]
    changed: Mapping[str, int]
    version: str | None

    def with_odd(self, more: Sequence[tuple[bytes, str]]) -> "BatchContent":
        """The same, and rows that were found odd before."""
        return replace(self, odd=[*self.odd, *more]) if more else self

    def odd_by_reason(self) -> Mapping[str, Sequence[bytes]]:
        """The odd rows, those of one reason together."""
        found: dict[str, list[bytes]] = {}
        for ref, reason in self.odd:
            found.setdefault(reason, []).append(ref)
        return found


@dataclass(frozen=True, slots=True)
class _Draft:
    rows: list[EventRow]
    refs: list[bytes]
    odd: list[tuple[bytes, str]] = field(default_factory=list)

    def without(self, faults: Mapping[int, str]) -> "_Draft":
        kept = [index for index in range(len(self.rows)) if index not in faults]
        return _Draft(
            [self.rows[index] for index in kept],
            [self.refs[index] for index in kept],
            [*self.odd, *((self.refs[index], fault) for index, fault in sorted(faults.items()))],
        )


def compose(rows: Sequence[EventRow], refs: Sequence[bytes]) -> BatchContent:
    """The batch of these rows, without those that it cannot hold."""
    changed: Counter[str] = Counter()
    draft = _Draft(_reduce(rows, changed), list(refs))
    try:
        events = batch.encode_events(draft.rows)
    except EncodeError:
        draft = draft.without(_find_unwritable(draft.rows))
        events = batch.encode_events(draft.rows)
    if bad := _find_bad(events, draft.rows):
        draft = draft.without(bad)
        events = batch.encode_events(draft.rows)
    return BatchContent(events, draft.refs, draft.odd, changed, _newest_version(draft.rows))


def _reduce(rows: Sequence[EventRow], changed: Counter[str]) -> list[EventRow]:
    """The rows with the context that may leave: also of a row that another program wrote."""
    known: dict[tuple[str, str], tuple[str, tuple[str, ...]]] = {}  # some two hundred in ten thousand rows
    reduced: list[EventRow] = []
    for row in rows:
        pair = (row.source, row.context)
        if pair not in known:
            known[pair] = context_values.reduce_transit(*pair)[:2]
        context, keys = known[pair]
        if keys:
            changed.update(keys)
        reduced.append(row if context == row.context else row._replace(context=context))
    return reduced


def _find_bad(events: str, rows: Sequence[EventRow]) -> Mapping[int, str]:
    """The rows that a receiver would refuse, and why; each read alone where it could not read the whole batch."""
    try:
        return {event.index: f"{event.reason}: {event.message}" for event in batch.decode_flat(events).bad}
    except DecodeError:
        return {index: fault for index, row in enumerate(rows) if (fault := _find_fault(row))}


def _find_fault(row: EventRow) -> str | None:
    try:
        bad = batch.decode_flat(batch.encode_events([row])).bad
    except DecodeError as error:
        return f"cannot be read back: {error}"
    return f"{bad[0].reason}: {bad[0].message}" if bad else None


def _find_unwritable(rows: Sequence[EventRow]) -> Mapping[int, str]:
    faults: dict[int, str] = {}
    for index, row in enumerate(rows):
        try:
            batch.encode_events([row])
        except EncodeError as error:
            faults[index] = f"cannot be written: {error}"
    return faults


_decode = msgspec.json.Decoder(dict[str, object]).decode


def _newest_version(rows: Sequence[EventRow]) -> str | None:
    """What the newest row says that its Penpot is: the version of the frontend or the backend that made it."""
    tried: set[str] = set()
    for row in reversed(rows):
        if row.context in tried:
            continue
        tried.add(row.context)
        try:
            context = _decode(row.context)
        except msgspec.DecodeError:
            continue
        found = context.get("~:version")
        if isinstance(found, str) and found not in {"", "other", UNKNOWN_VERSION, "%version%"}:
            return found
    return None
