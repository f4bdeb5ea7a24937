"""The sender against bare Postgres: shipping, recording, memory, and how shipping grows with the backlog."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
from psycopg import Connection

from benchmarks.codec import make_rows, read_sample
from benchmarks.intake import serve
from benchmarks.measure import Row, alone, interleave, pairs
from penpot_telemetry import audit_log, connection, embedded_postgres, pipeline, schema
from penpot_telemetry.config import Settings
from penpot_telemetry.endpoint import Endpoint
from penpot_telemetry.events import AuditEvent
from penpot_telemetry.simulate import demo_fleet

PAGE = 10_000

# -- the database ----------------------------------------------------------------------------------------------------


@contextmanager
def open_database() -> Iterator[Mapping[str, str]]:
    """The parameters of a database with Penpot's table, on a server of its own with Postgres' own settings."""
    with TemporaryDirectory(prefix="bench-") as folder:
        Path(folder).chmod(0o755)  # root's server runs as another user
        with embedded_postgres.serve(Path(folder)) as server:
            with connection.connect(server) as conn:
                audit_log.create_table(conn)
                schema.ensure_schema(conn)
                fill_sample(conn)
            yield server


def fill_sample(conn: Connection) -> None:
    """A table of the 10,000 rows that a Penpot backend wrote, as a stock to fill `audit_log` from."""
    conn.execute("CREATE TABLE sample AS SELECT name, type, source, profile_id, props, context FROM audit_log LIMIT 0")
    with conn.cursor() as cursor, cursor.copy("COPY sample FROM STDIN") as copy:
        for row in make_rows(read_sample()):
            copy.write_row(
                (row.name, row.type, row.source, (row.profile_id or bytes(16)).hex(), row.props, row.context)
            )


_FILL = """
INSERT INTO audit_log (id, name, type, created_at, profile_id, ip_addr, props, tracked_at, source, context)
SELECT gen_random_uuid(), name, type, day, profile_id, '0.0.0.0', props, day, source, context
FROM generate_series(1, %s) page, sample, LATERAL (SELECT timestamptz '2026-07-20' + page * interval '1 day') d(day)
"""


def fill(conn: Connection, rows: int) -> None:
    """A backlog of so many rows, a page a day, in a table that is as good as new."""
    conn.execute("TRUNCATE audit_log")
    conn.execute(_FILL, (rows // PAGE,))
    conn.execute("VACUUM ANALYZE audit_log")
    conn.execute("CHECKPOINT")


def settings_for(database: Mapping[str, str], url: str = "http://127.0.0.1:9/") -> Settings:
    """Telemetry on, nothing dropped however long the backlog."""
    return Settings(
        telemetry=True,
        audit_log=False,
        data_dir=Path(),
        version="2.18.0",
        endpoint=Endpoint(url),
        database=database,
        cap_rows=10**9,
    )


# -- shipping --------------------------------------------------------------------------------------------------------


def ship(conn: Connection, settings: Settings, rows: int) -> float:
    """Seconds of one pass over a backlog."""
    fill(conn, rows)
    started = time.perf_counter()
    report = pipeline.run_pass(conn, settings)
    seconds = time.perf_counter() - started
    if report.failure or report.shipped != rows or report.pending:
        raise AssertionError(f"a pass over {rows} rows: {report}")
    return seconds


_COPY_PAGE = f"""
COPY (SELECT id, name, type, source, tracked_at, profile_id, props::text, context::text FROM audit_log
      ORDER BY source, created_at LIMIT {PAGE}) TO STDOUT
"""  # noqa: S608  a number


def copy_and_delete(conn: Connection, rows: int) -> float:
    """Seconds in which Postgres gives the same rows and deletes them by their ids, page by page, and nothing else."""
    fill(conn, rows)
    started = time.perf_counter()
    for _ in range(rows // PAGE):
        with conn.transaction(), conn.cursor() as cursor:
            with cursor.copy(_COPY_PAGE) as copy:
                ids = [bytes(line[:36]).decode() for line in split_lines(copy)]
            cursor.execute("DELETE FROM audit_log WHERE id = ANY(%s::uuid[])", ("{" + ",".join(ids) + "}",))
            if cursor.rowcount != PAGE:
                raise AssertionError(f"a page of {cursor.rowcount} rows")
    return time.perf_counter() - started


def split_lines(blocks: "psycopg.Copy") -> list[bytes]:
    """The lines of a COPY, which come one in a block."""
    return [bytes(block) for block in blocks]


def measure_ship(conn: Connection, database: Mapping[str, str], rounds: int, *, quick: bool) -> list[Row]:
    """Shipping a backlog, and what a row costs in a long one."""
    rows, long = (PAGE, 2 * PAGE) if quick else (100_000, 1_000_000)
    with serve() as url:
        settings = settings_for(database, url)
        found = interleave(
            rounds,
            {"ship": lambda: ship(conn, settings, rows), "floor": lambda: copy_and_delete(conn, rows)},
        )
        growth, repeats = [], 1 if quick else 5
        for _ in range(1 if quick else min(rounds, 2)):  # a million rows take a minute
            short = statistics.median(ship(conn, settings, PAGE) for _ in range(repeats))
            growth.append((1e6 * ship(conn, settings, long) / long, 1e6 * short / PAGE))
        bare = statistics.median(copy_and_delete(conn, PAGE) for _ in range(repeats)) / PAGE
        bare_growth = copy_and_delete(conn, long) / long / bare
    return [
        Row("ship", f"ship a backlog of {rows:,} rows", "ms", "COPY TO and DELETE by ids", "times", 2.5, 1.5,
            pairs(found["ship"], found["floor"])),
        Row("ship-growth", f"a row among {long:,}: ship", "us", "among 10,000", "times", 1.15, 1.0, growth,
            f"between the same sizes a row of bare COPY TO and DELETE grows to {bare_growth:.2f}x"),
    ]  # fmt: skip


# -- recording -------------------------------------------------------------------------------------------------------


def make_events(count: int) -> list[AuditEvent]:
    """So many audit events of the simulated fleet."""
    fleet, found = demo_fleet(), list[AuditEvent]()
    while len(found) < count:
        for plan in fleet.plans():
            found.extend(fleet.audit_events(plan))
    return found[:count]


def measure_record(conn: Connection, database: Mapping[str, str], rounds: int, *, quick: bool) -> Row:
    """Anonymise and insert in bulk, beside COPY of the same rows."""
    events = make_events(PAGE if quick else 100_000)
    settings = settings_for(database)
    columns = "id, name, type, created_at, profile_id, ip_addr, props, tracked_at, source, context"

    def record() -> float:
        conn.execute("TRUNCATE audit_log")
        started = time.perf_counter()
        recorded = pipeline.record_events(conn, events, settings)
        seconds = time.perf_counter() - started
        if recorded.accepted != len(events) or recorded.refused:
            raise AssertionError(f"{recorded.accepted} of {len(events)} events were recorded")
        return seconds

    record()
    with conn.cursor() as cursor, cursor.copy(f"COPY audit_log ({columns}) TO STDOUT") as copy:
        blocks = gather([bytes(block) for block in copy])

    def bare_copy() -> float:
        conn.execute("TRUNCATE audit_log")
        started = time.perf_counter()
        with conn.transaction(), conn.cursor() as cursor, cursor.copy(f"COPY audit_log ({columns}) FROM STDIN") as copy:
            for block in blocks:
                copy.write(block)
        return time.perf_counter() - started

    found = interleave(rounds, {"record": record, "floor": bare_copy})
    return Row("record", f"record {len(events):,} events in bulk", "ms", "COPY of the same rows", "times", 2.0, 1.2,
               pairs(found["record"], found["floor"]))  # fmt: skip


def gather(lines: Sequence[bytes], at_once: int = 256) -> list[bytes]:
    """Lines in larger blocks."""
    return [b"".join(lines[start : start + at_once]) for start in range(0, len(lines), at_once)]


# -- memory ----------------------------------------------------------------------------------------------------------


def measure_memory(conn: Connection, database: Mapping[str, str], rounds: int, *, quick: bool) -> Row:
    """The peak of a sender process over its idle, shipping a long backlog."""
    rows, found = PAGE if quick else 200_000, []
    with serve() as url:
        for _ in range(1 if quick else min(rounds, 3)):
            fill(conn, rows)
            command = [sys.executable, "-m", "benchmarks.sender", url, json.dumps(dict(database))]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found.append(float(done.stdout))
    return Row("memory", f"sender's peak over its idle, {rows:,} rows", "MiB", "", "most", 150, 60, alone(found, 1))


def ship_and_weigh(url: str, database: Mapping[str, str]) -> float:
    """MiB that a pass needed beyond what the process had when it was connected and ready."""
    settings = settings_for(database, url)
    with connection.open_database(settings) as conn:
        before = weigh("VmRSS")
        report = pipeline.run_pass(conn, settings)
    if report.failure or not report.shipped:
        raise AssertionError(str(report))
    return weigh("VmHWM") - before


def weigh(field: str) -> float:
    """A size of this process in MiB: VmRSS is now, VmHWM the most so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def measure(rounds: int, *, quick: bool) -> list[Row]:
    """The rows of the sender."""
    with open_database() as database, connection.connect(database) as conn:
        return [
            *measure_ship(conn, database, rounds, quick=quick),
            measure_record(conn, database, rounds, quick=quick),
            measure_memory(conn, database, rounds, quick=quick),
        ]


if __name__ == "__main__":
    sys.stdout.write(f"{ship_and_weigh(sys.argv[1], json.loads(sys.argv[2]))}\n")
