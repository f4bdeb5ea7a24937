"""Years of events straight into a warehouse, without the journal and HTTP: for notebooks, benchmarks and tests.

In come columns of many instances, out come batches, one an instance, day and version, as if each had arrived on the
day after. Nothing of it is in a landfill, so a warehouse that was filled like this cannot be rebuilt.
"""

from collections.abc import Iterable, Sequence

import polars as pl

from penpot_telemetry.wire.batch import Columns
from receiver.frames import build_frame, reduce_contexts
from receiver.storage import connection, rollups, warehouse
from receiver.storage.warehouse import Warehouse

STAGE = """
CREATE TEMP TABLE staged (
    instance_id UUID, version VARCHAR, name VARCHAR, type VARCHAR, source VARCHAR, tracked_on DATE, profile_id UUID,
    props VARCHAR, context VARCHAR
)
"""

INSERT_STAGED = """
INSERT INTO staged
SELECT instance_id::UUID, version, name, type, source, tracked_on, profile_id::UUID, props, context FROM piece
"""

NUMBER = """
CREATE TEMP TABLE staged_batches AS
SELECT $last_batch + row_number() OVER in_order AS batch_no,
       $last_delivery + row_number() OVER in_order AS delivery_no,
       coalesce(any_value(known.batch_seq), 0)
           + row_number() OVER (PARTITION BY instance_id ORDER BY tracked_on, version) AS batch_seq,
       md5(concat_ws('|', instance_id, tracked_on, version)) AS hash,
       instance_id, tracked_on, version, count(*) AS events,
       tracked_on + INTERVAL 1 DAY + to_microseconds(row_number() OVER in_order) AS received_at
FROM staged
LEFT JOIN (SELECT instance_id, max(batch_seq) AS batch_seq FROM batches GROUP BY instance_id) known USING (instance_id)
GROUP BY instance_id, tracked_on, version
WINDOW in_order AS (ORDER BY tracked_on, instance_id, version)
"""

INSERT_BATCHES = """
INSERT INTO batches (batch_no, key, instance_id, batch_id, batch_seq, version, received_at, event_count, digest, trust)
SELECT batch_no, hash::UUID, instance_id, hash::UUID, batch_seq, version, received_at, events,
       'sha256:' || sha256(hash), 'batch-id'
FROM staged_batches ORDER BY batch_no
"""

INSERT_EVENTS = """
INSERT INTO events
SELECT batch_no, s.instance_id, s.version, name, type, source, s.tracked_on, profile_id, props, context
FROM staged s JOIN staged_batches b
    ON b.instance_id = s.instance_id AND b.tracked_on = s.tracked_on AND b.version = s.version
ORDER BY batch_no
"""

INSERT_DELIVERIES = """
INSERT INTO deliveries (delivery_no, received_at, kind, outcome, events, landfill_day, landfill_end)
SELECT delivery_no, received_at, 'batch', 'loaded', events, DATE '0001-01-01', 0
FROM staged_batches ORDER BY delivery_no
"""


def load_history(opened: Warehouse, chunks: Iterable[tuple[Sequence[bytes], Sequence[str], Columns]]) -> int:
    """Load events in one transaction and say how many. A chunk: instance ids (16 bytes), versions, event columns.

    Deterministic: the same chunks in an empty warehouse make the same content, times of receipt included.
    """
    con = opened.con
    with connection.transaction(con):
        con.execute(STAGE)
        for instance_ids, versions, columns in chunks:
            contexts, _, _ = reduce_contexts(columns.source, columns.context)
            piece = build_frame(columns, contexts).with_columns(
                pl.Series("instance_id", instance_ids, dtype=pl.Binary), pl.Series("version", versions, dtype=pl.String)
            )
            with connection.registered(con, "piece", piece):
                con.execute(INSERT_STAGED)
        numbers = opened.numbers
        con.execute(NUMBER, {"last_batch": numbers.batch, "last_delivery": numbers.delivery})
        for statement in (INSERT_BATCHES, INSERT_EVENTS, INSERT_DELIVERIES):
            con.execute(statement)
        ((events,),) = con.execute("SELECT count(*) FROM staged").fetchall()
        con.execute("DROP TABLE staged")
        con.execute("DROP TABLE staged_batches")
        rollups.catch_up(con)
    opened.numbers = warehouse.read_numbers(con)
    return int(events)
