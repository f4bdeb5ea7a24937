"""`python -m benchmarks.questions`: how long each question takes on a year of events, and what rollups cost a batch.

The warehouse is made in SQL, day by day as batches arrive: instances of very different sizes, people with their own
rhythm, sixty kinds of events from common to rare. It claims nothing about the world but its shape.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import duckdb
from rich.console import Console
from rich.table import Table

from receiver.questions.cards import all_cards
from receiver.questions.run import Asked, answer, read_asked
from receiver.storage import rollups, schema

DAYS = 365
FIRST_DAY = "2025-01-01"
YEAR = read_asked(FIRST_DAY, "2025-12-31")
EVENTS_A_VISIT = 23.0

PEOPLE = """
CREATE TEMP TABLE slots AS
SELECT id, born, lag, unnest(range(size))
FROM (SELECT uuid() AS id, DATE '2025-01-01' + if(random() < 0.6, 0, (random() * 300)::INTEGER) AS born,
             random() * 60 AS lag,
             least(800, greatest(1, round(3 * pow(1 - random(), -1 / 1.05))))::INTEGER AS size
      FROM range($instances));
"""

TABLES = """
CREATE TEMP TABLE people AS
SELECT id, lag, uuid() AS profile, born + if(random() < 0.5, 0, (random() * 300)::INTEGER) AS joined,
       (30 + random() * 400)::INTEGER AS stay, random() * 0.6 AS presence, (random() * 40)::INTEGER AS machine
FROM slots USING SAMPLE reservoir({people} ROWS) REPEATABLE (7);

CREATE TEMP TABLE kinds AS
SELECT 'kind-' || n AS name, if(n < 25, 'command', 'action') AS type, 10.0 / (n + 1) AS mean
FROM range(60) r(n);

CREATE TEMP TABLE machines AS
SELECT machine,
       json_object('browser', ['Chrome', 'Firefox', 'Safari', 'Edge'][machine % 4 + 1], 'browser-version', '138.0.0.0',
                   'engine', 'Blink', 'engine-version', '138.0.0.0', 'locale',
                   ['en', 'es', 'fr', 'de'][machine % 4 + 1],
                   'os', ['Windows 11', 'macOS 10.15.7', 'Ubuntu '][machine % 3 + 1], 'os-version', '11',
                   'screen-width', 1280 + machine * 40, 'screen-height', 1080, 'screen-color-depth', 24,
                   'screen-orientation', 'landscape-primary', 'version', '2.18.0') AS frontend,
       json_object('client-user-agent', 'Mozilla/5.0 (X11; Linux x86_64) ' || machine, 'client-version', '2.18.0',
                   'initiator', 'app', 'version', '2.18.0') AS backend
FROM range(41) r(machine);
"""

DAY_EVENTS = """
CREATE OR REPLACE TEMP TABLE today AS
WITH visits AS (
    SELECT *, DATE '2025-01-01' + $day AS tracked_on FROM people
    WHERE joined <= DATE '2025-01-01' + $day AND joined + stay > DATE '2025-01-01' + $day
      AND random() < presence * if(dayofweek(DATE '2025-01-01' + $day) IN (0, 6), 0.3, 1.2)
)
SELECT id, '2.' || 10 + greatest(0, $day - lag::INTEGER) // 40 || '.0' AS version, name, type,
       if(type = 'command', 'telemetry:backend', 'telemetry:frontend') AS source, tracked_on, profile,
       if(type = 'command', backend, frontend) AS context, row_number() OVER (PARTITION BY id) // 10000 AS page
FROM visits, kinds, machines, unnest(range(floor(mean * (0.3 + random()) + random() * 0.6)::INTEGER))
WHERE machines.machine = visits.machine
"""

DAY_BATCHES = """
CREATE OR REPLACE TEMP TABLE pages AS
SELECT $last + row_number() OVER (ORDER BY id, page) AS batch_no, id, page, any_value(version) AS version,
       count(*) AS events
FROM today GROUP BY id, page
"""

INSERT_BATCHES = """
INSERT INTO batches (batch_no, key, instance_id, batch_id, version, received_at, event_count, digest, trust)
SELECT batch_no, uuid(), id, uuid(), version, TIMESTAMP '2025-01-02' + to_days($day) + to_microseconds(batch_no),
       events, 'sha256:', 'batch-id'
FROM pages ORDER BY batch_no
"""

INSERT_EVENTS = """
INSERT INTO events
SELECT batch_no, t.id, t.version, name, type, source, tracked_on, profile, '{}', context
FROM today t JOIN pages p ON t.id = p.id AND t.page = p.page
ORDER BY batch_no
"""


def make_year(con: duckdb.DuckDBPyConnection, events: int, told: Callable[[str], None]) -> None:
    """Fill a warehouse with about so many events."""
    con.execute("SELECT setseed(0.42)")
    schema.upgrade(con)
    people = int(events / EVENTS_A_VISIT / DAYS / 0.28 * 1.9)
    con.execute(PEOPLE, {"instances": max(20, people // 10)})
    con.execute(TABLES.format(people=people))
    last = 0
    for day in range(DAYS):
        con.execute(DAY_EVENTS, {"day": day})
        con.execute(DAY_BATCHES, {"last": last})
        con.execute(INSERT_BATCHES, {"day": day})
        con.execute(INSERT_EVENTS)
        ((last,),) = con.execute("SELECT coalesce(max(batch_no), 0) FROM batches").fetchall()
        if day % 73 == 0:
            told(f"day {day} of {DAYS}")
    con.execute("DROP TABLE today")
    started = time.perf_counter()
    rollups.create(con)
    told(f"rollups from all events: {time.perf_counter() - started:.1f} s")
    con.execute("CHECKPOINT")


def time_batch(con: duckdb.DuckDBPyConnection, rounds: int) -> tuple[float, float]:
    """Milliseconds of one insert of 10,000 events, and of their rollups, in the middle of `rounds`."""
    con.execute("CREATE OR REPLACE TEMP TABLE page AS FROM events ORDER BY batch_no DESC LIMIT 10000")
    ((last,),) = con.execute("SELECT max(batch_no) FROM batches").fetchall()
    inserts, applied = [], []
    for _ in range(rounds):
        con.begin()
        con.execute(
            "INSERT INTO batches BY NAME SELECT * REPLACE (batch_no + 1 AS batch_no, uuid() AS key) "
            "FROM batches WHERE batch_no = $last",
            {"last": last},
        )
        started = time.perf_counter()
        con.execute("INSERT INTO events SELECT * REPLACE ($last + 1 AS batch_no) FROM page", {"last": last})
        between = time.perf_counter()
        rollups.add(con, last + 1, last + 1)
        inserts.append(between - started)
        applied.append(time.perf_counter() - between)
        con.rollback()
    return statistics.median(inserts) * 1000, statistics.median(applied) * 1000


def time_question(con: duckdb.DuckDBPyConnection, name: str, asked: Asked, rounds: int) -> float:
    """Milliseconds of the middle round."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        answer(con, name, asked)
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


@click.command()
@click.option("--events", default=10_000_000, show_default=True, help="Events of the year, about.")
@click.option("--threads", default=2, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--keep", type=click.Path(path_type=Path, dir_okay=False), help="Keep the warehouse here, or use it.")
def main(events: int, threads: int, rounds: int, keep: Path | None) -> None:
    """Time every question over the last 90 days and over the whole year."""
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        path = keep or Path(folder) / "year.duckdb"
        is_new = not path.exists()
        with duckdb.connect(str(path)) as con:
            con.execute(f"SET threads = {threads:d}")
            if is_new:
                make_year(con, events, lambda text: console.print(text, style="dim"))
            ((held, batches),) = con.execute("SELECT (SELECT count(*) FROM events), count(*) FROM batches").fetchall()
            title = f"{held:,} events in {batches:,} batches, {threads} threads, milliseconds, middle of {rounds}"
            table = Table("question", title=title, box=None, title_justify="left")
            table.add_column("last 90 days", justify="right")
            table.add_column("whole year", justify="right")
            for name in all_cards():
                spans = [time_question(con, name, asked, rounds) for asked in (Asked(), YEAR)]
                table.add_row(name, *(f"{span:,.0f}" for span in spans))
            console.print(table)
            inserted, applied = time_batch(con, rounds + 4)
            console.print(f"a batch of 10,000 events: insert {inserted:.1f} ms, rollups {applied:.1f} ms")


if __name__ == "__main__":
    main()
