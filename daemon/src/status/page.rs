//! The page: what an operator must see first stands first. Made of nothing but the view, so it can name nothing that the view
//! does not; everything in it is escaped, it runs no script and loads nothing.

mod card;
mod cause;
mod kept;
mod stores;

use std::sync::LazyLock;

use axum::http::HeaderValue;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use stonekeep_process::page;

use super::words;
use crate::board::view::{DatabaseView, Standing, View};

/// How often a browser asks again (30 s).
const REFRESH_SECS: u64 = 30;
/// Databases that are shown in full (40), those in trouble first: some 12 KiB each, so that a page has half a MiB at most.
const CARDS_MAX: usize = 40;
/// Databases that have a line of their own besides (400).
const LINES_MAX: usize = 400;

static STYLE: LazyLock<String> = LazyLock::new(|| page::style(include_str!("style.css")));

/// What a browser may do with an answer: show it with this one style, and nothing else.
pub(super) static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let policy = format!("{}; frame-ancestors 'none'", page::policy(&STYLE));
    // Base 64 and ASCII.
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

/// A database and its number in the order of the configuration: links to its card hold while it stays in that.
type Numbered<'v> = (usize, &'v DatabaseView);

/// Returns the page.
pub(super) fn render(view: &View) -> Markup {
    let mut databases: Vec<Numbered<'_>> = (1..).zip(&view.databases).collect();
    // Sorting is stable: those that stand alike stay in the order of the configuration.
    databases.sort_by_key(|(_, each)| std::cmp::Reverse((each.is_grave(), each.standing)));
    let cards = &databases[..databases.len().min(CARDS_MAX)];
    let rest = &databases[cards.len()..];
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="refresh" content=(REFRESH_SECS);
                title { (title(&databases)) }
                style { (PreEscaped(&*STYLE)) }
            }
            body {
                (head(view))
                main {
                    h2 { "Databases" }
                    @if databases.is_empty() { p class="none" { "The configuration is not loaded yet." } }
                    @if cards.len() > 1 { (list(cards)) }
                    @for (number, database) in cards { (card::draw(*number, database, view)) }
                    @if !rest.is_empty() { (lines(rest, view)) }
                    h2 { "Repositories" }
                    @if view.repositories.is_empty() { p class="none" { "None was looked at yet." } }
                    @for repository in &view.repositories { (stores::draw(repository, view.at)) }
                }
                (foot(view))
            }
        }
    }
}

/// What a tab shows: the worst first.
fn title(databases: &[Numbered<'_>]) -> String {
    let worst = databases.first().map(|(_, database)| database.standing);
    match worst.filter(|worst| *worst > Standing::Waiting) {
        Some(worst) => {
            let number = databases.iter().filter(|(_, each)| each.standing == worst).count();
            format!("{number} {} – Stonekeep", worst.as_str())
        }
        None => "Stonekeep".to_owned(),
    }
}

fn head(view: &View) -> Markup {
    html! {
        header {
            h1 { "Stonekeep" }
            p class="at" {
                time datetime=(words::exact(view.at)) { (words::instant(view.at)) }
                " · up " (words::time(words::between(view.started_at, view.at)))
            }
            ul class="sums" aria-label="How many databases stand how" {
                @for standing in Standing::ALL.into_iter().rev() {
                    @let of_it = || view.databases.iter().filter(|each| each.standing == standing);
                    @if let Some(worst) = of_it().max_by_key(|each| each.is_grave()) {
                        li class=(tone(worst)) { (icon(standing)) b { (of_it().count()) } " " (standing.as_str()) }
                    }
                }
            }
        }
    }
}

/// A sign for those who do not see the colour: a tick, a clock, a cross, an exclamation mark in a triangle, or in an octagon.
fn icon(standing: Standing) -> Markup {
    let path = match standing {
        Standing::Good => "M8 1a7 7 0 1 0 .01 0zM4.5 8.2l2.4 2.4 4.6-5",
        Standing::Waiting => "M8 1a7 7 0 1 0 .01 0zM8 4v4.2l2.8 1.8",
        Standing::Failed => "M8 1a7 7 0 1 0 .01 0zM5.4 5.4l5.2 5.2M10.6 5.4l-5.2 5.2",
        Standing::Suspicious => "M8 1.6L15 14.2H1zM8 6v4M8 11.6v.9",
        Standing::Late => "M5.1 1h5.8L15 5.1v5.8L10.9 15H5.1L1 10.9V5.1zM8 4v5M8 11v1",
    };
    html! {
        svg class="icon" viewBox="0 0 16 16" aria-hidden="true" { path d=(path) {} }
    }
}

/// The classes that give a database its colour.
fn tone(database: &DatabaseView) -> &'static str {
    match database.standing {
        Standing::Failed if database.is_grave() => "failed grave",
        standing => standing.as_str(),
    }
}

/// How a database stands, as a sign and a word.
fn badge(database: &DatabaseView) -> Markup {
    let standing = database.standing;
    html! { span class=(format!("badge {}", tone(database))) { (icon(standing)) (standing.as_str()) } }
}

/// The databases that have a card, for those whose screen shows but one of them.
fn list(cards: &[Numbered<'_>]) -> Markup {
    html! {
        nav aria-label="Databases" {
            ul class="list" {
                @for (number, database) in cards {
                    li { (badge(database)) " " a href=(format!("#{}", card::anchor(*number))) { (database.name) } }
                }
            }
        }
    }
}

/// The databases for which there is no card.
fn lines(rest: &[Numbered<'_>], view: &View) -> Markup {
    let shown = &rest[..rest.len().min(LINES_MAX)];
    html! {
        section class="card" {
            table {
                caption {
                    "The other databases. The " (CARDS_MAX) " that need a look first are shown in full above."
                    @if rest.len() > shown.len() { " Of these, " (rest.len() - shown.len()) " are left out." }
                }
                thead { tr { th scope="col" { "Database" } th scope="col" { "State" } th scope="col" { "Age" } th scope="col" class="wide" { "Next run" } } }
                tbody {
                    @for (_, database) in shown {
                        tr {
                            th scope="row" { (database.name) }
                            td { (badge(database)) }
                            td { (card::age(database, view.at).unwrap_or_else(|| "–".to_owned())) }
                            td class="wide" { (database.next_at.map_or_else(|| "–".to_owned(), words::instant)) }
                        }
                    }
                }
            }
        }
    }
}

fn foot(view: &View) -> Markup {
    html! {
        footer {
            @if view.left_out > 0 {
                p { (words::some(view.left_out, "database is", "databases are")) " not on this page: there is no room for more. All are backed up." }
            }
            @if !view.has_names {
                p { "Databases and repositories are numbered in the order of the configuration. " code { "show_names = true" } " in " code { "[status]" } " shows names." }
            }
            p {
                "stonekeepd " (env!("CARGO_PKG_VERSION")) " · reloads every " (REFRESH_SECS) " s · "
                a href="/metrics" { "metrics" } " · " a href="/healthz" { "health" } " · " a href="/readyz" { "readiness" }
            }
        }
    }
}

#[cfg(test)]
mod tests;
