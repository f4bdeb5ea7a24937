-- title: Versions seen
-- question: Which versions were heard of, from when to when, on how many Penpots?
-- counts: distinct instance ids by version, over the days asked for
-- numerator: instances that sent events of these days under the version
-- denominator: instances_active, instances with any event in the days asked for
-- coverage: instances with an event in the days asked for, of those with one in them or in the 27 days before
-- suppression: versions on 1 to below the threshold of instances are added up as (rare), since a version is free text; if (rare) is below it too, its numbers are NULL
-- lateness: days that arrive after an upgrade count for the newer version
-- epoch: first_day is the first day held for a version that was out before
-- traps: an instance that upgraded counts under both versions, so shares can add up to more than one. Repeated and overlapping batches move events only
-- unit: instances
-- audience: public
-- chart: bars y=version x=instance_share format=% sort=release top=25
-- columns:
--   version: as the instances give it; (rare): several together
--   is_release: plain numbers, without a suffix
--   first_day: the first day of any instance under it, in the days asked for
--   last_day: the last one
--   instances: instances that sent under it
--   instance_share: instances / instances_active
--   events: events sent under it
--   instances_active: instances with any event
--   instances_reporting: instances with an event in the days asked for
--   instances_known: instances with an event in them or in the 27 days before
--   coverage: instances_reporting / instances_known
--   fresh_at: the newest receipt, UTC
--   is_open: the days asked for reach into those for which events may still come
--   suppressed: at least one number of the row is hidden
WITH sent AS (
    SELECT version, instance_id, min(day) AS first_day, max(day) AS last_day, sum(events)::BIGINT AS events
    FROM instance_days
    WHERE in_range(day) AND picked(instance_id, version)
    GROUP BY ALL
), counted AS (
    SELECT version, count(*) AS instances FROM sent GROUP BY ALL
), rows AS (
    SELECT if(too_few(c.instances), '(rare)', version) AS version, min(first_day) AS first_day,
           max(last_day) AS last_day, count(DISTINCT instance_id) AS instances, sum(events)::BIGINT AS events
    FROM sent JOIN counted c USING (version)
    GROUP BY ALL
)
SELECT version,
       version_rank(version)[4] = 1 AS is_release,
       first_day,
       last_day,
       shown(instances) AS instances,
       shown(instances) / instances_active AS instance_share,
       CASE WHEN NOT too_few(instances) THEN events END AS events,
       shown(instances_active) AS instances_active,
       instances_reporting, instances_known, coverage, fresh_at,
       to_day() >= open_from AS is_open,
       too_few(instances) AS suppressed
FROM rows, (SELECT count(DISTINCT instance_id) AS instances_active FROM sent), coverage_of_range, as_of
ORDER BY version_rank(version), version;
