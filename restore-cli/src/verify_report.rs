//! `stonekeep verify-report`.

use std::process::ExitCode;

use crate::{cli::VerifyReportArgs, failure::Failure, open::Session};

pub(crate) fn run(_session: &Session<'_>, _args: &VerifyReportArgs) -> Result<ExitCode, Failure> {
    Err(Failure::Stopped)
}
