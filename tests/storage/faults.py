"""Calls to the operating system and the database that are counted, and of which one fails.

Nothing of ours is replaced: only functions of `os` and connections of `duckdb`, as a disk would do it.
"""

import errno
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import duckdb

KINDS = ("ENOSPC", "EIO", "short", "torn", "kill before", "kill after", "fails after")
OS_CALLS = (
    "open",
    "pwrite",
    "fdatasync",
    "fsync",
    "ftruncate",
    "truncate",
    "rename",
    "replace",
    "unlink",
    "mkdir",
)
DATABASE_CALLS = ("execute", "begin", "commit")


@dataclass(slots=True)
class Counter:
    """How many calls there were, and at which one what happens."""

    at: int | None
    kind: str
    calls: int = 0
    is_armed: bool = False

    def call(self, function: Callable[..., Any], is_database: bool, name: str, *args: Any, **named: Any) -> Any:
        """One call, which may be the one."""
        if not self.is_armed:
            return function(*args, **named)
        self.calls += 1
        if self.calls != self.at:
            return function(*args, **named)
        if name == "pwrite" and self.kind in ("short", "torn"):
            fd, data, offset = args
            written = function(fd, bytes(data)[: len(data) // 2], offset)
            if self.kind == "short":
                return written
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self.kind == "kill before":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind in ("ENOSPC", "EIO"):
            raise failure(self.kind, is_database)
        result = function(*args, **named)
        if self.kind == "kill after":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind == "fails after" and (is_database or name in ("fsync", "fdatasync")):
            raise failure("EIO", is_database)
        return result


def failure(kind: str, is_database: bool) -> Exception:
    """What the call raises."""
    if is_database:
        return duckdb.IOException(f"IO Error: {kind}")
    code = errno.ENOSPC if kind == "ENOSPC" else errno.EIO
    return OSError(code, os.strerror(code))


class Connection:
    """A connection of DuckDB whose statements are counted."""

    def __init__(self, con: Any, counter: Counter) -> None:
        self._con, self._counter = con, counter

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._con, name)
        if name == "cursor":
            return lambda: Connection(found(), self._counter)
        if name not in DATABASE_CALLS:
            return found
        return lambda *args, **named: self._counter.call(found, True, name, *args, **named)


def install(counter: Counter) -> None:
    """Count, from here to the end of this process. `counter.is_armed` switches it on."""
    for name in OS_CALLS:
        real = getattr(os, name)

        def counted(*args: Any, _real: Any = real, _name: str = name, **named: Any) -> Any:
            return counter.call(_real, False, _name, *args, **named)

        setattr(os, name, counted)
    connect = duckdb.connect

    def connected(*args: Any, **named: Any) -> Any:
        return Connection(counter.call(connect, True, "connect", *args, **named), counter)

    duckdb.connect = connected
