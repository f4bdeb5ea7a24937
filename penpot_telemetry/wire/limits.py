"""The cost model: what a body may cost, in bytes and in steps, and the caps of a reader. One place for all of it.

Every bound follows from the size of the body as it was received: of n bytes, one may have

    inflated   min(decoded, floor + RATIO * n) bytes of fressian behind the zstd frame
    rows       as many bytes: ROW for each event, and the text of every field of every event, however short it was
               written: a string that is referred to by two bytes counts at its full length
    work       min(WORK_MOST, WORK_FLOOR + WORK_RATIO * n): the memory of all values that are read one by one, never
               given back. An item of a list counts 64, a struct 192, a string its length: it counts steps too

A batch of 10,000 events of a real Penpot has 352,834 bytes, 2.8 MB inflated, 8.4 MB of rows, and 0.1 MB of work, since
its events are copied by the kernel, which the inflated bytes bound. Read value by value it is 120 MB of work.
"""

from dataclasses import dataclass

MIB = 1024 * 1024

FLOOR = 12 * MIB
RATIO = 32
WORK_FLOOR = 32 * MIB
WORK_RATIO = 384
WORK_MOST = 192 * MIB
"""Work of 32 MiB takes half a second of a core as empty lists, one second as events in a form no Penpot writes."""

ROW = 256
"""Bytes that each event counts beside its texts: the keys of its row in the journal, and its place in the columns."""

LETTER = 1024
"""The same for a bad event, which costs more to keep; as rows and as work."""

CONTEXT = 1024
"""Work for each different context: each is reduced by itself."""

EVENT = 1024
"""Work for each event that is read value by value, beside its values."""

RESET = 16_384
"""Work for an event that resets the caches: what was known is forgotten, and tables are made anew."""

RESERVED = 6
"""While a body is decoded it may hold so many times its allowance: the bytes, the columns, the frame, and its rows as
text of at most twice their size, and once more in UTF-8."""

AT_WORK = 320 * MIB
"""What all bodies together may hold between the first decoded byte and the answer: two batches being decoded."""

TRANSACTION = 24 * MIB
"""A transaction of the writer, and of a replay, takes no further batch once its rows come to this."""

BATCH_ROWS = 10_000
"""The most events that our own sender puts in one batch (Penpot's own page size)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Caps applied before memory is taken. Sizes in bytes; `events` counts events in one batch.

    `word`: the most characters of an event's name, type and source (250 in Penpot's own schema). `event`: what the
    values of one event may weigh, and again what its references may repeat. `junk`: items of a batch that are no map;
    with one more it is no batch. `report`: the values of a legacy report.
    """

    body: int = 16 * MIB
    decoded: int = 24 * MIB
    events: int = 50_000
    depth: int = 128
    string: int = MIB
    word: int = 250
    event: int = 8 * MIB
    junk: int = 100
    report: int = 100_000
    floor: int = FLOOR

    def allowance(self, received: int) -> int:
        """The bytes that a body of so many bytes may inflate to, and its rows may have."""
        return min(self.decoded, self.floor + RATIO * received)

    def work(self, received: int) -> int:
        """The work that a body of so many bytes may cause."""
        return max(self.floor, min(WORK_MOST, WORK_FLOOR + WORK_RATIO * received))

    def reserved(self, received: int) -> int:
        """The memory that is set aside while a body of so many bytes is decoded."""
        return RESERVED * self.allowance(received)


RECEIPT = Limits()
"""What a receiver accepts."""
