-- What the questions read: the events of each batch, added up, and the words that all questions share.
-- Runs after schema.sql, and again on a warehouse that has it already. The three tables are filled soon
-- after the batches are in, and can be made anew from `events` at any time; nothing in them is ever updated.

-- One row a batch and day.
CREATE TABLE IF NOT EXISTS instance_days (
    batch_no    BIGINT NOT NULL,       -- the row of `batches` that brought the events
    day         DATE,                  -- tracked_on; NULL when the instant lies outside the calendar
    received_on DATE NOT NULL,         -- the day (UTC) on which the batch came
    instance_id UUID NOT NULL,         -- the Penpot that sent it
    version     VARCHAR NOT NULL,      -- of the Penpot that sent it
    events      BIGINT NOT NULL        -- rows of `events`
);

-- One row a batch, day and profile; the zero profile, which is nobody, is left out.
CREATE TABLE IF NOT EXISTS profile_days (
    batch_no    BIGINT NOT NULL,       -- the row of `batches` that brought the events
    day         DATE,                  -- tracked_on; NULL when the instant lies outside the calendar
    instance_id UUID NOT NULL,         -- the Penpot that sent it
    version     VARCHAR NOT NULL,      -- of the Penpot that sent it
    profile_id  UUID NOT NULL,         -- never all zero
    events      BIGINT NOT NULL        -- rows of `events`
);

-- One row a batch, day, profile and machine that the profile's browser described.
CREATE TABLE IF NOT EXISTS platform_days (
    batch_no     BIGINT NOT NULL,      -- the row of `batches` that brought the events
    day          DATE,                 -- tracked_on; NULL when the instant lies outside the calendar
    instance_id  UUID NOT NULL,        -- the Penpot that sent it
    version      VARCHAR NOT NULL,     -- of the Penpot that sent it
    profile_id   UUID NOT NULL,        -- never all zero
    browser      VARCHAR,              -- as the browser calls itself, without spaces around it
    os           VARCHAR,              -- likewise
    locale       VARCHAR,              -- in lower case
    screen_width BIGINT                -- pixels
);

-- What a question is asked for. A shell sets these before it asks, `SET VARIABLE first_day = DATE '2026-03-01'`, and
-- `RESET VARIABLE first_day` takes one back: first_day, last_day (both inclusive), instance, version, threshold,
-- unvouched (a list of instances that are left out, as unvouched_on(days) gives it).

-- Instances whose loaded batches came on fewer days, of this receiver's clock, than are asked for; or, while the receiver
-- itself has had batches on fewer days than that, on fewer than it had: `SET VARIABLE unvouched = unvouched_on(3)`.
CREATE OR REPLACE MACRO unvouched_on(days) AS (
    SELECT list(instance_id ORDER BY instance_id) FROM (
        SELECT instance_id
        FROM batches
        GROUP BY instance_id
        HAVING count(DISTINCT received_at::DATE) < least(days, (SELECT count(DISTINCT received_at::DATE) FROM batches))
    )
);

CREATE OR REPLACE MACRO vouched(id) AS id NOT IN (SELECT unnest(getvariable('unvouched')::UUID[]));

-- A row of the instance and of the version that were asked for; of no unvouched instance, when they are to be left out.
CREATE OR REPLACE MACRO asked_instance(id) AS
    getvariable('instance') IS NULL OR id = getvariable('instance')::UUID;

CREATE OR REPLACE MACRO picked_instance(id) AS asked_instance(id) AND vouched(id);

CREATE OR REPLACE MACRO picked_version(version) AS
    getvariable('version') IS NULL OR version = getvariable('version')::VARCHAR;

CREATE OR REPLACE MACRO picked(id, version) AS picked_instance(id) AND picked_version(version);

-- Fewer distinct instances or profiles than this are not shown.
CREATE OR REPLACE MACRO threshold() AS greatest(1, coalesce(getvariable('threshold')::BIGINT, 5));

-- A count that would point at somebody; zero points at nobody.
CREATE OR REPLACE MACRO too_few(n) AS coalesce(n BETWEEN 1 AND threshold() - 1, false);

CREATE OR REPLACE MACRO shown(n) AS CASE WHEN too_few(n) THEN NULL ELSE n END;

-- Cells that add up to a published total: hides the small ones, and as many of the next larger as it takes until the
-- hidden ones together reach the threshold. `smaller` is the sum of the cells before this one, from the smallest up.
CREATE OR REPLACE MACRO hidden_in_sum(n, smaller) AS too_few(n) OR too_few(coalesce(smaller, 0));

-- The same for parts that stand side by side in one row.
CREATE OR REPLACE MACRO hidden_of_three(n, a, b, c) AS
    too_few(n) OR too_few(if(a < n, a, 0) + if(b < n, b, 0) + if(c < n, c, 0));

-- Versions in their order, as [major, minor, patch, 1]; the last is 0 for anything with a suffix, which is no release.
CREATE OR REPLACE MACRO version_rank(version) AS [
    coalesce(TRY_CAST(regexp_extract(version, '^(\d+)', 1) AS BIGINT), 0),
    coalesce(TRY_CAST(regexp_extract(version, '^\d+\.(\d+)', 1) AS BIGINT), 0),
    coalesce(TRY_CAST(regexp_extract(version, '^\d+\.\d+\.(\d+)', 1) AS BIGINT), 0),
    regexp_matches(version, '^\d+\.\d+(\.\d+)?$')::BIGINT
];

-- How far the data reaches, in one row. `today` is the day of the newest receipt, never the clock's, so that the same
-- warehouse gives the same answers. A day is open until what usually comes late (95 % of the instances' days, looked at
-- over three months) has had the time to come.
CREATE OR REPLACE VIEW as_of AS
WITH newest AS (
    SELECT max(received_at) AS fresh_at, max(received_at)::DATE AS today, min(first_received_at)::DATE AS first_received
    FROM (
        SELECT max(received_at) AS received_at, min(received_at) AS first_received_at FROM batches
        UNION ALL SELECT max(received_at), NULL FROM reports
        UNION ALL SELECT max(received_at), NULL FROM quarantine
    )
), delays AS (
    SELECT min(received_on) - day AS days
    FROM instance_days, newest
    WHERE day BETWEEN today - 104 AND today - 15 AND vouched(instance_id)
    GROUP BY instance_id, day
), volumes AS (
    SELECT day, sum(events) AS events
    FROM instance_days, newest
    WHERE day BETWEEN first_received - 365 AND today AND vouched(instance_id)
    GROUP BY day
), below AS (
    SELECT day, events, sum(events) OVER (ORDER BY events) AS up_to, sum(events) OVER () AS total FROM volumes
), held AS (
    SELECT min(day) FILTER (20 * events >= usual) AS epoch, max(day) AS last_held
    FROM volumes, (SELECT min(events) AS usual FROM below WHERE 2 * up_to >= total)
), usual AS (
    SELECT least(14, greatest(1, coalesce(quantile_disc(days, 0.95), 1)))::INTEGER AS usual_lateness FROM delays
)
SELECT fresh_at,                                               -- the newest receipt
       today,
       usual_lateness,                                         -- days
       (today - usual_lateness)::DATE AS open_from,            -- this day and those after it are open
       -- The first day held: the first with a twentieth of a usual day's events, which is the median of the days'
       -- counts, each weighted by itself. A few events of a wrong clock begin nothing, on one old day or on many; a
       -- fleet that grew twentyfold since still begins where it did. What claims to be more than a year older than the
       -- first receipt is a wrong clock in any number.
       epoch,
       last_held
FROM newest, usual, held;

-- The days asked for, both inclusive, cut to what is held. When nothing is said: 90 days up to today, or, where they
-- would all be empty, up to the last day held.
CREATE OR REPLACE MACRO to_day() AS (
    SELECT CASE WHEN getvariable('last_day') IS NOT NULL THEN least(getvariable('last_day')::DATE, today)
                WHEN getvariable('first_day') IS NULL AND last_held <= today - 90 THEN last_held
                ELSE today END
    FROM as_of
);

CREATE OR REPLACE MACRO from_day() AS (
    SELECT greatest(
        coalesce(getvariable('first_day')::DATE, to_day() - 89),
        coalesce(epoch, today - 3650, to_day()) -- where no day is held, there are not days without end
    )::DATE FROM as_of
);

-- A day within the days asked for. The variables stand here by themselves so that a scan can skip what lies outside.
CREATE OR REPLACE MACRO in_range(tracked) AS
    tracked BETWEEN from_day() AND to_day()
    AND (getvariable('first_day') IS NULL OR tracked >= getvariable('first_day')::DATE)
    AND (getvariable('last_day') IS NULL OR tracked <= getvariable('last_day')::DATE);

-- One row a day asked for.
CREATE OR REPLACE VIEW asked_days AS
SELECT unnest(generate_series(from_day(), to_day(), INTERVAL 1 DAY))::DATE AS day;

-- Coverage of a day: the instances with an event on it, of those with an event in the 28 days up to it.
CREATE OR REPLACE VIEW coverage_by_day AS
WITH presence AS (
    SELECT DISTINCT instance_id, day
    FROM instance_days
    WHERE day BETWEEN from_day() - 27 AND to_day() AND picked_instance(instance_id)
), stays AS (
    SELECT day, least(28, coalesce(lead(day) OVER (PARTITION BY instance_id ORDER BY day) - day, 28))::INTEGER AS known_for
    FROM presence
), changes AS (
    SELECT day, count(*) AS reporting, count(*) AS known FROM stays GROUP BY day
    UNION ALL
    SELECT day + known_for, 0, -count(*) FROM stays GROUP BY day + known_for
), totals AS (
    SELECT day, sum(reporting)::BIGINT AS reporting, sum(sum(known)) OVER (ORDER BY day)::BIGINT AS known
    FROM (FROM changes UNION ALL SELECT day, 0, 0 FROM asked_days)
    GROUP BY day
)
SELECT day, shown(reporting) AS instances_reporting, shown(known) AS instances_known,
       shown(reporting) / nullif(shown(known), 0) AS coverage
FROM totals JOIN asked_days USING (day);

-- Coverage of all the days asked for: the instances with an event in them, of those with one in them or in the 27 days
-- before.
CREATE OR REPLACE VIEW coverage_of_range AS
WITH instances AS (
    SELECT count(DISTINCT instance_id) FILTER (day >= from_day()) AS reporting, count(DISTINCT instance_id) AS known
    FROM instance_days
    WHERE day BETWEEN from_day() - 27 AND to_day() AND picked_instance(instance_id)
)
SELECT shown(reporting) AS instances_reporting, shown(known) AS instances_known,
       shown(reporting) / nullif(shown(known), 0) AS coverage
FROM instances;
