-- title: New, retained and returning profiles
-- question: Of the people of a week, who is new, who was there the week before, who came back, and who stayed away?
-- counts: distinct profile ids by calendar week, Monday to Sunday UTC; every week whose Monday lies in the days asked for, as a whole
-- numerator: new (never seen before), retained (seen in the week before as well), returned (seen earlier, not in the week before), lost (seen in the week before, not in this one)
-- denominator: active, all profiles of the week: new + retained + returned
-- coverage: instances with an event in the days asked for, of those with one in them or in the 27 days before
-- suppression: a part from 1 to below the threshold of profiles is NULL, and the next larger part with it when it could be told from the sum
-- lateness: late batches turn lost profiles into retained ones; open weeks are marked
-- epoch: a profile is new in the first week in which this receiver heard of it; in the first four weeks held most are older than that (is_warmup)
-- traps: the history is looked at whole, whatever days are asked for. The version filter keeps those who used that version in the week; their past counts under any version. Repeated and overlapping batches, bots, and a new instance id move nothing
-- unit: profiles
-- audience: public
-- chart: stack x=week y=retained,returned,new
-- columns:
--   week: the Monday, UTC
--   active: profiles with an event in the week
--   new: of these, those never seen before
--   retained: of these, those seen in the week before
--   returned: of these, those seen earlier but not in the week before
--   lost: profiles of the week before without an event in this one
--   is_warmup: the week begins in the first four weeks held
--   instances_reporting: instances with an event in the days asked for
--   instances_known: instances with an event in them or in the 27 days before
--   coverage: instances_reporting / instances_known
--   fresh_at: the newest receipt, UTC
--   is_open: events of the week may still come
--   suppressed: at least one number of the row is hidden
WITH seen AS (
    SELECT profile_id, date_trunc('week', day)::DATE AS week, bool_or(picked_version(version)) AS is_picked
    FROM profile_days, as_of
    WHERE day BETWEEN epoch AND today AND picked_instance(instance_id)
    GROUP BY ALL
), neighbours AS (
    SELECT week, is_picked,
           lag(week) OVER (PARTITION BY profile_id ORDER BY week) AS previous,
           lead(week) OVER (PARTITION BY profile_id ORDER BY week) AS following
    FROM seen
), parts AS (
    SELECT week, count(*) FILTER (previous IS NULL) AS new, count(*) FILTER (previous = week - 7) AS retained,
           count(*) FILTER (previous < week - 7) AS returned, 0 AS lost
    FROM neighbours WHERE is_picked GROUP BY ALL
    UNION ALL
    SELECT week + 7, 0, 0, 0, count(*) FILTER (following IS DISTINCT FROM week + 7)
    FROM neighbours WHERE is_picked GROUP BY ALL
    UNION ALL
    SELECT day, 0, 0, 0, 0 FROM asked_days
), totals AS (
    SELECT week, sum(new + retained + returned)::BIGINT AS active, sum(new)::BIGINT AS new,
           sum(retained)::BIGINT AS retained, sum(returned)::BIGINT AS returned, sum(lost)::BIGINT AS lost
    FROM parts
    GROUP BY week
), marked AS (
    SELECT *, hidden_of_three(new, new, retained, returned) AS hides_new,
           hidden_of_three(retained, new, retained, returned) AS hides_retained,
           hidden_of_three(returned, new, retained, returned) AS hides_returned
    FROM totals
    WHERE isodow(week) = 1 AND week BETWEEN from_day() AND to_day()
)
SELECT week,
       shown(active) AS active,
       CASE WHEN NOT hides_new THEN new END AS new,
       CASE WHEN NOT hides_retained THEN retained END AS retained,
       CASE WHEN NOT hides_returned THEN returned END AS returned,
       shown(lost) AS lost,
       week < epoch + 28 AS is_warmup,
       instances_reporting, instances_known, coverage, fresh_at,
       week + 6 >= open_from AS is_open,
       too_few(active) OR hides_new OR hides_retained OR hides_returned OR too_few(lost) AS suppressed
FROM marked, coverage_of_range, as_of
ORDER BY week;
