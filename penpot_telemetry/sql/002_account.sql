-- Rows are known by their ids. What entered and was not taken must be in audit_log: a row that is not was deleted by
-- another program, and a row of audit_log that never entered was written by Penpot since.

CREATE TABLE penpot_telemetry.entered (
    ids      uuid[] NOT NULL,
    recorded bigint NOT NULL DEFAULT 0 CHECK (recorded >= 0)
);
ALTER TABLE penpot_telemetry.entered ALTER COLUMN ids SET STORAGE EXTERNAL;
COMMENT ON TABLE penpot_telemetry.entered IS 'ids of rows that entered: one row a recording, and one a reconciliation';
COMMENT ON COLUMN penpot_telemetry.entered.recorded IS 'events of this recording that state.recorded does not count yet';

CREATE TABLE penpot_telemetry.taken (
    ids uuid[] NOT NULL
);
ALTER TABLE penpot_telemetry.taken ALTER COLUMN ids SET STORAGE EXTERNAL;
COMMENT ON TABLE penpot_telemetry.taken IS 'ids of rows that the sender itself took out: into a batch, into quarantine, or dropped';

CREATE TABLE penpot_telemetry.changed (
    key    text   NOT NULL,
    events bigint NOT NULL
);
COMMENT ON TABLE penpot_telemetry.changed IS 'events whose context value under this key was shortened, replaced by other, or left out: one row a recording, summed up in each pass';

ALTER TABLE penpot_telemetry.state
    ADD COLUMN instance_origin  text        NULL,
    ADD COLUMN lease_owner      uuid        NULL,
    ADD COLUMN lease_since      timestamptz NULL,
    ADD COLUMN lease_until      timestamptz NULL,
    ADD COLUMN lease_pid        integer     NULL,
    ADD COLUMN lease_started_at timestamptz NULL,
    ADD COLUMN receipts_from    text        NULL,
    ADD COLUMN verified_seq     bigint      NOT NULL DEFAULT 0,
    ADD COLUMN report_sent_on   date        NULL;
COMMENT ON COLUMN penpot_telemetry.state.lease_started_at IS 'when the backend lease_pid started: together they name one connection';
COMMENT ON COLUMN penpot_telemetry.state.receipts_from IS 'the address that gave the last receipt: from it nothing but a receipt counts';
COMMENT ON COLUMN penpot_telemetry.state.verified_seq IS 'up to this batch the ledger agrees with the receiver''s';

-- A part of a refused batch names all batches that it was a part of. What version 1 split used another way to end an id.
ALTER TABLE penpot_telemetry.outbox DROP COLUMN half_of, DROP COLUMN suspect, ADD COLUMN supersedes uuid[] NOT NULL DEFAULT '{}';
ALTER TABLE penpot_telemetry.segment DROP COLUMN half_of, DROP COLUMN suspect, ADD COLUMN supersedes uuid[] NOT NULL DEFAULT '{}';
ALTER TABLE penpot_telemetry.quarantine ADD COLUMN supersedes uuid[] NOT NULL DEFAULT '{}';
ALTER TABLE penpot_telemetry.outbox ADD COLUMN row_hashes bigint[] NOT NULL DEFAULT '{}';
ALTER TABLE penpot_telemetry.segment ADD COLUMN row_hashes bigint[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN penpot_telemetry.outbox.row_hashes IS 'what each of row_ids held when the batch was made: a row that holds something else since is a new event';
-- An id may be in quarantine more than once: another program can store a row anew.
ALTER TABLE penpot_telemetry.quarantine DROP CONSTRAINT quarantine_pkey;
ALTER TABLE penpot_telemetry.quarantine ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY;
CREATE INDEX quarantine_id ON penpot_telemetry.quarantine (id);
COMMENT ON COLUMN penpot_telemetry.segment.supersedes IS 'batches that held these rows and were refused; they may arrive late';

-- What version 1 counted is compared with the rows once more; from then on rows are known by id.
UPDATE penpot_telemetry.state SET recorded = recorded + (SELECT coalesce(sum(recorded), 0) FROM penpot_telemetry.tally);
DROP TABLE penpot_telemetry.tally;
INSERT INTO penpot_telemetry.entered (ids)
SELECT array_agg(id) FROM audit_log
WHERE source IN ('telemetry', 'telemetry:backend', 'telemetry:frontend')
  AND id NOT IN (SELECT unnest(row_ids) FROM penpot_telemetry.outbox)
  AND EXISTS (SELECT FROM penpot_telemetry.state WHERE recorded + adopted > 0)  -- in a new schema the first reconciliation adopts
HAVING count(*) > 0;
UPDATE penpot_telemetry.state SET
    adopted = adopted + greatest(0, surplus),
    missing = missing + greatest(0, -surplus)
FROM (
    SELECT (SELECT coalesce(sum(cardinality(ids)), 0) FROM penpot_telemetry.entered)
         + (SELECT coalesce(sum(event_count), 0) FROM penpot_telemetry.outbox)
         - (recorded + adopted - shipped - dropped - quarantined - missing) AS surplus
    FROM penpot_telemetry.state
) found;

-- A part of a batch that arrived whole has no sequence number of its own.
DROP INDEX penpot_telemetry.ledger_seq;
CREATE UNIQUE INDEX ledger_seq ON penpot_telemetry.ledger (seq) WHERE outcome <> 'refused' AND NOT receipt ? 'duplicate-of';
