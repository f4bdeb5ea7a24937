"""What an erasure takes out of each place: events out of records and tables, rows, and bodies that may hold them.

An event is a profile's when it has its id, be it as `profile_id` or written in one of its texts. Ids are met as they
are and looked up by hash, so that an erasure can be finished by who does not know the id. Tables and records are judged
by one function, `last_erased`, over what the same patterns find: see `receiver.lifecycle.id_shapes`. Functions take a
connection and the caller owns the transaction; `receiver.lifecycle.erasure` knows the order.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import duckdb
import polars as pl
from msgspec import structs

from penpot_telemetry.errors import DecodeError
from penpot_telemetry.wire.payload import OTHER_VERSION
from receiver.frames import write_rows
from receiver.lifecycle.id_shapes import NUMBERS, RUN, find_runs, list_ids
from receiver.lifecycle.recovery import read_events
from receiver.storage import journal, rollups
from receiver.storage.journal import Record, RewriteReport
from receiver.storage.records import DeadLetter, Delivery, forget
from receiver.storage.tombstones import Erased

ReadEvents = Callable[[Record], tuple[pl.DataFrame, Sequence[DeadLetter]]]

Untouched = Collection[tuple[UUID, str]]
"""Batches, by key and digest, that are known to hold nothing of what is erased."""


# --- the landfill ---------------------------------------------------------------------------------------------------


def redact(
    record: Record,
    erased: Erased,
    read_events: ReadEvents,
    untouched: Untouched = (),
) -> bytes | None:
    """A record without what was erased, ready to write; None when it holds nothing of it. Raises DecodeError.

    Nothing at all is left of an operator's word about an instance.
    """
    delivery = record.header.delivery
    if delivery.forgotten:
        return None
    until = erased.instance(delivery.instance_id)
    if until is not None and delivery.received_at <= until:
        is_word = delivery.kind in ("unpin", "revived", "dropped")  # no delivery, so nothing counts it
        return b"" if is_word else journal.pack_record(forget(delivery, until), "nothing", journal.NOTHING)
    if delivery.body is not None and delivery.body in erased.bodies:
        return journal.pack_record(structs.replace(delivery, body=None), "nothing", journal.NOTHING)
    return redact_profiles(record, erased, read_events, untouched) if erased.profiles else None


def redact_profiles(record: Record, erased: Erased, read_events: ReadEvents, untouched: Untouched) -> bytes | None:
    """A record without what names an erased profile; None when nothing does."""
    delivery = record.header.delivery
    renamed = redact_version(delivery, erased)
    if record.header.carried == "nothing":
        return None if renamed is delivery else journal.pack_record(renamed, "nothing", journal.NOTHING)
    return (
        None if (delivery.key, delivery.digest) in untouched else redact_carried(renamed, record, erased, read_events)
    )


def redact_carried(delivery: Delivery, record: Record, erased: Erased, read_events: ReadEvents) -> bytes | None:
    """A record with this delivery and what is left of what it carries; None when neither is another one."""
    frame, letters = read_events(record)
    shortened = redact_events(delivery, frame, letters, erased)
    if shortened is None and delivery is not record.header.delivery:
        return journal.pack_record(delivery, "rows", journal.pack_carried(write_rows(frame, letters)))
    return shortened


def redact_version(delivery: Delivery, erased: Erased) -> Delivery:
    """The same delivery, without its version when an erased profile is written in that."""
    is_named = find_named(delivery.version, erased, delivery.received_at) is not None
    return structs.replace(delivery, version=OTHER_VERSION) if is_named else delivery


def redact_events(
    delivery: Delivery, frame: pl.DataFrame, letters: Sequence[DeadLetter], erased: Erased
) -> bytes | None:
    """A batch without the events that were erased, and with nothing but the count of dead letters that were.

    None when it has none of them.
    """
    until, gone = find_events(frame, erased, delivery.received_at)
    found = [find_named(letter.event, erased, delivery.received_at) for letter in letters]
    left = [
        letter if at is None else structs.replace(letter, event="", is_whole=False)
        for letter, at in zip(letters, found, strict=True)
    ]
    instants = [at for at in (until, *found) if at is not None]
    if not instants:
        return None
    kept = structs.replace(delivery, erased=delivery.erased + int(gone.sum()), removed_at=max(instants))
    return journal.pack_record(kept, "rows", journal.pack_carried(write_rows(frame.filter(~gone), left)))


def find_named(text: str, erased: Erased, received_at: datetime) -> datetime | None:
    """Until when the last of the erased profiles is that a text names; None when it names none."""
    found = [last_erased(run, erased, received_at) for run in find_runs(text)]
    return max((at for at in found if at is not None), default=None)


def last_erased(run: str, erased: Erased, received_at: datetime | None = None) -> datetime | None:
    """Until when the last of the erased profiles is whose id is in a run; None when it holds none.

    An erasure counts when it is not from before `received_at`, if that is given.
    """
    found = [erased.profile(one) for one in list_ids(run)]
    return max((at for at in found if at is not None and (received_at is None or received_at <= at)), default=None)


TEXTS = ("name", "type", "source", "props", "context")


def find_events(frame: pl.DataFrame, erased: Erased, received_at: datetime) -> tuple[datetime | None, pl.Series]:
    """Which events of a frame are erased, and until when the last of their profiles is; None when none of them is."""
    profiles = {one: erased.profile(UUID(bytes=one)) for one in frame["profile_id"].unique() if one is not None}
    ids = {one: at for one, at in profiles.items() if at is not None and received_at <= at}
    text = pl.concat_str(TEXTS, separator="\n", ignore_nulls=True)
    runs = frame.select(pl.concat_list(text.str.extract_all(RUN), text.str.extract_all(NUMBERS))).to_series()
    judged = {run: last_erased(run, erased, received_at) for run in runs.explode().unique() if run is not None}
    named = {run: at for run, at in judged.items() if at is not None}
    gone = frame["profile_id"].is_in(list(ids)).fill_null(value=False)
    if named:
        holding = runs.list.eval(pl.element().is_in(list(named))).list.any()
        gone |= holding.fill_null(value=False)
    return max([*ids.values(), *named.values()], default=None), gone


# --- the quarantine -------------------------------------------------------------------------------------------------

HOLDERS = """
SELECT instance_id FROM batches
WHERE batch_no IN (SELECT batch_no FROM doomed UNION ALL SELECT batch_no FROM doomed_letters)
   OR version IN (FROM doomed_versions)
UNION SELECT instance_id FROM reports WHERE version IN (FROM doomed_versions)
"""

KNOWN_BODIES = "SELECT body, instance_id FROM quarantine WHERE body IS NOT NULL"


def pick_bodies(con: duckdb.DuckDBPyConnection, folder: Path, erased: Erased) -> list[str]:
    """The files of the quarantine that may hold what is erased: nobody can read them to see.

    These are the bodies of the instances that are erased or hold the profile, and bodies of no known instance; all
    bodies when a profile is erased that no instance is known to hold. After `mark_doomed`.
    """
    known = dict(con.execute(KNOWN_BODIES).fetchall())
    holders = {*find_instances(con, erased), *(instance_id for (instance_id,) in con.execute(HOLDERS).fetchall())}
    files = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    return [
        name for name in files if (erased.profiles and not holders) or known.get(name) is None or known[name] in holders
    ]


def remove_bodies(folder: Path, names: Iterable[str]) -> None:
    """Delete files of the quarantine."""
    for name in names:
        (folder / name).unlink(missing_ok=True)
    if folder.exists():
        journal.sync_folder(folder)


# --- the warehouse --------------------------------------------------------------------------------------------------


class Removed(NamedTuple):
    """Rows that were removed, or lost some events."""

    events: int
    batches: int
    reports: int
    quarantine: int
    shortened_batches: int
    dead_letters: int


def erase_rows(con: duckdb.DuckDBPyConnection, erased: Erased, at: datetime) -> Removed:
    """Remove all that is there of the instances and profiles that are erased, and count it. After `mark_doomed`."""
    events, letters, batches = erase_marked(con, at)
    wholes = erase_instances(con, find_instances(con, erased), at)
    return wholes._replace(
        events=wholes.events + events, dead_letters=wholes.dead_letters + letters, shortened_batches=batches
    )


def count_rows(con: duckdb.DuckDBPyConnection, erased: Erased, at: datetime) -> Removed:
    """What `erase_rows` would remove: it does, and is rolled back."""
    con.begin()
    try:
        return erase_rows(con, erased, at)
    finally:
        con.rollback()


INSTANCES = """
SELECT instance_id FROM batches
UNION SELECT instance_id FROM reports
UNION SELECT instance_id FROM instance_keys
UNION SELECT instance_id FROM quarantine WHERE instance_id IS NOT NULL
UNION SELECT instance_id FROM superseded WHERE instance_id IS NOT NULL
ORDER BY 1
"""


def find_instances(con: duckdb.DuckDBPyConnection, erased: Erased) -> list[UUID]:
    """The instances in the warehouse that are erased."""
    if not erased.instances:
        return []
    return [instance_id for (instance_id,) in con.execute(INSTANCES).fetchall() if erased.instance(instance_id)]


FORGET = {
    "batches": """
INSERT INTO forgotten
SELECT 'erase', 'batch', key, digest, event_count + dead_letters + coalesce(gone, 0), repeats, $at
FROM batches LEFT JOIN (SELECT batch_no, sum(events)::BIGINT AS gone FROM removed GROUP BY batch_no) USING (batch_no)
WHERE instance_id = $instance
""",
    "reports": """
INSERT INTO forgotten
SELECT 'erase', 'report', key, '', 0, repeats, $at FROM reports WHERE instance_id = $instance
""",
    "quarantine": """
INSERT INTO forgotten
SELECT 'erase', 'refused', key, '', 0, repeats, $at FROM quarantine WHERE instance_id = $instance
""",
}

FORGET_SUPERSEDED = """
UPDATE superseded SET instance_id = NULL, batch_id = NULL, superseded_by = NULL WHERE instance_id = $instance
"""

DELETE_REMOVED = "DELETE FROM removed WHERE batch_no IN (SELECT batch_no FROM batches WHERE instance_id = $instance)"


def erase_instances(con: duckdb.DuckDBPyConnection, instances: Iterable[UUID], at: datetime) -> Removed:
    """Every row that names these instances; of each batch, report and refused body its key stays, and of each batch
    that came in parts.
    """
    counts = dict.fromkeys(("events", "dead_letters", *FORGET, "instance_keys", *rollups.TABLES), 0)
    for instance_id in instances:
        bound = {"instance": instance_id}
        for statement in FORGET.values():
            con.execute(statement, bound | {"at": at.astimezone(UTC).replace(tzinfo=None)})
        con.execute(DELETE_REMOVED, bound)
        con.execute(FORGET_SUPERSEDED, bound)
        for table in counts:
            found = con.execute(f"DELETE FROM {table} WHERE instance_id = $instance", bound).fetchall()  # noqa: S608  our own table names
            counts[table] += found[0][0]
    return Removed(
        events=counts["events"],
        batches=counts["batches"],
        reports=counts["reports"],
        quarantine=counts["quarantine"],
        shortened_batches=0,
        dead_letters=counts["dead_letters"],
    )


NO_DOOMED = (
    "CREATE OR REPLACE TEMP TABLE doomed (row BIGINT, batch_no BIGINT)",
    "CREATE OR REPLACE TEMP TABLE doomed_letters (row BIGINT, batch_no BIGINT)",
    "CREATE OR REPLACE TEMP TABLE doomed_versions (version VARCHAR)",
)

PROFILES = "SELECT DISTINCT profile_id FROM events WHERE profile_id IS NOT NULL"


def runs_of(text: str) -> str:
    """What `find_runs` finds, for an expression in SQL."""
    return f"list_concat(regexp_extract_all({text}, '{RUN}'), regexp_extract_all({text}, '{NUMBERS}'))"


RUNS = f"""
SELECT DISTINCT unnest({runs_of("text")})
FROM (
    SELECT DISTINCT unnest([name, type, source, props::VARCHAR, context::VARCHAR]) AS text FROM events
    UNION ALL
    SELECT event FROM dead_letters
    UNION ALL
    SELECT DISTINCT version FROM batches
    UNION ALL
    SELECT DISTINCT version FROM reports
)
"""  # noqa: S608  a constant of ours

DOOMED = f"""
CREATE OR REPLACE TEMP TABLE doomed AS
SELECT rowid AS row, batch_no FROM events
WHERE list_contains($ids, profile_id)
   OR (len($runs) > 0 AND list_has_any(
       {runs_of("concat_ws(chr(10), name, type, source, props, context)")}, $runs
   ))
"""  # noqa: S608  likewise

DOOMED_LETTERS = f"""
CREATE OR REPLACE TEMP TABLE doomed_letters AS
SELECT rowid AS row, batch_no FROM dead_letters WHERE list_has_any({runs_of("event")}, $runs)
"""  # noqa: S608  likewise

DOOMED_VERSIONS = f"""
CREATE OR REPLACE TEMP TABLE doomed_versions AS
SELECT version FROM (SELECT version FROM batches UNION SELECT version FROM reports)
WHERE list_has_any({runs_of("version")}, $runs)
"""  # noqa: S608  likewise

REMOVE = (
    "CREATE OR REPLACE TEMP TABLE gone AS SELECT batch_no, count(*) AS n FROM doomed GROUP BY batch_no",
    "DELETE FROM events WHERE rowid IN (SELECT row FROM doomed)",
    "UPDATE dead_letters SET event = NULL, is_whole = false WHERE rowid IN (SELECT row FROM doomed_letters)",
    "UPDATE batches SET event_count = event_count - n FROM gone WHERE batches.batch_no = gone.batch_no",
)

NOTE_REMOVED = "INSERT INTO removed SELECT 'erase', batch_no, n, $at FROM gone ORDER BY batch_no"


def mark_doomed(con: duckdb.DuckDBPyConnection, erased: Erased) -> None:
    """Find every event, dead letter and version that names a profile that is erased, for the others here.

    Into `doomed`, `doomed_letters` and `doomed_versions`, temporary tables.
    """
    if not erased.profiles:
        for statement in NO_DOOMED:
            con.execute(statement)
        return
    ids = [one for (one,) in con.execute(PROFILES).fetchall() if erased.profile(one)]
    runs = [run for (run,) in con.execute(RUNS).fetchall() if last_erased(run, erased)]
    con.execute(DOOMED, {"ids": ids, "runs": runs})
    con.execute(DOOMED_LETTERS, {"runs": runs})
    con.execute(DOOMED_VERSIONS, {"runs": runs})


WITH_VERSION = ("batches", "reports", "events", *rollups.TABLES)


def erase_marked(con: duckdb.DuckDBPyConnection, at: datetime) -> tuple[int, int, int]:
    """The events that are marked, out of batches that stay, and what is kept of dead letters.

    Returns how many events, how many dead letters, and of how many batches there were events.
    """
    for statement in REMOVE:
        con.execute(statement)
    con.execute(NOTE_REMOVED, {"at": at.astimezone(UTC).replace(tzinfo=None)})
    gone = con.execute("SELECT batch_no, n FROM gone").fetchall()
    rollups.rebuild(con, [batch_no for batch_no, _ in gone])
    for table in WITH_VERSION:
        con.execute(
            f"UPDATE {table} SET version = ? WHERE version IN (FROM doomed_versions)",  # noqa: S608  our own table names
            [OTHER_VERSION],
        )
    ((letters,),) = con.execute("SELECT count(*) FROM doomed_letters").fetchall()
    return sum(n for _, n in gone), letters, len(gone)


UNTOUCHED = """
SELECT key, digest FROM batches
WHERE batch_no NOT IN (SELECT batch_no FROM doomed) AND batch_no NOT IN (SELECT batch_no FROM removed)
  AND batch_no NOT IN (SELECT batch_no FROM doomed_letters)
  AND batch_no NOT IN (SELECT batch_no FROM dead_letters WHERE event IS NULL)
  AND version NOT IN (FROM doomed_versions)
"""


def find_untouched(con: duckdb.DuckDBPyConnection) -> Untouched:
    """The batches that are here in full and hold no marked event: their records need not be opened."""
    return set(con.execute(UNTOUCHED).fetchall())


def purge(
    folder: Path, erased: Erased, con: duckdb.DuckDBPyConnection | None = None, *, dry_run: bool = False
) -> RewriteReport:
    """Write every file of the landfill anew that holds something erased, however it is called; returns what went.

    With a connection, records of batches that it knows to be free of it are not opened, and one that cannot be read
    raises DecodeError; without, such a record stays, and a replay counts it.
    """
    if not (erased.instances or erased.profiles):
        return RewriteReport(0, 0)
    untouched = () if con is None else find_untouched(con)

    def change(record: Record) -> bytes | None:
        try:
            return redact(record, erased, read_events, untouched)
        except DecodeError:
            if con is None:
                return None
            raise

    for cut_off in folder.rglob("*" + journal.SUFFIX + journal.NEW):
        cut_off.unlink()
    files = sorted(folder.rglob("*" + journal.SUFFIX))
    lost = [journal.rewrite(path, change, dry_run=dry_run) for path in files]
    return RewriteReport(sum(one.records for one in lost), sum(one.damaged_bytes for one in lost))
