"""A real Chromium, driven over its debugging pipe: opens a page in a window of a size and a theme, and tells what came.

The pipe is two file descriptors with JSON between NUL bytes, so no port is opened and no library is needed.
"""

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
SECONDS = 60.0


def find_chromium() -> str | None:
    """The program, when it is on this machine."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


@dataclass
class Seen:
    """What happened while a page was open."""

    requests: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Browser:
    """One page of one browser."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading = reading
        self._writing = writing
        self._rest = b""
        self._number = 0
        self._waiting: list[dict[str, Any]] = []
        self.seen = Seen()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session: str | None = None
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Ask the browser for something and wait for the answer; what happens meanwhile is noted."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if getattr(self, "_session", None):
            message["sessionId"] = self._session
        os.write(self._writing, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def open(
        self, url: str, *, width: int = 1280, height: int = 900, dark: bool = False, token: str | None = None
    ) -> None:
        """Load a page with all its pictures."""
        self._go("about:blank")
        self.seen = Seen()
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        headers = {}
        if token:
            headers = {"Authorization": "Basic " + base64.b64encode(f"reader:{token}".encode()).decode()}
        self.call("Network.setExtraHTTPHeaders", headers=headers)
        self._go(url)
        # What is below the window is loaded only when it comes near.
        self.run("for (const image of document.images) image.loading = 'eager'")
        self.wait_until("[...document.images].every(image => image.complete)")

    def _go(self, url: str) -> None:
        self._waiting.clear()
        self.call("Page.navigate", url=url)
        while not any(message["method"] == "Page.loadEventFired" for message in self._waiting):
            self._read()

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_until(self, script: str) -> None:
        """Wait for an expression to hold."""
        end = time.monotonic() + SECONDS
        while not self.run(script):
            assert time.monotonic() < end, script
            time.sleep(0.05)

    def press(self, key: str) -> None:
        """Press a key, Tab or Enter."""
        code = {"Tab": 9, "Enter": 13}[key]
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)

    def picture(self, path: Path | None = None, *, whole: bool = True) -> bytes:
        """The page as PNG, all of it or the window."""
        found = base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"])
        if path is not None:
            path.write_bytes(found)
        return found

    def _read(self) -> dict[str, Any]:
        """The next message; an event is noted on the way."""
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._reading], [], [], SECONDS)
            assert ready, "the browser says nothing"
            data = os.read(self._reading, 1 << 20)
            assert data, "the browser has ended"
            self._rest += data
        line, self._rest = self._rest.split(b"\0", 1)
        message: dict[str, Any] = json.loads(line)
        if "method" in message:
            self._waiting.append(message)
            self._note(message["method"], message["params"])
        return message

    def _note(self, method: str, parameters: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.seen.requests.append(parameters["request"]["url"])
        elif method == "Network.loadingFailed":
            self.seen.problems.append(parameters["errorText"])
        elif method == "Network.responseReceived" and parameters["response"]["status"] >= 400:
            self.seen.problems.append(f"{parameters['response']['status']} {parameters['response']['url']}")
        elif method == "Log.entryAdded":
            self.seen.problems.append(parameters["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in {"error", "warning", "assert"}:
            self.seen.problems.append(str(parameters["args"]))
        elif method == "Runtime.exceptionThrown":
            self.seen.problems.append(str(parameters["exceptionDetails"]))
        elif method == "Page.javascriptDialogOpening":
            self.seen.problems.append("a dialog opened")


@contextmanager
def browsing(program: str) -> Iterator[Browser]:
    """A browser with an empty profile of its own; ends with the block."""
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as folder:
        ours, theirs = zip(*(_pipe_end(end) for end in ("read", "write")), strict=True)
        actions = [(os.POSIX_SPAWN_DUP2, theirs[1], 3), (os.POSIX_SPAWN_DUP2, theirs[0], 4)]
        actions += [(os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)]  # type: ignore[list-item]
        line = [program, *OPTIONS, f"--user-data-dir={folder}"]
        pid = os.posix_spawn(program, line, os.environ, file_actions=actions, setpgroup=0)
        for end in theirs:
            os.close(end)
        try:
            yield Browser(ours[0], ours[1])
        finally:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            for end in ours:
                os.close(end)


def _pipe_end(our_end: str) -> tuple[int, int]:
    """A pipe as (our end, the browser's end), both above the numbers that the browser expects."""
    pair = os.pipe()
    reading, writing = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in pair)
    for end in pair:
        os.close(end)
    return (reading, writing) if our_end == "read" else (writing, reading)
