//! Connections over TLS: to PostgreSQL of the daemon and of the programs it runs, to the object store, of the restorer.

use std::process::Output;

use crate::harness::{Database, Installation, must, run, said, server};

const SCRIPT: &str = "CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 1000)";

/// Backs up with these lines in the place of `tls = "disable"`.
fn backup_with(installation: &Installation, lines: &str) -> Output {
    installation.configure(|text| text.replace("tls = \"disable\"", lines));
    run(&mut installation.daemon(&["backup"]))
}

#[test]
fn a_server_that_wants_tls_gets_it_and_its_certificate_is_checked() {
    let source = Database::create("tls", SCRIPT);
    let role = format!("{}_role", source.name);
    source.admin(&format!("CREATE ROLE {role} LOGIN IN ROLE by_tls, pg_read_all_data"));
    let mut installation = Installation::create(&source);
    installation.database_url = source.url.replace("postgres@", &format!("{role}@"));
    let (ca, other_ca) = (server("STONEKEEP_TEST_PG_CA"), server("STONEKEEP_TEST_PG2_CA"));

    // The server refuses whoever comes without, pg_dump too: a success shows that all came by TLS.
    let output = backup_with(&installation, "tls = \"disable\"");
    assert_eq!(output.status.code(), Some(77), "{}", said(&output));
    let verified = format!("tls = \"verify-full\"\nca_file = \"{ca}\"");
    for lines in [verified.as_str(), "tls = \"require\""] {
        let output = backup_with(&installation, lines);
        assert!(output.status.success(), "{lines}: {}", said(&output));
    }
    for lines in [
        format!("tls = \"verify-full\"\nca_file = \"{other_ca}\""),
        "tls = \"verify-full\"".to_owned(),
    ] {
        let output = backup_with(&installation, &lines);
        assert_eq!(output.status.code(), Some(78), "{lines}: {}", said(&output));
        assert!(said(&output).contains("ca_file"), "{lines}: {}", said(&output));
    }
    // The certificate is for the address, not for the name.
    let by_name = installation.database_url.replace("127.0.0.1", "localhost");
    let by_address = std::mem::replace(&mut installation.database_url, by_name);
    let output = backup_with(&installation, &verified);
    assert_eq!(output.status.code(), Some(78), "{}", said(&output));
    installation.database_url = by_address;

    let target = Database::to_restore("tls");
    installation.restore(&target);
    assert_eq!(target.query("SELECT sum(a) FROM t").trim(), "500500");
    source.admin(&format!("DROP ROLE {role}"));
}

#[test]
fn an_object_store_over_tls_is_checked_by_its_authority() {
    let source = Database::create("s3_tls", SCRIPT);
    let by_tls = server("STONEKEEP_TEST_S3_TLS_ENDPOINT");
    let installation = Installation::prepare_at(&source, by_tls);
    let (ca, other_ca) = (server("STONEKEEP_TEST_S3_CA"), server("STONEKEEP_TEST_PG_CA"));
    let trusting = |ca: &str| {
        installation.configure(|text| {
            text.replacen("path_style", &format!("ca_file = \"{ca}\"\npath_style"), 1)
        });
    };
    for untrusted in [None, Some(&other_ca)] {
        if let Some(ca) = untrusted {
            trusting(ca);
        }
        let output = installation.init();
        assert_eq!(output.status.code(), Some(78), "{}", said(&output));
        assert!(said(&output).contains("ca_file"), "{}", said(&output));
    }
    trusting(&ca);
    let output = installation.init();
    assert!(output.status.success(), "{}", said(&output));
    installation.backup();
    must(&mut installation.reader(&["verify", "latest", "--read-data"]));
}

#[test]
fn a_restore_reaches_a_server_that_wants_tls() {
    let source = Database::create("restored_by_tls", SCRIPT);
    let installation = Installation::create(&source);
    installation.backup();
    let target = Database::to_restore("restored_by_tls");
    let role = format!("{}_role", target.name);
    target.admin(&format!("CREATE ROLE {role} LOGIN SUPERUSER IN ROLE by_tls"));
    let url = target.url.replace("postgres@", &format!("{role}@"));
    let ca = server("STONEKEEP_TEST_PG2_CA");
    let restore = |query: &str| {
        let url = format!("{url}?{query}");
        let args = ["restore", "latest", "--identity", "identity1", "--target", &url];
        run(&mut installation.reader(&args))
    };
    let output = restore("sslmode=disable");
    assert_eq!(output.status.code(), Some(77), "{}", said(&output));
    let output = restore(&format!("sslmode=verify-full&sslrootcert={ca}"));
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(target.query("SELECT sum(a) FROM t").trim(), "500500");
    target.admin(&format!("ALTER DATABASE {} OWNER TO postgres", target.name));
    target.admin(&format!("DROP ROLE {role}"));
}
