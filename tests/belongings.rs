//! What hangs on more than the database: extensions' own tables, subscriptions, labels, encodings, settings.

use crate::harness::{Database, Installation, is_slow, must, run, said};

#[test]
fn configuration_tables_and_sequences_of_an_extension_come_back() {
    let source = Database::create(
        "keeper",
        "CREATE EXTENSION keeper; INSERT INTO keeper.kinds (name) SELECT 'own ' || i FROM generate_series(1, 500) i;
         INSERT INTO keeper.a_rules SELECT id, 'rule ' || id FROM keeper.kinds; INSERT INTO keeper.private VALUES (1)",
    );
    let installation = Installation::create(&source);
    installation.backup();
    let target = Database::to_restore("keeper");
    installation.restore(&target);
    for rows in
        ["SELECT * FROM keeper.kinds ORDER BY id", "SELECT * FROM keeper.a_rules ORDER BY kind"]
    {
        assert_eq!(source.query(rows), target.query(rows));
    }
    assert_eq!(target.query("SELECT count(*) FROM keeper.private").trim(), "0", "no configuration");
    let next = "INSERT INTO keeper.kinds (name) VALUES ('next') RETURNING id";
    assert_eq!(target.query(next).trim(), "502");
}

#[test]
fn subscriptions_come_back_without_a_connection_and_are_missed_aloud() {
    let source = Database::create(
        "subscribed",
        "CREATE TABLE t (a int PRIMARY KEY); CREATE SUBSCRIPTION sub CONNECTION 'host=127.0.0.1 port=1 dbname=x password=topsecret' \
         PUBLICATION p, q WITH (connect = false, slot_name = NONE)",
    );
    let mut installation = Installation::create(&source);
    let output = installation.backup();
    assert!(!output.contains("topsecret") && !output.contains("left out"), "{output}");
    let target = Database::to_restore("subscribed");
    installation.restore(&target);
    let all = "SELECT subname, subenabled, subpublications, subconninfo FROM pg_subscription s JOIN pg_database d ON d.oid = subdbid WHERE datname = current_database()";
    assert!(target.query(all).starts_with("sub|f|{p,q}|host=127.0.0.1"), "{}", target.query(all));
    assert_eq!(source.query(all), target.query(all));

    let role = format!("{}_role", source.name);
    source.admin(&format!("CREATE ROLE {role} LOGIN BYPASSRLS IN ROLE pg_read_all_data"));
    installation.database_url = source.url.replace("postgres@", &format!("{role}@"));
    installation.configure(|text| text);
    let output = run(&mut installation.daemon(&["check"]));
    let checked = String::from_utf8_lossy(&output.stdout);
    assert!(checked.contains("1 subscriptions are left out"), "{checked}");
    assert!(installation.backup().contains("1 subscriptions are left out"));
    source.admin(&format!("DROP ROLE {role}"));
    for database in [&source, &target] {
        database.query("ALTER SUBSCRIPTION sub SET (slot_name = NONE); DROP SUBSCRIPTION sub");
    }
}

/// No provider is at hand, so the label is put where one would have put it.
#[test]
fn security_labels_need_their_provider_or_are_left_out_when_asked_for() {
    let source = Database::create(
        "labelled",
        "CREATE TABLE t (a int); INSERT INTO t VALUES (1);
         INSERT INTO pg_seclabel VALUES ('t'::regclass, 'pg_class'::regclass, 0, 'anon', 'MASKED')",
    );
    let installation = Installation::create(&source);
    installation.backup();
    let target = Database::to_restore("labelled");
    let restore = ["restore", "latest", "--identity", "identity1", "--target", &target.url];
    let output = run(&mut installation.reader(&restore));
    assert_eq!(output.status.code(), Some(78), "{}", said(&output));
    assert!(said(&output).contains("Providers of security labels anon"), "{}", said(&output));
    must(installation.reader(&restore).arg("--no-security-labels"));
    assert_eq!(target.query("SELECT a FROM t").trim(), "1");
}

#[test]
fn bytes_of_no_encoding_come_back_and_such_a_name_is_told_before_anything_is_written() {
    let source = Database::create("ascii", "SELECT 1");
    source.admin(&format!("DROP DATABASE {}", source.name));
    let like = "TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'";
    source.admin(&format!("CREATE DATABASE {} {like}", source.name));
    source.query(
        "SET client_encoding TO 'SQL_ASCII'; CREATE TABLE odd (a text); INSERT INTO odd VALUES (E'caf\\xe9'), (E'\\xff\\xfe')",
    );
    let installation = Installation::create(&source);
    installation.backup();
    let target = Database::to_restore("ascii");
    installation.restore(&target);
    let bytes = "SELECT encode(convert_to(a, 'SQL_ASCII'), 'hex') FROM odd ORDER BY 1";
    assert_eq!(source.query(bytes), target.query(bytes));
    assert!(source.query(bytes).contains("636166e9"));

    let before = installation.versions();
    source.query(
        "SET client_encoding TO 'SQL_ASCII'; DO $$ BEGIN EXECUTE E'CREATE TABLE \"c\\xe9\" (a int)'; END $$",
    );
    for command in ["check", "backup"] {
        let output = run(&mut installation.daemon(&[command]));
        assert_eq!(output.status.code(), Some(78), "{}", said(&output));
        assert!(said(&output).contains("is no valid text"), "{}", said(&output));
    }
    assert_eq!(installation.versions(), before);
}

#[test]
fn settings_of_database_and_role_do_not_reach_the_rows() {
    let source = Database::create(
        "settings",
        "CREATE TABLE t (d date, ts timestamptz, i interval, f float8, b bytea, x xml, s text, e text[]);
         INSERT INTO t SELECT date '2026-03-04' + i, '2026-03-29 01:30+00'::timestamptz + i * interval '1 hour', i * interval '-1 day 2 hours',
           i / 3.0, decode(lpad(to_hex(i), 4, '0'), 'hex'), '<a/>', 'Zoë\\ ' || i, ARRAY['NULL', NULL, 'ü'] FROM generate_series(1, 300) i;
         CREATE VIEW v AS SELECT s FROM t WHERE s = 'a\\b'",
    );
    let role = format!("{}_role", source.name);
    source.admin(&format!("CREATE ROLE {role} LOGIN SUPERUSER"));
    for (place, settings) in [
        (
            format!("DATABASE {}", source.name),
            [
                "client_encoding = 'LATIN1'",
                "DateStyle = 'SQL, DMY'",
                "bytea_output = 'escape'",
                "default_transaction_isolation = 'serializable'",
                "default_transaction_deferrable = on",
                "idle_in_transaction_session_timeout = '900ms'",
                "quote_all_identifiers = on",
            ],
        ),
        (
            format!("ROLE {role}"),
            [
                "IntervalStyle = 'sql_standard'",
                "TimeZone = 'Asia/Kolkata'",
                "extra_float_digits = -3",
                "xmloption = 'document'",
                "standard_conforming_strings = off",
                "default_transaction_read_only = on",
                "search_path = 'nowhere'",
            ],
        ),
    ] {
        for setting in settings {
            source.admin(&format!("ALTER {place} SET {setting}"));
        }
    }
    let mut installation = Installation::create(&source);
    installation.database_url = source.url.replace("postgres@", &format!("{role}@"));
    installation.configure(|text| text);
    installation.backup();
    source.admin(&format!("ALTER DATABASE {} RESET ALL", source.name));
    let target = Database::to_restore("settings");
    // The role is the source's, and what is set for the database comes back with it.
    must(&mut installation.reader(&[
        "restore",
        "latest",
        "--identity",
        "identity1",
        "--no-owner",
        "--target",
        &target.url,
    ]));
    let set = "SELECT unnest(setconfig) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase WHERE datname = current_database() AND setrole = 0";
    assert!(target.query(set).contains("bytea_output=escape"), "{}", target.query(set));
    target.admin(&format!("ALTER DATABASE {} RESET ALL", target.name));
    assert_eq!(source.rows(), target.rows());
    source.admin(&format!("DROP ROLE {role}"));
}

#[test]
fn a_hundred_thousand_large_objects_come_back() {
    if !is_slow() {
        return;
    }
    let source = Database::create(
        "objects",
        "SELECT count(lo_from_bytea(0, convert_to('object ' || i, 'UTF8'))) FROM generate_series(1, 100000) i",
    );
    let installation = Installation::create(&source);
    let begun = std::time::Instant::now();
    installation.backup();
    let (backed_up, begun) = (begun.elapsed(), std::time::Instant::now());
    let target = Database::to_restore("objects");
    installation.restore(&target);
    println!("100000 large objects: backup {backed_up:?}, restore {:?}", begun.elapsed());
    let all = "SELECT count(*), md5(string_agg(lo_get(oid)::text, '' ORDER BY oid)) FROM pg_largeobject_metadata";
    assert_eq!(source.query(all), target.query(all));
}
