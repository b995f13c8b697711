//! Certificates and keys: a file, or a text for which there is no file.
//!
//! libpq takes files only. A text is kept in memory under a path in our own `/proc`, which children of the same user may open,
//! so that nothing is written where nothing can be, and nothing is left behind. No child inherits it.

use std::{
    fs::{File, Permissions},
    io::{self, Write as _},
    os::{fd::AsRawFd as _, unix::fs::PermissionsExt as _},
    path::{Path, PathBuf},
    process::id,
    sync::Arc,
};

use rustix::fs::{MemfdFlags, memfd_create};
use secrecy::{ExposeSecret, SecretString};

/// Certificates or a key.
#[derive(Debug, Clone)]
pub struct Pem {
    /// What messages call it.
    path: PathBuf,
    text: Option<Arc<InMemory>>,
}

#[derive(Debug)]
struct InMemory {
    text: SecretString,
    file: File,
}

impl Pem {
    /// Takes a file, which is read when a connection is made.
    #[must_use]
    pub const fn file(path: PathBuf) -> Self {
        Self { path, text: None }
    }

    /// Takes a text; messages call it `name`.
    ///
    /// # Errors
    /// The operating system's: there is no memory for it.
    pub fn text(name: PathBuf, text: SecretString) -> io::Result<Self> {
        let mut file = File::from(memfd_create("stonekeep-pem", MemfdFlags::CLOEXEC)?);
        // libpq refuses a key that is open to others.
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(text.expose_secret().as_bytes())?;
        Ok(Self { path: name, text: Some(Arc::new(InMemory { text, file })) })
    }

    /// Returns what messages call it.
    pub(crate) fn name(&self) -> &Path {
        &self.path
    }

    /// Returns the text, if it is one.
    pub(crate) fn as_text(&self) -> Option<&str> {
        self.text.as_ref().map(|memory| memory.text.expose_secret())
    }

    /// Returns the path under which a child of ours finds it.
    pub(crate) fn child_path(&self) -> PathBuf {
        match &self.text {
            // Ours and not `self`: pg_dump opens it, pg_dumpall's pg_dump does, and a child that needs none has none.
            Some(memory) => format!("/proc/{}/fd/{}", id(), memory.file.as_raw_fd()).into(),
            None => self.path.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_reads_a_text_that_is_in_no_file_and_others_may_not() {
        let pem = Pem::text("env:CA".into(), "-----BEGIN".into()).expect("memory");
        let output = std::process::Command::new("sh")
            .args(["-c", "cat $0; stat -L -c %a $0"])
            .arg(pem.child_path())
            .output()
            .expect("sh runs");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "-----BEGIN600\n");
        assert!(!format!("{pem:?}").contains("BEGIN"), "{pem:?}");
    }

    #[test]
    fn no_child_inherits_a_text() {
        let _pem = Pem::text("env:KEY".into(), "-----BEGIN".into()).expect("memory");
        let output = std::process::Command::new("ls").args(["-l", "/proc/self/fd"]).output();
        let listed = String::from_utf8(output.expect("ls runs").stdout).expect("text");
        assert!(listed.contains("->") && !listed.contains("memfd:stonekeep-pem"), "{listed}");
    }
}
