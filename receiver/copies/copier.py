"""`python copier.py SOURCE TARGET`: copy a DuckDB file and its log when a line comes in; a process of its own.

A process of its own, because closing any descriptor of a file gives up every lock that the process has on it: a server
that read its own warehouse file would open it to a second writer. Nothing here imports the package: it starts at once.
"""

import os
import sys
from pathlib import Path


def copy(source: Path, target: Path) -> None:
    """The bytes of one file into a new one; where the file system can, both share their blocks. Raises OSError."""
    with source.open("rb") as old, target.open("xb") as new:
        left = os.fstat(old.fileno()).st_size
        while left > 0:
            try:
                done = os.copy_file_range(old.fileno(), new.fileno(), left)
            except OSError:  # not between these two file systems; a full disk shows again
                done = os.sendfile(new.fileno(), old.fileno(), None, left)
            if done == 0:
                return
            left -= done


def main(source: Path, target: Path) -> None:
    """Say that it is ready, wait for the word, copy, and say `copied` or what went wrong."""
    say("ready")
    if not sys.stdin.readline():
        return
    try:
        copy(source, target)
        log = source.with_name(source.name + ".wal")
        if log.exists():
            copy(log, target.with_name(target.name + ".wal"))
        say("copied")
    except OSError as error:
        say(error.strerror)


def say(line: str | None) -> None:
    """One line to the process that waits."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
