"""The JVM with the reference codec, kept warm in a process of its own and asked for one round at a time."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from penpot_telemetry.wire import blob

SCRIPT = Path(__file__).parents[1] / "tests" / "peer" / "peer.clj"
JARS = Path(os.environ.get("PENPOT_TELEMETRY_PEER_JARS", "/usr/share/java"))
NEEDED = [JARS / f"{name}.jar" for name in ("clojure", "data.fressian", "fressian", "spec.alpha", "core.specs.alpha")]
ZSTD = JARS / "zstd-jni.jar"


def is_there() -> bool:
    """Whether the peer can run: Debian's `clojure` and `libdata-fressian-clojure`."""
    return shutil.which("java") is not None and all(jar.exists() for jar in NEEDED) and SCRIPT.exists()


def command(*arguments: str) -> list[str]:
    """How the peer is started."""
    jars = ":".join(map(str, [*NEEDED, ZSTD]))
    return ["java", "-cp", jars, "clojure.main", str(SCRIPT), *arguments]


@contextmanager
def message(payload: Path) -> Iterator[tuple[Path, str]]:
    """What the peer is given, and what must be said of it: without a zstd of its own it gets bare fressian."""
    if ZSTD.exists():
        yield payload, ""
        return
    with TemporaryDirectory() as folder:
        bare = Path(folder) / "batch.fressian"
        bare.write_bytes(blob.decode_str(json.loads(payload.read_text())["events"]))
        yield bare, "the JVM without base64 and zstd (no libzstd-jni-java)"


class Peer:
    """A warm JVM."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            command("serve", str(path)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.events = int(self._answer())

    def decode(self) -> float:
        """Seconds of one decode."""
        return self._time("decode")

    def encode(self) -> float:
        """Seconds of one encode."""
        return self._time("encode")

    def close(self) -> None:
        """End it."""
        self.process.communicate()

    def _time(self, what: str) -> float:
        """Processor time of all the peer's threads, where the system tells it; else what its own clock says."""
        assert self.process.stdin is not None
        before = self._processor_time()
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        by_its_clock = float(self._answer()) / 1e3
        spent = self._processor_time() - before
        return spent or by_its_clock

    def _processor_time(self) -> float:
        """Seconds on a processor so far, of every thread."""
        total = 0
        for task in Path(f"/proc/{self.process.pid}/task").glob("*/schedstat"):
            with suppress(OSError):  # a thread that has ended since
                total += int(task.read_text().split()[0])
        return total / 1e9

    def _answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the peer ended")
        return line.strip()
