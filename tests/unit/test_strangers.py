"""What the text of strangers may not do to a chart, a spreadsheet, or a terminal."""

import asyncio
import os
import pty
import subprocess
import sys

import polars as pl
import pytest

from receiver.dashboard.chart_process import ChartWorker, ChartWorkerError
from receiver.questions.cards import find_card
from receiver.questions.sanitize import LABEL, make_labels, make_printable, write_csv

NASTY = ["\u2028", "a\u2028b\u2029c", "\U0001f600" * 200, "x" * 500_000, "x" * 499_999, "\ufeff", "e\u0301" * 100]


@pytest.mark.parametrize(
    "begin", ["=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", " =", "\u3000=", "\u00a0@"]
)
def test_a_cell_that_a_spreadsheet_would_compute_is_a_text(begin: str) -> None:
    cell = write_csv(pl.DataFrame({"name": [begin + "1+1"]})).splitlines()[1].strip('"')
    assert cell.startswith("'")


def test_a_mark_of_byte_order_hides_no_formula() -> None:
    assert write_csv(pl.DataFrame({"name": ["\ufeff=1+1"]})) == "name\n\N{REPLACEMENT CHARACTER}=1+1\n"


def test_labels_are_short_and_told_apart_and_have_no_character_that_can_be_cut_in_two() -> None:
    frame = pl.DataFrame({"name": [*NASTY, None], "n": range(len(NASTY) + 1)})
    labels = make_labels(frame)["name"].to_list()
    texts = [text for text in labels if text is not None]
    assert labels[-1] is None
    assert len(set(texts)) == len(NASTY)
    assert all(len(text) <= LABEL + len(" (9)") and "\u2028" not in text and max(text) <= "\uffff" for text in texts)
    assert make_labels(make_labels(frame)).equals(make_labels(frame))


def test_a_terminal_gets_lines_and_no_commands() -> None:
    hostile = "one\n\ttwo\x1b]0;title\x07\x9b31m\r\u202e"
    assert make_printable(hostile) == "one\n\ttwo�]0;title��31m��"


def features(names: list[str]) -> pl.DataFrame:
    """An answer to `feature_usage` of these names, with what the chart needs."""
    card = find_card("feature_usage")
    numbers = {name: [7] * len(names) for name in card.columns}
    frame = pl.DataFrame(numbers | {"name": names, "type": ["action"] * len(names)})
    return frame.with_columns(is_open=pl.lit(value=False), suppressed=pl.lit(value=False))


@pytest.mark.slow
def test_nasty_names_are_drawn_and_what_fails_is_not_tried_again() -> None:
    async def run() -> tuple[bytes, bool]:
        worker = ChartWorker()
        try:
            picture = await worker.draw("feature_usage", features([*NASTY, "navigate"]), width=390, is_dark=False)
            broken = pl.DataFrame({"name": ["navigate"]})
            with pytest.raises(ChartWorkerError):
                await worker.draw("feature_usage", broken, width=390, is_dark=False)
            await worker.close()
            with pytest.raises(ChartWorkerError):  # without a process, so nothing was tried
                await worker.draw("feature_usage", broken, width=390, is_dark=False)
            return picture, worker._process is None
        finally:
            await worker.close()

    picture, was_idle = asyncio.run(run())
    assert b"<svg" in picture
    assert b"navigate" in picture
    assert was_idle


@pytest.mark.slow
def test_quarantine_show_gives_a_pipe_the_bytes_and_a_terminal_no_commands() -> None:
    program = "import sys; from receiver.cli.quarantine import show_body; show_body(b'a\\x1b[2Jb')"
    piped = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout
    assert piped == b"a\x1b[2Jb"
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", program], stdout=theirs, check=True)
    os.close(theirs)
    shown = os.read(ours, 100).decode()
    os.close(ours)
    assert shown.splitlines() == ["a�[2Jb"]
