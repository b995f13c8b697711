//! Which entries of an archive a partial restore takes: what was asked for, what that needs, and what belongs to it.
//!
//! `pg_restore --table` takes a table without its indexes, keys, sequences or types, which is seldom what is wanted. Here the
//! archive's own dependencies decide. What was asked for comes with everything it needs (schemas, types, functions; of another
//! table that it needs, the definition without rows) and with everything that belongs to it alone (rows, indexes, keys, triggers,
//! sequences, rights). A foreign key to a table that is not restored is left out, and told.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    str::FromStr,
};

use stonekeep_format::archive::{Archive, Entry};

use crate::sql::take_identifier;

/// A name as given by a person: `name`, `schema.name`, or with parts in double quotes as SQL has them. What is not quoted is
/// taken as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectName {
    schema: Option<Vec<u8>>,
    name: Vec<u8>,
}

/// The text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("give NAME or SCHEMA.NAME, a part in double quotes if it holds a dot or a quote")]
pub struct NoName;

impl FromStr for ObjectName {
    type Err = NoName;
    fn from_str(text: &str) -> Result<Self, NoName> {
        let (first, rest) = part(text)?;
        let Some(rest) = rest.strip_prefix('.') else {
            return if rest.is_empty() {
                Ok(Self { schema: None, name: first })
            } else {
                Err(NoName)
            };
        };
        match part(rest)? {
            (name, "") => Ok(Self { schema: Some(first), name }),
            _ => Err(NoName),
        }
    }
}

fn part(text: &str) -> Result<(Vec<u8>, &str), NoName> {
    if text.starts_with('"') {
        let (name, rest) = take_identifier(text.as_bytes()).ok_or(NoName)?;
        let taken = text.len() - rest.len();
        return Ok((name, &text[taken..]));
    }
    let end = text.find('.').unwrap_or(text.len());
    if end == 0 { Err(NoName) } else { Ok((text.as_bytes()[..end].to_vec(), &text[end..])) }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            write!(f, "{}.", String::from_utf8_lossy(schema))?;
        }
        f.write_str(&String::from_utf8_lossy(&self.name))
    }
}

impl ObjectName {
    fn is(&self, entry: &Entry) -> bool {
        entry.tag.as_deref() == Some(&self.name)
            && self
                .schema
                .as_deref()
                .is_none_or(|schema| entry.namespace.as_deref() == Some(schema))
    }
}

/// What of a snapshot is restored. The default is everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// These tables (also views, materialized views, sequences, foreign tables); if neither tables nor schemas are named: all.
    pub tables: Vec<ObjectName>,
    /// Everything in these schemas.
    pub schemas: Vec<String>,
    /// Not these tables, nor what cannot be without them.
    pub exclude_tables: Vec<ObjectName>,
    /// Nothing in these schemas, nor what cannot be without it.
    pub exclude_schemas: Vec<String>,
    /// No rows, no large objects, no values of sequences.
    pub schema_only: bool,
    /// Nothing but rows, large objects and values of sequences, into tables that are there.
    pub data_only: bool,
}

/// Something that was named is not in the snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the snapshot has no {kind} {name}")]
pub struct NotThere {
    /// `table` or `schema`.
    pub kind: &'static str,
    /// The name as it was given.
    pub name: String,
}

/// A part of an archive.
#[derive(Debug, Clone)]
pub struct Selected {
    /// The archive with the entries that are restored, in their order.
    pub archive: Archive,
    /// Tables whose definition comes along without rows, since something needs it.
    pub without_rows: Vec<String>,
    /// What belongs to what was asked for and cannot be restored without more: foreign keys, rules, views.
    pub left_out: Vec<String>,
}

impl Selection {
    /// Whether everything is restored.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Applies it.
    ///
    /// # Errors
    /// [`NotThere`].
    pub fn of(&self, archive: &Archive) -> Result<Selected, NotThere> {
        let graph = Graph::new(archive);
        let excluded = self.excluded(&graph)?;
        let named = !(self.tables.is_empty() && self.schemas.is_empty());
        let (chosen, without_rows, mut left_out) = if named {
            self.chosen(&graph)?
        } else {
            ((0..archive.entries.len()).collect(), Vec::new(), Vec::new())
        };
        let needless = |at: usize| {
            let entry = &archive.entries[at];
            let is_content = is_content(entry);
            (self.schema_only && is_content)
                || (self.data_only && !(is_content || is_setting(entry)))
        };
        let named_out = |entry: &Entry| self.exclude_tables.iter().any(|name| name.is(entry));
        left_out.extend(
            chosen
                .intersection(&excluded)
                .map(|at| &archive.entries[*at])
                .filter(|entry| is_told(entry) && !named_out(entry) && !self.in_excluded(entry))
                .map(display),
        );
        let kept = chosen.difference(&excluded).filter(|at| !needless(**at));
        let entries = kept.map(|at| archive.entries[*at].clone()).collect();
        let archive = Archive { entries, ..archive.clone() };
        if self.data_only {
            // Definitions are the target's own.
            return Ok(Selected { archive, without_rows: Vec::new(), left_out: Vec::new() });
        }
        Ok(Selected { archive, without_rows, left_out })
    }

    fn in_excluded(&self, entry: &Entry) -> bool {
        self.exclude_schemas.iter().any(|schema| is_in_schema(entry, schema))
    }

    /// What was asked for, what it needs, and what belongs to it.
    fn chosen(&self, graph: &Graph<'_>) -> Result<Chosen, NotThere> {
        let mut roots = graph.find(&self.tables, &self.schemas)?;
        graph.add_partitions(&mut roots);
        let mut chosen = graph.needed_by(roots.iter().copied());
        chosen.extend(graph.entries().filter(|(_, entry)| is_always(entry)).map(|(at, _)| at));
        let without_rows = chosen
            .difference(&roots)
            .map(|at| &graph.archive.entries[*at])
            .filter(|entry| desc(entry) == b"TABLE")
            .map(display)
            .collect();
        let left_out = graph.add_members(&roots, &mut chosen);
        Ok((chosen, without_rows, left_out))
    }

    fn excluded(&self, graph: &Graph<'_>) -> Result<BTreeSet<usize>, NotThere> {
        let found = graph.find(&self.exclude_tables, &self.exclude_schemas)?;
        Ok(graph.needing(found))
    }
}

/// The entries, the tables without rows, and what was left out.
type Chosen = (BTreeSet<usize>, Vec<String>, Vec<String>);

/// An archive's entries by their places, and what depends on what.
struct Graph<'a> {
    archive: &'a Archive,
    places: HashMap<i32, usize>,
}

impl<'a> Graph<'a> {
    fn new(archive: &'a Archive) -> Self {
        let ids = archive.entries.iter().enumerate();
        Self { archive, places: ids.map(|(at, entry)| (entry.dump_id, at)).collect() }
    }

    fn entries(&self) -> impl Iterator<Item = (usize, &'a Entry)> {
        self.archive.entries.iter().enumerate()
    }

    fn needs(&self, at: usize) -> impl Iterator<Item = usize> {
        let ids = self.archive.entries[at].dependencies.iter();
        ids.filter_map(|id| self.places.get(id).copied())
    }

    /// Finds relations by name and everything in schemas, but for what belongs to a relation.
    fn find(&self, tables: &[ObjectName], schemas: &[String]) -> Result<BTreeSet<usize>, NotThere> {
        let mut found = BTreeSet::new();
        for name in tables {
            let of_name = self.entries().filter(|(_, entry)| is_relation(entry) && name.is(entry));
            let of_name: Vec<usize> = of_name.map(|(at, _)| at).collect();
            if of_name.is_empty() {
                return Err(NotThere { kind: "table", name: name.to_string() });
            }
            found.extend(of_name);
        }
        for schema in schemas {
            let within = |entry: &Entry| {
                is_in_schema(entry, schema) && (is_relation(entry) || !is_member(entry))
            };
            let within = self.entries().filter(|(_, entry)| within(entry));
            let within: Vec<usize> = within.map(|(at, _)| at).collect();
            if within.is_empty() {
                return Err(NotThere { kind: "schema", name: schema.clone() });
            }
            found.extend(within);
        }
        Ok(found)
    }

    /// A partitioned table comes with its partitions, which hold its rows.
    fn add_partitions(&self, roots: &mut BTreeSet<usize>) {
        loop {
            let attached = self.entries().filter(|(at, entry)| {
                desc(entry) == b"TABLE ATTACH" && self.needs(*at).any(|need| roots.contains(&need))
            });
            let parts: Vec<usize> = attached
                .flat_map(|(at, attach)| {
                    // It depends on both; the partition bears its name.
                    let is_part = move |part: &usize| {
                        let part = &self.archive.entries[*part];
                        part.tag == attach.tag && part.namespace == attach.namespace
                    };
                    self.needs(at).filter(is_part).collect::<Vec<_>>()
                })
                .filter(|at| !roots.contains(at))
                .collect();
            if parts.is_empty() {
                return;
            }
            roots.extend(parts);
        }
    }

    /// Everything that these need, themselves included.
    fn needed_by(&self, of: impl Iterator<Item = usize>) -> BTreeSet<usize> {
        let mut needed = BTreeSet::new();
        let mut left: Vec<usize> = of.collect();
        while let Some(at) = left.pop() {
            if needed.insert(at) {
                left.extend(self.needs(at));
            }
        }
        needed
    }

    /// Everything that needs one of these, themselves included.
    fn needing(&self, mut found: BTreeSet<usize>) -> BTreeSet<usize> {
        loop {
            let more: Vec<usize> = self
                .entries()
                .map(|(at, _)| at)
                .filter(|at| {
                    !found.contains(at) && self.needs(*at).any(|need| found.contains(&need))
                })
                .collect();
            if found.is_empty() || more.is_empty() {
                return found;
            }
            found.extend(more);
        }
    }

    /// Adds what belongs to what is chosen already and needs no other relation. Returns what would.
    fn add_members(&self, roots: &BTreeSet<usize>, chosen: &mut BTreeSet<usize>) -> Vec<String> {
        let mut left_out = BTreeSet::new();
        loop {
            let before = chosen.len();
            for (at, entry) in self.entries().filter(|(_, entry)| is_member(entry)) {
                let of_root = self.needs(at).any(|need| roots.contains(&need));
                let belongs = match desc(entry) {
                    // The definition of another table comes without its rows.
                    b"TABLE DATA" | b"MATERIALIZED VIEW DATA" => of_root,
                    _ => self.needs(at).any(|need| chosen.contains(&need)),
                };
                if chosen.contains(&at) || !belongs {
                    continue;
                }
                let needed = self.needed_by(std::iter::once(at));
                let is_relation =
                    |need: &&usize| is_relation_of_rows(&self.archive.entries[**need]);
                let is_foreign = needed.difference(chosen).any(|need| is_relation(&need));
                // A key to a table that comes without its rows would be broken by every row.
                let is_broken = desc(entry) == b"FK CONSTRAINT"
                    && needed.iter().filter(is_relation).any(|need| !roots.contains(need));
                if is_foreign || is_broken {
                    if of_root && is_told(entry) {
                        left_out.insert(display(entry));
                    }
                } else {
                    chosen.extend(needed);
                }
            }
            if chosen.len() == before {
                return left_out.into_iter().collect();
            }
        }
    }
}

fn desc(entry: &Entry) -> &[u8] {
    entry.desc.as_deref().unwrap_or_default()
}

/// `FK CONSTRAINT shop.orders orders_customer_fkey`.
fn display(entry: &Entry) -> String {
    let text = |bytes: &Option<Vec<u8>>| {
        String::from_utf8_lossy(bytes.as_deref().unwrap_or_default()).into_owned()
    };
    let schema = text(&entry.namespace);
    let dot = if schema.is_empty() { "" } else { "." };
    let kind = String::from_utf8_lossy(desc(entry)).to_lowercase();
    format!("{kind} {schema}{dot}{}", text(&entry.tag))
}

/// What a person can name as a table.
fn is_relation(entry: &Entry) -> bool {
    is_relation_of_rows(entry) || desc(entry) == b"SEQUENCE"
}

fn is_relation_of_rows(entry: &Entry) -> bool {
    matches!(desc(entry), b"TABLE" | b"FOREIGN TABLE" | b"VIEW" | b"MATERIALIZED VIEW")
}

fn is_in_schema(entry: &Entry, schema: &str) -> bool {
    let schema = schema.as_bytes();
    entry.namespace.as_deref() == Some(schema)
        || (desc(entry) == b"SCHEMA" && entry.tag.as_deref() == Some(schema))
}

/// What is an archive's own, or the database's.
fn is_always(entry: &Entry) -> bool {
    is_setting(entry) || matches!(desc(entry), b"DATABASE" | b"DATABASE PROPERTIES")
}

fn is_setting(entry: &Entry) -> bool {
    matches!(desc(entry), b"ENCODING" | b"STDSTRINGS" | b"SEARCHPATH")
}

/// What belongs to something else and comes along with it.
fn is_member(entry: &Entry) -> bool {
    matches!(
        desc(entry),
        b"TABLE DATA"
            | b"TABLE ATTACH"
            | b"DEFAULT"
            | b"SEQUENCE"
            | b"SEQUENCE OWNED BY"
            | b"SEQUENCE SET"
            | b"CONSTRAINT"
            | b"CHECK CONSTRAINT"
            | b"FK CONSTRAINT"
            | b"INDEX"
            | b"INDEX ATTACH"
            | b"TRIGGER"
            | b"RULE"
            | b"POLICY"
            | b"ROW SECURITY"
            | b"STATISTICS"
            | b"STATISTICS DATA"
            | b"COMMENT"
            | b"ACL"
            | b"SECURITY LABEL"
            | b"MATERIALIZED VIEW DATA"
    )
}

/// What a person is told of if it is left out.
fn is_told(entry: &Entry) -> bool {
    is_relation(entry)
        || matches!(
            desc(entry),
            b"FK CONSTRAINT" | b"RULE" | b"TRIGGER" | b"POLICY" | b"FUNCTION" | b"PROCEDURE"
        )
}

/// Rows, large objects, and values that stand for rows.
fn is_content(entry: &Entry) -> bool {
    entry.is_table_data()
        || entry.is_large_objects()
        || matches!(
            desc(entry),
            b"SEQUENCE SET"
                | b"MATERIALIZED VIEW DATA"
                | b"STATISTICS DATA"
                | b"BLOB"
                | b"BLOB METADATA"
        )
        || (matches!(desc(entry), b"ACL" | b"COMMENT" | b"SECURITY LABEL")
            && entry.tag.as_deref().is_some_and(|tag| tag.starts_with(b"LARGE OBJECT")))
}

#[cfg(test)]
mod tests {
    use stonekeep_format::archive::Section;

    use super::*;
    use crate::load::list::tests::{archive, entry};

    /// Two tables with what belongs to them, a foreign key between them, a partitioned table, a view over both.
    fn shop() -> Archive {
        let e = |id, desc: &str, section, needs: &[i32], schema: &str, tag: &str| {
            let mut entry = entry(id, desc, section, needs);
            entry.namespace = (!schema.is_empty()).then(|| schema.into());
            entry.tag = Some(tag.into());
            entry
        };
        use Section::{Data, PostData, PreData};
        archive(vec![
            e(1, "ENCODING", PreData, &[], "", "ENCODING"),
            e(2, "SCHEMA", PreData, &[], "", "shop"),
            e(3, "TYPE", PreData, &[2], "shop", "mood"),
            e(4, "TABLE", PreData, &[2], "shop", "customers"),
            e(5, "TABLE", PreData, &[2, 3], "shop", "orders"),
            e(6, "SEQUENCE", PreData, &[5], "shop", "orders_id_seq"),
            e(7, "VIEW", PreData, &[4, 5], "shop", "both"),
            e(8, "TABLE", PreData, &[], "public", "log"),
            e(9, "TABLE", PreData, &[8], "public", "log_2026"),
            e(10, "TABLE ATTACH", PreData, &[9, 8], "public", "log_2026"),
            e(11, "DEFAULT", PreData, &[6, 5], "shop", "orders id"),
            e(20, "TABLE DATA", Data, &[4], "shop", "customers"),
            e(21, "TABLE DATA", Data, &[5], "shop", "orders"),
            e(22, "TABLE DATA", Data, &[9], "public", "log_2026"),
            e(23, "SEQUENCE SET", Data, &[6], "shop", "orders_id_seq"),
            e(24, "BLOBS", Data, &[], "", "BLOBS"),
            e(30, "CONSTRAINT", PostData, &[4], "shop", "customers customers_pkey"),
            e(31, "INDEX", PostData, &[5], "shop", "orders_at"),
            e(32, "FK CONSTRAINT", PostData, &[5, 4, 30], "shop", "orders orders_customer_fkey"),
            e(33, "COMMENT", PreData, &[2], "", "SCHEMA shop"),
        ])
    }

    fn ids(selected: &Selected) -> Vec<i32> {
        selected.archive.entries.iter().map(|entry| entry.dump_id).collect()
    }

    fn tables(names: &[&str]) -> Vec<ObjectName> {
        names.iter().map(|name| name.parse().expect("a name")).collect()
    }

    #[test]
    fn a_table_comes_with_what_it_needs_and_what_is_its_own() {
        let selection = Selection { tables: tables(&["orders"]), ..Selection::default() };
        let selected = selection.of(&shop()).expect("there");
        assert_eq!(ids(&selected), [1, 2, 3, 5, 6, 11, 21, 23, 31, 33]);
        assert_eq!(selected.left_out, ["fk constraint shop.orders orders_customer_fkey"]);
        let both = Selection { tables: tables(&["shop.orders", "customers"]), ..selection };
        let selected = both.of(&shop()).expect("there");
        assert!(ids(&selected).contains(&32) && selected.left_out.is_empty());
    }

    #[test]
    fn a_partitioned_table_comes_with_its_partitions_and_a_partition_with_an_empty_parent() {
        let of = |name: &str| Selection { tables: tables(&[name]), ..Selection::default() };
        assert_eq!(ids(&of("log").of(&shop()).expect("there")), [1, 8, 9, 10, 22]);
        let selected = of("log_2026").of(&shop()).expect("there");
        assert_eq!(ids(&selected), [1, 8, 9, 10, 22]);
        assert_eq!(selected.without_rows, ["table public.log"]);
    }

    #[test]
    fn a_key_to_a_table_without_rows_is_left_out() {
        let selection =
            Selection { tables: tables(&["orders", "shop.both"]), ..Selection::default() };
        let selected = selection.of(&shop()).expect("there");
        assert_eq!(selected.without_rows, ["table shop.customers"]);
        assert!(!ids(&selected).contains(&32));
        assert_eq!(selected.left_out, ["fk constraint shop.orders orders_customer_fkey"]);
    }

    #[test]
    fn a_schema_comes_whole_and_without_the_others() {
        let selection = Selection { schemas: vec!["shop".into()], ..Selection::default() };
        let selected = selection.of(&shop()).expect("there");
        assert_eq!(ids(&selected), [1, 2, 3, 4, 5, 6, 7, 11, 20, 21, 23, 30, 31, 32, 33]);
    }

    #[test]
    fn what_needs_an_excluded_table_goes_with_it_and_is_told() {
        let selection =
            Selection { exclude_tables: tables(&["shop.customers"]), ..Selection::default() };
        let selected = selection.of(&shop()).expect("there");
        let gone = [4, 7, 20, 30, 32];
        assert!(gone.iter().all(|id| !ids(&selected).contains(id)));
        assert_eq!(ids(&selected).len(), shop().entries.len() - gone.len());
        assert_eq!(
            selected.left_out,
            ["view shop.both", "fk constraint shop.orders orders_customer_fkey"]
        );
    }

    #[test]
    fn a_schema_alone_has_no_rows_no_values_and_no_large_objects() {
        let selection = Selection { schema_only: true, ..Selection::default() };
        let ids = ids(&selection.of(&shop()).expect("there"));
        assert!([20, 21, 22, 23, 24].iter().all(|id| !ids.contains(id)));
        assert_eq!(ids.len(), shop().entries.len() - 5);
    }

    #[test]
    fn rows_alone_come_without_any_definition() {
        let selection = Selection { data_only: true, ..Selection::default() };
        assert_eq!(ids(&selection.of(&shop()).expect("there")), [1, 20, 21, 22, 23, 24]);
        let orders = Selection { tables: tables(&["orders"]), ..selection };
        let selected = orders.of(&shop()).expect("there");
        assert_eq!(ids(&selected), [1, 21, 23]);
        assert!(selected.left_out.is_empty());
    }

    #[test]
    fn what_is_not_there_is_told() {
        let selection = Selection { tables: tables(&["shop.nothing"]), ..Selection::default() };
        let error = selection.of(&shop()).expect_err("not there").to_string();
        assert_eq!(error, "the snapshot has no table shop.nothing");
        let selection = Selection { schemas: vec!["nowhere".into()], ..Selection::default() };
        assert!(selection.of(&shop()).is_err());
    }

    #[test]
    fn names_are_read_as_sql_has_them() {
        let name = |text: &str| text.parse::<ObjectName>().map(|name| name.to_string());
        assert_eq!(name("Orders").as_deref(), Ok("Orders"));
        assert_eq!(name("shop.\"a.b\"\"c\"").as_deref(), Ok("shop.a.b\"c"));
        for bad in ["", ".a", "a.", "a.b.c", "\"a"] {
            assert_eq!(name(bad), Err(NoName), "{bad}");
        }
    }
}
