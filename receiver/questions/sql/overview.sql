-- title: Overview
-- question: What is in this warehouse, how far does it reach, and how fresh is it?
-- counts: distinct instances and profiles, events, batches and refused bodies over the days asked for
-- numerator: each column is a count of its own; none is part of another
-- denominator: none; instances_known is the fleet that coverage refers to
-- coverage: instances with an event in the days asked for, of those with one in them or in the 27 days before
-- suppression: numbers of instances or profiles from 1 to below the threshold are NULL; events, batches and bodies name nobody and are always shown
-- lateness: the last usual_lateness days are open
-- epoch: the first day held with a twentieth of a usual day's events (the median of the days' counts, weighted by themselves), so that a few events of a wrong clock begin nothing; what looks at the past sees nothing before it
-- traps: profiles and instances are distinct over all the days asked for: do not compare ranges of different lengths. Events may be doubled by senders without a batch id
-- unit: profiles
-- audience: public
-- chart: bars y=first_day x=instances,profiles sort=given
-- columns:
--   first_day: the first of the days asked for, as far as they are held
--   last_day: the last of them
--   epoch: the first day held; a few events of a wrong clock begin nothing
--   usual_lateness: days after which 95 % of what comes late has come
--   instances: instances with an event in the days asked for
--   profiles: profiles with an event in them
--   events: events of these days
--   versions: versions that sent them
--   batches: batches that were received on these days
--   repeats: deliveries of these batches after the first
--   refused: bodies received on these days that could not be loaded, each counted once
--   instances_reporting: instances with an event in the days asked for
--   instances_known: instances with an event in them or in the 27 days before
--   coverage: instances_reporting / instances_known
--   fresh_at: the newest receipt, UTC
--   is_open: the days asked for reach into those for which events may still come
--   suppressed: at least one number of the row is hidden
WITH events_of AS (
    SELECT count(DISTINCT instance_id) AS instances, count(DISTINCT version) AS versions,
           coalesce(sum(events), 0)::BIGINT AS events
    FROM instance_days
    WHERE in_range(day) AND picked(instance_id, version)
), profiles_of AS (
    SELECT count(DISTINCT profile_id) AS profiles FROM profile_days WHERE in_range(day) AND picked(instance_id, version)
), batches_of AS (
    SELECT count(*) AS batches, coalesce(sum(repeats), 0)::BIGINT AS repeats
    FROM batches
    WHERE in_range(received_at::DATE) AND picked(instance_id, version)
), refused_of AS (
    SELECT count(*) AS refused FROM quarantine WHERE in_range(received_at::DATE) AND asked_instance(instance_id)
)
SELECT from_day() AS first_day,
       to_day() AS last_day,
       epoch,
       usual_lateness,
       shown(instances) AS instances,
       shown(profiles) AS profiles,
       events, versions, batches, repeats, refused,
       instances_reporting, instances_known, coverage, fresh_at,
       to_day() >= open_from AS is_open,
       too_few(instances) OR too_few(profiles) AS suppressed
FROM events_of, profiles_of, batches_of, refused_of, coverage_of_range, as_of
WHERE epoch IS NOT NULL
ORDER BY first_day;
