//! Log lines on standard error. What the engine has to say are events ([`crate::progress`]); this is what libraries say.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::failure::Failure;

/// Libraries' warnings are told again by our own errors, and would tear a progress bar.
const FILTER: &str = "error";

/// Starts logging.
pub(crate) fn start(json: bool, filter: Option<&str>) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter.unwrap_or(FILTER)).map_err(Failure::LogFilter)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    if json {
        lines.json().flatten_event(true).with_ansi(false).init();
    } else {
        lines.with_ansi(io::stderr().is_terminal()).init();
    }
    Ok(())
}
