//! The operator's own questions to the restored database.

use std::time::Duration;

use stonekeep_format::{drill::DrillCheck, ids::Label};
use stonekeep_postgres::{
    connect::ConnectOptions,
    load::Pins,
    question::{Answer, ask},
};

use super::{Found, chain};
use crate::Context;

/// How long a question may take where nobody says otherwise (10 min): a count of a billion rows takes about that.
const DURATION_MAX: Duration = Duration::from_secs(600);

/// A question, and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Its name, in reports.
    pub name: String,
    /// The database it is asked of; absent: each.
    pub label: Option<Label>,
    /// A query that answers with one row of one column.
    pub sql: String,
    /// The answer, as PostgreSQL prints it.
    pub expect: String,
    /// How long it may take; absent: ten minutes.
    pub duration_max: Option<Duration>,
}

/// Whom questions are asked.
pub(super) struct Asked<'a> {
    /// The restored database.
    pub(super) target: ConnectOptions,
    /// Its label.
    pub(super) label: &'a Label,
    /// The settings under which its rows were compared.
    pub(super) pins: &'a Pins,
}

/// Asks what is to be asked of a database. A question that could not be asked was not answered as expected.
pub(super) async fn ask_all(
    asked: &Asked<'_>,
    checks: &[Check],
    found: &mut Found,
    context: &Context,
) -> Vec<DrillCheck> {
    let mut lines = Vec::new();
    let is_asked = |check: &&Check| check.label.as_ref().is_none_or(|of| of == asked.label);
    for check in checks.iter().filter(is_asked) {
        let begun_at = context.clock.now();
        let duration_max = check.duration_max.unwrap_or(DURATION_MAX);
        let answer = ask(&asked.target, &check.sql, &check.expect, duration_max, asked.pins).await;
        let why = match &answer {
            Ok(answer) => why(answer, duration_max),
            Err(error) => Some(format!("no connection: {}", chain(error))),
        };
        if let Some(why) = &why {
            found.problem(format!("check {:?}: {why}", check.name));
        }
        let took = (context.clock.now() - begun_at).num_milliseconds();
        lines.push(DrillCheck {
            name: check.name.clone(),
            passed: why.is_none(),
            why,
            duration_ms: u64::try_from(took).unwrap_or(0),
        });
    }
    lines
}

fn why(answer: &Answer, duration_max: Duration) -> Option<String> {
    match answer {
        Answer::AsExpected => None,
        Answer::Other => Some("the answer is not the expected one".to_owned()),
        Answer::NotOne { rows, columns } => {
            let rows =
                if *rows > 1 { "more than one row".to_owned() } else { format!("{rows} rows") };
            Some(format!("it gave {rows} of {columns} columns; one row of one column is needed"))
        }
        // query_canceled: nobody else knows of the session.
        Answer::Refused(refusal) if refusal.sqlstate() == Some("57014") => {
            Some(format!("it took longer than {} s", duration_max.as_secs()))
        }
        Answer::Refused(refusal) => Some(refusal.to_string()),
    }
}
