-- title: Quarantine
-- question: What could not be loaded, and why?
-- counts: bodies by the day on which each was first received and by reason
-- numerator: bodies, each counted once however often it was sent; repeats, its deliveries after the first
-- denominator: batches, loaded that day
-- coverage: instances with an event on the day, of those with one in the 28 days up to it
-- suppression: none: bodies name nobody
-- lateness: repeats count for the day of the first delivery and can still come
-- epoch: does not matter
-- traps: one broken sender makes many bodies; bodies are senders' pages, not events. The version filter has no effect, a body that cannot be read has no version. Days without such bodies have no row
-- unit: bodies
-- audience: public
-- chart: columns x=day y=bodies color=reason
-- columns:
--   day: the day of receipt, UTC
--   reason: why they can never be loaded
--   bodies: bodies first received that day
--   repeats: deliveries of these after the first
--   bytes: size of these bodies
--   batches: batches loaded that day
--   instances_reporting: instances with an event on the day
--   instances_known: instances with an event in the 28 days up to the day
--   coverage: instances_reporting / instances_known
--   fresh_at: the newest receipt, UTC
--   is_open: repeats may still come
--   suppressed: always false
WITH loaded AS (
    SELECT received_at::DATE AS day, count(*) AS batches
    FROM batches
    WHERE in_range(received_at::DATE) AND picked_instance(instance_id)
    GROUP BY ALL
), refused AS (
    SELECT received_at::DATE AS day, reason, count(*) AS bodies, sum(repeats)::BIGINT AS repeats,
           sum(size)::BIGINT AS bytes
    FROM quarantine
    WHERE in_range(received_at::DATE) AND asked_instance(instance_id)
    GROUP BY ALL
)
SELECT day,
       reason,
       bodies,
       repeats,
       bytes,
       coalesce(batches, 0) AS batches,
       instances_reporting, instances_known, coverage, fresh_at,
       day >= open_from AS is_open,
       false AS suppressed
FROM refused LEFT JOIN loaded USING (day) JOIN coverage_by_day USING (day), as_of
ORDER BY day, reason;
