//! Figures for Prometheus, in a file that its node exporter's textfile collector reads.

use std::{io, path::Path};

use prometheus_client::{encoding::text, registry::Registry};

use crate::replace::replace;

/// Writes the file whole or not at all, readable by others than its owner.
///
/// # Errors
/// The operating system's; then the file is as it was.
pub fn write(path: &Path, registry: &Registry) -> io::Result<()> {
    let mut document = String::new();
    text::encode(&mut document, registry).map_err(io::Error::other)?;
    replace(path, document.as_bytes(), 0o644)
}
