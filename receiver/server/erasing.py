"""An erasure while the server runs: the writer stands between two transactions, and the files are opened anew.

What is delivered waits, or is answered 503 when it waits too long; readers are answered 503. Killed at any point, it is
finished by the next start, as one of the command alone would be.
"""

import time

import duckdb
import structlog

from receiver.lifecycle.erase_request import EraseAnswer, EraseRequest, describe_stop, find_ids
from receiver.lifecycle.erasure import begin_erasure
from receiver.lifecycle.startup import make_sound
from receiver.server.publisher import Publisher
from receiver.server.writer import Writer
from receiver.storage import tombstones
from receiver.storage.store import Store, UnavailableError

log = structlog.get_logger("receiver.server.erasing")


def erase(writer: Writer, publisher: Publisher, asked: EraseRequest) -> EraseAnswer:
    """Carry out what is asked, for a thread that may wait. Raises UnavailableError, and as `begin_erasure` does.

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
    """The same for a store that nobody writes to. What is opened anew is finished first, now or by the writer later."""
    began = time.monotonic()
    ids = find_ids(store.warehouse.con, asked)
    if not ids:
        return EraseAnswer(ids)
    first = begin_erasure(store, asked.scope, ids)
    store.is_sound = False
    try:
        make_sound(store)
    except UnavailableError as error:
        cause = error.__cause__
        raise UnavailableError(
            describe_stop(cause) if isinstance(cause, OSError | duckdb.Error) else str(error)
        ) from error
    receipts = tombstones.read(store.places.tombstones).erasures[first - 1 :]
    log.info("erased", scope=asked.scope, ids=len(ids), seconds=round(time.monotonic() - began, 1))
    return EraseAnswer(ids, receipts)
