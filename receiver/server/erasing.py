"""An erasure while the server runs: the writer stands between two transactions, and its files are closed meanwhile.

What is delivered waits, or is answered 503 when it waits too long; readers are answered 503. Killed at any point, it is
finished by the next start, as one of the command alone would be.
"""

import time
from contextlib import suppress

import structlog

from receiver.lifecycle.erase import erase_ids
from receiver.lifecycle.erase_request import EraseAnswer, EraseRequest, find_ids
from receiver.lifecycle.startup import make_sound
from receiver.server.publisher import Publisher
from receiver.server.writer import Writer
from receiver.storage.store import Store, UnavailableError

log = structlog.get_logger("receiver.server.erasing")


def erase(writer: Writer, publisher: Publisher, asked: EraseRequest) -> EraseAnswer:
    """Carry out what is asked, for a thread that may wait. Raises UnavailableError, and as `erase_ids` does.

    No snapshot is made meanwhile: it would hold what goes.
    """
    if asked.dry_run:
        with writer.store.reader() as con:
            return EraseAnswer(find_ids(con, asked))
    with publisher.paused(), writer.held() as store:
        if store is None or not store.is_sound:
            raise UnavailableError("the warehouse cannot be written now")
        return erase_held(store, asked)


def erase_held(store: Store, asked: EraseRequest) -> EraseAnswer:
    """The same for a store that nobody writes to. Whatever happens, it is opened again, at once or by the writer."""
    began = time.monotonic()
    ids = find_ids(store.warehouse.con, asked)
    if not ids:
        return EraseAnswer(ids)
    store.is_sound = False
    try:
        store.close()
        receipts = erase_ids(store.places, asked.scope, ids)
    finally:
        with suppress(UnavailableError):
            make_sound(store)
    log.info("erased", scope=asked.scope, ids=len(ids), seconds=round(time.monotonic() - began, 1))
    return EraseAnswer(ids, receipts)
