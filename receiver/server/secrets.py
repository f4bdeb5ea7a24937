"""Tokens and keys: read from the environment or a file, never shown."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from penpot_telemetry.errors import ConfigError

SHORTEST = 16
LONGEST = 1024

PROBES = frozenset({"/healthz", "/readyz"})
METRICS = "/metrics"


@dataclass(frozen=True, slots=True)
class Access:
    """The secrets in force. None: open to read and to deliver, and closed to erase."""

    read_token: str | None = field(default=None, repr=False)
    ingest_key: str | None = field(default=None, repr=False)
    open_metrics: bool = False
    operator_token: str | None = field(default=None, repr=False)

    def may_deliver(self, given: str) -> bool:
        """Whether a body is taken from this sender."""
        return self.ingest_key is None or is_secret(given, self.ingest_key)

    def may_read(self, path: str, given: str) -> bool:
        """Whether this reader is answered."""
        if self.read_token is None or path in PROBES or (path == METRICS and self.open_metrics):
            return True
        return is_secret(given, self.read_token)

    def may_operate(self, given: str) -> bool:
        """Whether this is who may change what was received: nobody, when there is no token for it."""
        return self.operator_token is not None and is_secret(given, self.operator_token)


def is_secret(given: str, secret: str) -> bool:
    """Whether they are equal, in a time that does not tell how far they agree."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), secret.encode())


def read_access(environ: Mapping[str, str]) -> Access:
    """The secrets from the environment and the files it names. Raises ConfigError, naming the variable."""
    needed = environ.get("RECEIVER_METRICS_TOKEN_NEEDED", "").strip().lower()
    if needed not in ("", "yes", "no"):
        raise ConfigError("RECEIVER_METRICS_TOKEN_NEEDED must be yes or no")
    return Access(
        read_secret(environ, "RECEIVER_READ_TOKEN"), read_secret(environ, "RECEIVER_INGEST_KEY"), needed == "no"
    )


def read_secret(environ: Mapping[str, str], name: str) -> str | None:
    """A secret from `name` or from the file that `<name>_FILE` names; None when neither says anything."""
    text, file = environ.get(name, ""), environ.get(name + "_FILE", "")
    if text and file:
        raise ConfigError(f"{name} and {name}_FILE are both set: keep one")
    if file:
        try:
            text = Path(file).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the file that {name}_FILE names cannot be read: {type(error).__name__}") from None
    elif not text:
        return None
    if not (SHORTEST <= len(text) <= LONGEST and text.isascii() and text.isprintable() and " " not in text):
        raise ConfigError(f"{name} must have {SHORTEST} to {LONGEST} printable ASCII characters without a space")
    return text
