-- title: Unknown event names
-- question: Which kinds of events are new, or not of the form that they should have?
-- counts: distinct instance ids by event name, type and source, over the days asked for
-- numerator: instances that sent it; events
-- denominator: instances_active, instances with any event in the days asked for
-- coverage: instances with an event in the days asked for, of those with one in them or in the 27 days before
-- suppression: names from 1 to below the threshold of instances are added up as (rare), by reason, since a name is free text; if (rare) is below it too, its numbers are NULL
-- lateness: late batches can only raise the numbers
-- epoch: in the first four weeks held nothing counts as new
-- traps: new means first heard of in the last 28 of the days asked for, by this receiver: a new release brings new names. A name is well formed with 1 to 250 of the letters, digits, _ and -. Repeated and overlapping batches move events only
-- unit: instances
-- audience: public
-- chart: bars y=name x=instances color=reason top=25
-- columns:
--   reason: no-name, malformed-name, unknown-type, unknown-source or new
--   name: of the event; (rare): several names together
--   type: of the event
--   source: of the event
--   first_day: the first day on which any instance sent it
--   last_day: the last one
--   instances: instances that sent it
--   instance_share: instances / instances_active
--   events: how often it came
--   instances_active: instances with any event
--   instances_reporting: instances with an event in the days asked for
--   instances_known: instances with an event in them or in the 27 days before
--   coverage: instances_reporting / instances_known
--   fresh_at: the newest receipt, UTC
--   is_open: the days asked for reach into those for which events may still come
--   suppressed: at least one number of the row is hidden
WITH sent AS MATERIALIZED (
    SELECT name, type, source, instance_id, min(tracked_on) AS first_day,
           max(tracked_on) FILTER (in_range(tracked_on) AND picked_version(version)) AS last_day,
           count(*) FILTER (in_range(tracked_on) AND picked_version(version)) AS events
    FROM events
    WHERE tracked_on BETWEEN (SELECT epoch FROM as_of) AND (SELECT today FROM as_of) AND picked_instance(instance_id)
    GROUP BY ALL
), judged AS (
    SELECT name, type, source, min(first_day) AS first_day,
           CASE WHEN name IS NULL THEN 'no-name'
                WHEN NOT regexp_full_match(name, '[\w-]{1,250}') THEN 'malformed-name'
                WHEN type IS NULL OR NOT regexp_full_match(type, '[a-z-]{1,64}') THEN 'unknown-type'
                WHEN source IS NULL OR source NOT IN ('telemetry', 'telemetry:backend', 'telemetry:frontend')
                    THEN 'unknown-source'
                WHEN min(first_day) > to_day() - 28 AND min(first_day) >= (SELECT epoch + 28 FROM as_of) THEN 'new'
           END AS reason
    FROM sent
    GROUP BY name, type, source
), counted AS (
    SELECT j.reason, j.name, j.type, j.source, j.first_day, max(s.last_day) AS last_day, count(*) AS instances,
           sum(s.events)::BIGINT AS events
    FROM sent s JOIN judged j ON (s.name, s.type, s.source) IS NOT DISTINCT FROM (j.name, j.type, j.source)
    WHERE j.reason IS NOT NULL AND s.events > 0
    GROUP BY ALL
), named AS (
    SELECT * REPLACE (coalesce(name, '(none)') AS name, coalesce(type, '(none)') AS type,
                      coalesce(source, '(none)') AS source)
    FROM counted WHERE NOT too_few(instances)
), rows AS (
    FROM named
    UNION ALL
    SELECT c.reason, '(rare)', '(rare)', '(rare)', min(c.first_day), max(s.last_day), count(DISTINCT instance_id),
           sum(s.events)::BIGINT
    FROM sent s JOIN counted c ON (s.name, s.type, s.source) IS NOT DISTINCT FROM (c.name, c.type, c.source)
    WHERE too_few(c.instances) AND s.events > 0
    GROUP BY c.reason
)
SELECT reason,
       name,
       type,
       source,
       first_day,
       last_day,
       shown(instances) AS instances,
       shown(instances) / instances_active AS instance_share,
       CASE WHEN NOT too_few(instances) THEN events END AS events,
       shown(instances_active) AS instances_active,
       instances_reporting, instances_known, coverage, fresh_at,
       to_day() >= open_from AS is_open,
       too_few(instances) AS suppressed
FROM rows,
     (SELECT count(DISTINCT instance_id) AS instances_active FROM instance_days
      WHERE in_range(day) AND picked(instance_id, version)),
     coverage_of_range, as_of
ORDER BY reason, instances DESC NULLS LAST, name, type, source;
