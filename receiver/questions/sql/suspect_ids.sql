-- title: Ids reset or cloned
-- question: Which instance ids may be one Penpot under a new id, or two machines under one?
-- counts: signs, by instance id; a sign is a hint, not a proof
-- numerator: signs: for reset and copied, profiles seen under both ids; for cloned, the sign named in the column sign
-- denominator: profiles, for reset and copied those of the older id; otherwise NULL
-- coverage: instances with an event in the days asked for, of those with one in them or in the 27 days before
-- suppression: none, since a hint that names no id is of no use: for operators, not to be published
-- lateness: an id that is cut off may look reset until its batches come
-- epoch: ids that changed before the first day held do not show
-- traps: reset: the older id had its last event no later than the day after the first of the newer one. copied: both go on. cloned: two batch ids under one number, or a version that fell back twice or more, or running totals that fell twice or more; an operator who goes back to an older version once shows nothing, and a copied machine of a sender without batch numbers shows only by its versions
-- unit: instances
-- audience: operator
-- chart: bars y=kind x=signs color=sign
-- columns:
--   kind: reset, copied or cloned
--   instance_id: the id; the older of two
--   other_id: the newer id of two
--   since: the first day of the newer id, or of the sign
--   sign: shared-profiles, number-used-twice, version-fell-back or totals-fell
--   signs: how many
--   profiles: profiles of the older id
--   instances_reporting: instances with an event in the days asked for
--   instances_known: instances with an event in them or in the 27 days before
--   coverage: instances_reporting / instances_known
--   fresh_at: the newest receipt, UTC
--   is_open: the sign is from open days
--   suppressed: always false
WITH people AS (
    SELECT profile_id, instance_id FROM profile_days WHERE vouched(instance_id) GROUP BY ALL
), shared AS (
    SELECT a.instance_id AS one, b.instance_id AS other, count(*) AS signs
    FROM people a JOIN people b USING (profile_id)
    WHERE a.instance_id <> b.instance_id
    GROUP BY ALL
), spans AS (
    SELECT instance_id, min(day) AS first_day, max(day) AS last_day
    FROM instance_days, as_of
    WHERE day BETWEEN epoch AND today AND vouched(instance_id)
    GROUP BY ALL
), pairs AS (
    SELECT one, other, signs, newer.first_day AS since, older.last_day <= newer.first_day + 1 AS is_reset
    FROM shared
    JOIN spans older ON older.instance_id = one
    JOIN spans newer ON newer.instance_id = other
    WHERE (older.first_day, one) < (newer.first_day, other)
), in_order AS (
    SELECT instance_id, received_at::DATE AS day,
           version_rank(version) < lag(version_rank(version)) OVER arrivals AS fell_back,
           recorded < lag(recorded) OVER arrivals AS totals_fell
    FROM batches
    WHERE vouched(instance_id)
    WINDOW arrivals AS (PARTITION BY instance_id ORDER BY received_at, batch_no)
), twice AS (
    SELECT instance_id, batch_seq, max(received_at)::DATE AS day
    FROM batches
    WHERE batch_seq IS NOT NULL AND vouched(instance_id)
    GROUP BY ALL
    HAVING count(DISTINCT batch_id) > 1
), hints AS (
    SELECT if(is_reset, 'reset', 'copied') AS kind, one AS instance_id, other AS other_id, since,
           'shared-profiles' AS sign, signs
    FROM pairs
    UNION ALL
    SELECT 'cloned', instance_id, NULL, min(day), 'number-used-twice', count(*) FROM twice GROUP BY instance_id
    UNION ALL
    SELECT 'cloned', instance_id, NULL, min(day), 'version-fell-back', count(*)
    FROM in_order WHERE fell_back GROUP BY instance_id HAVING count(*) >= 2
    UNION ALL
    SELECT 'cloned', instance_id, NULL, min(day), 'totals-fell', count(*)
    FROM in_order WHERE totals_fell GROUP BY instance_id HAVING count(*) >= 2
)
SELECT kind,
       h.instance_id::VARCHAR AS instance_id,
       other_id::VARCHAR AS other_id,
       since,
       sign,
       signs,
       CASE WHEN sign = 'shared-profiles' THEN profiles END AS profiles,
       instances_reporting, instances_known, coverage, fresh_at,
       since >= open_from AS is_open,
       false AS suppressed
FROM hints h
LEFT JOIN (SELECT instance_id, count(*) AS profiles FROM people GROUP BY ALL) p USING (instance_id), coverage_of_range, as_of
WHERE in_range(since) AND (asked_instance(h.instance_id) OR asked_instance(other_id))
ORDER BY kind, signs DESC, h.instance_id, other_id, sign;
