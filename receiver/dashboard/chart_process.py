"""Draws charts in a process of its own: one chart is a tenth of a second in which its interpreter does nothing else.

`ChartWorker` is the side of the server: it starts the process when the first chart is wanted, ends it when none was
wanted for a while, and starts another when it dies. The process reads orders from its standard input, writes pictures
to its standard output, and ends with its input. It is given no secret and opens no file and no socket.
"""

import asyncio
import contextlib
import hashlib
import io
import os
import sys
import time
from typing import BinaryIO

import msgspec
import polars as pl
import structlog

from receiver.questions.cards import find_card
from receiver.questions.sanitize import make_labels

SECONDS = 30.0
"""For one chart; the first waits for the libraries too, which takes about two."""

REST_SECONDS = 300.0
FAILED_SECONDS = 600.0
"""For so long a chart that could not be drawn is not tried again."""

MOST_FAILED = 1_000
LENGTH = 8

log = structlog.get_logger("receiver")


class ChartWorkerError(Exception):
    """A chart could not be drawn."""


class Order(msgspec.Struct, frozen=True):
    """A chart to draw: of which question, how wide, and the answer as an Arrow file.

    No width: with title and subtitles, for somebody who takes it elsewhere.
    """

    question: str
    width: int | None
    is_dark: bool
    frame: bytes


# --- the server's side ----------------------------------------------------------------------------------------------


class ChartWorker:
    """One process that draws, one chart at a time."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._rest: asyncio.TimerHandle | None = None
        self._failed: dict[bytes, float] = {}

    async def draw(self, question: str, frame: pl.DataFrame, *, width: int | None, is_dark: bool) -> bytes:
        """The chart as SVG. Raises ChartWorkerError."""
        file = io.BytesIO()
        make_labels(frame).write_ipc(file)
        order = msgspec.msgpack.encode(Order(question, width, is_dark, file.getvalue()))
        mark = hashlib.sha256(order).digest()
        if time.monotonic() - self._failed.get(mark, -FAILED_SECONDS) < FAILED_SECONDS:
            raise ChartWorkerError
        try:
            return await self._draw(order)
        except ChartWorkerError:
            self._failed[mark] = time.monotonic()
            if len(self._failed) > MOST_FAILED:
                del self._failed[next(iter(self._failed))]
            raise

    async def _draw(self, order: bytes) -> bytes:
        async with self._turn:
            if self._rest is not None:
                self._rest.cancel()
            picture = await self._exchange(order)
            self._rest = asyncio.get_running_loop().call_later(REST_SECONDS, self._let_go)
        if not picture:
            raise ChartWorkerError
        return picture

    async def close(self) -> None:
        """End the process and wait for it."""
        if self._rest is not None:
            self._rest.cancel()
        async with self._turn:
            await self._end()

    async def _exchange(self, order: bytes) -> bytes:
        """One order, one picture; with a new process when the old one has gone."""
        for _ in range(2):
            process = await self._running()
            if process.stdin is None or process.stdout is None:
                raise ChartWorkerError
            try:
                async with asyncio.timeout(SECONDS):
                    process.stdin.write(len(order).to_bytes(LENGTH, "big") + order)
                    await process.stdin.drain()
                    length = int.from_bytes(await process.stdout.readexactly(LENGTH), "big")
                    return await process.stdout.readexactly(length)
            except (OSError, asyncio.IncompleteReadError):
                await self._end()
                log.warning("chart_worker_ended", code=process.returncode)
            except BaseException as error:  # what is half read belongs to nobody
                process.kill()
                await self._end()
                if isinstance(error, TimeoutError):
                    log.warning("chart_worker_too_slow")
                    raise ChartWorkerError from None
                raise
        raise ChartWorkerError

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            secret = ("RECEIVER_", "PENPOT_")
            environ = {name: value for name, value in os.environ.items() if not name.startswith(secret)}
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "receiver.dashboard.chart_process",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=environ,
            )
        return self._process

    def _let_go(self) -> None:
        """Nobody wanted a chart for a while: its memory is worth more than the two seconds of the next start."""
        if self._process is not None and self._process.stdin is not None and not self._turn.locked():
            self._process.stdin.close()
            self._process = None

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(2):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


# --- the process ----------------------------------------------------------------------------------------------------


def main(orders: BinaryIO, pictures: BinaryIO) -> None:
    """Draw until the orders end. A chart that fails is an empty picture."""
    while len(head := orders.read(LENGTH)) == LENGTH:
        order = msgspec.msgpack.decode(orders.read(int.from_bytes(head, "big")), type=Order)
        try:
            picture = draw(order)
        except Exception:  # whatever it is, the next chart may be well
            picture = b""
        pictures.write(len(picture).to_bytes(LENGTH, "big") + picture)
        pictures.flush()


def draw(order: Order) -> bytes:
    """One chart as SVG."""
    import vl_convert  # noqa: PLC0415  the server's side needs neither

    from receiver.questions import charts  # noqa: PLC0415

    card, frame = find_card(order.question), pl.read_ipc(io.BytesIO(order.frame))
    if order.width is None:
        spec = charts.draw(card, frame).to_dict()
    else:
        spec = charts.draw_for_page(card, frame, width=order.width, is_dark=order.is_dark)
    return vl_convert.vegalite_to_svg(spec, allowed_base_urls=[]).encode()


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
