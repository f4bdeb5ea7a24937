"""A warehouse opened for reading, asked from Python and from a shell, and what is generated from the cards."""

import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest
from click.testing import CliRunner

import receiver
from penpot_telemetry.errors import DatabaseError
from receiver.cli.ask import ask
from receiver.questions import dictionary, methods
from receiver.questions.cards import SHARED_COLUMNS, CardError, QuestionError, all_cards, read_card
from receiver.questions.charts import draw
from receiver.questions.reader import OpenWarehouse, save, snapshot_of
from receiver.questions.run import answer, read_asked
from receiver.storage import rollups
from receiver.storage.warehouse import Warehouse
from tests.property.filled import fill
from tests.property.reference import MONDAY, Batch, Event, World
from tests.property.worlds import INSTANCES, PROFILES

DAY = timedelta(days=1)
QUESTIONS = sorted(all_cards())


def busy_world() -> World:
    """Five instances, nine profiles, six weeks; the last page of each instance has come by the last day."""
    batches = []
    for n in range(42):
        for k, instance in enumerate(INSTANCES):
            people = [PROFILES[(n + k + j) % len(PROFILES)] for j in range(3)]
            events = [Event(MONDAY + n * DAY, "navigate", person, "Chrome", 1920) for person in people]
            version = "2.10.0" if n < 20 + k else "2.11.0"
            batches.append(Batch(instance, version, MONDAY + (n + 1) * DAY, tuple(events), seq=n + 1))
    return World(tuple(batches))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse on disk, made as the receiver makes one."""
    path = tmp_path_factory.mktemp("analysis") / "telemetry.duckdb"
    with Warehouse(path) as warehouse:
        rollups.create(warehouse.con)
        fill(warehouse.con, busy_world())
    return path


@pytest.fixture
def opened(path: Path) -> Iterator[OpenWarehouse]:
    with receiver.open_warehouse(path) as opened:
        yield opened


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_answer_has_the_columns_of_its_card(opened: OpenWarehouse, question: str) -> None:
    frame = getattr(opened, question)(threshold=2)
    assert isinstance(frame, pl.DataFrame)
    assert frame.columns == list(opened.card(question).columns)
    assert frame.columns[-len(SHARED_COLUMNS) :] == list(SHARED_COLUMNS)
    assert frame.equals(opened.ask(question, threshold=2))


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_can_be_pasted_into_a_shell_as_it_is(path: Path, question: str) -> None:
    with duckdb.connect(str(path), read_only=True) as con:
        pasted = con.sql(all_cards()[question].sql).pl()
        assert pasted.equals(answer(con, question))


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_question_has_a_chart_even_of_nothing(opened: OpenWarehouse, question: str) -> None:
    chart = opened.chart(question, threshold=1).to_dict()
    assert chart["title"]["text"] == opened.card(question).title
    assert chart["title"]["subtitle"][0] == opened.card(question).question
    empty = draw(opened.card(question), opened.ask(question).clear()).to_dict()
    assert empty["title"]["text"] == opened.card(question).title


def test_a_chart_tells_open_days_apart_and_names_its_denominator(opened: OpenWarehouse) -> None:
    chart = opened.chart("active_profiles", threshold=1)
    (points,) = chart.to_dict()["datasets"].values()
    assert {point["state"] for point in points} == {"closed", "open"}
    subtitle = " ".join(chart.to_dict()["title"]["subtitle"])
    assert "5 of 5 known instances reporting (100%)" in subtitle
    assert "still open: dashed" in subtitle


def test_a_picture_can_be_made_of_a_chart(opened: OpenWarehouse, tmp_path: Path) -> None:
    opened.chart("weekly_cohorts", threshold=1).save(str(tmp_path / "cohorts.png"))
    assert (tmp_path / "cohorts.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_empty_warehouse_has_no_answers_and_no_errors(tmp_path: Path, question: str) -> None:
    with Warehouse(tmp_path / "empty.duckdb") as warehouse:
        rollups.create(warehouse.con)
        assert answer(warehouse.con, question).is_empty()


def test_an_analyst_may_ask_in_sql_and_change_nothing(opened: OpenWarehouse) -> None:
    frame = opened.sql("SELECT count(*) AS n FROM events WHERE name = $name", {"name": "navigate"})
    assert frame.item() == 630
    with pytest.raises(QuestionError, match="read-only"):
        opened.sql("DELETE FROM events")


def test_filters_narrow_an_answer(opened: OpenWarehouse) -> None:
    frame = opened.active_profiles(
        first_day="2026-03-10", last_day=date(2026, 3, 12), instance=INSTANCES[0], version="2.10.0", threshold=1
    )
    assert frame["day"].to_list() == [date(2026, 3, 10) + n * DAY for n in range(3)]
    assert frame["active_1d"].to_list() == [3, 3, 3]


HOSTILE = ["'; DROP TABLE events; --", "2.10.0' OR '1'='1", "$1", "\x00", "🙂" * 1000, "x') FROM meta --"]


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_values_are_values(opened: OpenWarehouse, value: str) -> None:
    assert opened.versions_seen(version=value, threshold=1).is_empty()
    for name in ("first_day", "last_day", "instance", "threshold", "vouch_days"):
        with pytest.raises(QuestionError, match=name):
            read_asked(**{name: value})
    with pytest.raises(QuestionError, match="no question"):
        opened.ask(value)
    assert opened.sql("SELECT count(*) FROM events").item() == 630


def test_asking_leaves_the_connection_as_it_was(path: Path) -> None:
    with duckdb.connect(str(path), read_only=True) as con:
        answer(con, "overview", read_asked(version="2.11.0", threshold=7))
        assert con.execute("SELECT getvariable('version'), getvariable('threshold')").fetchall() == [(None, None)]


def test_days_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(QuestionError, match="first_day is 2026-03-02, after last_day, 2026-03-01"):
        read_asked("2026-03-02", "2026-03-01")


def test_an_unknown_question_is_told_what_is_close(opened: OpenWarehouse) -> None:
    with pytest.raises(QuestionError, match="did you mean stickiness"):
        opened.ask("stickyness")


def test_a_missing_warehouse_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="is not there"):
        receiver.open_warehouse(tmp_path / "none.duckdb")


def test_a_newer_warehouse_is_refused(tmp_path: Path) -> None:
    with Warehouse(tmp_path / "newer.duckdb") as warehouse:
        rollups.create(warehouse.con)
        warehouse.con.execute("UPDATE meta SET value = '99' WHERE key = 'schema-version'")
    with pytest.raises(DatabaseError, match="99"):
        receiver.open_warehouse(tmp_path / "newer.duckdb")


def test_a_file_that_is_no_warehouse_is_refused(tmp_path: Path) -> None:
    duckdb.connect(str(tmp_path / "other.duckdb")).close()
    with pytest.raises(DatabaseError, match="not a warehouse"):
        receiver.open_warehouse(tmp_path / "other.duckdb")


HOLD = "import sys, duckdb; con = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


@pytest.fixture
def held(path: Path, tmp_path: Path) -> Iterator[Path]:
    """A warehouse that another process holds, as a server does."""
    copy = tmp_path / "telemetry.duckdb"
    copy.write_bytes(path.read_bytes())
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(copy)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield copy
        process.communicate()


def test_the_snapshot_is_opened_while_a_server_has_the_file(held: Path, path: Path) -> None:
    with pytest.raises(DatabaseError, match=r"in use by a server and has no snapshot"):
        receiver.open_warehouse(held)
    with duckdb.connect() as con:
        con.execute(f"ATTACH '{path}' AS live (READ_ONLY)")
        con.execute(f"ATTACH '{snapshot_of(held)}' AS copy")
        con.execute("COPY FROM DATABASE live TO copy")
    with receiver.open_warehouse(held) as opened:
        assert opened.is_snapshot
        assert opened.path == snapshot_of(held)
        assert "fresh at 2026-04-13" in repr(opened)
        with receiver.open_warehouse(path) as live:
            assert opened.active_profiles().equals(live.active_profiles())


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.arrow", "a.json"])
def test_an_answer_is_the_same_when_read_back(opened: OpenWarehouse, tmp_path: Path, name: str) -> None:
    frame = opened.active_profiles(threshold=1)
    target = save(frame, tmp_path / name)
    readers: dict[str, Callable[[Path], pl.DataFrame]] = {
        ".parquet": pl.read_parquet,
        ".arrow": pl.read_ipc,
        ".json": pl.read_json,
    }
    read = pl.read_csv(target, try_parse_dates=True) if name == "a.csv" else readers[target.suffix](target)
    assert read["active_28d"].to_list() == frame["active_28d"].to_list()
    if target.suffix in {".parquet", ".arrow"}:
        assert read.equals(frame)


def run(path: Path, *arguments: str, width: str = "80") -> str:
    result = CliRunner(env={"COLUMNS": width}).invoke(ask, ["--warehouse", str(path), *arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("question", QUESTIONS)
def test_ask_prints_what_fits_the_terminal(path: Path, question: str) -> None:
    for form in ((), ("--chart",)):
        lines = run(path, question, "--threshold", "1", *form).splitlines()
        assert max(map(len, lines)) <= 80
    assert all_cards()[question].question[:20] in run(path, "--card", question)


def test_ask_lists_and_writes_files(path: Path, tmp_path: Path) -> None:
    assert "weekly_cohorts" in run(path, "--list")
    run(path, "active-profiles", "--out", str(tmp_path / "a.parquet"), f"--chart={tmp_path / 'a.svg'}")
    assert pl.read_parquet(tmp_path / "a.parquet").columns == list(all_cards()["active_profiles"].columns)
    assert (tmp_path / "a.svg").read_text().startswith("<svg")
    narrowed = run(path, "overview", "--first-day", "2026-03-10", "--last-day", "2026-03-12", "--threshold", "1")
    assert "2026-03-10" in narrowed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("stickines",), "did you mean stickiness"),
        (("overview", "--first-day", "yesterday"), "first_day is not a day"),
        (("overview", "--vouch-days", "-1"), "vouch_days is not between"),
        (("overview", "--chart=a.gif"), "ends with none of .png"),
        (("overview", "--out", "a.xls"), "ends with none of .parquet"),
        (("overview", "--out", "/nowhere/a.csv"), "/nowhere is not a folder"),
    ],
)
def test_ask_ends_with_one_line_when_it_cannot(path: Path, arguments: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(ask, ["--warehouse", str(path), *arguments])
    assert result.exit_code == 1
    assert said in result.output
    assert "Traceback" not in result.output


def test_import_receiver_stays_light() -> None:
    code = "import sys, receiver; sys.exit(bool({'duckdb', 'polars', 'altair'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_generated_is_not_stale() -> None:
    again = "run `python -m receiver.questions.dictionary`"
    assert dictionary.DICTIONARY.read_text() == dictionary.dictionary_text(), again


def test_each_question_is_a_method_with_its_card_as_help_and_editors_know_it(opened: OpenWarehouse) -> None:
    stub = (Path(methods.__file__).with_suffix(".pyi")).read_text()
    assert re.findall(r"^    (\w+): Question$", stub, re.MULTILINE) == sorted(all_cards())
    asked = list(inspect.signature(opened.ask).parameters)[1:]
    for name, card in all_cards().items():
        method = getattr(opened, name)
        assert list(inspect.signature(method).parameters) == asked
        assert (method.__name__, inspect.getdoc(method)) == (name, methods.describe(card))
    with pytest.raises(TypeError):
        opened.active_profiles(first="2026-03-01")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda sql: sql.replace("-- traps:", "-- caps:"), "no '-- traps: …'"),
        (lambda sql: sql.replace("-- unit: profiles", "-- unit: people"), "unit is not one of"),
        (lambda sql: sql.replace("y=active_28d", "y=active_30d"), "active_30d"),
        (lambda sql: sql.replace("--   coverage: ", "--   cover: "), "must end with"),
        (lambda sql: sql.replace("-- title:", "-- title: twice\n-- title:"), "title is there twice"),
        (lambda sql: "-- hello\n" + sql, "line 1"),
    ],
)
def test_a_header_that_lacks_something_is_refused(spoil: Callable[[str], str], said: str) -> None:
    with pytest.raises(CardError, match=said.replace("(", r"\(")):
        read_card("spoilt", spoil(all_cards()["active_profiles"].sql))


def test_a_warehouse_from_before_the_rollups_gets_them(tmp_path: Path) -> None:
    world = busy_world()
    with Warehouse(tmp_path / "old.duckdb") as warehouse:
        rollups.create(warehouse.con)
        fill(warehouse.con, world)
        whole = answer(warehouse.con, "active_profiles")
        for table in rollups.TABLES:
            warehouse.con.execute(f"DROP TABLE {table} CASCADE")
        rollups.create(warehouse.con)
        assert answer(warehouse.con, "active_profiles").equals(whole)


def test_where_the_last_three_months_are_empty_the_days_before_are_shown(tmp_path: Path) -> None:
    late = [replace(batch, received_on=batch.received_on + 120 * DAY) for batch in busy_world().batches]
    with Warehouse(tmp_path / "late.duckdb") as warehouse:
        fill(warehouse.con, World(tuple(late)))
        shown = answer(warehouse.con, "active_profiles")["day"]
        assert (shown.min(), shown.max()) == (MONDAY, MONDAY + 41 * DAY)
        asked = answer(warehouse.con, "active_profiles", read_asked(MONDAY + 40 * DAY))["day"]
        assert (asked.min(), asked.max()) == (MONDAY + 40 * DAY, late[-1].received_on)


def test_what_a_stranger_calls_an_event_commands_neither_terminal_nor_spreadsheet(tmp_path: Path) -> None:
    evil = "=\x1b[31mRED\x1b]0;pwn\x07\u202eabc"
    events = tuple(Event(MONDAY, evil, person, "Chrome", 1920) for person in PROFILES)
    with Warehouse(tmp_path / "w.duckdb") as warehouse:
        fill(warehouse.con, World(tuple(Batch(i, "2.10.0", MONDAY + DAY, events, seq=1) for i in INSTANCES)))
    for form in ((), ("--chart",), ("--all",)):
        shown = run(tmp_path / "w.duckdb", "unknown_names", "--threshold", "1", *form)
        assert "RED" in shown
        assert not {"\x1b", "\x07", "\u202e"} & set(shown)
    run(tmp_path / "w.duckdb", "unknown_names", "--threshold", "1", "--out", str(tmp_path / "a.csv"))
    written = (tmp_path / "a.csv").read_text()
    assert "'=" in written and not {"\x1b", "\u202e"} & set(written)
