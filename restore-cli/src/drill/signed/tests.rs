use std::{
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
};

use chrono::TimeDelta;
use stonekeep_format::signature::Namespace;
use tempfile::TempDir;

use super::*;
use crate::drill::fixture::{broken, earlier as drills, failed, noon, passed, reporter};

fn trust(namespaces: &str, options: &str) -> Trust {
    let line = reporter().public_line().expect("a key");
    let text = format!("reporter namespaces=\"{namespaces}\"{options} {line}\n");
    Trust::of_reporters(&text).expect("readable")
}

fn reporters() -> Trust {
    trust("stonekeep-report", "")
}

fn written(report: &DrillReport, key: Option<&Signer>) -> (TempDir, Written) {
    let dir = tempfile::tempdir().expect("a directory");
    let written = write(dir.path(), report, key).expect("written");
    (dir, written)
}

fn refused(path: &Path, trust: &Trust) -> String {
    let refused = read(path, trust).expect("readable").expect_err("not to be believed");
    refused.to_string()
}

/// Also what a real browser opens in `tests/report.rs`: whoever changes them looks at them.
#[test]
fn the_pages_are_as_they_were() {
    for (name, report) in [("passed", passed()), ("failed", failed()), ("broken", broken())] {
        let files = Files::of(&report, Some(&reporter())).expect("signed");
        insta::assert_snapshot!(name, String::from_utf8(files.page).expect("UTF-8"));
    }
}

#[test]
fn what_was_written_is_genuine_page_and_document_and_for_its_owner_only() {
    for report in [passed(), failed(), broken()] {
        let (dir, Written { json, signature, page, digest }) = written(&report, Some(&reporter()));
        for path in [&json, &page] {
            let genuine = read(path, &reporters()).expect("readable").expect("genuine");
            assert_eq!(genuine.report, report);
            assert_eq!(genuine.signed_by, reporter().fingerprint());
        }
        let bytes = fs::read(&json).expect("there");
        assert_eq!(bytes, document_body(&report).expect("JSON"));
        assert_eq!(digest, Digest::of(&bytes));
        let signature = signature.expect("signed");
        assert_eq!(signature.as_os_str(), format!("{}.sig", json.display()).as_str());
        for path in [json, signature, page] {
            let mode = fs::metadata(path).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(dir.path()).expect("read").count(), 3);
    }
}

#[test]
fn a_directory_is_made_for_its_owner_and_a_second_report_leaves_the_first() {
    let dir = tempfile::tempdir().expect("a directory");
    let inner = dir.path().join("deep/reports");
    write(&inner, &passed(), None).expect("written");
    let mut other = passed();
    other.id = SnapshotId::new(noon() + TimeDelta::days(1), 1);
    write(&inner, &other, None).expect("written");
    let mode = fs::metadata(&inner).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert_eq!(fs::read_dir(&inner).expect("read").count(), 4);
}

#[test]
fn without_a_key_nothing_is_signed_and_nothing_believed() {
    let (_dir, Written { json, signature, page, .. }) = written(&passed(), None);
    assert_eq!(signature, None);
    assert!(refused(&page, &reporters()).contains("bears no signature"));
    assert!(refused(&json, &reporters()).contains("no signature of it"));
}

#[test]
fn any_one_changed_byte_is_refused() {
    let (_dir, Written { json, page, .. }) = written(&broken(), Some(&reporter()));
    for path in [json, page] {
        let good = fs::read(&path).expect("there");
        // Each byte of the end, where a page's signature is, and of the rest each 41st: a signature takes its time.
        let end = good.len().saturating_sub(700);
        for at in (0..end).step_by(41).chain(end..good.len()) {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).expect("written");
            refused(&path, &reporters());
        }
        for bytes in [&good[..good.len() - 1], &[&good[..], b"\n"].concat(), b"", b"{}"] {
            fs::write(&path, bytes).expect("written");
            refused(&path, &reporters());
        }
    }
}

#[test]
fn a_signature_of_another_report_is_refused() {
    let (_one, ours) = written(&passed(), Some(&reporter()));
    let (_two, theirs) = written(&failed(), Some(&reporter()));
    let signature = |written: &Written| written.signature.clone().expect("signed");
    fs::copy(signature(&theirs), signature(&ours)).expect("copied");
    assert!(refused(&ours.json, &reporters()).contains("does not fit"));

    let page = |written: &Written| fs::read(&written.page).expect("there");
    let (our_page, their_page) = (page(&ours), page(&theirs));
    let (text, _) = split_page(&our_page).expect("signed");
    let (_, armour) = split_page(&their_page).expect("signed");
    let armour = String::from_utf8_lossy(armour);
    fs::write(&ours.page, join_page(text.to_vec(), &armour)).expect("written");
    assert!(refused(&ours.page, &reporters()).contains("does not fit"));
}

#[test]
fn a_page_whose_end_is_cut_off_is_refused_wherever_it_is_cut() {
    let (_dir, Written { page, .. }) = written(&broken(), Some(&reporter()));
    let whole = fs::read(&page).expect("there");
    let (text, _) = split_page(&whole).expect("signed");
    let cuts = [
        whole.len() - 1,
        whole.len() - 4,
        whole.len() - 40,
        text.len() + 5,
        text.len(),
        text.len() - 9,
    ];
    for cut in cuts {
        fs::write(&page, &whole[..cut]).expect("written");
        assert!(refused(&page, &reporters()).contains("bears no signature"), "{cut}");
    }
}

#[test]
fn only_a_report_key_and_only_in_its_time_is_believed() {
    let other = Signer::from_openssh(include_str!("../../../../crates/format/tests/data/signer"));
    let (_dir, Written { json, page, .. }) = written(&passed(), Some(&other.expect("a key")));
    for path in [&json, &page] {
        assert!(refused(path, &reporters()).contains("may not sign stonekeep-report"));
    }
    let (_dir, Written { json, page, .. }) = written(&passed(), Some(&reporter()));
    for path in [&json, &page] {
        for refusing in [
            trust("stonekeep-report", ",valid-before=\"20261121120000Z\""),
            trust("stonekeep-report", ",valid-after=\"20261121130000Z\""),
            trust("stonekeep-manifest", ""),
            Trust::of_owner(&reporter().fingerprint()).expect("a trust"),
            Trust::none(),
        ] {
            assert!(refused(path, &refusing).contains("may not sign"), "{refusing:?}");
        }
        let then = trust("stonekeep-report", ",valid-before=\"20261121130000Z\"");
        read(path, &then).expect("readable").expect("signed while it was valid");
    }
}

#[test]
fn a_report_that_says_it_lies_elsewhere_and_a_record_are_refused() {
    let mut moved = passed();
    moved.key = failed().key;
    moved.label = "ledger".parse().expect("a label");
    let (_dir, Written { json, page, .. }) = written(&moved, Some(&reporter()));
    for path in [&json, &page] {
        assert!(refused(path, &reporters()).contains("belongs to"));
    }
    let record = document_body(&passed().record(Digest::of(b""))).expect("JSON");
    fs::write(&json, &record).expect("written");
    let armour = reporter().sign(Namespace::Report, &record).expect("signed");
    fs::write(format!("{}.sig", json.display()), armour).expect("written");
    assert!(refused(&json, &reporters()).contains("cannot be read"));
}

/// Runs what the page says, as it says it.
#[test]
fn the_commands_of_the_page_check_it_with_openssh_alone() {
    let (dir, Written { page, json, .. }) = written(&failed(), Some(&reporter()));
    let line = reporter().public_line().expect("a key");
    let allowed = format!("reporter namespaces=\"stonekeep-report\" {line}\n");
    fs::write(dir.path().join("allowed_signers"), allowed).expect("written");
    let text = fs::read_to_string(&page).expect("there");
    let commands: Vec<String> = text
        .split("<pre><code>")
        .skip(1)
        .filter_map(|rest| {
            Some(rest.split_once("</code>")?.0.replace("&lt;", "<").replace("&gt;", ">"))
        })
        .collect();
    let [ours, of_page, of_document] = &commands[..] else { panic!("{commands:?}") };
    assert!(ours.starts_with("stonekeep verify-report drill-bookings-"), "{ours}");
    let passes = |command: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-ec", command]).current_dir(dir.path());
        shell.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("a shell").success()
    };
    assert!(passes(of_page) && passes(of_document), "{of_page}{of_document}");
    for path in [&page, &json] {
        let changed = fs::read_to_string(path).expect("there").replace("invoices", "invoicez");
        fs::write(path, changed).expect("written");
    }
    assert!(!passes(of_page) && !passes(of_document));
}

#[test]
fn earlier_drills_are_those_of_this_database_the_oldest_first() {
    let dir = tempfile::tempdir().expect("a directory");
    let (label, repository) = (passed().label, passed().repository);
    assert_eq!(earlier(&dir.path().join("absent"), &label, repository), []);
    for drill in drills(3) {
        let mut report = passed();
        (report.id, report.begun_at) = (drill.id, drill.begun_at);
        write(dir.path(), &report, Some(&reporter())).expect("written");
        report.label = "bookings-old".parse().expect("a label");
        write(dir.path(), &report, None).expect("written");
    }
    let mut foreign = passed();
    foreign.repository = RepositoryId::from_bytes([1; 16]);
    write(dir.path(), &foreign, None).expect("written");
    let junk = dir.path().join(format!("drill-bookings-{}.json", SnapshotId::new(noon(), 9)));
    fs::write(junk, "{").expect("written");
    let found = earlier(dir.path(), &label, repository);
    let ids: Vec<SnapshotId> = found.iter().map(|drill| drill.id.clone()).collect();
    let wanted: Vec<SnapshotId> = drills(3).into_iter().map(|drill| drill.id).collect();
    assert_eq!(ids, wanted);
    assert_eq!(
        (found[0].rto_ms, found[0].plain_bytes),
        (passed().rto_ms, passed().snapshot.plain_bytes)
    );
}
