//! Who signed the report, and how anybody can check that.

use maud::{Markup, html};
use stonekeep_format::{drill::DrillReport, signature::SignedDocument as _};

use crate::drill::signed::file_name;

pub(super) fn draw(report: &DrillReport, signed_by: Option<&str>) -> Markup {
    html! {
        section class="card" aria-labelledby="proof" {
            h2 id="proof" { "Who says so" }
            @match signed_by {
                Some(fingerprint) => (signed(report, fingerprint)),
                None => {
                    p class="bad" { "This report is not signed." }
                    p { "Whoever can write the file can have changed it. A report key (report_key_file) makes it evidence." }
                }
            }
        }
    }
}

fn signed(report: &DrillReport, fingerprint: &str) -> Markup {
    let (page, json) = (file_name(report, "html"), file_name(report, "json"));
    html! {
        p { "Signed with the report key " code { (fingerprint) } ", every byte of this page. Believe it only if you know that key from elsewhere: from the line of " code { "reporter" } " in " code { "allowed_signers" } "." }
        p { "To check it:" }
        pre { code { "stonekeep verify-report " (page) "\n" } }
        p { "With OpenSSH alone, this page, and then the document beside it:" }
        pre { code { (of_page(&page)) } }
        pre { code { (of_document(&json)) } }
        p { "OpenSSH passes over what stands behind a signature: read the file " code { "page" } " that it has checked. " code { "stonekeep" } " refuses such a page." }
    }
}

/// What is signed stands before the comment at the end, which holds the signature.
pub(super) fn of_page(page: &str) -> String {
    format!(
        "sed '/^<!--$/,$d' {page} >page\nsed '1,/^<!--$/d; /^-->$/d' {page} >page.sig\n{} -s page.sig <page\n",
        ssh_keygen()
    )
}

pub(super) fn of_document(json: &str) -> String {
    format!("{} -s {json}.sig <{json}\n", ssh_keygen())
}

fn ssh_keygen() -> String {
    let namespace = DrillReport::NAMESPACE.as_str();
    format!("ssh-keygen -Y verify -f allowed_signers -I reporter -n {namespace}")
}
