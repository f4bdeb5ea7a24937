import base64
import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from penpot_telemetry import run
from penpot_telemetry.cli import main
from penpot_telemetry.errors import ConfigError
from penpot_telemetry.wire import blob, signature

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
    [], ["run"], ["record"], ["status"], ["preview"], ["decode"], ["ledger"], ["ledger", "list"], ["ledger", "verify"],
    ["quarantine"], ["quarantine", "list"], ["quarantine", "retry"], ["quarantine", "drop"], ["keygen"],
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_is_there_and_fits(call: Call, command: list[str]) -> None:
    code, out, _ = call(*command, "--help")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize(
    "command", [[], ["run"], ["record"], ["status"], ["preview"], ["decode"], ["ledger"], ["keygen"]], ids=" ".join
)
def test_help_teaches_by_example(call: Call, command: list[str]) -> None:
    assert "  penpot-telemetry " in call(*command, "--help")[1]


def test_help_imports_nothing_slow() -> None:
    code = (
        "import sys; from penpot_telemetry.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print(sorted({'psycopg', 'requests', 'rich', 'zstandard', 'stamina', 'cryptography'}"
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
    assert run.parse_interval(text) == seconds


@pytest.mark.parametrize("text", ["", "3", "h", "-3h", "0s", "3 hours", "1e3s"])
def test_an_interval_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="3h"):
        run.parse_interval(text)


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
