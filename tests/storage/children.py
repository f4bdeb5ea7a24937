"""`python -m tests.storage.children`: one process a task, forked from one that has imported all and begun nothing.

A task comes in as a line of JSON, its result goes out as one: what the child returned, `error` with the line that an
operator would see, or `died`. A child that is killed or aborts takes nothing else with it.
"""

import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb

from penpot_telemetry.errors import TelemetryError
from receiver.cli import account as cli_account
from receiver.cli.client import open_to_read
from receiver.cli.options import explain
from receiver.copies import snapshot
from receiver.intake import commit, decide, operations
from receiver.intake.commit import receive
from receiver.intake.prepare import prepare
from receiver.lifecycle import retention
from receiver.lifecycle.rebuild import rebuild as rebuild_warehouse
from receiver.lifecycle.startup import open_store
from receiver.reports.account import content_digest, read_account
from receiver.storage import connection, paths
from receiver.storage.paths import DataPaths, places_beside
from receiver.storage.store import Store, UnavailableError
from tests.integration.receiving import body_of, legacy_report, rows
from tests.storage.faults import Connection, Counter, install

NOW = datetime(2026, 7, 21, 12, tzinfo=UTC)
BATCHES = 6
OTHER = UUID(int=77)
"""The instance of the batches with odd numbers: the one that is erased."""

EVENTS = "SELECT batch_id, count(*) FROM events JOIN batches USING (batch_no) GROUP BY ALL"


def batch_of(number: int) -> bytes:
    """A batch with a number, of one of two instances; number + 1 events."""
    options = {"instance": OTHER} if number % 2 else {}
    return body_of(rows(number + 1, 10 * number), batch_id=UUID(int=number + 1), batch_seq=number + 1, **options)


def places_in(folder: str) -> DataPaths:
    return places_beside(Path(folder) / "w.duckdb")


def at(store: Store, when: datetime) -> Store:
    store.clock = lambda: when
    return store


def fill(folder: str, first: int, count: int, day: int, killed: bool = False) -> dict[str, Any]:
    """Receive batches, a body nobody can read and a report, on a day."""
    store = at(open_store(places_in(folder)), NOW + timedelta(days=day))
    for number in range(first, first + count):
        receive(store, [prepare(batch_of(number))])
    receive(store, [prepare(b"nothing %d" % day), prepare(legacy_report(**{"total-users": day}))])
    if killed:
        sys.stdout.flush()
        os._exit(0)
    store.close()
    return {}


def append_only(folder: str, first: int, count: int) -> dict[str, Any]:
    """Batches that are in the journal and were never committed."""
    with at(open_store(places_in(folder)), NOW + timedelta(days=1, hours=1)) as store:
        jobs = [prepare(batch_of(number)) for number in range(first, first + count)]
        commit.append_records(store, decide.decide(store, jobs))
        os._exit(0)


def survey(folder: str, resend: list[int] | None = None) -> dict[str, Any]:
    """Start, send some batches again, and say what is there and what `check` says."""
    places = places_in(folder)
    with at(open_store(places), max(NOW + timedelta(days=6), datetime.now(UTC))) as store:
        again: list[str] = []
        for number in resend or []:
            (receipt,) = receive(store, [prepare(batch_of(number))])
            again.append(receipt.status)
        con = store.warehouse.con
        found = look(con) | {"again": again, "damaged": store.found.damaged_bytes + store.found.lost_bytes}
    checks = cli_account.check_journal(places)
    with closing(open_to_read(places.warehouse)) as con:
        checks.append(cli_account.landfill_check(con, places))
    return found | {"faults": [check.name for check in checks if not check.holds]}


def look(con: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """How many events each batch has, whether the sums agree, and a digest of all."""
    events = {batch_id.int - 1: count for batch_id, count in con.execute(EVENTS).fetchall()}
    account = read_account(con)
    wrong = [check.name for check in account.checks if not check.holds]
    return {"events": events, "adds_up": not wrong, "wrong": wrong, "digest": content_digest(con)}


def rebuild(folder: str) -> dict[str, Any]:
    """The operator's remedy."""
    found = rebuild_warehouse(places_in(folder))
    with closing(connection.connect(Path(folder) / "w.duckdb", read_only=True)) as con:
        return look(con) | {"damaged": found.damaged_bytes}


# --- what is done while one call fails ------------------------------------------------------------------------------


def do_receive(places: DataPaths, answered: Callable[[int], None]) -> None:
    with at(open_store(places), NOW + timedelta(days=1, hours=3)) as store:
        for numbers in ((BATCHES,), (BATCHES + 1, BATCHES + 2)):
            try:
                receive(store, [prepare(batch_of(number)) for number in numbers])
            except UnavailableError:
                continue
            for number in numbers:
                answered(number)
        with suppress(UnavailableError):
            receive(store, [prepare(b"nobody reads this")])


def do_open(places: DataPaths, answered: Callable[[int], None]) -> None:
    del answered
    open_store(places).close()


def do_rebuild(places: DataPaths, answered: Callable[[int], None]) -> None:
    del answered
    rebuild_warehouse(places)


def do_erase(places: DataPaths, answered: Callable[[int], None]) -> None:
    operations.erase_id(places, "instance", OTHER)
    answered(-1)


def do_snapshot(places: DataPaths, answered: Callable[[int], None]) -> None:
    del answered
    snapshot.publish(places.warehouse, paths.snapshot_of(places.warehouse))


def do_retention(places: DataPaths, answered: Callable[[int], None]) -> None:
    del answered
    kept = replace(places, event_days=400, report_days=1, landfill_days=3, quarantine_days=1)
    with at(open_store(kept), NOW + timedelta(days=5)) as store:
        retention.tidy(store)


OPERATIONS = {
    "receive": do_receive,
    "replay": do_open,
    "rebuild": do_rebuild,
    "erase": do_erase,
    "snapshot": do_snapshot,
    "retention": do_retention,
}


def operate(folder: str, operation: str, at_call: int | None, kind: str) -> dict[str, Any]:
    """Do one thing, of which one call fails. What was answered is written down as soon as it is."""
    counter = Counter(at_call, kind)
    install(counter)
    log = os.open(Path(folder) / "answered", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    counter.is_armed = True
    try:
        OPERATIONS[operation](places_in(folder), lambda number: void(os.write(log, b"%d\n" % number)))
    finally:
        counter.is_armed = False
    return {"calls": counter.calls}


def receive_bodies(folder: str, bodies: list[str], hours: float) -> dict[str, Any]:
    """Receive bodies so many hours after NOW."""
    with at(open_store(places_in(folder)), NOW + timedelta(hours=hours)) as store:
        receipts = [receive(store, [prepare(body.encode())])[0] for body in bodies]
    return {"said": [(receipt.status, receipt.reason) for receipt in receipts]}


def die_in_replay(folder: str, events: int) -> dict[str, Any]:
    """Start, and be killed as by the kernel when the rows of a batch of so many events go into the database."""
    connect = duckdb.connect

    class Deadly(Connection):
        def register(self, name: str, table: Any) -> None:
            if table.num_rows == events:
                os.kill(os.getpid(), signal.SIGKILL)
            self._con.register(name, table)

    def connected(*args: Any, **named: Any) -> Any:
        return Deadly(connect(*args, **named), Counter(None, ""))

    duckdb.connect = connected
    return survey(folder)


def void(_: object) -> None:
    """Nothing."""


TASKS: Mapping[str, Callable[..., dict[str, Any]]] = {
    "fill": fill,
    "append_only": append_only,
    "survey": survey,
    "rebuild": rebuild,
    "operate": operate,
    "receive_bodies": receive_bodies,
    "die_in_replay": die_in_replay,
}


def run(task: Mapping[str, Any], result: Path) -> None:
    """One task, in the child."""
    try:
        said = TASKS[task["task"]](**task["with"])
    except (TelemetryError, OSError, duckdb.Error) as error:
        said = {"error": explain(error)}
    except BaseException as error:
        said = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
    result.write_text(json.dumps(said))


def main() -> None:
    """Fork a child for each line."""
    with tempfile.TemporaryDirectory() as folder:
        for number, line in enumerate(sys.stdin):
            result = Path(folder) / str(number)
            child = os.fork()
            if child == 0:
                run(json.loads(line), result)
                os._exit(0)
            _, status = os.waitpid(child, 0)
            said = json.loads(result.read_text()) if result.exists() else {"died": status}
            sys.stdout.write(json.dumps(said) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
