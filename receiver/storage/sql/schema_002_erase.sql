-- The warehouse, version 2: what was removed is counted, so that the sums still agree and a repeat is still one.

-- Events that were loaded and are gone, while the row of their batch stays: a row each time. Whoever deletes rows of
-- `events` takes as many off `batches.event_count`, writes them here, and makes the rollups of the batch anew.
CREATE TABLE removed (
    cause      VARCHAR NOT NULL CHECK (cause IN ('erase', 'retention')),
    batch_no   BIGINT NOT NULL,       -- the row of `batches` that brought them
    events     BIGINT NOT NULL,
    removed_at TIMESTAMP NOT NULL
);

-- One row a batch, report or refused body whose own row is gone: a key, to know it again, and what it counted for.
CREATE TABLE forgotten (
    cause      VARCHAR NOT NULL CHECK (cause IN ('erase', 'retention')),
    kind       VARCHAR NOT NULL CHECK (kind IN ('batch', 'report', 'refused')),
    key        UUID PRIMARY KEY,      -- as in the table that it was in
    digest     VARCHAR NOT NULL,      -- of a batch, as in `batches`; empty for the others
    events     BIGINT NOT NULL,       -- that a batch brought, all of them gone
    repeats    BIGINT NOT NULL,       -- deliveries after the first, later ones included
    removed_at TIMESTAMP NOT NULL
);
