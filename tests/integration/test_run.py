"""The command line on a real database: what a person and a program see, and the exit codes."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from psycopg import Connection

from penpot_telemetry import account, audit_log, connection, lease, ledger, pipeline
from penpot_telemetry.cli import main
from penpot_telemetry.config import Settings
from tests.conftest import NOON, Receiver, make_events, names_of

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def environ(database: Mapping[str, str], receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of a Penpot with telemetry on and a receiver."""
    found = {
        "PENPOT_FLAGS": "enable-telemetry disable-audit-log",
        "PENPOT_TELEMETRY_URI": receiver.url,
        "PENPOT_TELEMETRY_VERSION": "2.18.0",
        "PENPOT_DATABASE_URI": f"postgresql:///{database['dbname']}?host={database['host']}",
        "PENPOT_DATABASE_USERNAME": database["user"],
        "PENPOT_TELEMETRY_RETRY_WAIT": "0.01",
        "PENPOT_TELEMETRY_ATTEMPTS": "1",
    }
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.fixture
def call(environ: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:  # noqa: ARG001
    """The command line: arguments and stdin in; exit code, stdout and stderr out."""

    def run_it(*args: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        with pytest.raises(SystemExit) as left:
            main(args)
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return run_it


def lines(*events: object) -> str:
    return "".join(json.dumps(event) + "\n" for event in events)


GOOD = {"name": "navigate", "type": "action", "context": {"browser": "Firefox", "email": "ada@example.org"}}


# -- off means off ---------------------------------------------------------------------------------------------------


@pytest.fixture
def tripwire() -> Iterator[tuple[int, list[object]]]:
    """A port on which nobody may call, and who did."""
    callers: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen() -> None:
            while True:
                try:
                    caller, address = server.accept()
                except OSError:
                    return
                callers.append(address)
                caller.close()

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield server.getsockname()[1], callers
        server.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.fixture(params=["", "disable-telemetry", "enable-telemetry enable-audit-log"])
def off(
    request: pytest.FixtureRequest, tripwire: tuple[int, list[object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment of a Penpot with telemetry off, in which every address is the tripwire's."""
    monkeypatch.setenv("PENPOT_FLAGS", request.param)
    monkeypatch.setenv("PENPOT_TELEMETRY_URI", f"http://127.0.0.1:{tripwire[0]}/")
    monkeypatch.setenv("PENPOT_DATABASE_URI", f"postgresql://127.0.0.1:{tripwire[0]}/penpot")
    monkeypatch.setenv("PENPOT_TELEMETRY_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines(GOOD).encode())))


@pytest.mark.usefixtures("off")
@pytest.mark.parametrize(
    "args",
    [
        ["run"], ["run", "--dry-run"], ["record"], ["status"], ["preview"], ["ledger"],
        ["ledger", "verify", "http://127.0.0.1:{port}/"], ["quarantine", "list"], ["quarantine", "retry", "--all"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_off_means_no_socket_at_all(
    args: list[str], tripwire: tuple[int, list[object]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port, callers = tripwire
    opened: list[object] = []
    watching = True
    sys.addaudithook(lambda event, args: opened.append(args) if watching and event.startswith("socket.") else None)
    with pytest.raises(SystemExit) as left:
        main([arg.format(port=port) for arg in args])
    watching = False
    assert left.value.code in {0, None}
    assert (callers, opened) == ([], [])
    assert not (tmp_path / "data").exists()
    assert "PENPOT_" in capsys.readouterr().err


def test_the_tripwire_sees_a_caller(tripwire: tuple[int, list[object]]) -> None:
    port, callers = tripwire
    socket.create_connection(("127.0.0.1", port)).close()
    deadline = time.monotonic() + 5
    while not callers and time.monotonic() < deadline:
        time.sleep(0.01)
    assert callers


# -- record, run, status ---------------------------------------------------------------------------------------------


def test_from_a_line_of_json_to_the_receiver(call: Call, receiver: Receiver, conn: Connection) -> None:
    code, out, _ = call("record", stdin=lines(GOOD, GOOD))
    assert (code, out) == (0, "recorded 2 events, refused 0\n")
    code, out, err = call("run")
    assert (code, err) == (0, "")
    assert "shipped 2 events in 1 batches" in out
    assert names_of(receiver.bodies[0]) == ["navigate", "navigate"]
    assert audit_log.count_rows(conn) == 0


def test_a_line_that_cannot_be_recorded_is_named_and_the_others_are_kept(call: Call, conn: Connection) -> None:
    text = lines(GOOD) + "nonsense ada@example.org\n" + lines({**GOOD, "name": "ada@example.org"}, GOOD) + "\xff\n[1]\n"
    code, out, err = call("record", stdin=text)
    assert (code, out) == (1, "recorded 2 events, refused 4\n")
    assert [line.split(":")[0] for line in err.splitlines()] == ["line 2", "line 3", "line 5", "line 6"]
    assert "ada" not in err
    assert audit_log.count_rows(conn) == 2


def test_record_reads_a_file_and_answers_a_program(call: Call, conn: Connection, tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text(lines({"name": "get-file", "type": "command"}, {"name": "x"}))
    code, out, _ = call("record", str(tmp_path / "events.jsonl"), "--origin", "backend", "--json")
    assert code == 1
    assert json.loads(out) == {"recorded": 1, "refused": [{"line": 2, "reason": "type: should be text"}]}
    assert audit_log.count_rows(conn) == 1


def test_nothing_to_do_is_success(call: Call) -> None:
    code, out, _ = call("run")
    assert (code, out) == (0, "shipped 0 events in 0 batches; gc dropped 0; 0 wait\n")


def test_run_answers_a_program(call: Call) -> None:
    call("record", stdin=lines(GOOD))
    code, out, _ = call("run", "--json")
    assert code == 0
    assert json.loads(out) == {
        "batches": 1, "shipped": 1, "refused": 0, "quarantined": 0, "dropped": 0, "adopted": 0, "missing": 0,
        "pending": 0, "dead_letters": 0, "verified": 0, "mismatches": 0, "failure": None, "warnings": [],
    }  # fmt: skip


def test_a_refusal_is_exit_code_1_and_says_that_all_is_kept(call: Call, receiver: Receiver) -> None:
    call("record", stdin=lines(GOOD))
    receiver.reply = lambda _: (500, b"")
    code, _, err = call("run")
    assert code == 1
    assert "answered 500" in err
    assert "1 events are kept" in err


def test_a_receiver_that_is_not_there_is_exit_code_1(call: Call) -> None:
    call("record", stdin=lines(GOOD))
    code, _, err = call("run", "--uri", "http://127.0.0.1:9/")
    assert (code, "cannot be reached" in err) == (1, True)


def test_a_database_that_is_not_there_is_exit_code_1(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENPOT_DATABASE_URI", "postgresql://127.0.0.1:9/penpot")
    code, out, err = call("run")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "PENPOT_DATABASE_URI" in err


def test_a_second_sender_leaves_with_success_and_says_why(call: Call, database: Mapping[str, str]) -> None:
    with connection.connect(database) as other, lease.hold(other):
        code, _, err = call("run")
    assert (code, "another sender" in err) == (0, True)


def test_a_dry_run_sends_and_changes_nothing(call: Call, receiver: Receiver, conn: Connection) -> None:
    call("record", stdin=lines(GOOD, GOOD))
    before = account.read_state(conn)
    code, out, _ = call("run", "--dry-run")
    assert (code, "would send up to 2 events in 1 batches" in out) == (0, True)
    assert json.loads(call("run", "--dry-run", "--json")[1])["pending"] == 2
    assert receiver.bodies == []
    assert account.read_state(conn) == before
    assert audit_log.count_rows(conn) == 2


def test_the_module_runs_one_pass(environ: dict[str, str], receiver: Receiver, call: Call) -> None:
    call("record", stdin=lines(GOOD))
    done = subprocess.run(
        [sys.executable, "-m", "penpot_telemetry.run"],
        env={**os.environ, **environ},
        check=True,
        capture_output=True,
        text=True,
    )
    assert "shipped 1 events" in done.stdout
    assert done.stderr == ""
    assert len(receiver.bodies) == 1


# -- status ----------------------------------------------------------------------------------------------------------


def test_status_shows_days_sources_and_the_sum(call: Call, conn: Connection, settings: Settings) -> None:
    pipeline.record_events(conn, make_events(3), settings)
    conn.execute("UPDATE audit_log SET source = 'telemetry:backend' WHERE name = 'e-1'")
    code, out, _ = call("status")
    assert code == 0
    assert "2026-07-20\ttelemetry\t2\n2026-07-20\ttelemetry:backend\t1\n" in out
    assert "recorded 3 = shipped 0 + dropped 0 + quarantined 0 + pending 3" in out
    found = json.loads(call("status", "--json")[1])
    assert (found["adds-up"], found["pending"], found["room"], found["oldest"]) == (True, 3, 99_997, "2026-07-20")


def test_status_check_fails_when_the_account_does_not_add_up(call: Call, conn: Connection, settings: Settings) -> None:
    pipeline.record_events(conn, make_events(3), settings)
    assert call("status", "--check")[0] == 0
    conn.execute("DELETE FROM audit_log WHERE name = 'e-1'")
    code, out, _ = call("status", "--check")
    assert (code, "DOES NOT ADD UP: 1 rows" in out) == (1, True)
    assert call("status")[0] == 0
    assert call("status", "--check", "--accept-missing")[0] == 0
    assert call("status", "--check")[0] == 0


# -- preview ---------------------------------------------------------------------------------------------------------


def test_preview_is_exactly_what_is_sent(call: Call, receiver: Receiver) -> None:
    call("record", stdin=lines(GOOD, {**GOOD, "context": {"locale": "es"}}))
    code, out, err = call("preview")
    assert code == 0
    assert receiver.bodies == []
    call("run")
    (sent,) = receiver.bodies
    assert f"2 events, {len(sent):,} bytes" in err
    assert "ada" not in out
    found = [json.loads(line) for line in out.splitlines()]
    assert [event["context"] for event in found] in (
        [{"browser": "Firefox"}, {"locale": "es"}],
        [{"locale": "es"}, {"browser": "Firefox"}],
    )


def test_preview_shows_as_many_as_are_asked_for(call: Call, conn: Connection, settings: Settings) -> None:
    pipeline.record_events(conn, make_events(30), settings)
    assert len(call("preview")[1].splitlines()) == 20
    assert len(call("preview", "--limit", "3")[1].splitlines()) == 3
    assert len(call("preview", "--all")[1].splitlines()) == 30
    found = json.loads(call("preview", "--json")[1])
    assert (len(found["events"]), found["batch-seq"], found["event-count"]) == (30, 1, 30)


# -- ledger and quarantine -------------------------------------------------------------------------------------------


def test_the_ledger_lists_every_batch_and_the_one_without_an_answer(
    call: Call, conn: Connection, shipping: Settings, receiver: Receiver
) -> None:
    pipeline.record_events(conn, make_events(25), shipping)
    receiver.reply = lambda _: (204 if len(receiver.bodies) < 3 else 500, b"")
    pipeline.run_pass(conn, replace(shipping, batch_rows=10))
    code, out, _ = call("ledger")
    rows = [line.split("\t") for line in out.splitlines()]
    assert code == 0
    assert [(row[0], row[2], row[4]) for row in rows[1:]] == [
        ("1", "10", "accepted"),
        ("2", "10", "accepted"),
        ("3", "5", "unanswered"),
    ]
    found = [json.loads(line) for line in call("ledger", "list", "--json")[1].splitlines()]
    assert [(entry["batch-seq"], entry["receipt"]) for entry in found] == [(1, {"status": 204}), (2, {"status": 204})]


@pytest.fixture
def ledger_url(conn: Connection) -> Iterator[tuple[str, dict[str, str]]]:
    """A receiver's ledger that agrees, and the headers that it was asked with."""
    asked: dict[str, str] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.update(self.headers)
            first = self.path.endswith("after=0")
            entries = list(ledger.read_ledger(conn)) if first else []
            batches = [
                {
                    "batch-id": str(entry.batch_id),
                    "batch-seq": entry.seq,
                    "digest": entry.digest,
                    "events": entry.events,
                    "status": "accepted",
                }
                for entry in entries
            ]
            content = json.dumps({"batches": batches}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_verify_asks_with_the_token_and_agrees(
    call: Call, ledger_url: tuple[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url, asked = ledger_url
    (tmp_path / "token").write_text("t0ken\n")
    monkeypatch.setenv("PENPOT_TELEMETRY_TOKEN_FILE", str(tmp_path / "token"))
    call("record", stdin=lines(GOOD))
    call("run")
    code, out, _ = call("ledger", "verify", url)
    assert (code, out) == (0, "1 batches agree, 0 differ\n")
    assert asked["Authorization"] == "Bearer t0ken"


def test_verify_fails_where_the_ledgers_differ(
    call: Call, conn: Connection, ledger_url: tuple[str, dict[str, str]], receiver: Receiver
) -> None:
    call("record", stdin=lines(GOOD))
    call("run")
    with conn.transaction(force_rollback=True):
        conn.execute("UPDATE penpot_telemetry.ledger SET events = 99")
        code, out, _ = call("ledger", "verify", ledger_url[0])
    assert (code, "batch 1" in out, "differs" in out) == (1, True, True)
    assert call("ledger", "verify", receiver.url)[0] == 1


def test_the_quarantine_is_listed_retried_and_dropped(
    call: Call, conn: Connection, shipping: Settings, receiver: Receiver
) -> None:
    pipeline.record_events(conn, make_events(4), shipping)
    receiver.reply = lambda body: (400 if "e-2" in names_of(body) else 204, b"")
    code, _, err = call("run")
    assert (code, "1 rows cannot be sent and are dead letters now" in err) == (0, True)
    (row,) = [json.loads(line) for line in call("quarantine", "list", "--json")[1].splitlines()]
    assert (row["name"], "answered 400" in row["reason"]) == ("e-2", True)
    assert "e-2" in call("quarantine", "list")[1]
    assert call("quarantine", "retry", row["id"])[1] == "put back 1 rows\n"
    pipeline.record_events(conn, make_events(1, start=9, day=NOON), shipping)
    call("run")
    assert call("quarantine", "drop", "--all")[1] == "dropped 1 rows\n"
    assert call("status", "--check")[0] == 0


# -- scheduled -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_scheduled_passes_go_on_until_a_signal_ends_them_in_good_order(
    environ: dict[str, str], receiver: Receiver, call: Call, number: int
) -> None:
    call("record", stdin=lines(GOOD))
    code = "from penpot_telemetry.cli import main, schedule; schedule.MOST_DELAY = 0.1; main(['run', '--every', '1s'])"
    with subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, **environ}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert "shipped 1 events" in process.stdout.readline()
        call("record", stdin=lines(GOOD))
        while "shipped 1 events" not in process.stdout.readline():
            pass
        process.send_signal(number)
        assert process.wait(timeout=10) == 0
    assert len(receiver.bodies) == 2


def test_a_scheduled_pass_that_fails_is_followed_by_another(
    environ: dict[str, str], receiver: Receiver, call: Call
) -> None:
    call("record", stdin=lines(GOOD))
    receiver.reply = lambda _: (500 if len(receiver.bodies) < 2 else 204, b"")
    code = (
        "from penpot_telemetry.cli import main, schedule; schedule.MOST_DELAY = 0.1; main(['run', '--every', '0.2s'])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        while "shipped 1 events" not in process.stdout.readline():
            pass
        process.terminate()
        assert process.wait(timeout=10) == 0
    assert len(set(receiver.bodies)) == 1
