//! The Debian packages: what is in them, and what they leave on a machine when installed, removed and purged. Packed by
//! `./test` from the binaries under test; `./test --slow` packs those of a release.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::harness::{is_slow, must, run, said, server};

const PACKAGES: [&str; 2] = ["stonekeepd", "stonekeep"];

/// A package's file, as `./test` has built it.
fn file(package: &str) -> PathBuf {
    let entries = fs::read_dir(server("STONEKEEP_TEST_PACKAGES")).expect("there");
    let mut paths = entries.map(|entry| entry.expect("read").path());
    let is_it = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with(&format!("{package}_"))
    };
    paths.find(is_it).expect("one")
}

/// What both packages hold, unpacked.
fn unpacked() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for package in PACKAGES {
        must(Command::new("dpkg-deb").arg("-x").arg(file(package)).arg(dir.path()));
    }
    dir
}

/// The regular files of a package, with their modes.
fn contents(package: &str) -> Vec<(String, String)> {
    let listed = must(Command::new("dpkg-deb").arg("-c").arg(file(package)));
    let line = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let path = fields.get(5)?.trim_start_matches('.').to_owned();
        assert!(["root/root", "0/0"].contains(&fields[1]), "{line}");
        (!path.ends_with('/')).then(|| (path, fields[0].to_owned()))
    };
    listed.lines().filter_map(line).collect()
}

#[test]
fn each_package_holds_its_binary_pages_completions_units_and_example() {
    for package in PACKAGES {
        let contents = contents(package);
        let mode = |path: &str| {
            let found = contents.iter().find(|(found, _)| found == path);
            found.unwrap_or_else(|| panic!("{package} has no {path}: {contents:?}")).1.as_str()
        };
        assert_eq!(mode(&format!("/usr/bin/{package}")), "-rwxr-xr-x");
        for path in [
            format!("/usr/share/man/man1/{package}.1.gz"),
            format!("/usr/share/bash-completion/completions/{package}"),
            format!("/usr/share/zsh/vendor-completions/_{package}"),
            format!("/usr/share/fish/vendor_completions.d/{package}.fish"),
            format!("/usr/share/doc/{package}/examples/{package}.example.toml"),
            format!("/usr/share/doc/{package}/copyright"),
            format!("/usr/share/doc/{package}/changelog.Debian.gz"),
        ] {
            assert_eq!(mode(&path), "-rw-r--r--", "{path}");
        }
    }
    let of = |package| contents(package).into_iter().map(|(path, _)| path).collect::<BTreeSet<_>>();
    assert_eq!(of("stonekeepd").intersection(&of("stonekeep")).count(), 0);
}

#[test]
fn every_unit_is_in_one_package_as_it_is_in_the_source() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd");
    let unpacked = unpacked();
    for entry in fs::read_dir(units).expect("there") {
        let source = entry.expect("read").path();
        let name = source.file_name().and_then(|name| name.to_str()).expect("ASCII").to_owned();
        let place = match name.strip_suffix(".sysusers") {
            Some(name) => format!("usr/lib/sysusers.d/{name}.conf"),
            None => format!("usr/lib/systemd/system/{name}"),
        };
        let packed = fs::read(unpacked.path().join(&place));
        let packed = packed.unwrap_or_else(|error| panic!("{place}: {error}"));
        assert!(packed == fs::read(&source).expect("read"), "{name}");
    }
}

#[test]
fn each_command_has_a_page_that_mandoc_takes() {
    let unpacked = unpacked();
    let pages = unpacked.path().join("usr/share/man/man1");
    for entry in fs::read_dir(&pages).expect("there") {
        let page = entry.expect("read").path();
        must(Command::new("mandoc").args(["-T", "lint", "-W", "error"]).arg(&page));
    }
    let page = |name: &str| must(Command::new("mandoc").args(["-T", "utf8"]).arg(pages.join(name)));
    let plain = |text: String| {
        let mut bare = String::new();
        for c in text.chars() {
            // Bold and underlined letters are overstruck.
            if c == '\u{8}' { _ = bare.pop() } else { bare.push(c) }
        }
        bare
    };
    let daemon = plain(page("stonekeepd.1.gz"));
    assert!(daemon.contains("stonekeepd-backup(1)") && daemon.contains("Exit codes"), "{daemon}");
    let backup = plain(page("stonekeepd-backup.1.gz"));
    assert!(backup.contains("--fresh"), "{backup}");
    assert!(plain(page("stonekeep-restore.1.gz")).contains("--target"));
}

#[test]
fn lintian_finds_nothing_to_warn_of() {
    // It looks through the binaries for half a minute.
    if !is_slow() {
        return;
    }
    let mut lintian = Command::new("lintian");
    lintian.args(["--fail-on", "error,warning", "--suppress-tags"]);
    // No bug of Debian's is closed; deb-systemd-invoke takes no pattern for the units of databases.
    lintian.arg("initial-upload-closes-no-bugs,maintainer-script-calls-systemctl");
    let output = run(lintian.args(PACKAGES.map(file)));
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        said(&output)
    );
}

/// What is done with the packages, in a copy of this machine that is thrown away: all changes lie in memory.
const ON_A_MACHINE: &str = r#"
set -eu
packages=$1 upper=$2
mount -t tmpfs tmpfs "$upper"
mkdir "$upper/changed" "$upper/work" "$upper/machine"
mount -t overlay overlay -o "lowerdir=/,upperdir=$upper/changed,workdir=$upper/work" "$upper/machine"
mount --rbind /dev "$upper/machine/dev"
# No index of manual pages: it takes longer than all else.
rm -f "$upper/machine/var/lib/man-db/auto-update"
cp "$packages"/*.deb "$upper/machine/var/tmp/"
machine() { chroot "$upper/machine" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"; }
begin() { echo "== $*"; }
left() { (cd "$upper/changed" && find . ! -type d ! -path './var/lib/dpkg/*' ! -path './var/cache/*' ! -path './var/log/*' ! -path './var/lib/man-db/*' ! -path './var/tmp/*.deb' | sort); }

begin installed
machine sh -c 'dpkg -i /var/tmp/*.deb' >&2
machine stonekeepd --version
machine stonekeep --version
machine getent passwd stonekeep stonekeep-drill
machine stat -c '%A %U %n' /etc/stonekeep /etc/stonekeep/credentials /etc/stonekeep/credentials-watch /etc/stonekeep/credentials-drill
machine dpkg -V stonekeep stonekeepd
machine systemctl is-enabled stonekeepd.service stonekeepd-prove.timer stonekeep-watch.timer stonekeep-drill.timer || true

begin removed
machine systemctl enable --quiet stonekeepd.service stonekeepd-backup@bookings.timer
echo secret >"$upper/machine/etc/stonekeep/credentials/signer"
mkdir "$upper/machine/var/lib/stonekeep"
echo chain >"$upper/machine/var/lib/stonekeep/chain"
machine dpkg -r stonekeep stonekeepd >&2
machine cat /etc/stonekeep/credentials/signer
begin purged
machine dpkg -P stonekeep stonekeepd >&2
left

begin purged and emptied
rm "$upper/machine/etc/stonekeep/credentials/signer"
machine sh -c 'dpkg -i /var/tmp/*.deb && dpkg -P stonekeep stonekeepd' >&2
ls -d "$upper/machine/etc/stonekeep" 2>&1 || true
"#;

#[test]
fn packages_are_installed_and_purged_and_leave_what_is_the_operators() {
    let upper = tempfile::tempdir().expect("a directory");
    let mut machine = Command::new("unshare");
    machine.args(["--mount", "--propagation", "private", "bash", "-c", ON_A_MACHINE, "machine"]);
    let text = must(machine.arg(server("STONEKEEP_TEST_PACKAGES")).arg(upper.path()));
    let section = |name: &str| {
        let (_, behind) = text.split_once(&format!("== {name}\n")).expect("a section");
        behind.split("== ").next().unwrap_or_default()
    };
    let installed = section("installed");
    let version = env!("CARGO_PKG_VERSION");
    for expected in [
        &format!("stonekeepd {version}\nstonekeep {version}\n"),
        ":Stonekeep backups:/nonexistent:/usr/sbin/nologin\n",
        ":Stonekeep restore drills:/nonexistent:/usr/sbin/nologin\n",
        "drwxr-xr-x root /etc/stonekeep\n",
        "drwx------ root /etc/stonekeep/credentials\n",
        "drwx------ root /etc/stonekeep/credentials-watch\n",
        "drwx------ root /etc/stonekeep/credentials-drill\n",
        "disabled\ndisabled\ndisabled\ndisabled\n",
    ] {
        assert!(installed.contains(expected), "{expected} is not in {installed}");
    }
    assert_eq!(section("removed"), "secret\n");
    let left: BTreeSet<_> = section("purged").lines().collect();
    // The operator's, and the user with what systemd-sysusers keeps of the files before it.
    let expected = [
        "./etc/.pwd.lock",
        "./etc/group",
        "./etc/group-",
        "./etc/gshadow",
        "./etc/gshadow-",
        "./etc/passwd",
        "./etc/passwd-",
        "./etc/shadow",
        "./etc/shadow-",
        "./etc/stonekeep/credentials/signer",
        "./var/lib/stonekeep/chain",
    ];
    let others: Vec<_> = left.iter().filter(|path| !expected.contains(path)).collect();
    assert!(others.is_empty(), "{others:?}");
    assert!(left.contains("./etc/stonekeep/credentials/signer"));
    assert!(section("purged and emptied").contains("No such file"), "{text}");
}
