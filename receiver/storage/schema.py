"""The tables of a warehouse, and how an older file gets those of today: one step a version, each a file of SQL.

`sql/schema.sql` is version 1, `sql/schema_002_*.sql` makes version 2 of it, and so on. A step that was released is
never changed: a new file goes through all of them, an old one through those it lacks.
"""

from importlib.resources import files

import duckdb

_FOLDER = files("receiver.storage") / "sql"

STEPS = [
    (_FOLDER / "schema.sql").read_text(),
    *(file.read_text() for file in sorted(_FOLDER.iterdir(), key=str) if file.name.startswith("schema_")),
]
VERSION = len(STEPS)

_SET_VERSION = "INSERT OR REPLACE INTO meta VALUES ('schema-version', ?)"


def upgrade(con: duckdb.DuckDBPyConnection, version: int = 0, to: int = VERSION) -> None:
    """Take the tables from one version to another, in the caller's transaction; version 0 is an empty file."""
    for step in STEPS[version:to]:
        con.execute(step)
    con.execute(_SET_VERSION, [str(to)])
