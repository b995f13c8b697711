use proptest::{collection::vec, option, prelude::*};

use super::*;

fn text() -> impl Strategy<Value = Option<Vec<u8>>> {
    option::of(vec(1..=u8::MAX, 0..12))
}

fn version() -> impl Strategy<Value = ArchiveVersion> {
    (14..=16u8, 0..3u8).prop_map(|(minor, revision)| ArchiveVersion { major: 1, minor, revision })
}

prop_compose! {
    fn header()(
        version in version(), offset_bytes in prop_oneof![Just(4), Just(8)],
        algorithm in any::<u8>(), level in any::<i32>(), created in any::<[i32; 7]>(),
        texts in [text(), text(), text()],
    ) -> Header {
        let [database, server_version, dump_version] = texts;
        let compression = if version.minor >= 15 {
            Compression::Algorithm(algorithm)
        } else {
            Compression::Level(level)
        };
        Header {
            version, int_bytes: 4, offset_bytes, compression, created, database, server_version, dump_version,
        }
    }
}

fn section() -> impl Strategy<Value = Section> {
    prop_oneof![
        Just(Section::None),
        Just(Section::PreData),
        Just(Section::Data),
        Just(Section::PostData)
    ]
}

prop_compose! {
    fn entry(minor: u8)(
        dump_id in 1..=i32::MAX, had_dumper in any::<bool>(), oids in any::<(u32, u32)>(), section in section(),
        relkind in any::<i32>(), dependencies in vec(any::<i32>(), 0..5),
        names in [text(), text(), text(), text(), text(), text()], code in [text(), text(), text(), text()],
        file_name in option::of(vec(1..=u8::MAX, 1..12)),
    ) -> Entry {
        let [tag, desc, namespace, tablespace, owner, with_oids] = names;
        let [defn, drop_stmt, copy_stmt, table_am] = code;
        let relkind = (minor >= 16).then_some(relkind);
        Entry {
            dump_id, had_dumper, table_oid: oids.0, oid: oids.1, tag, desc, section, defn, drop_stmt, copy_stmt,
            namespace, tablespace, table_am, relkind, owner, with_oids, dependencies, file_name,
        }
    }
}

fn archive() -> impl Strategy<Value = Archive> {
    header().prop_flat_map(|header| {
        vec(entry(header.version.minor), 0..5)
            .prop_map(move |entries| Archive { header: header.clone(), entries })
    })
}

fn written(archive: &Archive) -> Vec<u8> {
    let mut bytes = Vec::new();
    archive.write_directory(&mut bytes).unwrap();
    bytes
}

fn read(bytes: &[u8]) -> Result<Archive, ArchiveError> {
    Archive::read_directory(&mut &bytes[..])
}

proptest! {
    #[test]
    fn directory_that_was_written_is_read_back(archive in archive()) {
        prop_assert_eq!(read(&written(&archive)).unwrap(), archive);
    }

    #[test]
    fn truncated_directory_is_an_error(archive in archive(), at in any::<prop::sample::Index>()) {
        let bytes = written(&archive);
        let error = read(&bytes[..at.index(bytes.len())]).unwrap_err();
        prop_assert!(matches!(error, ArchiveError::Truncated { .. }), "{error}");
    }

    #[test]
    fn changed_byte_is_an_error_or_another_archive_but_no_panic(
        archive in archive(), at in any::<prop::sample::Index>(), change in 1..=u8::MAX,
    ) {
        let mut bytes = written(&archive);
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        if let Ok(other) = read(&bytes) {
            prop_assert_ne!(&other, &archive);
            // Every spelling is the only one, so even damage that cannot be seen is kept as it is.
            prop_assert_eq!(written(&other), bytes);
        }
    }

    #[test]
    fn any_bytes_are_an_error_but_no_panic(mut bytes in vec(any::<u8>(), 0..400), begin in any::<bool>()) {
        if begin && bytes.len() >= 11 {
            bytes[..11].copy_from_slice(b"PGDMP\x01\x10\x00\x04\x08\x01");
        }
        prop_assert!(Archive::read_custom(&mut &bytes[..]).is_err());
    }
}

fn minimal(version: ArchiveVersion) -> Archive {
    let compression = if version >= ArchiveVersion::V1_15 {
        Compression::Algorithm(0)
    } else {
        Compression::Level(0)
    };
    let header = Header {
        version,
        int_bytes: 4,
        offset_bytes: 8,
        compression,
        created: [0; 7],
        database: None,
        server_version: None,
        dump_version: None,
    };
    Archive { header, entries: Vec::new() }
}

fn data_entry(dump_id: i32, oid: u32, desc: &str) -> Entry {
    Entry {
        dump_id,
        had_dumper: true,
        table_oid: 0,
        oid,
        tag: Some(b"bookings".to_vec()),
        desc: Some(desc.as_bytes().to_vec()),
        section: Section::Data,
        defn: None,
        drop_stmt: None,
        copy_stmt: None,
        namespace: None,
        tablespace: None,
        table_am: None,
        relkind: None,
        owner: None,
        with_oids: None,
        dependencies: Vec::new(),
        file_name: None,
    }
}

fn names(archive: &Archive) -> Vec<Option<String>> {
    let name = |entry: &Entry| entry.member().unwrap().map(String::from);
    archive.entries.iter().map(name).collect()
}

#[test]
fn members_are_named_by_oid_and_the_list_of_large_objects_by_version() {
    for (version, list) in [
        (ArchiveVersion::V1_14, "blobs.toc"),
        (ArchiveVersion::V1_15, "blobs.toc"),
        (ArchiveVersion::V1_16, "blobs_9.toc"),
    ] {
        let mut archive = minimal(version);
        let without_data = Entry { had_dumper: false, ..data_entry(8, 2, "STATISTICS DATA") };
        archive.entries =
            vec![data_entry(7, u32::MAX, "TABLE DATA"), without_data, data_entry(9, 0, "BLOBS")];
        archive.entries[1].file_name = Some(b"left over".to_vec());
        archive.assign_members().unwrap();
        let expected = [Some("t4294967295.dat".to_owned()), None, Some(list.to_owned())];
        assert_eq!(names(&archive), expected);
    }
}

#[test]
fn data_of_an_unknown_kind_is_refused() {
    let mut archive = minimal(ArchiveVersion::V1_16);
    archive.entries = vec![data_entry(7, 1, "GRAPH DATA")];
    let error = archive.assign_members().unwrap_err();
    assert!(
        matches!(&error, ArchiveError::UnknownData { desc, tag } if desc == "GRAPH DATA" && tag == "bookings")
    );
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[test]
fn two_entries_never_share_a_member() {
    let mut archive = minimal(ArchiveVersion::V1_15);
    archive.entries = vec![data_entry(7, 0, "BLOBS"), data_entry(8, 0, "BLOBS")];
    let error = archive.assign_members().unwrap_err();
    assert!(matches!(error, ArchiveError::DuplicateMember { .. }), "{error}");
    archive.header = minimal(ArchiveVersion::V1_16).header;
    archive.assign_members().unwrap();
    assert_eq!(names(&archive), [Some("blobs_7.toc".to_owned()), Some("blobs_8.toc".to_owned())]);
}

#[test]
fn file_name_that_leads_out_of_the_directory_is_refused() {
    let mut entry = data_entry(7, 1, "TABLE DATA");
    entry.file_name = Some(b"../../etc/passwd".to_vec());
    assert!(matches!(entry.member(), Err(ArchiveError::UnsafeMember { dump_id: 7, .. })));
}

#[test]
fn unknown_version_is_named() {
    for (major, minor) in [(1, 13), (1, 17), (2, 15), (0, 15)] {
        let mut bytes = written(&minimal(ArchiveVersion::V1_16));
        bytes[5..7].copy_from_slice(&[major, minor]);
        let error = read(&bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(&format!("version {major}.{minor}:")), "{error}");
    }
}

#[test]
fn the_other_format_is_refused() {
    let mut bytes = written(&minimal(ArchiveVersion::V1_14));
    let custom = Archive::read_custom(&mut &bytes[..]).unwrap_err();
    assert!(matches!(custom, ArchiveError::WrongFormat { expected: "custom", found: 3 }));
    bytes[10] = 1;
    let directory = read(&bytes).unwrap_err();
    assert!(matches!(directory, ArchiveError::WrongFormat { expected: "directory", found: 1 }));
}

#[test]
fn claimed_lengths_and_counts_take_no_memory() {
    let header = written(&minimal(ArchiveVersion::V1_14));
    let with_count = |count: i32| {
        let mut bytes = header.clone();
        let at = bytes.len() - 5;
        bytes.truncate(at);
        put_int(&mut bytes, count).unwrap();
        bytes
    };
    assert!(matches!(read(&with_count(i32::MAX)), Err(ArchiveError::TooLarge { .. })));
    assert!(matches!(read(&with_count(-1)), Err(ArchiveError::Malformed { .. })));
    assert!(matches!(read(&with_count(4_000_000)), Err(ArchiveError::Truncated { .. })));
    // The name of the database is the first string, 15 bytes from the end of the header.
    let with_length = |length: i32| {
        let mut bytes = header[..header.len() - 20].to_vec();
        put_int(&mut bytes, length).unwrap();
        bytes
    };
    assert!(matches!(read(&with_length(i32::MAX)), Err(ArchiveError::TooLarge { .. })));
    assert!(matches!(read(&with_length(64 << 20)), Err(ArchiveError::Truncated { .. })));
    assert!(matches!(read(&with_length(-2)), Err(ArchiveError::Malformed { .. })));
}

#[test]
fn bytes_after_the_last_entry_are_refused() {
    let mut bytes = written(&minimal(ArchiveVersion::V1_14));
    bytes.push(0);
    assert!(matches!(read(&bytes), Err(ArchiveError::Trailing { .. })));
}

#[test]
fn what_the_format_cannot_hold_is_not_written() {
    let mut zero = minimal(ArchiveVersion::V1_14);
    zero.header.database = Some(b"a\0b".to_vec());
    let mut compression = minimal(ArchiveVersion::V1_14);
    compression.header.compression = Compression::Algorithm(0);
    let mut dump_id = minimal(ArchiveVersion::V1_14);
    dump_id.entries = vec![data_entry(0, 1, "TABLE DATA")];
    for archive in [zero, compression, dump_id] {
        let error = archive.write_directory(&mut Vec::new()).unwrap_err();
        assert!(matches!(error, ArchiveError::Unwritable { .. }), "{error}");
    }
}

#[test]
fn failing_reader_and_writer_are_told_from_damage() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("broken"))
        }
    }
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::other("broken"))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    assert!(matches!(Archive::read_custom(&mut Broken), Err(ArchiveError::Read(_))));
    let archive = minimal(ArchiveVersion::V1_14);
    assert!(matches!(archive.write_directory(&mut Broken), Err(ArchiveError::Write(_))));
}
