"""The environment, read once at the edge: Penpot's own `PENPOT_*` names and ours, as one frozen value.

In comes a mapping of strings; out comes `Settings`. Nothing here opens a connection or a socket, and no message
repeats a secret. An empty value counts as unset, as in Penpot's own compose files.
"""

import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
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


Receipts = Literal["learned", "required", "optional"]
"""What counts as success; `Settings.receipts` says more."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where batches go. `url` never carries credentials, so it may be shown; they travel in `auth`."""

    url: str
    auth: tuple[str, str] | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)

    @property
    def warnings(self) -> Sequence[str]:
        """A warning when a token or a password would cross a network unencrypted, else nothing."""
        parts = urlsplit(self.url)
        is_here = parts.hostname in {"localhost", "::1"} or str(parts.hostname).startswith("127.")
        if not (self.token or self.auth) or parts.scheme != "http" or is_here:
            return ()
        return (f"the secret for {self.url} travels unencrypted: let the address begin with https",)

    def needs_receipt(self, receipts: Receipts, receipts_from: str | None) -> bool:
        """Whether only a receipt counts as success. `receipts_from`: the address that gave the last one."""
        return receipts == "required" or (receipts == "learned" and receipts_from == self.url)


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
    page_rows: int = PAGE_ROWS
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
    """The settings that an environment stands for. Raises ConfigError, which names the variable and what to put there.

    `home` is the user's home folder, `root` whether the process runs as root: both decide the default data folder.
    """
    get = _Reader(environ)
    flags = get.text("PENPOT_FLAGS") or ""
    return Settings(
        telemetry=_read_telemetry(get, flags),
        audit_log="audit-log" in read_flags(flags),
        data_dir=_data_dir(get, home, root),
        version=get.text("PENPOT_TELEMETRY_VERSION"),
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
        request_timeout=get.seconds("PENPOT_TELEMETRY_REQUEST_TIMEOUT", 120.0),
        attempts=get.number("PENPOT_TELEMETRY_ATTEMPTS", 5, 1, 100),
        retry_wait=get.seconds("PENPOT_TELEMETRY_RETRY_WAIT", 1.0),
        retry_wait_max=get.seconds("PENPOT_TELEMETRY_RETRY_WAIT_MAX", 30.0),
        receipts=_receipts(get),
        legacy_report=get.flag("PENPOT_TELEMETRY_LEGACY_REPORT"),
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


def _read_telemetry(get: "_Reader", flags: str) -> bool:
    """Whether telemetry is on. Penpot reads PENPOT_TELEMETRY_ENABLED first and its flags last, so the flags win.

    A `disable-telemetry` in upper case or in quotes, as some tools pass an env file on, is no flag to Penpot. Who wrote
    it wants no telemetry, so it is off here.
    """
    enabled = get.penpot_flag("PENPOT_TELEMETRY_ENABLED")
    words = _split_flags(flags)
    if any(word != "disable-telemetry" and _OFF_IN_OTHER_LETTERS.fullmatch(word) for word in words):
        return False
    return "telemetry" in read_flags(f"enable-telemetry {flags}" if enabled else flags)


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

    @property
    def environ(self) -> Mapping[str, str]:
        return self._environ

    def text(self, name: str) -> str | None:
        text = self._environ.get(name, "").strip()
        if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
            raise ConfigError(f"{name} should be text in UTF-8")
        return text or None

    def penpot_flag(self, name: str) -> bool:
        """A variable of Penpot's own, which takes these six words and no others."""
        value = self.text(name) or "false"
        if value not in {"true", "t", "1", "false", "f", "0"}:
            raise ConfigError(f"{name} should be true or false")
        return value in {"true", "t", "1"}

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
        if not text or "\0" in text:
            raise ConfigError(f"{name}_FILE is an empty file" if not text else f"{name}_FILE should hold text")
        return text


SYSTEM_DATA = Path("/var/lib/penpot-telemetry")


def _data_dir(get: _Reader, home: Path | None, root: bool) -> Path:
    """A folder of its own. Not below root's home: the embedded server must reach it as another user."""
    if chosen := get.text("PENPOT_TELEMETRY_DATA"):
        try:
            return Path(chosen).expanduser()
        except RuntimeError:
            raise ConfigError(
                "PENPOT_TELEMETRY_DATA begins with ~, and there is no home folder: write it out"
            ) from None
    if shared := get.text("XDG_DATA_HOME"):
        return Path(shared) / "penpot-telemetry"
    if root:
        return SYSTEM_DATA
    try:
        return (home or Path.home()) / ".local" / "share" / "penpot-telemetry"
    except RuntimeError:  # HOME is not set, and the user has no entry in the system's list
        return SYSTEM_DATA


def _endpoint(get: _Reader) -> Endpoint | None:
    uri = get.text("PENPOT_TELEMETRY_URI")
    return None if uri is None else read_endpoint(get.environ, uri)


def read_endpoint(environ: Mapping[str, str], uri: str, name: str = "PENPOT_TELEMETRY_URI") -> Endpoint:
    """An address with the token of the environment. Raises ConfigError also where the environment's proxy or
    authorities cannot be used for it.
    """
    get = _Reader(environ)
    token = get.secret("PENPOT_TELEMETRY_TOKEN")
    if token is not None and not (token.isascii() and token.isprintable()):
        raise ConfigError("PENPOT_TELEMETRY_TOKEN should be one line of ASCII, because it travels in a header")
    endpoint = parse_endpoint(uri, token, name)
    if endpoint.url.startswith("https:"):
        _check_authorities(get)
    _check_proxy(get, endpoint.url)
    return endpoint


def parse_endpoint(uri: str, token: str | None = None, name: str = "PENPOT_TELEMETRY_URI") -> Endpoint:
    """An address as what may be shown and what may not. Raises ConfigError, without repeating the address."""
    if "?" in uri or "#" in uri:
        raise ConfigError(
            f"{name} has a query or a fragment (from ? or # on), which logs would show: leave it out, put a token into "
            "PENPOT_TELEMETRY_TOKEN, and write ? as %3F and # as %23 in a password"
        )
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme not in {"http", "https"} or not host or any(c.isspace() for c in uri):
        raise ConfigError(
            f"{name} should be an http or https address, for example https://telemetry.example.org/ "
            "(in a password, other characters than A-Z a-z 0-9 - . _ ~ are written like %5B)"
        )
    host = f"[{host}]" if ":" in host else host
    netloc = host if port is None else f"{host}:{port}"
    auth = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    return Endpoint(urlunsplit((parts.scheme, netloc, parts.path or "/", "", "")), auth, token)


def _check_authorities(get: _Reader) -> None:
    """The file of authorities, which the HTTP library would miss in the middle of a pass."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if path := get.text(name):
            try:
                Path(path).stat() if Path(path).is_dir() else Path(path).open("rb").close()
            except OSError as error:
                raise ConfigError(
                    f"{name} names a file that cannot be read ({type(error).__name__}): correct or unset it"
                ) from None
            return


def _check_proxy(get: _Reader, url: str) -> None:
    """A SOCKS proxy needs a library that is no dependency of ours."""
    parts = urlsplit(url)
    for variable in (f"{parts.scheme}_proxy", "all_proxy"):
        name = variable if get.text(variable) else variable.upper()
        proxy = get.text(name)
        if proxy is None:
            continue
        if proxy.lower().startswith("socks") and find_spec("socks") is None and not _is_direct(get, parts.hostname):
            raise ConfigError(f"{name} names a SOCKS proxy, which needs: pip install 'requests[socks]'")
        return


def _is_direct(get: _Reader, host: str | None) -> bool:
    from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # noqa: PLC0415  slow to import

    return bool(proxy_bypass_environment(host, {"no": get.text("no_proxy") or get.text("NO_PROXY") or ""}))


def _database(get: _Reader) -> Mapping[str, str] | None:
    uri = get.text("PENPOT_DATABASE_URI")
    if uri is None:
        return None
    parameters = parse_database_uri(uri)
    for name, variable in (("user", "PENPOT_DATABASE_USERNAME"), ("password", "PENPOT_DATABASE_PASSWORD")):
        if value := get.secret(variable):
            parameters[name] = value
    return parameters


_DATABASE_URI = re.compile(
    r"postgres(?:ql)?://(?P<netloc>[^/?#]*)/(?P<dbname>[^/?#]+)(?:\?(?P<query>[^#]*))?(?:#.*)?", re.DOTALL
)
"""Taken apart by hand: `urlsplit` refuses brackets and full-width signs in a password, and its error repeats them."""


def parse_database_uri(uri: str) -> dict[str, str]:
    """Penpot's `postgresql://host/db` (also with `jdbc:`, credentials, several hosts, options) as libpq parameters.

    >>> parse_database_uri("jdbc:postgresql://db:5433/penpot?ssl=true&prepareThreshold=0")
    {'host': 'db', 'port': '5433', 'dbname': 'penpot', 'sslmode': 'verify-full'}
    """
    found = _DATABASE_URI.fullmatch(uri.removeprefix("jdbc:"))
    dbname = unquote(found["dbname"]) if found else ""
    if found is None or not dbname:
        raise ConfigError(
            "PENPOT_DATABASE_URI should look like postgresql://host/database: put the password into "
            "PENPOT_DATABASE_PASSWORD, or write / ? # and % in it as %2F %3F %23 and %25"
        )
    credentials, _, hosts = found["netloc"].rpartition("@")
    user, _, password = credentials.partition(":")
    parameters = {"user": unquote(user), "password": unquote(password), **_hosts(hosts), "dbname": dbname}
    for name, value in parse_qsl(found["query"] or ""):
        if name == "ssl" and value in {"", "true"}:
            parameters.setdefault("sslmode", "verify-full")
        elif name == "currentSchema":
            parameters["options"] = f"-csearch_path={value}"
        elif name == "targetServerType":
            parameters["target_session_attrs"] = SERVER_TYPES.get(value, "any")
        elif known := JDBC_NAMES.get(name) or (name if name in LIBPQ_NAMES else None):
            parameters[known] = value
    return {name: value for name, value in parameters.items() if value}


_PLACE = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\]|[^\[\]:]*)(?::(?P<port>\d*))?")


def _hosts(netloc: str) -> dict[str, str]:
    """`a:1,b` as libpq's two lists; a bracketed IPv6 address loses its brackets."""
    hosts, ports = [], []
    for place in netloc.split(","):
        found = _PLACE.fullmatch(place)
        if found is None:
            raise ConfigError(
                "PENPOT_DATABASE_URI has a host that is none, or a port that is not a number: postgresql://host:5432/name"
            )
        hosts.append(unquote(found["host"].strip("[]")))
        ports.append(found["port"] or "")
    return {"host": ",".join(hosts), "port": ",".join(ports) if any(ports) else ""}


def _receipts(get: _Reader) -> Receipts:
    match get.text("PENPOT_TELEMETRY_RECEIPTS") or "learned":
        case "learned" | "required" | "optional" as choice:
            return choice
    raise ConfigError("PENPOT_TELEMETRY_RECEIPTS should be learned, required or optional")


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


def require_endpoint(settings: Settings) -> Endpoint:
    """Where to send. There is no default: an address that nobody chose gets nothing."""
    if settings.endpoint is None:
        raise ConfigError(
            "no receiver is named: set PENPOT_TELEMETRY_URI to its address, for example http://127.0.0.1:6070/"
        )
    return settings.endpoint
