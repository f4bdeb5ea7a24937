"""What was erased and must not come back: one small file beside the warehouse, outside of all that is rebuilt.

An erasure is written here before anything is removed, and is a receipt once all is. No id is kept, only its keyed
hash: the file alone says nothing of whom it is about, and an id that comes by is known again.
"""

import hashlib
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Self
from uuid import UUID

import msgspec
from msgspec import structs

from penpot_telemetry.errors import DatabaseError
from receiver.storage.journal import sync_folder
from receiver.storage.records import digest_bytes

Scope = Literal["instance", "profile"]


class Erasure(msgspec.Struct, frozen=True, rename="kebab", omit_defaults=True):
    """One erasure: what was received before `erased_at` is gone for good; a receipt once it has a `finished_at`.

    `removed` counts what there was to remove: rows of tables, files, records. `content_digest` is that of the
    warehouse afterwards, and `digest` is over this receipt without it.
    """

    number: int
    scope: Scope
    id_hash: str
    erased_at: datetime
    removed: dict[str, int]
    finished_at: datetime | None = None
    content_digest: str = ""
    digest: str = ""

    def finish(self, at: datetime, content_digest: str) -> Self:
        """The receipt."""
        done = structs.replace(self, finished_at=at, content_digest=content_digest, digest="")
        return structs.replace(done, digest=digest_bytes(msgspec.json.encode(done)))


class Tombstones(msgspec.Struct, frozen=True, rename="kebab"):
    """The file: the key of its hashes, the erasures in their order, and the names of bodies that went with them."""

    hash_key: bytes
    erasures: list[Erasure] = []
    bodies: list[str] = []

    @property
    def unfinished(self) -> list[Erasure]:
        """The erasures that were cut off."""
        return [one for one in self.erasures if one.finished_at is None]

    @property
    def latest(self) -> datetime | None:
        """The instant of the last erasure."""
        return max((one.erased_at for one in self.erasures), default=None)


@dataclass(frozen=True, slots=True)
class Erased:
    """The same for whoever meets an id: until when what came of it is erased, by hash."""

    hash_key: bytes
    instances: Mapping[str, datetime]
    profiles: Mapping[str, datetime]
    bodies: frozenset[str]

    def instance(self, instance_id: UUID | None) -> datetime | None:
        """Until when this instance is erased; None when it never was."""
        if instance_id is None or not self.instances:
            return None
        return self.instances.get(hash_id(self.hash_key, "instance", instance_id))

    def profile(self, profile_id: UUID) -> datetime | None:
        """Until when this profile is erased; None when it never was."""
        return self.profiles.get(hash_id(self.hash_key, "profile", profile_id))


def hash_id(hash_key: bytes, scope: Scope, wanted: UUID) -> str:
    """32 hex digits that stand for an id."""
    return hashlib.blake2b(wanted.bytes, digest_size=16, key=hash_key, person=scope.encode()).hexdigest()


def index(stones: Tombstones, erasures: Sequence[Erasure]) -> Erased:
    """Some of the erasures of a file, ready to be asked."""
    until: dict[Scope, dict[str, datetime]] = {"instance": {}, "profile": {}}
    for one in sorted(erasures, key=lambda erasure: erasure.erased_at):
        until[one.scope][one.id_hash] = one.erased_at
    return Erased(stones.hash_key, until["instance"], until["profile"], frozenset(stones.bodies))


def read(path: Path) -> Tombstones:
    """The file, or a new one's content when there is none. Raises DatabaseError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Tombstones)
    except FileNotFoundError:
        return Tombstones(secrets.token_bytes(32))
    except msgspec.MsgspecError as error:
        raise DatabaseError(
            f"{path} cannot be read ({type(error).__name__}): put its backup in place, "
            "without it what was erased could come back"
        ) from None


def write(path: Path, stones: Tombstones) -> None:
    """The file, whole or not at all, durable on return."""
    new = path.with_name(path.name + ".new")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(stones), indent=1) + b"\n")
        file.flush()
        os.fsync(fd)
    new.rename(path)
    sync_folder(path.parent)
