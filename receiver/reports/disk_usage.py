"""What the receiver takes of its disks, in bytes: by `stat` alone, so anyone may look while a server runs."""

import shutil
from pathlib import Path

import msgspec

from receiver.storage.paths import wal_of


class Sizes(msgspec.Struct, frozen=True, rename="kebab"):
    """Bytes of each part, and `free` on the disk of the warehouse. The quarantine counts in whole blocks."""

    warehouse: int
    wal: int
    landfill: int
    quarantine: int
    free: int


def read_sizes(warehouse: Path, landfill: Path, quarantine_bytes: int) -> Sizes:
    """The sizes as of now; what is not there has none."""
    return Sizes(
        warehouse=file_bytes(warehouse),
        wal=file_bytes(wal_of(warehouse)),
        landfill=sum(file_bytes(path) for path in landfill.rglob("*")),
        quarantine=quarantine_bytes,
        free=shutil.disk_usage(warehouse.absolute().parent).free,
    )


def file_bytes(path: Path) -> int:
    """The length of a file; 0 when it is gone meanwhile, or none."""
    try:
        return path.stat().st_size if path.is_file() else 0
    except FileNotFoundError:
        return 0
