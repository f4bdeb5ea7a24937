-- title: Lateness
-- question: How many days after a day have its events arrived?
-- counts: events by the days from the day they happened (the sender's clock) to the day their batch was received
-- numerator: arrived, events that had come by then; first_arrived, days of an instance of which the first events had come by then
-- denominator: events and instance_days, all that have come for days that are at least so many days old
-- coverage: instances with an event in the days asked for, of those with one in them or in the 27 days before
-- suppression: a row that rests on 1 to below the threshold of instances is NULL
-- lateness: what is still to come is in no denominator, so the curve is a little too high where instances are cut off now
-- epoch: does not matter
-- traps: below 0 days the sender's clock was ahead, or is wrong. Copies that were repeated are not counted; overlapping pages of senders without a batch id arrive a second time, later, and lower the curve of events, not that of first arrivals
-- unit: instances
-- audience: public
-- chart: steps x=late_days y=arrived_share,first_arrived_share format=%
-- columns:
--   late_days: days after the day
--   events: events of days that are at least so old
--   arrived: of these, those that came within so many days
--   arrived_share: arrived / events
--   instance_days: days of instances that are at least so old
--   first_arrived: of these, those of which something came within so many days
--   first_arrived_share: first_arrived / instance_days
--   instances_reporting: instances with an event in the days asked for
--   instances_known: instances with an event in them or in the 27 days before
--   coverage: instances_reporting / instances_known
--   fresh_at: the newest receipt, UTC
--   is_open: no row is open, open days are too young for it
--   suppressed: the numbers of the row are hidden
WITH arrivals AS (
    SELECT instance_id, day, received_on - day AS late, sum(events) AS events
    FROM instance_days
    WHERE in_range(day) AND picked(instance_id, version)
    GROUP BY ALL
), by_day AS (
    SELECT day, late, sum(events) AS events, 0 AS firsts FROM arrivals GROUP BY ALL
    UNION ALL
    SELECT day, late, 0, count(*) FROM (SELECT instance_id, day, min(late) AS late FROM arrivals GROUP BY ALL) GROUP BY ALL
), ages AS (
    SELECT unnest(generate_series(-7, 28))::INTEGER AS late_days
), rows AS (
    SELECT late_days, sum(events)::BIGINT AS events, sum(events) FILTER (late <= late_days)::BIGINT AS arrived,
           sum(firsts)::BIGINT AS instance_days, sum(firsts) FILTER (late <= late_days)::BIGINT AS first_arrived
    FROM ages, by_day, as_of
    WHERE day <= today - late_days
    GROUP BY late_days
), behind AS (
    SELECT late_days, count(*) AS instances
    FROM ages, (SELECT instance_id, min(day) AS day FROM arrivals GROUP BY ALL), as_of
    WHERE day <= today - late_days
    GROUP BY late_days
)
SELECT late_days::BIGINT AS late_days,
       CASE WHEN NOT too_few(instances) THEN events END AS events,
       CASE WHEN NOT too_few(instances) THEN coalesce(arrived, 0) END AS arrived,
       CASE WHEN NOT too_few(instances) THEN coalesce(arrived, 0) / events END AS arrived_share,
       CASE WHEN NOT too_few(instances) THEN instance_days END AS instance_days,
       CASE WHEN NOT too_few(instances) THEN coalesce(first_arrived, 0) END AS first_arrived,
       CASE WHEN NOT too_few(instances) THEN coalesce(first_arrived, 0) / instance_days END AS first_arrived_share,
       instances_reporting, instances_known, coverage, fresh_at,
       false AS is_open,
       too_few(instances) AS suppressed
FROM rows JOIN behind USING (late_days), coverage_of_range, as_of
ORDER BY late_days;
