//! An honest writer goes on beside somebody who has stolen its credential.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    attacker::{Attack, Ground, attack, run},
    audit::fixture::stranger,
};

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    /// An hour later, a snapshot of a table that holds this.
    Snapshot(u8),
    /// A run that breaks after it has stored this.
    Break(u8),
    /// A request of his.
    Attack(Attack),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (0..3_u8).prop_map(Step::Snapshot),
        1 => (0..3_u8).prop_map(Step::Break),
        6 => attack(false).prop_map(Step::Attack),
    ];
    vec(step, 1..12)
}

fn table(content: u8) -> String {
    format!("rows of {content}")
}

impl World {
    async fn go(&self, step: &Step, ground: &Ground) -> Option<BackupReport> {
        match step {
            Step::Attack(attack) => {
                ground.take(attack).await;
                None
            }
            Step::Snapshot(content) => {
                self.pass(HOUR);
                Some(self.snapshot(&[&table(*content)]).await)
            }
            Step::Break(content) => {
                let begun = self.begin().await;
                self.keep_all(&begun, &[&table(*content)]).await.expect("stored");
                begun.record("killed").await;
                None
            }
        }
    }

    /// Every snapshot is listed, the chain is whole, and each is found by its id, locked and undamaged.
    async fn all_stand(&self, made: &[BackupReport]) {
        let repository = self.open().await;
        let listed = list(&repository, &self.context).await.expect("listed");
        let ids = |ids: Vec<&SnapshotId>| ids.into_iter().cloned().collect::<Vec<_>>();
        let newest_first: Vec<_> = made.iter().rev().map(|each| &each.snapshot).collect();
        assert_eq!(ids(listed.snapshots.iter().map(|line| &line.id).collect()), ids(newest_first));
        for (at, report) in made.iter().enumerate() {
            assert_eq!((report.chain, report.seq), (made[0].chain, Seq(at as u64 + 1)));
            let by_id = Selector::Id(report.snapshot.to_string());
            let found = find(&repository, &by_id, &self.context).await.expect("found");
            let verified = verify(&repository, &found, true, &self.context).await;
            assert_eq!(verified.expect("looked at").problems, []);
        }
        let latest = find(&repository, &Selector::Latest, &self.context).await.expect("found");
        assert_eq!(Some(&latest.manifest.id), made.last().map(|each| &each.snapshot));
        for label in listed.labels {
            assert_eq!((label.gaps, label.forks), (Vec::new(), Vec::new()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_writer_beside_an_attacker_goes_on_and_all_it_made_stands(steps in steps()) {
        run(async {
            let world = World::weekly().await;
            let mut made = vec![world.snapshot(&["rows"]).await];
            let repository = world.open().await;
            let first = find(&repository, &Selector::Latest, &world.context).await.expect("found");
            let ground = Ground::new(&world.store, &repository, &first, stranger());
            world.pass(HOUR);
            for step in &steps {
                made.extend(world.go(step, &ground).await);
            }
            world.all_stand(&made).await;
        });
    }
}
