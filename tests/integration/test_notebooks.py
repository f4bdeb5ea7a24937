"""The notebooks are compared by nbval; this holds what nbval does not look at, and that it looks at all."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))


def code_cells(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def compare(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--nbval", str(path)]
    return subprocess.run(command, cwd=NOTEBOOKS.parent, capture_output=True, text=True, timeout=300, check=False)


def test_there_are_notebooks() -> None:
    assert PATHS


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_every_cell_ran_in_order(path: Path) -> None:
    cells = code_cells(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_no_output_is_an_error_a_warning_or_a_place_on_a_machine(path: Path) -> None:
    for cell in code_cells(path):
        for output in cell["outputs"]:
            assert output["output_type"] != "error"
            assert output.get("name") != "stderr"
            text = json.dumps({kind: data for kind, data in output.get("data", {}).items() if kind != "image/png"})
            assert "/tmp/" not in text + json.dumps(output.get("text", "")), cell["source"]  # noqa: S108


def test_a_wrong_stored_output_does_not_pass(tmp_path: Path) -> None:
    path = tmp_path / "wrong.ipynb"
    notebook = json.loads((NOTEBOOKS / "01_anonymise.ipynb").read_text())
    notebook["cells"] = [
        {
            "cell_type": "code",
            "execution_count": 1,
            "id": "sum",
            "metadata": {},
            "outputs": [{"name": "stdout", "output_type": "stream", "text": ["4\n"]}],
            "source": ["print(2 + 2)"],
        }
    ]
    path.write_text(json.dumps(notebook))
    assert compare(path).returncode == 0
    path.write_text(json.dumps(notebook).replace("4\\n", "5\\n"))
    done = compare(path)
    assert done.returncode == 1
    assert "1 failed" in done.stdout
