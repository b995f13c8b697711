//! How pages look, and what a browser may do with one: show it in its own style, run nothing, and load nothing.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};

/// Colours by day and by night, and what every page is made of.
const BASE: &str = include_str!("page/base.css");

/// Returns the style of a page: what all have in common, then its own.
#[must_use]
pub fn style(own: &str) -> String {
    format!("{BASE}{own}")
}

/// Returns a content security policy that allows this one style, and nothing else.
#[must_use]
pub fn policy(style: &str) -> String {
    let digest = STANDARD.encode(Sha256::digest(style));
    format!("default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'")
}
