"""The order in which a body is received; each step is a module or a function of its own.

    body ─ prepare ─► job ─ decide ─► plan ─ append_records ─► journal, synced ─ load_plans ─ commit ─► receipt

`prepare` needs no writer. `decide` says what will be written, `append_records` makes it durable, `load_plans` and
`commit` make it count. A crash before the commit leaves a record that nobody was told of: the next start replays it.
Whatever fails on the way is answered with UnavailableError, and the next body first finds out what is true.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import duckdb
import polars as pl

from receiver.intake.decide import Plan, decide
from receiver.intake.decode import Rejection
from receiver.intake.prepare import Job
from receiver.lifecycle.startup import make_sound
from receiver.storage import connection, inserts, journal, warehouse
from receiver.storage.journal import Carried
from receiver.storage.records import (
    Delivery,
    Position,
    Receipt,
)
from receiver.storage.store import Store, UnavailableError, require_clock

PAGES = 256  # marks of 10,000 events are 80 kB


def receive(store: Store, jobs: Sequence[Job]) -> list[Receipt]:
    """Make bodies durable, all in one transaction, and say what became of each. Raises UnavailableError."""
    if not store.is_sound:
        make_sound(store)
    before = store.landfill.position
    require_clock(store)
    try:
        plans = decide(store, jobs)
        positions = append_records(store, plans)
    except (OSError, duckdb.Error) as error:
        give_up(store, before)
        raise UnavailableError(f"nothing can be written now: {type(error).__name__}") from error
    try:
        load_plans(store, plans, positions)
        commit(store)
        remember_pages(store, plans)
        remove_superseded(store, plans)
    except connection.DATA_ERRORS:
        connection.roll_back(store.warehouse.con)
        give_up(store, before)
        return receive_apart(store, jobs)
    except (OSError, duckdb.Error) as error:
        connection.roll_back(store.warehouse.con)
        store.is_sound = False
        raise UnavailableError(f"the warehouse cannot commit now: {type(error).__name__}") from error
    return [plan.receipt for plan in plans]


def receive_apart(store: Store, jobs: Sequence[Job]) -> list[Receipt]:
    """One by one, so that rows DuckDB will not take bring down nothing but their own body."""
    if len(jobs) == 1:
        (job,) = jobs
        refusal = Rejection("bad-fressian", "the decoded events do not fit the tables")
        return receive(store, [replace(job, item=refusal, carried="nothing", packed=journal.NOTHING)])
    return [receipt for job in jobs for receipt in receive(store, [job])]


def give_up(store: Store, before: Position | None) -> None:
    """Take back records that nobody will be told of; when even that fails, the next body begins with a recovery."""
    try:
        store.landfill.rewind(before)
        store.warehouse.numbers = warehouse.read_numbers(store.warehouse.con)
    except (OSError, duckdb.Error):
        store.is_sound = False


def remove_superseded(store: Store, plans: Sequence[Plan]) -> None:
    """The kept bodies of batches that came in parts: the parts are loaded, so they are of no more use."""
    if any(plan.delivery.supersedes for plan in plans):
        with suppress(OSError):  # what stays here goes after some days
            store.quarantine.remove(warehouse.take_superseded_bodies(store.warehouse.con))


def remember_pages(store: Store, plans: Sequence[Plan]) -> None:
    """Keep the marks of the pages that were loaded, those heard latest last, and no more than PAGES of them."""
    for plan in plans:
        instance_id = plan.delivery.instance_id
        if plan.marks is not None and instance_id is not None:
            store.pages.pop(instance_id, None)
            store.pages[instance_id] = plan.marks
    while len(store.pages) > PAGES:
        del store.pages[next(iter(store.pages))]


def append_records(store: Store, plans: Sequence[Plan]) -> list[Position]:
    """Every plan into the landfill, then one sync: from here on a crash loses nothing."""
    positions = [
        store.landfill.append(journal.pack_record(plan.delivery, plan.carried, plan.packed), plan.delivery.received_at)
        for plan in plans
    ]
    store.landfill.sync()
    return positions


def load_plans(store: Store, plans: Sequence[Plan], positions: Sequence[Position]) -> None:
    """Begin a transaction and write the rows of every plan; `commit` ends it."""
    store.warehouse.con.begin()
    for plan, position in zip(plans, positions, strict=True):
        inserts.apply(store.warehouse, plan.delivery, plan.frame, plan.letters, position)


def commit(store: Store) -> None:
    """From here on it counts, and only now may it be answered."""
    store.warehouse.con.commit()


def write_word(
    store: Store,
    word: Delivery,
    frame: pl.DataFrame | None = None,
    carried: Carried = "nothing",
    packed: bytes = journal.NOTHING,
) -> None:
    """An operator's word into the journal and the warehouse, durably. Raises UnavailableError."""
    plans = [Plan(word, inserts.receipt_of(word, None), frame, carried=carried, packed=packed)]
    require_clock(store)
    try:
        load_plans(store, plans, append_records(store, plans))
        commit(store)
    except (OSError, duckdb.Error) as error:
        connection.roll_back(store.warehouse.con)
        raise UnavailableError(f"nothing can be written now: {type(error).__name__}") from error
