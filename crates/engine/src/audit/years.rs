//! Ten years of a repository as its watcher sees them, without a false alarm.
//!
//! Simulated: two runs a day in five tiers, a host that is down for weeks, a second database that begins later and ends, a writer
//! that loses its history and begins another chain, forks and those who close them, manifests sent twice, a new genesis each
//! year, and the server's lifecycle: some days after a promise it hides the manifest behind a marker, and removes it a day later.
//! The watcher looks at odd times, now and then not for half a year. Segments are not: a watcher reads none.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use stonekeep_format::{
    chain::Chains,
    ids::{ChainId, Digest, SnapshotId, VersionId},
    key::ObjectKey,
    manifest::Manifest,
    tier::{Every, Tier, choose},
};

use super::fixture::{DAY, Watched, With as _};
use crate::{segments::fixture::signer, witness::Witness};

/// Days for which versions outlive their promise: less than the product leaves, so that expiry is met often.
const GRACE: TimeDelta = TimeDelta::days(3);

fn tiers() -> Vec<Tier> {
    let tier = |name: &str, every, days| Tier { name: name.to_owned(), every, keep: DAY * days };
    vec![
        tier("hourly", Every::Hour, 2),
        tier("daily", Every::Day, 10),
        tier("weekly", Every::Week, 45),
        tier("monthly", Every::Month, 400),
        tier("yearly", Every::Year, 1_200),
    ]
}

/// A snapshot in the bucket.
struct Kept {
    manifest: Manifest,
    digest: Digest,
    versions: Vec<VersionId>,
    marked_at: Option<DateTime<Utc>>,
}

/// One database, and its writer.
struct Writer {
    label: &'static str,
    there: Vec<Kept>,
    chains: u8,
}

impl Writer {
    const fn new(label: &'static str) -> Self {
        Self { label, there: Vec::new(), chains: 0 }
    }

    /// What a run reads: each manifest that no newer one vouches for.
    fn history(&self) -> Chains {
        let mut chains = Chains::default();
        let mut vouched: BTreeSet<&SnapshotId> = BTreeSet::new();
        for Kept { manifest, digest, .. } in self.there.iter().rev() {
            if !vouched.contains(&manifest.id) {
                vouched.extend(manifest.live.iter().chain(&manifest.previous).map(|it| &it.id));
                chains.take(manifest, *digest);
            }
        }
        chains
    }

    fn commit(&mut self, watched: &Watched, history: &Chains) {
        let known: Vec<_> = history.known().iter().map(|it| (it.committed_at, it.keep)).collect();
        let tiers = tiers();
        let zone = chrono_tz::Europe::Berlin;
        let tier = choose(&tiers, &known, watched.now(), zone).expect("a tier");
        let chain = ChainId::from_bytes([self.chains; 8]);
        let manifest = watched.manifest(self.label, history, tier.keep).with(|manifest| {
            if manifest.previous.is_empty() {
                let (label, seq, id) = (&manifest.label, manifest.seq, &manifest.id);
                manifest.key = ObjectKey::manifest(label, seq, chain, id);
                manifest.chain = chain;
            }
        });
        let (version, digest) = watched.put(&manifest, &signer());
        self.there.push(Kept { manifest, digest, versions: vec![version], marked_at: None });
    }

    fn run(&mut self, watched: &Watched, random: &mut StdRng) {
        match random.random_range(0..300) {
            // The state directory was lost: nothing is known.
            0 => {
                self.chains += 1;
                self.commit(watched, &Chains::default());
            }
            // Two hosts at the same time, and the first of them again, which closes the fork.
            1 => {
                let history = self.history();
                for _ in 0..2 {
                    self.commit(watched, &history);
                    watched.pass(TimeDelta::seconds(1));
                }
                self.commit(watched, &self.history());
            }
            // No answer came: the same bytes once more.
            2 => {
                self.commit(watched, &self.history());
                let newest = self.there.last_mut().expect("it was put");
                newest.versions.push(watched.put(&newest.manifest, &signer()).0);
            }
            _ => self.commit(watched, &self.history()),
        }
    }

    /// A day of the server's lifecycle.
    fn expire(&mut self, watched: &Watched) {
        let now = watched.now();
        self.there.retain_mut(|kept| {
            let key = &kept.manifest.key;
            let is_due = kept.manifest.promised_until + GRACE <= now;
            let is_hidden = kept.marked_at.is_some_and(|at| now - at >= TimeDelta::days(1));
            if is_hidden {
                kept.versions.iter().for_each(|version| assert!(watched.store.lose(key, version)));
            } else if is_due && kept.marked_at.is_none() {
                kept.versions.push(watched.store.plant_marker(key));
                kept.marked_at = Some(now);
            }
            !is_hidden
        });
    }
}

/// Looks, and returns what is remembered.
async fn look(watched: &Watched, witness: Option<Witness>) -> Witness {
    let audit = watched.audit(witness.as_ref()).await;
    assert!(audit.findings.is_empty(), "{}: {:#?}", watched.now(), audit.findings);
    let seen = witness.map_or_else(|| Witness::first(&audit), |witness| witness.updated(&audit));
    // Of each chain as many as there are tiers, and a few heads of chains that were left.
    let most = seen.labels.values().map(Vec::len).max().unwrap_or_default();
    assert!(most < 30, "{most} snapshots to remember");
    seen
}

#[tokio::test]
async fn ten_years_of_mixed_tiers_give_no_finding() {
    let watched = Watched::new();
    let mut random = StdRng::seed_from_u64(10);
    let mut writers = vec![Writer::new("bookings"), Writer::new("orders")];
    let (mut witness, mut look_at) = (None, watched.now());
    let mut expired = 0;
    for half_day in 0..3_653 * 2 {
        let day = half_day / 2;
        watched.pass(TimeDelta::hours(12) - TimeDelta::seconds(random.random_range(0..600)));
        // Each spring the host is down for weeks; orders end after six years.
        let is_down = day % 365 > 300 && day % 365 < 300 + day / 60;
        if !is_down {
            writers[0].run(&watched, &mut random);
        }
        if half_day % 2 == 0 {
            if !is_down && (400..2_200).contains(&day) {
                writers[1].run(&watched, &mut random);
            }
            for writer in &mut writers {
                let before = writer.there.len();
                writer.expire(&watched);
                expired += before - writer.there.len();
            }
        }
        if half_day % 730 == 729 {
            let last = watched.audit(None).await.genesis.expect("read");
            watched.put(&watched.genesis(last.n + 1, Some(last.digest)), &signer());
        }
        if watched.now() >= look_at {
            witness = Some(look(&watched, witness).await);
            let is_away = random.random_range(0..40) == 0;
            let days = if is_away { 180 } else { random.random_range(1..120) };
            look_at = watched.now() + TimeDelta::days(days);
        }
    }
    look(&watched, witness).await;
    assert!(expired > 8_000, "{expired}");
}
