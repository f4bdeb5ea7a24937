-- title: Instance sizes
-- question: How many Penpots are small, how many large, and where are the people?
-- counts: distinct instance ids by size: distinct profile ids on it in the last 28 of the days asked for (all of them, if fewer are asked for)
-- numerator: instances of the band; profiles on them
-- denominator: instances_active, all instances with an event in those 28 days; profiles_active, their profiles
-- coverage: instances with an event in the days asked for, of those with one in them or in the 27 days before
-- suppression: a band of 1 to below the threshold of instances is NULL, and the next larger with it until the hidden ones together reach the threshold
-- lateness: late batches can only make an instance larger
-- epoch: does not matter once 28 days are held
-- traps: a size is of one instance id, so a profile seen under two ids, as after a new id, is in two sizes: profiles and profiles_active add up sizes. A machine copied under one id is one instance. Repeated and overlapping batches and bots move nothing
-- unit: instances
-- audience: public
-- chart: bars y=band x=share,profile_share format=% sort=given
-- columns:
--   band: profiles on one instance, both ends included; 0: events without a profile only
--   instances: instances of that size
--   share: instances / instances_active
--   profiles: profiles on them, added up
--   profile_share: profiles / profiles_active
--   instances_active: instances with an event in the 28 days
--   profiles_active: profiles on them, added up
--   first_day: the first of the 28 days
--   last_day: the last of them
--   instances_reporting: instances with an event in the days asked for
--   instances_known: instances with an event in them or in the 27 days before
--   coverage: instances_reporting / instances_known
--   fresh_at: the newest receipt, UTC
--   is_open: the days asked for reach into those for which events may still come
--   suppressed: the numbers of the row are hidden
WITH bands(place, band, low, high) AS (
    VALUES (0, '0', 0, 0), (1, '1', 1, 1), (2, '2-4', 2, 4), (3, '5-9', 5, 9), (4, '10-24', 10, 24),
           (5, '25-99', 25, 99), (6, '100-499', 100, 499), (7, 'from 500', 500, 9223372036854775807)
), sizes AS (
    SELECT instance_id, count(DISTINCT profile_id) AS size
    FROM (SELECT DISTINCT instance_id FROM instance_days
          WHERE in_range(day) AND day > to_day() - 28 AND picked(instance_id, version))
    LEFT JOIN (SELECT instance_id, profile_id FROM profile_days
               WHERE in_range(day) AND day > to_day() - 28 AND picked(instance_id, version)) USING (instance_id)
    GROUP BY instance_id
), counted AS (
    SELECT place, band, count(size) AS instances, coalesce(sum(size), 0)::BIGINT AS profiles
    FROM bands LEFT JOIN sizes ON size BETWEEN low AND high
    GROUP BY ALL
), rows AS (
    SELECT *, sum(instances) OVER ()::BIGINT AS instances_active, sum(profiles) OVER ()::BIGINT AS profiles_active,
           instances > 0 AND hidden_in_sum(instances, sum(instances) OVER (
               ORDER BY instances, place ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
           )) AS is_hidden
    FROM counted
)
SELECT band,
       CASE WHEN NOT is_hidden THEN instances END AS instances,
       CASE WHEN NOT is_hidden THEN instances / nullif(instances_active, 0) END AS share,
       CASE WHEN NOT is_hidden THEN profiles END AS profiles,
       CASE WHEN NOT is_hidden THEN profiles / nullif(profiles_active, 0) END AS profile_share,
       shown(instances_active) AS instances_active,
       CASE WHEN NOT too_few(instances_active) THEN profiles_active END AS profiles_active,
       greatest(from_day(), to_day() - 27)::DATE AS first_day,
       to_day() AS last_day,
       instances_reporting, instances_known, coverage, fresh_at,
       to_day() >= open_from AS is_open,
       is_hidden AS suppressed
FROM rows, coverage_of_range, as_of
WHERE epoch IS NOT NULL
ORDER BY place;
