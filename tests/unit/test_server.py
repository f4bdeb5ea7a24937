"""The socket of the receiver."""

import asyncio
import socket

from receiver.server.serve import bind


def test_answers_leave_without_waiting_for_an_acknowledgement() -> None:
    async def ask() -> int:
        told: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            taken: socket.socket = writer.get_extra_info("socket")
            told.set_result(taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()
            await writer.wait_closed()

        listener = bind("127.0.0.1", 0)
        async with await asyncio.start_server(answer, sock=listener):
            _, writer = await asyncio.open_connection(*listener.getsockname())
            found = await told
            writer.close()
            await writer.wait_closed()
            return found

    assert asyncio.run(ask()) == 1
