-- title: Upgrade lag
-- question: How long after a release appeared do Penpots run it, or a later one?
-- counts: instances that ran an older version when the release appeared: first seen before that day, and with an event in the 28 days before it
-- numerator: upgraded, those seen on the release or a later version since
-- denominator: instances, all of them; those not upgraded are followed up to their last event, then leave the count (censored)
-- coverage: instances with an event in the days asked for, of those with one in them or in the 27 days before
-- suppression: a release with 1 to below the threshold of instances is NULL; upgraded by itself, and with it the two lags
-- lateness: days that arrive after an upgrade, late or once more in an overlapping page, name the newer version and shorten the lag by as much
-- epoch: a release that was out before the first day held appears when first heard of; those of the first four weeks are marked (is_warmup)
-- traps: a release appears on the day it is first seen anywhere, not when it was published. Releases are plain numbers (2.18.0), higher than any seen before; builds with a suffix are none. Median and P90 are those of a Kaplan-Meier curve, NULL while fewer than that share has upgraded. Repeated batches and bots move nothing; a new instance id ends one history and begins none
-- unit: instances
-- audience: public
-- chart: bars y=version x=median_days,p90_days sort=release
-- columns:
--   version: the release
--   appeared_on: the day on which it was first seen on any instance
--   instances: instances on an older version that day
--   upgraded: of these, those seen on it or a later version since
--   upgraded_share: upgraded / instances; without regard to how long each was followed
--   median_days: days until half had upgraded, those that left counted as long as they were seen
--   p90_days: days until nine in ten had upgraded, likewise
--   is_warmup: it appeared in the first four weeks held
--   instances_reporting: instances with an event in the days asked for
--   instances_known: instances with an event in them or in the 27 days before
--   coverage: instances_reporting / instances_known
--   fresh_at: the newest receipt, UTC
--   is_open: instances without it were heard of in the last 28 days, so the numbers will move
--   suppressed: at least one number of the row is hidden
WITH ran AS (
    SELECT instance_id, version, version_rank(version) AS rank, min(day) AS first_day, max(day) AS last_day
    FROM instance_days, as_of
    WHERE day BETWEEN epoch AND today AND picked_instance(instance_id)
    GROUP BY ALL
), appeared AS ( -- one spelling of each rank: 2.18 and 2.18.0 are one release
    SELECT rank, min(version) AS version, min(first_day) AS appeared_on FROM ran WHERE rank[4] = 1 GROUP BY rank
), releases AS (
    SELECT * FROM appeared r
    WHERE in_range(appeared_on) AND picked_version(version)
      AND NOT EXISTS (FROM appeared o WHERE o.rank > r.rank AND o.appeared_on <= r.appeared_on)
), waiting AS ( -- heard of in the 28 days before the release appeared
    SELECT DISTINCT r.version, instance_id
    FROM releases r JOIN instance_days ON day BETWEEN appeared_on - 28 AND appeared_on - 1
    WHERE picked_instance(instance_id)
), followed AS (
    SELECT r.version, r.appeared_on, instance_id,
           min(first_day) FILTER (s.rank >= r.rank) - r.appeared_on AS upgraded_after,
           max(last_day) - r.appeared_on AS seen_for
    FROM releases r JOIN waiting USING (version) JOIN ran s USING (instance_id)
    GROUP BY r.version, r.rank, r.appeared_on, instance_id
    HAVING max(last_day) >= r.appeared_on AND NOT bool_or(s.rank >= r.rank AND first_day < r.appeared_on)
), lags AS (
    SELECT version, coalesce(upgraded_after, seen_for) AS lag, count(upgraded_after) AS upgrades, count(*) AS leaving
    FROM followed
    GROUP BY ALL
), curve AS (
    SELECT version, lag,
           product(1 - upgrades / at_risk) OVER (PARTITION BY version ORDER BY lag) AS waiting
    FROM (
        SELECT *, sum(leaving) OVER (PARTITION BY version ORDER BY lag DESC) AS at_risk FROM lags
    )
), quantiles AS (
    SELECT version, min(lag) FILTER (waiting <= 0.5 + 1e-9) AS median_days,
           min(lag) FILTER (waiting <= 0.1 + 1e-9) AS p90_days
    FROM curve
    GROUP BY version
), totals AS (
    SELECT r.version, r.rank, r.appeared_on, count(f.instance_id) AS instances, count(upgraded_after) AS upgraded,
           coalesce(bool_or(upgraded_after IS NULL AND r.appeared_on + seen_for::INTEGER > today - 28), false) AS is_open
    FROM releases r LEFT JOIN followed f USING (version), as_of
    GROUP BY ALL
)
SELECT version,
       appeared_on,
       shown(instances) AS instances,
       CASE WHEN NOT too_few(instances) THEN shown(upgraded) END AS upgraded,
       CASE WHEN NOT too_few(instances) THEN shown(upgraded) END / nullif(instances, 0) AS upgraded_share,
       CASE WHEN NOT too_few(instances) AND NOT too_few(upgraded) THEN median_days END AS median_days,
       CASE WHEN NOT too_few(instances) AND NOT too_few(upgraded) THEN p90_days END AS p90_days,
       appeared_on < epoch + 28 AS is_warmup,
       instances_reporting, instances_known, coverage, fresh_at,
       is_open,
       too_few(instances) OR too_few(upgraded) AS suppressed
FROM totals LEFT JOIN quantiles USING (version), coverage_of_range, as_of
ORDER BY rank, version;
