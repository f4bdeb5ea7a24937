"""The processes that are killed: real entry points, forked from one process that has imported everything.

Requests come on stdin, one JSON object a line: `{"run": role, "argv": […], "env": {…}, "arms": file, "out": file}` or
`{"kill": pid}`. On stdout go `{"pid": …}` for a start, `{"pid": …, "died": point}` as last words of a process that ends
itself at a point, and `{"pid": …, "exit": code}` for every end. The real functions are only ever wrapped to die; an
argument names a sabotage, for the tests of the rig itself.
"""

import ctypes
import functools
import importlib
import json
import os
import select
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from tests.crash import neighbours, points

PR_SET_PDEATHSIG = 1


class Arms:
    """What is armed, read from its file at every pass of a point: the point, which pass of it, how much is torn off."""

    def __init__(self, file: Path, words: int) -> None:
        self._file = file
        self._words = words
        self._token: object = None
        self._left = 0

    def strikes(self, name: str) -> float | None:
        """The fraction to tear when it is time to die at this point, None otherwise."""
        try:
            armed = json.loads(self._file.read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        if armed["point"] != name:
            return None
        if armed["token"] != self._token:
            self._token, self._left = armed["token"], armed["nth"]
        self._left -= 1
        return float(armed["cut"]) if self._left == 0 else None

    def die(self, name: str) -> None:
        """Last words, and SIGKILL."""
        os.write(self._words, json.dumps({"pid": os.getpid(), "died": name}).encode() + b"\n")
        os.kill(os.getpid(), signal.SIGKILL)


def no_transactions() -> None:
    """Every statement of the sender is committed on its own."""
    from psycopg import Connection  # noqa: PLC0415

    Connection.transaction = nullcontext  # type: ignore[assignment, method-assign]


def no_commit() -> None:
    """The receiver answers, and what it answered for is rolled back."""
    from receiver.intake import commit  # noqa: PLC0415
    from receiver.storage import connection  # noqa: PLC0415

    commit.commit = lambda store: connection.roll_back(store.warehouse.con)


SABOTAGE: Mapping[str, Callable[[], None]] = {"no transactions": no_transactions, "no commit": no_commit}


def arm(role: str, arms: Arms) -> None:
    """Wrap every function that has a point."""
    for name, point in (points.SENDER if role == "sender" else points.RECEIVER).items():
        module, _, path = point.target.partition(":")
        owner: Any = importlib.import_module(module)
        *outer, last = path.split(".")
        for part in outer:
            owner = getattr(owner, part)
        setattr(owner, last, _wrap(getattr(owner, last), name, point.when, arms))


def _wrap(real: Callable[..., Any], name: str, when: str, arms: Arms) -> Callable[..., Any]:
    @functools.wraps(real)
    def before(*args: Any, **kwargs: Any) -> Any:
        if arms.strikes(name) is not None:
            arms.die(name)
        return real(*args, **kwargs)

    @functools.wraps(real)
    def after(*args: Any, **kwargs: Any) -> Any:
        result = real(*args, **kwargs)
        if arms.strikes(name) is not None:
            arms.die(name)
        return result

    def torn(fd: int, data: bytes, offset: int) -> int:
        cut = arms.strikes(name)
        if cut is not None:
            real(fd, data[: max(1, int(len(data) * cut))], offset)
            arms.die(name)
        return int(real(fd, data, offset))

    wrapped: dict[str, Callable[..., Any]] = {"before": before, "after": after, "torn": torn}
    return wrapped[when]


def run_child(request: dict[str, Any], words: int) -> None:
    """In the forked process: become the command, and leave with its exit code."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    out = os.open(request["out"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.environ.clear()
    os.environ.update(request["env"])
    if request["arms"]:
        arm(request["run"], Arms(Path(request["arms"]), words))
    code = 70
    try:
        if request["run"] == "sender":
            from penpot_telemetry.cli import main as sender  # noqa: PLC0415

            sender(request["argv"])
        elif request["run"] in neighbours.ROLES:
            neighbours.ROLES[request["run"]](*request["argv"])
        else:
            from receiver.cli.main import main as receiver  # noqa: PLC0415

            receiver(request["argv"], prog_name="receiver")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        raise
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def say(**words: object) -> None:
    """One line on stdout, in one write."""
    os.write(1, json.dumps(words).encode() + b"\n")


def reap(living: set[int]) -> None:
    """Tell of every process that has ended."""
    while living:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        living.discard(pid)
        say(pid=pid, exit=os.waitstatus_to_exitcode(status))


def serve() -> None:
    """Fork, kill and reap on request, until stdin ends; then nothing is left alive."""
    for module in ("penpot_telemetry.pipeline", "penpot_telemetry.cli.output", "requests"):
        importlib.import_module(module)
    for module in (
        "receiver.cli.main",
        "receiver.server.serve",
        "receiver.reports.account",
        "polars",
        "pyarrow",
        "duckdb",
    ):
        importlib.import_module(module)
    for sabotage in sys.argv[1:]:
        SABOTAGE[sabotage]()
    woken, wake = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.set_wakeup_fd(wake)
    living: set[int] = set()
    pending = b""
    say(ready=True)
    while True:
        readable, _, _ = select.select([0, woken], [], [])
        if woken in readable:
            with suppress(BlockingIOError):
                os.read(woken, 4096)
        reap(living)
        if 0 not in readable:
            continue
        got = os.read(0, 65536)
        if not got:
            break
        *lines, pending = (pending + got).split(b"\n")
        for line in lines:
            obey(json.loads(line), living, woken, wake)
    for pid in living:
        os.kill(pid, signal.SIGKILL)


def obey(request: dict[str, Any], living: set[int], *inner: int) -> None:
    """One request: a kill of a process that still lives, or a start."""
    if "kill" in request:
        if request["kill"] in living:
            os.kill(request["kill"], request.get("signal", signal.SIGKILL))
        return
    pid = os.fork()
    if pid == 0:
        words = os.dup(1)
        for fd in inner:
            os.close(fd)
        run_child(request, words)
    living.add(pid)
    say(pid=pid, started=request["number"])


if __name__ == "__main__":
    serve()
