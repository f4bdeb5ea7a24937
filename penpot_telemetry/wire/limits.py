"""The caps of a reader: what hostile bytes may cost, in one value that is passed as an argument."""

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Caps applied before memory is taken. Sizes in bytes; `events` counts events in one batch.

    `word`: the most characters of an event's name, type and source (250 in Penpot's own schema).
    """

    body: int = 16 * MIB
    decoded: int = 128 * MIB
    events: int = 100_000
    depth: int = 128
    string: int = MIB
    word: int = 250


RECEIPT = Limits()
"""What a receiver accepts."""

PAGE_ROWS = 10_000
"""The most events that our own sender puts in one batch (Penpot's own page size)."""
