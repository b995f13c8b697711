//! Which snapshot is drilled.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rand::seq::SliceRandom as _;
use stonekeep_format::{ids::Label, manifest::Link};

use super::{DrillError, server_time};
use crate::{
    Context,
    history::{FindError, Selector, Snapshot, find, follow, newest_by_label},
    repository::Repository,
};

/// A snapshot to be drilled.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// How it was chosen, in words.
    pub how: String,
}

/// What is to be drilled.
#[derive(Debug)]
pub struct Choice {
    /// Of each database that is meant the snapshot, or why it has none to be drilled.
    pub chosen: Vec<(Label, Result<Chosen, DrillError>)>,
    /// The newest of all databases.
    pub newest: Vec<Snapshot>,
}

/// Chooses what `selector` means; without one, of each database the newest, or one of the newest `random` by chance. A database whose
/// history cannot be used keeps no other from being drilled.
///
/// # Errors
/// [`DrillError::Find`]; [`DrillError::Store`] if the server does not tell its time.
pub async fn choose(
    repository: &Repository,
    selector: Option<&Selector>,
    random: Option<u32>,
    context: &Context,
) -> Result<Choice, DrillError> {
    let labels = newest_by_label(repository, context).await?;
    if labels.is_empty() {
        return Err(FindError::Empty.into());
    }
    let newest = labels.values().flatten().cloned().collect();
    let chosen = match selector {
        Some(selector) => vec![meant(repository, selector, context).await?],
        None => of_each(repository, labels, random).await?,
    };
    Ok(Choice { chosen, newest })
}

async fn meant(
    repository: &Repository,
    selector: &Selector,
    context: &Context,
) -> Result<(Label, Result<Chosen, DrillError>), DrillError> {
    let how = match selector {
        Selector::Id(_) => "named",
        Selector::Latest | Selector::LatestOf(_) => "newest",
    };
    let snapshot = find(repository, selector, context).await?;
    let label = snapshot.manifest.label.clone();
    Ok((label, Ok(Chosen { snapshot, how: how.to_owned() })))
}

async fn of_each(
    repository: &Repository,
    labels: BTreeMap<Label, Result<Snapshot, FindError>>,
    random: Option<u32>,
) -> Result<Vec<(Label, Result<Chosen, DrillError>)>, DrillError> {
    let now = server_time(repository).await?;
    let mut all = Vec::new();
    for (label, newest) in labels {
        let chosen = match (newest, random) {
            (Err(error), _) => Err(error.into()),
            (Ok(newest), Some(among)) => by_chance(repository, newest, among, now).await,
            (Ok(snapshot), None) => Ok(Chosen { snapshot, how: "newest".to_owned() }),
        };
        all.push((label, chosen));
    }
    Ok(all)
}

/// One of the newest `among` snapshots of the label of `newest`, which names the others. Those that are no longer promised may be
/// gone, or go while they are restored.
async fn by_chance(
    repository: &Repository,
    newest: Snapshot,
    among: u32,
    now: DateTime<Utc>,
) -> Result<Chosen, DrillError> {
    let mut all = candidates(&newest.manifest.live, among, now);
    all.shuffle(&mut rand::rng());
    while let Some(Some(link)) = all.last() {
        let found = follow(repository, &newest.manifest.label, link).await;
        if let Some(snapshot) = found.map_err(|error| FindError::from(Box::new(error)))? {
            return Ok(Chosen { snapshot, how: by_chance_of(all.len()) });
        }
        // It is not there: another one then.
        all.pop();
    }
    let how = by_chance_of(all.len());
    Ok(Chosen { snapshot: newest, how })
}

fn by_chance_of(number: usize) -> String {
    format!("by chance, of {number}")
}

/// The newest itself, which is none of the links, and those before it that are promised.
fn candidates(live: &[Link], among: u32, now: DateTime<Utc>) -> Vec<Option<&Link>> {
    let mut others: Vec<&Link> = live.iter().filter(|link| link.promised_until() > now).collect();
    others.sort_by_key(|link| std::cmp::Reverse(link.committed_at));
    let others = others.into_iter().take(among.saturating_sub(1) as usize).map(Some);
    std::iter::once(None).chain(others).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::TimeDelta;
    use stonekeep_format::ids::{ChainId, Digest, Seq, SnapshotId};

    use super::*;

    #[test]
    fn what_is_no_longer_promised_is_not_chosen() {
        let now: DateTime<Utc> = "2026-11-21T12:00:00Z".parse().expect("an instant");
        let link = |hours: i64| {
            let committed_at = now - TimeDelta::hours(hours);
            Link {
                seq: Seq(1),
                chain: ChainId::from_bytes([0; 8]),
                id: SnapshotId::new(committed_at, 1),
                digest: Digest::of(b""),
                committed_at,
                keep: Duration::from_secs(86_400),
                suspicious: false,
            }
        };
        let live = [link(25), link(2), link(1), link(24)];
        let ages = |among: u32| -> Vec<Option<i64>> {
            let of = |link: Option<&Link>| link.map(|link| (now - link.committed_at).num_hours());
            candidates(&live, among, now).into_iter().map(of).collect()
        };
        assert_eq!(ages(9), [None, Some(1), Some(2)]);
        assert_eq!(ages(2), [None, Some(1)]);
        assert_eq!(ages(0), [None]);
    }
}
