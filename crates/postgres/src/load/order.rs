//! The columns of one partition in the order of another: partitions of one table may have been tables of their own.

use crate::sql::take_identifier;

/// How a row's fields are put into another order. Never the order that they are in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnOrder {
    /// For each field of the new order its place in the old one.
    from: Vec<usize>,
}

impl ColumnOrder {
    /// Returns how rows with the columns `have`, a list as COPY takes it, become rows with the columns `want`. None if both
    /// have one order, or not the same columns.
    pub(crate) fn between(have: &[u8], want: &[u8]) -> Option<Self> {
        let (have, want) = (names(have)?, names(want)?);
        let place = |name: &Vec<u8>| have.iter().position(|each| each == name);
        let from = want.iter().map(place).collect::<Option<Vec<_>>>()?;
        let all = from.len() == have.len();
        (all && !from.is_sorted()).then_some(Self { from })
    }

    /// Writes `line`, a row in COPY's text format with its newline, into `out` in the new order, in place of what is there.
    /// A line with too few fields keeps those that it has, so that it equals no row that it should not.
    ///
    /// A tab parts fields and nothing else: within a value COPY writes `\t`, and no encoding of a server has a character of
    /// several bytes with a tab in it.
    pub fn apply(&self, line: &[u8], out: &mut Vec<u8>) {
        out.clear();
        let row = line.strip_suffix(b"\n").unwrap_or(line);
        let fields: Vec<&[u8]> = row.split(|byte| *byte == b'\t').collect();
        for (nth, at) in self.from.iter().enumerate() {
            if nth > 0 {
                out.push(b'\t');
            }
            out.extend_from_slice(fields.get(*at).copied().unwrap_or_default());
        }
        out.push(b'\n');
    }
}

/// The names in `(a, "b, c")`, unquoted. None for what is no such list.
fn names(list: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut rest = list.strip_prefix(b"(")?;
    let mut names = Vec::new();
    loop {
        let (name, after) = take_identifier(rest.trim_ascii_start())?;
        names.push(name);
        match after.trim_ascii_start() {
            b")" => return Some(names),
            after => rest = after.strip_prefix(b",")?,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(names: &[usize]) -> Vec<u8> {
        let names: Vec<String> = names.iter().map(|name| format!("\"c, \"\"{name})\"")).collect();
        format!("({})", names.join(", ")).into_bytes()
    }

    fn row(fields: &[usize]) -> Vec<u8> {
        let fields: Vec<String> = fields.iter().map(|field| format!("v\\t{field}")).collect();
        format!("{}\n", fields.join("\t")).into_bytes()
    }

    proptest! {
        #[test]
        fn every_field_follows_its_column(
            want in Just((0..7_usize).collect::<Vec<_>>()).prop_shuffle(),
            have in Just((0..7_usize).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let order = ColumnOrder::between(&list(&have), &list(&want));
            prop_assert_eq!(order.is_none(), have == want);
            let mut out = b"left over".to_vec();
            if let Some(order) = order {
                order.apply(&row(&have), &mut out);
                prop_assert_eq!(out, row(&want));
            }
        }
    }

    #[test]
    fn other_columns_are_no_other_order() {
        for (have, want) in
            [("(a, b)", "(a, c)"), ("(a)", "(b, a)"), ("(b, a)", "(a)"), ("", ""), ("(a", "(a)")]
        {
            assert_eq!(ColumnOrder::between(have.as_bytes(), want.as_bytes()), None, "{have}");
        }
    }

    #[test]
    fn a_line_too_short_is_cut_short_and_empty_values_stay() {
        let order = ColumnOrder::between(b"(a, b, c)", b"(c, a, b)").expect("an order");
        let mut out = Vec::new();
        order.apply(b"1\t\t\\N\n", &mut out);
        assert_eq!(out, b"\\N\t1\t\n");
        order.apply(b"1\n", &mut out);
        assert_eq!(out, b"\t1\t\n");
    }
}
