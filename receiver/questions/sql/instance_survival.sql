-- title: Instance survival
-- question: Of the Penpots that appeared, what share is still there after so many days?
-- counts: distinct instance ids whose first day lies in the days asked for, by the days from their first to their last event
-- numerator: survival, a Kaplan-Meier estimate at each seventh day: the share with a last event on that day of age or later
-- denominator: at_risk, instances that were followed to that age; instances, all of them
-- coverage: instances with an event in the days asked for, of those with one in them or in the 27 days before
-- suppression: an age with 1 to below the threshold of instances at risk is NULL
-- lateness: who was cut off for more than 28 days counts as gone until the batches come
-- epoch: age counts from the first day that this receiver heard of; leave the first four weeks held out to follow true newcomers (is_warmup)
-- traps: gone is who has been silent for 28 days that are no longer open; everybody else is followed to the last event and then leaves the count (censored). Silence is not death, and a new instance id is one gone and one new. The version filter keeps the instances whose newest version is the one asked for. Repeated and overlapping batches and bots move nothing
-- unit: instances
-- audience: public
-- chart: steps x=age_days y=survival format=%
-- columns:
--   age_days: days since the first event
--   at_risk: instances followed to that age
--   gone: of these, those with the last event at that age or in the six days after it
--   survival: share with a last event at that age or later
--   instances: instances whose first day lies in the days asked for
--   is_warmup: the days asked for begin in the first four weeks held
--   instances_reporting: instances with an event in the days asked for
--   instances_known: instances with an event in them or in the 27 days before
--   coverage: instances_reporting / instances_known
--   fresh_at: the newest receipt, UTC
--   is_open: no age is open, what is unfinished is censored
--   suppressed: the numbers of the row are hidden
WITH lives AS (
    SELECT instance_id, max(day) - min(day) AS age, max(day) + 28 < max(open_from) AS is_gone
    FROM instance_days, as_of
    WHERE day BETWEEN epoch AND today AND picked_instance(instance_id)
    GROUP BY instance_id
    HAVING in_range(min(day)) AND picked_version(arg_max(version, batch_no))
), ages AS (
    SELECT age, count(*) FILTER (is_gone) AS gone, count(*) AS leaving FROM lives GROUP BY age
    UNION ALL
    SELECT unnest(generate_series(0, (SELECT max(age) FROM lives), 7)), 0, 0
), risks AS (
    SELECT age, sum(gone) AS gone, sum(sum(leaving)) OVER (ORDER BY age DESC) AS at_risk FROM ages GROUP BY age
), curve AS (
    SELECT age, at_risk,
           coalesce(product(1 - gone / at_risk) OVER (
               ORDER BY age ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
           ), 1) AS survival,
           sum(gone) OVER (ORDER BY age RANGE BETWEEN CURRENT ROW AND 6 FOLLOWING) AS gone
    FROM risks
)
SELECT age AS age_days,
       shown(at_risk)::BIGINT AS at_risk,
       CASE WHEN NOT too_few(at_risk) THEN shown(gone) END::BIGINT AS gone,
       CASE WHEN NOT too_few(at_risk) THEN survival END AS survival,
       shown((SELECT count(*) FROM lives)) AS instances,
       from_day() < epoch + 28 AS is_warmup,
       instances_reporting, instances_known, coverage, fresh_at,
       false AS is_open,
       too_few(at_risk) OR too_few(gone) AS suppressed
FROM curve, coverage_of_range, as_of
WHERE age % 7 = 0
ORDER BY age_days;
