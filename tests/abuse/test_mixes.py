"""Each mix of abuse in its short form: honest batches land meanwhile, memory is bounded, every answer was true."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.abuse.mixes import KINDS, SLOW
from tests.abuse.suite import list_mixes, run_mix

MIXES = {mix.name: mix for mix in list_mixes(1)}

LEAST: Mapping[str, Mapping[str, int]] = {
    "costly bodies": {"quarantined too-large": 50, "quarantined wrong-shape": 4},
    "bombs": {"quarantined too-large": 6, "quarantined bad-fressian": 5},
    "100 % invalid": {"quarantined not-json": 10, "quarantined bad-blob": 5},
    "200 slow connections": {"408": SLOW // 3, "no answer": SLOW // 3},
    "odd requests": {"accepted": 80 // len(KINDS), "400": 1},
    "damaged requests": {"400": 500, "accepted": 10, "quarantined not-json": 100},
}
"""Answers without which a mix has not done what it is for."""


@pytest.mark.parametrize("name", MIXES)
def test_abuse_costs_honest_senders_nothing_that_was_acknowledged(name: str, tmp_path: Path) -> None:
    came = run_mix(tmp_path, MIXES[name])
    assert came.problems == []
    answers, book = came.ground.answers, came.ground.book
    assert {word: n for word, n in LEAST.get(name, {}).items() if answers[word] < n} == {}
    assert "Traceback" not in came.ground.receiver.log
    assert "ASGI" not in came.ground.receiver.log
    if name == "200 slow connections":
        assert book.refusals[503] == 0  # they hold no place that an honest batch needs
    if name in ("too many at once", "files may not grow"):
        assert book.refusals[503] > 0
    if name == "kill -9":
        assert book.unanswered
