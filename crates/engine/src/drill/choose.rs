//! Which snapshot is drilled.

use rand::seq::IndexedRandom as _;
use stonekeep_format::manifest::Link;

use super::DrillError;
use crate::{
    Context,
    history::{FindError, Selector, Snapshot, find, follow, newest_of_each},
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

/// Chooses what `selector` means; without one, of each database the newest, or one of the newest `random` by chance. Returns the
/// newest of all databases as well.
///
/// # Errors
/// [`DrillError::Find`].
pub async fn choose(
    repository: &Repository,
    selector: Option<&Selector>,
    random: Option<u32>,
    context: &Context,
) -> Result<(Vec<Chosen>, Vec<Snapshot>), DrillError> {
    let newest = newest_of_each(repository, context).await?;
    if newest.is_empty() {
        return Err(FindError::Empty.into());
    }
    let mut chosen = Vec::new();
    match (selector, random) {
        (Some(selector), _) => {
            let how = match selector {
                Selector::Id(_) => "named",
                Selector::Latest | Selector::LatestOf(_) => "newest",
            };
            let snapshot = find(repository, selector, context).await?;
            chosen.push(Chosen { snapshot, how: how.to_owned() });
        }
        (None, Some(among)) => {
            for snapshot in &newest {
                chosen.push(by_chance(repository, snapshot, among).await?);
            }
        }
        (None, None) => {
            let one = |snapshot: &Snapshot| Chosen {
                snapshot: snapshot.clone(),
                how: "newest".to_owned(),
            };
            chosen.extend(newest.iter().map(one));
        }
    }
    Ok((chosen, newest))
}

/// One of the newest `among` snapshots of the label of `newest`, which names the others.
async fn by_chance(
    repository: &Repository,
    newest: &Snapshot,
    among: u32,
) -> Result<Chosen, DrillError> {
    let mut others: Vec<&Link> = newest.manifest.live.iter().collect();
    others.sort_by_key(|link| std::cmp::Reverse(link.committed_at));
    let others = others.into_iter().take(among.saturating_sub(1) as usize).map(Some);
    let all: Vec<Option<&Link>> = std::iter::once(None).chain(others).collect();
    let how = format!("by chance, of {}", all.len());
    let chosen = all.choose(&mut rand::rng()).copied().flatten();
    let snapshot = match chosen {
        Some(link) => {
            let found = follow(repository, &newest.manifest.label, link).await;
            let missing = || FindError::NoSuchId(link.id.to_string());
            found.map_err(|error| FindError::from(Box::new(error)))?.ok_or_else(missing)?
        }
        None => newest.clone(),
    };
    Ok(Chosen { snapshot, how })
}
