"""The process around the application: one socket, one log, and an orderly end.

SIGTERM and SIGINT end with exit code 0 once everything accepted is committed. No line of the log names a client.
"""

import asyncio
import gc
import logging
import os
import resource
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TextIO, cast

import structlog
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from penpot_telemetry.errors import ConfigError
from receiver.lifecycle.file_modes import make_private
from receiver.lifecycle.startup import open_store
from receiver.server.app import create_app
from receiver.server.auth import require_token
from receiver.server.settings import Settings
from receiver.storage.paths import address_file, operator_file
from receiver.storage.store import RecoveryReport, Store

log = structlog.get_logger("receiver")

GARBAGE = 100_000
"""Containers made before the collector looks: at its usual 700 it took most of the time of decoding a hostile body,
and each look at millions of values stops every other thread."""


MOST_CONNECTIONS = 4096
FILES_OF_OURS = 256
"""File descriptors kept for the database, the journal, the quarantine and the libraries."""

REPEAT_SECONDS = 60.0
MOST_LINES = 100


def raise_file_limit() -> int:
    """Raise the soft limit of open files to the hard one; return how many connections fit below it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS + FILES_OF_OURS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else max(16, min(MOST_CONNECTIONS, soft - FILES_OF_OURS))


def protocol_within(seconds: float, most: int = MOST_CONNECTIONS) -> type[H11Protocol]:
    """uvicorn's protocol, hanging up on a connection whose next request has no whole head after so many seconds.

    When there are more than `most` connections, the one that has waited longest without a request is closed; when
    each has a request under way, the new one is.
    """
    waiting: dict[H11Protocol, None] = {}

    class Protocol(H11Protocol):
        _due: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._watch()
            if len(self.connections) > most:
                oldest = next(iter(waiting))
                waiting.pop(oldest)
                oldest.connections.discard(oldest)
                oldest.transport.abort()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self._forget()

        def _watch(self) -> None:
            if self.cycle is not None and not self.cycle.response_complete:
                self._forget()
            elif self._due is None:
                self._due = self.loop.call_later(seconds, self.timeout_keep_alive_handler)
                waiting[self] = None

        def _forget(self) -> None:
            waiting.pop(self, None)
            if self._due is not None:
                self._due.cancel()
                self._due = None

    return Protocol


class Server(uvicorn.Server):
    """uvicorn, telling when it listens."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as uvicorn does, then say so."""
        await super().startup(sockets)
        if self.started:
            self._announce()


def serve(settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve until a signal. `announce` is given the URL once requests are answered."""
    require_token(settings.host, settings.access)
    configure_log()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    listener = bind(settings.host, settings.port)
    try:
        if made := make_private(settings.places):
            log.warning("made private", files=made)  # of a version that let others read them
        with listener, open_store(settings.places) as store:
            tell(store.found)
            run(settings, store, listener, announce)
    finally:
        log.info("stopped")


def run(settings: Settings, store: Store, listener: socket.socket, announce: Callable[[str], None]) -> None:
    """The server over an open store; its address and the operator's token are there exactly while it listens."""
    url = url_of(listener)
    written, secret = address_file(settings.places.warehouse), operator_file(settings.places.warehouse)
    token = secrets.token_urlsafe(32)
    settings = replace(settings, access=replace(settings.access, operator_token=token))
    config = uvicorn.Config(
        create_app(store, settings),
        http=protocol_within(settings.body_seconds, raise_file_limit()),
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        ws="none",
        timeout_graceful_shutdown=int(settings.shutdown_seconds),
    )

    def listening() -> None:
        write_private(secret, token + "\n")
        write_private(written, url + "\n")
        announce(url)
        log.info("listening", url=url, warehouse=str(settings.places.warehouse))

    gc.set_threshold(GARBAGE, 10, 10)
    try:
        Server(config, listening).run([listener])
    finally:
        written.unlink(missing_ok=True)
        secret.unlink(missing_ok=True)


def write_private(path: Path, text: str) -> None:
    """A small file for the operator alone."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(text)


def bind(host: str, port: int) -> socket.socket:
    """A bound socket; it listens once the store is open. Raises ConfigError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, because asyncio sends without delay only where the socket says TCP: 40 ms an answer otherwise.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigError(f"cannot listen on {host} port {port}: {error.strerror}; choose another --port") from None
    return listener


def url_of(listener: socket.socket) -> str:
    """The URL of a bound socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def tell(found: RecoveryReport) -> None:
    """What the start came upon, when it was anything."""
    if found != RecoveryReport():
        log.warning(
            "recovered",
            replayed=found.replayed,
            torn_bytes=found.torn_bytes,
            repeated_records=found.repeated_records,
            damaged_bytes=found.damaged_bytes,
            unloadable=found.unloadable,
            lost_bytes=found.lost_bytes,
            known_records=found.known_records,
            kept_warehouse=found.kept_warehouse and str(found.kept_warehouse),
            finished_erasures=found.finished_erasures,
        )


# --- the log --------------------------------------------------------------------------------------------------------


class Quiet(logging.Handler):
    """Lines of libraries as events of our log: the message and the type of an error, never the error's own words.

    An exception's text may quote what was in hand, and a debug line of the server names the client. A line that comes
    again within a minute is counted, and the next one after that minute says how often.
    """

    def __init__(self, level: int, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(level)
        self._clock = clock
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """One warning or error of a library."""
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        message = record.getMessage().split("\n")[0]
        key, now = (record.name, message), self._clock()
        last, repeated = self._seen.get(key, (now - REPEAT_SECONDS, 0))
        if now - last < REPEAT_SECONDS:
            self._seen[key] = (last, repeated + 1)
            return
        if key not in self._seen and len(self._seen) >= MOST_LINES:
            self._seen.pop(next(iter(self._seen)))
        self._seen[key] = (now, 0)
        log.log(record.levelno, "library", logger=record.name, message=message, error=kind, repeated=repeated)


class Lossy:
    """A stream on which a line that cannot be written is lost: a full disk under the log must not stop a batch."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """The text, if there is room."""
        with suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        """What is held back, if there is room."""
        with suppress(OSError):
            self._stream.flush()


def configure_log() -> None:
    """Lines on standard error: JSON for a machine, aligned for a terminal."""
    terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, Lossy(sys.stderr))),
    )
    root = logging.getLogger()
    root.handlers[:] = [Quiet(logging.WARNING)]
    root.setLevel(logging.WARNING)
