-- The part of Penpot's schema that the sender meets, in the form that its migrations leave behind.
--
-- Written from the facts of backend/src/app/migrations/sql, each with the number of its migration, and held against a
-- public dump of a Penpot's database of 2026; what has no number was seen in the dump alone. The tables, columns,
-- defaults, keys and indexes are Penpot's. What points to storage_object, which is not here, points nowhere.
-- To be run by the role that owns the database.

-- 0001 creates the extension uuid-ossp. It needs a file that not every Postgres has; the function is what counts.
CREATE FUNCTION uuid_generate_v4() RETURNS uuid LANGUAGE sql VOLATILE AS 'SELECT gen_random_uuid()';

-- 0107: rows of the tables that a person owns are deleted only by those who say so.
CREATE FUNCTION raise_deletion_protection() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'unable to proceed to delete row on "%"', TG_TABLE_NAME
        USING HINT = 'disable deletion protection with "SET rules.deletion_protection TO off"';
END
$$;

-- -- audit_log and server_prop: what the sender reads, and deletes from ---------------------------------------------

CREATE TABLE audit_log (
    id          uuid        NOT NULL DEFAULT uuid_generate_v4(), -- 0054
    name        text        NOT NULL,                            -- 0054
    type        text        NOT NULL,                            -- 0054
    created_at  timestamptz NOT NULL DEFAULT now(),              -- 0054; the default since 0120
    archived_at timestamptz NULL,                                -- 0054
    profile_id  uuid        NOT NULL,                            -- 0054; no foreign key: the zero uuid is nobody
    props       jsonb       NULL,                                -- 0054
    ip_addr     inet        NULL,                                -- 0059
    tracked_at  timestamptz NULL DEFAULT now(),                  -- 0064; the default since 0120
    source      text        NULL,                                -- 0064
    context     jsonb       NULL,                                -- 0064
    CONSTRAINT audit_log_pkey PRIMARY KEY (id)                   -- 0120; before: (created_at, profile_id), partitioned
);
ALTER TABLE audit_log
    ALTER COLUMN name    SET STORAGE EXTERNAL, -- 0054
    ALTER COLUMN type    SET STORAGE EXTERNAL, -- 0054
    ALTER COLUMN props   SET STORAGE EXTERNAL, -- 0054
    ALTER COLUMN source  SET STORAGE EXTERNAL, -- 0064
    ALTER COLUMN context SET STORAGE EXTERNAL; -- 0064
CREATE INDEX audit_log__created_at__idx ON audit_log (created_at) WHERE archived_at IS NULL;       -- 0145
CREATE INDEX audit_log__archived_at__idx ON audit_log (archived_at) WHERE archived_at IS NOT NULL; -- 0145
CREATE INDEX audit_log__source__created_at__idx ON audit_log (source, created_at); -- with the batches, after 0145

CREATE TABLE server_prop (
    id      text    NOT NULL,                 -- 0042
    content jsonb   NULL,                     -- 0042
    preload boolean NULL DEFAULT false,       -- 0050
    CONSTRAINT server_prop_pkey PRIMARY KEY (id) -- 0042
);
ALTER TABLE server_prop
    ALTER COLUMN id      SET STORAGE EXTERNAL, -- 0042
    ALTER COLUMN content SET STORAGE EXTERNAL; -- 0042

-- -- what the legacy report counts ---------------------------------------------------------------------------------

CREATE TABLE team (
    id          uuid        NOT NULL DEFAULT uuid_generate_v4(), -- 0002
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),  -- 0002
    modified_at timestamptz NOT NULL DEFAULT clock_timestamp(),  -- 0002
    deleted_at  timestamptz NULL,                                -- 0002
    name        text        NOT NULL,                            -- 0002
    is_default  boolean     NOT NULL DEFAULT false,              -- 0002
    photo_id    uuid        NULL,                                -- 0036
    features    text[]      NULL,                                -- 0106
    CONSTRAINT team_pkey PRIMARY KEY (id)                        -- 0002
);
CREATE INDEX team__deleted_at__idx ON team (deleted_at, id) WHERE deleted_at IS NOT NULL; -- 0056, 0080
CREATE INDEX team__photo_id__idx ON team (photo_id);                                      -- 0036
CREATE TRIGGER deletion_protection__tgr BEFORE DELETE ON team FOR EACH STATEMENT          -- 0114
    WHEN (coalesce(current_setting('rules.deletion_protection', true), 'on') IN ('on', ''))
    EXECUTE FUNCTION raise_deletion_protection();

CREATE TABLE project (
    id          uuid        NOT NULL DEFAULT uuid_generate_v4(),                           -- 0003
    team_id     uuid        NOT NULL CONSTRAINT project_team_id_fkey REFERENCES team DEFERRABLE, -- 0003, 0115
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),                            -- 0003
    modified_at timestamptz NOT NULL DEFAULT clock_timestamp(),                            -- 0003
    deleted_at  timestamptz NULL,                                                          -- 0003
    is_default  boolean     NOT NULL DEFAULT false,                                        -- 0003
    name        text        NOT NULL,                                                      -- 0003
    CONSTRAINT project_pkey PRIMARY KEY (id)                                               -- 0003
);
CREATE INDEX project__team_id__idx ON project (team_id);                                        -- 0003
CREATE INDEX project__deleted_at__idx ON project (deleted_at, id) WHERE deleted_at IS NOT NULL; -- 0056, 0080

CREATE TABLE profile (
    id                 uuid        NOT NULL DEFAULT uuid_generate_v4(), -- 0002
    created_at         timestamptz NOT NULL DEFAULT clock_timestamp(),  -- 0002
    modified_at        timestamptz NOT NULL DEFAULT clock_timestamp(),  -- 0002
    deleted_at         timestamptz NULL,                                -- 0002
    fullname           text        NOT NULL DEFAULT '',                 -- 0002
    email              text        NOT NULL,                            -- 0002
    password           text        NOT NULL,                            -- 0002
    lang               text        NULL,                                -- 0002
    theme              text        NULL,                                -- 0002
    is_demo            boolean     NOT NULL DEFAULT false,              -- 0002
    is_active          boolean     NOT NULL DEFAULT false,              -- 0024
    props              jsonb       NULL,                                -- 0034
    photo_id           uuid        NULL,                                -- 0036
    is_muted           boolean     NULL DEFAULT false,                  -- 0046
    auth_backend       text        NULL,                                -- 0046
    is_blocked         boolean     NULL DEFAULT false,                  -- 0079
    default_project_id uuid        NULL CONSTRAINT profile_default_project_id_fkey REFERENCES project DEFERRABLE, -- 0100
    default_team_id    uuid        NULL CONSTRAINT profile_default_team_id_fkey REFERENCES team DEFERRABLE,       -- 0100
    CONSTRAINT profile_pkey PRIMARY KEY (id)                            -- 0002
);
CREATE UNIQUE INDEX profile__email__idx ON profile (email) WHERE deleted_at IS NULL;                       -- 0002
CREATE INDEX profile__is_demo ON profile (is_demo) WHERE deleted_at IS NULL AND is_demo IS true;           -- 0002
CREATE INDEX profile__deleted_at__idx ON profile (deleted_at, id) WHERE deleted_at IS NOT NULL;            -- 0056, 0080
CREATE INDEX profile__photo_id__idx ON profile (photo_id);                                                  -- 0036
CREATE INDEX profile__default_project__idx ON profile (default_project_id);                                -- 0100
CREATE INDEX profile__default_team__idx ON profile (default_team_id);                                      -- 0100
CREATE INDEX profile__props__newsletter1__idx ON profile (email) WHERE props ->> '~:newsletter-news' = 'true';    -- 0124
CREATE INDEX profile__props__newsletter2__idx ON profile (email) WHERE props ->> '~:newsletter-updates' = 'true'; -- 0124
CREATE TRIGGER deletion_protection__tgr BEFORE DELETE ON profile FOR EACH STATEMENT                        -- 0112
    WHEN (coalesce(current_setting('rules.deletion_protection', true), 'on') IN ('on', ''))
    EXECUTE FUNCTION raise_deletion_protection();

CREATE TABLE team_profile_rel (
    team_id     uuid        NOT NULL CONSTRAINT team_profile_rel_team_id_fkey REFERENCES team ON DELETE CASCADE, -- 0002
    profile_id  uuid        NOT NULL CONSTRAINT team_profile_rel_profile_id_fkey REFERENCES profile ON DELETE CASCADE,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),           -- 0002
    modified_at timestamptz NOT NULL DEFAULT clock_timestamp(),           -- 0002
    is_admin    boolean     NULL DEFAULT false,                           -- 0002
    is_owner    boolean     NULL DEFAULT false,                           -- 0002
    can_edit    boolean     NULL DEFAULT false,                           -- 0002
    id          uuid        NOT NULL DEFAULT uuid_generate_v4(),          -- 0088
    CONSTRAINT team_profile_rel_pkey PRIMARY KEY (id),                    -- 0088
    CONSTRAINT team_profile_rel_unique UNIQUE (team_id, profile_id)       -- 0088
);

CREATE TABLE file (
    id                  uuid        NOT NULL DEFAULT uuid_generate_v4(),                             -- 0003
    project_id          uuid        NOT NULL CONSTRAINT file_project_id_fkey REFERENCES project DEFERRABLE, -- 0116
    created_at          timestamptz NOT NULL DEFAULT clock_timestamp(),                              -- 0003
    modified_at         timestamptz NOT NULL DEFAULT clock_timestamp(),                              -- 0003
    deleted_at          timestamptz NULL,                                                            -- 0003
    name                text        NOT NULL,                                                        -- 0003
    is_shared           boolean     NOT NULL DEFAULT false,                                          -- 0013
    has_media_trimmed   boolean     NULL DEFAULT false,                                              -- 0018
    revn                bigint      NOT NULL DEFAULT 0,                                              -- 0022
    data                bytea       NULL,                                                            -- 0022
    ignore_sync_until   timestamptz NULL,                                                            -- 0027
    comment_thread_seqn integer     NULL DEFAULT 0,                                                  -- 0031
    data_backend        text        NULL,
    features            text[]      NULL,                                                            -- 0082
    version             integer     NULL,
    data_ref_id         uuid        NULL,
    vern                integer     NOT NULL DEFAULT 0,
    CONSTRAINT file_pkey PRIMARY KEY (id)                                                            -- 0003
) WITH (fillfactor = 50);
CREATE INDEX file__project_id__idx ON file (project_id);                                  -- 0030
CREATE INDEX file__deleted_at__idx ON file (deleted_at, id) WHERE deleted_at IS NOT NULL; -- 0081

CREATE TABLE file_change (
    id         uuid        NOT NULL DEFAULT uuid_generate_v4(),                              -- 0022
    file_id    uuid        NOT NULL CONSTRAINT file_change_file_id_fkey REFERENCES file DEFERRABLE, -- 0022
    created_at timestamptz NOT NULL DEFAULT now(),                                           -- 0022; the default since
    session_id uuid        NULL,                                                             -- 0022
    revn       bigint      NOT NULL DEFAULT 0,                                               -- 0022
    data       bytea       NULL,                                                             -- 0022
    changes    bytea       NULL,                                                             -- 0022
    profile_id uuid        NULL CONSTRAINT file_change_profile_id_fkey REFERENCES profile ON DELETE SET NULL DEFERRABLE,
    features   text[]      NULL,                                                             -- 0084
    label      text        NULL,                                                             -- 0105
    created_by text        NOT NULL DEFAULT 'system',
    updated_at timestamptz NULL DEFAULT now(),
    deleted_at timestamptz NULL,
    CONSTRAINT file_change_pkey PRIMARY KEY (id)                                             -- 0022
);
CREATE INDEX file_change__file_id__revn__idx ON file_change (file_id, revn);

CREATE TABLE comment_thread (
    id           uuid        NOT NULL DEFAULT uuid_generate_v4(),                                               -- 0031
    file_id      uuid        NOT NULL CONSTRAINT comment_thread_file_id_fkey REFERENCES file ON DELETE CASCADE, -- 0031
    owner_id     uuid        NOT NULL CONSTRAINT comment_thread_owner_id_fkey REFERENCES profile ON DELETE CASCADE,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),         -- 0031
    modified_at  timestamptz NOT NULL DEFAULT clock_timestamp(),         -- 0031
    page_id      uuid        NOT NULL,                                   -- 0031
    participants jsonb       NOT NULL,                                   -- 0031
    seqn         integer     NOT NULL DEFAULT 0,                         -- 0031
    "position"   point       NOT NULL,                                   -- 0031
    is_resolved  boolean     NOT NULL DEFAULT false,                     -- 0031
    page_name    text        NULL,                                       -- 0033
    frame_id     uuid        NULL DEFAULT '00000000-0000-0000-0000-000000000000', -- 0077
    mentions     uuid[]      NULL DEFAULT '{}',                          -- 0136
    CONSTRAINT comment_thread_pkey PRIMARY KEY (id)                      -- 0031
);
CREATE UNIQUE INDEX comment_thread__file_id__seqn__idx ON comment_thread (file_id, seqn); -- 0031
CREATE INDEX comment_thread__owner_id__idx ON comment_thread (owner_id);                  -- 0031

CREATE TABLE comment (
    id          uuid        NOT NULL DEFAULT uuid_generate_v4(),                                                 -- 0031
    thread_id   uuid        NOT NULL CONSTRAINT comment_thread_id_fkey REFERENCES comment_thread ON DELETE CASCADE,
    owner_id    uuid        NOT NULL CONSTRAINT comment_owner_id_fkey REFERENCES profile ON DELETE CASCADE,      -- 0031
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),          -- 0031
    modified_at timestamptz NOT NULL DEFAULT clock_timestamp(),          -- 0031
    content     text        NOT NULL,                                    -- 0031
    mentions    uuid[]      NULL DEFAULT '{}',                           -- 0136
    CONSTRAINT comment_pkey PRIMARY KEY (id)                             -- 0031
);
CREATE INDEX comment__thread_id__idx ON comment (thread_id); -- 0031
CREATE INDEX comment__owner_id__idx ON comment (owner_id);   -- 0031

CREATE TABLE team_font_variant (
    id           uuid        NOT NULL DEFAULT uuid_generate_v4(),                                          -- 0053
    team_id      uuid        NOT NULL CONSTRAINT team_font_variant_team_id_fkey REFERENCES team DEFERRABLE, -- 0053, 0113
    profile_id   uuid        NULL
        CONSTRAINT team_font_variant_profile_id_fkey REFERENCES profile ON DELETE SET NULL DEFERRABLE,     -- 0053
    created_at   timestamptz NOT NULL DEFAULT now(),                     -- 0053
    modified_at  timestamptz NOT NULL DEFAULT now(),                     -- 0053
    deleted_at   timestamptz NULL,                                       -- 0053
    font_id      uuid        NOT NULL,                                   -- 0053
    font_family  text        NOT NULL,                                   -- 0053
    font_weight  smallint    NOT NULL,                                   -- 0053
    font_style   text        NOT NULL,                                   -- 0053
    variant_name text        NULL,
    CONSTRAINT team_font_variant_pkey PRIMARY KEY (id)                   -- 0053
);
CREATE INDEX team_font_variant__deleted_at__idx ON team_font_variant (deleted_at, id) WHERE deleted_at IS NOT NULL; -- 0056, 0080
CREATE INDEX team_font_variant_team_id_font_id_idx ON team_font_variant (team_id, font_id);
CREATE TRIGGER deletion_protection__tgr BEFORE DELETE ON team_font_variant FOR EACH STATEMENT -- 0113
    WHEN (coalesce(current_setting('rules.deletion_protection', true), 'on') IN ('on', ''))
    EXECUTE FUNCTION raise_deletion_protection();
