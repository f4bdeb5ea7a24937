-- title: Sequence gaps
-- question: Which batches were sent, by their numbers, and never arrived?
-- counts: numbers that an instance's batches have passed over, by the day on which the batch after the gap was received
-- numerator: missing, the numbers passed over and not filled since
-- denominator: expected, the numbered batches received that day and the missing ones
-- coverage: instances with an event on the day, of those with one in the 28 days up to it
-- suppression: instances_with_gaps and instances_implausible are NULL from 1 to below the threshold; batches name nobody and are always shown
-- lateness: a late batch closes its gap, so missing can fall for any day
-- epoch: a sender that was at work before this receiver shows a gap before its first batch here, or is implausible that day when the gap is of more than 1,440
-- traps: senders without batch numbers are not in it. A sender that begins anew at 1 shows no gap, and neither does a copied machine; see suspect_ids. What an instance passes over on a day is implausible, and in no sum, beyond one batch a minute since the day on which it was heard before (1,440 a day). What a sender dropped before it made a batch of it is in sender_loss
-- unit: instances
-- audience: public
-- chart: columns x=day y=missing
-- columns:
--   day: the day of receipt, UTC
--   batches: numbered batches received, each number of an instance counted once
--   missing: numbers passed over by these and not received since
--   expected: batches + missing
--   missing_share: missing / expected
--   instances_with_gaps: instances with a number missing there
--   instances_implausible: instances that passed over more than can be; nothing of theirs is in the columns before
--   instances_reporting: instances with an event on the day
--   instances_known: instances with an event in the 28 days up to the day
--   coverage: instances_reporting / instances_known
--   fresh_at: the newest receipt, UTC
--   is_open: the missing ones may still come
--   suppressed: a number of instances is hidden
WITH numbered AS (
    SELECT instance_id, batch_seq, min(received_at)::DATE AS day, bool_or(picked_version(version)) AS is_picked
    FROM batches
    WHERE batch_seq IS NOT NULL AND picked_instance(instance_id)
    GROUP BY ALL
), steps AS (
    SELECT *, batch_seq - coalesce(lag(batch_seq) OVER (PARTITION BY instance_id ORDER BY batch_seq), 0) - 1 AS skipped
    FROM numbered
), judged AS (
    SELECT s.*, sum(greatest(skipped, 0)) OVER (PARTITION BY s.instance_id, s.day) <= most_batches(days_since) AS is_plausible
    FROM steps s JOIN receipt_days USING (instance_id, day)
), by_day AS (
    SELECT day, count(*) FILTER (is_plausible) AS batches,
           coalesce(sum(greatest(skipped, 0)) FILTER (is_plausible), 0)::BIGINT AS missing,
           count(DISTINCT instance_id) FILTER (skipped > 0 AND is_plausible) AS instances_with_gaps,
           count(DISTINCT instance_id) FILTER (NOT is_plausible) AS instances_implausible
    FROM judged
    WHERE is_picked AND in_range(day)
    GROUP BY day
)
SELECT day,
       coalesce(batches, 0) AS batches,
       coalesce(missing, 0) AS missing,
       coalesce(batches + missing, 0) AS expected,
       missing / nullif(batches + missing, 0) AS missing_share,
       shown(coalesce(instances_with_gaps, 0)) AS instances_with_gaps,
       shown(coalesce(instances_implausible, 0)) AS instances_implausible,
       instances_reporting, instances_known, coverage, fresh_at,
       day >= open_from AS is_open,
       too_few(instances_with_gaps) OR too_few(instances_implausible) AS suppressed
FROM asked_days LEFT JOIN by_day USING (day) JOIN coverage_by_day USING (day), as_of
ORDER BY day;
