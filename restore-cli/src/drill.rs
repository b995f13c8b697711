//! `stonekeep drill`: how its report is told, written and checked.

#[cfg(test)]
mod fixture;
mod page;
pub(crate) mod sentences;
#[cfg_attr(not(test), expect(dead_code, reason = "the command that writes them comes next"))]
pub(crate) mod signed;
#[cfg_attr(not(test), expect(dead_code, reason = "the command that writes them comes next"))]
mod terminal;
