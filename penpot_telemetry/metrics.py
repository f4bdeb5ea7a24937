"""A small port for Prometheus beside `run --every`: results of passes in, numbers out. On loopback by default.

Needs the extra `metrics`. No number names an event, a person or an address.
"""

from typing import TYPE_CHECKING

from penpot_telemetry.errors import ConfigError

if TYPE_CHECKING:
    from penpot_telemetry.passes import PassResult

LOOPBACK = "127.0.0.1"
COUNTED = ("shipped", "dropped", "quarantined", "missing")


class PassMetrics:
    """The numbers of the passes of this process, served until it ends."""

    def __init__(self, address: str) -> None:
        """Opens the port. Raises ConfigError when the address is none, is taken, or the library is not there."""
        host, port = parse_address(address)
        try:
            from prometheus_client import (  # noqa: PLC0415  an extra
                CollectorRegistry,
                Counter,
                Gauge,
                start_http_server,
            )
        except ImportError:
            raise ConfigError("--metrics needs: pip install 'penpot-telemetry[metrics]'") from None
        registry = CollectorRegistry()
        prefix = "penpot_telemetry"
        self._last_pass = Gauge(f"{prefix}_last_pass_timestamp_seconds", "When the last pass ended.", registry=registry)
        self._last_success = Gauge(
            f"{prefix}_last_success_timestamp_seconds", "When the last pass with exit code 0 ended.", registry=registry
        )
        self._pending = Gauge(f"{prefix}_pending_events", "Events that wait, after the last pass.", registry=registry)
        self._passes = Counter(f"{prefix}_passes", "Passes by how they ended.", ["outcome"], registry=registry)
        self._events = Counter(
            f"{prefix}_events",
            "Events by what became of them, since this process began.",
            ["outcome"],
            registry=registry,
        )
        for name in COUNTED:
            self._events.labels(name)
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            raise ConfigError(
                f"--metrics: the port cannot be opened: {error.strerror or type(error).__name__}"
            ) from None
        self.port: int = self._server.server_port

    def observe(self, result: "PassResult") -> None:
        """Counts one pass."""
        moment = result.time.timestamp()
        self._last_pass.set(moment)
        if result.exit == 0:
            self._last_success.set(moment)
        self._passes.labels(result.outcome).inc()
        if result.report is None:
            return
        self._pending.set(max(0, result.report.pending))
        for name in COUNTED:
            self._events.labels(name).inc(max(0, getattr(result.report, name)))

    def close(self) -> None:
        """Closes the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def parse_address(text: str) -> tuple[str, int]:
    """`127.0.0.1:9464`, `[::1]:9464`, or a port alone, which is one of loopback.

    >>> parse_address("9464")
    ('127.0.0.1', 9464)
    """
    host, _, port = text.strip().rpartition(":")
    if not port.isascii() or not port.isdigit() or int(port) > 65_535:  # noqa: PLR2004  the last port
        raise ConfigError("--metrics should look like 127.0.0.1:9464")
    return host.strip("[]") or LOOPBACK, int(port)
