//! `stonekeep drill`: how its report is told, written and checked.

#[cfg(test)]
mod fixture;
mod page;
mod sentences;
pub(crate) mod signed;
mod terminal;
