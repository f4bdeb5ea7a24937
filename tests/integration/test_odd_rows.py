"""One odd row costs one event: its neighbours arrive, it waits in quarantine with a reason, and the account is green.

Rows are written as plain SQL, as another program would. Behind the sender stands the receiver's own pipeline.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from psycopg import Connection

from penpot_telemetry import account, dead_letters, pass_report, pipeline, preview
from penpot_telemetry.config import Settings
from penpot_telemetry.endpoint import Endpoint
from penpot_telemetry.status import read_status
from penpot_telemetry.wire.limits import BATCH_ROWS
from tests.conftest import NOON, make_events
from tests.crash.house import Front, House, open_front
from tests.property.neighbour import INSERT, LARGE, nest

PLAIN: Mapping[str, object] = {
    "name": "odd",
    "type": "action",
    "created_at": "2026-07-20",
    "tracked_at": "2026-07-20",
    "props": '{"~:route":"dashboard-files"}',
    "source": "telemetry:frontend",
    "context": '{"~:browser":"Firefox"}',
}


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    """A door on loopback."""
    with open_front() as found:
        yield found


@pytest.fixture
def house(front: Front, tmp_path: Path) -> Iterator[House]:
    """A receiver behind it."""
    found = House(tmp_path, NOON)
    front.post, front.get = found.take, lambda path: (200, found.list_batches(path))
    yield found
    found.store.close()


@pytest.fixture
def sending(settings: Settings, front: Front, house: House) -> Settings:  # noqa: ARG001  the receiver stands behind it
    """Settings that ship to that receiver."""
    return replace(settings, endpoint=Endpoint(front.url))


def write(conn: Connection, **changes: object) -> None:
    """A row that another program wrote."""
    conn.execute(INSERT, {"id": uuid4(), **PLAIN, **changes})


def check(conn: Connection, settings: Settings) -> list[str]:
    """Everything adds up and nothing waits; the reasons of the quarantine."""
    status = read_status(conn, settings)
    assert (status.adds_up, status.pending, status.missing) == (True, 0, 0)
    return [row.reason for row in dead_letters.read_dead_letters(conn)]


# -- rows that are written during a pass -----------------------------------------------------------------------------


def test_rows_that_penpot_writes_during_a_pass_are_counted_before_they_are_sent(
    conn: Connection, sending: Settings, house: House
) -> None:
    """Rows adopted only at the start of a pass made the waiting events negative, and batches were lost."""
    settings = replace(sending, batch_rows=1)
    pipeline.record_events(conn, make_events(1), settings)
    written: list[str] = []

    def progress(_: pass_report.PassReport) -> None:
        if len(written) < 3:
            written.append(f"during-{len(written)}")
            write(conn, name=written[-1])

    report = pipeline.run_pass(conn, settings, progress=progress)
    assert (report.shipped, report.refused, report.failure) == (4, 0, None)
    assert house.marks() == {"e-0": 1, **dict.fromkeys(written, 1)}
    assert check(conn, settings) == []
    state = account.read_state(conn)
    assert (state.recorded, state.adopted, state.shipped) == (1, 3, 4)


# -- odd values ------------------------------------------------------------------------------------------------------

AS_EMPTY: Mapping[str, Mapping[str, object]] = {
    "props are NULL": {"props": None},
    "props are JSON null": {"props": "null"},
    "context is NULL": {"context": None},
    "context is JSON null": {"context": "null"},
    "tracked_at is NULL": {"tracked_at": None},
}
"""Penpot reads these as an empty map, and as the day of created_at."""

ASIDE: Mapping[str, Mapping[str, object]] = {
    "props are a list": {"props": "[]"},
    "props are a number": {"props": "5"},
    "props are a string": {"props": '"x"'},
    "context is a list": {"context": "[]"},
    "context is a number": {"context": "5"},
    "context is a string": {"context": '"x"'},
    "a string over 1 MiB in the name": {"name": LARGE},
    "a string over 1 MiB in props": {"props": json.dumps({"~:route": LARGE})},
    "nesting of 127": {"props": nest(127)},
    "nesting of 200": {"props": nest(200)},
    "tracked_at is infinite": {"tracked_at": "infinity"},
    "tracked_at is before all time": {"tracked_at": "-infinity"},
    "tracked_at is BC": {"tracked_at": "0044-03-15 BC"},
    "tracked_at is in the year 20000": {"tracked_at": "20000-01-01"},
    "created_at is infinite": {"created_at": "infinity", "tracked_at": None},
}

AS_REDUCED: Mapping[str, Mapping[str, object]] = {
    "a string over 1 MiB under a safe context key": {"context": json.dumps({"~:browser": LARGE})},
    "a context nested 200 deep": {"context": nest(200)},
}
"""Of a context only what is known to be safe leaves, be it nothing."""


@pytest.mark.parametrize("kind", [*AS_EMPTY, *AS_REDUCED])
def test_a_row_that_is_only_unusual_is_loaded(kind: str, conn: Connection, sending: Settings, house: House) -> None:
    pipeline.record_events(conn, make_events(9), sending)
    write(conn, **{**AS_EMPTY, **AS_REDUCED}[kind])
    report = pipeline.run_pass(conn, sending)
    assert (report.shipped, report.refused, report.quarantined, report.failure) == (10, 0, 0, None)
    assert house.marks() == {"odd": 1, **{f"e-{n}": 1 for n in range(9)}}
    assert check(conn, sending) == []


@pytest.mark.parametrize("kind", ASIDE)
def test_an_odd_row_costs_only_itself(kind: str, conn: Connection, sending: Settings, house: House) -> None:
    pipeline.record_events(conn, make_events(9), sending)
    write(conn, **ASIDE[kind])
    status = read_status(conn, sending)  # neither a look nor a preview stumbles
    assert status.pending == 10
    first = preview.preview_batch(conn, sending)
    assert first is not None
    assert (first.event_count, first.odd) == (9, 1)
    report = pipeline.run_pass(conn, replace(sending, cap_rows=5, retention_days=10_000))
    assert (report.shipped, report.refused, report.quarantined, report.dropped, report.failure) == (9, 0, 1, 0, None)
    assert house.marks() == {f"e-{n}": 1 for n in range(9)}
    (reason,) = check(conn, sending)
    assert reason
    assert LARGE[:100] not in reason


def test_a_full_page_with_one_odd_row_arrives_but_for_that_row(
    conn: Connection, sending: Settings, house: House
) -> None:
    pipeline.record_events(conn, make_events(BATCH_ROWS - 1), sending)
    write(conn, props="[]")
    report = pipeline.run_pass(conn, sending)
    assert (report.shipped, report.quarantined, report.refused, report.failure) == (BATCH_ROWS - 1, 1, 0, None)
    assert house.marks().total() == BATCH_ROWS - 1
    assert len(check(conn, sending)) == 1


# -- a success that is no receipt ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "page", [(200, b"<html>down for maintenance</html>"), (204, b""), (200, b'{"status":"accepted"}')]
)
def test_a_page_before_the_receiver_takes_nothing(
    page: tuple[int, bytes], conn: Connection, sending: Settings, front: Front, house: House
) -> None:
    """The address has given receipts, so a maintenance page or the 204 of a portal is none."""
    pipeline.record_events(conn, make_events(1), sending)
    assert pipeline.run_pass(conn, sending).shipped == 1
    pipeline.record_events(conn, make_events(1, start=1), sending)
    front.post = lambda _: page
    report = pipeline.run_pass(conn, sending)
    assert (report.shipped, report.pending) == (0, 1)
    assert report.failure
    assert "gave no receipt" in report.failure
    front.post = house.take
    assert pipeline.run_pass(conn, sending).shipped == 1
    assert house.marks() == {"e-0": 1, "e-1": 1}
    assert check(conn, sending) == []
