//! Whether the restored database is the one that was backed up: the comparison a drill makes.
//!
//! Every row of every table, every large object, every sequence, as read back from the target; then what pg_restore was to
//! leave finished: indexes, constraints, materialized views.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use stonekeep_format::{
    archive::{Archive, Entry},
    catalog::{Catalog, SequenceValue, Text},
    digest::{RowDigest, RowDigestKey},
    drill::{Compared, DrillTable, TableOutcome},
};
use stonekeep_postgres::{
    compare::{Comparer, ObjectStates},
    connect::ConnectOptions,
    load::Pins,
};
use tokio::task::JoinSet;

use super::{
    RestoreError,
    objects::{Restored, compare_objects, roles},
    plan::{LoadTable, groups},
};
use crate::{Context, events::Event};

/// How many differences an error names; it tells how many there are.
const DIFFERENCES_MAX: usize = 20;

/// How many materialized views are named (10).
const VIEWS_MAX: usize = 10;

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
    /// Whether the whole snapshot was restored, so that every object must be there.
    pub(super) whole: bool,
    /// Whether owners and rights were restored.
    pub(super) owners: bool,
}

/// What a comparison came to.
#[derive(Debug, Default)]
pub(crate) struct CompareOutcome {
    /// Each table, in the catalog's order.
    pub(crate) tables: Vec<DrillTable>,
    /// What else was compared, kind by kind.
    pub(crate) compared: Vec<Compared>,
    /// What differs, each naming the object; of tables those that are not as they were.
    pub(crate) differences: Vec<String>,
    /// What was not compared, and why.
    pub(crate) not_checked: Vec<String>,
    /// What is not as it was and no difference of the data.
    pub(crate) notes: Vec<String>,
}

impl CompareOutcome {
    /// Turns differences into an error.
    ///
    /// # Errors
    /// [`RestoreError::Differs`] with the first of them.
    pub(super) fn into_result(mut self) -> Result<(), RestoreError> {
        if self.differences.is_empty() {
            return Ok(());
        }
        let count = self.differences.len();
        self.differences.truncate(DIFFERENCES_MAX);
        Err(RestoreError::Differs { count, differences: self.differences })
    }

    /// Takes in a kind of objects, of which `differing` are not as they were.
    pub(super) fn add(&mut self, what: &str, wanted: u64, differing: Vec<String>) {
        let same = wanted.saturating_sub(differing.len() as u64);
        self.compared.push(Compared { what: what.to_owned(), wanted, same });
        // A table that is missing is missed twice: its rows, and it.
        let told: HashSet<String> = self.differences.iter().cloned().collect();
        self.differences.extend(differing.into_iter().filter(|what| !told.contains(what)));
    }
}

impl Comparison {
    /// Compares all there is to compare.
    ///
    /// # Errors
    /// [`RestoreError::Compare`] if the database cannot be read. What differs is in the answer.
    pub(super) async fn run(&self, context: &Context) -> Result<CompareOutcome, RestoreError> {
        let mut all =
            CompareOutcome { tables: self.tables(context).await?, ..CompareOutcome::default() };
        all.differences = all.tables.iter().filter_map(table_difference).collect();
        let mut comparer = Comparer::connect(&self.target, &self.archive, &self.pins).await?;
        self.large_objects(&mut comparer, &mut all).await?;
        let found = comparer.sequence_values().await?;
        let wanted = &self.catalog.sequences;
        all.add("values of sequences", wanted.len() as u64, sequence_differences(wanted, found));
        self.objects(&mut comparer, &mut all).await?;
        all.notes.iter().for_each(|what| context.warn(what.clone()));
        all.not_checked.iter().for_each(|what| context.warn(what.clone()));
        all.not_checked.extend(self.unread());
        Ok(all)
    }

    /// Compares tables side by side, the largest first.
    async fn tables(&self, context: &Context) -> Result<Vec<DrillTable>, RestoreError> {
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
        let mut tables = BTreeMap::new();
        while let Some(done) = workers.join_next().await {
            tables.extend(done.map_err(RestoreError::Task)??);
        }
        Ok(tables.into_values().collect())
    }

    /// Returns the tables with their places in the catalog.
    async fn table_worker(
        self,
        queue: Arc<Mutex<VecDeque<Vec<usize>>>>,
        context: Context,
    ) -> Result<Vec<(usize, DrillTable)>, RestoreError> {
        let mut comparer = Comparer::connect(&self.target, &self.archive, &self.pins).await?;
        let mut done = Vec::new();
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        while let Some(group) = next() {
            let all = || group.iter().map(|at| &self.tables[*at]);
            let found = compare_group(&mut comparer, all(), &self.catalog.digest_key).await?;
            done.extend(group.iter().copied().zip(all().zip(found).map(outcome_of)));
            let total = total(all());
            context.tell(Event::Progress { bytes: total.bytes, rows: total.rows });
        }
        Ok(done)
    }

    /// What else there was. A database that holds other things, or a part of the snapshot, is not asked.
    async fn objects(
        &self,
        comparer: &mut Comparer,
        all: &mut CompareOutcome,
    ) -> Result<(), RestoreError> {
        if !self.alone {
            return Ok(());
        }
        let Some(wanted) = self.catalog.objects.as_ref().filter(|_| self.whole) else {
            all.differences.extend(unfinished(&self.archive, comparer.object_states().await?));
            let why = "indexes, constraints and other objects that may be missing: the version of stonekeep that took the snapshot did not list them";
            all.not_checked.extend(self.whole.then(|| why.to_owned()));
            return Ok(());
        };
        let found = comparer.objects().await?;
        let roles = comparer.roles(&roles(wanted)).await?;
        compare_objects(wanted, &Restored { found, roles, owners: self.owners }, all);
        let before = self.catalog.database.collation_version.as_deref();
        let now = comparer.collation_version().await?;
        if let (Some(before), Some(now)) = (before, now.as_deref())
            && before != now
        {
            let note = format!("the database's collation is of version {now}, and was of {before}");
            all.notes.push(note);
        }
        Ok(())
    }

    /// What a query makes is not among what was dumped, and may ask for the time.
    fn unread(&self) -> Option<String> {
        let is_view = |entry: &&Entry| entry.desc.as_deref() == Some(b"MATERIALIZED VIEW DATA");
        let views: Vec<&Entry> = self.archive.entries.iter().filter(is_view).collect();
        let text = |bytes: &Option<Vec<u8>>| Text(bytes.clone().unwrap_or_default()).to_string();
        let name = |entry: &&Entry| format!("{}.{}", text(&entry.namespace), text(&entry.tag));
        let named: Vec<String> = views.iter().take(VIEWS_MAX).map(name).collect();
        (!views.is_empty()).then(|| {
            let (count, more) = (views.len(), if views.len() > VIEWS_MAX { " …" } else { "" });
            format!(
                "the rows of {count} materialized views, which were made anew: {}{more}",
                named.join(", ")
            )
        })
    }

    async fn large_objects(
        &self,
        comparer: &mut Comparer,
        all: &mut CompareOutcome,
    ) -> Result<(), RestoreError> {
        if !self.alone {
            // They have no schema: whose they are cannot be told apart.
            let why =
                "large objects were not compared: the database held some, or could have, before";
            all.not_checked.push(why.to_owned());
            return Ok(());
        }
        let found = comparer.digest_large_objects(&self.catalog.digest_key).await?;
        let wanted = self.catalog.large_objects.digest;
        let what =
            format!("the large objects ({} found, {} backed up)", found.objects, wanted.objects);
        let same = if found == wanted { wanted.objects } else { 0 };
        let compared = Compared { what: "large objects".to_owned(), wanted: wanted.objects, same };
        all.compared.push(compared);
        all.differences.extend((found != wanted).then_some(what));
        Ok(())
    }
}

/// What was found of a table: its rows, if it is there, and what that comes to.
type Found = (Option<RowDigest>, TableOutcome);

fn outcome_of((table, (found, outcome)): (&LoadTable, Found)) -> DrillTable {
    let wanted = table.table.digest;
    DrillTable {
        name: table.name().to_owned(),
        rows: wanted.rows,
        bytes: wanted.bytes,
        rows_found: found.map(|found| found.rows),
        outcome,
    }
}

fn table_difference(table: &DrillTable) -> Option<String> {
    let DrillTable { name, rows, .. } = table;
    match (table.outcome, table.rows_found) {
        (TableOutcome::Same | TableOutcome::Moved, _) => None,
        (TableOutcome::Missing, _) => Some(format!("table {name}, which is missing")),
        (_, Some(found)) if found != *rows => {
            Some(format!("the rows of table {name} ({found} found, {rows} backed up)"))
        }
        _ => Some(format!("the rows of table {name}")),
    }
}

/// Returns whether tables hold, together, just the rows that were backed up. Not, if that cannot be told before some of them
/// were loaded; see [`LoadTable::wanted`].
pub(super) async fn is_loaded<'t>(
    comparer: &mut Comparer,
    tables: impl Iterator<Item = &'t LoadTable> + Clone + Send,
    key: &RowDigestKey,
) -> Result<bool, RestoreError> {
    let found = compare_group(comparer, tables, key).await?;
    let is_good = |outcome| matches!(outcome, TableOutcome::Same | TableOutcome::Moved);
    Ok(found.into_iter().all(|(_, outcome)| is_good(outcome)))
}

/// Compares tables whose rows may have been loaded into one another.
async fn compare_group<'t>(
    comparer: &mut Comparer,
    tables: impl Iterator<Item = &'t LoadTable> + Clone + Send,
    key: &RowDigestKey,
) -> Result<Vec<Found>, RestoreError> {
    let mut all = Vec::new();
    for table in tables.clone() {
        all.push(compare_table(comparer, table, key).await?);
    }
    let differs = |(_, outcome): &Found| *outcome == TableOutcome::Differs;
    let may_have_moved = all.len() > 1 && all.iter().all(|(found, _)| found.is_some());
    if may_have_moved && all.iter().any(differs) && is_same_in_all(comparer, tables, key).await? {
        for (_, outcome) in all.iter_mut().filter(|each| differs(each)) {
            *outcome = TableOutcome::Moved;
        }
    }
    Ok(all)
}

async fn compare_table(
    comparer: &mut Comparer,
    table: &LoadTable,
    key: &RowDigestKey,
) -> Result<Found, RestoreError> {
    match comparer.digest_table(&table.statement, table.condition(), key).await {
        Ok(found) if found == table.table.digest => Ok((Some(found), TableOutcome::Same)),
        Ok(found) => Ok((Some(found), TableOutcome::Differs)),
        Err(error) if error.is_missing() => Ok((None, TableOutcome::Missing)),
        Err(error) => Err(error.into()),
    }
}

/// Whether the rows of all tables together are those that were backed up, wherever each lies.
async fn is_same_in_all<'t>(
    comparer: &mut Comparer,
    tables: impl Iterator<Item = &'t LoadTable> + Clone + Send,
    key: &RowDigestKey,
) -> Result<bool, RestoreError> {
    let wanted: Option<Vec<RowDigest>> = tables.clone().map(LoadTable::wanted).collect();
    let Some(wanted) = wanted else { return Ok(false) };
    let mut found = RowDigest::default();
    for table in tables {
        let digest = comparer.digest_table(table.compared(), table.condition(), key).await?;
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
