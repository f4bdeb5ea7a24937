"""The receiver's own pipeline and DuckDB in this process, for tests that go through more than processes could.

Bodies in, answers out; its clock can be set, and it can be stopped, started again, or end where it hurts.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import msgspec

from receiver.intake import commit, decide, prepare
from receiver.lifecycle import rebuild, startup
from receiver.reports import account
from receiver.storage import connection
from receiver.storage.paths import DataPaths, places_beside
from receiver.storage.records import Receipt
from receiver.storage.store import Store


@dataclass(slots=True)
class House:
    """A receiver on one folder. `now` is what its clock says; None: what the machine's says."""

    folder: Path
    now: datetime | None = None
    places: DataPaths = field(init=False)
    store: Store = field(init=False)

    def __post_init__(self) -> None:
        self.places = places_beside(self.folder / "telemetry.duckdb")
        self._open()

    def _open(self) -> None:
        self.store = startup.open_store(self.places)
        self.store.clock = lambda: self.now or datetime.now(UTC)

    def restart(self) -> None:
        """Stop as an operator would, and start again on the same files."""
        self.store.close()
        self._open()

    def receive(self, bodies: Sequence[bytes]) -> list[Receipt]:
        """Bodies that arrive together, in one transaction."""
        return commit.receive(self.store, [prepare.prepare(body) for body in bodies])

    def take(self, body: bytes) -> tuple[int, bytes]:
        """One body, and the answer to it."""
        (receipt,) = self.receive([body])
        return 200, msgspec.json.encode(receipt)

    def die_before_commit(self, body: bytes) -> None:
        """Have a body in the landfill and its rows in a transaction that never ends, and start again."""
        plans = decide.decide(self.store, [prepare.prepare(body)])
        positions = commit.append_records(self.store, plans)
        commit.load_plans(self.store, plans, positions)
        connection.roll_back(self.store.warehouse.con)
        self.restart()

    def rebuild(self) -> None:
        """Make the warehouse anew from the landfill, and go on with it."""
        self.store.close()
        rebuild.rebuild(self.places)
        self._open()

    @property
    def digest(self) -> str:
        """The digest of all content."""
        return account.content_digest(self.store.warehouse.con)

    def read_account(self) -> account.Account:
        """The account."""
        return account.read_account(self.store.warehouse.con)

    def marks(self, instance_id: UUID | None = None) -> Counter[str]:
        """How often each event is in the warehouse, of one instance or of all: by its name, or else by its type."""
        mark = "coalesce(nullif(name, ''), type)"
        query = f"SELECT {mark}, count(*) FROM events WHERE ? IS NULL OR instance_id = ? GROUP BY 1"  # noqa: S608
        return Counter(dict(self.store.warehouse.con.execute(query, [instance_id, instance_id]).fetchall()))

    def losses(self) -> dict[tuple[UUID, date], int]:
        """What senders lost by gc, by instance and day of report."""
        query = "SELECT instance_id, reported_on, dropped FROM sender_loss WHERE dropped > 0 ORDER BY ALL"
        return {(instance, day): lost for instance, day, lost in self.store.warehouse.con.execute(query).fetchall()}

    def list_batches(self, path: str) -> bytes:
        """What `GET /instances/{id}/batches?after=n` is answered with."""
        parts = urlsplit(path)
        after = int(parse_qs(parts.query)["after"][0])
        found = account.list_batches(self.store.warehouse.con, UUID(parts.path.split("/")[2]), after, 1000)
        return msgspec.json.encode({"batches": found})


Answer = tuple[int | None, bytes]


@dataclass(slots=True)
class Front:
    """A door on loopback: `post` answers bodies, `get` paths; None as a status hangs up without a word.

    `cut`: so many bytes of an answer get out before it hangs up. `drip`: seconds between one byte of it and the next.
    """

    url: str
    post: Callable[[bytes], Answer]
    get: Callable[[str], Answer]
    cut: int | None = None
    drip: float = 0.0


@contextmanager
def open_front() -> Iterator[Front]:
    """A door that says 503 until it is told what to say."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.tell(*front.post(self.rfile.read(int(self.headers["Content-Length"]))))

        def do_GET(self) -> None:
            self.tell(*front.get(self.path))

        def tell(self, status: int | None, content: bytes) -> None:
            if status is None:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if front.drip:
                with suppress(OSError):  # nobody waits so long
                    for at in range(len(content)):
                        self.wfile.write(content[at : at + 1])
                        time.sleep(front.drip)
                return
            self.wfile.write(content[: front.cut])

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    front = Front(f"http://127.0.0.1:{server.server_port}/", lambda _: (503, b""), lambda _: (503, b""))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield front
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
