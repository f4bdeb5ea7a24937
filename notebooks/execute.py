"""Run the notebooks top to bottom and keep what they print: `python notebooks/execute.py [NOTEBOOK …]`.

What changes from run to run without meaning anything (times, ids of displays, the kernel's version) is taken out, so
that a notebook whose results are the same is the same file. nbval compares the rest.
"""

import subprocess
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent


def execute(path: Path) -> None:
    """Execute one notebook in place."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(HERE)}}).execute()
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    nbformat.write(notebook, path)
    # without --keep-count nbval would compare nothing
    subprocess.run(  # noqa: S603
        [sys.executable, "-m", "nbstripout", "--keep-output", "--keep-count", "--keep-id", str(path)], check=True
    )


if __name__ == "__main__":
    for path in [Path(name) for name in sys.argv[1:]] or sorted(HERE.glob("*.ipynb")):
        print(path.name, flush=True)
        execute(path)
