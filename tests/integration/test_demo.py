"""The demo is the first thing that anybody runs: it must work, agree, and clean up after itself."""

import os
import subprocess
import sys
from pathlib import Path

import psutil  # type: ignore[import-untyped]


def run_demo(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "penpot_telemetry.run", "--demo"],
        env=os.environ | {"PENPOT_TELEMETRY_DEMO": str(folder), "COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_demo_delivers_everything_and_its_sums_agree(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    done = run_demo(folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("agrees") == 3
    assert "DOES NOT AGREE" not in done.stdout
    assert done.stdout.count("receiver down") == 2
    assert "accepted, then duplicate" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines() if "/" not in line) <= 80
    left = [p.pid for p in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(p.info["cmdline"] or [])]
    assert left == []


def test_the_demo_leaves_a_folder_of_somebody_else_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    done = run_demo(tmp_path)
    assert done.returncode == 2
    assert "not empty" in done.stderr
    assert (tmp_path / "thesis.txt").read_text() == "mine"
