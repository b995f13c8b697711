//! Figures for planning: how old what is recoverable is, and how long a restore of each database would take.

use chrono::{DateTime, TimeDelta, Utc};
use stonekeep_format::{
    drill::{Estimate, Rpo},
    manifest::Manifest,
};

use crate::history::Snapshot;

/// How far back gaps between snapshots are looked for (30 d): longer ago they say nothing of how it runs now.
const GAPS_LOOKED_AT: TimeDelta = TimeDelta::days(30);

/// Returns the achieved recovery point of a database at `now`, by its newest manifest and those that this one names.
pub(super) fn rpo(newest: &Manifest, now: DateTime<Utc>) -> Rpo {
    let mut times: Vec<DateTime<Utc>> = newest
        .live
        .iter()
        .filter(|link| !link.suspicious && now - link.committed_at <= GAPS_LOOKED_AT)
        .map(|link| link.committed_at)
        .collect();
    times.push(newest.committed_at);
    times.sort_unstable();
    let gaps = times.windows(2).map(|pair| millis(pair[1] - pair[0]));
    Rpo { newest_age_ms: millis(now - newest.snapshot_at), longest_gap_ms: gaps.max() }
}

/// Returns how long a restore of each of `newest` would take, if one of `plain_bytes` took `rto_ms`: in proportion to the bytes,
/// since what does not grow with them is small.
pub(super) fn estimates(newest: &[Snapshot], drilled: &Manifest, rto_ms: u64) -> Vec<Estimate> {
    let of = |snapshot: &Snapshot| {
        let manifest = &snapshot.manifest;
        let plain_bytes = manifest.totals.plain_bytes;
        let is_measured = manifest.id == drilled.id;
        let restore_ms = if is_measured {
            rto_ms
        } else {
            in_proportion(rto_ms, plain_bytes, drilled.totals.plain_bytes)
        };
        Estimate {
            label: manifest.label.clone(),
            snapshot: manifest.id.clone(),
            plain_bytes,
            restore_ms,
            is_measured,
        }
    };
    newest.iter().map(of).collect()
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
    use super::*;

    #[test]
    fn twice_the_bytes_take_twice_the_time() {
        assert_eq!(in_proportion(1_000, 200, 100), 2_000);
        assert_eq!(in_proportion(1_000, 0, 0), 0);
        assert_eq!(in_proportion(u64::MAX, u64::MAX, 1), u64::MAX);
    }
}
