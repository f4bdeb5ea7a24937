"""Questions to a warehouse: cards that say what each counts, answers as frames, charts of these.

`cards` reads the headers of `sql/*.sql`, `run` runs them on a connection, `charts` draws, `reader` is
the object for notebooks. Reads only; no file, clock or environment but the warehouse it is given.
"""
