//! The kit as a page to print: black on white, self-contained, no script. Lines of commands are numbered where a printer might
//! break them, and pages end between them.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    content::{Part, Section, preface},
    facts::Facts,
};

const STYLE: &str = include_str!("page.css");
/// It shows what is in it and loads nothing, wherever it is opened.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";
/// Commands of more lines than this (12) are a program: its lines are numbered.
const SHORT_LINES: usize = 12;

/// Returns the page.
pub(super) fn render(facts: &Facts, sections: &[Section]) -> Markup {
    let title = format!("Recovery kit: {}", facts.place.name);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { (title) }
                    @for paragraph in preface(facts) { p { (prose(&paragraph)) } }
                }
                @for section in sections { (draw(section)) }
            }
        }
    }
}

fn draw(section: &Section) -> Markup {
    let mut steps = 0;
    html! {
        section {
            h2 { (section.title) }
            @for part in &section.parts { (draw_part(part, &mut steps)) }
        }
    }
}

fn draw_part(part: &Part, steps: &mut usize) -> Markup {
    match part {
        Part::Prose(text) => html! { p { (prose(text)) } },
        Part::Step(text) => {
            *steps += 1;
            html! { p class="step" { b { (steps) } span { (prose(text)) } } }
        }
        Part::Facts(facts) => html! {
            dl { @for (name, fact) in facts {
                @if !name.is_empty() { dt { (name) } }
                dd class=(if name.is_empty() { "alone" } else { "" }) { (fact) }
            } }
        },
        Part::Blanks(blanks) => html! {
            div class="blanks" { @for (name, what) in blanks { div class="blank" { span class="name" { (name) } span class="line" {} span class="what" { (what) } } } }
        },
        Part::Commands(text) => commands(text),
        Part::Table(heads, rows) => html! {
            table {
                thead { tr { @for head in heads { th scope="col" { (head) } } } }
                tbody { @for row in rows { tr { @for cell in row { td { (cell) } } } } }
            }
        },
    }
}

/// Draws what stands between backticks as what is typed.
fn prose(text: &str) -> Markup {
    html! {
        @for (at, piece) in text.split('`').enumerate() {
            @if at % 2 == 1 { code { (piece) } } @else { (piece) }
        }
    }
}

/// A program is drawn paragraph by paragraph, so that a page can end between two of them and in none.
fn commands(text: &str) -> Markup {
    if text.lines().count() <= SHORT_LINES {
        return html! { pre { (text) } };
    }
    html! {
        div class="program" {
            @for paragraph in text.split("\n\n") {
                pre { @for line in paragraph.lines() { span { (line) "\n" } } }
            }
        }
    }
}
