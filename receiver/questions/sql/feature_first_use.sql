-- title: First use of features
-- question: How soon does somebody new use each feature for the first time?
-- counts: distinct profile ids whose first day lies in the days asked for, by event name and type
-- numerator: profiles that used it by the end of those days; within_7d: those of them with the first use on their days 0 to 6
-- denominator: newcomers, all profiles whose first day lies in the days asked for; newcomers_7d: those of them with seven days behind them that are no longer open
-- coverage: instances with an event in the days asked for, of those with one in them or in the 27 days before
-- suppression: names used by 1 to below the threshold of newcomers are added up as (rare); if (rare) is below it too, its numbers are NULL
-- lateness: late batches can only bring a first use forward
-- epoch: a first day is the first one that this receiver heard of; in the first four weeks held most are no newcomers: ask for later days (is_warmup)
-- traps: median_days is over those who did use it, so it says nothing of those who have not yet. The version filter keeps uses on that version. Repeated and overlapping batches, bots, and a new instance id move nothing
-- unit: profiles
-- audience: public
-- chart: bars y=name x=share,within_7d_share format=% top=25
-- columns:
--   name: of the event; (rare): several names together; (none): events without one
--   type: of the event
--   newcomers: profiles whose first day lies in the days asked for
--   profiles: of these, those that used it in the days asked for
--   share: profiles / newcomers
--   newcomers_7d: newcomers whose first seven days are over and closed, within the days asked for
--   within_7d: of these, those that used it in their first seven days
--   within_7d_share: within_7d / newcomers_7d
--   median_days: from the first day to the first use, over the profiles that used it
--   first_seen_on: the first day on which any instance sent it
--   is_warmup: the days asked for begin in the first four weeks held
--   instances_reporting: instances with an event in the days asked for
--   instances_known: instances with an event in them or in the 27 days before
--   coverage: instances_reporting / instances_known
--   fresh_at: the newest receipt, UTC
--   is_open: the days asked for reach into those for which events may still come
--   suppressed: at least one number of the row is hidden
WITH firsts AS (
    SELECT profile_id, min(day) AS first_day
    FROM profile_days, as_of
    WHERE day BETWEEN epoch AND today AND picked_instance(instance_id)
    GROUP BY profile_id
    HAVING min(day) BETWEEN from_day() AND to_day()
), newcomers AS (
    SELECT profile_id, first_day, first_day + 6 < least(open_from, to_day() + 1) AS has_week FROM firsts, as_of
), first_uses AS (
    SELECT name, type, profile_id, min(tracked_on) AS used_on
    FROM events
    WHERE in_range(tracked_on) AND picked(instance_id, version)
    GROUP BY ALL
), uses AS MATERIALIZED (
    SELECT coalesce(name, '(none)') AS name, coalesce(type, '(none)') AS type, profile_id, has_week,
           used_on - first_day AS days
    FROM first_uses JOIN newcomers USING (profile_id)
), counted AS (
    SELECT name, type, count(*) AS profiles, count(*) FILTER (has_week AND days <= 6) AS within_7d,
           median(days) AS median_days
    FROM uses
    GROUP BY ALL
), rows AS (
    SELECT * FROM counted WHERE NOT too_few(profiles)
    UNION ALL
    SELECT '(rare)', '(rare)', count(*), count(*) FILTER (has_week AND days <= 6), median(days)
    FROM (
        SELECT profile_id, has_week, min(days) AS days
        FROM uses SEMI JOIN (FROM counted WHERE too_few(profiles)) USING (name, type)
        GROUP BY ALL
    )
    HAVING count(*) > 0
), names AS (
    SELECT coalesce(name, '(none)') AS name, coalesce(type, '(none)') AS type, min(tracked_on) AS first_seen_on
    FROM events
    WHERE tracked_on BETWEEN (SELECT epoch FROM as_of) AND (SELECT today FROM as_of) AND picked_instance(instance_id)
    GROUP BY ALL
), totals AS (
    SELECT count(*) AS newcomers, count(*) FILTER (has_week) AS newcomers_7d FROM newcomers
)
SELECT name,
       type,
       shown(newcomers) AS newcomers,
       shown(profiles) AS profiles,
       shown(profiles) / newcomers AS share,
       shown(newcomers_7d) AS newcomers_7d,
       CASE WHEN NOT too_few(profiles) THEN shown(within_7d) END AS within_7d,
       CASE WHEN NOT too_few(profiles) THEN shown(within_7d) END / nullif(shown(newcomers_7d), 0) AS within_7d_share,
       CASE WHEN NOT too_few(profiles) THEN median_days END AS median_days,
       first_seen_on,
       from_day() < epoch + 28 AS is_warmup,
       instances_reporting, instances_known, coverage, fresh_at,
       to_day() >= open_from AS is_open,
       too_few(profiles) OR too_few(within_7d) OR too_few(newcomers_7d) AS suppressed
FROM rows LEFT JOIN names USING (name, type), totals, coverage_of_range, as_of
ORDER BY profiles DESC NULLS LAST, name, type;
