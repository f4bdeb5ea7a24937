-- title: Version adoption
-- question: Which versions run on how many Penpots, and for how many people, day by day?
-- counts: distinct instance ids with an event on the day, each under one version: the one that its newest batch for that day names
-- numerator: instances on the version; profiles of these instances with an event on the day
-- denominator: instances_active, all instances with an event on the day; profiles_active, all profiles
-- coverage: instances with an event on the day, of those with one in the 28 days up to it
-- suppression: a version from 1 to below the threshold of instances is NULL on that day, and the next larger with it until the hidden ones together reach the threshold
-- lateness: open days can still move
-- epoch: does not matter
-- traps: the version is the one that sent the batch: days that arrive after an upgrade, as after an outage, count for the newer version. Builds with a suffix are versions of their own. An overlapping page that is sent again after an upgrade counts for the newer version, too. Repeated batches and bots move nothing; a copied machine under one id counts once, under the version heard last
-- unit: instances
-- audience: public
-- chart: lines x=day y=share color=version format=%
-- columns:
--   day: the day, UTC
--   version: as the instances give it
--   instances: instances on it
--   share: instances / instances_active
--   profiles: profiles with an event on the day, on these instances
--   profile_share: profiles / profiles_active
--   instances_active: instances with an event on the day
--   profiles_active: profiles with an event on the day
--   instances_reporting: instances with an event on the day
--   instances_known: instances with an event in the 28 days up to the day
--   coverage: instances_reporting / instances_known
--   fresh_at: the newest receipt, UTC
--   is_open: events of the day may still come
--   suppressed: the numbers of the row are hidden
WITH ran AS (
    SELECT day, instance_id, arg_max(version, batch_no) AS version
    FROM instance_days
    WHERE in_range(day) AND picked_instance(instance_id)
    GROUP BY ALL
), people AS (
    SELECT day, ran.version, count(DISTINCT profile_id) AS profiles
    FROM profile_days JOIN ran USING (day, instance_id)
    GROUP BY ALL
), people_by_day AS (
    SELECT day, count(DISTINCT profile_id) AS profiles_active
    FROM profile_days
    WHERE in_range(day) AND picked_instance(instance_id)
    GROUP BY ALL
), counted AS (
    SELECT day, version, instances, coalesce(profiles, 0) AS profiles,
           sum(instances) OVER (PARTITION BY day)::BIGINT AS instances_active,
           coalesce(profiles_active, 0) AS profiles_active,
           hidden_in_sum(instances, sum(instances) OVER (
               PARTITION BY day ORDER BY instances, version ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
           )) AS is_hidden
    FROM (SELECT day, version, count(*) AS instances FROM ran GROUP BY ALL)
    LEFT JOIN people USING (day, version)
    LEFT JOIN people_by_day USING (day)
)
SELECT day,
       version,
       CASE WHEN NOT is_hidden THEN instances END AS instances,
       CASE WHEN NOT is_hidden THEN instances / instances_active END AS share,
       CASE WHEN NOT is_hidden THEN shown(profiles) END AS profiles,
       CASE WHEN NOT is_hidden THEN shown(profiles) / nullif(profiles_active, 0) END AS profile_share,
       shown(instances_active) AS instances_active,
       shown(profiles_active) AS profiles_active,
       instances_reporting, instances_known, coverage, fresh_at,
       day >= open_from AS is_open,
       is_hidden OR too_few(profiles) AS suppressed
FROM counted JOIN coverage_by_day USING (day), as_of
WHERE picked_version(version)
ORDER BY day, version_rank(version), version;
