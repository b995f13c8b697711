//! Figures for Prometheus, in a file that its node exporter's textfile collector reads.

use std::{
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use prometheus_client::{encoding::text, registry::Registry};

/// Writes the file whole or not at all, readable by others than its owner.
///
/// # Errors
/// The operating system's; then the file is as it was.
pub fn write(path: &Path, registry: &Registry) -> io::Result<()> {
    let mut document = String::new();
    text::encode(&mut document, registry).map_err(io::Error::other)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let mut new = tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o644))
        .tempfile_in(dir.unwrap_or(Path::new(".")))?;
    new.write_all(document.as_bytes())?;
    new.persist(path).map_err(|error| error.error)?;
    Ok(())
}
