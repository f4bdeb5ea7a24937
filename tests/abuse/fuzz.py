"""A valid request, damaged at random as bytes on the socket: whatever it becomes, there is an answer or an end."""

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.abuse.load import NOT_NOW, Ground
from tests.abuse.mixes import small_batch
from tests.abuse.wire import HEAD_END, HangError, post_of, talk

TOGETHER = 32
"""Requests at once: some only end with the time limit, and the others need not wait for them."""

SERVER_ERRORS = range(500, 600)

WORDS = (
    b"\r\n",
    b"\x00",
    b"\xff\xfe",
    b":",
    b" ",
    b"transfer-encoding: chunked\r\n",
    b"content-length: 0\r\n",
    b"expect: 100-continue\r\n",
    b"connection: upgrade\r\nupgrade: websocket\r\n",
    b"content-encoding: gzip\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"99999999999999999999",
    b"-1",
    b"%",
    b"../",
    b"{",
    b'"',
    b"\\ud800",
    b"1e999",
)


def flip(data: bytes, dice: random.Random, end: int) -> bytes:
    """One byte changed."""
    place = dice.randrange(end)
    return data[:place] + dice.randbytes(1) + data[place + 1 :]


def cut(data: bytes, dice: random.Random, end: int) -> bytes:
    """Some bytes removed."""
    place = dice.randrange(end)
    return data[:place] + data[place + dice.randrange(1, 30) :]


def repeat(data: bytes, dice: random.Random, end: int) -> bytes:
    """Some bytes twice."""
    place = dice.randrange(end)
    until = place + dice.randrange(1, 60)
    return data[:until] + data[place:]


def put(data: bytes, dice: random.Random, end: int) -> bytes:
    """A word put in."""
    place = dice.randrange(end)
    return data[:place] + dice.choice(WORDS) + data[place:]


def put_line(data: bytes, dice: random.Random, _: int) -> bytes:
    """A word put in as a line of the head."""
    ends = [place + 2 for place in range(data.find(HEAD_END) + 1) if data[place : place + 2] == b"\r\n"]
    place = dice.choice(ends or [0])
    return data[:place] + dice.choice(WORDS) + data[place:]


def swap(data: bytes, dice: random.Random, end: int) -> bytes:
    """Two pieces in each other's place."""
    first, second = sorted((dice.randrange(end), dice.randrange(end)))
    size = min(dice.randrange(1, 20), second - first)
    one, other = data[first : first + size], data[second : second + size]
    return data[:first] + other + data[first + size : second] + one + data[second + size :]


CHANGES: Sequence[Callable[[bytes, random.Random, int], bytes]] = (flip, cut, repeat, put, put_line, swap)


def mutate(request: bytes, dice: random.Random) -> bytes:
    """One to three changes, half of them in the head."""
    for _ in range(dice.randrange(1, 4)):
        head = request.find(HEAD_END) + len(HEAD_END)
        end = max(1, min(head, len(request)) if dice.random() < 0.5 else len(request))
        request = dice.choice(CHANGES)(request, dice, end)
    return request


def ask_damaged(ground: Ground, seeds: Sequence[int]) -> None:
    """One damaged request a seed; what is no fit answer is a problem that names its seed."""

    def one(seed: int) -> None:
        request = mutate(post_of(small_batch()), random.Random(seed))
        try:
            answers = talk(ground.port, request)
        except HangError as error:
            ground.book.problems.append(f"seed {seed}: {error}")
            return
        status, content = answers[0] if answers else (None, b"")
        ground.note(status, content)
        if status in SERVER_ERRORS and status not in NOT_NOW:
            ground.book.problems.append(f"seed {seed} was answered {status}")

    with ThreadPoolExecutor(TOGETHER) as many:
        list(many.map(one, seeds))
