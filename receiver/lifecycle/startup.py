"""A start: rebuild a lost warehouse, finish an erasure, replay what the journal holds past the last commit."""

from contextlib import suppress
from dataclasses import replace
from functools import partial

import duckdb

from penpot_telemetry.errors import DatabaseError
from receiver.lifecycle.erasure import check_erased, finish_erasures
from receiver.lifecycle.rebuild import rebuild
from receiver.lifecycle.recovery import catch_up
from receiver.storage import journal
from receiver.storage.dead_letters import Quarantine
from receiver.storage.journal import Journal, JournalError
from receiver.storage.paths import DataPaths
from receiver.storage.shares import list_sizes
from receiver.storage.store import Store, UnavailableError
from receiver.storage.warehouse import Warehouse


def open_store(places: DataPaths) -> Store:
    """Open, or create, and bring the warehouse up to its landfill; a lost warehouse is rebuilt first, and an erasure
    that was cut off is finished.

    What is damaged in the landfill is kept beside and counted. Raises DatabaseError when the warehouse is in use, no
    warehouse, damaged, or one from before an erasure.
    """
    is_lost = not places.warehouse.exists() and any(places.landfill.rglob("*" + journal.SUFFIX))
    rebuilt = rebuild(places) if is_lost else None
    finished = finish_erasures(places)
    opened = Warehouse(places.warehouse)
    try:
        check_erased(opened, places)
        log = Journal(places.landfill)
        try:
            found = catch_up(opened, log)
            aside = Quarantine(places.quarantine, places.quarantine_budget, partial(list_sizes, opened.con))
        except BaseException:
            log.close()
            raise
    except BaseException:
        opened.close()
        raise
    return Store(places, opened, log, aside, replace(rebuilt or found, finished_erasures=len(finished)))


def make_sound(store: Store) -> None:
    """Open everything anew and bring the warehouse up to its landfill. Raises UnavailableError while that fails."""
    with suppress(duckdb.Error):
        store.close()
    try:
        anew = open_store(store.places)
    except (OSError, duckdb.Error, DatabaseError, JournalError) as error:
        raise UnavailableError(f"the warehouse cannot be opened now: {type(error).__name__}") from error
    store.warehouse, store.landfill, store.quarantine = anew.warehouse, anew.landfill, anew.quarantine
    store.found, store.pages = anew.found, {}
    store.is_sound = True
