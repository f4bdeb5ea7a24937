"""What is built from this folder works elsewhere: without a compiler, without this folder, with all of its data."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import requests

from tests.integration.receiving import penpots_body, running

ROOT = Path(__file__).parents[2]
PACKAGES = ("penpot_telemetry", "receiver")
SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", *PACKAGES)
MADE = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info")


def build(source: Path, target: Path, *options: str, **environ: str) -> Path:
    """A wheel, made of the sources and what is installed here; no registry is asked."""
    uv = Path(sys.executable).with_name("uv")
    line: list[str | Path] = [
        uv,
        "build",
        "-q",
        "--offline",
        "--no-build-isolation",
        "--python",
        sys.executable,
        "--out-dir",
        target,
    ]
    done = subprocess.run(
        [*line, *options],
        cwd=source,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | environ,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = target.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a wheel is built from, and no other file of this folder."""
    folder = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        path = ROOT / name
        shutil.copytree(path, folder / name, ignore=MADE) if path.is_dir() else shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def site(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the sdist, interpreted, unpacked."""
    folder = tmp_path_factory.mktemp("built")
    wheel = build(source, folder / "dist", PENPOT_TELEMETRY_COMPILE="0")
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(site: Path, *words: str) -> str:
    """What Python prints with the unpacked wheel, and without this folder."""
    environ = os.environ | {"PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
    line = [sys.executable, *words]
    return subprocess.run(line, cwd=site, env=environ, capture_output=True, text=True, timeout=120, check=True).stdout


def test_the_wheel_has_every_file_of_the_packages(source: Path, site: Path) -> None:
    def files_below(folder: Path) -> set[str]:
        return {
            str(path.relative_to(folder))
            for name in PACKAGES
            for path in (folder / name).rglob("*")
            if path.is_file() and path.suffix != ".pyc"
        }

    assert files_below(site) == files_below(source)
    assert {"receiver/server/openapi.json", "receiver/storage/sql/schema.sql"} <= files_below(site)


def test_the_image_is_built_from_what_a_wheel_needs() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert {name for names in copied for name in names.split()} == {*SOURCES, "requirements.lock"}


def test_the_wheel_reads_a_batch_of_penpot_without_a_compiler(site: Path) -> None:
    found = run(site, "-c", "import receiver; from penpot_telemetry.wire import kernel as k; print(receiver, k)")
    assert f"{site}/receiver/__init__.py" in found and f"{site}/penpot_telemetry/wire/kernel.py" in found
    assert "rebuild" in run(site, "-m", "receiver", "--help")
    sample = site / "penpot_telemetry" / "samples" / "penpot-batch-1.payload.json"
    code = "import sys; from penpot_telemetry.cli import main; main()"
    assert len(run(site, "-c", code, "decode", str(sample)).splitlines()) >= 10_000


def test_the_wheel_serves(site: Path, tmp_path: Path) -> None:
    with running(tmp_path, PYTHONPATH=str(site), PYTHONSAFEPATH="1") as receiver:
        assert receiver.receipt(penpots_body())["events"] == 10_000
        assert receiver.get("/openapi.json")["openapi"] == "3.1.0"
        assert requests.get(receiver.url, timeout=20).status_code == 200


def test_a_compiler_that_fails_is_no_failing_build(source: Path, tmp_path: Path) -> None:
    wheel = build(source, tmp_path / "dist", "--wheel", CC="/bin/false")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "penpot_telemetry/wire/kernel.py" in names and not [name for name in names if name.endswith(".so")]
