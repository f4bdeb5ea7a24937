-- Penpot's audit_log in its final form. Created only in a database of our own; an existing table is used as it is.
CREATE TABLE IF NOT EXISTS audit_log (
    id          uuid        NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY,
    name        text        NOT NULL,
    type        text        NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    archived_at timestamptz NULL,
    profile_id  uuid        NOT NULL,
    ip_addr     inet        NULL,
    props       jsonb       NULL,
    tracked_at  timestamptz NULL DEFAULT clock_timestamp(),
    source      text        NULL,
    context     jsonb       NULL
);
CREATE INDEX IF NOT EXISTS audit_log__source__created_at__idx ON audit_log (source, created_at ASC);
