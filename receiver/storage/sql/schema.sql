-- The warehouse, version 1. Instants are UTC. Nothing here names a client address, and nothing ever may.
-- `events` has no index on purpose: a batch is known again by its key, so the key lives in `batches`.

CREATE TABLE meta (
    key   VARCHAR PRIMARY KEY,
    value VARCHAR NOT NULL
);

-- One row an event, as it was sent, day precision. props and context are JSON text of plain values.
CREATE TABLE events (
    batch_no    BIGINT NOT NULL,       -- the row of `batches` that brought it
    instance_id UUID NOT NULL,         -- the Penpot that sent it
    version     VARCHAR NOT NULL,      -- of the Penpot that sent it
    name        VARCHAR,
    type        VARCHAR,
    source      VARCHAR,
    tracked_on  DATE,
    profile_id  UUID,                  -- all zero: an event without a profile
    props       JSON,
    context     JSON                   -- safe keys only, whatever was sent
);

-- One row a batch that was loaded.
CREATE TABLE batches (
    batch_no             BIGINT NOT NULL,
    key                  UUID PRIMARY KEY,   -- 128 bits of sha-256 over trust class, instance and batch id (or digest)
    instance_id          UUID NOT NULL,
    batch_id             UUID,               -- NULL for a sender that gives none
    batch_seq            BIGINT,             -- 1, 2, 3 … for an instance; NULL likewise
    version              VARCHAR NOT NULL,
    received_at          TIMESTAMP NOT NULL, -- the receiver's clock; strictly growing
    event_count          BIGINT NOT NULL,    -- rows of `events` with this batch_no
    digest               VARCHAR NOT NULL,   -- sha256:… of the events text as it was sent
    trust                VARCHAR NOT NULL CHECK (trust IN ('batch-id', 'digest')),
    recorded             BIGINT,             -- the sender's totals since its beginning, as of this batch
    shipped              BIGINT,
    dropped              BIGINT,             -- by its gc, never sent
    quarantined          BIGINT,             -- set aside at the sender
    pending              BIGINT,
    repeats              BIGINT NOT NULL DEFAULT 0, -- deliveries of this batch after the first
    dropped_context_keys BIGINT NOT NULL DEFAULT 0, -- context keys outside the safe sets, removed on load
    unknown_keys         BIGINT NOT NULL DEFAULT 0, -- event keys outside the seven, removed on load
    overlap_events       BIGINT              -- trust 'digest' only: events that look like ones of the batch before
);

-- One row a legacy report, scrubbed: no e-mail, subscription, address or e-mail domain.
CREATE TABLE reports (
    report_no      BIGINT NOT NULL,
    key            UUID PRIMARY KEY,         -- over instance, day received and content
    instance_id    UUID NOT NULL,
    version        VARCHAR NOT NULL,
    received_at    TIMESTAMP NOT NULL,
    repeats        BIGINT NOT NULL DEFAULT 0,
    total_teams    BIGINT,
    total_projects BIGINT,
    total_files    BIGINT,
    total_users    BIGINT,
    jvm_cpus       BIGINT,
    jvm_heap_max   BIGINT,                   -- bytes
    stats          JSON NOT NULL,            -- every figure that was kept, the columns above included
    dropped_stats  BIGINT NOT NULL DEFAULT 0 -- figures and texts that were not kept
);

-- One row a body that can never be loaded; the bytes are in a file of their own and go after some days.
CREATE TABLE quarantine (
    quarantine_no BIGINT NOT NULL,
    key           UUID PRIMARY KEY,          -- over reason and digest: the same body again is counted, not kept twice
    reason        VARCHAR NOT NULL,
    digest        VARCHAR NOT NULL,          -- sha256:… of the body
    size          BIGINT NOT NULL,           -- bytes
    received_at   TIMESTAMP NOT NULL,
    body          VARCHAR,                   -- file name in the quarantine folder; NULL: not kept
    instance_id   UUID,                      -- these four when the body could be read that far
    batch_id      UUID,
    batch_seq     BIGINT,
    events_digest VARCHAR,
    message       VARCHAR NOT NULL,          -- where and why; never a value from the body
    repeats       BIGINT NOT NULL DEFAULT 0
);

-- One row a body answered with success, written in the transaction of its effect: the account that `check` compares
-- with the tables above, and the place in the landfill up to which this warehouse is complete.
CREATE TABLE deliveries (
    delivery_no  BIGINT NOT NULL,
    received_at  TIMESTAMP NOT NULL,
    kind         VARCHAR NOT NULL CHECK (kind IN ('batch', 'report', 'refused')),
    outcome      VARCHAR NOT NULL CHECK (outcome IN ('loaded', 'duplicate', 'quarantined')),
    events       BIGINT NOT NULL,            -- events this delivery added
    landfill_day DATE NOT NULL,              -- the landfill file that holds its record …
    landfill_end BIGINT NOT NULL             -- … and the offset just after it
);

-- Sequence numbers an instance has passed over: batches that never came, or have not come yet.
CREATE VIEW sequence_gaps AS
SELECT instance_id, previous_seq + 1 AS first_missing, batch_seq - 1 AS last_missing,
       batch_seq - previous_seq - 1 AS missing
FROM (
    SELECT instance_id, batch_seq,
           coalesce(lag(batch_seq) OVER (PARTITION BY instance_id ORDER BY batch_seq), 0) AS previous_seq
    FROM (SELECT DISTINCT instance_id, batch_seq FROM batches WHERE batch_seq IS NOT NULL)
)
WHERE batch_seq > previous_seq + 1
ORDER BY instance_id, first_missing;

-- What each sender lost before sending, by the day on which it reported it: its running totals, one batch minus the
-- batch before. Rows that were set aside may be sent after all: then `quarantined` falls, and the day's figure is below
-- zero. Only `recorded` never falls: where it does, the sender began anew.
CREATE VIEW sender_loss AS
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
    WINDOW sent AS (PARTITION BY instance_id ORDER BY batch_seq, received_at)
)
GROUP BY ALL
ORDER BY instance_id, reported_on;

