-- title: Weekly cohorts
-- question: Of the people who first came in one week, how many come again 1, 2, 3 … weeks later?
-- counts: distinct profile ids, each by its own days: week 1 are the days 7 to 13 after its first day, week 0 the first seven
-- numerator: active, profiles of the cohort with an event in that week of theirs
-- denominator: profiles, all of the cohort: those whose first day lies in the calendar week (Monday to Sunday UTC)
-- coverage: instances with an event in the days asked for, of those with one in them or in the 27 days before
-- suppression: a cohort from 1 to below the threshold of profiles is NULL in every cell; a cell from 1 to below it by itself
-- lateness: a cell is open until the last of the cohort has had the whole week, and what comes late had time to come
-- epoch: a first day is the first one that this receiver heard of; cohorts of the first four weeks held are mostly older people (is_warmup)
-- traps: the days asked for choose the cohorts by their Monday; what they did later is looked at to the end. The version filter keeps those who began on that version. Repeated and overlapping batches, bots, and a new instance id move nothing; an instance that stopped reporting takes its people out of every later week
-- unit: profiles
-- audience: public
-- chart: heat x=week_no y=cohort color=retention format=%
-- columns:
--   cohort: the Monday of the week of the first day, UTC
--   week_no: weeks after the first day
--   profiles: profiles of the cohort
--   active: of these, those with an event in that week of theirs
--   retention: active / profiles
--   is_warmup: the cohort begins in the first four weeks held
--   instances_reporting: instances with an event in the days asked for
--   instances_known: instances with an event in them or in the 27 days before
--   coverage: instances_reporting / instances_known
--   fresh_at: the newest receipt, UTC
--   is_open: events of the cell may still come
--   suppressed: at least one number of the row is hidden
WITH firsts AS (
    SELECT profile_id, min(day) AS first_day, date_trunc('week', min(day))::DATE AS cohort
    FROM profile_days, as_of
    WHERE day BETWEEN epoch AND today AND picked_instance(instance_id)
    GROUP BY profile_id
    HAVING min(day) = min(day) FILTER (picked_version(version))
       AND date_trunc('week', min(day))::DATE BETWEEN from_day() AND to_day()
), weeks AS (
    SELECT DISTINCT cohort, profile_id, (day - first_day) // 7 AS week_no
    FROM profile_days JOIN firsts USING (profile_id), as_of
    WHERE day BETWEEN epoch AND today AND picked_instance(instance_id)
), cohorts AS (
    SELECT cohort, count(*) AS profiles, unnest(generate_series(0, max(open_from) - 1 - cohort, 7)) // 7 AS week_no
    FROM firsts, as_of
    GROUP BY cohort
), cells AS (
    SELECT cohort, week_no, profiles, coalesce(active, 0) AS active
    FROM cohorts LEFT JOIN (SELECT cohort, week_no, count(*) AS active FROM weeks GROUP BY ALL) USING (cohort, week_no)
)
SELECT cohort,
       week_no,
       shown(profiles) AS profiles,
       CASE WHEN NOT too_few(profiles) THEN shown(active) END AS active,
       CASE WHEN NOT too_few(profiles) THEN shown(active) END / profiles AS retention,
       cohort < epoch + 28 AS is_warmup,
       instances_reporting, instances_known, coverage, fresh_at,
       cohort + 6 + 7 * week_no::INTEGER + 6 >= open_from AS is_open,
       too_few(profiles) OR too_few(active) AS suppressed
FROM cells, coverage_of_range, as_of
ORDER BY cohort, week_no;
