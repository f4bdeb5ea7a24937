-- title: Platforms
-- question: Which browsers and operating systems do people use?
-- counts: distinct profile ids by browser, and by operating system, as the browser names them
-- numerator: profiles that were seen with the value in the days asked for
-- denominator: profiles_known, profiles whose browser said it in the days asked for; those seen through the backend only are not in it
-- coverage: instances with an event in the days asked for, of those with one in them or in the 27 days before
-- suppression: values of 1 to below the threshold of profiles are added up as (rare), since a value is free text; if (rare) is below it too, its numbers are NULL, and so is a number of instances below it
-- lateness: late batches can only raise the numbers
-- epoch: does not matter
-- traps: who uses two of them counts under both, so shares can add up to more than one. A script has no browser and is not here. Repeated and overlapping batches, bots, and a new instance id move nothing
-- unit: profiles
-- audience: public
-- chart: bars y=value x=share facet=dimension format=% top=12
-- columns:
--   dimension: browser or os
--   value: its name; (rare): several together
--   profiles: profiles seen with it
--   share: profiles / profiles_known
--   instances: instances with such a profile
--   profiles_known: profiles that said it at all
--   instances_reporting: instances with an event in the days asked for
--   instances_known: instances with an event in them or in the 27 days before
--   coverage: instances_reporting / instances_known
--   fresh_at: the newest receipt, UTC
--   is_open: the days asked for reach into those for which events may still come
--   suppressed: at least one number of the row is hidden
WITH pairs AS MATERIALIZED (
    SELECT DISTINCT 'browser' AS dimension, browser AS value, profile_id, instance_id
    FROM platform_days
    WHERE in_range(day) AND picked(instance_id, version) AND browser IS NOT NULL
    UNION ALL
    SELECT DISTINCT 'os', os, profile_id, instance_id
    FROM platform_days
    WHERE in_range(day) AND picked(instance_id, version) AND os IS NOT NULL
), counted AS (
    SELECT dimension, value, count(DISTINCT profile_id) AS profiles FROM pairs GROUP BY ALL
), rows AS (
    SELECT dimension, if(too_few(c.profiles), '(rare)', value) AS value, count(DISTINCT profile_id) AS profiles,
           count(DISTINCT instance_id) AS instances
    FROM pairs JOIN counted c USING (dimension, value)
    GROUP BY ALL
), known AS (
    SELECT dimension, count(DISTINCT profile_id) AS profiles_known FROM pairs GROUP BY ALL
)
SELECT dimension,
       value,
       shown(profiles) AS profiles,
       shown(profiles) / profiles_known AS share,
       CASE WHEN NOT too_few(profiles) THEN shown(instances) END AS instances,
       shown(profiles_known) AS profiles_known,
       instances_reporting, instances_known, coverage, fresh_at,
       to_day() >= open_from AS is_open,
       too_few(profiles) OR too_few(instances) AS suppressed
FROM rows JOIN known USING (dimension), coverage_of_range, as_of
ORDER BY dimension, profiles DESC NULLS LAST, value;
