//! Figures for Prometheus: what both binaries have of them, and the file that its node exporter's textfile collector reads.

use std::{io, path::Path};

use prometheus_client::{
    encoding::text,
    registry::{Metric, Registry, Unit},
};

use crate::replace::replace;

/// Registers a figure by name and help, with a unit if it has one.
pub fn register(
    registry: &mut Registry,
    (name, help, unit): (&str, &str, Option<Unit>),
    metric: impl Metric,
) {
    match unit {
        Some(unit) => registry.register_with_unit(name, help, unit, metric),
        None => registry.register(name, help, metric),
    }
}

/// Writes the file whole or not at all, readable by others than its owner.
///
/// # Errors
/// The operating system's; then the file is as it was.
pub fn write(path: &Path, registry: &Registry) -> io::Result<()> {
    let mut document = String::new();
    text::encode(&mut document, registry).map_err(io::Error::other)?;
    replace(path, document.as_bytes(), 0o644)
}
