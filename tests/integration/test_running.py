"""What docs/running.md says is done as it is written there; image, compose file and units start a receiver."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import requests
import yaml

from receiver.server.metrics import Metrics
from receiver.server.settings import VARIABLES, Settings
from receiver.storage.paths import places_beside
from tests.integration.receiving import (
    INSTANCE,
    Running,
    ask,
    body_of,
    command,
    legacy_report,
    penpots_body,
    rows,
    running,
)

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "running.md").read_text()
OTHER = UUID(int=7)
HOME = "/var/lib/penpot-telemetry"
COMMAND = "/opt/penpot-telemetry/bin/penpot-telemetry-receiver"
TOKEN = "a-reading-token-of-tests"  # noqa: S105  of the tests only
OPTIONS = {"RECEIVER_WAREHOUSE", "RECEIVER_HOST", "RECEIVER_PORT"}

# --- the guide ------------------------------------------------------------------------------------------------------


def shell_block(title: str) -> list[str]:
    """The commands of the block that begins with this comment."""
    (block,) = re.findall(rf"```sh\n# {title}\n(.*?)```", GUIDE, re.DOTALL)
    lines: list[str] = block.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("systemctl")] == ["stop", "start"]
    assert "start" in lines[-1] and not any("receiver" in line for line in lines[: find_line(lines, "stop")])
    return lines


def find_line(lines: list[str], word: str) -> int:
    return next(number for number, line in enumerate(lines) if word in line)


def play(title: str, home: Path, backup: Path) -> None:
    """The commands of a block as they stand, on other paths, with the receiver stopped."""
    kept = [line for line in shell_block(title) if not line.startswith(("systemctl", "chown"))]
    script = "\n".join(kept).replace(HOME, str(home)).replace("/backup", str(backup))
    script = script.replace(COMMAND, f"{sys.executable} -m receiver")
    line = ["bash", "-eu", "-o", "pipefail", "-c", script]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def backed_up(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folder of a receiver that had batches, a report and a body it could not read, and the backup of it."""
    folder = tmp_path_factory.mktemp("backed-up")
    home, backup = folder / "home", folder / "backup"
    backup.mkdir()
    with telemetry(home) as receiver:
        receiver.receipt(penpots_body())
        for number in range(3):
            receiver.receipt(body_of(rows(5, number), instance=OTHER, batch_id=uuid4(), batch_seq=number + 1))
        receiver.receipt(legacy_report(**{"total-users": 3}))
        assert receiver.receipt(b"nothing to read")["status"] == "quarantined"
        assert receiver.stop() == 0
    play("backup", home, backup)
    assert {path.name for path in backup.iterdir()} >= {"digest", "telemetry.duckdb", "telemetry.landfill"}
    return home, backup


def telemetry(folder: Path, **environ: str) -> Any:
    """A receiver whose files are called as in the guide."""
    return running(folder, "--warehouse", str(folder / "telemetry.duckdb"), **environ)


def test_a_backup_is_restored_as_written(backed_up: tuple[Path, Path], tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    play("restore", elsewhere, backed_up[1])
    with telemetry(elsewhere) as receiver:
        found = receiver.get("/status")
        assert (found["batches"], found["reports"], found["quarantined"]) == (4, 1, 1)
        assert receiver.receipt(penpots_body())["status"] == "duplicate"
    kept = places_beside(elsewhere / "telemetry.duckdb").quarantine
    assert [body.read_bytes() for body in kept.glob("*.body")] == [b"nothing to read"]


def test_a_backup_that_is_not_the_same_is_told(backed_up: tuple[Path, Path], tmp_path: Path) -> None:
    backup = shutil.copytree(backed_up[1], tmp_path / "backup")
    (backup / "digest").write_text("0" * 32 + "\n")
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(AssertionError, match="differ"):
        play("restore", tmp_path / "elsewhere", backup)


def test_what_was_erased_after_the_backup_does_not_come_back_with_it(
    backed_up: tuple[Path, Path], tmp_path: Path
) -> None:
    home, elsewhere = shutil.copytree(backed_up[0], tmp_path / "home"), tmp_path / "elsewhere"
    elsewhere.mkdir()

    def operate(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "receiver", *words, "--warehouse", str(folder / "telemetry.duckdb")]
        return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)

    assert operate(home, "erase", "--instance", str(INSTANCE)).returncode == 0
    play("restore", elsewhere, backed_up[1])
    shutil.copy(home / "telemetry.erased.json", elsewhere)
    refused = operate(elsewhere, "serve", "--port", "0")
    assert refused.returncode == 1 and "rebuild" in refused.stderr
    assert operate(elsewhere, "rebuild").returncode == 0
    with telemetry(elsewhere) as receiver:
        found = receiver.get("/status")
        assert (found["batches"], found["events"], found["reports"]) == (3, 15, 0)


def test_the_warehouse_is_made_from_the_landfill_as_written(backed_up: tuple[Path, Path], tmp_path: Path) -> None:
    home, backup = shutil.copytree(backed_up[0], tmp_path / "home"), backed_up[1]
    shutil.rmtree(home / "telemetry.landfill")
    play("rebuild", home, backup)
    with telemetry(home) as receiver:
        assert (receiver.get("/status")["events"], "recovered" in receiver.log) == (10_015, False)


def test_a_landfill_copied_while_it_is_written_has_all_that_was_answered_before(tmp_path: Path) -> None:
    answered: list[str] = []
    with running(tmp_path / "home") as receiver:

        def deliver() -> None:
            for number in range(30):
                batch_id = uuid4()
                receiver.receipt(body_of(rows(100, number * 100), batch_id=batch_id, batch_seq=number + 1))
                answered.append(str(batch_id))

        thread = threading.Thread(target=deliver)
        thread.start()
        while len(answered) < 10:
            thread.join(0.01)
        before = set(answered)
        shutil.copytree(receiver.folder / "w.landfill", tmp_path / "copy" / "w.landfill")
        assert thread.is_alive()
        thread.join()
    with running(tmp_path / "copy"):
        pass
    found = {str(batch_id) for (batch_id,) in ask(tmp_path / "copy", "SELECT batch_id FROM batches")}
    assert before <= found <= set(answered)
    assert command(tmp_path / "copy", "check").returncode == 0


def test_the_metrics_in_the_guide_are_those_of_the_receiver() -> None:
    exposed = {sample.name for metric in Metrics().registry.collect() for sample in metric.samples}
    exposed |= {f"{metric.name}_total" for metric in Metrics().registry.collect() if metric.type == "counter"}
    named = set(re.findall(r"\breceiver_\w+", GUIDE))
    assert named and named <= exposed, named - exposed


def test_the_settings_in_the_guide_and_in_every_file_beside_it_exist() -> None:
    for path in (ROOT / "docs/running.md", ROOT / "Dockerfile", ROOT / "compose.yaml", *(ROOT / "deploy").iterdir()):
        named = set(re.findall(r"\bRECEIVER_[A-Z_]+", path.read_text()))
        assert {name.removesuffix("_FILE") for name in named} <= set(VARIABLES) | OPTIONS, path


# --- the image ------------------------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as (instruction, the rest in one line)."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


def copied() -> list[str]:
    """What the image is built from."""
    return [
        name for word, rest in instructions() if word == "COPY" and "--from" not in rest for name in rest.split()[:-1]
    ]


def last(wanted: str) -> str:
    return [rest for word, rest in instructions() if word == wanted][-1]


def test_all_that_the_image_copies_is_there_and_let_through() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    let_through = {line[1:] for line in ignored if line.startswith("!")}
    assert "*" in ignored and let_through == {name for name in copied() if name != "./"}
    assert all((ROOT / name).exists() for name in copied())


def test_the_image_ends_on_sigterm_as_no_root_and_holds_no_secret() -> None:
    assert json.loads(last("ENTRYPOINT")) == ["/opt/receiver/bin/penpot-telemetry-receiver"]
    assert last("STOPSIGNAL") == "SIGTERM"
    assert int(last("USER").split(":")[0]) > 0
    settings = " ".join(rest for word, rest in instructions() if word in ("ARG", "ENV"))
    assert "RECEIVER_HOST" in settings and not re.search(r"(TOKEN|KEY|PASSWORD)=", settings)


def test_uv_is_taken_from_the_lock_alone() -> None:
    (step,) = [rest for word, rest in instructions() if word == "RUN" and rest.startswith("awk")]
    program = step.partition("'")[2].partition("'")[0]
    line = ["awk", program, str(ROOT / "requirements.lock")]
    first, *hashes = subprocess.run(line, capture_output=True, text=True, check=True).stdout.splitlines()
    assert first.startswith("uv==") and hashes
    assert all(found.strip().startswith("--hash=sha256:") for found in hashes)


def test_the_image_and_the_compose_file_ask_whether_the_process_lives(tmp_path: Path) -> None:
    asked = json.loads(last("HEALTHCHECK").partition("CMD ")[2])
    service = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["penpot-telemetry"]
    assert service["healthcheck"]["test"] == ["CMD", *asked]
    with running(tmp_path) as receiver:
        code = asked[2].replace("6070", receiver.url.rpartition(":")[2])
        assert "healthz" in code and subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
        receiver.stop()
        line = [sys.executable, "-c", code]
        assert subprocess.run(line, check=False, stderr=subprocess.DEVNULL).returncode == 1


def test_the_compose_file_gives_the_secret_as_a_file_and_the_time_to_stop() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    service = compose["services"]["penpot-telemetry"]
    (name,) = service["secrets"]
    assert service["environment"]["RECEIVER_READ_TOKEN_FILE"] == f"/run/secrets/{name}" and name in compose["secrets"]
    assert int(service["stop_grace_period"].removesuffix("s")) > Settings(places_beside(Path("w"))).shutdown_seconds
    assert service["volumes"] == ["telemetry:/data"] and "telemetry" in compose["volumes"]
    assert service["ports"] == ["127.0.0.1:6070:6070"]


# --- the units ------------------------------------------------------------------------------------------------------


def read_unit(name: str) -> dict[str, list[str]]:
    """The settings of a unit, each with its values in their order."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / "deploy" / name).read_text().splitlines():
        if line and not line.startswith(("#", "[")):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def read_environment(unit: dict[str, list[str]], **folders: str) -> dict[str, str]:
    """The `Environment` of a unit; `%S` and `%d` are its folders of state and of credentials."""
    pairs = (value.replace("%S", folders["state"]).replace("%d", folders["secrets"]) for value in unit["Environment"])
    return dict(pair.split("=", 1) for pair in pairs)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Running]:
    """A receiver with the environment of its unit."""
    unit = read_unit("penpot-telemetry-receiver.service")
    (tmp_path / unit["StateDirectory"][0]).mkdir()
    (tmp_path / unit["LoadCredential"][0].split(":")[0]).write_text(TOKEN + "\n")
    environ = read_environment(unit, state=str(tmp_path), secrets=str(tmp_path))
    assert unit["ExecStart"] == [COMMAND]
    with running(tmp_path, "--warehouse", environ.pop("RECEIVER_WAREHOUSE"), **environ) as receiver:
        yield receiver


def test_the_unit_of_the_receiver_starts_it_with_its_token_and_its_folder(started: Running) -> None:
    started.receipt(body_of(rows(1)))
    codes = [requests.get(started.url + path, timeout=20).status_code for path in ("/readyz", "/status")]
    assert codes == [200, 401]
    assert (started.folder / "penpot-telemetry" / "telemetry.duckdb").exists()


def test_the_unit_of_the_receiver_gives_it_time_and_little_else() -> None:
    unit = read_unit("penpot-telemetry-receiver.service")
    assert int(unit["TimeoutStopSec"][0]) > Settings(places_beside(Path("w"))).shutdown_seconds
    assert (
        unit["Restart"] == ["on-failure"]
        and unit["ProtectSystem"] == ["strict"]
        and unit["CapabilityBoundingSet"] == [""]
    )
    assert unit["User"] != ["root"] and unit["MemoryMax"] and not any("TOKEN=" in one for one in unit["Environment"])


def test_the_timer_and_the_service_of_the_sender_belong_together() -> None:
    service, timer = read_unit("penpot-telemetry-send.service"), read_unit("penpot-telemetry-send.timer")
    assert service["ExecStart"] == ["/opt/penpot-telemetry/bin/penpot-telemetry run"] and service["Type"] == ["oneshot"]
    assert timer["OnCalendar"] == ["*-*-* 00/3:00:00"] and timer["RandomizedDelaySec"] == ["1h"]
    assert read_environment(service, state="", secrets="/d")["PENPOT_DATABASE_PASSWORD_FILE"].startswith("/d/")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_finds_no_fault_in_the_units(tmp_path: Path) -> None:
    for path in (ROOT / "deploy").glob("penpot-telemetry-*"):
        text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", path.read_text(), flags=re.MULTILINE)
        (tmp_path / path.name).write_text(text)
    line = ["systemd-analyze", "verify", *map(str, sorted(tmp_path.iterdir()))]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False, env=os.environ | {"LANG": "C"})
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
