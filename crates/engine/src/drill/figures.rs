//! Figures for planning: how old what is recoverable is, and how long a restore of each database would take.

use chrono::{DateTime, TimeDelta, Utc};
use stonekeep_format::{
    drill::{DrillPhase, Estimate, Rpo},
    manifest::{Link, Manifest},
};

use crate::{events::Phase, history::Snapshot};

/// How far back gaps between snapshots are looked for (30 d): longer ago they say nothing of how it runs now.
const GAPS_LOOKED_AT: TimeDelta = TimeDelta::days(30);

/// How many times as large or small as the one that was drilled a database may be for an estimate (10): beyond that, what does
/// not grow with it, or no longer fits into memory, tells more than the bytes do.
const TIMES_AS_LARGE_MAX: u64 = 10;

/// Phases that grow with the bytes.
const GROWING: [&str; 3] =
    [Phase::Loading.as_str(), Phase::Finishing.as_str(), Phase::Comparing.as_str()];

/// Returns the achieved recovery point of a database at `now`, by its newest manifest and those that this one names. A suspicious
/// snapshot is none to recover to, unless there is no other.
pub(super) fn rpo(newest: &Manifest, now: DateTime<Utc>) -> Rpo {
    let sound = || newest.live.iter().filter(|link| !link.suspicious);
    let is_sound = newest.suspicious.is_none();
    let before: Option<DateTime<Utc>> = sound().map(|link| link.committed_at).max();
    let point = before.filter(|_| !is_sound).unwrap_or(newest.snapshot_at);
    let lately = |link: &&Link| now - link.committed_at <= GAPS_LOOKED_AT;
    let mut times: Vec<DateTime<Utc>> =
        sound().filter(lately).map(|link| link.committed_at).collect();
    times.extend(is_sound.then_some(newest.committed_at));
    times.sort_unstable();
    let gaps = times.windows(2).map(|pair| millis(pair[1] - pair[0]));
    Rpo { newest_age_ms: millis(now - point), longest_gap_ms: gaps.max() }
}

/// Returns how long a restore of each of `newest` would take, if that of `drilled` took these phases. Of what is much larger or
/// smaller nothing is said.
pub(super) fn estimates(
    newest: &[Snapshot],
    drilled: &Manifest,
    phases: &[DrillPhase],
) -> Vec<Estimate> {
    let of = |snapshot: &Snapshot| {
        let manifest = &snapshot.manifest;
        let (plain_bytes, of_bytes) = (manifest.totals.plain_bytes, drilled.totals.plain_bytes);
        let is_measured = manifest.id == drilled.id;
        let bytes = if is_measured { of_bytes } else { plain_bytes };
        is_alike(bytes, of_bytes).then(|| Estimate {
            label: manifest.label.clone(),
            snapshot: manifest.id.clone(),
            plain_bytes,
            restore_ms: restore_ms(phases, bytes, of_bytes),
            is_measured,
        })
    };
    newest.iter().filter_map(of).collect()
}

const fn is_alike(bytes: u64, of_bytes: u64) -> bool {
    bytes <= of_bytes.saturating_mul(TIMES_AS_LARGE_MAX)
        && of_bytes <= bytes.saturating_mul(TIMES_AS_LARGE_MAX)
}

/// Returns the time of the phases that a restore has; of those that grow, in proportion to the bytes.
fn restore_ms(phases: &[DrillPhase], bytes: u64, of_bytes: u64) -> u64 {
    let of = |phase: &DrillPhase| {
        if bytes != of_bytes && GROWING.contains(&phase.name.as_str()) {
            in_proportion(phase.duration_ms, bytes, of_bytes)
        } else {
            phase.duration_ms
        }
    };
    phases.iter().filter(|phase| phase.is_restore).map(of).fold(0, u64::saturating_add)
}

fn in_proportion(ms: u64, bytes: u64, of_bytes: u64) -> u64 {
    let product = u128::from(ms) * u128::from(bytes) / u128::from(of_bytes.max(1));
    u64::try_from(product).unwrap_or(u64::MAX)
}

fn millis(time: TimeDelta) -> u64 {
    u64::try_from(time.num_milliseconds()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use stonekeep_format::chain::Chains;

    use super::*;
    use crate::audit::fixture::{DAY, Watched};

    #[test]
    fn twice_the_bytes_take_twice_the_time() {
        assert_eq!(in_proportion(1_000, 200, 100), 2_000);
        assert_eq!(in_proportion(1_000, 0, 0), 0);
        assert_eq!(in_proportion(u64::MAX, u64::MAX, 1), u64::MAX);
    }

    #[test]
    fn a_suspicious_snapshot_is_no_recovery_point() {
        let watched = Watched::new();
        let mut newest = watched.manifest("bookings", &Chains::default(), DAY);
        let now = newest.committed_at + TimeDelta::hours(1);
        let link = |hours: i64, suspicious: bool| Link {
            seq: newest.seq,
            chain: newest.chain,
            id: newest.id.clone(),
            digest: newest.inventory.digest,
            committed_at: now - TimeDelta::hours(hours),
            keep: DAY,
            suspicious,
        };
        let live = vec![link(9, false), link(3, true), link(5, false)];
        newest.live = live;
        let hours = |newest: &Manifest| {
            let rpo = rpo(newest, now);
            (rpo.newest_age_ms / 3_600_000, rpo.longest_gap_ms.map(|gap| gap / 3_600_000))
        };
        assert_eq!(hours(&newest), (1, Some(4)));
        newest.suspicious = Some("rows: 9 of 10 are gone".to_owned());
        assert_eq!(hours(&newest), (5, Some(4)));
        newest.live.clear();
        assert_eq!(hours(&newest), (1, None), "there is no other");
    }

    #[test]
    fn only_what_grows_with_the_bytes_is_taken_in_proportion() {
        let phase = |name: &str, is_restore| DrillPhase {
            name: name.to_owned(),
            begun_ms: 0,
            duration_ms: 100,
            bytes: 0,
            rows: 0,
            is_restore,
        };
        let phases = [phase("starting", false), phase("preparing", true), phase("loading", true)];
        assert_eq!(restore_ms(&phases, 500, 100), 100 + 500);
        assert_eq!(restore_ms(&phases, 0, 0), 200, "as it was measured");
    }

    #[test]
    fn of_another_order_of_magnitude_nothing_is_said() {
        assert!(is_alike(100, 10) && is_alike(10, 100) && is_alike(0, 0));
        assert!(!is_alike(101, 10) && !is_alike(10, 101) && !is_alike(1, 0) && !is_alike(0, 1));
    }
}
