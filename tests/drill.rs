//! A snapshot that is wrong fails a drill, which names what is wrong in it; and nothing else does.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::{
    forge::{Forgery, forge, replace},
    harness::{Database, Installation, must, run, said, server, unprivileged},
    own_server::Server,
};

/// A table large enough for segments of its own (more than 1 MiB), one that shares a pack, and what belongs to them.
const SHOP: &str = "
CREATE SCHEMA shop;
CREATE TABLE shop.customers (id int PRIMARY KEY, name text);
INSERT INTO shop.customers SELECT i, 'customer ' || i FROM generate_series(1, 500) i;
CREATE TABLE shop.orders (id serial PRIMARY KEY, customer int REFERENCES shop.customers, at date DEFAULT '2026-01-01', note text);
INSERT INTO shop.orders (customer, note) SELECT i % 500 + 1, 'order ' || i || repeat(' as ever', 8) FROM generate_series(1, 15000) i;
CREATE INDEX orders_at_idx ON shop.orders (at);
CREATE POLICY own ON shop.orders USING (customer = 1); ALTER TABLE shop.orders ENABLE ROW LEVEL SECURITY;";

/// The drill's exit code and its reports; it must have come to its end.
fn drilled(command: &mut Command) -> (i32, Value) {
    let output = run(command);
    let code = output.status.code().expect("it ended");
    assert!(code == 0 || code == 65, "{code}: {}", said(&output));
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let passed =
        document["drills"].as_array().expect("drills").iter().all(|each| each["verdict"] == "pass");
    assert_eq!(code == 0, passed, "{document:#}");
    (code, document)
}

/// A drill of a snapshot on a server that is there.
fn drill_on(installation: &Installation, snapshot: &str, url: &str) -> (i32, Value) {
    let args = ["--json", "drill", snapshot, "--server", url, "--identity", "identity1"];
    drilled(&mut installation.reader(&args))
}

/// A drill on a server of its own, as a user who may start one.
fn scratch_drill(installation: &Installation) -> Command {
    let args = ["--json", "drill", "latest:bookings", "--identity", "identity1"];
    unprivileged(&installation.reader(&args), &installation.path(""))
}

fn assert_passes((code, document): (i32, Value)) -> Value {
    assert_eq!(code, 0, "{document:#}");
    document["drills"][0].clone()
}

/// Restores a snapshot to the other server.
fn restored(installation: &Installation, snapshot: &str) -> (Output, Database) {
    let target = Database::to_restore("forged");
    let args = ["restore", snapshot, "--identity", "identity1", "--target", &target.url];
    (run(&mut installation.reader(&args)), target)
}

fn newest(installation: &Installation) -> String {
    let shown = must(&mut installation.reader(&["--json", "show", "latest"]));
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    shown["manifest"]["id"].as_str().expect("an id").to_owned()
}

/// A row of `orders` that is of one length whatever its number.
const ROW: (&str, &str) = ("order 1234 as ever", "order 4321 as ever");

fn with_another_row(forgery: &mut Forgery, _: Option<&Forgery>) {
    replace(forgery.rows_of("shop.orders"), ROW.0, ROW.1);
}

fn with_a_row_in_a_pack_changed(forgery: &mut Forgery, _: Option<&Forgery>) {
    replace(forgery.rows_of("shop.customers"), "customer 321", "customer 123");
}

fn with_rows_of_an_older_snapshot(forgery: &mut Forgery, before: Option<&Forgery>) {
    forgery.take_rows("shop.orders", before.expect("there is one"));
}

fn with_a_sequence_set_back(forgery: &mut Forgery, _: Option<&Forgery>) {
    forgery.contents(|archive| {
        let set =
            archive.entries.iter_mut().find(|entry| entry.desc.as_deref() == Some(b"SEQUENCE SET"));
        let defn = set.expect("a sequence").defn.as_mut().expect("a statement");
        replace(defn, "15000", "14999");
    });
}

fn without(desc: &'static str, tag: &'static str) -> impl Fn(&mut Forgery, Option<&Forgery>) {
    move |forgery, _| {
        forgery.contents(|archive| {
            let count = archive.entries.len();
            archive.entries.retain(|entry| {
                entry.desc.as_deref() != Some(desc.as_bytes())
                    || entry.tag.as_deref() != Some(tag.as_bytes())
            });
            assert_eq!(archive.entries.len(), count - 1, "{desc} {tag}");
        });
    }
}

#[test]
fn a_snapshot_made_wrong_on_purpose_fails_and_what_is_wrong_is_named() {
    let source = Database::create("forged", SHOP);
    let installation = Installation::create(&source);
    installation.backup();
    source.query("UPDATE shop.orders SET note = 'changed since' WHERE id = 7");
    installation.backup();
    let genuine = newest(&installation);
    let server = server("STONEKEEP_TEST_PG2");

    // What shows that it is the change that is found, and not the forger's hand.
    let unchanged = forge(&installation, &genuine, |_, _| {});
    assert_passes(drill_on(&installation, &unchanged, &server));
    let (output, target) = restored(&installation, &unchanged);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(source.rows(), target.rows());

    let foreign_key = without("FK CONSTRAINT", "orders orders_customer_fkey");
    type Change<'c> = &'c dyn Fn(&mut Forgery, Option<&Forgery>);
    let changes: [(Change<'_>, &str); 9] = [
        (&with_another_row, "table shop.orders"),
        (&with_rows_of_an_older_snapshot, "table shop.orders"),
        (&with_a_sequence_set_back, "sequence shop.orders_id_seq"),
        (&without("INDEX", "orders_at_idx"), "index shop.orders_at_idx, which is missing"),
        (&with_a_row_in_a_pack_changed, "table shop.customers"),
        (&foreign_key, "constraint orders_customer_fkey ON shop.orders, which is missing"),
        (&without("POLICY", "orders own"), "policy own ON shop.orders, which is missing"),
        (&without("ROW SECURITY", "orders"), "row security shop.orders, which is missing"),
        (&without("DEFAULT", "orders id"), "default shop.orders.id, which is missing"),
    ];
    for (at, (change, named)) in changes.into_iter().enumerate() {
        let forged = forge(&installation, &genuine, change);
        let (code, document) = drill_on(&installation, &forged, &server);
        assert_eq!(code, 65, "{named}: {document:#}");
        let problems = document["drills"][0]["problems"].as_array().expect("a list");
        assert_eq!(problems.len(), 1, "{named}: {problems:#?}");
        assert!(problems[0].as_str().expect("text").contains(named), "{named}: {problems:#?}");
        if at < 4 {
            // To everybody who only looks, it is a snapshot as any other.
            must(&mut installation.reader(&["verify", &forged, "--read-data"]));
            let (output, _target) = restored(&installation, &forged);
            assert_eq!(output.status.code(), Some(65), "{}", said(&output));
            assert!(said(&output).contains(named), "{named}: {}", said(&output));
        }
    }
}

#[test]
fn a_snapshot_that_an_older_version_took_is_compared_without_its_objects_and_says_so() {
    let source = Database::create("unlisted", SHOP);
    let installation = Installation::create(&source);
    installation.backup();
    let older =
        forge(&installation, &newest(&installation), |forgery, _| forgery.catalog.objects = None);
    let report = assert_passes(drill_on(&installation, &older, &server("STONEKEEP_TEST_PG2")));
    let not_checked = report["not_checked"].to_string();
    assert!(not_checked.contains("indexes, constraints"), "{not_checked}");
}

#[test]
fn a_database_with_nothing_in_it_passes() {
    let source = Database::create("nothing", "");
    let installation = Installation::create(&source);
    installation.backup();
    assert_passes(drilled(&mut scratch_drill(&installation)));
    source.query("CREATE TABLE empty (a int); CREATE TABLE bare (); CREATE SCHEMA hollow; DROP SCHEMA public CASCADE");
    installation.backup();
    assert_passes(drilled(&mut scratch_drill(&installation)));
}

/// What a restored database may have otherwise than its source, or what is rare.
const ODD: &str = "
CREATE EXTENSION pg_trgm; CREATE EXTENSION hstore;
CREATE UNLOGGED TABLE volatile (id int PRIMARY KEY, t text); INSERT INTO volatile SELECT i, 't' || i FROM generate_series(1, 100) i;
CREATE TABLE parted (k int, at date DEFAULT CURRENT_DATE, PRIMARY KEY (k, at)) PARTITION BY RANGE (at);
CREATE TABLE parted_25 PARTITION OF parted FOR VALUES FROM ('2025-01-01') TO ('2026-01-01') PARTITION BY HASH (k);
CREATE TABLE parted_25_0 PARTITION OF parted_25 FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE TABLE parted_rest PARTITION OF parted DEFAULT;
INSERT INTO parted SELECT i, date '2025-12-01' + i FROM generate_series(1, 90) i;
CREATE INDEX on_all ON parted (k); CREATE INDEX on_none ON ONLY parted (at);
CREATE TABLE fan (id int PRIMARY KEY, k int, at date, FOREIGN KEY (k, at) REFERENCES parted); INSERT INTO fan SELECT k, k, at FROM parted;
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER noted AFTER INSERT ON parted FOR EACH ROW EXECUTE FUNCTION noted();
CREATE TABLE parent (a int CHECK (a > 0), b int DEFAULT 3); CREATE TABLE child (c int, CHECK (a > 0)) INHERITS (parent); INSERT INTO child VALUES (1, 2, 3);
CREATE TABLE unclear (a varchar(9) DEFAULT NULL::character varying, b int UNIQUE, c text, EXCLUDE USING gist (c gist_trgm_ops WITH =));
ALTER TABLE unclear ALTER a TYPE varchar;
INSERT INTO unclear VALUES ('a', 1, 'c'); ALTER TABLE unclear ADD CONSTRAINT later CHECK (b > 5) NOT VALID;
CREATE INDEX ON unclear USING gin (c gin_trgm_ops); CREATE STATISTICS of_unclear ON a, b FROM unclear;
CREATE DOMAIN positive AS int CHECK (VALUE > 0); CREATE TYPE span AS RANGE (subtype = float8); CREATE TYPE pair AS (a int, b positive);
CREATE FUNCTION takes(pair[], span, VARIADIC int[]) RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE FUNCTION takes() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE MATERIALIZED VIEW clock AS SELECT clock_timestamp() AS at, now() AS now; CREATE MATERIALIZED VIEW later AS SELECT 1 AS one WITH NO DATA;
CREATE VIEW seen AS SELECT * FROM clock; CREATE RULE kept AS ON DELETE TO parent DO INSTEAD NOTHING;
CREATE COLLATION alien (provider = icu, locale = 'und');
CREATE TABLE sorted (t text COLLATE alien); CREATE INDEX ON sorted (t); INSERT INTO sorted VALUES ('b'), ('A');
CREATE PUBLICATION news FOR TABLE unclear;
SELECT lo_from_bytea(4711, 'large'); SELECT lo_from_bytea(4712, ''); COMMENT ON LARGE OBJECT 4711 IS 'one';
GRANT CREATE ON SCHEMA public TO PUBLIC; REVOKE USAGE ON SCHEMA public FROM PUBLIC; COMMENT ON SCHEMA public IS 'ours';
CREATE TEMPORARY TABLE gone (a int)";

/// A server on which values print otherwise, and whose databases begin with other contents and rights.
fn contrary_server() -> Server {
    let server = Server::start_in_german(
        "timezone = 'Asia/Kathmandu'\ndatestyle = 'SQL, DMY'\nintervalstyle = 'sql_standard'\nlc_monetary = 'de_DE.UTF-8'\n\
         extra_float_digits = -10\nbytea_output = 'escape'\nstandard_conforming_strings = off\nbackslash_quote = on\n\
         xmlbinary = 'hex'\nxmloption = 'document'\nquote_all_identifiers = on\ndefault_transaction_read_only = off\n\
         search_path = 'nowhere'\nlock_timeout = '1min'\ncheck_function_bodies = on\ndefault_toast_compression = 'lz4'\n\
         default_transaction_isolation = 'serializable'\nrow_security = on\nvacuum_freeze_min_age = 0\ncursor_tuple_fraction = 1",
    );
    for setting in [
        "DateStyle = 'German'",
        "lc_monetary = 'de_DE.UTF-8'",
        "bytea_output = 'escape'",
        "TimeZone = 'Asia/Tokyo'",
    ] {
        server.query(&format!("ALTER ROLE postgres SET {setting}"));
    }
    let (base, _) = server.url.rsplit_once('/').expect("a URL with a database");
    let litter = "CREATE TABLE public.litter (a int); GRANT CREATE ON SCHEMA public TO PUBLIC; DROP EXTENSION plpgsql";
    let psql = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", litter];
    must(Command::new("psql").args(psql).arg(format!("{base}/template1")));
    server
}

#[test]
fn what_is_odd_and_not_wrong_passes_and_what_cannot_be_the_same_is_told() {
    let source = Database::create("odd", ODD);
    let major = source.major();
    source.query("UPDATE pg_collation SET collversion = '1' WHERE collname = 'alien'");
    source.query("UPDATE pg_extension SET extversion = '0.9' WHERE extname = 'pg_trgm'");
    let installation = Installation::create(&source);
    installation.backup();
    let report = assert_passes(drilled(&mut scratch_drill(&installation)));
    let told = format!("{} {}", report["notes"], report["not_checked"]);
    for words in [
        "collation public.alien is of version",
        "extension pg_trgm is of version",
        "materialized views",
    ] {
        assert!(told.contains(words), "{words:?} is not in {told}");
    }
    let of = |what: &str| {
        let all = report["compared"].as_array().expect("a list");
        let kind = all.iter().find(|kind| kind["what"] == what);
        let kind = kind.unwrap_or_else(|| panic!("{what}: {all:#?}"));
        assert_eq!(kind["wanted"], kind["same"], "{what}");
        kind["wanted"].as_u64().expect("a number")
    };
    assert_eq!(of("large objects"), 2);
    assert_eq!(of("materialized views"), 2);
    assert_eq!(of("extensions"), 2);
    assert_eq!(of("functions"), 3, "PostgreSQL {major}");
    assert!(of("indexes") >= 6 && of("constraints") >= 10 && of("triggers") == 1);
    assert_passes(drill_on(&installation, "latest", &contrary_server().url));
}

/// A value of each kind that a setting prints otherwise.
const PRINTED: &str = "
CREATE TABLE printed (at timestamptz, t0 timestamp, d date, iv interval, m money, f8 float8, f4 real, raw bytea, x xml, t text, tz timetz);
INSERT INTO printed SELECT timestamptz '2026-10-25 00:30:00Z' + i * interval '20 min', timestamp '2026-02-03 04:05:06', date '2026-02-03' + i,
  interval '1 year -2 days 03:04:05.678' * i, 1234567.89, 1.0 / 3 * i, 1.0 / 7 * i, decode('00ff5c27', 'hex'), '<a>ü</a>', E'back\\\\slash ''quote''', '04:05:06+03'
FROM generate_series(1, 50) i;
CREATE TABLE checked (at timestamptz CHECK (at > '2026-02-03 04:05:06'), m money DEFAULT 12.34, note text DEFAULT E'a\\\\b');
INSERT INTO checked (at) VALUES ('2026-03-04');
CREATE VIEW of_strings AS SELECT E'a\\\\b' AS s, date '2026-03-04' AS d;";

#[test]
fn a_server_with_other_settings_gives_the_same_verdict() {
    let source = Database::create("printed", PRINTED);
    let installation = Installation::create(&source);
    installation.backup();
    let genuine = newest(&installation);
    let contrary = contrary_server();
    let printed = contrary.query("SELECT 1234.5::money, timestamptz '2026-02-03 04:05:06Z', 1.0::float8 / 3, decode('ff', 'hex')");
    assert_eq!(printed.trim(), "1.234,50 €|03.02.2026 13:05:06 JST|0.33333|\\377");
    assert_passes(drill_on(&installation, &genuine, &contrary.url));
    let forged = forge(&installation, &genuine, |forgery, _| {
        replace(forgery.rows_of("public.printed"), "$1,234,567.89", "$1,234,567.88");
    });
    for url in [&contrary.url, &server("STONEKEEP_TEST_PG2")] {
        let (code, document) = drill_on(&installation, &forged, url);
        assert_eq!(code, 65);
        assert!(
            document["drills"][0]["problems"].to_string().contains("table public.printed"),
            "{document:#}"
        );
    }
    let databases =
        contrary.query("SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database");
    assert_eq!(databases.trim(), "postgres template0 template1", "what a drill has made is gone");
}

/// Starts a command, interrupts it when an event of its own tells of `words`, and returns its exit code.
fn interrupted(command: &mut Command, words: &str) -> Option<i32> {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("started");
    let mut events =
        BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    assert!(events.any(|line| line.contains(words)), "it ended before it told of {words}");
    must(Command::new("kill").args(["-INT", &child.id().to_string()]));
    events.for_each(drop);
    child.wait().expect("gone").code()
}

/// The programs that run with a path in this directory among their arguments.
fn running_in(dir: &Path) -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("a list").filter_map(Result::ok);
    let lines = processes.filter_map(|each| fs::read(each.path().join("cmdline")).ok());
    let texts = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    texts.filter(|line| line.contains(&*dir.to_string_lossy())).collect()
}

#[test]
fn what_was_cancelled_leaves_nothing_in_the_way_of_the_next_drill() {
    let tables: String = (0..4)
        .map(|n| format!("CREATE TABLE t{n} (id int PRIMARY KEY, pad text); INSERT INTO t{n} SELECT i, md5((i * {n})::text) || repeat('x', 60) FROM generate_series(1, 20000) i;"))
        .collect();
    let source = Database::create("cancelled", &tables);
    let installation = Installation::create(&source);
    let code = interrupted(&mut installation.daemon(&["--json", "backup"]), "segment_put");
    assert_eq!(code, Some(75));
    installation.backup();
    let before = entries(&installation.path(""));
    for phase in ["\"starting\"", "table_started", "\"comparing\""] {
        let code = interrupted(&mut scratch_drill(&installation), phase);
        assert_eq!(code, Some(75), "{phase}");
        assert_eq!(running_in(&installation.path("")), [""; 0], "{phase}");
        let left: Vec<_> = entries(&installation.path(""))
            .into_iter()
            .filter(|name| !before.contains(name))
            .collect();
        assert!(
            left.iter().all(|name| name == "stonekeep" || name == "reader.toml"),
            "{phase}: {left:?}"
        );
    }
    assert_passes(drilled(&mut scratch_drill(&installation)));
}

fn entries(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a directory").filter_map(Result::ok);
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Questions that are answered as expected, otherwise, and not at all; what must not be told bears a mark.
const CHECKS: &str = r#"
[drill]
[[drill.check]]
name = "all notes"
sql = "SELECT count(*) FROM notes WHERE note <> 'canary-asked'"
expect = "3"
[[drill.check]]
name = "wrong"
sql = "SELECT note FROM notes WHERE id = 1"
expect = "canary-expected"
[[drill.check]]
name = "two rows"
sql = "SELECT note FROM notes WHERE id < 3 ORDER BY 1"
expect = "canary-expected"
[[drill.check]]
name = "no rows"
sql = "SELECT note FROM notes WHERE id > 3"
expect = "canary-expected"
[[drill.check]]
name = "no SQL"
sql = "SELEKT 'canary-asked'"
expect = "1"
[[drill.check]]
name = "no number"
sql = "SELECT max(note::int) FROM notes"
expect = "1"
[[drill.check]]
name = "taking away"
sql = "DELETE FROM notes WHERE note <> 'canary-asked' RETURNING 1"
expect = "1"
[[drill.check]]
name = "all notes still"
database = "bookings"
sql = "SELECT count(*) FROM notes"
expect = "3"
[[drill.check]]
name = "of another"
database = "ledger"
sql = "SELECT 'canary-asked'"
expect = "1"
"#;

/// A small database with these questions to it.
fn asked() -> (Database, Installation) {
    let notes = "CREATE TABLE notes (id int PRIMARY KEY, note text); INSERT INTO notes SELECT i, 'canary-row ' || i FROM generate_series(1, 3) i";
    let source = Database::create("asked", notes);
    let installation = Installation::create(&source);
    let url = &source.url;
    installation.configure(|text| {
        format!("{text}[[database]]\nname = \"ledger\"\nurl = \"{url}\"\ntls = \"disable\"\nschedule = \"15 * * * *\"\n")
    });
    installation.backup();
    let config = installation.path("stonekeep.toml");
    let text = fs::read_to_string(&config).expect("init has written it");
    installation.write("stonekeep.toml", &format!("{text}{CHECKS}"));
    (source, installation)
}

/// What a command wrote, to stdout and to stderr.
fn both(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &said(output)
}

/// The text of every file in a directory.
fn all_of(dir: &Path) -> String {
    entries(dir).iter().map(|name| fs::read_to_string(dir.join(name)).expect("text")).collect()
}

#[test]
fn checks_are_asked_without_a_word_of_question_or_answer_and_an_identity_that_opens_nothing_fails()
{
    let (_source, installation) = asked();
    let args = ["--json", "drill", "latest:bookings", "--report", "reports"];
    let identities = ["--identity", "identity1", "--identity", "stranger"];
    let command = installation.reader(&[&args[..], &identities].concat());
    let output = run(&mut unprivileged(&command, &installation.path("")));
    assert_eq!(output.status.code(), Some(65), "{}", said(&output));
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let report = &document["drills"][0];
    let checks = report["checks"].as_array().expect("a list").iter();
    let answers: Vec<_> = checks
        .map(|check| (check["name"].as_str().expect("a name"), check["why"].as_str()))
        .collect();
    let [
        ("all notes", None),
        ("wrong", Some(wrong)),
        ("two rows", Some(two)),
        ("no rows", Some(none)),
        ("no SQL", Some(no_sql)),
        ("no number", Some(no_number)),
        ("taking away", Some(refused)),
        ("all notes still", None),
    ] = answers[..]
    else {
        panic!("{answers:#?}")
    };
    assert!(wrong.contains("not the expected one"), "{wrong}");
    assert!(two.contains("more than one row"), "{two}");
    assert!(none.contains("0 rows of 1 columns"), "{none}");
    // syntax_error, invalid_text_representation, read_only_sql_transaction
    assert!(no_sql.contains("42601"), "{no_sql}");
    assert!(no_number.contains("22P02"), "{no_number}");
    assert!(refused.contains("25006"), "{refused}");

    let problems = report["problems"].as_array().expect("a list");
    assert_eq!(problems.len(), 7, "{problems:#?}");
    let of_the_stranger = problems[0].as_str().expect("text");
    assert!(of_the_stranger.starts_with("identity stranger "), "{of_the_stranger}");
    assert!(of_the_stranger.contains("does not open"), "{of_the_stranger}");
    let proven = report["recipients"].to_string();
    assert!(proven.contains("\"identity1\"") && !proven.contains("stranger"), "{proven}");

    let reports = installation.path("reports");
    assert_eq!(entries(&reports).len(), 2, "a page and a document");
    let told = format!("{}{}", both(&output), all_of(&reports));
    assert!(!told.contains("canary"), "{told}");

    // Where the report cannot be written, the verdict stands all the same.
    installation.write("occupied", "");
    let server = server("STONEKEEP_TEST_PG2");
    let args = ["drill", "latest:bookings", "--report", "occupied", "--server", &server];
    let args = [&args[..], &["--identity", "identity1"]].concat();
    let output = run(&mut installation.reader(&args));
    assert_eq!(output.status.code(), Some(65), "{}", said(&output));
    let told = both(&output);
    assert!(told.contains("occupied") && told.contains("check \"wrong\""), "{told}");
    assert!(!told.contains("canary"), "{told}");

    // A question to nobody would never be asked.
    let config = fs::read_to_string(installation.path("stonekeep.toml")).expect("as written");
    installation.write("stonekeep.toml", &config.replace("\"ledger\"", "\"legder\""));
    let output = run(&mut installation.reader(&args));
    assert_eq!(output.status.code(), Some(78), "{}", said(&output));
    assert!(
        said(&output).contains("check \"of another\" is of database legder"),
        "{}",
        said(&output)
    );
}

#[test]
fn one_of_the_last_by_chance_is_drilled_and_the_report_says_of_how_many() {
    let source =
        Database::create("by_chance", "CREATE TABLE notes (id int); INSERT INTO notes VALUES (1)");
    let installation = Installation::create(&source);
    let server = server("STONEKEEP_TEST_PG2");
    let args = ["--json", "drill", "--random", "2", "--identity", "identity1", "--server", &server];
    for of in ["by chance, of 1", "by chance, of 2", "by chance, of 2"] {
        installation.backup();
        let report = assert_passes(drilled(&mut installation.reader(&args)));
        assert_eq!(report["snapshot"]["chosen"], of);
    }
}
