"""No body costs more than its size allows: the hand-written ones, the corpus of the search, and a short search."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from penpot_telemetry.wire.limits import AT_WORK, MIB, RECEIPT, RESERVED
from tests.abuse.cost import cost_of, events_of, is_bounded, read_corpus, search
from tests.abuse.costly import COSTLY
from tests.integration.receiving import penpots_body

BATCHES = [name for name in COSTLY if not name.startswith("a report")]

MEASURE = """
import sys
from pathlib import Path
from receiver.intake.prepare import prepare

def peak():
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024

prepare(Path(sys.argv[1]).read_bytes())
for path in sys.argv[2:]:
    body = Path(path).read_bytes()
    before = peak()
    job = prepare(body)
    print(getattr(job.item, "reason", "loaded"), peak() - before, len(body))
"""


@pytest.mark.parametrize("name", BATCHES)
def test_a_costly_body_makes_no_more_rows_and_work_than_its_size_allows(name: str) -> None:
    cost = cost_of(events_of(COSTLY[name]()))
    assert is_bounded(cost), cost
    assert cost.rows + cost.work <= 2 * (RECEIPT.allowance(cost.received) + RECEIPT.work(cost.received))


@pytest.mark.parametrize("name", read_corpus())
def test_the_worst_bodies_that_the_search_found_are_bounded(name: str) -> None:
    cost = cost_of(read_corpus()[name])
    assert is_bounded(cost), cost


def test_a_short_search_finds_no_body_out_of_bounds() -> None:
    assert search(1.0, seed=7)  # raises AssertionError at the first


def test_a_page_of_a_penpot_stays_far_below_every_bound() -> None:
    for name in ("penpot-batch-1", "penpot-legacy-1"):
        cost = cost_of(events_of(penpots_body(name)))
        assert cost.outcome == "loaded"
        assert 2 * cost.rows < RECEIPT.allowance(cost.received)
        assert 5 * cost.inflated < RECEIPT.allowance(cost.received)
        assert 50 * cost.work < RECEIPT.work(cost.received)


def test_decoding_a_costly_body_takes_no_more_memory_than_is_set_aside(tmp_path: Path) -> None:
    warm = tmp_path / "warm"
    warm.write_bytes(penpots_body())
    files: list[Path] = []
    for make in COSTLY.values():
        files.append(tmp_path / str(len(files)))
        files[-1].write_bytes(make())
    line = [sys.executable, "-c", MEASURE, str(warm), *map(str, files)]
    limit = 3072 * MIB  # as compose and unit give it

    def under_limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    done = subprocess.run(line, capture_output=True, text=True, timeout=300, check=True, preexec_fn=under_limit)
    found = [line.split() for line in done.stdout.splitlines()]
    assert len(found) == len(COSTLY)
    for name, (_, growth, size) in zip(COSTLY, found, strict=True):
        assert int(growth) <= RECEIPT.reserved(int(size)), name


def test_two_bodies_of_any_size_can_be_decoded_at_once() -> None:
    assert 2 * RESERVED * RECEIPT.decoded <= AT_WORK


def test_a_name_that_is_referred_to_counts_at_its_full_length_for_every_event() -> None:
    body = COSTLY["a name of 250 control characters"]()
    cost = cost_of(events_of(body))
    assert len(body) < 1_000
    assert cost.outcome == "too-large"
