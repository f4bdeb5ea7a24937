"""HTTP by hand: requests that no library would send, and as much of the answers as there is."""

import socket
import struct
import time
from contextlib import suppress

HEAD_END = b"\r\n\r\n"
WAIT = 60.0
"""Seconds after which a request that is neither answered nor hung up on counts as a hang."""


class HangError(AssertionError):
    """Neither an answer nor an end."""


def dial(port: int) -> socket.socket:
    """A connection to the receiver."""
    return socket.create_connection(("127.0.0.1", port), timeout=WAIT)


def post_of(body: bytes, *headers: str, line: str = "POST /telemetry HTTP/1.1", sized: bool = True) -> bytes:
    """A request with this body."""
    size = [f"content-length: {len(body)}"] if sized else []
    return "\r\n".join([line, "host: 127.0.0.1", *size, *headers, "", ""]).encode("latin-1") + body


def talk(port: int, data: bytes, answers: int = 1) -> list[tuple[int, bytes]]:
    """The answers to some bytes, so many at most, fewer when the receiver hangs up. Raises HangError."""
    with dial(port) as connection:
        with suppress(ConnectionError):  # hung up on before everything was sent: the answer may be there all the same
            connection.sendall(data)
        return read_answers(connection, answers)


def read_answers(connection: socket.socket, most: int, *, interim: bool = False) -> list[tuple[int, bytes]]:
    """Status and content of the next answers; a 100 counts as one when `interim`, and is passed over otherwise."""
    end = time.monotonic() + WAIT
    found: list[tuple[int, bytes]] = []
    data, open_still = b"", True
    while len(found) < most:
        one = split_answer(data, open_still)
        if one is not None:
            status, content, data = one
            if interim or status >= 200:
                found.append((status, content))
        elif open_still:
            connection.settimeout(max(0.01, end - time.monotonic()))
            try:
                more = connection.recv(65_536)
            except TimeoutError:
                raise HangError(f"no answer within {WAIT:g} seconds, after {len(found)}") from None
            except ConnectionError:
                more = b""
            data, open_still = data + more, bool(more)
        else:
            break
    return found


def split_answer(data: bytes, open_still: bool) -> tuple[int, bytes, bytes] | None:
    """One answer off the front: status, content, rest; None when it is not complete."""
    head, mark, rest = data.partition(HEAD_END)
    if not mark:
        return None
    status = int(head[9:12])
    if status < 200:
        return status, b"", rest
    for line in head.lower().split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name == b"content-length":
            size = int(value)
            return (status, rest[:size], rest[size:]) if len(rest) >= size else None
    return None if open_still else (status, rest, b"")


def reset(connection: socket.socket) -> None:
    """Hang up the rude way."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
