//! Where a table's rows are cut into slices, so that unchanged rows make the same segment again.
//!
//! Its one responsibility is to say where a slice ends. The plan of a backup cuts a heap into [`PageRange`]s, each read by
//! one COPY; while rows of a range, or of a table that cannot be read by ranges, stream by, a [`Cutter`] ends slices between
//! rows. What it decides depends on nothing but the rows, their order and the key. It never splits a row, and a slice never
//! depends on the time, on the number of workers, or on what lies in other tables.

use xxhash_rust::xxh3::xxh3_64_with_secret;

use crate::archive::RowFormat;

/// The pages of a heap in one slice: 1024, which are 8 MiB of PostgreSQL's usual 8 KiB pages.
///
/// Smaller slices cost a PUT, a lock and a read-back each; larger ones are rewritten whole when one of their rows changes.
pub const HEAP_SLICE_PAGES: u32 = 1024;

/// The plaintext bytes in one slice, at most, unless a single row is larger: 16 MiB, and twice that for a table whose slices
/// have more than [`HEAP_SLICE_PAGES`] pages (see [`slice_bytes_max`]).
pub const SLICE_BYTES_MAX: usize = 16 << 20;

/// The slices of a table by pages, at most, when its size of slice is chosen anew: 65,536, or 512 GiB in slices of 8 MiB.
/// While a size of slice is kept there may be twice as many. Each takes about 200 bytes in the inventory.
pub const TABLE_SLICES_MAX: u32 = 65_536;

/// Returns the pages in each slice of a table of `table_pages` pages: [`HEAP_SLICE_PAGES`], doubled until no more than
/// [`TABLE_SLICES_MAX`] slices are needed.
#[must_use]
pub const fn slice_pages(table_pages: u32) -> u32 {
    let mut pages = HEAP_SLICE_PAGES;
    while table_pages.div_ceil(pages) > TABLE_SLICES_MAX {
        pages *= 2;
    }
    pages
}

/// Returns the pages in each slice of a table whose slices had `previous` pages in the last snapshot: those again while
/// they are within a factor of two of [`slice_pages`].
///
/// A new size moves every cut, and so writes the whole table anew. Without this, a table whose size goes to and fro over a
/// limit would be written anew each time. A `previous` that is no power of two times [`HEAP_SLICE_PAGES`] is not ours and is
/// not kept.
#[must_use]
pub const fn slice_pages_kept(table_pages: u32, previous: Option<u32>) -> u32 {
    let wanted = slice_pages(table_pages);
    match previous {
        Some(previous)
            if previous >= HEAP_SLICE_PAGES
                && previous.is_power_of_two()
                && previous / 2 <= wanted
                && wanted / 2 <= previous =>
        {
            previous
        }
        _ => wanted,
    }
}

/// Returns the plaintext bytes that a slice may have in a table with slices of `slice_pages` pages: [`SLICE_BYTES_MAX`], or
/// 32 MiB in a table above 512 GiB, whose segments would else be too many.
#[must_use]
pub const fn slice_bytes_max(slice_pages: u32) -> usize {
    if slice_pages > HEAP_SLICE_PAGES { 2 * SLICE_BYTES_MAX } else { SLICE_BYTES_MAX }
}

/// Pages of a heap, from `start` up to and without `end`; without an end, to the last page there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PageRange {
    /// The first page.
    pub start: u32,
    /// The page after the last, or `None` for all that follow.
    pub end: Option<u32>,
}

/// Returns the slices of `region` in a table of `table_pages` pages, in order: cut at the multiples of `slice_pages`.
///
/// The last slice of a region without an end has none either: a table may have grown between its measuring and the
/// snapshot, and no row may be left out. An empty table is one slice. A region that begins and ends at multiples of
/// `slice_pages` has the slices that the whole table has there, whoever reads it.
pub fn page_ranges(
    region: PageRange,
    table_pages: u32,
    slice_pages: u32,
) -> impl Iterator<Item = PageRange> {
    let slice_pages = slice_pages.max(1);
    let mut next = Some(region.start).filter(|start| region.end.is_none_or(|end| *start < end));
    std::iter::from_fn(move || {
        let start = next?;
        let cut = (start / slice_pages).checked_add(1).and_then(|n| n.checked_mul(slice_pages));
        let stop = region.end.unwrap_or(table_pages);
        next = cut.filter(|cut| *cut < stop);
        Some(PageRange { start, end: next.or(region.end) })
    })
}

/// The key by which rows are chosen to begin a slice: 32 bytes that stay the same from run to run, or the cuts would not.
///
/// It is keyed so that nobody who can insert rows can make every row a cut, or none.
#[derive(Clone)]
pub struct CutKey([u8; SECRET_BYTES]);

/// Bytes of an XXH3 secret: the size of the algorithm's own.
const SECRET_BYTES: usize = 192;

impl CutKey {
    /// Derives the key of 32 secret bytes.
    #[must_use]
    pub fn derive(secret: &[u8; 32]) -> Self {
        let mut key = [0; SECRET_BYTES];
        let mut hasher = blake3::Hasher::new_derive_key("stonekeep format 1 cut points");
        hasher.update(secret).finalize_xof().fill(&mut key);
        Self(key)
    }
}

impl std::fmt::Debug for CutKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CutKey(…)")
    }
}

/// When a slice of rows ends.
#[derive(Debug, Clone)]
pub enum CutRule {
    /// Before the row with which it would become too large. For a range of pages: its ends do not move, so neither does a
    /// cut within it, unless the rows before it in that range change.
    AtMost,
    /// After a row whose hash says so, once the slice has a quarter of the largest size, and in any case as
    /// [`CutRule::AtMost`]. For one stream of a whole table: after an insertion the cuts are soon the same again.
    ///
    /// A row ends a slice if the XXH3-64 of its line, with the key, is below the line's length times 2^64 divided by a
    /// quarter of the largest size. The chance is in proportion to the length, so that slices have on average half of the
    /// largest size whether rows are short or long.
    ByContent(CutKey),
}

/// Room that is kept for what follows the last row of a member: what is longer (the head of a binary one) is taken off
/// `bytes_max` by the caller.
const TAIL_BYTES: usize = RowFormat::Text.tail().len();

/// Decides between which rows of a stream one slice ends and the next begins.
#[derive(Debug)]
pub struct Cutter {
    rule: CutRule,
    bytes_max: usize,
    /// The bytes of the rows in the current slice.
    bytes: usize,
    /// Whether the last row ends its slice.
    ended: bool,
}

impl Cutter {
    /// Begins a stream, and its first slice. `bytes_max` is [`slice_bytes_max`]; room for the tail of text
    /// rows, which ends the last slice of a member, is kept within it.
    #[must_use]
    pub const fn new(rule: CutRule, bytes_max: usize) -> Self {
        Self { rule, bytes_max, bytes: 0, ended: false }
    }

    /// Takes the next row (its line, with the newline) and returns whether it begins a new slice.
    ///
    /// The first row never does: the stream's first slice is open already. A row larger than the limit stands alone.
    pub fn begins_slice(&mut self, row: &[u8]) -> bool {
        let with_row = self.bytes.saturating_add(row.len());
        let too_large = with_row.saturating_add(TAIL_BYTES) > self.bytes_max;
        let begins = self.bytes > 0 && (self.ended || too_large);
        self.bytes = if begins { row.len() } else { with_row };
        self.ended = self.ends_slice(row);
        begins
    }

    fn ends_slice(&self, row: &[u8]) -> bool {
        let CutRule::ByContent(key) = &self.rule else { return false };
        let quarter = self.bytes_max / 4;
        self.bytes >= quarter && {
            let hash = u128::from(xxh3_64_with_secret(row, &key.0));
            // hash < length * 2^64 / quarter, without dividing; below 2^128 as both factors are below 2^64.
            hash * (quarter as u128) < (row.len() as u128) << 64
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn by_content() -> CutRule {
        CutRule::ByContent(CutKey::derive(&[7; 32]))
    }

    fn slices(rows: &[Vec<u8>], rule: CutRule, bytes_max: usize) -> Vec<Vec<Vec<u8>>> {
        let mut cutter = Cutter::new(rule, bytes_max);
        let mut slices = vec![Vec::new()];
        for row in rows {
            if cutter.begins_slice(row) {
                slices.push(Vec::new());
            }
            slices.last_mut().unwrap().push(row.clone());
        }
        slices
    }

    fn row_bytes(slice: &[Vec<u8>]) -> usize {
        slice.iter().map(Vec::len).sum()
    }

    fn rows() -> impl Strategy<Value = Vec<Vec<u8>>> {
        vec(vec(any::<u8>(), 1..60), 0..300)
    }

    fn check(rows: &[Vec<u8>], rule: CutRule, max: usize) {
        let slices = slices(rows, rule, max);
        assert_eq!(slices.concat(), rows);
        for slice in &slices {
            assert!(slice.len() <= 1 || row_bytes(slice) + TAIL_BYTES <= max);
            assert!(!slice.is_empty() || rows.is_empty());
        }
    }

    proptest! {
        #[test]
        fn slices_are_the_rows_and_never_too_large(rows in rows(), max in 1usize..400) {
            check(&rows, CutRule::AtMost, max);
            check(&rows, by_content(), max);
        }

        #[test]
        fn slices_at_most_are_as_large_as_can_be(rows in rows(), max in 1usize..400) {
            for pair in slices(&rows, CutRule::AtMost, max).windows(2) {
                prop_assert!(row_bytes(&pair[0]) + pair[1][0].len() + TAIL_BYTES > max);
            }
        }

        #[test]
        fn slices_by_content_are_not_too_small(rows in rows(), max in 40usize..400) {
            for pair in slices(&rows, by_content(), max).windows(2) {
                let grown = row_bytes(&pair[0]) + pair[1][0].len() + TAIL_BYTES;
                prop_assert!(row_bytes(&pair[0]) >= max / 4 || grown > max);
            }
        }

        #[test]
        fn page_ranges_have_no_gap_and_no_overlap(
            start in 0u32..50, end in prop::option::of(0u32..200), table_pages in 0u32..200, slice in 1u32..20,
        ) {
            let region = PageRange { start, end };
            let ranges: Vec<_> = page_ranges(region, table_pages, slice).collect();
            if end.is_some_and(|end| end <= start) {
                prop_assert!(ranges.is_empty());
            } else {
                prop_assert_eq!(ranges[0].start, start);
                prop_assert_eq!(ranges.last().unwrap().end, end);
            }
            for pair in ranges.windows(2) {
                prop_assert_eq!(pair[0].end, Some(pair[1].start));
                prop_assert_eq!(pair[1].start % slice, 0);
            }
            for range in &ranges {
                prop_assert!(range.end.is_none_or(|end| range.start < end && end - range.start <= slice));
            }
        }

        #[test]
        fn regions_have_the_slices_of_the_whole_table(cut in 0u32..30, table_pages in 0u32..200, slice in 1u32..20) {
            let whole: Vec<_> = page_ranges(PageRange { start: 0, end: None }, table_pages, slice).collect();
            let cut = cut * slice;
            prop_assume!(cut < table_pages);
            let first = page_ranges(PageRange { start: 0, end: Some(cut) }, table_pages, slice);
            let second = page_ranges(PageRange { start: cut, end: None }, table_pages, slice);
            prop_assert_eq!(first.chain(second).collect::<Vec<_>>(), whole);
        }

        #[test]
        fn growing_moves_no_cut(table_pages in 0u32..200, more in 0u32..50, slice in 1u32..20) {
            let ranges = |pages| page_ranges(PageRange { start: 0, end: None }, pages, slice).collect::<Vec<_>>();
            let (before, after) = (ranges(table_pages), ranges(table_pages + more));
            prop_assert!(after.starts_with(&before[..before.len() - 1]));
        }
    }

    proptest! {
        // Each case slices 20,000 rows twice.
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn cuts_by_content_are_the_same_again_after_an_insertion(
            seed in any::<u64>(), at in 0usize..500, inserted in vec(vec(any::<u8>(), 1..60), 1..4),
        ) {
            let before = many_rows(seed, 20_000);
            let mut after = before.clone();
            after.splice(at..at, inserted);
            let (old, new) = (slices(&before, by_content(), 2000), slices(&after, by_content(), 2000));
            let same = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
            // About 600 slices, of which 15 lie before the place of the insertion.
            prop_assert!(same > old.len() * 8 / 10, "{same} of {}", old.len());
        }
    }

    /// Rows of 10 to 49 bytes from a small generator, so that a failing seed can be run again.
    fn many_rows(seed: u64, count: usize) -> Vec<Vec<u8>> {
        let mut state = seed;
        let mut next = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33).to_le_bytes()
        };
        let mut row = || {
            let length = 10 + usize::from(next()[0]) % 40;
            std::iter::repeat_with(&mut next).flatten().take(length).collect()
        };
        (0..count).map(|_| row()).collect()
    }

    #[test]
    fn slices_by_content_are_half_of_the_largest_on_average() {
        let rows = many_rows(1, 100_000);
        let slices = slices(&rows, by_content(), 8000);
        let average = rows.iter().map(Vec::len).sum::<usize>() / slices.len();
        assert!((3200..=4800).contains(&average), "{average}");
    }

    #[test]
    fn row_larger_than_the_limit_stands_alone() {
        for rule in [CutRule::AtMost, by_content()] {
            let rows = [vec![1; 10], vec![2; 500], vec![3; 10], vec![4; 10]];
            let lengths: Vec<_> = slices(&rows, rule, 100).iter().map(Vec::len).collect();
            assert_eq!(lengths, [1, 1, 2]);
        }
    }

    #[test]
    fn slices_double_for_very_large_tables_only() {
        assert_eq!(slice_pages(0), 1024);
        assert_eq!(slice_pages(64 << 20), 1024);
        assert_eq!(slice_pages((64 << 20) + 1), 2048);
        assert_eq!(slice_pages(u32::MAX), 65_536);
        assert_eq!(slice_bytes_max(1024), 16 << 20);
        assert_eq!(slice_bytes_max(2048), 32 << 20);
    }

    #[test]
    fn size_of_slice_is_kept_within_a_factor_of_two() {
        let limit = 64 << 20;
        assert_eq!(slice_pages_kept(limit + 1, Some(1024)), 1024);
        assert_eq!(slice_pages_kept(limit, Some(2048)), 2048);
        assert_eq!(slice_pages_kept(4 * limit, Some(1024)), 4096);
        assert_eq!(slice_pages_kept(limit, Some(4096)), 1024);
        for foreign in [None, Some(0), Some(512), Some(1500)] {
            assert_eq!(slice_pages_kept(limit, foreign), 1024, "{foreign:?}");
        }
    }

    #[test]
    fn last_pages_of_the_largest_table_are_read() {
        let ranges = page_ranges(PageRange { start: u32::MAX - 5, end: None }, u32::MAX, 65_536);
        assert_eq!(ranges.collect::<Vec<_>>(), [PageRange { start: u32::MAX - 5, end: None }]);
    }
}
