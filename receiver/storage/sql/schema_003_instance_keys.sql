-- Who signs for an instance. The first signed batch of an instance that is loaded pins its key; from then on its batches
-- are loaded when they are signed with that key, and only then.
CREATE TABLE instance_keys (
    instance_id UUID PRIMARY KEY,
    key         VARCHAR,                     -- Ed25519, the public key in base64; NULL: the operator took the pin away
    since       TIMESTAMP NOT NULL           -- when it was pinned, or taken away
);

ALTER TABLE batches ADD COLUMN signed_by VARCHAR; -- the public key whose signature came with it; NULL: none did
