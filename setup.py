"""Compile the one hot module where a compiler is there; elsewhere the same source runs interpreted.

`PENPOT_TELEMETRY_COMPILE=0` leaves it interpreted. A failing compiler is no failing installation.
"""

import os

from setuptools import setup

KERNEL = "penpot_telemetry/wire/kernel.py"


def extensions() -> list[object]:
    """The kernel as an extension that may fail, or none."""
    if os.environ.get("PENPOT_TELEMETRY_COMPILE", "1") == "0":
        return []
    try:
        from mypyc.build import mypycify  # noqa: PLC0415  only for this
    except ImportError:
        return []
    found = mypycify(
        ["--follow-imports=silent", KERNEL], opt_level="3"
    )  # the build has not all that the package imports
    for extension in found:
        extension.optional = True
    return list(found)


setup(ext_modules=extensions())
