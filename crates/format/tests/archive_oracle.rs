//! The archive codec against programs that are not ours: what pg_dump 15 wrote, `pg_restore`, and the crate `libpgdump`.
//!
//! `tests/data/README.md` says how the archives were made. No server is needed. Without an installed `pg_restore` of
//! PostgreSQL 15 the tests fail; they are never skipped.

#![cfg(test)]

use std::{fs, path::Path, process::Command};

use libpgdump::format::{custom, directory};
use stonekeep_format::archive::{
    Archive, ArchiveVersion, Compression, Entry, large_object_member, large_objects_toc_line,
};

const PG_RESTORE: &str = "/usr/lib/postgresql/15/bin/pg_restore";
const BOTH: [&str; 2] = ["shop", "latin"];

fn data(name: &str) -> String {
    format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn bytes(name: &str) -> Vec<u8> {
    fs::read(data(name)).unwrap()
}

fn read_custom(name: &str) -> Archive {
    Archive::read_custom(&mut &bytes(&format!("{name}.custom"))[..]).unwrap()
}

fn written(archive: &Archive) -> Vec<u8> {
    let mut bytes = Vec::new();
    archive.write_directory(&mut bytes).unwrap();
    bytes
}

fn pg_restore(args: &[&str]) -> Vec<u8> {
    let output = Command::new(PG_RESTORE).args(args).output().expect("pg_restore 15 is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A directory archive with our `toc.dat`, and pg_dump's data files under our names.
fn our_directory(name: &str) -> tempfile::TempDir {
    let mut archive = read_custom(name);
    archive.assign_members().unwrap();
    let ours = tempfile::tempdir().unwrap();
    let theirs = data(&format!("{name}.dir"));
    for entry in archive.entries.iter().filter(|entry| entry.is_table_data()) {
        let member = entry.member().unwrap().unwrap();
        let source = format!("{theirs}/{}.dat", entry.dump_id);
        fs::copy(source, ours.path().join(member.as_str())).unwrap();
    }
    for file in fs::read_dir(&theirs).unwrap().map(Result::unwrap) {
        if file.file_name().to_str().unwrap().starts_with("blob") {
            fs::copy(file.path(), ours.path().join(file.file_name())).unwrap();
        }
    }
    fs::write(ours.path().join("toc.dat"), written(&archive)).unwrap();
    ours
}

#[test]
fn directory_of_pg_dump_is_written_again_byte_for_byte() {
    for name in ["shop.dir/toc.dat", "latin.dir/toc.dat", "shop.gz.toc.dat"] {
        let theirs = bytes(name);
        let archive = Archive::read_directory(&mut &theirs[..]).unwrap();
        assert_eq!(written(&archive), theirs, "{name}");
    }
}

#[test]
fn custom_archive_becomes_the_directory_that_pg_dump_would_have_written() {
    for name in BOTH {
        let theirs = bytes(&format!("{name}.dir/toc.dat"));
        let directory = Archive::read_directory(&mut &theirs[..]).unwrap();
        let mut archive = read_custom(name);
        archive.assign_members().unwrap();
        archive.header.created = directory.header.created;
        // pg_dump names a table's file by dump id where we take the oid; all else is the same.
        for entry in archive.entries.iter_mut().filter(|entry| entry.is_table_data()) {
            entry.file_name = Some(format!("{}.dat", entry.dump_id).into_bytes());
        }
        assert_eq!(archive, directory);
        assert_eq!(written(&archive), theirs);
    }
}

#[test]
fn reading_a_custom_archive_stops_before_its_data() {
    for name in BOTH {
        let all = bytes(&format!("{name}.custom"));
        let mut rest = &all[..];
        let archive = Archive::read_custom(&mut rest).unwrap();
        let first = archive.entries.iter().filter(|entry| entry.had_dumper).collect::<Vec<_>>();
        // A block begins with its kind (1: rows) and the dump id of its entry.
        assert_eq!(rest[0], 1);
        assert_eq!(rest[1], 0);
        let dump_id = i32::from_le_bytes(rest[2..6].try_into().unwrap());
        assert!(first.iter().any(|entry| entry.dump_id == dump_id), "{dump_id}");
    }
}

#[test]
fn truncated_custom_archive_is_an_error_at_every_byte() {
    let all = bytes("latin.custom");
    let mut rest = &all[..];
    Archive::read_custom(&mut rest).unwrap();
    for length in 0..all.len() - rest.len() {
        assert!(Archive::read_custom(&mut &all[..length]).is_err(), "{length}");
    }
}

#[test]
fn only_tables_and_large_objects_have_data() {
    let archive = read_custom("shop");
    let with_data = archive.entries.iter().filter(|entry| entry.had_dumper);
    assert!(with_data.clone().all(|entry| entry.is_table_data() || entry.is_large_objects()));
    assert_eq!(with_data.count(), 8);
    let tables = ["fleeting", "plain", "empty", "none", "parted_1", "parted_2"];
    for table in tables {
        let tag = Some(table.as_bytes().to_vec());
        assert!(archive.entries.iter().any(|entry| entry.tag == tag && entry.is_table_data()));
    }
}

#[test]
fn bytes_that_are_not_utf_8_are_kept() {
    let archive = read_custom("latin");
    let table = archive.entries.iter().find(|entry| entry.is_table_data()).unwrap();
    assert_eq!(table.tag.as_deref(), Some(&b"Gr\xf6\xdfe"[..]));
    assert_eq!(
        table.copy_stmt.as_deref(),
        Some(&b"COPY public.\"Gr\xf6\xdfe\" (\"Stra\xdfe\") FROM stdin;\n"[..])
    );
}

#[test]
fn pg_restore_lists_our_directory_as_it_lists_the_custom_archive() {
    for name in BOTH {
        let ours = our_directory(name);
        let list = |path: &str| {
            let text = pg_restore(&["-l", path]);
            let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec);
            lines.filter(|line| !line.starts_with(b";     Format:")).collect::<Vec<_>>()
        };
        assert_eq!(list(ours.path().to_str().unwrap()), list(&data(&format!("{name}.custom"))));
    }
}

#[test]
fn pg_restore_makes_the_same_script_of_our_directory() {
    for name in BOTH {
        let ours = our_directory(name);
        let script = |path: &str| {
            let text = pg_restore(&["-f", "-", path]);
            // \restrict and \unrestrict, at the beginning and the end, carry a random key.
            let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec);
            let random = |line: &[u8]| {
                [&b"\\restrict "[..], b"\\unrestrict "].iter().any(|w| line.starts_with(w))
            };
            lines.filter(|line| !random(line)).collect::<Vec<_>>()
        };
        let ours = script(ours.path().to_str().unwrap());
        assert!(ours.len() > 40);
        assert_eq!(ours, script(&data(&format!("{name}.custom"))), "{name}");
    }
}

#[test]
fn list_of_large_objects_is_written_as_pg_dump_writes_it() {
    let theirs = bytes("shop.dir/blobs.toc");
    let oids = [4_294_967_295, 90_001, 90_002];
    for oid in oids {
        let line = large_objects_toc_line(oid);
        assert!(theirs.windows(line.len()).any(|part| part == line.as_bytes()), "{line}");
        assert!(Path::new(&data(&format!("shop.dir/{}", large_object_member(oid)))).exists());
    }
    assert_eq!(
        oids.map(|oid| large_objects_toc_line(oid).len()).iter().sum::<usize>(),
        theirs.len()
    );
}

fn agree(ours: &Entry, theirs: &libpgdump::Entry) {
    let text = |bytes: &Option<Vec<u8>>| bytes.clone().map(|b| String::from_utf8(b).unwrap());
    assert_eq!(ours.dump_id, theirs.dump_id);
    assert_eq!(ours.had_dumper, theirs.had_dumper);
    assert_eq!(ours.table_oid.to_string(), theirs.table_oid);
    assert_eq!(ours.oid.to_string(), theirs.oid);
    assert_eq!(text(&ours.tag), theirs.tag);
    assert_eq!(text(&ours.desc), Some(theirs.desc.as_str().to_owned()));
    assert_eq!(text(&ours.defn), theirs.defn);
    assert_eq!(text(&ours.drop_stmt), theirs.drop_stmt);
    assert_eq!(text(&ours.copy_stmt), theirs.copy_stmt);
    assert_eq!(text(&ours.namespace), theirs.namespace);
    assert_eq!(text(&ours.tablespace), theirs.tablespace);
    assert_eq!(text(&ours.table_am), theirs.tableam);
    assert_eq!(text(&ours.owner), theirs.owner);
    assert_eq!(ours.dependencies, theirs.dependencies);
    assert_eq!(text(&ours.file_name), theirs.filename);
    let relkind = ours.relkind.filter(|code| *code != 0).map(|code| u32::try_from(code).unwrap());
    assert_eq!(relkind.and_then(char::from_u32), theirs.relkind);
}

#[test]
fn another_reader_finds_the_same_entries_in_the_custom_archive() {
    let theirs = custom::read_metadata(&mut &bytes("shop.custom")[..]).unwrap();
    let ours = read_custom("shop");
    assert_eq!(ours.entries.len(), theirs.entries.len());
    ours.entries.iter().zip(&theirs.entries).for_each(|(ours, theirs)| agree(ours, theirs));
}

#[test]
fn another_reader_finds_the_same_entries_in_every_version_that_we_write() {
    let versions = [ArchiveVersion::V1_14, ArchiveVersion::V1_15, ArchiveVersion::V1_16];
    for version in versions {
        let mut ours = read_custom("shop");
        ours.header.version = version;
        if version >= ArchiveVersion::V1_15 {
            ours.header.compression = Compression::Algorithm(0);
        }
        for entry in &mut ours.entries {
            let table = entry.desc.as_deref() == Some(b"TABLE");
            let relkind = if table { i32::from(b'r') } else { 0 };
            entry.relkind = (version >= ArchiveVersion::V1_16).then_some(relkind);
        }
        ours.assign_members().unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("toc.dat"), written(&ours)).unwrap();
        let theirs = directory::read_metadata(dir.path()).unwrap();
        assert_eq!(theirs.entries.len(), ours.entries.len());
        ours.entries.iter().zip(&theirs.entries).for_each(|(ours, theirs)| agree(ours, theirs));
        assert_eq!(Archive::read_directory(&mut &written(&ours)[..]).unwrap(), ours);
    }
}
