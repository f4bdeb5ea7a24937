"""Bodies that can never be loaded, each in a file of its own beside the landfill; readable by the operator only.

What cannot be parsed cannot be scrubbed, so these bytes are the one thing here that may hold what the anonymiser
removes: mode 0600, gone after some days, and never more of them than a budget.
"""

import os
from datetime import datetime, timedelta
from pathlib import Path

from receiver.landfill import sync_folder


def keep(folder: Path, name: str, body: bytes, budget: int) -> str | None:
    """Write a body durably under `name` and return the name; None when the folder holds `budget` bytes already."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if size_of(folder) + len(body) > budget:
        return None
    path = folder / name
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise
    sync_folder(folder)
    return name


def size_of(folder: Path) -> int:
    """The bytes kept."""
    with os.scandir(folder) as entries:
        return sum(entry.stat().st_size for entry in entries)


def expire(folder: Path, days: int, now: datetime) -> list[str]:
    """Remove the bodies written more than `days` days ago; says which, by name."""
    if not folder.is_dir():
        return []
    limit = (now - timedelta(days=days)).timestamp()
    gone = [path for path in sorted(folder.iterdir()) if path.stat().st_mtime < limit]
    for path in gone:
        path.unlink(missing_ok=True)
    return [path.name for path in gone]
