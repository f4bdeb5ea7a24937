-- title: Concentration
-- question: How unequal are Penpots: how large is a large one, and how much is on the largest?
-- counts: distinct instance ids by size in the last 28 of the days asked for: distinct profiles, and events
-- numerator: the profiles, or events, of the largest hundredth and tenth of the instances, rounded up
-- denominator: total, the profiles or events of all instances, added up
-- coverage: instances with an event in the days asked for, of those with one in them or in the 27 days before
-- suppression: a quantile or a share is shown only when it rests on the threshold of instances: P50 from 10 instances, P90 and the top tenth from about 50, P99 and the top hundredth from about 500 at a threshold of 5; there is no maximum for the same reason
-- lateness: late batches can only make an instance larger
-- epoch: does not matter once 28 days are held
-- traps: the measure events moves with bots and with the overlapping pages of senders without a batch id; the measure profiles does not. A profile seen under two instance ids counts on both
-- unit: instances
-- audience: public
-- chart: bars y=measure x=top_1pct_share,top_10pct_share format=% sort=given
-- columns:
--   measure: profiles or events
--   instances: instances with an event in the 28 days
--   total: profiles or events on them, added up
--   p50: half of the instances have at most so many
--   p90: nine in ten have at most so many
--   p99: ninety-nine in a hundred have at most so many
--   top_1pct_share: share of the total that is on the largest hundredth of the instances
--   top_10pct_share: share of the total that is on the largest tenth
--   first_day: the first of the 28 days
--   last_day: the last of them
--   instances_reporting: instances with an event in the days asked for
--   instances_known: instances with an event in them or in the 27 days before
--   coverage: instances_reporting / instances_known
--   fresh_at: the newest receipt, UTC
--   is_open: the days asked for reach into those for which events may still come
--   suppressed: at least one number of the row is hidden
WITH sizes AS (
    SELECT instance_id, any_value(events) AS events, count(DISTINCT profile_id) AS profiles
    FROM (SELECT instance_id, sum(events)::BIGINT AS events FROM instance_days
          WHERE in_range(day) AND day > to_day() - 28 AND picked(instance_id, version) GROUP BY ALL)
    LEFT JOIN (SELECT instance_id, profile_id FROM profile_days
               WHERE in_range(day) AND day > to_day() - 28 AND picked(instance_id, version)) USING (instance_id)
    GROUP BY instance_id
), measures AS (
    SELECT 'profiles' AS measure, profiles AS size FROM sizes
    UNION ALL
    SELECT 'events', events FROM sizes
), ranked AS (
    SELECT *, row_number() OVER (PARTITION BY measure ORDER BY size DESC) AS place,
           count(*) OVER (PARTITION BY measure) AS n
    FROM measures
), rows AS (
    SELECT measure, count(*) AS instances, sum(size)::BIGINT AS total,
           quantile_disc(size, 0.5) AS p50, quantile_disc(size, 0.9) AS p90, quantile_disc(size, 0.99) AS p99,
           sum(size) FILTER (place <= ceil(n * 0.01)) / nullif(sum(size), 0) AS top_1pct_share,
           sum(size) FILTER (place <= ceil(n * 0.1)) / nullif(sum(size), 0) AS top_10pct_share
    FROM ranked
    GROUP BY measure
)
SELECT measure,
       shown(instances) AS instances,
       CASE WHEN NOT too_few(instances) THEN total END AS total,
       CASE WHEN instances * 0.5 >= threshold() THEN p50 END AS p50,
       CASE WHEN instances * 0.1 >= threshold() THEN p90 END AS p90,
       CASE WHEN instances * 0.01 >= threshold() THEN p99 END AS p99,
       CASE WHEN ceil(instances * 0.01) >= threshold() THEN top_1pct_share END AS top_1pct_share,
       CASE WHEN ceil(instances * 0.1) >= threshold() THEN top_10pct_share END AS top_10pct_share,
       greatest(from_day(), to_day() - 27)::DATE AS first_day,
       to_day() AS last_day,
       instances_reporting, instances_known, coverage, fresh_at,
       to_day() >= open_from AS is_open,
       instances * 0.01 < threshold() AS suppressed
FROM rows, coverage_of_range, as_of
ORDER BY measure DESC;
