//! What may be told of a server's refusal.
//!
//! PostgreSQL quotes rows in its errors: `invalid input syntax for type integer: "…"`, the DETAIL of a violated key, the
//! CONTEXT of a COPY. An error of ours ends in logs, mails and reports, so it never carries the server's text where a row
//! could be in it: only the SQLSTATE, its name, the line of the COPY, and names of the schema.

use std::fmt;

use stonekeep_format::ErrorKind;
use tokio_postgres::{Error, error::DbError};

/// A server's refusal, or the loss of the connection, without a word of any row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    sqlstate: Option<String>,
    told: String,
    is_too_long: bool,
}

impl Refusal {
    /// Describes an error of a statement that touches rows: the server's own text is dropped.
    #[must_use]
    pub fn quiet(error: &Error) -> Self {
        match error.as_db_error() {
            Some(refused) => Self { told: place(refused), ..Self::of(refused) },
            None => Self::lost(error),
        }
    }

    /// Describes an error of a statement that touches no row (CREATE DATABASE, a catalog query): the server's primary
    /// message is kept, its DETAIL is not.
    #[must_use]
    pub fn told(error: &Error) -> Self {
        match error.as_db_error() {
            Some(refused) => {
                let told = format!(": {}", one_line(refused.message()));
                Self { told, ..Self::of(refused) }
            }
            None => Self::lost(error),
        }
    }

    fn of(refused: &DbError) -> Self {
        let state = refused.code().code();
        // internal_error: an allocator's limit, whose words are never translated; program_limit_exceeded: a buffer's.
        let is_too_long = match state {
            "XX000" => refused.message().starts_with("invalid memory alloc request size"),
            state => state == "54000",
        };
        Self { sqlstate: Some(state.to_owned()), told: String::new(), is_too_long }
    }

    fn lost(error: &Error) -> Self {
        Self { sqlstate: None, told: one_line(&error.to_string()), is_too_long: false }
    }

    /// Returns the SQLSTATE; none if the connection broke or the answer was not understood.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&str> {
        self.sqlstate.as_deref()
    }

    /// Whether a lock could not be had, or what was to be locked is gone: to be tried again with a new list.
    #[must_use]
    pub fn is_lock_refused(&self) -> bool {
        // lock_not_available, deadlock_detected, undefined_table, invalid_schema_name
        matches!(self.sqlstate.as_deref(), Some("55P03" | "40P01" | "42P01" | "3F000"))
    }

    /// Whether a prepared statement was not there, or was there already: its name is this connection's alone, so two
    /// connections have met in one server session, behind a pooler.
    #[must_use]
    pub fn is_of_another_session(&self) -> bool {
        // invalid_sql_statement_name, duplicate_prepared_statement
        matches!(self.sqlstate.as_deref(), Some("26000" | "42P05"))
    }

    /// Whether a value or row was longer than the server can print: it takes no more than 1 GB in one piece.
    #[must_use]
    pub const fn is_too_long(&self) -> bool {
        self.is_too_long
    }

    /// Returns what to do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        let Some(state) = self.sqlstate.as_deref() else { return ErrorKind::Unavailable };
        match (state, state.get(..2).unwrap_or_default()) {
            ("42501", _) | (_, "28") => ErrorKind::Denied,
            ("42P04" | "55006", _) => ErrorKind::Conflict,
            (_, "08" | "40" | "53" | "57" | "58" | "55") => ErrorKind::Unavailable,
            (_, "22" | "23") => ErrorKind::Corrupt,
            (_, "XX") => ErrorKind::Internal,
            _ => ErrorKind::Config,
        }
    }
}

impl std::error::Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.sqlstate {
            Some(state) => write!(f, "{} (SQLSTATE {state}){}", condition(state), self.told),
            None => write!(f, "connection lost ({})", self.told),
        }
    }
}

/// Where it happened, as far as names and numbers tell it.
fn place(refused: &DbError) -> String {
    let line = refused.where_().and_then(copy_line).map(|line| format!(" at line {line}"));
    let column = refused.column().map(|name| format!(", column {name:?}"));
    let constraint = refused.constraint().map(|name| format!(", constraint {name:?}"));
    [line, column, constraint].into_iter().flatten().collect()
}

/// `COPY t, line 3, column a: "…"` → 3. A table's name may hold `, line 9` as well; the row's text comes after the number,
/// so the first match that is followed by digits is the nearest to the truth and can quote nothing but digits.
fn copy_line(context: &str) -> Option<u64> {
    let (_, rest) = context.split_once(", line ")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).take(19).collect();
    digits.parse().ok()
}

/// One line of at most 300 characters, so that a hostile or endless text cannot flood a log.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

/// The condition's name as in PostgreSQL's appendix A; of a condition that no load is known to meet, its class's.
fn condition(state: &str) -> &'static str {
    match state {
        "22001" => "string_data_right_truncation",
        "22003" => "numeric_value_out_of_range",
        "22007" => "invalid_datetime_format",
        "22008" => "datetime_field_overflow",
        "22021" => "character_not_in_repertoire",
        "22023" => "invalid_parameter_value",
        "22P02" => "invalid_text_representation",
        "22P03" => "invalid_binary_representation",
        "22P04" => "bad_copy_file_format",
        "22P05" => "untranslatable_character",
        "23502" => "not_null_violation",
        "23503" => "foreign_key_violation",
        "23505" => "unique_violation",
        "23514" => "check_violation",
        "23P01" => "exclusion_violation",
        "25006" => "read_only_sql_transaction",
        "3D000" => "invalid_catalog_name",
        "42501" => "insufficient_privilege",
        "42703" => "undefined_column",
        "42704" => "undefined_object",
        "42883" => "undefined_function",
        "42P01" => "undefined_table",
        "42P04" => "duplicate_database",
        "53100" => "disk_full",
        "53200" => "out_of_memory",
        "53300" => "too_many_connections",
        "54000" => "program_limit_exceeded",
        "55006" => "object_in_use",
        "55P03" => "lock_not_available",
        "57014" => "query_canceled",
        "57P01" => "admin_shutdown",
        "57P02" => "crash_shutdown",
        "57P03" => "cannot_connect_now",
        "P0001" => "raise_exception",
        _ => class(state.get(..2).unwrap_or_default()),
    }
}

fn class(class: &str) -> &'static str {
    match class {
        "08" => "connection_exception",
        "0A" => "feature_not_supported",
        "22" => "data_exception",
        "23" => "integrity_constraint_violation",
        "25" => "invalid_transaction_state",
        "28" => "invalid_authorization_specification",
        "40" => "transaction_rollback",
        "42" => "syntax_error_or_access_rule_violation",
        "53" => "insufficient_resources",
        "54" => "program_limit_exceeded",
        "55" => "object_not_in_prerequisite_state",
        "57" => "operator_intervention",
        "58" => "system_error",
        "P0" => "plpgsql_error",
        "XX" => "internal_error",
        _ => "server_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_number_is_taken_and_the_row_is_not() {
        assert_eq!(copy_line("COPY t, line 3, column a: \"secret\""), Some(3));
        assert_eq!(copy_line("COPY t, line 17: \"1\tsecret\""), Some(17));
        assert_eq!(copy_line("SQL function \"f\" statement 1"), None);
    }

    #[test]
    fn disk_full_is_tried_again_and_a_bad_row_is_not() {
        let of = |state: &str| {
            Refusal { sqlstate: Some(state.to_owned()), told: String::new(), is_too_long: false }
                .kind()
        };
        assert_eq!(of("53100"), ErrorKind::Unavailable);
        assert_eq!(of("22P02"), ErrorKind::Corrupt);
        assert_eq!(of("42501"), ErrorKind::Denied);
    }

    #[test]
    fn endless_text_becomes_one_short_line() {
        assert_eq!(one_line("a\nb"), "a b");
        assert_eq!(one_line(&"x".repeat(10_000)).len(), 300);
    }
}
