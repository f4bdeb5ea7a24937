-- title: Feature usage
-- question: Which features are used by how many Penpots and how many people?
-- counts: distinct instance ids and distinct profile ids by event name and type, over all the days asked for
-- numerator: instances and profiles with such an event; the zero profile counts for its instance only
-- denominator: instances_active and profiles_active, those with any event in the days asked for
-- coverage: instances with an event in the days asked for, of those with one in them or in the 27 days before
-- suppression: names on 1 to below the threshold of instances or profiles are added up as (rare), since a name is free text; if (rare) is below it too, its numbers are NULL
-- lateness: late batches can only raise the numbers
-- epoch: does not matter
-- traps: prefer instances and profiles. A bot, or one eager person, moves events and nothing else; so do the overlapping pages of senders without a batch id, which double events. What a version lacks nobody can use: read it beside the versions
-- unit: instances
-- audience: public
-- chart: bars y=name x=instance_share,profile_share format=% top=12
-- columns:
--   name: of the event; (rare): several names together; (none): events without one
--   type: of the event
--   instances: instances with such an event
--   instance_share: instances / instances_active
--   profiles: profiles with such an event
--   profile_share: profiles / profiles_active
--   events: how often it happened; not to be trusted as the others are
--   events_per_profile: events of profiles / profiles
--   instances_active: instances with any event
--   profiles_active: profiles with any event
--   instances_reporting: instances with an event in the days asked for
--   instances_known: instances with an event in them or in the 27 days before
--   coverage: instances_reporting / instances_known
--   fresh_at: the newest receipt, UTC
--   is_open: the days asked for reach into those for which events may still come
--   suppressed: at least one number of the row is hidden
WITH used AS MATERIALIZED (
    SELECT coalesce(name, '(none)') AS name, coalesce(type, '(none)') AS type, instance_id,
           nullif(profile_id, '00000000-0000-0000-0000-000000000000') AS profile_id, count(*) AS events
    FROM events
    WHERE in_range(tracked_on) AND picked(instance_id, version)
    GROUP BY ALL
), counted AS (
    SELECT name, type, count(DISTINCT instance_id) AS instances, count(DISTINCT profile_id) AS profiles,
           sum(events)::BIGINT AS events, sum(events) FILTER (profile_id IS NOT NULL)::BIGINT AS profile_events
    FROM used
    GROUP BY ALL
), rows AS (
    SELECT * FROM counted WHERE NOT (too_few(instances) OR too_few(profiles))
    UNION ALL
    SELECT '(rare)', '(rare)', count(DISTINCT instance_id), count(DISTINCT profile_id), sum(events)::BIGINT,
           sum(events) FILTER (profile_id IS NOT NULL)::BIGINT
    FROM used SEMI JOIN (FROM counted WHERE too_few(instances) OR too_few(profiles)) USING (name, type)
    HAVING count(*) > 0
), active AS (
    SELECT (SELECT count(DISTINCT instance_id) FROM instance_days
            WHERE in_range(day) AND picked(instance_id, version)) AS instances_active,
           (SELECT count(DISTINCT profile_id) FROM profile_days
            WHERE in_range(day) AND picked(instance_id, version)) AS profiles_active
)
SELECT name,
       type,
       shown(instances) AS instances,
       shown(instances) / instances_active AS instance_share,
       shown(profiles) AS profiles,
       shown(profiles) / nullif(profiles_active, 0) AS profile_share,
       CASE WHEN NOT too_few(instances) AND NOT too_few(profiles) THEN events END AS events,
       CASE WHEN NOT too_few(instances) THEN profile_events / nullif(shown(profiles), 0) END AS events_per_profile,
       shown(instances_active) AS instances_active,
       shown(profiles_active) AS profiles_active,
       instances_reporting, instances_known, coverage, fresh_at,
       to_day() >= open_from AS is_open,
       too_few(instances) OR too_few(profiles) AS suppressed
FROM rows, active, coverage_of_range, as_of
ORDER BY profiles DESC NULLS LAST, instances DESC NULLS LAST, name, type;
