-- title: Stickiness
-- question: How much of the month's people come on an average day?
-- counts: distinct profile ids by day and by 28 days
-- numerator: mean_daily, the mean of the daily active profiles over the 28 days up to the day
-- denominator: active_28d, distinct profiles in those 28 days
-- coverage: instances with an event on the day, of those with one in the 28 days up to it
-- suppression: all of a row is NULL when active_28d is from 1 to below the threshold of profiles; active_1d by itself too
-- lateness: open days can still rise, and with them the mean
-- epoch: before 28 days are held, the mean is over the days there are, and stickiness is too high (is_warmup)
-- traps: a mean over four whole weeks, so that weekends do not show as waves; a single day's DAU / MAU differs. Repeated and overlapping batches, bots and new instance ids move nothing
-- unit: profiles
-- audience: public
-- chart: lines x=day y=stickiness format=%
-- columns:
--   day: the day, UTC
--   active_1d: profiles with an event on the day
--   mean_daily: mean of active_1d over the 28 days up to the day
--   active_28d: profiles with an event in the 28 days up to the day
--   stickiness: mean_daily / active_28d
--   is_warmup: the 28 days reach back beyond the first day held
--   instances_reporting: instances with an event on the day
--   instances_known: instances with an event in the 28 days up to the day
--   coverage: instances_reporting / instances_known
--   fresh_at: the newest receipt, UTC
--   is_open: events of the day may still come
--   suppressed: at least one number of the row is hidden
WITH presence AS (
    SELECT DISTINCT profile_id AS who, day
    FROM profile_days
    WHERE day BETWEEN from_day() - 27 AND to_day() AND picked(instance_id, version)
), stays AS (
    SELECT day, coalesce(lead(day) OVER (PARTITION BY who ORDER BY day) - day, 28)::INTEGER AS gap
    FROM presence
), changes AS (
    SELECT day, count(*) AS in_1d, count(*) AS in_28d FROM stays GROUP BY ALL
    UNION ALL
    SELECT day + least(gap, 28), 0, -count(*) FROM stays GROUP BY ALL
    UNION ALL
    SELECT unnest(generate_series(from_day() - 27, to_day(), INTERVAL 1 DAY))::DATE, 0, 0
), totals AS (
    SELECT day,
           sum(in_1d)::BIGINT AS active_1d,
           sum(sum(in_28d)) OVER (ORDER BY day)::BIGINT AS active_28d,
           sum(sum(in_1d)) OVER (ORDER BY day ROWS 27 PRECEDING)::BIGINT AS profile_days
    FROM changes
    GROUP BY day
), means AS (
    SELECT *, profile_days / least(28, day - epoch + 1) AS mean_daily FROM totals, as_of WHERE day >= epoch
)
SELECT day,
       CASE WHEN NOT too_few(active_28d) THEN shown(active_1d) END AS active_1d,
       CASE WHEN NOT too_few(active_28d) THEN mean_daily END AS mean_daily,
       shown(active_28d) AS active_28d,
       CASE WHEN NOT too_few(active_28d) THEN mean_daily / nullif(active_28d, 0) END AS stickiness,
       day < epoch + 27 AS is_warmup,
       instances_reporting, instances_known, coverage, fresh_at,
       day >= open_from AS is_open,
       too_few(active_1d) OR too_few(active_28d) AS suppressed
FROM means JOIN coverage_by_day USING (day)
ORDER BY day;
