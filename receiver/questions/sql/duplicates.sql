-- title: Duplicates
-- question: How much was sent more than once, and how much of it could have been counted twice?
-- counts: deliveries of a known batch, and events that look like ones of the batch before, by the day on which the batch was first received
-- numerator: repeats, deliveries after the first, none of which was loaded; overlap_events, events of senders without a batch id that look like ones of their batch before, all of which were loaded
-- denominator: deliveries, batches and repeats; weak_events, events of senders without a batch id
-- coverage: instances with an event on the day, of those with one in the 28 days up to it
-- suppression: none: batches and events name nobody
-- lateness: repeats count for the day of the first delivery and can still come
-- epoch: does not matter
-- traps: overlap_events is an estimate from above, two real events of one day can look alike. Distinct counts do not move with either; numbers of events move with overlap_events only
-- unit: batches
-- audience: public
-- chart: columns x=day y=repeats
-- columns:
--   day: the day of receipt, UTC
--   batches: batches first received that day
--   repeats: deliveries of these after the first
--   deliveries: batches + repeats
--   repeat_share: repeats / deliveries
--   events: events loaded
--   weak_batches: batches of senders without a batch id, known again by their digest
--   weak_events: events of these
--   overlap_events: of these, those that look like ones of the batch before
--   overlap_share: overlap_events / weak_events
--   instances_reporting: instances with an event on the day
--   instances_known: instances with an event in the 28 days up to the day
--   coverage: instances_reporting / instances_known
--   fresh_at: the newest receipt, UTC
--   is_open: repeats may still come
--   suppressed: always false
WITH by_day AS (
    SELECT received_at::DATE AS day, count(*) AS batches, sum(repeats)::BIGINT AS repeats,
           sum(event_count)::BIGINT AS events, count(*) FILTER (trust = 'digest') AS weak_batches,
           sum(event_count) FILTER (trust = 'digest')::BIGINT AS weak_events,
           sum(overlap_events) FILTER (trust = 'digest')::BIGINT AS overlap_events
    FROM batches
    WHERE in_range(received_at::DATE) AND picked(instance_id, version)
    GROUP BY ALL
)
SELECT day,
       coalesce(batches, 0) AS batches,
       coalesce(repeats, 0) AS repeats,
       coalesce(batches + repeats, 0) AS deliveries,
       repeats / nullif(batches + repeats, 0) AS repeat_share,
       coalesce(events, 0) AS events,
       coalesce(weak_batches, 0) AS weak_batches,
       coalesce(weak_events, 0) AS weak_events,
       coalesce(overlap_events, 0) AS overlap_events,
       coalesce(overlap_events, 0) / nullif(weak_events, 0) AS overlap_share,
       instances_reporting, instances_known, coverage, fresh_at,
       day >= open_from AS is_open,
       false AS suppressed
FROM asked_days LEFT JOIN by_day USING (day) JOIN coverage_by_day USING (day), as_of
ORDER BY day;
