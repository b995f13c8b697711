use stonekeep_format::ErrorKind;

use super::*;
use crate::board::{
    Look, Seen,
    fixture::{HOSTILE, NAMES, busy, planned, seen, snap, years},
};

fn page(show_names: bool) -> String {
    render(&busy().view(show_names)).into_string()
}

#[test]
fn the_page_is_as_it_was() {
    // The style and the version change for reasons of their own.
    let page = page(false).replace(STYLE, "").replace(env!("CARGO_PKG_VERSION"), "0.0.0");
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
    assert_eq!(links, ["/metrics", "/healthz", "/readyz"]);
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
    let said = |board: &crate::board::Board| render(&board.view(false)).into_string();
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
