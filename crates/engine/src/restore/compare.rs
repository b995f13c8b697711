//! Whether the restored database is the one that was backed up: the comparison a drill makes.
//!
//! Every row of every table, every large object, every sequence, as read back from the target; then what pg_restore was to
//! leave finished: indexes, constraints, materialized views.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use stonekeep_format::{
    archive::Archive,
    catalog::{Catalog, SequenceValue, Text},
    digest::{RowDigest, RowDigestKey},
};
use stonekeep_postgres::{
    compare::{Comparer, ObjectStates},
    connect::ConnectOptions,
    load::Pins,
};
use tokio::task::JoinSet;

use super::{
    RestoreError,
    plan::{LoadTable, groups},
};
use crate::{Context, events::Event};

/// How many differences an error names; it tells how many there are.
const DIFFERENCES_MAX: usize = 20;

/// What is compared with what.
#[derive(Debug, Clone)]
pub(super) struct Comparison {
    /// The restored database.
    pub(super) target: ConnectOptions,
    /// What was restored.
    pub(super) archive: Arc<Archive>,
    /// What production held.
    pub(super) catalog: Arc<Catalog>,
    /// The tables, in the catalog's order.
    pub(super) tables: Arc<Vec<LoadTable>>,
    /// Settings of every session.
    pub(super) pins: Pins,
    /// Connections.
    pub(super) jobs: usize,
    /// Whether nothing else is in the database, so that what is more than the snapshot's is a difference, too.
    pub(super) alone: bool,
}

impl Comparison {
    /// Compares all there is to compare.
    ///
    /// # Errors
    /// [`RestoreError::Differs`] with every difference that was found; [`RestoreError::Compare`] if the database cannot be
    /// read.
    pub(super) async fn run(&self, context: &Context) -> Result<(), RestoreError> {
        let mut differences = self.tables(context).await?;
        let mut comparer = Comparer::connect(&self.target, &self.archive, &self.pins).await?;
        differences.extend(self.large_objects(&mut comparer, context).await?);
        let found = comparer.sequence_values().await?;
        differences.extend(sequence_differences(&self.catalog.sequences, found));
        if self.alone {
            differences.extend(unfinished(&self.archive, comparer.object_states().await?));
        }
        if differences.is_empty() {
            return Ok(());
        }
        let count = differences.len();
        differences.truncate(DIFFERENCES_MAX);
        Err(RestoreError::Differs { count, differences })
    }

    /// Compares tables side by side, the largest first.
    async fn tables(&self, context: &Context) -> Result<Vec<String>, RestoreError> {
        let mut order = groups(&self.tables);
        let bytes = |group: &[usize]| -> u64 {
            let each = group.iter().map(|at| self.tables[*at].table.digest.bytes);
            each.fold(0, u64::saturating_add)
        };
        order.sort_by_key(|group| std::cmp::Reverse(bytes(group)));
        let jobs = self.jobs.clamp(1, order.len().max(1));
        let queue = Arc::new(Mutex::new(VecDeque::from(order)));
        let mut workers = JoinSet::new();
        for _ in 0..jobs {
            workers.spawn(self.clone().table_worker(Arc::clone(&queue), context.clone()));
        }
        let mut differences = Vec::new();
        while let Some(done) = workers.join_next().await {
            differences.extend(done.map_err(RestoreError::Task)??);
        }
        Ok(differences)
    }

    async fn table_worker(
        self,
        queue: Arc<Mutex<VecDeque<Vec<usize>>>>,
        context: Context,
    ) -> Result<Vec<String>, RestoreError> {
        let mut comparer = Comparer::connect(&self.target, &self.archive, &self.pins).await?;
        let mut differences = Vec::new();
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        while let Some(group) = next() {
            let all = || group.iter().map(|at| &self.tables[*at]);
            if !is_loaded(&mut comparer, all(), &self.catalog.digest_key).await? {
                let names: Vec<&str> = all().map(LoadTable::name).collect();
                differences.push(format!("the rows of table {}", names.join(" with ")));
            }
            let total = total(all());
            context.tell(Event::Progress { bytes: total.bytes, rows: total.rows });
        }
        Ok(differences)
    }

    async fn large_objects(
        &self,
        comparer: &mut Comparer,
        context: &Context,
    ) -> Result<Vec<String>, RestoreError> {
        if !self.alone {
            // They have no schema: whose they are cannot be told apart.
            context.warn(
                "large objects were not compared: the database held some, or could have, before",
            );
            return Ok(Vec::new());
        }
        let found = comparer.digest_large_objects(&self.catalog.digest_key).await?;
        let wanted = self.catalog.large_objects.digest;
        let what =
            format!("the large objects ({} found, {} backed up)", found.objects, wanted.objects);
        Ok((found != wanted).then_some(what).into_iter().collect())
    }
}

/// Returns whether tables hold, together, just the rows that were backed up. Not, if that cannot be told before some of them
/// were loaded; see [`LoadTable::wanted`].
pub(super) async fn is_loaded<'t>(
    comparer: &mut Comparer,
    tables: impl Iterator<Item = &'t LoadTable> + Clone + Send,
    key: &RowDigestKey,
) -> Result<bool, RestoreError> {
    let condition_of = |table: &'t LoadTable| {
        table.table.condition.as_ref().map(|condition| condition.0.as_slice())
    };
    let mut as_they_were = true;
    for table in tables.clone() {
        let (statement, condition) = (&table.statement, condition_of(table));
        let found = comparer.digest_table(statement, condition, key).await?;
        as_they_were &= found == table.table.digest;
    }
    let may_have_moved = tables.clone().nth(1).is_some();
    if as_they_were || !may_have_moved {
        return Ok(as_they_were);
    }
    let wanted: Option<Vec<RowDigest>> = tables.clone().map(LoadTable::wanted).collect();
    let Some(wanted) = wanted else { return Ok(false) };
    let mut found = RowDigest::default();
    for table in tables {
        let digest = comparer.digest_table(table.compared(), condition_of(table), key).await?;
        found = found.merge(digest);
    }
    Ok(found == wanted.into_iter().fold(RowDigest::default(), RowDigest::merge))
}

fn total<'t>(tables: impl Iterator<Item = &'t LoadTable>) -> RowDigest {
    tables.fold(RowDigest::default(), |sum, table| sum.merge(table.table.digest))
}

fn sequence_differences(wanted: &[SequenceValue], found: Vec<SequenceValue>) -> Vec<String> {
    let found: HashMap<(Text, Text), (i64, bool)> = found
        .into_iter()
        .map(|each| ((each.schema, each.name), (each.last_value, each.is_called)))
        .collect();
    let differs = |each: &&SequenceValue| {
        let there = found.get(&(each.schema.clone(), each.name.clone()));
        there != Some(&(each.last_value, each.is_called))
    };
    let differing = wanted.iter().filter(differs);
    differing.map(|each| format!("the value of sequence {}.{}", each.schema, each.name)).collect()
}

/// What is not valid although the archive does not say that it was so: pg_dump leaves out invalid indexes, writes `NOT VALID`
/// or `NOT ENFORCED` where it applies, and an entry of data for each populated view.
fn unfinished(archive: &Archive, states: ObjectStates) -> Vec<String> {
    let mut left: Vec<String> = states
        .invalid_indexes
        .into_iter()
        .map(|name| format!("index {name}, which is not valid"))
        .collect();
    let constraints =
        states.unvalidated_constraints.into_iter().filter(|name| !was_unvalidated(archive, name));
    left.extend(constraints.map(|name| format!("constraint {name}, which is not validated")));
    let views = states.unpopulated_views.into_iter().filter(|name| was_populated(archive, name));
    left.extend(views.map(|name| format!("materialized view {name}, which is empty")));
    left
}

/// `constraint` is `name ON table`.
fn was_unvalidated(archive: &Archive, constraint: &str) -> bool {
    let name = constraint.rsplit_once(" ON ").map_or(constraint, |(name, _)| name);
    archive.entries.iter().filter_map(|entry| entry.defn.as_deref()).any(|defn| {
        let defn = String::from_utf8_lossy(defn);
        defn.contains(name) && (defn.contains("NOT VALID") || defn.contains("NOT ENFORCED"))
    })
}

fn was_populated(archive: &Archive, view: &str) -> bool {
    let bare = view.replace('"', "");
    archive
        .entries
        .iter()
        .filter(|entry| entry.desc.as_deref() == Some(b"MATERIALIZED VIEW DATA"))
        .any(|entry| {
            let text = |bytes: &Option<Vec<u8>>| {
                String::from_utf8_lossy(bytes.as_deref().unwrap_or_default()).into_owned()
            };
            format!("{}.{}", text(&entry.namespace), text(&entry.tag)).replace('"', "") == bare
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(name: &str, last_value: i64, is_called: bool) -> SequenceValue {
        SequenceValue {
            schema: Text::from("public"),
            name: Text::from(name),
            last_value,
            is_called,
        }
    }

    #[test]
    fn a_sequence_differs_by_its_value_by_is_called_and_by_absence() {
        let wanted = [
            sequence("a", 1, false),
            sequence("b", 1, true),
            sequence("c", 1, true),
            sequence("d", 9, true),
        ];
        let found = vec![
            sequence("a", 1, true),
            sequence("b", 2, true),
            sequence("d", 9, true),
            sequence("e", 1, true),
        ];
        let names = ["public.a", "public.b", "public.c"]
            .map(|name| format!("the value of sequence {name}"));
        assert_eq!(sequence_differences(&wanted, found), names);
    }
}
