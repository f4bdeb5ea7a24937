"""The reference receiver: batches of telemetry events in over HTTP, a DuckDB warehouse out."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from receiver.questions.reader import OpenWarehouse


def open_warehouse(path: "str | Path") -> "OpenWarehouse":
    """Open a warehouse for reading; its snapshot when a server holds the file. Raises DatabaseError.

    Questions are methods of what is returned, and answers are polars frames:

    >>> with open_warehouse("telemetry.duckdb") as warehouse:  # doctest: +SKIP
    ...     warehouse.active_profiles(first_day="2026-03-01")
    """
    from receiver.questions import reader  # noqa: PLC0415  `import receiver` loads neither duckdb nor polars

    return reader.open_warehouse(path)
