"""The work queue of one pass: which rows are sent next.

The largest part of a refused batch comes first, then new rows, then single rows. The rows themselves stay in
`audit_log`, and the parts in the table `segment`; the queue only remembers how far the pass has come.
"""

from dataclasses import dataclass, field, replace

from psycopg import Connection

from penpot_telemetry import segments
from penpot_telemetry.reconcile import Observation
from penpot_telemetry.rows import ID_BYTES, Rows
from penpot_telemetry.segments import Segment

PARTS_FIRST = 8
"""Refusals, in a pass without an acceptance, that go to parts of refused batches before new rows are tried."""


@dataclass(frozen=True, slots=True)
class WorkItem:
    """Rows to be sent next, and the part of a refused batch that they are, if any."""

    rows: Rows
    segment: Segment | None = None


@dataclass(slots=True)
class WorkQueue:
    """What waits in one pass. `new_ids`: the ids of the new rows that the pass saw, 16 bytes each, oldest first.

    `position` counts those of them that are dealt with. `done` are the positions of segments that are dealt with and
    still to be removed. `has_segments`: False in a database that no sender has seen yet. `accepted`: whether the
    receiver has accepted a batch in this pass. `version` is the last one that a batch named. `last_observation`: what
    the pass saw when all was sent.
    """

    new_ids: bytes
    has_segments: bool = True
    position: int = 0
    accepted: bool = False
    version: str | None = None
    refused: int = 0
    reused: int = 0
    may_refill: bool = True
    last_observation: Observation | None = None
    done: list[int] = field(default_factory=list)

    @property
    def has_new(self) -> bool:
        """Whether there are new rows that no batch was made of yet."""
        return self.position * ID_BYTES < len(self.new_ids)

    def next(self, conn: Connection, batch_rows: int) -> WorkItem | None:
        """The next rows; they stay in the queue until `skip` or `finish`."""
        largest = segments.largest_segment(conn, self.done) if self.has_segments else None
        new = self.new_ids[self.position * ID_BYTES : (self.position + batch_rows) * ID_BYTES]
        prefers_new = not self.accepted and self.refused >= PARTS_FIRST
        if largest is not None and not (new and prefers_new):
            return WorkItem(largest.rows, largest)
        if new:
            return WorkItem(Rows.of_ids(new))
        single = segments.single_segment(conn, self.done) if self.has_segments else None
        return None if single is None else WorkItem(single.rows, single)

    def copy(self) -> "WorkQueue":
        """The same, to be changed in a step that may be tried again."""
        return replace(self, done=[*self.done])

    def update(self, other: "WorkQueue") -> None:
        """Takes over what a step that was committed made of the copy."""
        self.position, self.done, self.version = other.position, other.done, other.version

    def advance(self, count: int) -> None:
        """The next `count` of the new rows are dealt with."""
        self.position += count

    def skip(self, item: WorkItem, count: int) -> None:
        """Passes over rows of an item that are deleted or changed."""
        if item.segment is None:
            self.advance(count)
        else:
            self.done.append(item.segment.position)

    def refill(self, found: Observation, batch_rows: int) -> None:
        """Goes on with what came since the pass began, if that fills a batch: less waits for the next pass."""
        self.may_refill = found.waiting >= batch_rows
        if self.may_refill:
            self.new_ids, self.position = found.fresh, 0
        else:
            self.last_observation = found

    def finish(self, conn: Connection, item: WorkItem, count: int) -> None:
        """Notes that the first `count` rows of an item are dealt with; the others wait on."""
        segment = item.segment
        if segment is None:
            self.advance(count)
        else:
            self.done.append(segment.position)
            if count < len(segment.rows):
                segments.push_segment(conn, segment.rows.split(count)[1], segment.supersedes)
        self.remove_done(conn)

    def remove_done(self, conn: Connection) -> None:
        """Removes the segments that are dealt with, or whose rows somebody deleted."""
        if self.done:
            segments.remove_segments(conn, self.done)
            self.done = []
