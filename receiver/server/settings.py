"""What an operator may decide, as one frozen value; built once, at the edge, from options and RECEIVER_* variables."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from penpot_telemetry.errors import ConfigError
from penpot_telemetry.wire.limits import MIB, RECEIPT, Limits
from receiver.server.secrets import Access, read_access
from receiver.storage.paths import DataPaths


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the server is told. Sizes in bytes, times in seconds.

    `arriving` bounds the bodies on their way in at once, `under_way` those that are there whole, `at_work` those of
    them that are decoded or being written, and `body_budget` the bytes of bodies in memory, half-read ones included.
    `body_seconds` is what the head of a request may take, and then its body once more. `instance_rate` and `body_rate`
    are by minute, of one instance and of all senders together. Numbers of fewer instances or profiles than `threshold`
    are on no page, nor are those of instances that were heard on fewer days than `vouch_days`.
    """

    places: DataPaths
    host: str = "127.0.0.1"
    port: int = 6070
    limits: Limits = RECEIPT
    body_seconds: float = 30.0
    arriving: int = 1024
    under_way: int = 64
    at_work: int = 8
    body_budget: int = 256 * MIB
    instance_rate: int = 600
    body_rate: int = 12_000
    shutdown_seconds: float = 20.0
    threshold: int = 5
    vouch_days: int = 3
    require_signatures: bool = False
    snapshot_minutes: int | None = 60
    access: Access = field(default_factory=Access)


VARIABLES = {
    "RECEIVER_READ_TOKEN": "what readers must give, 16 characters or more; needed beyond loopback (or …_FILE)",
    "RECEIVER_INGEST_KEY": "what senders must give as a bearer (or …_FILE; default: any sender may deliver)",
    "RECEIVER_REQUIRE_SIGNATURES": "yes: put aside what is not signed; a live Penpot can't sign (no)",
    "RECEIVER_METRICS_TOKEN_NEEDED": "no: /metrics without the token (yes)",
    "RECEIVER_EVENT_DAYS": "remove events older than so many days, and what was added up of them (default: keep all)",
    "RECEIVER_REPORT_DAYS": "remove legacy reports that came longer ago (default: keep all)",
    "RECEIVER_LANDFILL_DAYS": "remove days of the landfill after so many (default: keep all, a rebuild needs them)",
    "RECEIVER_QUARANTINE_DAYS": "remove bodies that were put aside after so many days (14)",
    "RECEIVER_QUARANTINE_MIB": "keep at most so many MiB of them, an eighth of one sender (1024)",
    "RECEIVER_SNAPSHOT_MINUTES": "publish a snapshot so often, if anything changed; 0: only when asked (60)",
    "RECEIVER_BODY_MIB": "the largest body that is taken (16)",
    "RECEIVER_DECODED_MIB": "the most that a body may inflate to, and its rows may have (24)",
    "RECEIVER_MAX_EVENTS": "the most events in one batch (50000)",
    "RECEIVER_BODY_SECONDS": "how long a body may take to arrive, and the head before it (30)",
    "RECEIVER_ARRIVING": "bodies on their way in at once; then the slowest gives way (1024)",
    "RECEIVER_UNDER_WAY": "bodies that are there and wait at once, 503 for the next (64)",
    "RECEIVER_BODY_BUDGET_MIB": "memory for bodies, 503 beyond (256)",
    "RECEIVER_INSTANCE_BATCHES_PER_MINUTE": "batches of one instance in a minute, 429 beyond (600)",
    "RECEIVER_BODIES_PER_MINUTE": "bodies of all senders in a minute, 429 beyond (12000)",
    "RECEIVER_THRESHOLD": "the dashboard hides numbers of fewer instances or profiles; 1 hides nothing (5)",
    "RECEIVER_VOUCH_DAYS": "the dashboard leaves out Penpots that were heard on fewer days; 0: nobody (3)",
    "RECEIVER_SHUTDOWN_SECONDS": "how long SIGTERM waits for what was accepted (20)",
}
"""The variables beside those of the options, with what they mean."""


def read_settings(places: DataPaths, host: str, port: int, environ: Mapping[str, str]) -> Settings:
    """Settings from the places, the address and the environment. Raises ConfigError, naming the variable."""

    def whole(name: str, default: int, least: int = 1) -> int:
        text = environ.get(name, "").strip()
        if not text:
            return default
        if not (text.isascii() and text.isdigit() and len(text) <= len("999999999") and int(text) >= least):
            raise ConfigError(f"{name} must be a whole number above {least - 1}, in plain digits: {VARIABLES[name]}")
        return int(text)

    def yes(name: str) -> bool:
        text = environ.get(name, "").strip().lower()
        if text not in ("", "yes", "no"):
            raise ConfigError(f"{name} must be yes or no: {VARIABLES[name]}")
        return text == "yes"

    keep_for_ever = 0
    return Settings(
        places=DataPaths(
            places.warehouse,
            places.landfill,
            places.quarantine,
            quarantine_budget=whole("RECEIVER_QUARANTINE_MIB", 1024) * MIB,
            quarantine_days=whole("RECEIVER_QUARANTINE_DAYS", 14),
            landfill_days=whole("RECEIVER_LANDFILL_DAYS", keep_for_ever) or None,
            event_days=whole("RECEIVER_EVENT_DAYS", keep_for_ever) or None,
            report_days=whole("RECEIVER_REPORT_DAYS", keep_for_ever) or None,
        ),
        host=host,
        port=port,
        limits=Limits(
            body=whole("RECEIVER_BODY_MIB", 16) * MIB,
            decoded=whole("RECEIVER_DECODED_MIB", RECEIPT.decoded // MIB) * MIB,
            events=whole("RECEIVER_MAX_EVENTS", RECEIPT.events),
        ),
        body_seconds=whole("RECEIVER_BODY_SECONDS", 30),
        arriving=whole("RECEIVER_ARRIVING", 1024),
        under_way=whole("RECEIVER_UNDER_WAY", 64),
        body_budget=whole("RECEIVER_BODY_BUDGET_MIB", 256) * MIB,
        instance_rate=whole("RECEIVER_INSTANCE_BATCHES_PER_MINUTE", 600),
        body_rate=whole("RECEIVER_BODIES_PER_MINUTE", 12_000),
        shutdown_seconds=whole("RECEIVER_SHUTDOWN_SECONDS", 20),
        threshold=whole("RECEIVER_THRESHOLD", 5),
        vouch_days=whole("RECEIVER_VOUCH_DAYS", 3, least=0),
        require_signatures=yes("RECEIVER_REQUIRE_SIGNATURES"),
        snapshot_minutes=whole("RECEIVER_SNAPSHOT_MINUTES", 60, least=0) or None,
        access=read_access(environ),
    )
