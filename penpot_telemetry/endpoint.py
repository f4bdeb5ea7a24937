"""Where batches go: an address without its credentials, what proves who sends, and what the way there needs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit, urlunsplit

from penpot_telemetry.environment import Environment
from penpot_telemetry.errors import ConfigError

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
        return (f"the secret for {self.url} travels unencrypted: use an address that begins with https",)

    def needs_receipt(self, receipts: Receipts, receipts_from: str | None) -> bool:
        """Whether only a receipt counts as success. `receipts_from`: the address that gave the last one."""
        return receipts == "required" or (receipts == "learned" and receipts_from == self.url)


def read_endpoint(variables: Mapping[str, str], uri: str, name: str = "PENPOT_TELEMETRY_URI") -> Endpoint:
    """An address with the token of the environment. Raises ConfigError also where the environment's proxy or
    authorities cannot be used for it.
    """
    environment = Environment(variables)
    token = environment.secret("PENPOT_TELEMETRY_TOKEN")
    if token is not None and not (token.isascii() and token.isprintable()):
        raise ConfigError("PENPOT_TELEMETRY_TOKEN should be one line of ASCII, because it travels in a header")
    endpoint = parse_endpoint(uri, token, name)
    if endpoint.url.startswith("https:"):
        _check_authorities(environment)
    _check_proxy(environment, endpoint.url)
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


def _check_authorities(environment: Environment) -> None:
    """Checks the file of authorities, before the HTTP library finds it missing in the middle of a pass."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if path := environment.text(name):
            try:
                Path(path).stat() if Path(path).is_dir() else Path(path).open("rb").close()
            except OSError as error:
                raise ConfigError(
                    f"{name} names a file that cannot be read ({type(error).__name__}): correct or unset it"
                ) from None
            return


def _check_proxy(environment: Environment, url: str) -> None:
    """Checks that a SOCKS proxy can be used: it needs a library that is no dependency of ours."""
    parts = urlsplit(url)
    for variable in (f"{parts.scheme}_proxy", "all_proxy"):
        name = variable if environment.text(variable) else variable.upper()
        proxy = environment.text(name)
        if proxy is None:
            continue
        if (
            proxy.lower().startswith("socks")
            and find_spec("socks") is None
            and not _is_direct(environment, parts.hostname)
        ):
            raise ConfigError(f"{name} names a SOCKS proxy, which needs: pip install 'requests[socks]'")
        return


def _is_direct(environment: Environment, host: str | None) -> bool:
    from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # noqa: PLC0415  slow to import

    return bool(
        proxy_bypass_environment(host, {"no": environment.text("no_proxy") or environment.text("NO_PROXY") or ""})
    )
