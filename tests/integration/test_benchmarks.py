"""The short form of the benchmarks: every row is produced and what is timed gives equal results. Nothing about time."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.__main__ import keep, load
from benchmarks.measure import Machine, Row, from_json

ROOT = Path(__file__).parents[2]
ROWS = {
    "codec": {
        "decode",
        "encode",
        "decode-interpreted",
        "encode-interpreted",
        "decode-floor",
        "encode-floor",
        "cold",
        "help",
    },
    "intake": {"intake", "intake-growth"},
    "sender": {"ship", "ship-growth", "record", "memory"},
}


@pytest.mark.parametrize("section", ROWS)
def test_every_row_of_the_table_is_produced(section: str) -> None:
    command = [sys.executable, "-m", "benchmarks", "section", section, "1", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = from_json(done.stdout.splitlines()[-1])
    assert {row.key for row in rows} == ROWS[section]
    assert all(row.figure > 0 for row in rows)


ROW = Row("decode", "decode", "ms", "JVM", "faster", 3, 8, [(5.0, 20.0), (4.0, 20.0), (8.0, 20.0)])


def test_a_row_is_judged_by_the_middle_of_its_ratios() -> None:
    assert (ROW.figure, ROW.other, ROW.ratio, ROW.verdict) == (5.0, 20.0, 4.0, "at least")
    assert replace(ROW, rounds=[(2.0, 20.0)]).verdict == "aim"
    assert replace(ROW, rounds=[(10.0, 20.0)]).verdict == "short"
    assert replace(ROW, rounds=[(5.0, 0.0)]).verdict == ""  # the peer was not there
    assert replace(ROW, judged="times", least=2.5, aim=1.5, rounds=[(4.0, 2.0)]).verdict == "at least"
    assert replace(ROW, judged="most", least=200, aim=100, rounds=[(250.0, 0.0)]).verdict == "short"


def test_a_kept_run_is_read_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.__main__.RESULTS", tmp_path / "results")
    path = keep([ROW], Machine("a processor", 2, "3.11", "Linux", "abc1234", compiled=True))
    assert load(path) == [ROW]
    assert json.loads(path.read_text())["machine"]["commit"] == "abc1234"
