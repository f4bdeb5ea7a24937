"""What the tests share: one embedded Postgres for each test process, a database of its own for each test, and the
smallest receiver there is.
"""

import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from penpot_telemetry.config import Settings
from penpot_telemetry.endpoint import Endpoint
from penpot_telemetry.events import AuditEvent
from penpot_telemetry.wire.batch import decode_columns

if TYPE_CHECKING:
    from psycopg import Connection

TEMPLATE = "road_template"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Mapping[str, str]]:
    """The parameters of a server that ends with the tests. Below /tmp, because root's server runs as another user."""
    import psycopg  # noqa: PLC0415  tests without a database should not wait for it

    from penpot_telemetry import audit_log, connection, embedded_postgres, schema  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="road-") as folder:
        Path(folder).chmod(0o755)
        with embedded_postgres.serve(Path(folder)) as parameters:
            with psycopg.connect(**parameters, autocommit=True) as conn:  # type: ignore[arg-type]
                for setting in ("fsync", "synchronous_commit", "full_page_writes"):
                    conn.execute(f"ALTER SYSTEM SET {setting} = off")
                conn.execute("SELECT pg_reload_conf()")
                conn.execute(f"CREATE DATABASE {TEMPLATE}")
            with connection.connect({**parameters, "dbname": TEMPLATE}) as conn:
                audit_log.create_table(conn)
                schema.ensure_schema(conn)
            yield parameters


@pytest.fixture
def empty_database(postgres: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """The parameters of a database with nothing in it."""
    with _database(postgres, "template1") as parameters:
        yield parameters


@pytest.fixture
def database(postgres: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """The parameters of a database with an empty `audit_log` and a fresh account."""
    with _database(postgres, TEMPLATE) as parameters:
        yield parameters


@contextmanager
def _database(postgres: Mapping[str, str], template: str) -> Iterator[Mapping[str, str]]:
    import psycopg  # noqa: PLC0415

    name = f"test_{uuid4().hex[:12]}"
    with psycopg.connect(**postgres, autocommit=True) as conn:  # type: ignore[arg-type]
        conn.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        yield {**postgres, "dbname": name}
        conn.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def conn(database: Mapping[str, str]) -> "Iterator[Connection]":
    """A connection to the test's database."""
    from penpot_telemetry import connection  # noqa: PLC0415

    with connection.connect(database) as conn:
        yield conn


@pytest.fixture
def settings(database: Mapping[str, str], tmp_path: Path) -> Settings:
    """Telemetry on, the test's database, no receiver, and no waiting between attempts."""
    return Settings(
        telemetry=True,
        audit_log=False,
        data_dir=tmp_path,
        version="2.18.0",
        database=database,
        connect_timeout=2.0,
        read_timeout=5.0,
        attempts=2,
        retry_wait=0.01,
        retry_wait_max=0.05,
    )


NOON = datetime(2026, 7, 20, 12, tzinfo=UTC)


def make_events(count: int, *, start: int = 0, day: datetime = NOON) -> list[AuditEvent]:
    """Events `e-0`, `e-1`, ... of one day, each of its own profile."""
    return [
        AuditEvent(f"e-{n}", "action", "frontend", day, day, UUID(int=n + 1), context={"browser": "Chrome"})
        for n in range(start, start + count)
    ]


def waiting_names(conn: "Connection") -> list[str]:
    """The names of the rows that wait, in the order in which a pass plans them."""
    from penpot_telemetry import reconcile  # noqa: PLC0415

    fresh = reconcile.observe(conn).fresh
    names = {row_id.bytes: name for row_id, name in conn.execute("SELECT id, name FROM audit_log")}
    return [names[fresh[at : at + 16]] for at in range(0, len(fresh), 16)]


def names_of(body: bytes) -> list[str]:
    """The event names of a batch, in its order."""
    return decode_columns(json.loads(body)["events"]).name


# -- the smallest receiver -------------------------------------------------------------------------------------------

Reply = Callable[[bytes], tuple[int, bytes]]


def accept(body: bytes) -> tuple[int, bytes]:  # noqa: ARG001
    """What Penpot's own receiver says: a success without a word."""
    return 204, b""


@dataclass
class Receiver:
    """Answers each body with what `reply` says; None as a status hangs up without an answer."""

    url: str
    reply: Callable[[bytes], tuple[int | None, bytes]] = accept
    bodies: list[bytes] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    extra: dict[str, str] = field(default_factory=dict)

    def batches(self) -> list[dict[str, object]]:
        """The bodies as JSON."""
        return [json.loads(body) for body in self.bodies]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver on loopback that keeps what it got."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.headers.append(dict(self.headers))
            got.bodies.append(body)
            status, content = got.reply(body)
            if status is None:
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in got.extra.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    got = Receiver(f"http://127.0.0.1:{server.server_port}/")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield got
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def shipping(settings: Settings, receiver: Receiver) -> Settings:
    """Settings that ship to `receiver`."""
    return replace(settings, endpoint=Endpoint(receiver.url))


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting and no proxy of the machine reaches a test."""
    for name in os.environ:
        if name.startswith("PENPOT_") or name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)
