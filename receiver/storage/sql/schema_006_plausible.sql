-- Numbers and totals are claims: a stranger may write 10^11 into either. What one instance claims on one day of receipt
-- is believed up to one full batch of a sender a minute, for each day since the day on which it was heard before; one
-- day, for a new one. The receiver's clock counts, not the sender's.
CREATE MACRO most_batches(days) AS 1440 * days;
CREATE MACRO most_events(days) AS 1440 * 10000 * days;

-- The days on which batches of an instance came.
CREATE VIEW receipt_days AS
SELECT instance_id, day,
       coalesce(day - lag(day) OVER (PARTITION BY instance_id ORDER BY day), 1) AS days_since
FROM (SELECT DISTINCT instance_id, received_at::DATE AS day FROM batches);

-- The view of version 1, with the day on which the batch after the gap came. What is more than can be, all gaps of the
-- instance's day together, is NULL in `missing`, so that no sum has it.
CREATE OR REPLACE VIEW sequence_gaps AS
SELECT instance_id, first_missing, last_missing, CASE WHEN is_plausible THEN missing END AS missing, reported_on,
       is_plausible
FROM (
    SELECT instance_id, previous_seq + 1 AS first_missing, batch_seq - 1 AS last_missing,
           batch_seq - previous_seq - 1 AS missing, reported_on,
           sum(batch_seq - previous_seq - 1) OVER (PARTITION BY instance_id, reported_on) <= most_batches(days_since)
               AS is_plausible
    FROM (
        SELECT instance_id, batch_seq, reported_on,
               coalesce(lag(batch_seq) OVER (PARTITION BY instance_id ORDER BY batch_seq), 0) AS previous_seq
        FROM (
            SELECT instance_id, batch_seq, min(received_at)::DATE AS reported_on
            FROM batches WHERE batch_seq IS NOT NULL
            GROUP BY ALL
        )
    ) g
    JOIN receipt_days r USING (instance_id)
    WHERE r.day = g.reported_on AND batch_seq > previous_seq + 1
)
ORDER BY instance_id, first_missing;

-- The view of version 5. What is more than can be is NULL, dropped and set aside together, so that no sum has it.
CREATE OR REPLACE VIEW sender_loss AS
SELECT instance_id, reported_on,
       CASE WHEN is_plausible THEN TRY_CAST(dropped AS BIGINT) END AS dropped,
       CASE WHEN is_plausible THEN TRY_CAST(quarantined AS BIGINT) END AS quarantined,
       is_plausible
FROM (
    SELECT c.*, greatest(abs(dropped), abs(quarantined)) <= most_events(days_since) AS is_plausible
    FROM (
        SELECT instance_id, received_at::DATE AS reported_on,
               sum(dropped - CASE WHEN began_anew THEN 0 ELSE previous_dropped END) AS dropped,
               sum(quarantined - CASE WHEN began_anew THEN 0 ELSE previous_quarantined END) AS quarantined
        FROM (
            SELECT instance_id, received_at, dropped, quarantined,
                   coalesce(recorded < lag(recorded) OVER sent, true) AS began_anew,
                   lag(dropped) OVER sent AS previous_dropped,
                   lag(quarantined) OVER sent AS previous_quarantined
            FROM batches
            WHERE recorded IS NOT NULL AND dropped IS NOT NULL AND quarantined IS NOT NULL
            WINDOW sent AS (PARTITION BY instance_id ORDER BY batch_seq, recorded, received_at)
        )
        GROUP BY ALL
    ) c
    JOIN receipt_days r USING (instance_id)
    WHERE r.day = c.reported_on
)
ORDER BY instance_id, reported_on;
