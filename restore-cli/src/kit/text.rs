//! The kit as text. What is typed stands four columns in, and is never broken; the rest is broken at 80.

use stonekeep_process::table::{Align, Table};

use super::{
    content::{Part, Section, preface},
    facts::Facts,
};

/// Where prose is broken (80 columns).
const WIDTH: usize = 80;
/// What a person writes on.
const BLANK: &str = "______________________________";

/// Returns the kit, line by line.
pub(super) fn lines(facts: &Facts, sections: &[Section]) -> Vec<String> {
    let title = format!("RECOVERY KIT: {}", facts.place.name);
    let mut lines =
        vec!["=".repeat(title.chars().count()), title.clone(), "=".repeat(title.chars().count())];
    for paragraph in preface(facts) {
        lines.push(String::new());
        lines.extend(wrapped(&paragraph, ""));
    }
    for section in sections {
        lines.extend([String::new(), String::new(), section.title.to_owned()]);
        lines.push("-".repeat(section.title.chars().count()));
        let mut steps = 0;
        for part in &section.parts {
            lines.push(String::new());
            lines.extend(part_lines(part, &mut steps));
        }
    }
    lines
}

fn part_lines(part: &Part, steps: &mut usize) -> Vec<String> {
    match part {
        Part::Prose(text) => wrapped(text, ""),
        Part::Step(text) => {
            *steps += 1;
            wrapped(&format!("({steps}) {text}"), "")
        }
        Part::Facts(facts) => facts.iter().map(|(name, fact)| fact_line(name, fact)).collect(),
        Part::Blanks(blanks) => {
            blanks.iter().flat_map(|(name, what)| blank_lines(name, what)).collect()
        }
        Part::Commands(text) => {
            text.lines().map(|line| format!("    {line}").trim_end().to_owned()).collect()
        }
        Part::Table(heads, rows) => {
            let columns: Vec<(&str, Align)> =
                heads.iter().map(|head| (*head, Align::Left)).collect();
            let mut table = Table::new(&columns);
            rows.iter().for_each(|row| table.row(row.clone()));
            table.lines().iter().map(|line| format!("  {line}")).collect()
        }
    }
}

fn fact_line(name: &str, fact: &str) -> String {
    if name.is_empty() { format!("  {fact}") } else { format!("  {name:<18} {fact}") }
}

fn blank_lines(name: &str, what: &str) -> Vec<String> {
    let mut lines = vec![format!("  {name:<21} {BLANK}")];
    if !what.is_empty() {
        lines.extend(wrapped(&format!("({what})"), "  "));
    }
    lines
}

/// Breaks a paragraph between words.
fn wrapped(text: &str, indent: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("{indent}{word}")),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_is_broken_between_words_and_commands_are_not() {
        let long = "word ".repeat(40);
        let lines = wrapped(long.trim(), "  ");
        assert!(lines.len() > 2 && lines.iter().all(|line| line.chars().count() <= WIDTH));
        let command = Part::Commands(format!("a {long}\n\nb"));
        let lines = part_lines(&command, &mut 0);
        assert_eq!(lines, [format!("    a {}", long.trim()), String::new(), "    b".to_owned()]);
    }
}
