//! What is in the repository already, and whether it may be named again instead of being stored again.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use rand::seq::IteratorRandom as _;
use stonekeep_format::{
    ids::SegmentId,
    inventory::{Segment, SegmentKind},
    lock::Lock,
};

/// How long the answer to a question for a lock is relied on (24 h): a lock can only grow, but a server can lose an object.
const ASKED_DURATION_MAX: Duration = Duration::from_secs(86_400);

/// The segments of one label that manifests and attempt records of our own name, and what this run has stored.
#[derive(Debug, Default)]
pub(super) struct Known {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    usable: HashMap<SegmentId, Segment>,
    /// Of content that must be stored anew: since when it has stood.
    since: HashMap<SegmentId, DateTime<Utc>>,
    /// If a document was found wrong: what was not looked at since then is asked for.
    doubted_at: Option<DateTime<Utc>>,
}

/// What to do with a piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is there and locked for long enough.
    Reuse(Segment),
    /// The same, as far as documents say; nobody asked the server lately.
    Ask(Segment),
    /// It must be stored. The content at this place has stood since then, if it is not new.
    Store(Option<DateTime<Utc>>),
}

impl Known {
    /// Takes what earlier runs have stored, the older documents first. What is distrusted is only remembered for its age;
    /// `fresh` distrusts everything.
    pub(super) fn new(
        named: impl IntoIterator<Item = Segment>,
        distrusted: &BTreeSet<SegmentId>,
        fresh: bool,
    ) -> Self {
        let known = Self::default();
        for segment in named {
            if fresh || distrusted.contains(&segment.id) {
                known.locked().since.insert(segment.id, segment.since);
            } else {
                known.add(segment);
            }
        }
        known
    }

    /// Takes note of a segment; of two with the same content the one that is locked for longer is kept, of equal ones the one
    /// that was looked at last.
    pub(super) fn add(&self, segment: Segment) {
        let rank = |segment: &Segment| (segment.lock.retain_until, segment.checked_at);
        let mut state = self.locked();
        match state.usable.get(&segment.id) {
            Some(other) if rank(other) >= rank(&segment) => {}
            _ => drop(state.usable.insert(segment.id, segment)),
        }
    }

    /// Judges a piece that must be locked at least so, as of `now`.
    pub(super) fn judge(
        &self,
        (id, kind): (SegmentId, SegmentKind),
        needed: &Lock,
        now: DateTime<Utc>,
    ) -> Verdict {
        let state = self.locked();
        let Some(segment) = state.usable.get(&id).filter(|segment| segment.kind == kind) else {
            return Verdict::Store(state.since.get(&id).copied());
        };
        if !segment.lock.satisfies(needed) {
            return Verdict::Store(Some(segment.since));
        }
        let asked = (now - segment.checked_at).to_std().unwrap_or(Duration::ZERO);
        let is_doubted = state.doubted_at.is_some_and(|at| segment.checked_at < at);
        let segment = segment.clone();
        if is_doubted || asked > ASKED_DURATION_MAX {
            Verdict::Ask(segment)
        } else {
            Verdict::Reuse(segment)
        }
    }

    /// Returns some of the segments that documents say are locked at least so, by chance.
    pub(super) fn sample(&self, count: usize, needed: &Lock) -> Vec<Segment> {
        let state = self.locked();
        let usable = state.usable.values().filter(|each| each.lock.satisfies(needed));
        usable.choose_multiple(&mut rand::rng(), count).into_iter().cloned().collect()
    }

    /// Names no segment any more that was not looked at since `at`.
    pub(super) fn doubt(&self, at: DateTime<Utc>) {
        self.locked().doubted_at = Some(at);
    }

    /// Forgets a segment that is not there as documents say.
    pub(super) fn forget(&self, segment: &Segment) {
        let mut state = self.locked();
        state.usable.remove(&segment.id);
        state.since.insert(segment.id, segment.since);
    }

    /// A thread that panicked here left a map that is whole: each change is one call.
    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use stonekeep_format::{
        ids::{Digest, Nonce},
        key::ObjectKey,
        lock::{Class, LockMode},
    };

    use super::*;

    fn at(hours: i64) -> DateTime<Utc> {
        "2026-11-21T00:00:00Z".parse::<DateTime<Utc>>().expect("a date") + TimeDelta::hours(hours)
    }

    fn segment(content: u8, checked: i64, until: i64) -> Segment {
        let id = SegmentId::from_bytes([content; 32]);
        let lock = Lock { mode: LockMode::Compliance, retain_until: at(until) };
        Segment {
            kind: SegmentKind::Rows,
            member: Some("t1.dat".parse().expect("a member")),
            id,
            key: ObjectKey::segment(Class::of(at(0), at(until)), id, Nonce::from_bytes([1; 16])),
            bucket: "vault".parse().expect("a bucket"),
            version_id: "v1".parse().expect("a version"),
            bytes: 1,
            digest: Digest::of(b"x"),
            plain_bytes: 1,
            lock,
            checked_at: at(checked),
            since: at(-100),
        }
    }

    fn judge(known: &Known, segment: &Segment, needed: i64, now: i64) -> Verdict {
        let needed = Lock { mode: LockMode::Compliance, retain_until: at(needed) };
        known.judge((segment.id, segment.kind), &needed, at(now))
    }

    #[test]
    fn a_lock_that_reaches_is_reused_and_a_shorter_one_is_not() {
        let held = segment(1, 0, 100);
        let known = Known::new([held.clone()], &BTreeSet::new(), false);
        assert_eq!(judge(&known, &held, 100, 1), Verdict::Reuse(held.clone()));
        assert_eq!(judge(&known, &held, 101, 1), Verdict::Store(Some(at(-100))));
        assert_eq!(judge(&known, &segment(2, 0, 100), 1, 1), Verdict::Store(None));
    }

    #[test]
    fn a_weaker_lock_is_not_reused() {
        let mut held = segment(1, 0, 100);
        held.lock.mode = LockMode::Governance;
        let known = Known::new([held.clone()], &BTreeSet::new(), false);
        assert_eq!(judge(&known, &held, 1, 1), Verdict::Store(Some(at(-100))));
    }

    #[test]
    fn a_lock_that_nobody_asked_for_lately_is_asked_for() {
        let held = segment(1, 0, 1000);
        let known = Known::new([held.clone()], &BTreeSet::new(), false);
        assert_eq!(judge(&known, &held, 100, 24), Verdict::Reuse(held.clone()));
        assert_eq!(judge(&known, &held, 100, 25), Verdict::Ask(held));
    }

    #[test]
    fn once_in_doubt_everything_is_asked_for_that_was_not_looked_at_since() {
        let held = segment(1, 0, 1000);
        let known = Known::new([held.clone()], &BTreeSet::new(), false);
        let needed = |until| Lock { mode: LockMode::Compliance, retain_until: at(until) };
        assert_eq!(known.sample(16, &needed(1000)), std::slice::from_ref(&held));
        assert_eq!(known.sample(16, &needed(1001)), []);
        known.doubt(at(1));
        assert_eq!(judge(&known, &held, 100, 1), Verdict::Ask(held));
        let seen = segment(1, 1, 1000);
        known.add(seen.clone());
        assert_eq!(judge(&known, &seen, 100, 1), Verdict::Reuse(seen));
    }

    #[test]
    fn the_longest_lock_is_kept_whatever_the_order() {
        let (short, long) = (segment(1, 5, 100), segment(1, 0, 200));
        for order in [[short.clone(), long.clone()], [long.clone(), short]] {
            let known = Known::new(order, &BTreeSet::new(), false);
            assert_eq!(judge(&known, &long, 150, 1), Verdict::Reuse(long.clone()));
        }
    }

    #[test]
    fn what_is_distrusted_is_stored_anew_and_keeps_its_age() {
        let held = segment(1, 0, 1000);
        for known in [
            Known::new([held.clone()], &BTreeSet::from([held.id]), false),
            Known::new([held.clone()], &BTreeSet::new(), true),
        ] {
            assert_eq!(judge(&known, &held, 1, 1), Verdict::Store(Some(held.since)));
            known.add(segment(1, 1, 1000));
            assert!(
                matches!(judge(&known, &held, 1, 1), Verdict::Reuse(_)),
                "what this run stored"
            );
        }
    }

    #[test]
    fn another_kind_is_never_taken() {
        let held = segment(1, 0, 1000);
        let known = Known::new([held.clone()], &BTreeSet::new(), false);
        let needed = Lock { mode: LockMode::Governance, retain_until: at(1) };
        let verdict = known.judge((held.id, SegmentKind::Pack), &needed, at(1));
        assert_eq!(verdict, Verdict::Store(None));
    }
}
