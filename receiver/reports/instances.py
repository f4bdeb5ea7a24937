"""Who sends: one line an instance, with how far what it sends can be trusted, and which key signs for it.

Reads only. Trust is that of its newest batch: `signed` by a key, known again by `batch-id`, or by `digest` alone.
"""

from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

import duckdb
import msgspec


class Instance(msgspec.Struct, frozen=True, rename="kebab"):
    """An instance as it was seen. `lost` are events that it says it lost before sending, `missing` batches by sequence.

    `version` is that of its newest batch or report, `versions` how many it had; `signed` counts batches. `key` is
    pinned: no other may sign for it. Batches came on `days` days of receipt; too few for RECEIVER_VOUCH_DAYS and
    `is_vouched` is false. On `implausible_days` it claimed more than can be: `missing` and `lost` leave these out.
    """

    instance_id: UUID
    first_seen: datetime
    last_seen: datetime
    version: str
    versions: int
    batches: int
    events: int
    reports: int
    trust: Literal["signed", "batch-id", "digest"] | None
    signed: int
    key: str | None
    missing: int
    lost: int
    days: int
    is_vouched: bool
    implausible_days: int


class Listing(msgspec.Struct, frozen=True, rename="kebab"):
    """Some of the instances, those heard latest first, and how many there are."""

    total: int
    instances: list[Instance]


LISTING = """
WITH seen AS (
    SELECT instance_id, received_at, version, event_count, signed_by, if(signed_by IS NULL, trust, 'signed') AS trust,
           1 AS batches, 0 AS reports
    FROM batches
    UNION ALL
    SELECT instance_id, received_at, version, 0, NULL, NULL, 0, 1 FROM reports
), instances AS (
    SELECT instance_id, min(received_at) AS first_seen, max(received_at) AS last_seen,
           arg_max(version, received_at) AS version, count(DISTINCT version) AS versions,
           sum(batches)::BIGINT AS batches, sum(event_count)::BIGINT AS events, sum(reports)::BIGINT AS reports,
           arg_max(trust, received_at) AS trust, count(signed_by) AS signed, count(*) OVER () AS total
    FROM seen
    GROUP BY instance_id
    ORDER BY last_seen DESC, instance_id
    LIMIT $limit OFFSET $offset
)
SELECT total, instance_id, first_seen, last_seen, version, versions, batches, events, reports, trust, signed, key,
       coalesce(missing, 0), coalesce(lost, 0), coalesce(days, 0),
       instance_id NOT IN (SELECT unnest(unvouched_on($vouch_days))) AND days IS NOT NULL, coalesce(implausible_days, 0)
FROM instances
LEFT JOIN instance_keys USING (instance_id)
LEFT JOIN (SELECT instance_id, sum(missing)::BIGINT AS missing FROM sequence_gaps GROUP BY ALL) USING (instance_id)
LEFT JOIN (SELECT instance_id, sum(dropped + quarantined)::BIGINT AS lost FROM sender_loss GROUP BY ALL)
    USING (instance_id)
LEFT JOIN (SELECT instance_id, count(*) AS days FROM receipt_days GROUP BY ALL) USING (instance_id)
LEFT JOIN (
    SELECT instance_id, count(DISTINCT reported_on) AS implausible_days
    FROM (SELECT instance_id, reported_on, is_plausible FROM sender_loss
          UNION ALL SELECT instance_id, reported_on, is_plausible FROM sequence_gaps)
    WHERE NOT is_plausible
    GROUP BY ALL
) USING (instance_id)
ORDER BY last_seen DESC, instance_id
"""

MOST = 10_000
"""Instances in one listing."""


def list_instances(
    con: duckdb.DuckDBPyConnection, *, vouch_days: int = 0, limit: int = MOST, offset: int = 0
) -> Listing:
    """Up to `limit` instances after the first `offset` ones, those heard latest first."""
    found = con.execute(LISTING, {"vouch_days": vouch_days, "limit": limit, "offset": offset}).fetchall()
    instances = [
        Instance(instance_id, first_seen.replace(tzinfo=UTC), last_seen.replace(tzinfo=UTC), *rest)
        for _, instance_id, first_seen, last_seen, *rest in found
    ]
    return Listing(found[0][0] if found else 0, instances)


HEARD_LAST = """
SELECT instance_id FROM (
    SELECT instance_id, max(received_at) AS last FROM batches GROUP BY instance_id ORDER BY last DESC LIMIT ?
) ORDER BY last, instance_id
"""


def list_heard(con: duckdb.DuckDBPyConnection, most: int) -> list[UUID]:
    """The instances whose batches came last, `most` of them, the one heard latest at the end."""
    return [instance_id for (instance_id,) in con.execute(HEARD_LAST, [most]).fetchall()]


WITH_PIN = "SELECT instance_id FROM instance_keys WHERE key IS NOT NULL AND starts_with(instance_id::VARCHAR, ?)"


def find_pinned(con: duckdb.DuckDBPyConnection, beginning: str) -> list[UUID]:
    """The instances with a pinned key whose id begins like this."""
    return [instance_id for (instance_id,) in con.execute(WITH_PIN + " ORDER BY 1", [beginning.lower()]).fetchall()]


NEW_SINCE = """
SELECT instance_id FROM (
    SELECT instance_id, received_at FROM batches UNION ALL SELECT instance_id, received_at FROM reports
) GROUP BY instance_id HAVING min(received_at) >= ? ORDER BY instance_id
"""


def find_new(con: duckdb.DuckDBPyConnection, since: datetime) -> list[UUID]:
    """The instances that were first heard then or later; a naive UTC instant."""
    return [instance_id for (instance_id,) in con.execute(NEW_SINCE, [since]).fetchall()]
