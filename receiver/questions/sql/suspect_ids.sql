-- title: Ids reset or cloned
-- question: Which instance ids may be one Penpot under a new id, or two machines under one?
-- counts: signs, by group of instance ids: those that share profiles with one older id, or each by itself; a sign is a hint, not a proof
-- numerator: signs: for reset and copied, profiles of the older id seen under a newer one, too; for cloned, the sign named in the column sign
-- denominator: profiles, for reset and copied those of the older id; otherwise NULL
-- coverage: instances with an event in the days asked for, of those with one in them or in the 27 days before
-- suppression: none, since a hint that names no id is of no use: for operators, not to be published
-- lateness: an id that is cut off may look reset until its batches come
-- epoch: ids that changed before the first day held do not show
-- traps: reset: the older id had its last event no later than the day after the first of the newer one. copied: both go on. A profile links each newer id with the oldest one that it was seen under, not the newer ones with each other. cloned: two batch ids under one number, or a version that fell back twice or more, or running totals that fell twice or more; an operator who goes back to an older version once shows nothing, and a copied machine of a sender without batch numbers shows only by its versions. 200 groups of a kind and sign are listed, the largest; the last row of a sign without an id has the number of the others: ask with vouch_days, or for one instance
-- unit: instances
-- audience: operator
-- chart: bars y=kind x=signs color=sign
-- columns:
--   kind: reset, copied or cloned
--   instance_id: the id; the older one of a group; NULL for all groups that are not listed, together
--   ids: newer ids in the group; for cloned 1, the id itself; of groups not listed their number
--   other_id: of the newer ids the one that shares most, as an example
--   since: the first day of a newer id, or of the sign
--   sign: shared-profiles, number-used-twice, version-fell-back or totals-fell
--   signs: how many; of groups not listed the most that one has
--   profiles: profiles of the older id
--   instances_reporting: instances with an event in the days asked for
--   instances_known: instances with an event in them or in the 27 days before
--   coverage: instances_reporting / instances_known
--   fresh_at: the newest receipt, UTC
--   is_open: the sign is from open days
--   suppressed: always false
WITH spans AS (
    SELECT instance_id, min(day) AS first_day, max(day) AS last_day
    FROM instance_days, as_of
    WHERE day BETWEEN epoch AND today AND vouched(instance_id)
    GROUP BY ALL
), people AS (
    SELECT DISTINCT profile_id, instance_id FROM profile_days WHERE vouched(instance_id)
), oldest AS (
    SELECT profile_id, arg_min(instance_id, (first_day, instance_id)) AS instance_id
    FROM people JOIN spans USING (instance_id)
    GROUP BY profile_id
    HAVING count(*) > 1
), shared AS ( -- a row a profile and newer id
    SELECT o.instance_id AS one, p.instance_id AS other, profile_id, newer.first_day AS since,
           if(older.last_day <= newer.first_day + 1, 'reset', 'copied') AS kind
    FROM oldest o
    JOIN people p USING (profile_id)
    JOIN spans older ON older.instance_id = o.instance_id
    JOIN spans newer ON newer.instance_id = p.instance_id
    WHERE o.instance_id <> p.instance_id AND in_range(newer.first_day)
), members AS (
    SELECT kind, one, other, since, count(*) AS profiles FROM shared GROUP BY ALL
), totals AS (
    SELECT kind, one, count(DISTINCT profile_id) AS signs FROM shared GROUP BY ALL
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
    SELECT kind, one AS instance_id, count(*) AS ids, arg_max(other, (profiles, other)) AS other_id,
           min(since) AS since, 'shared-profiles' AS sign, signs
    FROM members JOIN totals USING (kind, one)
    GROUP BY kind, one, signs
    HAVING bool_or(asked_instance(one) OR asked_instance(other))
    UNION ALL
    SELECT 'cloned', instance_id, 1, NULL, min(day), 'number-used-twice', count(*) FROM twice GROUP BY instance_id
    UNION ALL
    SELECT 'cloned', instance_id, 1, NULL, min(day), 'version-fell-back', count(*)
    FROM in_order WHERE fell_back GROUP BY instance_id HAVING count(*) >= 2
    UNION ALL
    SELECT 'cloned', instance_id, 1, NULL, min(day), 'totals-fell', count(*)
    FROM in_order WHERE totals_fell GROUP BY instance_id HAVING count(*) >= 2
), ranked AS (
    SELECT *, row_number() OVER (PARTITION BY kind, sign ORDER BY ids DESC, signs DESC, instance_id) AS place
    FROM hints
    WHERE in_range(since) AND (kind <> 'cloned' OR asked_instance(instance_id))
), rows AS (
    SELECT kind, instance_id, ids, other_id, since, sign, signs FROM ranked WHERE place <= 200
    UNION ALL
    SELECT kind, NULL, count(*), NULL, min(since), sign, max(signs) FROM ranked WHERE place > 200 GROUP BY kind, sign
)
SELECT kind,
       h.instance_id::VARCHAR AS instance_id,
       ids,
       other_id::VARCHAR AS other_id,
       since,
       sign,
       signs,
       CASE WHEN sign = 'shared-profiles' THEN profiles END AS profiles,
       instances_reporting, instances_known, coverage, fresh_at,
       since >= open_from AS is_open,
       false AS suppressed
FROM rows h
LEFT JOIN (SELECT instance_id, count(*) AS profiles FROM people GROUP BY ALL) p USING (instance_id), coverage_of_range, as_of
ORDER BY kind, sign, h.instance_id IS NULL, ids DESC, signs DESC, h.instance_id;
