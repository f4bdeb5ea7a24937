"""Rows of `audit_log` by their ids, and beside each id what the row held when it was read.

Other programs may change a row while its batch is being sent. So a row is removed later only if it still holds the
same: otherwise it is another event.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

ID_BYTES = 16
REF_BYTES = ID_BYTES + 8
"""A row as it is read: the bytes of its id, and those of the hash of what it holds."""

CONTENT_HASH = """
hashtextextended(
    ROW(a.name, a.type, a.source, a.profile_id, coalesce(a.tracked_at, a.created_at), a.props, a.context)::text, 0)
"""
"""Of a row `a`: all that becomes part of an event, as text. (The hash of a jsonb is the same for many values: it does
not see where objects end.)"""

UNCHANGED = f"""
FROM audit_log a WHERE a.id = ANY(%(ids)s::uuid[]) AND a.source = ANY(%(sources)s) AND (
    %(hashes)s::bigint[] = '{{}}'
    OR (a.id, {CONTENT_HASH}) IN (SELECT * FROM unnest(%(ids)s::uuid[], %(hashes)s::bigint[]))
)
"""  # noqa: S608  our own constant
"""Those of the named rows that ship and still hold what they held."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Row ids and hashes as the texts of two Postgres arrays, which are passed along unread.

    `hashes` is empty where it is not known what the rows held: in a batch of the first release.
    """

    ids: str
    hashes: str = "{}"

    @classmethod
    def of(cls, refs: Iterable[bytes]) -> Self:
        """Rows as they were read, each REF_BYTES long."""
        found = list(refs)
        hashes = (str(int.from_bytes(ref[ID_BYTES:], "big", signed=True)) for ref in found)
        return cls(_join(ref[:ID_BYTES].hex() for ref in found), _join(hashes))

    @classmethod
    def of_ids(cls, ids: bytes) -> Self:
        """Rows that were not read yet, ID_BYTES each, one after another."""
        digits = ids.hex()
        width = 2 * ID_BYTES
        return cls(_join(digits[at : at + width] for at in range(0, len(digits), width)))

    def __len__(self) -> int:
        return self.ids.count(",") + 1 if len(self.ids) > len("{}") else 0

    def split(self, at: int) -> tuple[Self, Self]:
        """The first rows, and those from `at` on."""
        ids, hashes = self.ids.strip("{}").split(","), self.hashes.strip("{}").split(",")
        return type(self)(_join(ids[:at]), _join(hashes[:at])), type(self)(_join(ids[at:]), _join(hashes[at:]))


def _join(items: Iterable[str]) -> str:
    return "{" + ",".join(items) + "}"
