-- One bad event costs one event: it is kept here, and its neighbours are loaded. And a batch that was refused can come
-- in parts: then the whole is superseded.

-- One row an event of a loaded batch that could not be loaded itself. It goes when a retry loads it.
CREATE TABLE dead_letters (
    dead_letter_no BIGINT NOT NULL,
    batch_no       BIGINT NOT NULL,    -- the row of `batches` that brought it
    instance_id    UUID NOT NULL,
    event_no       BIGINT NOT NULL,    -- its place in the batch as it was sent, from 0
    reason         VARCHAR NOT NULL,   -- not-a-map, missing-field, wrong-type, too-long, too-deep
    message        VARCHAR NOT NULL,   -- which field and why; never a value
    event          VARCHAR,            -- JSON of what is kept, context reduced; NULL: dropped, erased, or past its days
    is_whole       BOOLEAN NOT NULL,   -- nothing of it was cut, so a retry may load it
    received_at    TIMESTAMP NOT NULL  -- that of its batch
);

ALTER TABLE batches ADD COLUMN dead_letters BIGINT DEFAULT 0;   -- rows of `dead_letters` with this batch_no
ALTER TABLE batches ADD COLUMN changed_values BIGINT DEFAULT 0; -- context values reduced or left out on load
ALTER TABLE batches ADD COLUMN ignored_fields BIGINT DEFAULT 0; -- fields around the events that were odd
ALTER TABLE deliveries ADD COLUMN dead_letters BIGINT DEFAULT 0; -- events of this delivery that became dead letters

-- Batches that were refused and came in parts since: one that comes later is not loaded.
CREATE TABLE superseded (
    key           UUID PRIMARY KEY,    -- as the batch would have in `batches`
    instance_id   UUID,                -- these three are NULL once the instance was erased
    batch_id      UUID,
    superseded_by UUID,                -- the batch-id of the first part that was loaded
    since         TIMESTAMP NOT NULL
);

-- The view of version 1, and one thing more: batches of one sequence number were refused and given it again, so that they
-- come in the order of their totals, whenever they arrive.
CREATE OR REPLACE VIEW sender_loss AS
SELECT instance_id, received_at::DATE AS reported_on,
       sum(dropped - if(began_anew, 0, previous_dropped))::BIGINT AS dropped,
       sum(quarantined - if(began_anew, 0, previous_quarantined))::BIGINT AS quarantined
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
ORDER BY instance_id, reported_on;
