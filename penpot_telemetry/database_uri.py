"""`PENPOT_DATABASE_URI`, as Penpot's Java driver takes it, as the parameters of libpq."""

import re
from urllib.parse import parse_qsl, unquote

from penpot_telemetry.errors import ConfigError

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
"""What Penpot's driver calls an option, and what libpq calls it. Other options of that driver are ignored."""

_LIBPQ = """
    host hostaddr port user password passfile application_name connect_timeout options keepalives keepalives_idle
    keepalives_interval keepalives_count tcp_user_timeout sslmode sslrootcert sslcert sslkey sslcrl sslsni
    gssencmode krbsrvname channel_binding target_session_attrs load_balance_hosts
"""

LIBPQ_NAMES = frozenset(_LIBPQ.split())

SERVER_TYPES = {"primary": "read-write", "master": "read-write", "secondary": "standby", "preferSecondary": "any"}

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
                "PENPOT_DATABASE_URI has a host or a port that cannot be read: write it like postgresql://host:5432/name"
            )
        hosts.append(unquote(found["host"].strip("[]")))
        ports.append(found["port"] or "")
    return {"host": ",".join(hosts), "port": ",".join(ports) if any(ports) else ""}
