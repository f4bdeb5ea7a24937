"""The environment, read once at the edge: Penpot's own `PENPOT_*` names and ours, as one frozen value.

In comes a mapping of strings; out comes `Settings`. Nothing here opens a connection or a socket, and no message
repeats a secret. An empty value counts as unset, as in Penpot's own compose files.
"""

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from penpot_telemetry.database_uri import parse_database_uri
from penpot_telemetry.endpoint import Endpoint, Receipts, read_endpoint
from penpot_telemetry.environment import Environment
from penpot_telemetry.errors import ConfigError
from penpot_telemetry.wire.limits import BATCH_ROWS

CAP_ROWS = 100_000
"""Telemetry rows that may wait before the oldest are dropped (Penpot's own cap)."""

KEY_FILE_BYTES = 64 * 1024
"""The most that is read of a key's file: a key has some hundred bytes."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that may be set; `read_settings` builds it. Times in seconds.

    `version`: the version of the Penpot, for batches whose rows do not say it; None when nobody set it.
    `receipts`: "learned" takes any 2xx for success until the address has given a receipt once; "required" takes
    nothing but a receipt for this batch, from the first batch on; "optional" takes any 2xx, always.
    `legacy_report`: whether the daily report of counts is sent too.
    `request_timeout`: the most that one request may take, from the connection to the end of its answer.
    """

    telemetry: bool
    audit_log: bool
    data_dir: Path
    version: str | None = None
    endpoint: Endpoint | None = None
    database: Mapping[str, str] | None = field(default=None, repr=False)
    create_table: bool = False
    instance_id: UUID | None = None
    pseudonym_key: bytes | None = field(default=None, repr=False)
    signing_key: bytes | None = field(default=None, repr=False)
    batch_rows: int = BATCH_ROWS
    cap_rows: int = CAP_ROWS
    retention_days: int | None = None
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    request_timeout: float = 120.0
    attempts: int = 5
    retry_wait: float = 1.0
    retry_wait_max: float = 30.0
    receipts: Receipts = "learned"
    legacy_report: bool = False

    @property
    def active(self) -> bool:
        """Whether events are stored and shipped: telemetry on and the audit log off, as Penpot decides it."""
        return self.telemetry and not self.audit_log

    @property
    def inactive_reason(self) -> str:
        """Why nothing is stored or shipped, for a person."""
        if not self.telemetry:
            return (
                "telemetry is off: put enable-telemetry into PENPOT_FLAGS (or set PENPOT_TELEMETRY_ENABLED=true), "
                "and no disable-telemetry, to turn it on"
            )
        return "the audit log is on (enable-audit-log in PENPOT_FLAGS), so its rows are not telemetry: nothing is sent"


def read_settings(environ: Mapping[str, str], *, home: Path | None = None, root: bool = False) -> Settings:
    """The settings in an environment. Raises ConfigError, which names the variable and what to put there.

    `home` is the user's home folder, `root` whether the process runs as root: both decide the default data folder.
    """
    environment = Environment(environ)
    flags = environment.text("PENPOT_FLAGS") or ""
    return Settings(
        telemetry=_read_telemetry(environment, flags),
        audit_log="audit-log" in read_flags(flags),
        data_dir=_data_dir(environment, home, root),
        version=environment.text("PENPOT_TELEMETRY_VERSION"),
        endpoint=_endpoint(environment),
        database=_database(environment),
        create_table=environment.boolean("PENPOT_TELEMETRY_CREATE_TABLE"),
        instance_id=_instance_id(environment),
        pseudonym_key=_pseudonym_key(environment),
        signing_key=_signing_key(environment),
        batch_rows=environment.number("PENPOT_TELEMETRY_PAGE_ROWS", BATCH_ROWS, 1, BATCH_ROWS),
        cap_rows=environment.number("PENPOT_TELEMETRY_CAP_ROWS", CAP_ROWS, 0, 10**9),
        retention_days=environment.number("PENPOT_TELEMETRY_RETENTION_DAYS", 0, 0, 36_500) or None,
        connect_timeout=environment.seconds("PENPOT_TELEMETRY_CONNECT_TIMEOUT", 10.0),
        read_timeout=environment.seconds("PENPOT_TELEMETRY_READ_TIMEOUT", 60.0),
        request_timeout=environment.seconds("PENPOT_TELEMETRY_REQUEST_TIMEOUT", 120.0),
        attempts=environment.number("PENPOT_TELEMETRY_ATTEMPTS", 5, 1, 100),
        retry_wait=environment.seconds("PENPOT_TELEMETRY_RETRY_WAIT", 1.0),
        retry_wait_max=environment.seconds("PENPOT_TELEMETRY_RETRY_WAIT_MAX", 30.0),
        receipts=_receipts(environment),
        legacy_report=environment.boolean("PENPOT_TELEMETRY_LEGACY_REPORT"),
    )


def read_flags(text: str) -> frozenset[str]:
    """Penpot's flags: words `enable-x` and `disable-x`, between them blanks and commas; other words say nothing.

    The last word on a subject wins. Upper case and quotes make another word, as in Penpot.

    >>> sorted(read_flags("enable-telemetry, enable-audit-log disable-audit-log"))
    ['telemetry']
    """
    on: set[str] = set()
    for word in _split_flags(text):
        if word.startswith("enable-"):
            on.add(word.removeprefix("enable-"))
        elif word.startswith("disable-"):
            on.discard(word.removeprefix("disable-"))
    return frozenset(on)


def _split_flags(text: str) -> list[str]:
    return re.split(r"[\s,]+", text, flags=re.ASCII)  # Java's \s knows no other blanks


_OFF_IN_OTHER_LETTERS = re.compile(r"""["']*disable-telemetry["']*""", re.IGNORECASE)


def _read_telemetry(environment: Environment, flags: str) -> bool:
    """Whether telemetry is on. Penpot reads PENPOT_TELEMETRY_ENABLED first and its flags last, so the flags win.

    A `disable-telemetry` in upper case or in quotes, as some tools pass an env file on, is no flag to Penpot. Who wrote
    it wants no telemetry, so it is off here.
    """
    enabled = environment.boolean("PENPOT_TELEMETRY_ENABLED", penpot=True)
    words = _split_flags(flags)
    if any(word != "disable-telemetry" and _OFF_IN_OTHER_LETTERS.fullmatch(word) for word in words):
        return False
    return "telemetry" in read_flags(f"enable-telemetry {flags}" if enabled else flags)


SYSTEM_DATA = Path("/var/lib/penpot-telemetry")


def _data_dir(environment: Environment, home: Path | None, root: bool) -> Path:
    """A folder of its own. Not below root's home: the embedded server must reach it as another user."""
    if chosen := environment.text("PENPOT_TELEMETRY_DATA"):
        try:
            return Path(chosen).expanduser()
        except RuntimeError:
            raise ConfigError(
                "PENPOT_TELEMETRY_DATA begins with ~, and there is no home folder: write it out"
            ) from None
    if shared := environment.text("XDG_DATA_HOME"):
        return Path(shared) / "penpot-telemetry"
    if root:
        return SYSTEM_DATA
    try:
        return (home or Path.home()) / ".local" / "share" / "penpot-telemetry"
    except RuntimeError:  # HOME is not set, and the user has no entry in the system's list
        return SYSTEM_DATA


def _endpoint(environment: Environment) -> Endpoint | None:
    uri = environment.text("PENPOT_TELEMETRY_URI")
    return None if uri is None else read_endpoint(environment.variables, uri)


def _database(environment: Environment) -> Mapping[str, str] | None:
    uri = environment.text("PENPOT_DATABASE_URI")
    if uri is None:
        return None
    parameters = parse_database_uri(uri)
    for name, variable in (("user", "PENPOT_DATABASE_USERNAME"), ("password", "PENPOT_DATABASE_PASSWORD")):
        if value := environment.secret(variable):
            parameters[name] = value
    return parameters


def _receipts(environment: Environment) -> Receipts:
    match environment.text("PENPOT_TELEMETRY_RECEIPTS") or "learned":
        case "learned" | "required" | "optional" as choice:
            return choice
    raise ConfigError("PENPOT_TELEMETRY_RECEIPTS should be learned, required or optional")


def _instance_id(environment: Environment) -> UUID | None:
    text = environment.text("PENPOT_TELEMETRY_INSTANCE_ID")
    if text is None:
        return None
    try:
        return UUID(text)
    except ValueError:
        raise ConfigError("PENPOT_TELEMETRY_INSTANCE_ID should be a uuid") from None


def _pseudonym_key(environment: Environment) -> bytes | None:
    text = environment.secret("PENPOT_TELEMETRY_PSEUDONYM_KEY")
    if text is None:
        return None
    if len(text) < 32:  # noqa: PLR2004  a key that can be guessed gives the ids back
        raise ConfigError("PENPOT_TELEMETRY_PSEUDONYM_KEY should be at least 32 characters of randomness")
    return text.encode()


def _signing_key(environment: Environment) -> bytes | None:
    """The private key in the file that is named, when only its owner, and at most a group, may read it."""
    name = "PENPOT_TELEMETRY_SIGNING_KEY_FILE"
    path = environment.text(name)
    if path is None:
        return None
    from penpot_telemetry.wire import signature  # noqa: PLC0415  only who signs needs it

    try:
        with Path(path).open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(KEY_FILE_BYTES)
    except OSError as error:
        raise ConfigError(
            f"{name} cannot be read: {type(error).__name__}; `penpot-telemetry keygen FILE` makes one"
        ) from None
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise ConfigError(f"{name} can be read by everybody, or changed by a group: chmod 600 the file")
    try:
        return signature.read_key(text)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{name} holds {error}: `penpot-telemetry keygen FILE` makes one") from None


def require_endpoint(settings: Settings) -> Endpoint:
    """Where to send. There is no default: an address that nobody chose gets nothing."""
    if settings.endpoint is None:
        raise ConfigError(
            "no receiver is named: set PENPOT_TELEMETRY_URI to its address, for example http://127.0.0.1:6070/"
        )
    return settings.endpoint
