"""Where a receiver keeps what it has: the files and folders, and their usual names."""

from dataclasses import dataclass
from pathlib import Path

from penpot_telemetry.wire.limits import MIB


@dataclass(frozen=True, slots=True)
class DataPaths:
    """Where the receiver keeps what it has, and for how long."""

    warehouse: Path
    landfill: Path
    quarantine: Path
    quarantine_budget: int = 1024 * MIB
    quarantine_days: int = 14
    landfill_days: int | None = None
    event_days: int | None = None
    report_days: int | None = None

    @property
    def tombstones(self) -> Path:
        """The file that knows what was erased: `telemetry.duckdb` → `telemetry.erased.json`."""
        return self.warehouse.with_suffix(".erased.json")

    @property
    def rebuilding(self) -> Path:
        """Where a warehouse is rebuilt before it takes the place of the old one."""
        return self.warehouse.with_name(self.warehouse.name + ".rebuilding")


def places_beside(warehouse: Path, landfill: Path | None = None, quarantine: Path | None = None) -> DataPaths:
    """The places named, or the usual ones: folders beside the warehouse that bear its name."""
    return DataPaths(
        warehouse, landfill or warehouse.with_suffix(".landfill"), quarantine or warehouse.with_suffix(".quarantine")
    )


def operator_file(warehouse: Path) -> Path:
    """Where a running server keeps the token of its operator: whoever may read the files may also erase."""
    return warehouse.with_suffix(".operator")


def address_file(warehouse: Path) -> Path:
    """Where a running server says at which URL it listens."""
    return warehouse.with_suffix(".address")


def wal_of(path: Path) -> Path:
    """The log that DuckDB keeps beside a file."""
    return path.with_name(path.name + ".wal")


def snapshot_of(path: Path) -> Path:
    """Where the published copy of a warehouse lies: `telemetry.duckdb` → `telemetry.snapshot.duckdb`."""
    return path.with_suffix(".snapshot.duckdb")
