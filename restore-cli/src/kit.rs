//! `stonekeep recovery-kit`.

use std::process::ExitCode;

use crate::{cli::RecoveryKitArgs, failure::Failure, open::Session};

pub(crate) fn run(_session: &Session<'_>, _args: &RecoveryKitArgs) -> Result<ExitCode, Failure> {
    Err(Failure::Stopped)
}
