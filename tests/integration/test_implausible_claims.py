"""Sequence numbers and totals that nobody can have: they are marked, and no sum of honest senders has them.

The rows are written by hand, as a receiver would have them. The bounds are said in full: one full batch of 10,000
events a minute is 1,440 numbers and 14,400,000 events a day.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from uuid import UUID

import duckdb
import polars as pl
import pytest

from receiver.questions.run import Asked, answer
from receiver.reports.account import read_account
from receiver.reports.instances import list_instances
from tests.property.filled import create_warehouse, fill
from tests.property.reference import Batch, Event, World

DAY = timedelta(days=1)
FIRST = date(2026, 3, 2)
ONE, OTHER, STRANGER = (UUID(int=(1 << 100) + n) for n in range(3))
FAR = 10**11
MOST = 2**63 - 1


def sent(  # noqa: PLR0913  what a batch claims
    instance: UUID, day: int, seq: int, dropped: int = 0, *, recorded: int = 1_000, set_aside: int = 0
) -> Batch:
    """A numbered batch with one event of the day before."""
    event = Event(FIRST + (day - 1) * DAY, "navigate", instance)
    return Batch(instance, "2.18.0", FIRST + day * DAY, (event,), seq=seq, totals=(recorded + seq, dropped, set_aside))


HONEST = (
    sent(ONE, 1, 1),
    sent(OTHER, 1, 4),  # 1 to 3 are missing
    sent(ONE, 2, 3, dropped=700),  # 2 is missing
    sent(OTHER, 3, 5, dropped=20, set_aside=2),
    sent(ONE, 3, 4, dropped=900),
)


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    con = create_warehouse()
    yield con
    con.close()


def ask(con: duckdb.DuckDBPyConnection, question: str, batches: tuple[Batch, ...]) -> pl.DataFrame:
    """The answer's own columns: who reported at all is another matter."""
    fill(con, World(tuple(sorted(batches, key=lambda batch: batch.received_on))))
    frame = answer(con, question, Asked(threshold=1))
    return frame.drop("instances_reporting", "instances_known", "coverage", "fresh_at", "is_open")


def lie(number: int, *batches: Batch) -> list[Batch]:
    """The same from a stranger with an id of its own."""
    return [replace(batch, instance=UUID(int=STRANGER.int + number)) for batch in batches]


LARGEST = [sent(STRANGER, 2, MOST - n, dropped=MOST, recorded=n * -2) for n in range(3)]
LIES = [
    *LARGEST,
    *lie(1, replace(sent(STRANGER, 2, FAR), totals=None)),
    *lie(2, sent(STRANGER, 2, 1, dropped=FAR, recorded=3 * FAR)),
    *lie(3, sent(STRANGER, 2, FAR, set_aside=FAR)),
    # each step is small, a day of them is not
    *lie(4, *(sent(STRANGER, 2, 1 + 1_440 * n, dropped=14_400_000 * n) for n in range(1, 5))),
    # four lives in one day, each with what would do for a day
    *lie(5, *(sent(STRANGER, 2, FAR + n, dropped=14_000_000, recorded=-3 * n) for n in range(1, 5))),
]


def test_honest_losses_and_gaps_are_what_they_would_be_without_the_strangers(con: duckdb.DuckDBPyConnection) -> None:
    for question in ("sender_loss", "sequence_gaps"):
        strangers = [b for b in LIES if b.totals] if question == "sender_loss" else [b for b in LIES if b.seq != 1]
        alone, beside = ask(con, question, HONEST), ask(con, question, (*HONEST, *strangers))
        assert beside["instances_implausible"].to_list() == [0, 0, 5, 0], question
        assert beside.drop("instances_implausible").equals(alone.drop("instances_implausible")), question
        assert alone["instances_implausible"].sum() == 0


def test_the_account_and_the_list_of_instances_say_who_claims_too_much(con: duckdb.DuckDBPyConnection) -> None:
    fill(con, World(HONEST))
    before = read_account(con)
    assert (before.lost_at_senders, before.missing_batches, before.implausible_instances) == (922, 4, 0)
    fill(con, World((*HONEST[:3], *LARGEST, *HONEST[3:])))
    found = read_account(con)
    assert (found.lost_at_senders, found.missing_batches, found.implausible_instances) == (922, 4, 1)
    assert (found.losses, found.gaps) == (before.losses, before.gaps)
    listed = {one.instance_id: one for one in list_instances(con, vouch_days=3).instances}
    claims = {i: (one.missing, one.lost, one.implausible_days) for i, one in listed.items()}
    assert claims == {ONE: (1, 900, 0), OTHER: (3, 22, 0), STRANGER: (0, 0, 1)}
    assert {i: (one.days, one.is_vouched) for i, one in listed.items()} == {
        ONE: (3, True),
        OTHER: (2, False),
        STRANGER: (1, False),
    }


@pytest.mark.parametrize(
    ("silent_days", "seq", "dropped", "is_plausible"),
    [
        (1, 1 + 1_441, 14_400_000, True),
        (1, 1 + 1_442, 0, False),
        (1, 2, 14_400_001, False),
        (10, 1 + 14_401, 144_000_000, True),
        (10, 1 + 14_402, 144_000_001, False),
    ],
)
def test_a_sender_that_was_silent_for_long_may_have_lost_more(
    con: duckdb.DuckDBPyConnection, silent_days: int, seq: int, dropped: int, *, is_plausible: bool
) -> None:
    fill(con, World((sent(ONE, 1, 1), sent(ONE, 1 + silent_days, seq, dropped=dropped, recorded=2 * dropped))))
    found = read_account(con)
    assert found.implausible_instances == (not is_plausible)
    if is_plausible:
        assert (found.lost_at_senders, found.missing_batches) == (dropped, seq - 2)
