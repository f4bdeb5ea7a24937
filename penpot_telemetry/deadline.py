"""A total deadline for a request of `requests`: connecting, TLS, headers and body together.

The time-outs of requests begin anew with each byte, so a server that sends one now and then holds a request for ever.
Here a timer shuts the connection down, and whatever waits on it fails at once. Name resolution is not a connection: its
time is the resolver's.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from requests.adapters import HTTPAdapter


class DeadlineAdapter(HTTPAdapter):
    """The connections of one session, which make one request at a time. `is_over`: the last one ran out of time."""

    def __init__(self) -> None:
        super().__init__()
        self.is_over = False
        self._lock = threading.Lock()
        self._handle: socket.socket | None = None

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Ends the connection when the block takes longer."""
        self.is_over = False
        timer = threading.Timer(seconds, self._end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """The pool for a request, whose connections are watched."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        if not hasattr(pool.ConnectionCls, "watch"):
            watch = staticmethod(self._watch)
            pool.ConnectionCls = type("Watched", (_Watched, pool.ConnectionCls), {"watch": watch})
        return pool

    def close(self) -> None:
        """Lets go of all connections."""
        super().close()
        self._keep(None)

    def _watch(self, sock: socket.socket) -> None:
        self._keep(sock.dup())  # TLS takes the socket over; to shut a copy down ends the connection too
        if self.is_over:
            self._end()

    def _end(self) -> None:
        with self._lock:
            self.is_over = True
            if self._handle is not None:
                with suppress(OSError):
                    self._handle.shutdown(socket.SHUT_RDWR)

    def _keep(self, handle: socket.socket | None) -> None:
        with self._lock:
            if self._handle is not None:
                self._handle.close()
            self._handle = handle


class _Watched:
    """Mixed into a connection class of urllib3: shows each new socket."""

    def _new_conn(self) -> socket.socket:
        sock: socket.socket = super()._new_conn()  # type: ignore[misc]
        self.watch(sock)  # type: ignore[attr-defined]
        return sock
