"""What Prometheus may ask: counts by outcome and reason, never an instance, a profile or an address."""

from datetime import datetime
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from penpot_telemetry.context_values import RULES
from penpot_telemetry.errors import Reason
from penpot_telemetry.wire.batch import BadReason
from receiver.reports.disk_usage import Sizes
from receiver.storage.dead_letters import Shortage
from receiver.storage.records import Outcome

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)

REFUSALS = ("400", "401", "403", "408", "413", "415", "429", "503")
PARTS = ("warehouse", "wal", "landfill", "quarantine")


class Metrics:
    """The collectors of one running receiver, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        of = self.registry
        self.batches = Counter("receiver_batches", "Bodies answered with success", ["outcome"], registry=of)
        self.events = Counter("receiver_events", "Events in batches answered with success", ["outcome"], registry=of)
        self.quarantined = Counter("receiver_quarantined", "Bodies put aside", ["reason"], registry=of)
        self.quarantine_full = Counter(
            "receiver_quarantine_full", "Bodies answered with 503: no room in the quarantine", ["full"], registry=of
        )
        self.dead = Counter("receiver_dead_letters", "Events kept apart from their batch", ["reason"], registry=of)
        self.changed = Counter(
            "receiver_context_values_changed", "Context values reduced or left out", ["key"], registry=of
        )
        self.ignored = Counter("receiver_fields_ignored", "Fields around the events that were odd", registry=of)
        self.refused = Counter("receiver_refused", "Bodies not taken", ["status"], registry=of)
        self.limited = Counter("receiver_limited", "Bodies answered with 429", ["limit"], registry=of)
        for outcome in get_args(Outcome):  # each from the start, so that the first one counts
            self.batches.labels(outcome)
            self.events.labels(outcome)
        for reason in get_args(Reason):
            self.quarantined.labels(reason)
        for full in get_args(Shortage):
            self.quarantine_full.labels(full)
        for reason in get_args(BadReason):
            self.dead.labels(reason)
        for key in sorted(RULES):
            self.changed.labels(key)
        for status in REFUSALS:
            self.refused.labels(status)
        for limit in ("all", "instance"):
            self.limited.labels(limit)
        self.body_bytes = Counter("receiver_body_bytes", "Bytes of bodies read", registry=of)
        self.commit = Histogram(
            "receiver_commit_seconds", "From decision to commit, one transaction", buckets=SECONDS, registry=of
        )
        self.together = Histogram(
            "receiver_commit_jobs", "Bodies in one transaction", buckets=(1, 2, 4, 8, 16), registry=of
        )
        self.under_way = Gauge("receiver_under_way", "Bodies being decoded or waiting to be written", registry=of)
        self.queue = Gauge("receiver_queue_jobs", "Bodies decoded and waiting for the writer", registry=of)
        self.behind = Gauge("receiver_rollups_behind_events", "Events that the rollups lack as yet", registry=of)
        self.last_received = Gauge("receiver_last_received_timestamp_seconds", "Time of the last success", registry=of)
        self.last_batch = Gauge("receiver_last_batch_timestamp_seconds", "Time of the last batch loaded", registry=of)
        self.disk = Gauge("receiver_disk_bytes", "Bytes that each part takes", ["part"], registry=of)
        for part in PARTS:
            self.disk.labels(part)
        self.disk_free = Gauge("receiver_disk_free_bytes", "Bytes free where the warehouse is", registry=of)

    def on_start(self, last_received: datetime, last_batch: datetime | None) -> None:
        """The times that a warehouse remembers; all counters begin at 0."""
        self.last_received.set(last_received.timestamp())
        self.last_batch.set(0.0 if last_batch is None else last_batch.timestamp())

    def on_scrape(self, sizes: Sizes, queue: int, behind: int) -> None:
        """What is only looked at when somebody asks."""
        for part in PARTS:
            self.disk.labels(part).set(getattr(sizes, part))
        self.disk_free.set(sizes.free)
        self.queue.set(queue)
        self.behind.set(behind)

    def on_commit(self, seconds: float, jobs: int) -> None:
        """One transaction is through."""
        self.commit.observe(seconds)
        self.together.observe(jobs)
