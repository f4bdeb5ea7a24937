-- title: Loss at the sender
-- question: How many events did senders lose before they could send them?
-- counts: events, by the day on which the sender reported it: its running totals of one batch, less those of the batch before
-- numerator: dropped, events that the sender removed unsent because too many were waiting; set_aside, events that it could not send
-- denominator: received, events of batches with totals received that day; lost_share is dropped / (received + dropped)
-- coverage: instances with an event on the day, of those with one in the 28 days up to it
-- suppression: instances_with_loss and instances_implausible are NULL from 1 to below the threshold; events name nobody and are always shown
-- lateness: a loss is reported with the next batch that gets through, often days after it happened
-- epoch: the first batch of a sender reports all that it lost before, and is implausible when that is more than a day's worth
-- traps: exact for senders that give totals; the others say nothing, and what they lose is not to be seen here. set_aside falls below zero when such events were sent after all. A new instance id reports its past again. What an instance claims on a day is implausible, and in no sum, beyond one full batch a minute since the day on which it was heard before (14,400,000 events a day); what it lost in truth is missing then, too. The version filter does not apply to losses
-- unit: instances
-- audience: public
-- chart: columns x=day y=dropped
-- columns:
--   day: the day of report, UTC
--   dropped: events dropped by senders
--   set_aside: events set aside by senders
--   received: events received from senders that give totals
--   lost_share: dropped / (received + dropped)
--   instances_with_loss: instances that reported a loss
--   instances_implausible: instances that reported more than can be; none of theirs is in the columns before
--   instances_reporting: instances with an event on the day
--   instances_known: instances with an event in the 28 days up to the day
--   coverage: instances_reporting / instances_known
--   fresh_at: the newest receipt, UTC
--   is_open: batches of the day may still come
--   suppressed: a number of instances is hidden
WITH losses AS (
    SELECT reported_on AS day, sum(dropped)::BIGINT AS dropped, sum(quarantined)::BIGINT AS set_aside,
           count(*) FILTER (dropped > 0) AS instances_with_loss,
           count(*) FILTER (NOT is_plausible) AS instances_implausible
    FROM sender_loss
    WHERE in_range(reported_on) AND picked_instance(instance_id)
    GROUP BY ALL
), loaded AS (
    SELECT received_at::DATE AS day, sum(event_count)::BIGINT AS received
    FROM batches
    WHERE in_range(received_at::DATE) AND picked_instance(instance_id) AND recorded IS NOT NULL
      AND (instance_id, received_at::DATE) NOT IN (
          SELECT (instance_id, reported_on) FROM sender_loss WHERE NOT is_plausible
      )
    GROUP BY ALL
), rows AS (
    SELECT day, coalesce(dropped, 0) AS dropped, coalesce(set_aside, 0) AS set_aside,
           coalesce(received, 0) AS received, coalesce(instances_with_loss, 0) AS instances_with_loss,
           coalesce(instances_implausible, 0) AS instances_implausible
    FROM asked_days LEFT JOIN losses USING (day) LEFT JOIN loaded USING (day)
)
SELECT day,
       dropped,
       set_aside,
       received,
       dropped / nullif(received + dropped, 0) AS lost_share,
       shown(instances_with_loss) AS instances_with_loss,
       shown(instances_implausible) AS instances_implausible,
       instances_reporting, instances_known, coverage, fresh_at,
       day >= open_from AS is_open,
       too_few(instances_with_loss) OR too_few(instances_implausible) AS suppressed
FROM rows JOIN coverage_by_day USING (day), as_of
ORDER BY day;
