//! The owner's SSH key: signs the genesis, and nothing else.
//!
//! An unencrypted Ed25519 key is used directly. Everything else (a passphrase, an agent, a key in hardware) is `ssh-keygen`'s
//! to handle, which asks the person itself; the signature is the same.

use std::{
    ffi::OsString,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use secrecy::ExposeSecret;
use stonekeep_config::{Environment, file};
use stonekeep_format::signature::{Namespace, OWNER_PRINCIPAL, Signer};

use crate::failure::Failure;

/// A key that can sign.
#[derive(Debug)]
pub(crate) struct Owner {
    path: PathBuf,
    public_line: String,
    signer: Option<Signer>,
}

impl Owner {
    /// Takes the key in `path`: a private key, or the public key of one that an agent holds.
    pub(crate) fn load(path: &Path, environment: &Environment) -> Result<Self, Failure> {
        let refused = |why: String| Failure::OwnerKey { path: path.to_owned(), why };
        let text = file::read_text(path, environment)?;
        if let Some(public_line) = public_line(&text) {
            return Ok(Self { path: path.to_owned(), public_line, signer: None });
        }
        let secret = file::read_key(path, environment)?;
        let signer = Signer::from_openssh(&format!("{}\n", secret.expose_secret())).ok();
        let public_line = match &signer {
            Some(signer) => signer.public_line().map_err(|error| refused(error.to_string()))?,
            None => public_key_beside(path, environment)
                .map_or_else(|| ask_public_key(path), Ok)
                .map_err(refused)?,
        };
        Ok(Self { path: path.to_owned(), public_line, signer })
    }

    /// Returns the line of `allowed_signers` that trusts this key with genesis objects only.
    pub(crate) fn allowed_signers(&self) -> String {
        let namespace = Namespace::Genesis.as_str();
        format!("{OWNER_PRINCIPAL} namespaces=\"{namespace}\" {}\n", self.public_line)
    }

    /// Returns why this key cannot be used.
    pub(crate) fn refused(&self, why: String) -> Failure {
        Failure::OwnerKey { path: self.path.clone(), why }
    }

    /// Returns the armoured signature over `message`; a person may be asked for a passphrase, a PIN or a touch.
    pub(crate) fn sign(&self, namespace: Namespace, message: &[u8]) -> Result<String, String> {
        match &self.signer {
            Some(signer) => signer.sign(namespace, message).map_err(|error| error.to_string()),
            None => self.sign_by_ssh_keygen(namespace, message),
        }
    }

    fn sign_by_ssh_keygen(&self, namespace: Namespace, message: &[u8]) -> Result<String, String> {
        let args = ["-Y", "sign", "-n", namespace.as_str(), "-f"].map(OsString::from);
        let output =
            ssh_keygen(args.into_iter().chain([self.path.clone().into_os_string()]), message)?;
        String::from_utf8(output.stdout).map_err(|_| "ssh-keygen printed no signature".to_owned())
    }
}

/// Reads a file with one public key: keytype and key, without the comment.
pub(crate) fn public_line(text: &str) -> Option<String> {
    let mut fields = text.trim().lines().next()?.split_ascii_whitespace();
    let (keytype, key) = (fields.next()?, fields.next()?);
    let is_key = keytype.contains("ssh-") || keytype.starts_with("ecdsa-sha2-");
    is_key.then(|| format!("{keytype} {key}"))
}

/// Returns the path of the public key that ssh-keygen writes beside `path`; beside `env:NAME` it is `env:NAME_PUB`.
pub(crate) fn public_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(if file::variable(path).is_some() { "_PUB" } else { ".pub" });
    PathBuf::from(name)
}

fn public_key_beside(path: &Path, environment: &Environment) -> Option<String> {
    file::read_text(&public_path(path), environment).ok().as_deref().and_then(public_line)
}

fn ask_public_key(path: &Path) -> Result<String, String> {
    let args = [OsString::from("-y"), OsString::from("-f"), path.as_os_str().to_owned()];
    let output = ssh_keygen(args, b"")?;
    let line = public_line(&String::from_utf8_lossy(&output.stdout));
    line.ok_or_else(|| "ssh-keygen printed no public key".to_owned())
}

/// Runs ssh-keygen, which talks to the person on the terminal by itself. A genesis is a few KiB, less than a pipe holds.
fn ssh_keygen(args: impl IntoIterator<Item = OsString>, input: &[u8]) -> Result<Output, String> {
    let failed = |error: std::io::Error| format!("cannot run ssh-keygen: {error}");
    let mut child = Command::new("ssh-keygen")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input).map_err(failed)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("ssh-keygen says: {}", said.trim().lines().last().unwrap_or("nothing")))
}

#[cfg(test)]
mod tests {
    use stonekeep_format::signature::Trust;

    use super::*;

    fn key(dir: &Path, passphrase: &str) -> PathBuf {
        let path = dir.join("owner");
        let status = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-C", "a comment", "-N", passphrase, "-f"])
            .arg(&path)
            .status();
        assert!(status.expect("ssh-keygen runs").success());
        path
    }

    fn fingerprints(owner: &Owner) -> Vec<String> {
        Trust::from_allowed_signers(&owner.allowed_signers()).expect("a line").fingerprints()
    }

    #[test]
    fn a_key_with_a_passphrase_is_known_by_the_key_beside_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = key(dir.path(), "correct horse");
        let private = Owner::load(&path, &Environment::default()).expect("loads");
        let public = Owner::load(&public_path(&path), &Environment::default()).expect("loads");
        assert!(private.signer.is_none() && public.signer.is_none());
        assert_eq!(fingerprints(&private), fingerprints(&public));
    }

    #[test]
    fn ssh_keygen_signs_what_we_sign() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = key(dir.path(), "");
        let ours = Owner::load(&path, &Environment::default()).expect("loads");
        let theirs =
            Owner { path: path.clone(), public_line: ours.public_line.clone(), signer: None };
        let sign = |owner: &Owner| owner.sign(Namespace::Genesis, b"{}\n").expect("signs");
        // Ed25519 is deterministic, so both are the same signature.
        assert_eq!(sign(&ours).replace(['\r', '\n'], ""), sign(&theirs).replace(['\r', '\n'], ""));
    }

    #[test]
    fn a_key_that_is_none_is_told_by_ssh_keygen() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = key(dir.path(), "");
        std::fs::write(&path, "-----BEGIN OPENSSH PRIVATE KEY-----\n").expect("written");
        std::fs::remove_file(public_path(&path)).expect("removed");
        let failure = Owner::load(&path, &Environment::default()).expect_err("no key");
        assert!(failure.to_string().contains("ssh-keygen says"), "{failure}");
    }

    #[test]
    fn public_lines_lose_their_comment() {
        assert_eq!(public_line("ssh-ed25519 AAAA a b\n").as_deref(), Some("ssh-ed25519 AAAA"));
        assert_eq!(
            public_line("sk-ssh-ed25519@openssh.com AAAA").as_deref(),
            Some("sk-ssh-ed25519@openssh.com AAAA")
        );
        assert_eq!(public_line("-----BEGIN OPENSSH PRIVATE KEY-----\n"), None);
        assert_eq!(public_line(""), None);
    }
}
