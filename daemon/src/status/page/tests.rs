use chrono::TimeDelta;
use stonekeep_format::ErrorKind;

use super::*;
use crate::board::{
    Look, Seen,
    fixture::{
        HOSTILE, NAMES, busy, failed, label, noon, planned, planned_by_clock, seen, snap, taken,
        years,
    },
};

fn page(show_names: bool) -> String {
    render(&busy().view(show_names)).into_string()
}

#[test]
fn the_page_is_as_it_was() {
    // The style and the version change for reasons of their own.
    let page = page(false).replace(&*STYLE, "").replace(env!("CARGO_PKG_VERSION"), "0.0.0");
    // How long is left depends on this machine.
    let (before, after) = page.split_once(", about ").expect("at work");
    let after = after.split_once(" left").map_or("", |(_, after)| after);
    let page = format!("{before}{after}");
    insta::assert_snapshot!(page.replace("><", ">\n<"));
}

#[test]
fn without_leave_nothing_is_called_by_its_name() {
    let hidden = page(false);
    for name in NAMES {
        assert!(!hidden.contains(name), "{name}");
    }
    assert!(
        !hidden.contains("archive") && !hidden.contains("strange") && !hidden.contains("vault")
    );
    for shown in ["database 1", "database 4.2", "repository 2", "config", "unreachable"] {
        assert!(hidden.contains(shown), "{shown}");
    }
}

#[test]
fn with_leave_names_are_shown_and_hostile_ones_do_nothing() {
    let shown = page(true);
    for name in &NAMES[..4] {
        assert!(shown.contains(name), "{name}");
    }
    assert!(!shown.contains(HOSTILE) && !shown.contains("<script"));
    assert!(shown.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
}

#[test]
fn the_worst_stands_first_and_in_the_title() {
    let page = page(false);
    assert!(page.contains("<title>1 late – Stonekeep</title>"), "{}", &page[..600]);
    let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text}"));
    assert!(at("<h3>database 3</h3>") < at("<h3>database 5</h3>"));
    assert!(page.contains("rows went from 81234567 to 3"));
}

#[test]
fn nothing_is_loaded_from_elsewhere_and_nothing_runs() {
    let page = page(true);
    for bad in ["<script", "javascript:", " on", "src=", "@import", "url(", " style="] {
        let found = page.match_indices(bad).find(|(at, _)| {
            // Words of a sentence are no attributes.
            bad != " on"
                || page[*at..].chars().skip(1).take_while(|c| c.is_alphanumeric()).count() > 3
                    && page[*at..].contains("=\"")
                    && page[*at..]
                        .split_once('>')
                        .is_some_and(|(tag, _)| tag.contains("=\"") && !tag.contains('<'))
        });
        assert_eq!(found, None, "{bad}");
    }
    let links: Vec<&str> =
        page.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let (cards, links): (Vec<&str>, Vec<&str>) =
        links.into_iter().partition(|link| link.starts_with('#'));
    assert_eq!(links, ["/metrics", "/healthz", "/readyz"]);
    for card in cards {
        assert!(page.contains(&format!("id=\"{}\"", &card[1..])), "{card}");
    }
    assert!(POLICY.to_str().expect("ASCII").contains("style-src 'sha256-"));
}

#[test]
fn a_service_of_hundreds_of_databases_has_a_page_that_can_be_sent() {
    let names: Vec<String> = (0..700).map(|number| format!("db{number}")).collect();
    let board = planned(&names.iter().map(|name| &**name).collect::<Vec<_>>());
    let all = names.iter().map(|name| (&**name, years(10))).collect();
    board.looked("vault", Look::Seen(seen(all)));
    let page = render(&board.view(true)).into_string();
    assert_eq!(page.matches("<h3>db").count(), CARDS_MAX);
    assert!(page.contains("260 are left out"), "what is left out is said");
    assert!(page.len() < 1 << 20, "{} bytes", page.len());
}

#[test]
fn a_bucket_that_may_not_be_read_is_said() {
    let board = planned(&["bookings"]);
    assert!(said(&board).contains("not read yet"));
    board.looked("vault", Look::Denied);
    assert!(said(&board).contains("may not read it"));
    let message = "cannot list bucket acme".to_owned();
    board.looked("vault", Look::Failed { kind: ErrorKind::Unavailable, message });
    let page = said(&board);
    assert!(page.contains("could not be read") && !page.contains("acme"), "{page}");
    let proved = Seen { is_unsure: true, ..seen(vec![("bookings", vec![snap(1, 7)])]) };
    board.looked("vault", Look::Seen(proved));
    assert!(said(&board).contains("A later one could not tell"));
}

#[test]
fn a_drill_that_failed_or_is_long_ago_is_said() {
    let board = planned(&["bookings"]);
    let of = |drilled_at, drills_failed| {
        let seen = seen(vec![("bookings", vec![snap(1, 7)])]);
        board.looked("vault", Look::Seen(Seen { drilled_at, drills_failed, ..seen }));
        said(&board)
    };
    let days_ago = |days| Some(noon() - TimeDelta::days(days));
    assert!(of(None, 0).contains("none known"));
    assert!(of(days_ago(3), 0).contains("✓ one passed"));
    assert!(of(days_ago(36), 0).contains("! one passed, but that is long ago"));
    assert!(of(None, 2).contains("✕ The last drill of 2 databases failed."));
    assert!(of(days_ago(3), 1).contains("✕ The last drill of 1 database failed."));
}

fn said(board: &crate::board::Board) -> String {
    render(&board.view(false)).into_string()
}

/// The lead of the only card.
fn lead(board: &crate::board::Board) -> String {
    let page = said(board);
    let (_, rest) = page.split_once("<p class=\"lead\">").expect("a card");
    rest.split_once("</p>").map(|(lead, _)| lead.to_owned()).expect("an end")
}

#[test]
fn a_database_without_a_good_snapshot_has_a_sentence_of_its_own() {
    let (board, clock) = planned_by_clock(&["bookings"]);
    assert_eq!(lead(&board), "There is no good snapshot yet, and no run is scheduled.");
    board.next(&label("bookings"), Some(noon() + TimeDelta::minutes(1)));
    assert_eq!(lead(&board), "There is no good snapshot yet; the next run will tell.");
    board.begun(&label("bookings"));
    assert_eq!(lead(&board), "There is no good snapshot yet; a run is at work.");
    board.ended(&label("bookings"), &[failed("bookings")]);
    assert_eq!(lead(&board), "There is no good snapshot; the last run failed.");
    clock.set(noon() + TimeDelta::hours(3));
    let late =
        "There is no good snapshot, although the service has run for 3 h, and the last run failed.";
    assert_eq!(lead(&board), late);
    board.ended(&label("bookings"), &[]);
    assert_eq!(lead(&board), late, "a run without an outcome tells nothing");
}

#[test]
fn a_failure_without_any_good_snapshot_is_red_and_one_with_is_not() {
    let board = planned(&["bookings"]);
    board.ended(&label("bookings"), &[failed("bookings")]);
    assert!(said(&board).contains("card database failed grave"));
    board.looked("vault", Look::Seen(seen(vec![("bookings", vec![snap(30, 7)])])));
    let page = said(&board);
    assert!(page.contains("card database failed\"") && !page.contains("failed grave"));
}

#[test]
fn why_a_run_failed_stands_first_and_is_folded_away_once_it_is_over() {
    let (board, clock) = planned_by_clock(&["bookings"]);
    board.looked("vault", Look::Seen(seen(vec![("bookings", vec![snap(30, 7)])])));
    board.begun(&label("bookings"));
    board.ended(&label("bookings"), &[failed("bookings")]);
    let page = said(&board);
    let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text}: {page}"));
    assert!(at("<div class=\"cause failed\"><p><b>config</b>") < at("<div class=\"columns\">"));
    assert!(page.contains("journalctl -u stonekeepd") && page.contains("failed after 0.0 s, now"));
    let named = render(&board.view(true)).into_string();
    assert!(named.contains("<b>config: ") && !named.contains("journalctl"));
    assert!(named.contains("correct the configuration"), "the hint is there besides the message");
    clock.set(noon() + TimeDelta::minutes(10));
    board.begun(&label("bookings"));
    clock.set(noon() + TimeDelta::milliseconds(600_000 + 7_449));
    board.ended(&label("bookings"), &[taken("bookings", "vault", None)]);
    let page = said(&board);
    assert!(!page.contains("class=\"cause") && page.contains("good, 7.4 s, now"), "{page}");
    assert!(page.contains("10 min ago, over: good since 2026-11-21 12:00 UTC"));
}

#[test]
fn another_try_is_not_taken_for_the_schedule() {
    let board = planned(&["bookings"]);
    board.ended(&label("bookings"), &[failed("bookings")]);
    board.next(&label("bookings"), Some(noon() + TimeDelta::minutes(1)));
    let page = said(&board);
    assert!(page.contains("Next try") && page.contains("13:01 CET, in 1 min"), "{page}");
    assert!(page.contains("a retry. The schedule's next is 2026-11-21 13:00 UTC"));
    board.next(&label("bookings"), Some(noon() + TimeDelta::minutes(60)));
    assert!(said(&board).contains("Next run"));
}

#[test]
fn few_snapshots_are_told_and_more_are_drawn() {
    let board = planned(&["bookings"]);
    let with = |number: i64| {
        let snaps = (1..=number).map(|minutes| snap(minutes, 7)).collect();
        board.looked("vault", Look::Seen(seen(vec![("bookings", snaps)])));
        said(&board)
    };
    let page = with(2);
    assert!(!page.contains("class=\"picture\"") && page.contains("2 snapshots"));
    assert!(page.contains(&snap(1, 7).id.to_string()) && page.contains("docs/recovery.md"));
    assert_eq!(with(3).matches("class=\"picture\"").count(), 2);
}
