//! `stonekeep verify-report`.

use std::{io, process::ExitCode};

use chrono::{DateTime, Utc};
use serde::Serialize;
use stonekeep_config::ConfigError;
use stonekeep_format::{
    drill::DrillVerdict,
    ids::{Label, RepositoryId, SnapshotId},
    key::ObjectKey,
    signature::Trust,
};
use stonekeep_process::output;

use crate::{
    cli::VerifyReportArgs,
    drill::{
        sentences,
        signed::{self, Genuine},
    },
    failure::Failure,
    open::Session,
    report::{count, time},
};

/// What is known of a report that is genuine.
#[derive(Debug, Serialize)]
struct Document {
    genuine: bool,
    verdict: DrillVerdict,
    problems: u64,
    repository: RepositoryId,
    label: Label,
    drill: SnapshotId,
    key: ObjectKey,
    snapshot: SnapshotId,
    snapshot_at: DateTime<Utc>,
    begun_at: DateTime<Utc>,
    written_at: DateTime<Utc>,
    rto_ms: Option<u64>,
    signed_by: String,
}

/// Exits with 65 if the report is not as a report key signed it. That it is says nothing of the drill: that may have failed.
pub(crate) fn run(session: &Session<'_>, args: &VerifyReportArgs) -> Result<ExitCode, Failure> {
    let trust = trust(session, args)?;
    let read = signed::read(&args.file, &trust)
        .map_err(|source| Failure::ReportFile { path: args.file.clone(), source })?;
    let genuine = read.map_err(|source| Failure::NotGenuine {
        path: args.file.clone(),
        source: Box::new(source),
    })?;
    let document = Document::of(genuine);
    output::result(session.json, &document, || document.lines()).map_err(Failure::Output)?;
    Ok(ExitCode::SUCCESS)
}

/// Whose signature counts: the report key of the command line, else those of the configuration.
fn trust(session: &Session<'_>, args: &VerifyReportArgs) -> Result<Trust, Failure> {
    if let Some(reporter) = &args.reporter {
        return Trust::of_reporter(reporter).map_err(|source| Failure::Reporter(Box::new(source)));
    }
    if session.bare.bucket.is_some() || session.bare.copy.is_some() {
        return Err(Failure::NobodyToBelieve);
    }
    let config = session.load().map_err(|failure| match failure {
        // Whoever is handed a report need have no configuration.
        Failure::Config(ConfigError::Unreadable { source, .. })
            if session.config.is_none() && source.kind() == io::ErrorKind::NotFound =>
        {
            Failure::NobodyToBelieve
        }
        failure => failure,
    })?;
    let trust = session.reporters(&config)?;
    if trust.is_empty() {
        return Err(Failure::NoReporter { path: config.allowed_signers_file });
    }
    Ok(trust)
}

impl Document {
    fn of(Genuine { report, signed_by }: Genuine) -> Self {
        Self {
            genuine: true,
            verdict: report.verdict,
            problems: report.problem_count(),
            repository: report.repository,
            label: report.label,
            drill: report.id,
            key: report.key,
            snapshot: report.snapshot.id,
            snapshot_at: report.snapshot.snapshot_at,
            begun_at: report.begun_at,
            written_at: report.written_at,
            rto_ms: report.rto_ms,
            signed_by,
        }
    }

    fn lines(&self) -> Vec<String> {
        let verdict = match self.verdict {
            DrillVerdict::Pass => "The drill PASSED.".to_owned(),
            DrillVerdict::Fail => format!(
                "The drill FAILED: {}.",
                sentences::number_of(self.problems, "problem", "problems", count)
            ),
        };
        let rto = self.rto_ms.map_or_else(|| "not measured".to_owned(), sentences::took);
        let facts = [
            ("database", self.label.to_string()),
            ("snapshot", format!("{}, of {}", self.snapshot, time(self.snapshot_at))),
            ("drill", format!("{}, begun {}", self.drill, time(self.begun_at))),
            ("recovery time", rto),
            ("repository", self.repository.to_string()),
            ("signed", time(self.written_at)),
            ("by", self.signed_by.clone()),
        ];
        let facts = facts.iter().map(|(name, fact)| format!("{name:<15} {fact}"));
        ["The report is genuine: nobody has changed it since it was signed.".to_owned(), verdict]
            .into_iter()
            .chain(facts)
            .collect()
    }
}
