//! Which worker reads what: decided before the snapshot, because a worker must hold its locks by then.

use std::collections::{BTreeMap, BTreeSet};

use stonekeep_format::{
    pack::{PACK_BYTES_MAX, pack_groups},
    slicer::{PageRange, page_ranges},
};

use super::{LargeObject, SourceTable, Worker};

/// Tables of at most this many bytes (1 MiB of heap and TOAST) are gathered in packs: an object each would cost more in
/// requests than in bytes.
const SMALL_TABLE_BYTES_MAX: u64 = 1 << 20;
/// Large objects above this (8 MiB, half a pack) get slices of their own.
const SMALL_OBJECT_BYTES_MAX: u64 = PACK_BYTES_MAX / 2;
/// The first server version with a scan of a range of pages; before, each range would read the whole table.
const TID_RANGE_VERSION: i32 = 140_000;

/// A worker's piece of work. Tables are named by their position in the dump's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unit {
    /// A table, or a region of it.
    Table {
        /// Which.
        table: usize,
        /// Its slices, in order; `None`: one stream.
        pages: Option<Vec<PageRange>>,
        /// Whether the table ends here.
        last: bool,
    },
    /// Whole small tables, in the order of their OIDs.
    Pack {
        /// Which.
        tables: Vec<usize>,
    },
    /// Whole large objects, in order.
    LargeObjects {
        /// Which.
        objects: Vec<LargeObject>,
    },
    /// A large object that is read in slices.
    LargeObject {
        /// Which.
        object: LargeObject,
    },
}

/// Divides the tables between `jobs` workers, the largest pieces first to whoever has least.
pub(super) fn assign(tables: &[SourceTable], jobs: usize, version_num: i32) -> Vec<Vec<Unit>> {
    let jobs = jobs.max(1);
    let mut pieces = packs(tables);
    let total: u64 = tables.iter().map(|table| table.bytes).sum();
    for (at, table) in tables.iter().enumerate().filter(|(_, table)| is_large(table)) {
        let splits = table.is_heap
            && table.condition.is_none()
            && version_num >= TID_RANGE_VERSION
            && !table.columns.is_empty();
        if splits {
            pieces.extend(regions(at, table, total, jobs));
        } else {
            pieces.push((table.bytes, Unit::Table { table: at, pages: None, last: true }));
        }
    }
    pieces.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
    let mut loads = vec![(0_u64, Vec::new()); jobs];
    for (bytes, unit) in pieces {
        if let Some(least) = loads.iter_mut().min_by_key(|(load, _)| *load) {
            least.0 += bytes + 1;
            least.1.push(unit);
        }
    }
    loads.into_iter().map(|(_, units)| units).collect()
}

fn is_large(table: &SourceTable) -> bool {
    table.has_rows() && table.bytes > SMALL_TABLE_BYTES_MAX
}

fn packs(tables: &[SourceTable]) -> Vec<(u64, Unit)> {
    let small = |table: &&SourceTable| table.has_rows() && !is_large(table);
    let sizes: BTreeMap<u32, u64> =
        tables.iter().filter(small).map(|table| (table.oid, table.bytes)).collect();
    let at: BTreeMap<u32, usize> =
        tables.iter().enumerate().map(|(at, table)| (table.oid, at)).collect();
    let unit = |group: Vec<u32>| {
        let bytes = group.iter().map(|oid| sizes[oid]).sum();
        (bytes, Unit::Pack { tables: group.iter().map(|oid| at[oid]).collect() })
    };
    pack_groups(&sizes, PACK_BYTES_MAX).into_iter().map(unit).collect()
}

/// A table above half of a worker's share is divided, at multiples of its slice so that slices stay what they are.
fn regions(at: usize, table: &SourceTable, total: u64, jobs: usize) -> Vec<(u64, Unit)> {
    let slice = table.slice_pages;
    let share = total / jobs as u64 / 2;
    let parts = if table.bytes > share { u32::try_from(jobs).unwrap_or(1) } else { 1 };
    let step = (table.pages / parts / slice + 1) * slice;
    let mut units = Vec::new();
    let mut start = 0;
    loop {
        let end = start + step;
        let last = end >= table.pages;
        let region = PageRange { start, end: (!last).then_some(end) };
        let pages: Vec<PageRange> = page_ranges(region, table.pages, slice).collect();
        let covered = u64::from(end.min(table.pages).saturating_sub(start));
        let bytes = table.bytes * covered / u64::from(table.pages.max(1));
        units.push((bytes, Unit::Table { table: at, pages: Some(pages), last }));
        if last {
            return units;
        }
        start = end;
    }
}

/// The tables that `units` read.
pub(super) fn tables_of(units: &[Unit]) -> BTreeSet<usize> {
    let mut tables = BTreeSet::new();
    for unit in units {
        match unit {
            Unit::Table { table, .. } => drop(tables.insert(*table)),
            Unit::Pack { tables: group } => tables.extend(group),
            Unit::LargeObjects { .. } | Unit::LargeObject { .. } => {}
        }
    }
    tables
}

/// Turns positions in the list into positions in the archive's order; what pg_dump wants no data of is left out.
pub(super) fn renumber(workers: &mut [Worker], kept: &BTreeMap<usize, usize>) {
    for worker in workers {
        worker.units.retain_mut(|unit| match unit {
            Unit::Table { table, .. } => kept.get(table).map(|new| *table = *new).is_some(),
            Unit::Pack { tables } => {
                *tables = tables.iter().filter_map(|table| kept.get(table).copied()).collect();
                !tables.is_empty()
            }
            Unit::LargeObjects { .. } | Unit::LargeObject { .. } => true,
        });
    }
}

/// Gives the large objects, which need no lock, to the workers in turn.
pub(super) fn assign_large_objects(workers: &mut [Worker], objects: &[LargeObject]) {
    let (small, large): (Vec<&LargeObject>, Vec<&LargeObject>) =
        objects.iter().partition(|object| object.bytes <= SMALL_OBJECT_BYTES_MAX);
    let sizes: BTreeMap<u32, u64> = small.iter().map(|object| (object.oid, object.bytes)).collect();
    let pack = |oids: Vec<u32>| {
        let objects = oids.into_iter().map(|oid| LargeObject { oid, bytes: sizes[&oid] });
        Unit::LargeObjects { objects: objects.collect() }
    };
    let packs = pack_groups(&sizes, PACK_BYTES_MAX).into_iter().map(pack);
    let single = large.iter().map(|object| Unit::LargeObject { object: **object });
    let count = workers.len().max(1);
    for (at, unit) in single.chain(packs).enumerate() {
        if let Some(worker) = workers.get_mut(at % count) {
            worker.units.push(unit);
        }
    }
}
