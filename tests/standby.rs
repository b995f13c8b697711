//! Reading from a standby: what it cannot give is said, and what its replay ends is begun again, or told with what to set.

use std::{
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{
    ddl::wait_for,
    harness::{Database, Installation, must, run, said, server},
    own_server::Server,
    proxy::{self, Fate},
};

#[test]
fn a_standby_is_backed_up_and_says_what_it_does_not_have() {
    let elsewhere = Database::create("elsewhere", "SELECT 1");
    let mut installation = Installation::create(&elsewhere);
    let primary = Server::start("wal_level = replica");
    primary.query("CREATE TABLE t AS SELECT generate_series(1, 1000) AS a; CREATE UNLOGGED TABLE u AS SELECT 1 AS a");
    let standby = primary.standby("hot_standby_feedback = on\nmax_standby_streaming_delay = 20s");
    installation.database_url.clone_from(&standby.url);
    installation.configure(|text| text);
    let output = run(&mut installation.daemon(&["check"]));
    assert!(output.status.success(), "{}", said(&output));
    for words in ["1 unlogged tables come without rows", "max_standby_streaming_delay is 20s"] {
        let checked = String::from_utf8_lossy(&output.stdout);
        assert!(checked.contains(words), "{checked}");
    }
    assert!(installation.backup().contains("1 unlogged tables come without rows"));
    let target = Database::to_restore("from_standby");
    installation.restore(&target);
    assert_eq!(target.query("SELECT count(*), sum(a) FROM t").trim(), "1000|500500");
    assert_eq!(target.query("SELECT count(*) FROM u").trim(), "0");
}

#[test]
fn what_a_standbys_replay_ends_is_begun_again_or_told_with_what_to_set() {
    let elsewhere = Database::create("elsewhere", "SELECT 1");
    let mut installation = Installation::create(&elsewhere);
    let primary = Server::start("wal_level = replica");
    primary.query("CREATE TABLE t AS SELECT generate_series(1, 1000) AS a");
    let standby = primary.standby("max_standby_streaming_delay = 0");
    installation.database_url.clone_from(&standby.url);
    for ends_each in [false, true] {
        // A segment waits until the replay has ended the reading: of the first try, or of each.
        let (held, gone) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (begun, over) = (Arc::clone(&held), Arc::clone(&gone));
        let held_back = proxy::start(move |line| {
            if line.starts_with("PUT ") && line.contains("/segments/") {
                begun.store(true, Ordering::Release);
                wait_for(&over);
                if ends_each {
                    over.store(false, Ordering::Release);
                }
            }
            Fate::Served
        });
        installation.configure(|text| text);
        let direct = server("STONEKEEP_TEST_S3_ENDPOINT");
        installation.configure(|text| text.replace(&direct, &held_back));
        let mut daemon = installation.daemon(&["backup", "--fresh"]);
        let daemon = daemon.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("started");
        for nth in 0..if ends_each { 2 } else { 1 } {
            wait_for(&held);
            held.store(false, Ordering::Release);
            primary.query(&format!("ALTER TABLE t ADD COLUMN b{nth}_{ends_each} int"));
            let names = "SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass AND mode = 'AccessShareLock'";
            let ended = (0..600).any(|_| {
                std::thread::sleep(std::time::Duration::from_millis(50));
                standby.query(names).trim() == "0"
            });
            assert!(ended, "the replay ended nothing");
            gone.store(true, Ordering::Release);
        }
        let output = daemon.wait_with_output().expect("ended");
        if ends_each {
            assert_eq!(output.status.code(), Some(75), "{}", said(&output));
            assert!(said(&output).contains("set max_standby_streaming_delay"), "{}", said(&output));
        } else {
            assert!(output.status.success(), "{}", said(&output));
        }
    }
    installation.configure(|text| text);
    let latest = must(&mut installation.reader(&["list"]));
    assert_eq!(latest.matches("bookings").count(), 1, "{latest}");
}
