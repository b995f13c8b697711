//! Partitions and the tables they are partitions of, as the archive tells them.

use std::collections::HashMap;

use stonekeep_format::archive::{Archive, Entry};

use super::copy::qualified;

/// Returns, for each TABLE DATA entry of a partition, by its dump id, the uppermost table that it is a partition of, as SQL
/// names it.
///
/// Which partition a row belongs to can hang on the target: on its encoding (the hash of a text), on its collations (a range
/// of texts). A row that its partition refuses there goes to the right one through this table.
#[must_use]
pub fn partition_roots(archive: &Archive) -> HashMap<i32, Vec<u8>> {
    let tables: HashMap<i32, &Entry> = archive
        .entries
        .iter()
        .filter(|entry| is(entry, b"TABLE"))
        .map(|entry| (entry.dump_id, entry))
        .collect();
    let table_of = |of: &Entry| {
        let needs = of.dependencies.iter().filter_map(|id| tables.get(id));
        needs.copied().find(|table| is_named_alike(table, of))
    };
    let mut parents: HashMap<i32, &Entry> = HashMap::new();
    for attach in archive.entries.iter().filter(|entry| is(entry, b"TABLE ATTACH")) {
        // It depends on both; the partition bears its name.
        let Some(part) = table_of(attach) else { continue };
        let needs = attach.dependencies.iter().filter(|id| **id != part.dump_id);
        if let Some(parent) = needs.filter_map(|id| tables.get(id)).next() {
            parents.insert(part.dump_id, parent);
        }
    }
    let root = |data: &Entry| {
        let mut root = parents.get(&table_of(data)?.dump_id)?;
        // An archive in which tables are partitions of each other is none of pg_dump's; it must end all the same.
        for _ in 0..parents.len() {
            match parents.get(&root.dump_id) {
                Some(above) => root = above,
                None => break,
            }
        }
        Some((data.dump_id, qualified(root)))
    };
    archive.entries.iter().filter(|entry| entry.is_table_data()).filter_map(root).collect()
}

fn is(entry: &Entry, desc: &[u8]) -> bool {
    entry.desc.as_deref() == Some(desc)
}

fn is_named_alike(one: &Entry, other: &Entry) -> bool {
    one.tag == other.tag && one.namespace == other.namespace
}
