"""A process that forks a child for each task."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

Do = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def do() -> Iterator[Do]:
    """`do(task, **arguments)`: what the child returned."""
    line = [sys.executable, "-m", "tests.storage.children"]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def ask(task: str, **arguments: Any) -> dict[str, Any]:
            stdin.write(json.dumps({"task": task, "with": arguments}) + "\n")
            stdin.flush()
            said: dict[str, Any] = json.loads(stdout.readline())
            assert "traceback" not in said, said["traceback"]
            return said

        yield ask
        stdin.close()
