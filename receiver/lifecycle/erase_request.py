"""What an operator asks to be erased, and what is answered: the command says it, and a running server is asked with it.

The one place that says what may be asked, be it on a command line or by HTTP.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import duckdb
import msgspec

from receiver.reports import instances
from receiver.storage.tombstones import Erasure, Scope

NOBODY = UUID(int=0)
"""The profile of events that have none."""


class EraseRequest(msgspec.Struct, frozen=True, rename="kebab", omit_defaults=True, forbid_unknown_fields=True):
    """Instances or profiles by their ids, or all instances first heard at `new_since` (UTC) or later.

    Raises ValueError for what names nobody. A dry run only finds the ids.
    """

    scope: Scope
    ids: list[UUID] = []
    new_since: datetime | None = None
    dry_run: bool = False

    def __post_init__(self) -> None:
        if bool(self.ids) == (self.new_since is not None):
            raise ValueError("name ids, or a day since which instances are new")
        if self.new_since is not None and self.scope != "instance":
            raise ValueError("a day names instances, no profiles")
        if self.scope == "profile" and NOBODY in self.ids:
            raise ValueError("the zero profile is nobody: events without a profile have it")


class EraseAnswer(msgspec.Struct, frozen=True, rename="kebab"):
    """The ids that were asked for, each once, and their receipts: none after a dry run, or when nobody was found."""

    ids: list[UUID]
    receipts: Sequence[Erasure] = ()


def describe_stop(error: OSError | duckdb.Error) -> str:
    """What stopped an erasure, and what to do."""
    return (
        f"stopped by {type(error).__name__}: an erasure needs room for a second copy of the warehouse and of a day of "
        "the landfill; the next start, or the same command again, finishes what was begun"
    )


def find_ids(con: duckdb.DuckDBPyConnection, asked: EraseRequest) -> list[UUID]:
    """The ids that a request is about, each once."""
    if asked.new_since is None:
        return list(dict.fromkeys(asked.ids))
    since = asked.new_since
    return instances.find_new(con, since if since.tzinfo is None else since.astimezone(UTC).replace(tzinfo=None))
