"""What happens to the receiver itself while honest senders are at work: no room, no lock, a signal, a kill."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from tests.abuse.load import NOT_NOW, Ground, honest_senders, make_parcel
from tests.abuse.wire import dial, post_of, read_answers
from tests.integration.receiving import wait_until

ENOUGH = 20
"""Batches that must have landed before anything is done to the receiver."""

SLACK = 20.0
"""Seconds after the limit of a shutdown in which the process may still write, close and go."""

UNLIMITED = resource.RLIM_INFINITY
PAGE = 200
"""Events in a batch when a disk is to be filled: some 4 kB of records and rows."""


# --- no room --------------------------------------------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[bool]:
    """A tmpfs of `size` bytes at `folder`; False, and no tmpfs, for whoever may not mount one."""
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(["/bin/mount", *options], capture_output=True, check=False)
    except OSError:
        yield False
        return
    if done.returncode:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["/bin/umount", "--lazy", str(folder)], check=True)


def fill(path: Path) -> None:
    """Write until there is no room, then give back what one more file would need."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(64 * 1024))
        except OSError:
            pass


def limit_files(ground: Ground, most: int) -> None:
    """No file of the receiver may grow beyond `most` bytes: a full disk for whoever may not mount one."""
    resource.prlimit(ground.receiver.process.pid, resource.RLIMIT_FSIZE, (most, UNLIMITED))


def run_out(ground: Ground, seconds: float, close: Callable[[], None], reopen: Callable[[], None]) -> None:
    """No room for some seconds, then room again; the senders never stop. 503 with Retry-After in between."""
    with honest_senders(ground, size=PAGE):
        wait_until(lambda: len(ground.book.taken) > 3, 60)
        close()
        wait_until(lambda: ground.book.refused, 60)
        status, retry_after = ask_once(ground, make_parcel(ground.book.number(), PAGE).body)
        if status == 200 or (status in NOT_NOW and not retry_after):
            ground.book.problems.append(f"without room a batch was answered {status}, Retry-After {retry_after}")
        status, retry_after = ask_once(ground, b"not json " + os.urandom(64 * 1024).hex().encode())
        if status == 200:
            ground.book.problems.append("without room a body was put aside")
        time.sleep(seconds)
        before = len(ground.book.taken)
        reopen()
        wait_until(lambda: len(ground.book.taken) > before + 3, 60)


def ask_once(ground: Ground, body: bytes) -> tuple[int, str | None]:
    """Status and Retry-After."""
    answer = requests.post(ground.receiver.url, data=body, timeout=60)
    return answer.status_code, answer.headers.get("retry-after")


def drown(ground: Ground, ballast: Path, seconds: float = 1.0) -> None:
    """A disk that is full for some seconds, by a file that is none of the receiver's."""
    run_out(ground, seconds, lambda: fill(ballast), ballast.unlink)


def stunt(ground: Ground, seconds: float) -> None:
    """No file may be written, the log's own not either, for some seconds."""
    run_out(ground, seconds, lambda: limit_files(ground, 0), lambda: limit_files(ground, UNLIMITED))


# --- a signal, a kill -----------------------------------------------------------------------------------------------


def terminate(ground: Ground) -> None:
    """SIGTERM while batches come in and a slow body is under way; then a start on what is left."""
    limit = float(ground.environ["RECEIVER_SHUTDOWN_SECONDS"])
    with dial(ground.port) as slow, honest_senders(ground, 4):
        slow.sendall(post_of(b"", "content-length: 100", sized=False) + b"{")
        wait_until(lambda: len(ground.book.taken) > ENOUGH, 60)
        assert ground.memory
        began = time.monotonic()
        code = ground.receiver.stop()
        took = time.monotonic() - began
        ((status, _),) = read_answers(slow, 1)
    if status not in NOT_NOW:
        ground.book.problems.append(f"a body that SIGTERM cut off was answered {status}")
    if code or took > limit + SLACK:
        ground.book.problems.append(f"SIGTERM ended with {code} after {took:.1f} s")
    ground.restart()


def kill(ground: Ground, times: int) -> None:
    """kill -9 while batches come in, and a start on what is left, under the same load."""
    for _ in range(times):
        with honest_senders(ground, 4):
            before = len(ground.book.taken)
            wait_until(lambda before=before: len(ground.book.taken) > before + ENOUGH, 60)
            assert ground.memory
            ground.receiver.kill()
            ground.restart()
            before = len(ground.book.taken)
            wait_until(lambda before=before: len(ground.book.taken) > before, 60)


HOLD = """
import sys, duckdb
con = duckdb.connect(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held_by_another(path: Path) -> Iterator[None]:
    """A warehouse that another process has open for writing."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        try:
            yield
        finally:
            other.stdin.close()
