-- title: Screens
-- question: How wide are people's screens?
-- counts: distinct profile ids by width of the screen, in bands of pixels
-- numerator: profiles that were seen with the value in the days asked for
-- denominator: profiles_known, profiles whose browser said it in the days asked for; those seen through the backend only are not in it
-- coverage: instances with an event in the days asked for, of those with one in them or in the 27 days before
-- suppression: a band of 1 to below the threshold of profiles is NULL, and the next larger with it until the hidden ones together reach the threshold; a number of instances below it is NULL too
-- lateness: late batches can only raise the numbers
-- epoch: does not matter
-- traps: who uses two of them counts under both, so shares can add up to more than one. A script has no browser and is not here. Repeated and overlapping batches, bots, and a new instance id move nothing
-- unit: profiles
-- audience: public
-- chart: bars y=band x=share format=% sort=given
-- columns:
--   band: width in pixels, both ends included
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
WITH bands(place, band, low, high) AS (
    VALUES (1, 'to 1279', 0, 1279), (2, '1280-1439', 1280, 1439), (3, '1440-1919', 1440, 1919),
           (4, '1920-2559', 1920, 2559), (5, 'from 2560', 2560, 9223372036854775807)
), pairs AS MATERIALIZED (
    SELECT DISTINCT place, profile_id, instance_id
    FROM platform_days JOIN bands ON screen_width BETWEEN low AND high
    WHERE in_range(day) AND picked(instance_id, version)
), known AS (
    SELECT count(DISTINCT profile_id) AS profiles_known FROM pairs
), counted AS (
    SELECT place, band, count(DISTINCT profile_id) AS profiles, count(DISTINCT instance_id) AS instances
    FROM bands LEFT JOIN pairs USING (place)
    GROUP BY ALL
), rows AS (
    SELECT *, profiles > 0 AND hidden_in_sum(profiles, sum(profiles) OVER (
                  ORDER BY profiles, place ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
              )) AS is_hidden
    FROM counted
)
SELECT band,
       CASE WHEN NOT is_hidden THEN profiles END AS profiles,
       CASE WHEN NOT is_hidden THEN profiles / nullif(profiles_known, 0) END AS share,
       CASE WHEN NOT is_hidden THEN shown(instances) END AS instances,
       shown(profiles_known) AS profiles_known,
       instances_reporting, instances_known, coverage, fresh_at,
       to_day() >= open_from AS is_open,
       is_hidden OR too_few(instances) AS suppressed
FROM rows, known, coverage_of_range, as_of
WHERE epoch IS NOT NULL
ORDER BY place;
