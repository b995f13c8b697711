//! A question of an operator to a restored database, and whether it was answered as expected.
//!
//! Neither the question nor the answer leaves this module: both could hold a row.

use std::time::Duration;

use futures_util::{TryStreamExt as _, pin_mut};
use tokio_postgres::{Error, SimpleQueryMessage};

use crate::{
    compare::PRINTING,
    connect::{ConnectError, ConnectOptions, connect},
    load::Pins,
    refusal::Refusal,
    session::Session,
    sql::literal,
};

/// What a question came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The expected one.
    AsExpected,
    /// Another one.
    Other,
    /// Not one row of one column.
    NotOne {
        /// Rows: 0, 1, or 2 for more than one.
        rows: u64,
        /// Columns.
        columns: usize,
    },
    /// None: the server refused.
    Refused(Refusal),
}

/// Asks `sql` of `target` in a transaction that only reads, and compares its one value with `expect`, as PostgreSQL prints it.
///
/// The value is printed by the rules of a comparison (times in UTC, ISO dates, `pins`), whatever the settings of server, database
/// and role are: the answer is the same on another server. Only `search_path` stays the database's own, which the question may
/// count on.
///
/// # Errors
/// [`ConnectError`]: there is no session.
pub async fn ask(
    target: &ConnectOptions,
    sql: &str,
    expect: &str,
    duration_max: Duration,
    pins: &Pins,
) -> Result<Answer, ConnectError> {
    let session = connect(target).await?;
    let pins = pins.as_sql();
    let timeout = literal(&format!("{}ms", duration_max.as_millis()));
    let begin = format!("SET statement_timeout TO {timeout}; BEGIN READ ONLY");
    for rules in [pins.as_str(), PRINTING, begin.as_str()] {
        if let Err(error) = session.batch_execute(rules).await {
            return Ok(Answer::Refused(Refusal::quiet(&error)));
        }
    }
    Ok(answer(&session, sql, expect)
        .await
        .unwrap_or_else(|error| Answer::Refused(Refusal::quiet(&error))))
}

/// Reads no more than two rows, however many there are: the end of the session stops the rest.
async fn answer(session: &Session, sql: &str, expect: &str) -> Result<Answer, Error> {
    let messages = session.simple_query_raw(sql).await?;
    pin_mut!(messages);
    let (mut columns, mut as_expected) = (0, None);
    while let Some(message) = messages.try_next().await? {
        let row = match message {
            SimpleQueryMessage::RowDescription(described) => {
                columns = described.len();
                continue;
            }
            SimpleQueryMessage::Row(row) => row,
            _ => continue,
        };
        if as_expected.is_some() || columns != 1 {
            return Ok(Answer::NotOne { columns, rows: if as_expected.is_some() { 2 } else { 1 } });
        }
        as_expected = Some(row.get(0) == Some(expect));
    }
    Ok(match as_expected {
        Some(true) => Answer::AsExpected,
        Some(false) => Answer::Other,
        None => Answer::NotOne { rows: 0, columns },
    })
}
