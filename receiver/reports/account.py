"""The receiver's account: what came against what is there, what senders lost, and a digest of all of it.

Reads only. Functions take a connection; every list is sorted.
"""

from datetime import UTC, date, datetime
from uuid import UUID

import duckdb
import msgspec

from receiver.reports.disk_usage import Sizes


class Check(msgspec.Struct, frozen=True, rename="kebab"):
    """Two numbers counted in different tables that must be one."""

    name: str
    left: int
    right: int
    holds: bool


class Loss(msgspec.Struct, frozen=True, rename="kebab"):
    """Events that a sender lost before sending, as it reported on one day."""

    instance_id: UUID
    reported_on: date
    dropped: int
    quarantined: int


class Gap(msgspec.Struct, frozen=True, rename="kebab"):
    """Sequence numbers of an instance that are missing, both ends included."""

    instance_id: UUID
    first_missing: int
    last_missing: int


class Account(msgspec.Struct, frozen=True, rename="kebab"):
    """received = loaded + duplicate + quarantined, in bodies. `losses` and `gaps` list the latest MOST only.

    `removed`: events that were loaded and are gone, by cause. `dead_letters`: events of loaded batches that are kept
    apart, by reason. `changed_values`: context values that were reduced or left out. `implausible_instances` claimed
    more on some day than can be: nothing of that day is in `lost_at_senders` or `missing_batches`.
    """

    received: int
    loaded: int
    duplicate: int
    quarantined: int
    batches: int
    reports: int
    events: int
    removed: dict[str, int]
    instances: int
    dropped_context_keys: int
    unknown_keys: int
    changed_values: int
    ignored_fields: int
    dead_letters: dict[str, int]
    superseded: int
    quarantine: dict[str, int]
    lost_at_senders: int
    missing_batches: int
    losses: list[Loss]
    gaps: list[Gap]
    checks: list[Check]
    implausible_instances: int = 0
    last_batch_at: datetime | None = None
    sizes: Sizes | None = None

    @property
    def adds_up(self) -> bool:
        """Whether every check holds."""
        return all(check.holds for check in self.checks)


class BatchLine(msgspec.Struct, frozen=True, rename="kebab"):
    """One batch of an instance as it came, for a sender that compares its ledger."""

    batch_id: UUID | None
    batch_seq: int
    digest: str | None
    events: int
    received_at: datetime
    status: str
    dead_letters: int = 0


MOST = 100

DEAD_BY_REASON = "SELECT reason, count(*) FROM dead_letters GROUP BY reason ORDER BY reason"

SUMS = """
SELECT (SELECT count(*) FROM deliveries) AS received,
       (SELECT count(*) FROM deliveries WHERE outcome = 'loaded') AS loaded,
       (SELECT count(*) FROM deliveries WHERE outcome = 'duplicate') AS duplicate,
       (SELECT count(*) FROM deliveries WHERE outcome = 'quarantined') AS quarantined,
       (SELECT coalesce(sum(events), 0)::BIGINT FROM deliveries) AS delivered_events,
       (SELECT coalesce(max(delivery_no), 0) FROM deliveries) AS last_delivery,
       (SELECT count(*) FROM batches) AS batches,
       (SELECT count(*) FROM reports) AS reports,
       (SELECT count(*) FROM events) AS events,
       (SELECT coalesce(sum(event_count), 0)::BIGINT FROM batches) AS counted_events,
       (SELECT coalesce(sum(repeats), 0)::BIGINT FROM batches)
           + (SELECT coalesce(sum(repeats), 0)::BIGINT FROM reports) AS repeats,
       (SELECT coalesce(sum(1 + repeats), 0)::BIGINT FROM quarantine) AS refused,
       (SELECT coalesce(sum(events), 0)::BIGINT FROM removed) AS removed_events,
       (SELECT coalesce(sum(events), 0)::BIGINT FROM forgotten) AS forgotten_events,
       (SELECT count(*) FROM forgotten WHERE kind <> 'refused') AS forgotten,
       (SELECT coalesce(sum(repeats), 0)::BIGINT FROM forgotten WHERE kind <> 'refused') AS forgotten_repeats,
       (SELECT coalesce(sum(1 + repeats), 0)::BIGINT FROM forgotten WHERE kind = 'refused') AS forgotten_refused,
       (SELECT count(DISTINCT instance_id) FROM batches) AS instances,
       (SELECT coalesce(sum(dropped_context_keys), 0)::BIGINT FROM batches) AS dropped_context_keys,
       (SELECT coalesce(sum(unknown_keys), 0)::BIGINT FROM batches) AS unknown_keys,
       (SELECT coalesce(sum(changed_values), 0)::BIGINT FROM batches) AS changed_values,
       (SELECT coalesce(sum(ignored_fields), 0)::BIGINT FROM batches) AS ignored_fields,
       (SELECT coalesce(sum(dead_letters), 0)::BIGINT FROM deliveries) AS delivered_letters,
       (SELECT coalesce(sum(dead_letters), 0)::BIGINT FROM batches) AS counted_letters,
       (SELECT count(*) FROM dead_letters) AS letters,
       (SELECT count(*) FROM superseded) AS superseded,
       (SELECT coalesce(sum(dropped + quarantined), 0)::BIGINT FROM sender_loss) AS lost_at_senders,
       (SELECT coalesce(sum(missing), 0)::BIGINT FROM sequence_gaps) AS missing_batches,
       (SELECT count(DISTINCT instance_id) FROM (
           SELECT instance_id, is_plausible FROM sender_loss
           UNION ALL SELECT instance_id, is_plausible FROM sequence_gaps
       ) WHERE NOT is_plausible) AS implausible_instances
"""

UNEVEN = """
SELECT count(*)
FROM (SELECT batch_no, count(*) AS n FROM events GROUP BY batch_no) AS found
FULL JOIN (SELECT batch_no, event_count AS n FROM batches WHERE event_count > 0) AS counted USING (batch_no)
WHERE found.n IS DISTINCT FROM counted.n
"""

LOSSES = """
SELECT instance_id, reported_on, dropped, quarantined FROM sender_loss WHERE dropped <> 0 OR quarantined <> 0
ORDER BY reported_on DESC, instance_id LIMIT ?
"""

GAPS = """
SELECT instance_id, first_missing, last_missing FROM sequence_gaps WHERE is_plausible ORDER BY ALL LIMIT ?
"""

REMOVED = """
SELECT cause, sum(events)::BIGINT
FROM (SELECT cause, events FROM removed UNION ALL SELECT cause, events FROM forgotten)
GROUP BY cause ORDER BY cause
"""

REASONS = "SELECT reason, sum(1 + repeats)::BIGINT FROM quarantine GROUP BY reason ORDER BY reason"


def read_account(con: duckdb.DuckDBPyConnection) -> Account:
    """The account as of now, in one snapshot."""
    con.begin()
    try:
        cursor = con.execute(SUMS)
        names = [column[0] for column in cursor.description or ()]
        (row,) = cursor.fetchall()
        sums: dict[str, int] = dict(zip(names, row, strict=True))
        ((uneven,),) = con.execute(UNEVEN).fetchall()
        losses = [Loss(*line) for line in con.execute(LOSSES, [MOST]).fetchall()]
        gaps = [Gap(*line) for line in con.execute(GAPS, [MOST]).fetchall()]
        reasons = dict(con.execute(REASONS).fetchall())
        removed = dict(con.execute(REMOVED).fetchall())
    finally:
        con.rollback()
    return Account(
        received=sums["received"],
        loaded=sums["loaded"],
        duplicate=sums["duplicate"],
        quarantined=sums["quarantined"],
        batches=sums["batches"],
        reports=sums["reports"],
        events=sums["events"],
        removed=removed,
        instances=sums["instances"],
        dropped_context_keys=sums["dropped_context_keys"],
        unknown_keys=sums["unknown_keys"],
        changed_values=sums["changed_values"],
        ignored_fields=sums["ignored_fields"],
        dead_letters=dict(con.execute(DEAD_BY_REASON).fetchall()),
        superseded=sums["superseded"],
        quarantine=reasons,
        lost_at_senders=sums["lost_at_senders"],
        missing_batches=sums["missing_batches"],
        implausible_instances=sums["implausible_instances"],
        losses=losses,
        gaps=gaps,
        checks=list_checks(sums, uneven),
        last_batch_at=last_batch_at(con),
    )


def last_batch_at(con: duckdb.DuckDBPyConnection) -> datetime | None:
    """When the last batch that was loaded came."""
    ((received_at,),) = con.execute("SELECT max(received_at) FROM batches").fetchall()
    return None if received_at is None else received_at.replace(tzinfo=UTC)


def list_checks(sums: dict[str, int], uneven: int) -> list[Check]:
    """The sums that must agree: the deliveries on one side, the tables they went to on the other.

    A row that was forgotten still counts as what it was, and removed events as events that were delivered.
    """
    loaded = sums["batches"] + sums["reports"] + sums["forgotten"]
    repeats = sums["repeats"] + sums["forgotten_repeats"]
    refused = sums["refused"] + sums["forgotten_refused"]
    removed = sums["removed_events"] + sums["forgotten_events"]
    pairs = {
        "received = loaded + duplicate + quarantined": (sums["received"], loaded + repeats + refused),
        "deliveries are numbered without a gap": (sums["received"], sums["last_delivery"]),
        "loaded deliveries = batches + reports": (sums["loaded"], loaded),
        "duplicate deliveries = repeats of batches and reports": (sums["duplicate"], repeats),
        "quarantined deliveries = quarantine and its repeats": (sums["quarantined"], refused),
        "events received = loaded + dead + removed": (
            sums["delivered_events"] + sums["delivered_letters"],
            sums["counted_events"] + sums["counted_letters"] + removed,
        ),
        "dead letters counted in batches = rows of dead letters": (sums["counted_letters"], sums["letters"]),
        "events counted in batches = rows of events": (sums["counted_events"], sums["events"]),
        "batches whose rows are not as many as counted": (uneven, 0),
    }
    return [Check(name, left, right, left == right) for name, (left, right) in pairs.items()]


BATCHES_OF = """
SELECT batch_id, batch_seq, digest, event_count + coalesce(gone, 0), received_at, 'accepted' AS status, dead_letters
FROM batches LEFT JOIN (SELECT batch_no, sum(events)::BIGINT AS gone FROM removed GROUP BY batch_no) USING (batch_no)
WHERE instance_id = $instance AND batch_seq > $after
UNION ALL
SELECT batch_id, batch_seq, events_digest, 0, received_at, 'quarantined', 0 FROM quarantine
WHERE instance_id = $instance AND batch_seq > $after
ORDER BY batch_seq, received_at
LIMIT $limit
"""


def list_batches(con: duckdb.DuckDBPyConnection, instance_id: UUID, after: int, limit: int) -> list[BatchLine]:
    """The numbered batches of an instance past a sequence number, in their order."""
    found = con.execute(BATCHES_OF, {"instance": instance_id, "after": after, "limit": limit}).fetchall()
    return [
        BatchLine(batch_id, seq, digest, events, received_at.replace(tzinfo=UTC), status, letters)
        for batch_id, seq, digest, events, received_at, status, letters in found
    ]


QUARANTINED = """
SELECT quarantine_no, received_at, reason, size, repeats, body, message, key, became
FROM quarantine ORDER BY quarantine_no
"""


class Refused(msgspec.Struct, frozen=True, rename="kebab"):
    """One quarantined body, without the body.

    `body` is its file name while it is kept, `became` what a retry made of it: `loaded` or `duplicate`.
    """

    quarantine_no: int
    received_at: datetime
    reason: str
    size: int
    repeats: int
    body: str | None
    message: str
    key: UUID
    became: str | None = None


def list_refused(con: duckdb.DuckDBPyConnection) -> list[Refused]:
    """What was put aside, oldest first."""
    return [
        Refused(number, received_at.replace(tzinfo=UTC), *rest)
        for number, received_at, *rest in con.execute(QUARANTINED).fetchall()
    ]


LETTERS = """
SELECT dead_letter_no, d.received_at, reason, event_no, message, event, is_whole, d.instance_id, key, digest, version
FROM dead_letters d JOIN batches USING (batch_no)
ORDER BY dead_letter_no
"""


class Letter(msgspec.Struct, frozen=True, rename="kebab"):
    """One dead letter, with what is needed of its batch (`key`, `digest`, `version`). `event`: JSON text while kept."""

    dead_letter_no: int
    received_at: datetime
    reason: str
    event_no: int
    message: str
    event: str | None
    is_whole: bool
    instance_id: UUID
    key: UUID
    digest: str
    version: str


def list_letters(con: duckdb.DuckDBPyConnection) -> list[Letter]:
    """The dead letters, oldest first."""
    return [
        Letter(number, received_at.replace(tzinfo=UTC), *rest)
        for number, received_at, *rest in con.execute(LETTERS).fetchall()
    ]


DIGEST = """
WITH lines AS (
    SELECT concat_ws('|', 'event', key, e.instance_id, e.version, name, type, source, tracked_on, profile_id, props,
                     context, (name IS NULL)::INT + 2 * (type IS NULL)::INT + 4 * (source IS NULL)::INT
                              + 8 * (tracked_on IS NULL)::INT + 16 * (profile_id IS NULL)::INT) AS line
    FROM events e JOIN batches USING (batch_no)
    UNION ALL
    SELECT concat_ws('|', 'batch', to_json(b)) FROM (SELECT * EXCLUDE (batch_no) FROM batches) b
    UNION ALL
    SELECT concat_ws('|', 'dead', to_json(d)) FROM (
        SELECT b.key, l.* EXCLUDE (dead_letter_no, batch_no) FROM dead_letters l JOIN batches b USING (batch_no)
    ) d
    UNION ALL
    SELECT concat_ws('|', 'superseded', to_json(s)) FROM superseded s
    UNION ALL
    SELECT concat_ws('|', 'report', to_json(r)) FROM (SELECT * EXCLUDE (report_no) FROM reports) r
    UNION ALL
    SELECT concat_ws('|', 'key', to_json(k)) FROM instance_keys k
    UNION ALL
    SELECT concat_ws('|', 'forgotten', to_json(f)) FROM (
        SELECT * EXCLUDE (cause, removed_at) FROM forgotten WHERE kind <> 'refused' -- nor is the quarantine in here
    ) f
), sums AS (
    SELECT count(*) AS n, sum(md5_number_lower(line)::HUGEINT) AS low, sum(md5_number_upper(line)::HUGEINT) AS high
    FROM lines
)
SELECT md5(concat_ws('|', n, low, high)) FROM sums
"""


def content_digest(con: duckdb.DuckDBPyConnection) -> str:
    """32 hex digits over every event with its batch, every batch, report and pinned key, and what is known again of
    those that are gone: not over numbers or order.
    """
    ((digest,),) = con.execute(DIGEST).fetchall()
    return str(digest)
