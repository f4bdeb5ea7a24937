"""The sender lease: one row that says who may send from this database, and until when.

Nothing here lives in a session, so it holds behind a pooler in transaction mode. Each step of a pass is one
transaction that first renews the lease, and so cannot be done by a sender that lost it. A lease ends at its deadline,
or at once when the connection that took it is closed, where no pooler is in between.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID, uuid4

import psycopg
from psycopg import Connection, errors

from penpot_telemetry.errors import BusyError, LeaseLostError

T = TypeVar("T")

MARGIN = 30.0
"""Seconds that a lease lasts beyond the longest request and the wait after it: for the steps between."""

PASS_SECONDS = 3600.0
"""How long a pass may take: then it stops between two batches, and the next pass continues."""

OVERDUE = timedelta(seconds=2 * PASS_SECONDS)
"""A sender that has worked for so long is stuck, and a second one fails with exit code 1."""

LOCK_TIMEOUT = "20ms"
"""A step that meets a locked row is rolled back at once and tried again: without waiting there is no deadlock."""

PATIENCE = 15.0
"""Seconds in which a step that met a locked row is tried again."""

_CONFLICTS = (errors.LockNotAvailable, errors.DeadlockDetected, errors.SerializationFailure)


_SETTINGS = """
SELECT set_config('lock_timeout', %(lock_timeout)s, true),
       CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', true) END
"""
"""For one transaction. A server that forgets the outbox batch when it crashes would have it sent under another id."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to send, held by `owner`. `seconds` is how far each renewal reaches."""

    conn: Connection
    owner: UUID
    seconds: float

    @property
    def parameters(self) -> Mapping[str, object]:
        """What the statements on the lease need."""
        return {"owner": self.owner, "seconds": self.seconds, "pid": self.conn.info.backend_pid}

    def step(self, work: Callable[[], T], *, snapshot: bool = False) -> T:
        """Does `work` in one transaction that renews the lease, and tries again while another process holds a row.

        `snapshot`: all statements see the same instant. Raises LeaseLostError when another sender took over.
        """
        end = time.monotonic() + PATIENCE
        while True:
            try:
                with self.conn.transaction():
                    if snapshot:
                        self.conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                    self.conn.execute(_SETTINGS, {"lock_timeout": LOCK_TIMEOUT})
                    self.renew()
                    return work()
            except _CONFLICTS:
                if time.monotonic() > end:
                    raise
                time.sleep(random.uniform(0.02, 0.2))  # noqa: S311  so that two senders do not stay in step

    def renew(self) -> None:
        """Moves the deadline on. Raises LeaseLostError when another sender took over."""
        if self.conn.execute(_RENEW, self.parameters).rowcount != 1:
            raise LeaseLostError(
                "another sender took over, because this one did not renew its lease in time: nothing is lost"
            )


_HERE = """
lease_pid = (SELECT pid FROM pg_stat_activity WHERE pid = pg_backend_pid() AND pid = %(pid)s),
lease_started_at = (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid() AND pid = %(pid)s)
"""
"""Behind a pooler the connection is not the backend's, and the pid that the client was told is another: then NULL."""

_TAKE = f"""
UPDATE penpot_telemetry.state SET lease_owner = %(owner)s, lease_since = clock_timestamp(),
    lease_until = clock_timestamp() + make_interval(secs => %(seconds)s), {_HERE}
WHERE lease_owner IS NULL OR lease_until < clock_timestamp() OR (lease_pid IS NOT NULL AND NOT EXISTS (
    SELECT FROM pg_stat_activity
    WHERE pid = lease_pid AND (backend_start IS NULL OR backend_start = lease_started_at)
))
"""  # noqa: S608  our own constant
_RENEW = f"""
UPDATE penpot_telemetry.state SET lease_until = clock_timestamp() + make_interval(secs => %(seconds)s), {_HERE}
WHERE lease_owner = %(owner)s
"""  # noqa: S608  likewise
"""`backend_start` is NULL to a role that may not see it: then only the deadline counts."""

_RELEASE = """
UPDATE penpot_telemetry.state SET lease_owner = NULL, lease_since = NULL, lease_until = NULL, lease_pid = NULL,
    lease_started_at = NULL
WHERE lease_owner = %s
"""
_HOLDER = "SELECT lease_since, lease_until FROM penpot_telemetry.state WHERE lease_owner IS NOT NULL"


@contextmanager
def hold(conn: Connection, longest: float = 0.0) -> Iterator[Lease]:
    """The lease of this database, for the block. `longest`: seconds that may pass between two renewals.

    Raises BusyError when another sender has it.
    """
    lease = Lease(conn, uuid4(), longest + MARGIN)
    if conn.execute(_TAKE, lease.parameters).rowcount != 1:
        raise _busy(conn)
    try:
        yield lease
    finally:
        if not conn.closed:
            with suppress(psycopg.Error):  # it ends by itself
                conn.execute(_RELEASE, (lease.owner,))


def _busy(conn: Connection) -> BusyError:
    found = conn.execute(_HOLDER).fetchone()
    if found is None:  # given back in this very moment
        return BusyError("another sender worked on this database until just now: nothing was done here")
    since, until = found
    overdue = datetime.now(UTC) - since > OVERDUE
    hint = ": it seems stuck, look for its process and end it" if overdue else ""
    return BusyError(
        f"another sender is at work on this database since {since:%Y-%m-%d %H:%M:%S}Z, its lease lasts until "
        f"{until:%H:%M:%S}Z: nothing was done here{hint}",
        overdue=overdue,
    )
