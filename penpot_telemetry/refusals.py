"""What follows a refusal: which rows are tried next, what is split, and when a row may be blamed.

The largest part of a refused batch comes first, then new rows, then single rows. A wrong address, a missing right or a
broken server refuse everything, and the rows are not at fault then. So a row that is refused alone goes into
quarantine only when this receiver has accepted something in the same pass, and a pass without an acceptance ends
after a few refusals. Every part names the batches that it was a part of, so that none of them can arrive late and
load an event twice.
"""

from dataclasses import dataclass, field, replace

from psycopg import Connection

from penpot_telemetry import account, dead_letters, outbox, segments
from penpot_telemetry.lease import Lease
from penpot_telemetry.outbox import OutboxBatch
from penpot_telemetry.pass_report import PassReport
from penpot_telemetry.receipt import Answer
from penpot_telemetry.reconcile import Observation
from penpot_telemetry.rows import ID_BYTES, Rows
from penpot_telemetry.segments import Segment

BUDGET = 16
"""Refusals that a pass without an acceptance takes."""

PARTS_FIRST = 8
"""So many of them are spent on parts of refused batches before new rows are tried."""

REUSED = 3
"""Answers in one pass that the id of a batch is taken: ids are random, so a server that goes on is broken."""


WORN_OUT = 63
"""Rows that were refused so often, in one batch after the other, become dead letters."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Rows whose turn it is, and the part of a refused batch that they stand for, if any."""

    rows: Rows
    segment: Segment | None = None


@dataclass(slots=True)
class Turns:
    """Whose turn it is in one pass. `plan`: the ids of the new rows that the pass saw, 16 bytes each, oldest first.

    `at` counts those of them that had their turn; `gone` are the positions of parts whose rows somebody deleted.
    `has_parts`: False in a database that no sender has seen yet. `version` is the last one that a batch named.
    `last_look`: what a pass saw when all was sent.
    """

    plan: bytes
    has_parts: bool = True
    at: int = 0
    accepted: bool = False
    version: str | None = None
    refused: int = 0
    reused: int = 0
    may_look_again: bool = True
    last_look: Observation | None = None
    gone: list[int] = field(default_factory=list)

    @property
    def has_new(self) -> bool:
        """Whether new rows wait for their turn."""
        return self.at * ID_BYTES < len(self.plan)

    def next(self, conn: Connection, batch_rows: int) -> Turn | None:
        """The next rows, which stay where they are until `advance`."""
        part = segments.largest_segment(conn, self.gone) if self.has_parts else None
        new = self.plan[self.at * ID_BYTES : (self.at + batch_rows) * ID_BYTES]
        prefers_new = not self.accepted and self.refused >= PARTS_FIRST
        if part is not None and not (new and prefers_new):
            return Turn(part.rows, part)
        if new:
            return Turn(Rows.of_ids(new))
        single = segments.single_segment(conn, self.gone) if self.has_parts else None
        return None if single is None else Turn(single.rows, single)

    def copy(self) -> "Turns":
        """The same, to be changed in a step that may be tried again."""
        return replace(self, gone=[*self.gone])

    def follow(self, other: "Turns") -> None:
        """Takes over what a step that was committed made of the copy."""
        self.at, self.gone, self.version = other.at, other.gone, other.version

    def advance(self, count: int) -> None:
        """So many of the new rows had their turn."""
        self.at += count

    def skip(self, turn: Turn, count: int) -> None:
        """Rows that are not there any more."""
        if turn.segment is None:
            self.advance(count)
        else:
            self.gone.append(turn.segment.position)

    def look_again(self, found: Observation, batch_rows: int) -> None:
        """Goes on with what came since the pass began, if that fills a batch: less waits for the next pass."""
        self.may_look_again = found.waiting >= batch_rows
        if self.may_look_again:
            self.plan, self.at = found.fresh, 0
        else:
            self.last_look = found


def end_turn(conn: Connection, turns: Turns, turn: Turn, read: int) -> None:
    """Notes that `read` of the rows of a turn were dealt with; what did not fit waits on."""
    part = turn.segment
    if part is None:
        turns.advance(read)
    else:
        turns.gone.append(part.position)
        if read < len(part.rows):
            segments.push_segment(conn, part.rows.split(read)[1], part.supersedes)
    remove_gone(conn, turns)


def remove_gone(conn: Connection, turns: Turns) -> None:
    """Removes the parts that had their turn, or whose rows somebody deleted."""
    if turns.gone:
        segments.remove_segments(conn, turns.gone)
        turns.gone = []


def handle(held: Lease, batch: OutboxBatch, answer: Answer, report: PassReport, turns: Turns) -> str | None:
    """Splits a refused batch, or sets its only row aside, or keeps it; says why the pass must end, if it must."""
    report.refused += 1
    turns.refused += 1
    is_worn_out = len(batch.supersedes) >= WORN_OUT
    if is_worn_out or (batch.event_count == 1 and turns.accepted):
        report.quarantined += held.step(lambda: set_aside(held.conn, batch, answer))
    else:
        held.step(lambda: split(held.conn, batch, answer))
        if batch.event_count == 1 and not turns.has_new:
            return (
                f"{answer.reason}; the receiver rejected everything down to one row: check the address and the token. "
                "Nothing was dropped"
            )
    if not turns.accepted and turns.refused >= BUDGET:
        return (
            f"{answer.reason}; the receiver rejected {turns.refused} batches and accepted none: check the address and "
            "the token. Nothing was dropped"
        )
    return None


def split(conn: Connection, batch: OutboxBatch, answer: Answer) -> None:
    """Ends a refused batch; its rows wait as two halves, the smaller one first, or as the one row that they are."""
    outbox.refuse_batch(conn, batch, answer.receipt)
    account.enter(conn, batch.rows.ids, 0)
    for part in batch.rows.split(batch.event_count // 2):
        if part:
            segments.push_segment(conn, part, [*batch.supersedes, batch.batch_id])


def set_aside(conn: Connection, batch: OutboxBatch, answer: Answer) -> int:
    """Ends a refused batch, whose rows go into quarantine with the reason; says how many there still were."""
    outbox.refuse_batch(conn, batch, answer.receipt)
    account.enter(conn, batch.rows.ids, 0)
    return dead_letters.set_aside(conn, batch.rows, answer.reason, batch.batch_id, [*batch.supersedes, batch.batch_id])


def give_another_id(held: Lease, batch: OutboxBatch, answer: Answer, report: PassReport, turns: Turns) -> str | None:
    """Ends a batch whose id the receiver knows with other events: its rows wait for another id."""
    report.refused += 1
    turns.reused += 1

    def step() -> None:
        outbox.refuse_batch(held.conn, batch, answer.receipt)
        account.enter(held.conn, batch.rows.ids, 0)
        segments.push_segment(held.conn, batch.rows, batch.supersedes)

    held.step(step)
    return f"{answer.reason}, again and again: is this a receiver?" if turns.reused >= REUSED else None
