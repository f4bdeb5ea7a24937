-- What the sender remembers. Everything here can be explained by one sum, in events since the beginning:
--     recorded + adopted = shipped + dropped + quarantined + missing + pending

CREATE TABLE penpot_telemetry.state (
    single         boolean PRIMARY KEY DEFAULT true CHECK (single),
    schema_version integer NOT NULL,
    instance_id    uuid    NULL,
    next_seq       bigint  NOT NULL DEFAULT 1 CHECK (next_seq > 0),
    recorded       bigint  NOT NULL DEFAULT 0 CHECK (recorded >= 0),
    adopted        bigint  NOT NULL DEFAULT 0 CHECK (adopted >= 0),
    shipped        bigint  NOT NULL DEFAULT 0 CHECK (shipped >= 0),
    dropped        bigint  NOT NULL DEFAULT 0 CHECK (dropped >= 0),
    quarantined    bigint  NOT NULL DEFAULT 0 CHECK (quarantined >= 0),
    missing        bigint  NOT NULL DEFAULT 0 CHECK (missing >= 0)
);
COMMENT ON COLUMN penpot_telemetry.state.adopted IS 'rows that were found in audit_log, written by Penpot itself';
COMMENT ON COLUMN penpot_telemetry.state.missing IS 'rows of audit_log that another program deleted';

-- One row for each recording transaction, so that recorders never wait for one another; the pass adds them up.
CREATE TABLE penpot_telemetry.tally (
    recorded bigint NOT NULL CHECK (recorded > 0)
);

-- The outbox batch: at most one, the complete POST body as it is sent until it is answered.
CREATE TABLE penpot_telemetry.outbox (
    single      boolean     PRIMARY KEY DEFAULT true CHECK (single),
    batch_id    uuid        NOT NULL,
    seq         bigint      NOT NULL,
    row_ids     uuid[]      NOT NULL CHECK (cardinality(row_ids) = event_count),
    body        bytea       NOT NULL,
    digest      text        NOT NULL,
    event_count integer     NOT NULL CHECK (event_count > 0),
    frozen_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    half_of     uuid        NULL,
    suspect     boolean     NOT NULL DEFAULT false
);
ALTER TABLE penpot_telemetry.outbox ALTER COLUMN body SET STORAGE EXTERNAL;

-- What a refusal split off: row ids that are frozen before any new row, in the order of their position.
CREATE TABLE penpot_telemetry.segment (
    position bigint  PRIMARY KEY,
    row_ids  uuid[]  NOT NULL CHECK (cardinality(row_ids) > 0),
    half_of  uuid    NOT NULL,
    suspect  boolean NOT NULL DEFAULT false
);
COMMENT ON COLUMN penpot_telemetry.segment.half_of IS 'the refused whole that this is one of two halves of';
COMMENT ON COLUMN penpot_telemetry.segment.suspect IS 'holds a bad row for certain: the other half was accepted';

-- Every batch that was ever answered. A refused one gave its sequence number back.
CREATE TABLE penpot_telemetry.ledger (
    batch_id   uuid        PRIMARY KEY,
    seq        bigint      NOT NULL,
    events     integer     NOT NULL,
    bytes      integer     NOT NULL,
    digest     text        NOT NULL,
    frozen_at  timestamptz NOT NULL,
    settled_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    outcome    text        NOT NULL CHECK (outcome IN ('accepted', 'quarantined', 'refused')),
    receipt    jsonb       NOT NULL
);
CREATE UNIQUE INDEX ledger_seq ON penpot_telemetry.ledger (seq) WHERE outcome <> 'refused';

-- Rows that stood alone and were refused, or that cannot be written in the format: whole, with the reason.
CREATE TABLE penpot_telemetry.quarantine (
    id       uuid        PRIMARY KEY,
    "row"    jsonb       NOT NULL,
    reason   text        NOT NULL,
    batch_id uuid        NULL,
    since    timestamptz NOT NULL DEFAULT clock_timestamp()
);
