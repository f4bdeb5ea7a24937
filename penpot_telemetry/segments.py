"""Segments: the parts of refused batches, each waiting to be sent as a batch of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from penpot_telemetry.rows import Rows


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows that wait as a part of a refused batch. `supersedes`: the batches that they were a part of."""

    position: int
    row_ids: str
    row_hashes: str
    supersedes: Sequence[UUID]

    @property
    def rows(self) -> Rows:
        """The rows as they were when that batch was made."""
        return Rows(self.row_ids, self.row_hashes)


_SEGMENT = "position, row_ids::text AS row_ids, row_hashes::text AS row_hashes, supersedes"

_LARGEST = f"""
SELECT {_SEGMENT} FROM penpot_telemetry.segment
WHERE cardinality(row_ids) > 1 AND position <> ALL(%s::bigint[])
ORDER BY cardinality(row_ids) DESC, position LIMIT 1
"""  # noqa: S608  our own constant

_SINGLE = f"""
SELECT {_SEGMENT} FROM penpot_telemetry.segment
WHERE cardinality(row_ids) = 1 AND position <> ALL(%s::bigint[]) ORDER BY position LIMIT 1
"""  # noqa: S608  likewise


def largest_segment(conn: Connection, beside: Sequence[int] = ()) -> Segment | None:
    """The largest segment of two rows or more, except those at some positions."""
    return _segment(conn, _LARGEST, beside)


def single_segment(conn: Connection, beside: Sequence[int] = ()) -> Segment | None:
    """The oldest segment of one row, except those at some positions."""
    return _segment(conn, _SINGLE, beside)


def _segment(conn: Connection, query: str, beside: Sequence[int]) -> Segment | None:
    with conn.cursor(row_factory=class_row(Segment)) as cursor:
        return cursor.execute(query, (list(beside),)).fetchone()


def remove_segments(conn: Connection, positions: Sequence[int]) -> None:
    """Removes segments that became a batch, or whose rows are deleted."""
    conn.execute("DELETE FROM penpot_telemetry.segment WHERE position = ANY(%s::bigint[])", (list(positions),))


_PUSH_SEGMENT = """
INSERT INTO penpot_telemetry.segment (position, row_ids, row_hashes, supersedes)
SELECT coalesce(max(position), 0) + 1, %s::uuid[], %s::bigint[], %s::uuid[] FROM penpot_telemetry.segment
"""


def push_segment(conn: Connection, rows: Rows, supersedes: Sequence[UUID]) -> None:
    """Adds a segment: rows that were a part of the batches that are named."""
    conn.execute(_PUSH_SEGMENT, (rows.ids, rows.hashes, list(supersedes)))


def count_segments(conn: Connection) -> int:
    """How many segments wait."""
    found = conn.execute("SELECT count(*) FROM penpot_telemetry.segment").fetchone()
    return int(found[0]) if found else 0
