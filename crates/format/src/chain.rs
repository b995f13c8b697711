//! What the manifests of one label say of each other: what must exist, what is missing, where two histories part.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use crate::{
    ids::{ChainId, Digest, Seq, SnapshotId},
    key::{ObjectKey, Place},
    manifest::{Link, Manifest},
};

/// What the manifests of one label say of each other, taken in one at a time, in any order. It grows with their number, not
/// with that of their links.
#[derive(Debug, Clone, Default)]
pub struct Chains {
    present: BTreeMap<(Seq, SnapshotId), Link>,
    /// What they name as live or previous.
    named: BTreeMap<(Seq, SnapshotId), Link>,
    /// The digests of those that have a successor.
    followed: BTreeSet<Digest>,
    /// Those that were sent without an answer, as their successors name them.
    maybe: BTreeMap<SnapshotId, ObjectKey>,
}

/// The state of a label's chains.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChainReport {
    /// The newest snapshot of each chain, or several where a fork is open; newest first.
    pub heads: Vec<SnapshotId>,
    /// Snapshots that a present manifest names as live, whose promise still holds, and that are not there: an alarm.
    pub gaps: Vec<Link>,
    /// Chains with more than one head: two writers, or a rolled-back one.
    pub forks: Vec<Fork>,
    /// Snapshots that were named, are absent, and are past their promise: expiry, not an alarm.
    pub expired: usize,
}

/// An open fork.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    /// The chain.
    pub chain: ChainId,
    /// Its heads: both restorable.
    pub heads: Vec<SnapshotId>,
}

/// The place of the next snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Its chain: the newest head's, or the new one.
    pub chain: ChainId,
    /// Its position: one above everything seen.
    pub seq: Seq,
    /// What it follows: the newest head and, if it closes a fork, the others of the same chain.
    pub previous: Vec<Link>,
    /// Every snapshot still promised.
    pub live: Vec<Link>,
}

impl Chains {
    /// Takes in a manifest that verified; `digest` is BLAKE3 of its object, signature included.
    pub fn take(&mut self, manifest: &Manifest, digest: Digest) {
        let link = manifest.link(digest);
        self.present.insert((link.seq, link.id.clone()), link);
        self.followed.extend(followed_by(manifest));
        for link in manifest.live.iter().chain(&manifest.previous) {
            self.named.insert((link.seq, link.id.clone()), link.clone());
        }
        for key in &manifest.maybe {
            if let Some(Place::Manifest(.., id)) = Place::of(key) {
                self.maybe.insert(id, key.clone());
            }
        }
    }

    /// Examines them as of `now`.
    #[must_use]
    pub fn examine(&self, now: DateTime<Utc>) -> ChainReport {
        let heads = self.heads();
        let mut report = ChainReport { forks: forks(&heads), ..ChainReport::default() };
        for (at, link) in &self.named {
            let is_there = self.present.get(at).is_some_and(|there| there.digest == link.digest);
            if is_there {
                continue;
            }
            if link.promised_until() > now {
                report.gaps.push(link.clone());
            } else {
                report.expired += 1;
            }
        }
        report.heads = heads.iter().map(|head| head.id.clone()).collect();
        report
    }

    /// Returns the manifests that no other follows, newest first. A manifest is followed by one that names it as previous, by
    /// one of its own chain that names it as live (those between the two may have expired long before it does), and by one
    /// whose writer had sent it and did not know whether it is there.
    #[must_use]
    pub fn heads(&self) -> Vec<&Link> {
        let is_followed =
            |link: &Link| self.followed.contains(&link.digest) || self.maybe.contains_key(&link.id);
        let mut heads: Vec<_> = self.present.values().filter(|link| !is_followed(link)).collect();
        heads.sort_by_key(|head| std::cmp::Reverse((head.seq, head.committed_at)));
        heads
    }

    /// Returns where the next snapshot of the label stands. `fresh` is used as chain id if there is no history. A manifest
    /// that another one names need not have been taken in.
    #[must_use]
    pub fn next(&self, now: DateTime<Utc>, fresh: ChainId) -> Position {
        let heads = self.heads();
        let chain = heads.first().map_or(fresh, |head| head.chain);
        let known = self.known();
        let top = known.iter().map(|link| link.seq.0).max().unwrap_or(0);
        let previous = heads.into_iter().filter(|head| head.chain == chain).cloned().collect();
        // Every present one that is promised, and every absent one that a present one vouches for: a gap must stay visible to
        // the successors of the manifest that knew it.
        let live = known.into_iter().filter(|link| link.promised_until() > now).collect();
        Position { chain, seq: Seq(top.saturating_add(1)), previous, live }
    }

    /// Returns every snapshot that these manifests are or name, in the order of position and time.
    #[must_use]
    pub fn known(&self) -> Vec<Link> {
        let mut known = self.named.clone();
        known.extend(self.present.clone());
        known.into_values().collect()
    }

    /// Returns the manifests that may be there or not, and that nothing here has seen.
    pub fn maybe(&self) -> impl Iterator<Item = (&SnapshotId, &ObjectKey)> {
        let seen: BTreeSet<&SnapshotId> =
            self.present.keys().chain(self.named.keys()).map(|(_, id)| id).collect();
        self.maybe.iter().filter(move |(id, _)| !seen.contains(id))
    }
}

fn followed_by(manifest: &Manifest) -> impl Iterator<Item = Digest> {
    let own = manifest.live.iter().filter(|link| link.chain == manifest.chain);
    manifest.previous.iter().chain(own).map(|link| link.digest)
}

fn forks(heads: &[&Link]) -> Vec<Fork> {
    let mut by_chain: BTreeMap<ChainId, Vec<SnapshotId>> = BTreeMap::new();
    for head in heads {
        by_chain.entry(head.chain).or_default().push(head.id.clone());
    }
    by_chain
        .into_iter()
        .filter(|(_, heads)| heads.len() > 1)
        .map(|(chain, heads)| Fork { chain, heads })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::*;
    use crate::manifest::fixture::manifest;

    fn at(hours: i64) -> DateTime<Utc> {
        "2026-11-21T00:00:00Z".parse::<DateTime<Utc>>().expect("a date") + TimeDelta::hours(hours)
    }

    fn chain_id(byte: u8) -> ChainId {
        ChainId::from_bytes([byte; 8])
    }

    #[derive(Clone)]
    struct Verified {
        manifest: Manifest,
        digest: Digest,
    }

    fn chains(history: &[Verified]) -> Chains {
        let mut chains = Chains::default();
        // In any order.
        history.iter().rev().for_each(|each| chains.take(&each.manifest, each.digest));
        chains
    }

    fn examine(history: &[Verified], now: DateTime<Utc>) -> ChainReport {
        chains(history).examine(now)
    }

    /// Commits one more snapshot as a writer that sees `history` would.
    fn commit(history: &[Verified], hours: i64, keep_hours: u64) -> Verified {
        let place = chains(history).next(at(hours), chain_id(1));
        let mut manifest =
            manifest(place.seq, place.chain, at(hours), Duration::from_secs(keep_hours * 3600));
        manifest.previous = place.previous;
        manifest.live = place.live;
        let digest = Digest::of(&serde_json::to_vec(&manifest).expect("JSON"));
        Verified { manifest, digest }
    }

    fn chain_of(length: i64, keep_hours: u64) -> Vec<Verified> {
        let mut history = Vec::new();
        for hour in 0..length {
            history.push(commit(&history, hour, keep_hours));
        }
        history
    }

    #[test]
    fn an_unbroken_chain_has_one_head_and_no_alarm() {
        let history = chain_of(5, 100);
        let report = examine(&history, at(5));
        assert_eq!(report.heads, [history[4].manifest.id.clone()]);
        assert_eq!((report.gaps.len(), report.forks.len(), report.expired), (0, 0, 0));
        assert_eq!(history[4].manifest.seq, Seq(5));
    }

    #[test]
    fn an_absent_promised_snapshot_is_a_gap_and_stays_one() {
        let mut history = chain_of(5, 100);
        let lost = history.remove(2);
        assert_eq!(examine(&history, at(5)).gaps, [lost.manifest.link(lost.digest)]);
        history.push(commit(&history, 6, 100));
        let newest_alone = history.split_off(4);
        let named: Vec<_> =
            examine(&newest_alone, at(7)).gaps.into_iter().map(|link| link.id).collect();
        assert!(named.contains(&lost.manifest.id));
    }

    #[test]
    fn two_successors_are_a_fork_until_one_closes_it() {
        let mut history = chain_of(2, 100);
        let twins = [commit(&history, 2, 100), commit(&history, 3, 100)];
        history.extend(twins);
        assert_eq!(examine(&history, at(4)).forks.len(), 1);
        history.push(commit(&history, 5, 100));
        let report = examine(&history, at(6));
        assert!(report.forks.is_empty() && report.gaps.is_empty());
        assert_eq!(history[4].manifest.previous.len(), 2);
    }

    #[test]
    fn expiry_between_long_kept_snapshots_is_no_fork() {
        let mut history = vec![commit(&[], 0, 1000)];
        for hour in 1..6 {
            history.push(commit(&history, hour, if hour == 5 { 1000 } else { 2 }));
        }
        history.retain(|each| each.manifest.promised_until > at(20));
        let report = examine(&history, at(20));
        assert_eq!((report.heads.len(), report.forks.len(), report.gaps.len()), (1, 0, 0));
    }

    #[test]
    fn a_new_chain_beside_an_old_one_is_no_fork() {
        let mut history = chain_of(2, 100);
        let mut stranger = commit(&[], 3, 100);
        stranger.manifest.chain = chain_id(2);
        history.push(stranger);
        assert!(examine(&history, at(4)).forks.is_empty());
    }

    #[test]
    fn a_snapshot_that_was_sent_without_an_answer_is_no_fork_and_no_gap() {
        let mut history = chain_of(2, 100);
        let unheard = commit(&history, 2, 100);
        let mut next = commit(&history, 3, 100);
        next.manifest.maybe = vec![unheard.manifest.key.clone()];
        history.push(next);
        let maybe: Vec<_> = chains(&history).maybe().map(|(id, _)| id.clone()).collect();
        assert_eq!(maybe, std::slice::from_ref(&unheard.manifest.id));
        assert_eq!(examine(&history, at(4)).gaps.len(), 0);
        history.push(unheard);
        let report = examine(&history, at(4));
        assert_eq!((report.heads.len(), report.forks.len(), report.gaps.len()), (1, 0, 0));
        assert_eq!(chains(&history).maybe().count(), 0);
    }

    proptest! {
        #[test]
        fn expiry_is_never_a_gap(length in 1_i64..40, keep in 1_u64..30) {
            let mut history = chain_of(length, keep);
            let now = at(length);
            history.retain(|each| each.manifest.promised_until > now);
            prop_assert!(examine(&history, now).gaps.is_empty());
        }

        #[test]
        fn any_lost_promised_snapshot_but_the_newest_is_seen(length in 2_i64..40, keep in 1_u64..60, lost in any::<prop::sample::Index>()) {
            let mut history = chain_of(length, keep);
            let now = at(length);
            history.retain(|each| each.manifest.promised_until > now);
            prop_assume!(history.len() > 1);
            let lost = history.remove(lost.index(history.len() - 1));
            prop_assert_eq!(examine(&history, now).gaps, vec![lost.manifest.link(lost.digest)]);
        }
    }
}
