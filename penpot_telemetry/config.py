"""The environment, read once at the edge: Penpot's own `PENPOT_*` names and ours, as one frozen value.

In comes a mapping of strings; out comes `Settings`. Nothing here opens a connection or a socket, and no message
repeats a secret. An empty value counts as unset, as in Penpot's own compose files.
"""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit
from uuid import UUID

from penpot_telemetry.errors import ConfigError
from penpot_telemetry.wire.limits import PAGE_ROWS

CAP_ROWS = 100_000
"""Telemetry rows that may wait before the oldest are dropped (Penpot's own cap)."""

KEY_FILE_BYTES = 64 * 1024
"""The most that is read of a key's file: a key has some hundred bytes."""

JDBC_NAMES = {
    "ApplicationName": "application_name",
    "user": "user",
    "password": "password",
    "sslmode": "sslmode",
    "sslrootcert": "sslrootcert",
    "sslcert": "sslcert",
    "sslkey": "sslkey",
    "connectTimeout": "connect_timeout",
    "targetServerType": "target_session_attrs",
}
"""What Penpot's driver calls an option, and what libpq calls it. Tuning of the other driver is passed over."""

_LIBPQ = """
    host hostaddr port user password passfile application_name connect_timeout options keepalives keepalives_idle
    keepalives_interval keepalives_count tcp_user_timeout sslmode sslrootcert sslcert sslkey sslcrl sslsni
    gssencmode krbsrvname channel_binding target_session_attrs load_balance_hosts
"""
LIBPQ_NAMES = frozenset(_LIBPQ.split())

SERVER_TYPES = {"primary": "read-write", "master": "read-write", "secondary": "standby", "preferSecondary": "any"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where batches go. `url` never carries credentials, so it may be shown; they travel in `auth`."""

    url: str
    auth: tuple[str, str] | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that may be set; `read_settings` builds it. Times in seconds."""

    telemetry: bool
    audit_log: bool
    data_dir: Path
    version: str
    endpoint: Endpoint | None = None
    database: Mapping[str, str] | None = field(default=None, repr=False)
    create_table: bool = False
    instance_id: UUID | None = None
    pseudonym_key: bytes | None = field(default=None, repr=False)
    signing_key: bytes | None = field(default=None, repr=False)
    page_rows: int = PAGE_ROWS
    cap_rows: int = CAP_ROWS
    retention_days: int | None = None
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    attempts: int = 5
    retry_wait: float = 1.0
    retry_wait_max: float = 30.0

    @property
    def active(self) -> bool:
        """Whether events are stored and shipped: telemetry on and the audit log off, as Penpot decides it."""
        return self.telemetry and not self.audit_log

    @property
    def inactive_reason(self) -> str:
        """Why nothing is stored or shipped, for a person."""
        if not self.telemetry:
            return (
                "telemetry is off: set PENPOT_FLAGS=enable-telemetry (or PENPOT_TELEMETRY_ENABLED=true) to turn it on"
            )
        return "the audit log is on (enable-audit-log in PENPOT_FLAGS), so its rows are not telemetry: nothing is sent"


def read_settings(environ: Mapping[str, str], *, home: Path | None = None, root: bool = False) -> Settings:
    """The settings that an environment stands for. Raises ConfigError, which names the variable and what to put there.

    `home` is the user's home folder, `root` whether the process runs as root: both decide the default data folder.
    """
    get = _Reader(environ)
    flags = read_flags(get.text("PENPOT_FLAGS") or "")
    return Settings(
        telemetry="telemetry" in flags or get.flag("PENPOT_TELEMETRY_ENABLED"),
        audit_log="audit-log" in flags,
        data_dir=_data_dir(get, home, root),
        version=get.text("PENPOT_TELEMETRY_VERSION") or f"penpot-telemetry-{own_version()}",
        endpoint=_endpoint(get),
        database=_database(get),
        create_table=get.flag("PENPOT_TELEMETRY_CREATE_TABLE"),
        instance_id=_instance_id(get),
        pseudonym_key=_pseudonym_key(get),
        signing_key=_signing_key(get),
        page_rows=get.number("PENPOT_TELEMETRY_PAGE_ROWS", PAGE_ROWS, 1, PAGE_ROWS),
        cap_rows=get.number("PENPOT_TELEMETRY_CAP_ROWS", CAP_ROWS, 0, 10**9),
        retention_days=get.number("PENPOT_TELEMETRY_RETENTION_DAYS", 0, 0, 36_500) or None,
        connect_timeout=get.seconds("PENPOT_TELEMETRY_CONNECT_TIMEOUT", 10.0),
        read_timeout=get.seconds("PENPOT_TELEMETRY_READ_TIMEOUT", 60.0),
        attempts=get.number("PENPOT_TELEMETRY_ATTEMPTS", 5, 1, 100),
        retry_wait=get.seconds("PENPOT_TELEMETRY_RETRY_WAIT", 1.0),
        retry_wait_max=get.seconds("PENPOT_TELEMETRY_RETRY_WAIT_MAX", 30.0),
    )


def read_flags(text: str) -> frozenset[str]:
    """Penpot's flags: words `enable-x` and `disable-x`, the last word on a subject wins.

    >>> sorted(read_flags("enable-telemetry enable-audit-log disable-audit-log"))
    ['telemetry']
    """
    on: set[str] = set()
    for word in text.replace(",", " ").split():
        if word.startswith("enable-"):
            on.add(word.removeprefix("enable-"))
        elif word.startswith("disable-"):
            on.discard(word.removeprefix("disable-"))
    return frozenset(on)


def own_version() -> str:
    """The release of this project."""
    try:
        return installed_version("penpot-telemetry")
    except PackageNotFoundError:
        return "0"


class _Reader:
    """Typed access to an environment; every failure names its variable."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, name: str) -> str | None:
        return self._environ.get(name, "").strip() or None

    def flag(self, name: str) -> bool:
        value = (self.text(name) or "false").lower()
        if value in {"true", "t", "yes", "on", "1"}:
            return True
        if value in {"false", "f", "no", "off", "0"}:
            return False
        raise ConfigError(f"{name} should be true or false")

    def number(self, name: str, default: int, least: int, most: int) -> int:
        text = self.text(name)
        if text is None:
            return default
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
            raise ConfigError(f"{name} should be a whole number between {least} and {most}")
        return int(text)

    def seconds(self, name: str, default: float) -> float:
        text = self.text(name)
        if text is None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 < value <= 86_400:  # noqa: PLR2004  a day
            raise ConfigError(f"{name} should be a number of seconds above 0, for example {default:g}")
        return value

    def secret(self, name: str) -> str | None:
        """The value itself, or the content of the file that `<name>_FILE` names."""
        path = self.text(f"{name}_FILE")
        if path is None:
            return self.text(name)
        try:
            text = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{name}_FILE cannot be read: {type(error).__name__}") from None
        if not text:
            raise ConfigError(f"{name}_FILE is an empty file")
        return text


def read_secret(environ: Mapping[str, str], name: str) -> str | None:
    """A secret from the environment, or from the file that `<name>_FILE` names."""
    return _Reader(environ).secret(name)


def _data_dir(get: _Reader, home: Path | None, root: bool) -> Path:
    """A folder of its own. Not below root's home: the embedded server must reach it as another user."""
    if chosen := get.text("PENPOT_TELEMETRY_DATA"):
        return Path(chosen).expanduser()
    if shared := get.text("XDG_DATA_HOME"):
        return Path(shared) / "penpot-telemetry"
    if root:
        return Path("/var/lib/penpot-telemetry")
    return (home or Path.home()) / ".local" / "share" / "penpot-telemetry"


def _endpoint(get: _Reader) -> Endpoint | None:
    uri = get.text("PENPOT_TELEMETRY_URI")
    return parse_endpoint(uri, get.secret("PENPOT_TELEMETRY_TOKEN")) if uri else None


def parse_endpoint(uri: str, token: str | None = None, name: str = "PENPOT_TELEMETRY_URI") -> Endpoint:
    """An address as what may be shown and what may not. Raises ConfigError, without repeating the address."""
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme not in {"http", "https"} or not host or any(c.isspace() for c in uri):
        raise ConfigError(f"{name} should be an http or https address, for example https://telemetry.example.org/")
    host = f"[{host}]" if ":" in host else host
    netloc = host if port is None else f"{host}:{port}"
    auth = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    return Endpoint(urlunsplit((parts.scheme, netloc, parts.path or "/", parts.query, "")), auth, token)


def _database(get: _Reader) -> Mapping[str, str] | None:
    uri = get.text("PENPOT_DATABASE_URI")
    if uri is None:
        return None
    parameters = parse_database_uri(uri)
    for name, variable in (("user", "PENPOT_DATABASE_USERNAME"), ("password", "PENPOT_DATABASE_PASSWORD")):
        if value := get.secret(variable):
            parameters[name] = value
    return parameters


def parse_database_uri(uri: str) -> dict[str, str]:
    """Penpot's `postgresql://host/db` (also with `jdbc:`, credentials, several hosts, options) as libpq parameters.

    >>> parse_database_uri("jdbc:postgresql://db:5433/penpot?ssl=true&prepareThreshold=0")
    {'host': 'db', 'port': '5433', 'dbname': 'penpot', 'sslmode': 'verify-full'}
    """
    parts = urlsplit(uri.removeprefix("jdbc:"))
    dbname = unquote(parts.path.removeprefix("/"))
    if parts.scheme not in {"postgresql", "postgres"} or not dbname or "/" in dbname:
        raise ConfigError("PENPOT_DATABASE_URI should look like postgresql://host/database")
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    found = {"user": unquote(user), "password": unquote(password), **_hosts(hosts), "dbname": dbname}
    for name, value in parse_qsl(parts.query):
        if name == "ssl" and value in {"", "true"}:
            found.setdefault("sslmode", "verify-full")
        elif name == "currentSchema":
            found["options"] = f"-csearch_path={value}"
        elif name == "targetServerType":
            found["target_session_attrs"] = SERVER_TYPES.get(value, "any")
        elif known := JDBC_NAMES.get(name) or (name if name in LIBPQ_NAMES else None):
            found[known] = value
    return {name: value for name, value in found.items() if value}


def _hosts(netloc: str) -> dict[str, str]:
    """`a:1,b` as libpq's two lists; a bracketed IPv6 address loses its brackets."""
    hosts, ports = [], []
    for place in netloc.split(","):
        host, colon, port = place.rpartition(":") if not place.endswith("]") else (place, "", "")
        hosts.append((host if colon else place).strip("[]"))
        ports.append(port if colon else "")
    if not all(port == "" or port.isdigit() for port in ports):
        raise ConfigError("PENPOT_DATABASE_URI has a port that is not a number")
    return {"host": ",".join(map(unquote, hosts)), "port": ",".join(ports) if any(ports) else ""}


def _instance_id(get: _Reader) -> UUID | None:
    text = get.text("PENPOT_TELEMETRY_INSTANCE_ID")
    if text is None:
        return None
    try:
        return UUID(text)
    except ValueError:
        raise ConfigError("PENPOT_TELEMETRY_INSTANCE_ID should be a uuid") from None


def _pseudonym_key(get: _Reader) -> bytes | None:
    text = get.secret("PENPOT_TELEMETRY_PSEUDONYM_KEY")
    if text is None:
        return None
    if len(text) < 32:  # noqa: PLR2004  a key that can be guessed gives the ids back
        raise ConfigError("PENPOT_TELEMETRY_PSEUDONYM_KEY should be at least 32 characters of randomness")
    return text.encode()


def _signing_key(get: _Reader) -> bytes | None:
    """The private key in the file that is named, when only its owner, and at most a group, may read it."""
    name = "PENPOT_TELEMETRY_SIGNING_KEY_FILE"
    path = get.text(name)
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
