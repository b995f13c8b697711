//! The recovery kit: what is printed on it is typed as it stands, and brings every database back.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    harness::{Database, Installation, User, must, run, said, server},
    tier_buckets,
};

const BOOKINGS: &str = "CREATE TABLE bookings (id int PRIMARY KEY, note text, paid numeric);
    INSERT INTO bookings SELECT i, 'Buchung für ' || md5(i::text), i / 7.0 FROM generate_series(1, 150000) i;
    CREATE SEQUENCE numbers; SELECT setval('numbers', 4711); SELECT lo_from_bytea(4242, 'a large object')";
const SHOP: &str = "CREATE TABLE \"Odd name\" (a int, b text); INSERT INTO \"Odd name\" SELECT i, repeat('x', i % 50) FROM generate_series(1, 2000) i;
    CREATE TABLE empty (a int)";
/// A label in which a shell and a URL could see more than a name.
const SHOP_LABEL: &str = "shop-eu.v2";
const PASSWORD: &str = "canary-in-a-password";
/// What is typed stands four columns in.
const TYPED: &str = "    ";

/// Two databases in one repository, with a snapshot of each.
struct Two {
    bookings: Database,
    shop: Database,
    installation: Installation,
}

impl Two {
    fn create() -> Self {
        let bookings = Database::create("kit_bookings", BOOKINGS);
        let shop = Database::create("kit_shop", SHOP);
        let installation = Installation::prepare(&bookings);
        installation.write("password", PASSWORD);
        let password = installation.path("password");
        installation.configure(|text| {
            format!(
                "{text}[[database]]\nname = \"{SHOP_LABEL}\"\nurl = \"{}\"\ntls = \"disable\"\npassword_file = \"{}\"\n",
                shop.url,
                password.display()
            )
        });
        let made = installation.init();
        assert!(made.status.success(), "init: {}", said(&made));
        installation.backup();
        Self { bookings, shop, installation }
    }

    fn both(&self) -> [(&'static str, &Database); 2] {
        [("bookings", &self.bookings), (SHOP_LABEL, &self.shop)]
    }

    /// Makes the kit, and returns its directory.
    fn kit(&self) -> PathBuf {
        let identities = ["--identity", "identity1", "--identity", "stranger"];
        let mut make = self.installation.reader(&["recovery-kit", "--out", "kit"]);
        must(make.args(identities));
        self.installation.path("kit")
    }
}

/// What is to be typed in a section of the kit, piece by piece, and the names that it leaves to be filled in.
struct Typed {
    pieces: Vec<String>,
    blanks: Vec<String>,
}

fn typed(kit: &Path, section: &str) -> Typed {
    let text = fs::read_to_string(kit.join("recovery-kit.txt")).expect("written");
    let (_, rest) = text.split_once(&format!("\n{section}\n")).expect("the section");
    let end = rest.find("\n\n\n").unwrap_or(rest.len());
    let (mut pieces, mut blanks, mut piece) = (Vec::new(), Vec::new(), String::new());
    for line in rest[..end].lines() {
        if let Some(command) = line.strip_prefix(TYPED) {
            piece += &format!("{command}\n");
        } else if line.is_empty() {
            // Of a program, or the end of a piece.
            piece += "\n";
        } else {
            pieces.push(std::mem::take(&mut piece));
            let name = line.trim().split(' ').next().unwrap_or_default();
            if line.starts_with("  ") && line.contains("____") {
                blanks.push(name.to_owned());
            }
        }
    }
    pieces.push(piece);
    pieces.retain(|piece| !piece.trim().is_empty());
    Typed { pieces, blanks }
}

/// A shell on a machine with nothing but a kit, an identity and programs; of what the kit asks for, everything is filled in.
fn shell(
    dir: &Path,
    program: &str,
    script: &str,
    (typed, filled): (&Typed, &BTreeMap<&str, String>),
) -> Command {
    let mut shell = Command::new(program);
    shell.args(["-c", script]).current_dir(dir).env_clear().env("HOME", dir);
    let bindir = server("STONEKEEP_TEST_PG_BINDIR");
    shell.env("PATH", format!("{bindir}:/usr/bin:/bin")).env("AWS_EC2_METADATA_DISABLED", "true");
    for name in &typed.blanks {
        let value = filled.get(name.as_str()).or_else(|| panic!("the kit asks for {name}"));
        shell.env(name, value.expect("given"));
    }
    shell
}

/// What a person has in hand besides the kit.
fn in_hand(installation: &Installation, dir: &Path) -> BTreeMap<&'static str, String> {
    fs::copy(installation.path("identity2"), dir.join("identity")).expect("copied");
    let (id, secret) = User::Reader.keys();
    BTreeMap::from([
        ("AWS_ACCESS_KEY_ID", id),
        ("AWS_SECRET_ACCESS_KEY", secret),
        ("IDENTITY", "identity".to_owned()),
    ])
}

fn assert_same(source: &Database, target: &Database) {
    assert_eq!(source.rows(), target.rows());
    assert_eq!(source.sequences(), target.sequences());
}

/// Follows the part without Stonekeep, piece by piece, on a machine that has nothing but the text of the kit and an identity.
fn by_stock_tools(kit: &Path, installation: &Installation, label: &str, sh: &str) -> Database {
    let typed = typed(kit, "4. Without Stonekeep");
    let [extract, run_it, load, program] = &typed.pieces[..] else { panic!("{:#?}", typed.pieces) };
    let night = tempfile::tempdir().expect("a directory");
    let text = night.path().join("recovery-kit.txt");
    fs::copy(kit.join("recovery-kit.txt"), text).expect("copied");
    let target = Database::to_restore("kit_stock");
    let mut filled = in_hand(installation, night.path());
    filled.insert("LABEL", label.to_owned());
    filled.insert("OUT", "back".to_owned());
    filled.insert("NEW_DATABASE", target.name.clone());
    let server = target.url.rsplit_once('/').and_then(|(url, _)| url.rsplit_once(':'));
    let (_, port) = server.expect("a port");
    for piece in [extract, run_it, load] {
        let mut shell = shell(night.path(), sh, piece, (&typed, &filled));
        // Where the new server is, as the kit says.
        must(shell.env("PGHOST", "127.0.0.1").env("PGPORT", port).env("PGUSER", "postgres"));
    }
    let extracted = fs::read_to_string(night.path().join("restore.sh")).expect("extracted");
    let lines = |text: &str| -> Vec<String> {
        text.trim().lines().map(|line| line.trim().to_owned()).collect()
    };
    assert_eq!(lines(&extracted), lines(program), "what is copied is what is printed");
    target
}

#[test]
fn the_kits_stock_tools_bring_every_database_back() {
    let two = Two::create();
    let kit = two.kit();
    for ((label, source), sh) in two.both().into_iter().zip(["sh", "bash"]) {
        assert_same(source, &by_stock_tools(&kit, &two.installation, label, sh));
    }
}

#[test]
fn the_kits_stock_tools_find_the_newest_snapshot_in_the_buckets_of_tiers() {
    let source = Database::create("kit_tiers", BOOKINGS);
    let installation = tier_buckets::installation(&source);
    must(&mut installation.init_of("vault"));
    installation.backup();
    source.query("INSERT INTO bookings VALUES (0, 'later', 1)");
    installation.backup();
    must(&mut installation.reader(&["recovery-kit", "--out", "kit"]));
    let restored = by_stock_tools(&installation.path("kit"), &installation, "bookings", "sh");
    assert_same(&source, &restored);
}

#[test]
fn a_snapshot_that_the_signer_did_not_sign_stops_the_stock_tools() {
    let two = Two::create();
    let kit = two.kit();
    let versions = two.installation.versions();
    let (key, _) =
        versions.iter().rfind(|(key, _)| key.contains("/manifests/bookings/")).expect("a manifest");
    let later = key.replace("bookings/0000000001", "bookings/0000000009");
    let (_, manifest) = two.installation.s3(User::Reader, "GET", &format!("/{key}"), &[], "");
    let forged = manifest.replace("bookings/0000000001", "bookings/0000000009");
    let (status, answer) =
        two.installation.s3(User::Writer, "PUT", &format!("/{later}"), &[], &forged);
    assert_eq!(status, 200, "{answer}");
    let typed = typed(&kit, "4. Without Stonekeep");
    let night = tempfile::tempdir().expect("a directory");
    fs::copy(kit.join("recovery-kit.txt"), night.path().join("recovery-kit.txt")).expect("copied");
    let mut filled = in_hand(&two.installation, night.path());
    for (name, value) in [("LABEL", "bookings"), ("OUT", "back"), ("NEW_DATABASE", "none")] {
        filled.insert(name, value.to_owned());
    }
    must(&mut shell(night.path(), "sh", &typed.pieces[0], (&typed, &filled)));
    let put = two.installation.s3(User::Owner, "PUT", "/stonekeep/genesis/2", &[], "{}");
    assert_eq!(put.0, 200, "{}", put.1);
    let output = run(&mut shell(night.path(), "sh", &typed.pieces[1], (&typed, &filled)));
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("more under genesis/ than genesis/1"), "{told}");
    assert!(!output.status.success(), "a forged manifest was taken");
    assert!(!night.path().join("back/toc.dat").exists(), "and something was fetched for it");

    // As the kit says: the line before.
    let listed = fs::read_to_string(night.path().join("back.work/manifests.tsv")).expect("listed");
    let line: Vec<&str> = listed.lines().rev().nth(1).expect("another").split('\t').collect();
    filled.insert("OUT", "second".to_owned());
    let mut again = shell(night.path(), "sh", &typed.pieces[1], (&typed, &filled));
    again.env("MANIFEST", line[2].trim_start_matches("stonekeep/"));
    must(again.env("MANIFEST_BUCKET", line[1]).env("MANIFEST_VERSION", line[3]));
    assert!(night.path().join("second/toc.dat").exists());
}

#[test]
fn the_kits_own_commands_bring_every_database_back_without_a_configuration() {
    let two = Two::create();
    let typed = typed(&two.kit(), "1. Do this first");
    let [place, list, restore] = &typed.pieces[..] else { panic!("{:#?}", typed.pieces) };
    let night = tempfile::tempdir().expect("a directory");
    for (label, source) in two.both() {
        let target = Database::to_restore("kit_own");
        let mut filled = in_hand(&two.installation, night.path());
        filled.insert("TARGET", target.url.clone());
        let line = restore.lines().find(|line| line.contains(label)).expect("a line for each");
        let script = format!("set -e\n{place}\n{list}\n{line}");
        // Nobody writes when there was damage into a variable.
        let blanks = typed.blanks.iter().filter(|name| *name != "Damage").cloned().collect();
        let given = Typed { pieces: Vec::new(), blanks };
        let mut bash = shell(night.path(), "bash", &script, (&given, &filled));
        let path = format!("{}:/usr/bin:/bin", server("STONEKEEP_TEST_BIN"));
        let said = must(bash.env("PATH", path));
        assert!(said.contains("Every row was compared"), "{said}");
        assert_same(source, &target);
    }
}

#[test]
fn no_secret_is_on_any_kit_and_it_says_what_it_must() {
    let two = Two::create();
    let kit = two.kit();
    let read = |path: PathBuf| fs::read_to_string(path).expect("there");
    let (text, page) = (read(kit.join("recovery-kit.txt")), read(kit.join("recovery-kit.html")));
    let options = ["--json", "recovery-kit", "--identity", "identity1", "--identity", "absent"];
    let output = run(two.installation.reader(&options).env("STONEKEEP_LOG", "trace"));
    assert!(output.status.success(), "{}", said(&output));
    let json = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut secrets =
        vec!["AGE-SECRET-KEY".to_owned(), "PRIVATE KEY".to_owned(), PASSWORD.to_owned()];
    secrets.extend([User::Owner, User::Writer, User::Reader].map(|user| user.keys().1));
    for key in ["owner", "signer"] {
        let private = read(two.installation.path(key));
        secrets.extend(private.lines().nth(1).map(str::to_owned));
    }
    for (what, told) in
        [("text", &text), ("page", &page), ("document", &json), ("log", &said(&output))]
    {
        for secret in &secrets {
            assert!(!told.contains(secret), "the {what} tells {secret}");
        }
    }
    let signers =
        must(Command::new("ssh-keygen").arg("-lf").arg(two.installation.path("signer.pub")));
    let signer = signers.split(' ').nth(1).expect("a fingerprint");
    let identity = read(two.installation.path("identity1"));
    let recipient =
        identity.split("public key: ").nth(1).and_then(|rest| rest.lines().next()).expect("one");
    let bucket = &two.installation.bucket;
    for told in [&text, &page, &json] {
        for word in
            [bucket.as_str(), signer, recipient, SHOP_LABEL, "stonekeep-genesis", "identity1"]
        {
            assert!(told.contains(word), "{word} is not in {told}");
        }
    }
    assert!(text.contains("not seen here"), "the second identity was not named: {text}");
    assert!(text.contains("Identity file stranger: "), "{text}");
    let json: serde_json::Value = serde_json::from_str(&json).expect("one document");
    assert_eq!(json["recipients"][0]["identity_files"][0], "identity1");
    assert_eq!(json["other_identities"][0]["file"], "absent");
    assert_eq!(json["databases"].as_array().map(Vec::len), Some(2), "{json}");
    // A second kit takes the place of the first.
    two.kit();
    assert_eq!(fs::read_dir(&kit).expect("there").count(), 2);
}

/// Prints a page as a browser does, and returns the text that got onto the paper, with its pages apart.
fn printed(dir: &Path, page: &str) -> String {
    let (html, pdf) = (dir.join("page.html"), dir.join("page.pdf"));
    fs::write(&html, page).expect("written");
    let mut chromium = Command::new("chromium");
    chromium.args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]);
    chromium.args(["--disable-background-networking", "--disable-sync", "--no-pdf-header-footer"]);
    chromium.arg(format!("--user-data-dir={}", dir.join("chromium").display())).env("HOME", dir);
    must(
        chromium
            .arg(format!("--print-to-pdf={}", pdf.display()))
            .arg(format!("file://{}", html.display())),
    );
    must(Command::new("pdftotext").arg("-layout").arg(&pdf).arg("-"))
}

#[test]
fn the_page_gets_onto_paper_whole_and_no_command_is_cut() {
    let two = Two::create();
    let kit = two.kit();
    let page = fs::read_to_string(kit.join("recovery-kit.html")).expect("written");
    for loads in ["<script", "src=", "href=", "url(", "@import"] {
        assert!(!page.contains(loads), "the page has {loads}");
    }
    let bare = |text: &str| text.split_whitespace().collect::<String>();
    for paper in ["A4", "letter"] {
        let sized = page.replacen("@page {", &format!("@page {{ size: {paper};"), 1);
        let told = printed(two.installation.path("").as_path(), &sized);
        let pages: Vec<&str> = told.trim_end_matches('\u{c}').split('\u{c}').collect();
        assert!((3..=8).contains(&pages.len()), "{} pages of {paper}", pages.len());
        let on_paper: Vec<String> = pages.iter().map(|page| bare(page)).collect();
        for section in ["1. Do this first", "4. Without Stonekeep"] {
            for line in typed(&kit, section).pieces.iter().flat_map(|piece| piece.lines()) {
                let whole = on_paper.iter().any(|page| page.contains(&bare(line)));
                assert!(whole, "not whole on one page of {paper}: {line}");
            }
        }
    }
}
