//! What was backed up comes back equal: by our own restore, by stock pg_restore, and by stock tools alone.

use std::process::Command;

use crate::harness::{Database, Installation, User, must, server};

const EVERY_KIND: &str = include_str!("fixtures/every_kind.sql");

fn assert_equal(source: &Database, target: &Database) {
    assert_eq!(source.rows(), target.rows());
    assert_eq!(source.sequences(), target.sequences());
    let (before, after) = (source.dump(), target.dump());
    let differing: Vec<_> = before.iter().zip(&after).filter(|(a, b)| a != b).take(10).collect();
    assert!(
        before == after,
        "{} and {} lines; first differences: {differing:#?}",
        before.len(),
        after.len()
    );
}

/// Roles belong to the whole server and are made once on both.
fn make_roles(target: &Database) {
    for role in ["ek_owner", "ek_reader"] {
        target.admin(&format!("DO $$ BEGIN CREATE ROLE {role} NOLOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"));
    }
}

#[test]
fn a_database_of_every_kind_comes_back_equal_by_all_three_ways() {
    let script = EVERY_KIND
        .replace("CREATE ROLE ek_owner NOLOGIN;", "")
        .replace("CREATE ROLE ek_reader NOLOGIN;", "");
    let roles = Database::create("roles", "SELECT 1");
    make_roles(&roles);
    let source = Database::create("every_kind", &script);
    let installation = Installation::create(&source);
    installation.backup();

    let restored = Database::to_restore("restored");
    make_roles(&restored);
    installation.restore(&restored);
    assert_equal(&source, &restored);

    must(&mut installation.reader(&[
        "fetch",
        "latest",
        "--identity",
        "identity2",
        "--out",
        "fetched",
    ]));
    let fetched = Database::to_restore("fetched");
    stock_restore(&installation, "fetched", &fetched);
    assert_equal(&source, &fetched);

    by_hand(&installation);
    let by_hand = Database::to_restore("by_hand");
    stock_restore(&installation, "by_hand", &by_hand);
    assert_equal(&source, &by_hand);
}

fn stock_restore(installation: &Installation, dir: &str, target: &Database) {
    target.admin(&format!("CREATE DATABASE {} TEMPLATE template0", target.name));
    let program = std::path::Path::new(&server("STONEKEEP_TEST_PG_BINDIR")).join("pg_restore");
    must(
        Command::new(program)
            .args(["-Fd", "-j2", "--exit-on-error", "-d", &target.url])
            .arg(installation.path(dir)),
    );
}

/// The program printed in `docs/format.md`, to the letter: manifest, inventory and segments by curl, jq, age, zstd and tar.
fn by_hand(installation: &Installation) {
    let versions = installation.versions();
    let (manifest, version) =
        versions.iter().rfind(|(key, _)| key.contains("/manifests/")).expect("a manifest");
    let document = include_str!("../docs/format.md");
    let (_, block) = document.split_once("<!-- stock-restore -->\n```sh\n").expect("the block");
    let (program, _) = block.split_once("\n```").expect("its end");
    let (id, secret) = User::Reader.keys();
    let mut sh = Command::new("sh");
    sh.args(["-c", program]).current_dir(installation.path("."));
    sh.env("S3_ENDPOINT", server("STONEKEEP_TEST_S3_ENDPOINT")).env("S3_REGION", "us-east-1");
    sh.env("BUCKET", &installation.bucket).env("PREFIX", "stonekeep");
    sh.env("MANIFEST", manifest.trim_start_matches("stonekeep/")).env("MANIFEST_VERSION", version);
    sh.env("IDENTITY", "identity1").env("OUT", "by_hand");
    sh.env("AWS_ACCESS_KEY_ID", id).env("AWS_SECRET_ACCESS_KEY", secret);
    must(&mut sh);
}
