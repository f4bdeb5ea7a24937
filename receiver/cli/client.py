"""The warehouse of a command: opened here, or asked for at the server that holds it."""

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from receiver.server.secrets import read_secret
from receiver.storage import connection
from receiver.storage.paths import DataPaths, address_file
from receiver.storage.records import InUseError
from receiver.storage.store import Store

T = TypeVar("T")


UNAUTHORIZED, UNAVAILABLE = 401, 503


LONG_SECONDS = 3600.0


def open_store_there(places: DataPaths) -> Store:
    """The store for a command that makes none where there is none."""
    if not places.warehouse.exists():
        raise click.ClickException(f"{places.warehouse} does not exist: name the warehouse with --warehouse")
    from receiver.lifecycle.startup import open_store  # noqa: PLC0415  a command that only reads needs no writer

    return open_store(places)


def read_or_ask(places: DataPaths, url: str | None, read: Callable[[Any], T], ask_at: Callable[[str], T]) -> T:
    """What `read` finds in the warehouse, or what the server that holds it says."""
    if url is not None:
        return ask_at(url)
    try:
        con = open_to_read(places.warehouse)
    except InUseError:
        return ask_at(find_url(places.warehouse))
    with closing(con):
        return read(con)


def open_to_read(path: Path) -> Any:
    """A reading connection to a warehouse that is there."""
    if not path.exists():
        raise click.ClickException(f"{path} does not exist: name the warehouse with --warehouse")
    con = connection.connect(path, read_only=True)
    try:
        connection.check_version(con, path)
    except BaseException:
        con.close()
        raise
    return con


def find_url(warehouse: Path) -> str:
    """Where the server listens that has a warehouse."""
    try:
        return address_file(warehouse).read_text().strip()
    except FileNotFoundError:
        raise click.ClickException(f"{warehouse} is in use, but not by a server that says where it listens") from None


def ask_server(  # noqa: PLR0913  what a request is made of
    url: str,
    path: str,
    kind: type[T],
    method: str = "GET",
    seconds: float = 30,
    *,
    body: bytes | None = None,
    token: str | None = None,
) -> T:
    """What a running server answers; asked with the reading token from the environment, unless another is given."""
    import requests  # noqa: PLC0415  slow to load, and not needed while no server has the warehouse

    given = token or read_secret(os.environ, "RECEIVER_READ_TOKEN")

    def show_token(request: requests.PreparedRequest) -> requests.PreparedRequest:  # and no credentials of a .netrc
        if given:
            request.headers["Authorization"] = f"Bearer {given}"
        return request

    try:
        answer = requests.request(
            method, url.rstrip("/") + path, data=body, auth=show_token, timeout=seconds, allow_redirects=False
        )
        if answer.status_code == UNAUTHORIZED and token:
            raise click.ClickException(f"{url} is not the server that has this warehouse")
        if answer.status_code == UNAUTHORIZED:
            raise click.ClickException(f"{url} wants its token: set RECEIVER_READ_TOKEN or RECEIVER_READ_TOKEN_FILE")
        if answer.status_code == UNAVAILABLE:
            raise click.ClickException(f"{url} says: {msgspec.json.decode(answer.content, type=Refusal).message}")
        answer.raise_for_status()
        return msgspec.json.decode(answer.content, type=kind)
    except (requests.RequestException, msgspec.MsgspecError) as error:
        raise NoAnswerError(f"no answer from {url}: {type(error).__name__}") from None


class NoAnswerError(click.ClickException):
    """A server did not answer, or not in a way that is understood."""


class Refusal(msgspec.Struct, frozen=True):
    """What a server says when it cannot do now what it was asked for."""

    message: str
