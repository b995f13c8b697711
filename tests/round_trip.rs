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

/// Manifest and inventory by curl, segments by `age -d | zstd -d`, members by appending and by tar: none of our code.
fn by_hand(installation: &Installation) {
    let versions = installation.versions();
    let (manifest, version) =
        versions.iter().rfind(|(key, _)| key.contains("/manifests/")).expect("a manifest");
    let (id, secret) = User::Reader.keys();
    let script = r#"set -euo pipefail
get() { curl -sf --aws-sigv4 aws:amz:us-east-1:s3 --user "$KEYS" "$ENDPOINT/$BUCKET/$1?versionId=$2"; }
mkdir by_hand
get "$MANIFEST" "$VERSION" | sed '/BEGIN SSH SIGNATURE/,$d' > manifest.json
get "stonekeep/$(jq -r .inventory.key manifest.json)" "$(jq -r .inventory.version_id manifest.json)" | zstd -dq > inventory.json
jq -r '.segments[] | [.kind, .key, .version_id, .member // "-"] | @tsv' inventory.json | while read -r kind key version member; do
  open() { get "stonekeep/$key" "$version" | age -d -i identity1 | zstd -dq; }
  case $kind in
    toc) open > by_hand/toc.dat ;;
    globals) open > by_hand/globals.sql ;;
    catalog) open > by_hand/catalog.json ;;
    rows) open >> "by_hand/$member" ;;
    pack) open | tar -x -C by_hand ;;
  esac
done"#;
    let mut bash = Command::new("bash");
    bash.args(["-c", script]).current_dir(installation.path("."));
    bash.env("KEYS", format!("{id}:{secret}"))
        .env("ENDPOINT", server("STONEKEEP_TEST_S3_ENDPOINT"));
    bash.env("BUCKET", &installation.bucket).env("MANIFEST", manifest).env("VERSION", version);
    must(&mut bash);
}
