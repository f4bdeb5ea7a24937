-- title: Unknown keys
-- question: How much did senders send that nobody has agreed to keep?
-- counts: keys that were removed on load, by the day of receipt
-- numerator: context_keys, keys outside the safe sets; event_keys, keys outside the seven of an event
-- denominator: events, loaded that day; batches
-- coverage: instances with an event on the day, of those with one in the 28 days up to it
-- suppression: none: keys are counted, never named, and batches name nobody
-- lateness: batches of an open day may still come
-- epoch: does not matter
-- traps: nothing of it is in the warehouse. A rise means a newer Penpot, or a sender that does not anonymise; overlapping pages of senders without a batch id count again
-- unit: batches
-- audience: public
-- chart: columns x=day y=context_keys,event_keys
-- columns:
--   day: the day of receipt, UTC
--   batches: batches received
--   events: events of these
--   context_keys: context keys outside the safe sets
--   event_keys: event keys outside the seven
--   batches_with_any: batches with either
--   keys_per_event: both / events
--   instances_reporting: instances with an event on the day
--   instances_known: instances with an event in the 28 days up to the day
--   coverage: instances_reporting / instances_known
--   fresh_at: the newest receipt, UTC
--   is_open: batches of the day may still come
--   suppressed: always false
WITH by_day AS (
    SELECT received_at::DATE AS day, count(*) AS batches, sum(event_count)::BIGINT AS events,
           sum(dropped_context_keys)::BIGINT AS context_keys, sum(unknown_keys)::BIGINT AS event_keys,
           count(*) FILTER (dropped_context_keys + unknown_keys > 0) AS batches_with_any
    FROM batches
    WHERE in_range(received_at::DATE) AND picked(instance_id, version)
    GROUP BY ALL
)
SELECT day,
       coalesce(batches, 0) AS batches,
       coalesce(events, 0) AS events,
       coalesce(context_keys, 0) AS context_keys,
       coalesce(event_keys, 0) AS event_keys,
       coalesce(batches_with_any, 0) AS batches_with_any,
       (context_keys + event_keys) / nullif(events, 0) AS keys_per_event,
       instances_reporting, instances_known, coverage, fresh_at,
       day >= open_from AS is_open,
       false AS suppressed
FROM asked_days LEFT JOIN by_day USING (day) JOIN coverage_by_day USING (day), as_of
ORDER BY day;
