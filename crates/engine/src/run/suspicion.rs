//! Whether a database shrank so much that somebody should look before its good snapshots run out.

use std::collections::{BTreeMap, BTreeSet};

use stonekeep_format::{ids::Nonce, inventory::TableTotals, manifest::Totals};

/// A table of this share of all bytes (a tenth) is looked at by itself; smaller ones come and go.
const SHARE: u64 = 10;
/// Fewer rows or large objects than this (100) come and go without meaning anything.
const COUNT_MIN: u64 = 100;

/// What is compared: sums, and what each table holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes<'a> {
    pub(super) totals: &'a Totals,
    pub(super) tables: &'a [TableTotals],
}

/// Returns why `now` is suspicious against `before`: rows, tables or bytes, or rows or bytes of a table that held a tenth of
/// all bytes, shrank by more than `percent`. Names nothing that the inventory does not say in the clear.
pub(super) fn shrunk(before: Sizes<'_>, now: Sizes<'_>, percent: u8) -> Option<String> {
    let less = |before: u64, now: u64| {
        let left = u128::from(now) * 100;
        left < u128::from(before) * u128::from(100 - percent.min(100))
    };
    let (old, new) = (before.totals, now.totals);
    // A table in binary is half as long as in text.
    let binary = |tables: &[TableTotals]| -> BTreeSet<Nonce> {
        tables.iter().filter(|table| table.binary).map(|table| table.name).collect()
    };
    let (old_binary, new_binary) = (binary(before.tables), binary(now.tables));
    let bytes = |tables: &[TableTotals]| -> u64 {
        let turned = |name| old_binary.contains(name) != new_binary.contains(name);
        tables.iter().filter(|table| !turned(&table.name)).map(|table| table.plain_bytes).sum()
    };
    let (old_bytes, new_bytes) = (bytes(before.tables), bytes(now.tables));
    for (what, before, now, least) in [
        ("tables", old.tables, new.tables, 1),
        ("rows", old.rows, new.rows, COUNT_MIN),
        ("large objects", old.large_objects, new.large_objects, COUNT_MIN),
        ("bytes", old_bytes, new_bytes, COUNT_MIN),
    ] {
        if before >= least && less(before, now) {
            return Some(format!("{what} went from {before} to {now}"));
        }
    }
    let left: BTreeMap<Nonce, &TableTotals> =
        now.tables.iter().map(|table| (table.name, table)).collect();
    let large =
        before.tables.iter().filter(|table| table.plain_bytes >= old_bytes.div_ceil(SHARE).max(1));
    large.into_iter().find_map(|table| {
        let rows = left.get(&table.name).map_or(0, |left| left.rows);
        less(table.rows, rows)
            .then(|| format!("a large table went from {} to {rows} rows", table.rows))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: u8, rows: u64) -> TableTotals {
        TableTotals {
            name: Nonce::from_bytes([name; 16]),
            rows,
            plain_bytes: rows * 10,
            slice_pages: None,
            binary: false,
        }
    }
    fn compare(before: &[TableTotals], now: &[TableTotals]) -> Option<String> {
        let totals = |tables: &[TableTotals]| Totals {
            tables: tables.len() as u64,
            rows: tables.iter().map(|table| table.rows).sum(),
            ..Totals::default()
        };
        let (old, new) = (totals(before), totals(now));
        shrunk(Sizes { totals: &old, tables: before }, Sizes { totals: &new, tables: now }, 50)
    }

    #[test]
    fn an_emptied_database_is_suspicious_and_ordinary_change_is_not() {
        let before = [table(1, 1000), table(2, 1000), table(3, 1000)];
        assert_eq!(compare(&before, &before), None);
        assert_eq!(compare(&before, &[table(1, 900), table(2, 1100), table(3, 600)]), None);
        let emptied = compare(&before, &[table(1, 0), table(2, 0), table(3, 0)]);
        assert_eq!(emptied.as_deref(), Some("rows went from 3000 to 0"));
        let dropped = compare(&before, &[table(1, 3000)]);
        assert_eq!(dropped.as_deref(), Some("tables went from 3 to 1"));
    }

    #[test]
    fn one_large_table_that_lost_its_rows_is_suspicious_and_a_small_one_is_not() {
        let before = [table(1, 1000), table(2, 2000), table(3, 10)];
        let lost = compare(&before, &[table(1, 0), table(2, 2500), table(3, 10)]);
        assert_eq!(lost.as_deref(), Some("a large table went from 1000 to 0 rows"));
        assert_eq!(compare(&before, &[table(1, 1000), table(2, 2000), table(3, 0)]), None);
    }

    #[test]
    fn nothing_is_less_than_nothing() {
        assert_eq!(compare(&[], &[]), None);
        assert_eq!(compare(&[], &[table(1, 5)]), None);
    }
}
