"""`python -m penpot_telemetry.run`: one pass, or one every so often; the same as `penpot-telemetry run`.

Exit code 0: shipped, nothing to do, or another sender is at work. 1: refused or unreachable, and everything is kept.
2: bad configuration.
"""

import sys

from penpot_telemetry.cli import main

if __name__ == "__main__":
    main(["run", *sys.argv[1:]], "python -m penpot_telemetry.run")
