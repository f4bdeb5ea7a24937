"""The one thread that writes: what waits goes together, and a request that went away brings nothing down."""

from pathlib import Path

from receiver.pipeline import Places, open_store, prepare
from receiver.writer import Writer
from tests.integration.receiving import body_of, rows


def test_a_receipt_that_nobody_waits_for_does_not_stop_the_writer(tmp_path: Path) -> None:
    places = Places(tmp_path / "w.duckdb", tmp_path / "landfill", tmp_path / "quarantine")
    with open_store(places) as store:
        writer = Writer(store)
        kept = [writer.submit(prepare(body_of(rows(1, number)))) for number in range(3)]
        assert kept[1].cancel()
        with writer:
            assert [kept[number].result(20).status for number in (0, 2)] == ["accepted", "accepted"]
            later = writer.submit(prepare(body_of(rows(1, 9))))
            assert later.result(20).status == "accepted"
            assert writer.is_running
        assert store.warehouse.con.execute("SELECT count(*) FROM events").fetchall() == [(3,)]
