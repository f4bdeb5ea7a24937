"""Connections for threads that read a warehouse while one thread writes it, and the end of all of them.

DuckDB closes no connection that is busy, and a file that is replaced must be open nowhere in the process: a new
connection would be given the old file again.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

LOOK_SECONDS = 0.05


class Readers:
    """Gives out reading connections of an open warehouse until they are ended. Any thread may ask."""

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        self._con = con
        self._at_work: list[duckdb.DuckDBPyConnection] = []
        self._changed = threading.Condition()
        self._are_ended = False

    @contextmanager
    def read(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection of its own for one thread. Raises duckdb.ConnectionException once they are ended."""
        with self._changed:
            if self._are_ended:
                raise duckdb.ConnectionException("the warehouse is closed")
            con = self._con.cursor()
            self._at_work.append(con)
        try:
            yield con
        finally:
            con.close()
            with self._changed:
                self._at_work.remove(con)
                self._changed.notify_all()

    def end(self) -> None:
        """Let nobody begin, interrupt those who read, and wait for them: duckdb.InterruptException is what they get."""
        with self._changed:
            self._are_ended = True
            while self._at_work:
                for con in self._at_work:
                    con.interrupt()
                self._changed.wait(LOOK_SECONDS)
