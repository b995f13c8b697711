use stonekeep_engine::events::Event;
use stonekeep_format::ErrorKind;

use super::{
    fixture::{busy, empty, entry, failed, id, label, noon, seen, skipped, snap, taken},
    view::{DatabaseView, Last, Standing},
    *,
};

fn planned(labels: &[&str]) -> (Arc<Board>, Arc<stonekeep_format::clock::StillClock>) {
    let (board, clock) = empty();
    board.enter(labels.iter().map(|name| entry(name, Some("0 * * * *"))).collect());
    board.expect(["vault"].into_iter());
    (board, clock)
}

fn only(board: &Board) -> DatabaseView {
    let mut databases = board.view(true).databases;
    assert_eq!(databases.len(), 1, "{databases:?}");
    databases.remove(0)
}

#[test]
fn a_database_is_good_only_while_its_good_snapshot_is_young_in_every_repository() {
    let (board, clock) = planned(&["bookings"]);
    assert_eq!(only(&board).standing, Standing::Waiting);
    board.looked("vault", Look::Seen(seen(vec![("bookings", vec![snap(30, 7)])])));
    assert_eq!(only(&board).standing, Standing::Good);
    board.expect(["vault", "second"].into_iter());
    assert_eq!(only(&board).standing, Standing::Waiting, "of the second nothing is known");
    board.looked("second", Look::Seen(seen(vec![("bookings", vec![snap(121, 7)])])));
    assert_eq!(only(&board).standing, Standing::Late);
    board.looked("second", Look::Seen(seen(vec![("bookings", vec![snap(60, 7)])])));
    clock.set(noon() + chrono::TimeDelta::minutes(59));
    assert_eq!(only(&board).standing, Standing::Good);
    clock.set(noon() + chrono::TimeDelta::minutes(61));
    assert_eq!(only(&board).standing, Standing::Late);
}

#[test]
fn a_database_of_which_there_never_was_a_snapshot_becomes_late() {
    let (board, clock) = planned(&["bookings"]);
    board.looked("vault", Look::Seen(seen(vec![])));
    assert_eq!(only(&board).standing, Standing::Waiting);
    clock.set(noon() + chrono::TimeDelta::minutes(121));
    assert_eq!(only(&board).standing, Standing::Late);
}

#[test]
fn a_suspicious_snapshot_does_not_make_a_database_younger() {
    let (board, _) = planned(&["bookings"]);
    board.looked("vault", Look::Seen(seen(vec![("bookings", vec![snap(119, 7)])])));
    board.ended(&label("bookings"), &[taken("bookings", "vault", Some("rows went from 9 to 1"))]);
    let database = only(&board);
    assert_eq!(database.standing, Standing::Suspicious);
    let good = database.copies[0].good.as_ref().expect("the older one");
    assert_eq!(good.id, snap(119, 7).id);
    assert_eq!(database.copies[0].snapshots.len(), 2);
}

#[test]
fn what_claims_the_future_is_no_good_snapshot() {
    let (board, _) = planned(&["bookings"]);
    let mut future = snap(0, 7);
    future.id = id(noon() + chrono::TimeDelta::days(1));
    board.looked("vault", Look::Seen(seen(vec![("bookings", vec![snap(130, 7), future])])));
    assert_eq!(only(&board).standing, Standing::Late);
}

#[test]
fn a_failure_shows_until_the_next_run_and_its_reason_longer() {
    let (board, _) = planned(&["bookings"]);
    board.looked("vault", Look::Seen(seen(vec![("bookings", vec![snap(30, 7)])])));
    board.ended(&label("bookings"), &[failed("bookings")]);
    let database = only(&board);
    assert_eq!((database.standing, database.counts.failures), (Standing::Failed, 1));
    assert_eq!(database.copies[0].last, Some(Last::Failed));
    let refusal = database.refusal.expect("kept");
    assert_eq!(refusal.kind, ErrorKind::Config);
    assert!(refusal.message.is_some_and(|message| message.contains("bookings")));
    board.ended(&label("bookings"), &[taken("bookings", "vault", None)]);
    let database = only(&board);
    assert!(database.standing == Standing::Good && database.refusal.is_some());
    board.ended(&label("bookings"), &[skipped("bookings")]);
    let database = only(&board);
    assert!(database.is_skipped && database.counts.skipped == 1);
}

#[test]
fn what_this_process_took_counts_until_the_bucket_says_it_itself() {
    let (board, clock) = planned(&["bookings"]);
    let before = noon() - chrono::TimeDelta::minutes(1);
    board.ended(&label("bookings"), &[taken("bookings", "vault", None)]);
    let known = |board: &Board| only(board).copies.remove(0);
    assert_eq!((known(&board).snapshots.len(), known(&board).is_seen), (1, false));
    // A look that began before the run ended may have missed it.
    let look = Seen { begun_at: before, ..seen(vec![("bookings", vec![snap(60, 7)])]) };
    board.looked("vault", Look::Seen(look));
    assert_eq!((known(&board).snapshots.len(), known(&board).is_seen), (2, true));
    // One that began later has not: the snapshot is gone.
    clock.set(noon() + chrono::TimeDelta::minutes(10));
    let later = noon() + chrono::TimeDelta::minutes(5);
    let look = Seen { begun_at: later, ..seen(vec![("bookings", vec![snap(60, 7)])]) };
    board.looked("vault", Look::Seen(look));
    assert_eq!(known(&board).snapshots.len(), 1);
    board.looked("vault", Look::Seen(Seen { begun_at: later, ..seen(vec![]) }));
    assert_eq!(known(&board).snapshots, []);
}

#[test]
fn databases_of_a_server_are_known_by_its_entry() {
    let (board, _) = planned(&["bookings", "shop"]);
    let next = noon() + chrono::TimeDelta::hours(1);
    board.next(&label("shop"), Some(next));
    let names = |board: &Board, show: bool| -> Vec<String> {
        board.view(show).databases.into_iter().map(|database| database.name).collect()
    };
    assert_eq!(names(&board, true), ["bookings", "shop"]);
    let found = vec![("shop-b", vec![snap(9, 7)]), ("bookings-x", vec![snap(9, 7)])];
    board.looked("vault", Look::Seen(seen(found)));
    board.begun(&label("shop-a"));
    assert_eq!(names(&board, true), ["bookings", "shop-a", "shop-b"]);
    assert_eq!(names(&board, false), ["database 1", "database 2.1", "database 2.2"]);
    let view = board.view(true);
    assert_eq!(view.repositories[0].seen.as_ref().map(|seen| seen.others), Some(1));
    assert_eq!(view.databases[2].next_at, Some(next));
    assert_eq!(view.databases[2].age_max, Some(2 * fixture::HOUR));
    // Its databases cannot be listed: that is nobody's but the server's.
    board.ended(&label("shop"), &[failed("shop")]);
    assert_eq!(names(&board, true), ["bookings", "shop", "shop-a", "shop-b"]);
}

#[test]
fn a_reload_keeps_what_is_known_and_lets_go_of_what_is_gone() {
    let (board, _) = planned(&["bookings", "orders", "shop"]);
    let found = vec![("bookings", vec![snap(9, 7)]), ("shop-a", vec![snap(9, 7)])];
    board.looked("vault", Look::Seen(seen(found)));
    board.begun(&label("orders"));
    let plan = |labels: &[&str]| labels.iter().map(|name| entry(name, None)).collect();
    board.enter(plan(&["shop", "bookings"]));
    let view = board.view(true);
    let known: Vec<_> =
        view.databases.iter().map(|it| (&*it.name, it.copies[0].snapshots.len())).collect();
    assert_eq!(known, [("shop-a", 1), ("bookings", 1), ("orders", 0)], "what runs is still shown");
    board.ended(&label("orders"), &[]);
    board.enter(plan(&["bookings"]));
    assert_eq!(board.view(true).databases.len(), 1);
}

#[test]
fn progress_is_added_up_and_is_over_with_the_run() {
    let board = busy();
    let running = |board: &Board| board.view(true).databases.remove(0);
    let database = running(&board);
    let now = database.running.expect("at work");
    assert_eq!((now.bytes, now.rows), (5 << 30, 30_000_000));
    // Not of what the run says, the size on disk.
    assert_eq!(now.bytes_expected, Some(snap(42, 7).plain_bytes));
    assert_eq!(database.counts.retries, 1);
    let more = Event::Progress { bytes: 8 << 30, rows: 1 };
    board.heard(&label("bookings"), &more);
    let now = running(&board).running.expect("at work");
    assert_eq!((now.bytes_expected, now.left), (None, None), "more than last time");
    let warning = Event::Warning { message: "x".to_owned() };
    board.heard(&label("nobody"), &warning);
    board.ended(&label("bookings"), &[taken("bookings", "vault", None)]);
    assert!(running(&board).running.is_none());
}

#[test]
fn what_is_remembered_has_a_bound() {
    let (board, _) = planned(&["shop"]);
    let many = |number: i64| (0..number).map(|minutes| snap(minutes, 7)).collect::<Vec<_>>();
    board.looked("vault", Look::Seen(seen(vec![("shop-a", many(300))])));
    let copy = board.view(true).databases.remove(0).copies.remove(0);
    assert_eq!((copy.snapshots.len(), copy.more), (database::SNAPSHOTS_MAX, 50));
    assert_eq!(copy.newest(), Some(&snap(0, 7)), "the newest are kept");
    for number in 0..DATABASES_MAX {
        board.begun(&label(&format!("shop-x{number}")));
    }
    let view = board.view(true);
    // The entry itself and shop-a were there before.
    assert_eq!((view.databases.len(), view.left_out), (DATABASES_MAX - 1, 2));
}

#[test]
fn ready_is_planned_and_every_repository_tried_once() {
    let (board, _) = empty();
    assert!(!board.ready());
    board.expect(["vault", "second"].into_iter());
    board.enter(Vec::new());
    board.looked("vault", Look::Denied);
    assert!(!board.ready());
    let message = String::new();
    board.looked("second", Look::Failed { kind: ErrorKind::Unreachable, message });
    assert!(board.ready());
    board.expect(["third"].into_iter());
    assert!(!board.ready());
}

#[test]
fn a_loop_that_is_silent_for_more_than_three_minutes_is_dead() {
    let (board, clock) = empty();
    board.be_silent_for(BEAT_MAX - Duration::from_secs(1));
    // Somebody sets the time of day: nobody is dead for that.
    clock.set(noon() + chrono::TimeDelta::days(1));
    assert_eq!(board.alive(), Ok(()));
    board.be_silent_for(Duration::from_secs(2));
    assert!(board.alive().is_err_and(|silent| silent > BEAT_MAX));
    board.beat();
    assert_eq!(board.alive(), Ok(()));
}

#[test]
fn without_leave_a_view_has_no_name_in_it() {
    let board = busy();
    let hidden = format!("{:?}", board.view(false));
    for name in fixture::NAMES {
        assert!(!hidden.contains(name), "{name} is in {hidden}");
        assert!(format!("{:?}", board.view(true)).contains(name), "{name} must be shown");
    }
}
