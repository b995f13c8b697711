//! What was backed up comes back equal: by our own restore, by stock pg_restore, and by stock tools alone.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::harness::{Database, Installation, User, is_slow, must, server};

const EVERY_KIND: &str = include_str!("fixtures/every_kind.sql");
const MORE_KINDS: &str = include_str!("fixtures/more_kinds.sql");
const HASHED_ENUM: &str = include_str!("fixtures/hashed_enum.sql");

fn assert_equal(source: &Database, target: &Database) {
    assert_eq!(source.rows(), target.rows());
    assert_eq!(source.sequences(), target.sequences());
    // Another major prints the same schema in other words.
    if source.major() != target.major() {
        let (before, after) = (source.objects(), target.objects());
        let missing = |of: &str, from: &str| {
            let lines = of.lines().filter(|line| !from.lines().any(|other| other == *line));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!((missing(&before, &after), missing(&after, &before)), Default::default());
        return;
    }
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
    let script = format!("{script}\n{MORE_KINDS}");
    let roles = Database::create("roles", "SELECT 1");
    make_roles(&roles);
    let source = Database::create("every_kind", &script);
    let installation = Installation::create(&source);
    installation.backup();
    let stored = segments(&installation);
    // What is restored is a snapshot that names what an earlier one has stored.
    source.query("CREATE TABLE added_later AS SELECT generate_series(1, 100) AS i");
    installation.backup();
    let (stored, put_later) = (stored, segments(&installation) - stored);
    assert!((3..=stored / 2).contains(&put_later), "{put_later} after {stored}");

    let roles = Database::to_restore("roles");
    make_roles(&roles);
    for restored in by_all_three_ways(&installation) {
        assert_equal(&source, &restored);
    }
}

/// Restores the newest snapshot three times: by our own restore, by stock pg_restore of what `fetch` writes, and by stock tools
/// alone.
fn by_all_three_ways(installation: &Installation) -> [Database; 3] {
    let restored = Database::to_restore("restored");
    installation.restore(&restored);

    let fetched = Database::to_restore("fetched");
    let out = ["fetch", "latest", "--identity", "identity2", "--out", "fetched"];
    must(&mut installation.reader(&out));
    stock_restore(installation, "fetched", &fetched);

    by_hand(installation);
    let by_hand = Database::to_restore("by_hand");
    stock_restore(installation, "by_hand", &by_hand);
    [restored, fetched, by_hand]
}

fn segments(installation: &Installation) -> usize {
    installation.versions().iter().filter(|(key, _)| key.contains("/segments/")).count()
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

/// The program printed in `docs/format.md`, to the letter: manifest, signatures, inventory and segments by curl, jq, age, zstd and
/// tar.
fn by_hand(installation: &Installation) {
    let versions = installation.versions();
    let (_, version) =
        versions.iter().find(|(key, _)| key == "stonekeep/genesis/1").expect("a genesis");
    let document = include_str!("../docs/format.md");
    let block = |mark: &str| {
        let (_, block) =
            document.split_once(&format!("<!-- {mark} -->\n```sh\n")).expect("a block");
        block.split_once("\n```").expect("its end").0
    };
    let marks =
        ["stock-functions", "stock-list", "stock-manifest", "stock-verify", "stock-restore"];
    let program = marks.map(block).join("\n");
    let (id, secret) = User::Reader.keys();
    let mut sh = Command::new("sh");
    sh.args(["-c", &program]).current_dir(installation.path("."));
    sh.env("S3_ENDPOINT", server("STONEKEEP_TEST_S3_ENDPOINT")).env("S3_REGION", "us-east-1");
    sh.env("BUCKET", &installation.bucket).env("PREFIX", "stonekeep").env("LABEL", "bookings");
    sh.env("ALLOWED_SIGNERS", "allowed_signers");
    sh.env("GENESIS", "genesis/1").env("GENESIS_VERSION", version);
    sh.env("IDENTITY", "identity1").env("OUT", "by_hand");
    sh.env("AWS_ACCESS_KEY_ID", id).env("AWS_SECRET_ACCESS_KEY", secret);
    must(&mut sh);
}

#[test]
fn rows_in_hash_partitions_of_an_enum_come_back_wherever_they_land() {
    let source = Database::create("hashed_enum", HASHED_ENUM);
    let installation = Installation::create(&source);
    installation.backup();
    let target = Database::to_restore("rehashed");
    installation.restore(&target);
    assert_same_by_root(&source, &target);

    interrupt(&installation, &target, "DELETE FROM trips WHERE id % 2 = 0");
    let url = target.url.as_str();
    let restore = ["--json", "restore", "latest", "--identity", "identity1", "--target", url];
    let report = must(&mut installation.reader(&restore));
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!(report["tables_kept"], 4, "the partitions of orders, in which nothing is missing");
    assert_same_by_root(&source, &target);
}

fn assert_same_by_root(source: &Database, target: &Database) {
    let trips = r#"id, stage, note, "odd ""name"", too""#;
    for (table, columns) in [("orders", "id, stage, note"), ("trips", trips)] {
        let rows = format!("SELECT {columns} FROM {table} ORDER BY id");
        let (before, after) = (source.query(&rows), target.query(&rows));
        assert!(before.lines().count() >= 2000 && before == after, "{table} differs");
        let places =
            format!("SELECT tableoid::regclass, count(*) FROM {table} GROUP BY 1 ORDER BY 1");
        let (before, after) = (source.query(&places), target.query(&places));
        assert_ne!(before, after, "{table}: no row moved, so nothing was tried");
    }
}

/// Makes of a restored database, which needs nothing after its rows, what a restore leaves that is killed while it loads them.
pub(crate) fn interrupt(installation: &Installation, target: &Database, undo: &str) {
    target.query(undo);
    let versions = installation.versions();
    let (manifest, _) =
        versions.iter().rfind(|(key, _)| key.contains("/manifests/")).expect("a manifest");
    let (_, id) = manifest.rsplit_once('-').expect("a snapshot's id");
    let name = format!("{}_restoring_{}", target.name, id.to_ascii_lowercase());
    target.admin(&format!("ALTER DATABASE {} RENAME TO {name}", target.name));
    target.admin(&format!("COMMENT ON DATABASE {name} IS 'stonekeep restore {id} rows'"));
}

/// 540 MB of bytes are 1.08 GB of hexadecimal digits, which PostgreSQL cannot print. They stand behind slices that can be.
#[test]
fn a_value_that_has_no_text_comes_back_by_all_three_ways() {
    let source = Database::create(
        "no_text",
        "CREATE TYPE mood AS ENUM ('calm', 'cross');
         CREATE TABLE files (id int PRIMARY KEY, name text, twice int GENERATED ALWAYS AS (id * 2) STORED, content bytea, mood mood, tags int[]);
         INSERT INTO files (id, name, content, mood, tags) SELECT i, 'Tür ' || i, sha512(i::text::bytea), 'calm', ARRAY[i, NULL] FROM generate_series(1, 200000) i;
         INSERT INTO files (id, name, content) VALUES (0, NULL, convert_to(repeat('x', 540000000), 'UTF8'));
         CREATE TABLE notes AS SELECT i AS id, md5(i::text) AS note FROM generate_series(1, 1000) i",
    );
    let installation = Installation::create(&source);
    let said = installation.backup();
    assert!(said.contains("public.files has no text of less than 1 GB"), "{said}");
    let turned = Database::to_restore("turned");
    installation.restore(&turned);
    let put = segments(&installation);
    let again = installation.backup();
    assert!(!again.contains("no text"), "the second begins in binary: {again}");
    assert_eq!(segments(&installation) - put, 3, "toc, globals and catalog");
    let shown = must(&mut installation.reader(&["show", "latest"]));
    assert!(shown.contains("in binary       1 of the tables"), "{shown}");
    let rows = "SELECT count(*), sum(length(content)), md5(string_agg(id || coalesce(name, '?') || twice || coalesce(mood::text || tags::text, '?') || md5(content), '' ORDER BY id)) FROM files";
    let notes = "SELECT count(*), md5(string_agg(note, '' ORDER BY id)) FROM notes";
    for restored in by_all_three_ways(&installation).iter().chain([&turned]) {
        assert_eq!(source.query(rows), restored.query(rows));
        assert_eq!(source.query(notes), restored.query(notes));
    }
}

#[test]
fn twenty_thousand_tables_come_back_equal() {
    if !is_slow() {
        return;
    }
    let make = "SELECT format('CREATE TABLE t%s (id int PRIMARY KEY, note text); INSERT INTO t%s VALUES (%s, md5(%L))', i, i, i, i) FROM generate_series(1, 20000) i \\gexec";
    let source = Database::create("tables", make);
    let installation = Installation::create(&source);
    let begun = Instant::now();
    installation.backup();
    let (backed_up, begun) = (begun.elapsed(), Instant::now());
    let target = Database::to_restore("tables");
    installation.restore(&target);
    println!("20000 tables: backup {backed_up:?}, restore {:?}", begun.elapsed());
    let sums = "SELECT count(*), sum(hashtext(relname)) FROM pg_class WHERE relname LIKE 't%' AND relkind = 'r'";
    assert_eq!(source.query(sums), target.query(sums));
    for table in [1, 777, 20000] {
        let row = format!("SELECT * FROM t{table}");
        assert_eq!(source.query(&row), target.query(&row));
    }
}

/// Rows of 1 MiB, which lie in TOAST: what is held of them at a time must fit in 256 MiB.
#[test]
fn five_gigabytes_of_long_rows_come_back_equal_in_little_memory() {
    if !is_slow() {
        return;
    }
    let source = Database::create(
        "long_rows",
        "CREATE TABLE files (id int PRIMARY KEY, content text); ALTER TABLE files ALTER content SET STORAGE EXTERNAL;
         CREATE TEMP TABLE blocks AS SELECT b, (SELECT string_agg(md5((b * 1000 + g)::text), '') FROM generate_series(1, 512) g) AS block FROM generate_series(0, 1023) b;
         CREATE INDEX ON blocks (b);
         INSERT INTO files SELECT i, (SELECT string_agg(block, '') FROM generate_series(1, 64) g JOIN blocks ON b = (i * 64 + g * g * 7) % 1024) FROM generate_series(1, 5120) i",
    );
    let installation = Installation::create(&source);
    let backup = resident_bytes_max(&mut installation.daemon(&["backup"]));
    let target = Database::to_restore("long_rows");
    let url = target.url.as_str();
    let restore = ["restore", "latest", "--identity", "identity1", "--target", url];
    let restore = resident_bytes_max(&mut installation.reader(&restore));
    println!("resident, MiB: backup {}, restore {}", backup >> 20, restore >> 20);
    let sums = "SELECT count(*), md5(string_agg(md5(content), '' ORDER BY id)) FROM files";
    assert_eq!(source.query(sums), target.query(sums));
    for (what, bytes) in [("backup", backup), ("restore", restore)] {
        assert!(bytes <= 256 << 20, "{what}: {} MiB", bytes >> 20);
    }
}

/// Runs a command, which must succeed, and returns the most memory that was resident: VmHWM, as last seen.
fn resident_bytes_max(command: &mut Command) -> u64 {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
    let mut kilobytes = 0;
    loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
        let line = status.unwrap_or_default().lines().find_map(|line| {
            line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok()
        });
        kilobytes = line.unwrap_or(kilobytes);
        if let Some(status) = child.try_wait().expect("waited for") {
            assert!(status.success(), "{command:?}: {status}");
            return kilobytes << 10;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
