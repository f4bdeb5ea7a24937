"""What Prometheus may ask: counts by outcome and reason, never an instance, a profile or an address."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """The collectors of one running receiver, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        of = self.registry
        self.batches = Counter("receiver_batches", "Bodies answered with success", ["outcome"], registry=of)
        self.events = Counter("receiver_events", "Events in batches answered with success", ["outcome"], registry=of)
        self.quarantined = Counter("receiver_quarantined", "Bodies put aside", ["reason"], registry=of)
        self.refused = Counter("receiver_refused", "Bodies not taken", ["status"], registry=of)
        self.limited = Counter("receiver_limited", "Bodies answered with 429", ["limit"], registry=of)
        self.body_bytes = Counter("receiver_body_bytes", "Bytes of bodies read", registry=of)
        self.commit = Histogram(
            "receiver_commit_seconds", "From decision to commit, one transaction", buckets=SECONDS, registry=of
        )
        self.together = Histogram(
            "receiver_commit_jobs", "Bodies in one transaction", buckets=(1, 2, 4, 8, 16), registry=of
        )
        self.under_way = Gauge("receiver_under_way", "Bodies being decoded or waiting to be written", registry=of)
        self.last_received = Gauge("receiver_last_received_timestamp_seconds", "Time of the last success", registry=of)

    def on_commit(self, seconds: float, jobs: int) -> None:
        """One transaction is through."""
        self.commit.observe(seconds)
        self.together.observe(jobs)
