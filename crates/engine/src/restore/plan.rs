//! What is loaded in which order, from the three lists that must agree: the archive's table of contents, the catalog, the
//! inventory.
//!
//! The segments are signed for, so a disagreement is a bug of the writer and not an attack; still nothing is loaded over one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::atomic::{AtomicBool, Ordering},
};

use stonekeep_format::{
    archive::{Archive, Ends, Entry, RowFormat},
    catalog::{Catalog, Table},
    digest::RowDigest,
    inventory::{Inventory, Segment, SegmentKind},
};
use stonekeep_postgres::load::{CopyStatement, load_order};

use super::{RestoreError, reorder::Reordered};

/// All loading of rows and large objects.
#[derive(Debug)]
pub(super) struct LoadPlan {
    /// Every table with data, in the catalog's order.
    pub(super) tables: Vec<LoadTable>,
    /// What may be loaded side by side, one step after the other. More than one only for configuration tables of extensions.
    pub(super) steps: Vec<Vec<(Job, Segment)>>,
    /// The packs that hold whole large objects.
    pub(super) object_packs: Vec<Segment>,
    /// The large objects that come in slices, in order.
    pub(super) sliced_objects: Vec<(u32, Vec<Segment>)>,
}

/// A table to load.
#[derive(Debug)]
pub(super) struct LoadTable {
    /// Where its rows go.
    pub(super) statement: CopyStatement,
    /// What the catalog says of it.
    pub(super) table: Table,
    /// How many parts its rows come in.
    pub(super) parts: usize,
    /// Whether an earlier run has loaded all of it.
    pub(super) kept: bool,
    /// Of a partition: the statement that finds for each row the partition it belongs to on the target.
    pub(super) through_root: Option<CopyStatement>,
    /// Whether rows of it had to go that way.
    rerouted: AtomicBool,
    /// What is needed to compare it if its columns are in another order than those of its family.
    pub(super) reordered: Option<Reordered>,
}

impl LoadTable {
    /// Returns the table's name for events and errors.
    pub(super) fn name(&self) -> &str {
        self.statement.table()
    }

    /// Returns which of its rows are dumped, if not all are.
    pub(super) fn condition(&self) -> Option<&[u8]> {
        self.table.condition.as_ref().map(|condition| condition.0.as_slice())
    }

    /// Returns what its rows are loaded into in the end: partitions of one table are a family.
    fn family(&self) -> &[u8] {
        self.through_root.as_ref().unwrap_or(&self.statement).loaded_into()
    }

    /// Whether its rows may be in other tables of its family.
    pub(super) fn is_rerouted(&self) -> bool {
        self.rerouted.load(Ordering::Relaxed)
    }

    /// Takes note that rows of it go through its root, and returns whether they are the first.
    pub(super) fn reroute(&self) -> bool {
        !self.rerouted.swap(true, Ordering::Relaxed)
    }

    /// Returns the statement whose columns are in its family's order.
    pub(super) fn compared(&self) -> &CopyStatement {
        self.reordered.as_ref().map_or(&self.statement, |reordered| &reordered.statement)
    }

    /// Returns the digest of its rows as they are compared. None if that can be taken only from the rows, and not all of
    /// them went by in this run, or not those that the catalog means.
    pub(super) fn wanted(&self) -> Option<RowDigest> {
        match &self.reordered {
            None => Some(self.table.digest),
            Some(reordered) => reordered.digest_if(self.table.digest),
        }
    }
}

/// What is in one segment for the present step; tables are positions in [`LoadPlan::tables`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Job {
    /// A slice of a table.
    Slice {
        /// The table.
        table: usize,
        /// Which ends of the table it has.
        ends: Ends,
    },
    /// A pack, and those of its members that are loaded now.
    Pack {
        /// The tables.
        tables: Vec<usize>,
    },
}

impl LoadPlan {
    /// Brings the three lists together. `roots` are [those](stonekeep_postgres::load::partition_roots) of the whole archive.
    ///
    /// # Errors
    /// [`RestoreError::Inconsistent`]; [`RestoreError::Target`] for a COPY statement that cannot be understood.
    pub(super) fn new(
        archive: &Archive,
        catalog: &Catalog,
        inventory: &Inventory,
        roots: &HashMap<i32, Vec<u8>>,
    ) -> Result<Self, RestoreError> {
        let mut tables = tables(archive, catalog, roots)?;
        reorder(&mut tables, catalog);
        let steps = steps(&levels(archive, &tables), &tables, inventory)?;
        let objects = &catalog.large_objects;
        let object_packs =
            objects.packs.iter().map(|at| segment(inventory, *at, SegmentKind::Pack).cloned());
        let sliced = objects.sliced.iter().map(|object| {
            let slices = object
                .segments
                .iter()
                .map(|at| segment(inventory, *at, SegmentKind::Rows).cloned());
            Ok((object.oid, slices.collect::<Result<Vec<_>, RestoreError>>()?))
        });
        Ok(Self {
            steps,
            object_packs: object_packs.collect::<Result<_, _>>()?,
            sliced_objects: sliced.collect::<Result<_, RestoreError>>()?,
            tables,
        })
    }

    /// Returns the tables in groups that are compared and emptied together.
    pub(super) fn groups(&self) -> Vec<Vec<usize>> {
        groups(&self.tables)
    }

    /// Leaves out a table that is loaded already.
    pub(super) fn keep(&mut self, at: usize) {
        self.tables[at].kept = true;
        for step in &mut self.steps {
            step.retain_mut(|(job, _)| match job {
                Job::Slice { table, .. } => *table != at,
                Job::Pack { tables } => {
                    tables.retain(|table| *table != at);
                    !tables.is_empty()
                }
            });
        }
    }
}

/// Groups tables by what their rows are loaded into: rows that are loaded through a root may come back in another partition
/// than they were in, so only the sum over its partitions is comparable. Partitions whose columns are in different orders are
/// a group from the beginning, since what they are compared by is known only for those that this run has loaded.
pub(super) fn groups(tables: &[LoadTable]) -> Vec<Vec<usize>> {
    let as_one = |table: &&LoadTable| table.is_rerouted() || table.reordered.is_some();
    let as_one: BTreeSet<&[u8]> = tables.iter().filter(as_one).map(LoadTable::family).collect();
    group_by(tables, |table| match table.family() {
        family if as_one.contains(family) => family,
        _ => table.statement.loaded_into(),
    })
}

fn group_by<'t>(
    tables: &'t [LoadTable],
    key: impl Fn(&'t LoadTable) -> &'t [u8],
) -> Vec<Vec<usize>> {
    let mut groups: BTreeMap<&[u8], Vec<usize>> = BTreeMap::new();
    for (at, table) in tables.iter().enumerate() {
        groups.entry(key(table)).or_default().push(at);
    }
    groups.into_values().collect()
}

/// A row that lands in another partition is printed in that one's order of columns. So all of a family are compared in the
/// order of the first.
fn reorder(tables: &mut [LoadTable], catalog: &Catalog) {
    for group in group_by(tables, LoadTable::family) {
        let Some((first, others)) = group.split_first() else { continue };
        let first = tables[*first].statement.clone();
        for at in others {
            let statement = &tables[*at].statement;
            tables[*at].reordered = Reordered::new(statement, &first, &catalog.digest_key);
        }
    }
}

fn inconsistent(what: String) -> RestoreError {
    RestoreError::Inconsistent { what }
}

/// Each table of the archive must be in the catalog, and none else.
fn tables(
    archive: &Archive,
    catalog: &Catalog,
    roots: &HashMap<i32, Vec<u8>>,
) -> Result<Vec<LoadTable>, RestoreError> {
    let mut entries: HashMap<i32, &Entry> = archive
        .entries
        .iter()
        .filter(|entry| entry.is_table_data())
        .map(|entry| (entry.dump_id, entry))
        .collect();
    let tables = catalog.tables.iter().map(|table| {
        let entry = entries.remove(&table.dump_id);
        let entry = entry.ok_or_else(|| {
            inconsistent(format!("table {}.{} is not in the archive", table.schema, table.name))
        })?;
        let member = entry.member().map_err(RestoreError::Contents)?;
        if member.as_ref() != Some(&table.member) {
            return Err(inconsistent(format!(
                "the archive has another member for {}",
                table.member
            )));
        }
        let statement = CopyStatement::of(entry).map_err(RestoreError::Target)?;
        let (table, parts) = (table.clone(), table.segments.len());
        let root = roots.get(&table.dump_id).filter(|_| statement.format() == RowFormat::Text);
        let through_root = root.map(|root| statement.through(root));
        let (kept, rerouted) = (false, AtomicBool::new(false));
        Ok(LoadTable { statement, table, parts, kept, through_root, rerouted, reordered: None })
    });
    let tables = tables.collect::<Result<Vec<_>, _>>()?;
    match entries.into_values().next() {
        Some(entry) => Err(inconsistent(format!(
            "the catalog does not know the table of entry {}",
            entry.dump_id
        ))),
        None => Ok(tables),
    }
}

/// Returns, for each table, how many others must be loaded one after the other before it.
fn levels(archive: &Archive, tables: &[LoadTable]) -> Vec<usize> {
    let waits = load_order(archive);
    let places: HashMap<i32, usize> =
        tables.iter().enumerate().map(|(at, each)| (each.table.dump_id, at)).collect();
    let mut levels = vec![0; tables.len()];
    // Each round settles at least one table, unless they wait for each other in a circle: then no order is right, and the
    // constraint that fails will say so.
    for _ in 0..waits.len() {
        for (id, before) in &waits {
            let after =
                before.iter().filter_map(|id| places.get(id)).map(|at| levels[*at] + 1).max();
            if let (Some(place), Some(after)) = (places.get(id), after) {
                levels[*place] = levels[*place].max(after.min(waits.len()));
            }
        }
    }
    levels
}

/// The jobs of each level: slices of the largest table first, packs last.
fn steps(
    levels: &[usize],
    tables: &[LoadTable],
    inventory: &Inventory,
) -> Result<Vec<Vec<(Job, Segment)>>, RestoreError> {
    let mut by_level: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (table, level) in levels.iter().enumerate() {
        by_level.entry(*level).or_default().push(table);
    }
    by_level.into_values().map(|step| jobs(step, tables, inventory)).collect()
}

fn jobs(
    mut step: Vec<usize>,
    tables: &[LoadTable],
    inventory: &Inventory,
) -> Result<Vec<(Job, Segment)>, RestoreError> {
    step.sort_by_key(|at| std::cmp::Reverse(tables[*at].table.digest.bytes));
    let mut packs: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    let mut jobs = Vec::new();
    for at in step {
        let table = &tables[at].table;
        match table.segments[..] {
            [] => return Err(inconsistent(format!("{} has no segment", table.member))),
            [only] if any_segment(inventory, only)?.kind == SegmentKind::Pack => {
                packs.entry(only).or_default().push(at);
            }
            _ => {
                for (nth, place) in table.segments.iter().enumerate() {
                    let slice = segment(inventory, *place, SegmentKind::Rows)?;
                    if slice.member.as_ref() != Some(&table.member) {
                        return Err(inconsistent(format!(
                            "segment {} is no slice of {}",
                            slice.id, table.member
                        )));
                    }
                    let ends = Ends { first: nth == 0, last: nth + 1 == table.segments.len() };
                    jobs.push((Job::Slice { table: at, ends }, slice.clone()));
                }
            }
        }
    }
    for (place, tables) in packs {
        jobs.push((Job::Pack { tables }, segment(inventory, place, SegmentKind::Pack)?.clone()));
    }
    Ok(jobs)
}

fn any_segment(inventory: &Inventory, at: u32) -> Result<&Segment, RestoreError> {
    let found = inventory.segments.get(at as usize);
    found.ok_or_else(|| inconsistent(format!("the inventory has no segment {at}")))
}

fn segment(inventory: &Inventory, at: u32, kind: SegmentKind) -> Result<&Segment, RestoreError> {
    let found = any_segment(inventory, at)?;
    if found.kind == kind {
        Ok(found)
    } else {
        Err(inconsistent(format!(
            "segment {at} of the inventory is of kind {}, not {}",
            found.kind.as_str(),
            kind.as_str()
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segments::fixture::Fixture;

    fn plan(fixture: &Fixture) -> Result<LoadPlan, RestoreError> {
        LoadPlan::new(&fixture.archive, &fixture.catalog, &fixture.inventory, &HashMap::new())
    }

    #[test]
    fn every_part_of_every_table_is_loaded_once() {
        let fixture = Fixture::new();
        let plan = plan(&fixture).expect("consistent");
        let [step] = &plan.steps[..] else { panic!("{} steps", plan.steps.len()) };
        let mut parts = vec![0; plan.tables.len()];
        for (job, _) in step {
            match job {
                Job::Slice { table, .. } => parts[*table] += 1,
                Job::Pack { tables } => tables.iter().for_each(|table| parts[*table] += 1),
            }
        }
        let wanted: Vec<usize> = plan.tables.iter().map(|table| table.parts).collect();
        assert_eq!(parts, wanted);
        let last =
            step.iter().filter(|(job, _)| matches!(job, Job::Slice { ends, .. } if ends.last));
        assert_eq!(last.count(), 1);
        assert_eq!((plan.object_packs.len(), plan.sliced_objects.len()), (1, 1));
    }

    #[test]
    fn kept_table_is_left_out_and_the_others_stay() {
        let fixture = Fixture::new();
        let mut plan = plan(&fixture).expect("consistent");
        let all = plan.tables.len();
        (1..all).for_each(|at| plan.keep(at));
        let jobs: Vec<_> = plan.steps.iter().flatten().map(|(job, _)| job.clone()).collect();
        assert!(jobs.iter().all(|job| matches!(job, Job::Slice { table: 0, .. })
            || *job == Job::Pack { tables: vec![0] }));
        assert!(!jobs.is_empty());
    }

    #[test]
    fn lists_that_disagree_are_refused() {
        let refused = |change: fn(&mut Fixture)| {
            let mut fixture = Fixture::new();
            change(&mut fixture);
            assert!(matches!(plan(&fixture), Err(RestoreError::Inconsistent { .. })));
        };
        refused(|fixture| drop(fixture.catalog.tables.pop()));
        refused(|fixture| fixture.catalog.tables[0].segments.clear());
        refused(|fixture| fixture.catalog.tables[0].segments = vec![999]);
        refused(|fixture| fixture.catalog.tables[0].dump_id = -1);
        refused(|fixture| fixture.catalog.large_objects.packs = vec![0]);
        refused(|fixture| {
            let rows = fixture.inventory.segments.iter_mut();
            rows.for_each(|segment| {
                segment.member =
                    segment.member.as_ref().and(Some("other".parse().expect("a name")));
            });
        });
    }
}
