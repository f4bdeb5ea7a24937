-- title: Active profiles
-- question: How many people used Penpot, by day, by week and by four weeks?
-- counts: distinct profile ids with at least one event on the day, in the 7 and in the 28 days up to it; the zero profile is nobody and left out
-- numerator: active_1d, active_7d, active_28d; distinct within their window, so they cannot be added up
-- denominator: none, these are counts; profiles of silent instances are missing, see coverage
-- coverage: instances with an event on the day, of those with one in the 28 days up to it
-- suppression: a count from 1 to below the threshold of profiles is NULL
-- lateness: open days can still rise; late batches never lower a day
-- epoch: in the first 27 days a window reaches back beyond the first day held, so 7d and 28d are too low (is_warmup)
-- traps: a profile is an account, not a person: one person with accounts on two Penpots counts twice. A new instance id or a copied machine moves nothing, since profiles keep their ids; a bot is one profile however many events it makes. Repeated and overlapping batches move nothing
-- unit: profiles
-- audience: public
-- chart: lines x=day y=active_28d,active_7d,active_1d
-- columns:
--   day: the day, UTC
--   active_1d: profiles with an event on the day
--   active_7d: profiles with an event in the 7 days up to it
--   active_28d: profiles with an event in the 28 days up to it
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
), stays AS ( -- how long each appearance alone keeps a window filled: until the next one, at most 28 days
    SELECT day, coalesce(lead(day) OVER (PARTITION BY who ORDER BY day) - day, 28)::INTEGER AS gap
    FROM presence
), changes AS (
    SELECT day, count(*) AS in_1d, count(*) AS in_7d, count(*) AS in_28d FROM stays GROUP BY ALL
    UNION ALL
    SELECT day + least(gap, 7), 0, -count(*), 0 FROM stays GROUP BY ALL
    UNION ALL
    SELECT day + least(gap, 28), 0, 0, -count(*) FROM stays GROUP BY ALL
    UNION ALL
    SELECT day, 0, 0, 0 FROM asked_days
), totals AS (
    SELECT day,
           sum(in_1d)::BIGINT AS active_1d,
           sum(sum(in_7d)) OVER (ORDER BY day)::BIGINT AS active_7d,
           sum(sum(in_28d)) OVER (ORDER BY day)::BIGINT AS active_28d
    FROM changes
    GROUP BY day
)
SELECT day,
       shown(active_1d) AS active_1d,
       shown(active_7d) AS active_7d,
       shown(active_28d) AS active_28d,
       day < epoch + 27 AS is_warmup,
       instances_reporting, instances_known, coverage, fresh_at,
       day >= open_from AS is_open,
       too_few(active_1d) OR too_few(active_7d) OR too_few(active_28d) AS suppressed
FROM totals JOIN coverage_by_day USING (day), as_of
ORDER BY day;
