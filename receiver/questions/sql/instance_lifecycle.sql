-- title: Instance churn
-- question: Week by week, how many Penpots appear, come back, or fall silent?
-- counts: distinct instance ids by calendar week, Monday to Sunday UTC; every week whose Monday lies in the days asked for, as a whole
-- numerator: new (never seen before), returned (seen again after more than 28 days), gone (the 28th silent day falls into the week)
-- denominator: known_before, instances with an event in the 28 days before the Monday; churn is gone / known_before
-- coverage: instances with an event in the days asked for, of those with one in them or in the 27 days before
-- suppression: a number from 1 to below the threshold of instances is NULL
-- lateness: an instance that was cut off for more than 28 days is gone until its batches come; open weeks are marked
-- epoch: an instance is new when this receiver first hears of it; in the first four weeks held most are older (is_warmup)
-- traps: silence is not death: the Penpot may run unused, or its operator may have switched telemetry off. A new instance id is one gone and one new; see suspect_ids. The version filter keeps the instances whose newest version is the one asked for. Repeated and overlapping batches and bots move nothing
-- unit: instances
-- audience: public
-- chart: stack x=week y=new,returned,gone below=gone
-- columns:
--   week: the Monday, UTC
--   active: instances with an event in the week
--   new: of these, those never seen before
--   returned: of these, those seen again after more than 28 days
--   gone: instances whose 28th silent day falls into the week
--   known_before: instances with an event in the 28 days before the Monday; plus new and returned, less gone, is that of the next week
--   churn: gone / known_before
--   is_warmup: the week begins in the first four weeks held
--   instances_reporting: instances with an event in the days asked for
--   instances_known: instances with an event in them or in the 27 days before
--   coverage: instances_reporting / instances_known
--   fresh_at: the newest receipt, UTC
--   is_open: events of the week may still come
--   suppressed: at least one number of the row is hidden
WITH picked_ids AS (
    SELECT instance_id FROM instance_days
    WHERE picked_instance(instance_id)
    GROUP BY instance_id
    HAVING picked_version(arg_max(version, batch_no))
), presence AS (
    SELECT DISTINCT instance_id, day
    FROM instance_days SEMI JOIN picked_ids USING (instance_id), as_of
    WHERE day BETWEEN epoch AND today
), neighbours AS (
    SELECT instance_id, day, lag(day) OVER days AS previous, lead(day) OVER days AS following
    FROM presence
    WINDOW days AS (PARTITION BY instance_id ORDER BY day)
), changes AS (
    SELECT date_trunc('week', day)::DATE AS week,
           count(*) FILTER (previous IS NULL) AS new, count(*) FILTER (day - previous > 28) AS returned,
           0 AS gone, count(DISTINCT instance_id) AS active
    FROM neighbours
    GROUP BY ALL
    UNION ALL
    SELECT date_trunc('week', day + 28)::DATE, 0, 0, count(*), 0
    FROM neighbours, as_of
    WHERE day + 28 <= today AND (following IS NULL OR following - day > 28)
    GROUP BY ALL
    UNION ALL
    SELECT day, 0, 0, 0, 0 FROM asked_days WHERE isodow(day) = 1
), totals AS (
    SELECT week, sum(active)::BIGINT AS active, sum(new)::BIGINT AS new, sum(returned)::BIGINT AS returned,
           sum(gone)::BIGINT AS gone,
           coalesce(sum(sum(new + returned - gone)) OVER (
               ORDER BY week ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
           ), 0)::BIGINT AS known_before
    FROM changes
    GROUP BY week
)
SELECT week,
       shown(active) AS active,
       shown(new) AS new,
       shown(returned) AS returned,
       shown(gone) AS gone,
       shown(known_before) AS known_before,
       shown(gone) / nullif(shown(known_before), 0) AS churn,
       week < epoch + 28 AS is_warmup,
       instances_reporting, instances_known, coverage, fresh_at,
       week + 6 >= open_from AS is_open,
       too_few(active) OR too_few(new) OR too_few(returned) OR too_few(gone) OR too_few(known_before) AS suppressed
FROM totals, coverage_of_range, as_of
WHERE week BETWEEN from_day() AND to_day()
ORDER BY week;
