//! Both files as a whole: the examples, and what is refused where.

use std::{fs, time::Duration};

use proptest::prelude::*;
use stonekeep_format::{ErrorKind, lock::LockMode, tier::Every};

use super::*;
use crate::{ReaderConfig, TlsMode, reader::Whereabouts};

const EXAMPLE: &str = include_str!("../stonekeepd.example.toml");
const READER_EXAMPLE: &str = include_str!("../stonekeep.example.toml");
const RECIPIENTS: [&str; 2] = [
    "age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg",
    "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa",
];

fn example() -> String {
    let first = EXAMPLE.replace("age1-REPLACE-THIS-FIRST", RECIPIENTS[0]);
    first.replace("age1-REPLACE-THIS-SECOND", RECIPIENTS[1])
}

fn load_daemon(text: &str) -> Result<DaemonConfig, ConfigError> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("stonekeepd.toml");
    fs::write(&path, text).expect("written");
    DaemonConfig::load(&path)
}

fn load_reader(text: &str) -> Result<ReaderConfig, ConfigError> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("stonekeep.toml");
    fs::write(&path, text).expect("written");
    ReaderConfig::load(&path)
}

/// The example with one text in it replaced; it must be there.
fn changed(from: &str, to: &str) -> String {
    let text = example();
    assert!(text.contains(from), "the example holds {from:?}");
    text.replacen(from, to, 1)
}

/// Line, column and message of the refusal of the example with one text in it replaced.
fn refused_at(from: &str, to: &str) -> (usize, usize, String) {
    match load_daemon(&changed(from, to)) {
        Err(ConfigError::Syntax { line, column, message, .. }) => (line, column, message),
        other => panic!("{to:?} must be refused with its place, and was {other:?}"),
    }
}

fn place_of(text: &str, wanted: &str) -> (usize, usize) {
    let at = text.find(wanted).expect("the text is there");
    let line_start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    (text[..at].matches('\n').count() + 1, at - line_start + 1)
}

#[test]
fn the_daemon_example_says_what_it_means() {
    let config = load_daemon(&example()).expect("the example is right");
    assert_eq!(config.recipients(), RECIPIENTS);
    let repository = config.repository(None).expect("one");
    assert_eq!((repository.bucket.as_str(), repository.prefix.as_str()), ("acme-vault", ""));
    assert_eq!((repository.path_style, repository.lock_mode), (false, LockMode::Compliance));
    let tiers = config.tiers();
    assert_eq!(
        tiers.iter().map(|tier| tier.every).collect::<Vec<_>>(),
        [Every::Hour, Every::Day, Every::Month]
    );
    assert_eq!(tiers[1].keep.as_secs(), 35 * 86_400);
    let databases = config.databases();
    assert_eq!(databases[0].url.as_str(), "postgres://stonekeep@db.internal/bookings");
    assert_eq!(
        (databases[0].tls, databases[0].time_zone),
        (Some(TlsMode::VerifyFull), chrono_tz::Europe::Berlin)
    );
}

#[test]
fn the_defaults_shown_in_the_examples_are_the_defaults() {
    let shown = [
        "state_dir",
        "memory_budget",
        "compression_level",
        "path_style",
        "lock",
        "lock_mode",
        "jobs",
        "ddl_wait_max",
        "listen",
        "show_names",
        "webhook_format",
        "repeat",
    ];
    let mut text = example();
    for name in shown {
        let comment = format!("# {name} = ");
        assert_eq!(text.matches(&comment).count(), 1, "{name}");
        text = text.replace(&comment, &format!("{name} = "));
    }
    let (mut bare, mut spelled) =
        (load_daemon(&example()).expect("bare"), load_daemon(&text).expect("spelled out"));
    bare.path = PathBuf::new();
    spelled.path = PathBuf::new();
    assert_eq!(bare, spelled);
}

#[test]
fn every_name_in_the_examples_is_a_name() {
    let uncomment = |text: &str| {
        let is_setting = |line: &str| {
            !line.starts_with("# directory") && {
                line.strip_prefix("# ").is_some_and(|rest| {
                    // The heading of a section that is left out as a whole.
                    rest.starts_with("[notify")
                        || rest.starts_with("[[drill")
                        || rest.split_once(" = ").is_some_and(|(name, _)| {
                            name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
                        })
                })
            }
        };
        let lines = text.lines().map(|line| if is_setting(line) { &line[2..] } else { line });
        lines.collect::<Vec<_>>().join("\n")
    };
    let config = load_daemon(&uncomment(&example())).expect("daemon");
    assert!(config.pg_bindir.is_some() && config.repository(None).expect("one").endpoint.is_some());
    assert_eq!(config.notify.mail.map(|mail| mail.port()), Some(587));
    let config = load_reader(&uncomment(READER_EXAMPLE)).expect("reader");
    assert_eq!(config.identity_files.len(), 1);
    assert_eq!(config.drill.checks.len(), 1);
    assert!(config.drill.rto_max.is_some() && !config.drill.settings.is_empty());
    let Ok(Whereabouts::Bucket(repository)) = config.repository(None) else { panic!("a bucket") };
    assert!(repository.credentials_file.is_some());
}

#[test]
fn the_reader_example_needs_no_change() {
    let config = load_reader(READER_EXAMPLE).expect("the example is right");
    assert!(config.identity_files.is_empty() && config.pg_bindir.is_none());
}

#[test]
fn what_init_writes_for_readers_is_read_back() {
    let config = load_daemon(&changed(
        "# prefix = \"stonekeep\"",
        "prefix = \"stone/keep\"\nendpoint = \"https://s3.example.com\"\npath_style = true\nca_file = \"/a \\\"b\\\"/ca.pem\"\ncredentials_file = \"/writer\"",
    ));
    let config = config.expect("daemon");
    let repository = config.repository(None).expect("one");
    let text = ReaderConfig::render(
        Path::new("/etc/stone keep/allowed_signers"),
        config.repositories(),
        config.databases(),
        today(),
    );
    let reader = load_reader(&text).expect("reader");
    assert_eq!(reader.allowed_signers_file, Path::new("/etc/stone keep/allowed_signers"));
    let without = RepositoryConfig { credentials_file: None, ..repository.clone() };
    assert_eq!(reader.repository(None).expect("one"), Whereabouts::Bucket(&without));
    let named: Vec<_> = reader.watch.databases.iter().map(|each| each.name.as_str()).collect();
    let labels: Vec<_> = config.databases().iter().map(|each| each.name.as_str()).collect();
    assert_eq!(named, labels);
    // Hourly; the hour that comes twice runs once.
    assert_eq!(reader.watch.databases[0].age_max, Some(Duration::from_secs(4 * 3_600)));
}

fn today() -> chrono::NaiveDate {
    chrono::NaiveDate::from_ymd_opt(2026, 11, 21).expect("a day")
}

#[test]
fn a_watcher_is_told_ages_sizes_and_labels_once() {
    let base = "allowed_signers_file = \"a\"\n[[repository]]\nname = \"v\"\nbucket = \"acme\"\nregion = \"x\"\n[watch]\n";
    let watched = |rest: &str| load_reader(&format!("{base}{rest}"));
    let one = "[[watch.database]]\nname = \"bookings\"\nage_max = \"90m\"\n";
    let config =
        watched(&format!("bytes_per_day_max = \"2TiB\"\nmetrics_file = \"/m/%r.prom\"\n{one}"));
    let watch = config.expect("reader").watch;
    assert_eq!(watch.bytes_per_day_max, Some(2 << 40));
    assert_eq!(watch.metrics_file("v").as_deref(), Some(Path::new("/m/v.prom")));
    assert_eq!(watch.databases[0].age_max, Some(Duration::from_secs(5_400)));
    assert!(matches!(watched(&one.repeat(2)), Err(ConfigError::NotUnique { .. })));
    for bad in
        ["age_max = \"4m\"", "age_max = 3", "bytes_per_day_max = \"20GB\"", "ping_url = \"x\""]
    {
        assert!(matches!(watched(bad), Err(ConfigError::Syntax { .. })), "{bad}");
    }
}

#[test]
fn databases_by_pattern_are_left_to_a_person() {
    let config =
        load_daemon(&changed("schedule = ", "databases = [\"*\"]\nschedule = ")).expect("loads");
    let text =
        ReaderConfig::render(Path::new("/x"), config.repositories(), config.databases(), today());
    assert!(text.contains("known by pattern"), "{text}");
    assert!(load_reader(&text).expect("reader").watch.databases.is_empty());
}

#[test]
fn each_repository_has_a_witness_of_its_own() {
    let witness = "witness_file = \"/var/lib/%r.witness\"\nallowed_signers_file = \"a\"\n";
    let repository = |name: &str| {
        format!("[[repository]]\nname = \"{name}\"\nbucket = \"acme\"\nregion = \"x\"\n")
    };
    let both = format!("{witness}{}{}", repository("vault"), repository("drawer"));
    let config = load_reader(&both).expect("reader");
    let file = config.witness_file(Some("drawer")).expect("one");
    assert_eq!(file.as_deref(), Some(Path::new("/var/lib/drawer.witness")));
    let shared = load_reader(&both.replace("%r", "one"));
    let is_shared =
        |option| matches!(shared, Err(ConfigError::SharedFile { option: it, .. }) if it == option);
    assert!(is_shared("witness_file"), "{shared:?}");
    let figures = |file| format!("{both}[watch]\nmetrics_file = \"/m/{file}.prom\"\n");
    load_reader(&figures("%r")).expect("one for each");
    let shared = load_reader(&figures("one"));
    let is_shared = matches!(shared, Err(ConfigError::SharedFile { option: "metrics_file", .. }));
    assert!(is_shared, "{shared:?}");
    let none = load_reader(&format!("allowed_signers_file = \"a\"\n{}", repository("vault")));
    assert_eq!(none.expect("reader").witness_file(None).expect("one"), None);
}

#[test]
fn a_reader_may_read_a_copy_in_a_directory_instead() {
    let config = load_reader("allowed_signers_file = \"a\"\ndirectory = \"/media/drawer\"\n")
        .expect("a copy");
    assert_eq!(
        config.repository(None).expect("one"),
        Whereabouts::Directory(Path::new("/media/drawer"))
    );
    let both = format!("directory = \"/media/drawer\"\n{READER_EXAMPLE}");
    assert!(matches!(load_reader(&both), Err(ConfigError::TwoPlaces { .. })));
}

#[test]
fn an_example_nobody_filled_in_is_refused() {
    assert!(matches!(load_daemon(EXAMPLE), Err(ConfigError::Recipients { .. })));
}

#[test]
fn wrong_values_are_refused_with_line_and_column() {
    for (from, to, wanted, said) in [
        (r#"keep = "7d""#, r#"keep = "7 days""#, r#""7 days""#, "h, d, w, y"),
        (r#"every = "hour""#, r#"every = "minute""#, r#""minute""#, "`hour`"),
        (r#"tls = "verify-full""#, r#"tls = "verify-ca""#, r#""verify-ca""#, "verify-full"),
        ("15 * * * *", "15 * * *", r#""15 * * *""#, "five fields"),
        ("15 * * * *", "15 3 1 * 1", r#""15 3 1 * 1""#, "both"),
        ("Europe/Berlin", "Europe/Bielefeld", r#""Europe/Bielefeld""#, "time zone"),
        (r#"name = "bookings""#, r#"name = "Bookings""#, r#""Bookings""#, "label"),
        (
            r#""postgres://stonekeep@db.internal/bookings""#,
            r#""postgres://stonekeep@db.internal/bookings?sslmode=require""#,
            r#""postgres"#,
            "settings of their own",
        ),
        ("# jobs = 4", "jobs = 400", "400", "1 to 64"),
        (r#"# memory_budget = "160MiB""#, r#"memory_budget = "1MiB""#, r#""1MiB""#, "64MiB"),
        (r#"# lock = "per-object""#, r#"lock = "per-day""#, r#""per-day""#, "`bucket-default`"),
        (r#"# prefix = "stonekeep""#, r#"prefix = "/stonekeep/""#, r#""/stonekeep/""#, "prefix"),
        ("signer_file =", "signerfile =", "signerfile =", "unknown field `signerfile`"),
        ("keep = ", "keeps = ", "keeps = ", "unknown field `keeps`"),
        ("region = \"eu-central-1\"", "region = eu-central-1", "eu-central-1", ""),
    ] {
        let (line, column, message) = refused_at(from, to);
        let place = place_of(&changed(from, to), to);
        let offset = to.find(wanted).unwrap_or(0);
        let expected =
            if to.contains(wanted) { (place.0, place.1 + offset) } else { (place.0, place.1 - 1) };
        assert_eq!((line, column), expected, "{to}: {message}");
        assert!(message.contains(said), "{to}: {message}");
    }
}

#[test]
fn a_password_in_a_url_is_refused_and_not_repeated() {
    let text = changed("stonekeep@db.internal", "stonekeep:hunter2@db.internal");
    let error = load_daemon(&text).expect_err("a password");
    let shown = format!("{error} {error:?}");
    assert!(shown.contains("password_file") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn a_broken_line_is_not_repeated_either() {
    let error =
        load_daemon(&changed("[encryption]", "[encryption]\nsecret = AGE-SECRET-KEY-1QQQ\n"))
            .expect_err("broken");
    assert!(!format!("{error} {error:?}").contains("SECRET-KEY"));
}

#[test]
fn one_recipient_is_too_few() {
    let one = changed(&format!(", \"{}\"", RECIPIENTS[1]), "");
    let error = load_daemon(&one).expect_err("one recipient");
    assert!(
        matches!(error, ConfigError::TooFewRecipients { found: 1, .. })
            && error.kind() == ErrorKind::Config
    );
    let same = example().replace(RECIPIENTS[1], RECIPIENTS[0]);
    assert!(matches!(load_daemon(&same), Err(ConfigError::Recipients { .. })));
}

#[test]
fn names_are_unique() {
    let twice = changed("name = \"daily\"", "name = \"hourly\"");
    assert!(matches!(load_daemon(&twice), Err(ConfigError::NotUnique { what: "tiers", .. })));
    let again =
        format!("{}\n[[database]]\nname = \"bookings\"\nurl = \"postgres:///other\"\n", example());
    assert!(matches!(load_daemon(&again), Err(ConfigError::NotUnique { what: "databases", .. })));
}

#[test]
fn something_of_each_must_be_there() {
    let minimal = format!(
        "signer_file = \"s\"\nallowed_signers_file = \"a\"\n[encryption]\nrecipients = [{:?}, {:?}]\n",
        RECIPIENTS[0], RECIPIENTS[1]
    );
    let repository = "[[repository]]\nname = \"v\"\nbucket = \"abc\"\nregion = \"r\"\n";
    let tier = "[[tier]]\nname = \"t\"\nevery = \"day\"\nkeep = \"1d\"\n";
    let database = "[[database]]\nname = \"d\"\nurl = \"postgres:///d\"\n";
    let missing = |text: String| match load_daemon(&text) {
        Err(ConfigError::Missing { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(missing(format!("{minimal}{tier}{database}")), "[[repository]]");
    assert_eq!(missing(format!("{minimal}{repository}{database}")), "[[tier]]");
    assert_eq!(missing(format!("{minimal}{repository}{tier}")), "[[database]]");
    let two = format!("{minimal}{repository}{repository}{tier}{database}");
    let same = load_daemon(&two);
    assert!(matches!(same, Err(ConfigError::NotUnique { what: "repositories", .. })));
    let second = repository.replace("\"v\"", "\"w\"");
    let two = load_daemon(&format!("{minimal}{repository}{second}{tier}{database}")).expect("two");
    assert_eq!(two.repository(None).expect("the first").name, "v");
    assert_eq!(two.repository(Some("w")).expect("by name").name, "w");
    assert!(matches!(two.repository(Some("x")), Err(ConfigError::NoSuchRepository { .. })));
    assert!(load_daemon(&format!("{minimal}{repository}{tier}{database}")).is_ok());
    assert!(matches!(
        load_reader("allowed_signers_file = \"a\""),
        Err(ConfigError::Missing { .. })
    ));
}

#[test]
fn unknown_labels_are_a_mistake_of_the_command_line() {
    let config = load_daemon(&example()).expect("the example is right");
    let label = |text: &str| text.parse::<Label>().expect("a label");
    let bookings = [label("bookings"), label("bookings")];
    assert_eq!(config.choose(config.databases().to_vec(), &bookings).expect("known").len(), 1);
    let unknown = [label("bookings"), label("billing")];
    let error = config.choose(config.databases().to_vec(), &unknown).expect_err("unknown");
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("billing") && error.to_string().contains("bookings"));
}

#[test]
fn columns_count_characters() {
    let error = parse::<toml::Table>(Path::new("x"), "a = 1\n\"äöü\" = = 2\n")
        .expect_err("two equal signs");
    assert!(matches!(error, ConfigError::Syntax { line: 2, column: 9, .. }), "{error}");
}

proptest! {
    #[test]
    fn any_damage_is_an_error_or_a_config(at in any::<prop::sample::Index>(), with in any::<char>()) {
        let mut text: Vec<char> = example().chars().collect();
        let at = at.index(text.len());
        text[at] = with;
        if let Err(error) = load_daemon(&text.into_iter().collect::<String>()) {
            prop_assert!(!error.to_string().is_empty() && error.kind() != ErrorKind::Internal);
        }
    }
}

/// The example with a bucket for each of these tiers.
fn with_tier_buckets(tiers: &[&str]) -> String {
    let buckets: String = tiers
        .iter()
        .map(|name| format!("[[repository.tier]]\nname = {name:?}\nbucket = \"acme-{name}\"\n"))
        .collect();
    let text = changed(r#"# lock = "per-object""#, r#"lock = "bucket-default""#);
    text.replacen("[[tier]]", &format!("{buckets}[[tier]]"), 1)
}

#[test]
fn buckets_that_name_the_locks_are_one_for_each_tier() {
    let config = load_daemon(&with_tier_buckets(&["hourly", "daily", "monthly"])).expect("loads");
    let repository = &config.repositories()[0];
    assert_eq!(repository.tiers.len(), 3);
    let allowed_signers = Path::new("/x/allowed_signers");
    let rendered = ReaderConfig::render(allowed_signers, config.repositories(), &[], today());
    let reader = load_reader(&rendered).expect("loads");
    let Ok(Whereabouts::Bucket(read)) = reader.repository(None) else { panic!("a bucket") };
    assert_eq!((read.lock_by, &read.tiers), (repository.lock_by, &repository.tiers));

    for (text, said) in [
        (with_tier_buckets(&["hourly", "daily"]), "\"monthly\" has no bucket"),
        (with_tier_buckets(&["hourly", "hourly", "daily", "monthly"]), "two [[repository.tier]]"),
        (
            with_tier_buckets(&["hourly"]).replace("lock = \"bucket-default\"", ""),
            "goes with lock = \"bucket-default\"",
        ),
    ] {
        let error = load_daemon(&text).expect_err("refused").to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn the_configurations_for_kubernetes_and_platforms_are_right() {
    for text in [
        include_str!("../kubernetes/base/stonekeepd.toml"),
        include_str!("../kubernetes/overlays/example-production/stonekeepd.toml"),
        include_str!("../kubernetes/overlays/web-identity/stonekeepd.toml"),
        fenced(include_str!("../../docs/platforms.md")),
    ] {
        load_daemon(text).expect("the daemon's is right");
    }
    for text in [
        include_str!("../kubernetes/base/stonekeep.toml"),
        include_str!("../kubernetes/overlays/example-production/stonekeep.toml"),
    ] {
        load_reader(text).expect("the reader's is right");
    }
}

/// The configuration in a document.
fn fenced(document: &str) -> &str {
    let (_, behind) = document.split_once("<!-- example-config -->\n```toml\n").expect("there");
    behind.split_once("```").expect("an end").0
}
