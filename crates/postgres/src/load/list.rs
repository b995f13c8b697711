//! Which entry of an archive is restored when: the lists for pg_restore's three passes.
//!
//! One run of pg_restore would grant and revoke before the rows are there when it is cut by `--section`, and an owner who
//! revoked his own right to insert could not be loaded. So the cut is made here, entry by entry: the schema without rights;
//! then the rows, which we load ourselves; then sequences; then everything else and all rights. Every entry of an archive is
//! in exactly one step.

use std::collections::{HashMap, HashSet};

use stonekeep_format::archive::{Archive, Entry, Section};

/// When an entry is restored. In the order of time, so that the later of two is their maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// By nobody as an entry: pg_restore takes ENCODING, STDSTRINGS and SEARCHPATH as settings of each of its runs.
    Setting,
    /// By [`crate::target::apply_database_properties`]: pg_restore writes these only to a database of the original name.
    Database,
    /// [`Pass::Schema`].
    Schema,
    /// By us: rows of tables, large objects and their contents.
    Content,
    /// [`Pass::AfterData`].
    AfterData,
    /// [`Pass::Rest`].
    Rest,
}

/// A run of pg_restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pass {
    /// Schemas, types, functions, tables: all that rows need, and no rights.
    Schema,
    /// What belongs to the data and is not rows: the values of sequences.
    AfterData,
    /// Indexes, constraints, triggers, policies, rights, materialized views' contents, event triggers.
    Rest,
}

impl Pass {
    const fn step(self) -> Step {
        match self {
            Self::Schema => Step::Schema,
            Self::AfterData => Step::AfterData,
            Self::Rest => Step::Rest,
        }
    }

    /// Returns a word for messages and file names.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Schema => "schema",
            Self::AfterData => "sequences",
            Self::Rest => "rest",
        }
    }
}

/// Returns the step of each entry, in the order of the archive.
#[must_use]
pub fn steps(archive: &Archive) -> Vec<Step> {
    let sure: Vec<Option<Step>> = archive.entries.iter().map(own_step).collect();
    let by_id: HashMap<i32, Step> = archive
        .entries
        .iter()
        .zip(&sure)
        .filter_map(|(entry, step)| Some((entry.dump_id, (*step)?)))
        .collect();
    let mut nearest = Step::Schema;
    let mut steps = Vec::with_capacity(sure.len());
    for (entry, step) in archive.entries.iter().zip(sure) {
        let step = step.unwrap_or_else(|| follow(entry, &by_id, nearest));
        if step >= Step::Schema && step != Step::Content {
            nearest = step;
        }
        steps.push(step);
    }
    steps
}

/// Returns the step of an entry that is sure by itself; none for a comment or label, which follows its object.
fn own_step(entry: &Entry) -> Option<Step> {
    let makes_objects = matches!(entry.desc.as_deref(), Some(b"BLOB" | b"BLOB METADATA"));
    if entry.is_table_data() || entry.is_large_objects() || makes_objects {
        return Some(Step::Content);
    }
    let tag = entry.tag.as_deref().unwrap_or_default();
    match entry.desc.as_deref().unwrap_or_default() {
        b"ENCODING" | b"STDSTRINGS" | b"SEARCHPATH" => Some(Step::Setting),
        b"DATABASE" | b"DATABASE PROPERTIES" => Some(Step::Database),
        b"COMMENT" | b"ACL" | b"SECURITY LABEL" if tag.starts_with(b"DATABASE ") => {
            Some(Step::Database)
        }
        // pg_restore sorts its own special passes by these names, too: rights, then what needs them.
        b"ACL"
        | b"ACL LANGUAGE"
        | b"DEFAULT ACL"
        | b"EVENT TRIGGER"
        | b"MATERIALIZED VIEW DATA" => Some(Step::Rest),
        _ => match entry.section {
            Section::PreData => Some(Step::Schema),
            Section::Data => Some(Step::AfterData),
            Section::PostData => Some(Step::Rest),
            _ => None,
        },
    }
}

/// The latest step of what the entry depends on; without dependencies that of the entry before it.
fn follow(entry: &Entry, by_id: &HashMap<i32, Step>, nearest: Step) -> Step {
    let latest = entry.dependencies.iter().filter_map(|id| by_id.get(id)).max().copied();
    match latest.unwrap_or(nearest) {
        Step::Content => Step::AfterData,
        Step::Setting | Step::Database => Step::Schema,
        step => step,
    }
}

/// Returns the list file of a pass, as `pg_restore -L` reads it: one line for each entry, in the archive's order. Empty if
/// the pass has nothing to do.
#[must_use]
pub fn pass_list(archive: &Archive, pass: Pass) -> String {
    let wanted = steps(archive).into_iter().map(|step| step == pass.step());
    let ids = archive
        .entries
        .iter()
        .zip(wanted)
        .filter_map(|(entry, wanted)| wanted.then_some(entry.dump_id));
    ids.map(|id| format!("{id};\n")).collect()
}

/// Returns, of the entries of rows that must wait, the dump ids of the rows that must be in before.
///
/// Only configuration tables of extensions wait: their foreign keys exist before the rows. All other tables may be loaded
/// in any order.
#[must_use]
pub fn load_order(archive: &Archive) -> HashMap<i32, Vec<i32>> {
    let rows = || archive.entries.iter().filter(|entry| entry.is_table_data());
    let ids: HashSet<i32> = rows().map(|entry| entry.dump_id).collect();
    let waits = |entry: &Entry| -> Vec<i32> {
        entry
            .dependencies
            .iter()
            .filter(|id| **id != entry.dump_id && ids.contains(id))
            .copied()
            .collect()
    };
    rows()
        .map(|entry| (entry.dump_id, waits(entry)))
        .filter(|(_, before)| !before.is_empty())
        .collect()
}

/// Returns the encoding of the archive's names and rows, as PostgreSQL spells it; `UTF8` if the archive does not say.
#[must_use]
pub fn archive_encoding(archive: &Archive) -> String {
    let entry = archive.entries.iter().find(|entry| entry.desc.as_deref() == Some(b"ENCODING"));
    let defn = entry.and_then(|entry| entry.defn.as_deref()).unwrap_or_default();
    let name = defn.split(|byte| *byte == b'\'').nth(1).unwrap_or(b"UTF8");
    let plain = name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if plain && !name.is_empty() {
        String::from_utf8_lossy(name).into_owned()
    } else {
        "UTF8".to_owned()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use stonekeep_format::archive::{ArchiveVersion, Compression, Header};

    use super::*;

    pub(in crate::load) fn entry(
        dump_id: i32,
        desc: &str,
        section: Section,
        dependencies: &[i32],
    ) -> Entry {
        Entry {
            dump_id,
            had_dumper: matches!(desc, "TABLE DATA" | "BLOBS"),
            table_oid: 0,
            oid: 0,
            tag: Some(b"t".to_vec()),
            desc: Some(desc.as_bytes().to_vec()),
            section,
            defn: None,
            drop_stmt: None,
            copy_stmt: None,
            namespace: None,
            tablespace: None,
            table_am: None,
            relkind: None,
            owner: None,
            with_oids: None,
            dependencies: dependencies.to_vec(),
            file_name: None,
        }
    }

    pub(in crate::load) fn archive(entries: Vec<Entry>) -> Archive {
        let header = Header {
            version: ArchiveVersion { major: 1, minor: 14, revision: 0 },
            int_bytes: 4,
            offset_bytes: 8,
            compression: Compression::Level(0),
            created: [0; 7],
            database: None,
            server_version: None,
            dump_version: None,
        };
        Archive { header, entries }
    }

    #[test]
    fn comments_follow_their_object_and_rights_come_last() {
        let archive = archive(vec![
            entry(1, "ENCODING", Section::PreData, &[]),
            entry(2, "TABLE", Section::PreData, &[]),
            entry(3, "ACL", Section::None, &[2]),
            entry(4, "COMMENT", Section::None, &[2]),
            entry(5, "BLOB METADATA", Section::Data, &[]),
            entry(6, "COMMENT", Section::None, &[5]),
            entry(7, "TABLE DATA", Section::Data, &[2]),
            entry(8, "BLOBS", Section::Data, &[5]),
            entry(9, "SEQUENCE SET", Section::Data, &[]),
            entry(10, "INDEX", Section::PostData, &[2]),
            entry(11, "COMMENT", Section::None, &[10]),
            entry(12, "MATERIALIZED VIEW DATA", Section::PostData, &[]),
        ]);
        assert_eq!(pass_list(&archive, Pass::Schema), "2;\n4;\n");
        assert_eq!(pass_list(&archive, Pass::AfterData), "6;\n9;\n");
        assert_eq!(pass_list(&archive, Pass::Rest), "3;\n10;\n11;\n12;\n");
    }

    #[test]
    fn encoding_is_read_from_its_entry() {
        let mut encoding = entry(1, "ENCODING", Section::PreData, &[]);
        encoding.defn = Some(b"SET client_encoding = 'LATIN1';\n".to_vec());
        assert_eq!(archive_encoding(&archive(vec![encoding.clone()])), "LATIN1");
        encoding.defn = Some(b"SET client_encoding = 'x;\"y';\n".to_vec());
        assert_eq!(archive_encoding(&archive(vec![encoding])), "UTF8");
        assert_eq!(archive_encoding(&archive(vec![])), "UTF8");
    }

    const KINDS: [&str; 14] = [
        "TABLE",
        "TABLE DATA",
        "BLOBS",
        "BLOB",
        "BLOB METADATA",
        "ACL",
        "DEFAULT ACL",
        "COMMENT",
        "SEQUENCE SET",
        "INDEX",
        "EVENT TRIGGER",
        "MATERIALIZED VIEW DATA",
        "DATABASE",
        "SOMETHING NEW",
    ];

    proptest! {
        #[test]
        fn every_entry_is_in_exactly_one_step(
            drawn in proptest::collection::vec((0..KINDS.len(), 0..4_u8, proptest::collection::vec(1..60_i32, 0..3)), 0..60)
        ) {
            let section = |n| [Section::None, Section::PreData, Section::Data, Section::PostData][usize::from(n)];
            let entries: Vec<Entry> =
                (1..).zip(&drawn).map(|(id, (kind, part, deps))| entry(id, KINDS[*kind], section(*part), deps)).collect();
            let archive = archive(entries);
            let steps = steps(&archive);
            prop_assert_eq!(steps.len(), archive.entries.len());
            let listed: usize = [Pass::Schema, Pass::AfterData, Pass::Rest]
                .iter().map(|pass| pass_list(&archive, *pass).lines().count()).sum();
            let elsewhere = steps.iter()
                .filter(|step| matches!(step, Step::Setting | Step::Database | Step::Content)).count();
            prop_assert_eq!(listed + elsewhere, archive.entries.len());
        }
    }
}
