"""Whose the bodies of the quarantine are: of an instance that something was loaded of, or of one of all the others.

Any other id may be made up, so all senders that nothing was loaded of are counted as one, who is None here.
"""

from uuid import UUID

import duckdb

IS_KNOWN = "SELECT 1 FROM batches WHERE instance_id = ? LIMIT 1"


def find_owner(con: duckdb.DuckDBPyConnection, instance_id: UUID | None) -> UUID | None:
    """The instance that a body counts for; None for one that nothing was loaded of."""
    is_known = instance_id is not None and con.execute(IS_KNOWN, [instance_id]).fetchall()
    return instance_id if is_known else None


SIZES = "SELECT size FROM quarantine WHERE body IS NOT NULL AND instance_id = ?"
SIZES_OF_OTHERS = """
SELECT size FROM quarantine
WHERE body IS NOT NULL AND (instance_id IS NULL OR instance_id NOT IN (SELECT instance_id FROM batches))
"""


def list_sizes(con: duckdb.DuckDBPyConnection, owner: UUID | None) -> list[int]:
    """The bytes of each body of an owner that is kept."""
    found = con.execute(SIZES_OF_OTHERS) if owner is None else con.execute(SIZES, [owner])
    return [size for (size,) in found.fetchall()]
