use stonekeep_format::{
    drill::{DrillTable, TableOutcome},
    signature::document_body,
};

use super::*;
use crate::drill::fixture::{HOSTILE, broken, failed, passed};

fn page(report: &DrillReport) -> String {
    let document = document_body(report).expect("JSON");
    render(report, &String::from_utf8(document).expect("UTF-8"), Some("SHA256:abc"))
}

/// What is seen of the page: not the document in it.
fn seen(page: &str) -> &str {
    page.split_once(DOCUMENT_BEGIN).expect("a document").0
}

fn document(page: &str) -> DrillReport {
    let (_, rest) = page.split_once(DOCUMENT_BEGIN).expect("a document");
    let (document, _) = rest.split_once(DOCUMENT_END).expect("an end");
    serde_json::from_str(document).expect("the document")
}

#[test]
fn the_whole_document_is_in_the_page_whatever_its_names_are() {
    for report in [passed(), failed(), broken()] {
        let page = page(&report);
        assert_eq!(document(&page), report);
        assert_eq!(page.matches("<script").count(), 1);
        assert_eq!(page.matches("</script").count(), 1);
        assert!(page.ends_with("</html>\n") && !page.contains("<!--"));
    }
}

#[test]
fn a_hostile_name_is_nothing_but_a_name() {
    let page = page(&failed());
    assert!(!page.contains("<img") && !page.contains("alert(2)</script"));
    let seen = seen(&page);
    assert!(seen.contains("public.&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;"));
    assert!(seen.contains("\\u{202e}sgnikoob\\u{202c}") && !seen.contains('\u{202e}'));
    assert!(seen.contains(HOSTILE[3]), "letters that run from right to left are only letters");
}

#[test]
fn what_counts_stands_first() {
    let page = page(&failed());
    let seen = seen(&page);
    let order = [
        "FAIL</span>",
        "did not come back as it was",
        "7 problems were found.",
        ">What is wrong",
        "index public.bookings_by_day",
        "and 3 others not named here",
        ">What was restored, and where",
        ">What was done, and how long it took",
        "Recovery time (RTO)",
        "Recovery point (RPO)",
        ">Table by table",
        ">Other objects",
        ">Who can open it",
        ">The operator's own checks",
        ">What was not checked",
        ">How long a restore of each database takes",
        ">Who says so",
        "<footer>",
    ];
    let mut rest = seen;
    for text in order {
        rest =
            rest.split_once(text).unwrap_or_else(|| panic!("{text} is not there, or too early")).1;
    }
}

#[test]
fn of_many_tables_a_thousand_have_a_line_and_those_that_differ_are_among_them() {
    let mut report = passed();
    let table = |at: u64| DrillTable {
        name: format!("public.t{at}"),
        rows: at,
        bytes: at,
        rows_found: Some(at),
        outcome: if at == 7 { TableOutcome::Differs } else { TableOutcome::Same },
    };
    report.tables = (0..2_500).map(table).collect();
    let page = page(&report);
    let seen = seen(&page);
    assert_eq!(seen.matches("<bdi>public.t").count(), 1_000);
    assert!(seen.contains("<bdi>public.t7</bdi>") && !seen.contains("<bdi>public.t8</bdi>"));
    assert!(seen.contains("1\u{202f}500 more tables have no line here"));
    assert_eq!(document(&page).tables.len(), 2_500);
}

#[test]
fn a_page_that_nobody_signed_says_so() {
    let report = passed();
    let page = render(&report, "{}\n", None);
    assert!(page.contains("This report is not signed.") && !page.contains("verify-report"));
}

#[test]
fn nothing_is_loaded_and_nothing_runs() {
    let page = page(&failed());
    let seen = seen(&page);
    for bad in [
        "<script",
        "<a ",
        "<link",
        "<iframe",
        "javascript:",
        " src=\"",
        " href=\"",
        " style=\"",
        "@import",
        "url(",
    ] {
        assert!(!seen.contains(bad), "{bad}");
    }
    assert!(seen.contains("content=\"default-src 'none'; style-src 'sha256-"));
}
