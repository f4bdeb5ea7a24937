"""The second line of privacy: what a context may hold when it reaches a frame, whoever sent it."""

import pytest

from penpot_telemetry.wire import blob, fressian, kernel
from penpot_telemetry.wire.batch import encode_events
from receiver.frames import count_common, decode_batch, keep_safe_keys, mark_events, read_rows, write_rows
from tests.integration.receiving import event, rows

CASES = [
    # source, context as sent, context as kept, keys dropped
    ("telemetry", '{"browser":"Firefox"}', '{"browser":"Firefox"}', 0),
    ("telemetry", '{"browser":"Firefox","email":"ana@example.org"}', '{"browser":"Firefox"}', 1),
    ("telemetry", '{"browser":["ana@example.org"]}', "{}", 1),
    ("telemetry", '{"browser":{"a":1},"ip":"192.0.2.1"}', "{}", 2),
    ("telemetry", "{}", "{}", 0),
    ("a source that nobody knows", '{"browser":"Firefox"}', "{}", 1),
    ("telemetry", '["browser"]', "{}", 1),
    ("telemetry", "\ud800", "{}", 1),
]


@pytest.mark.parametrize(("source", "sent", "kept", "dropped"), CASES, ids=[str(n) for n in range(len(CASES))])
def test_a_context_keeps_the_safe_scalars_of_its_source_only(source: str, sent: str, kept: str, dropped: int) -> None:
    assert keep_safe_keys(source, sent) == (kept, (), dropped)


def test_a_frame_kept_as_lines_is_the_same_frame_again() -> None:
    frame = decode_batch(encode_events(rows(3)))
    read, letters = read_rows(write_rows(frame))
    assert read.equals(frame)
    assert letters == []


@pytest.mark.parametrize("compiled", [True, False])
def test_half_a_surrogate_pair_in_a_word_costs_that_character_only(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "COMPILED", compiled)
    data = fressian.dumps([event(name="open\ud83d"), event(name="\U0001f600")])
    frame = decode_batch(blob.encode_str(data))
    assert frame["name"].to_list() == ["open\ufffd", "\U0001f600"]


def test_common_events_are_matched_once_each() -> None:
    one, other = (decode_batch(encode_events(found)) for found in (rows(2) + rows(1), rows(3)))
    assert count_common(mark_events(one), mark_events(other)) == 2
