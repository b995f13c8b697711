//! Files that the configuration names: bounded, and private where they hold secrets.

use std::{
    fs::File,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use secrecy::SecretString;

use crate::{ConfigError, Environment, defaults};

/// Any permission of group or others.
const OTHERS: u32 = 0o077;

/// Reads a file of text that is no secret.
///
/// # Errors
/// [`ConfigError::Unreadable`], [`ConfigError::TooLong`] over [`defaults::CONFIG_BYTES_MAX`], [`ConfigError::NotText`].
pub fn read_text(path: &Path) -> Result<String, ConfigError> {
    let file = open(path)?;
    read(path, &file, defaults::CONFIG_BYTES_MAX)
}

/// Reads a file that holds a secret, without the newlines at its end.
///
/// # Errors
/// As [`read_text`], [`ConfigError::OpenSecret`] if others may read it, [`ConfigError::EmptySecret`].
pub fn read_secret(path: &Path, environment: &Environment) -> Result<SecretString, ConfigError> {
    let file = open_private(path, environment)?;
    let mut text = read(path, &file, defaults::SECRET_BYTES_MAX)?;
    text.truncate(text.trim_end_matches(['\n', '\r']).len());
    if text.is_empty() {
        return Err(ConfigError::EmptySecret { path: path.to_owned() });
    }
    Ok(text.into())
}

/// Opens a file that holds a secret, and refuses one that group or others have any right to. The rights are asked of the open
/// file, so they are those of what is then read.
///
/// Excepted are files that the platform hands out so: those under systemd's `$CREDENTIALS_DIRECTORY`, and those in a
/// Kubernetes volume, which is told by the `..data` link that the kubelet keeps in it.
///
/// # Errors
/// [`ConfigError::Unreadable`] and [`ConfigError::OpenSecret`].
pub fn open_private(path: &Path, environment: &Environment) -> Result<File, ConfigError> {
    let file = open(path)?;
    let metadata = file.metadata().map_err(|source| unreadable(path, source))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & OTHERS != 0 && !is_handed_out(path, environment) {
        return Err(ConfigError::OpenSecret { path: path.to_owned(), mode });
    }
    Ok(file)
}

fn is_handed_out(path: &Path, environment: &Environment) -> bool {
    let systemd = environment.credentials_directory.as_deref();
    let below_systemd = systemd.is_some_and(|directory| is_below(path, directory));
    let in_kubernetes = || parents(path).any(|directory| is_link(&directory.join("..data")));
    below_systemd || in_kubernetes()
}

/// Compares real paths: `$CREDENTIALS_DIRECTORY/../../etc/secret` is not below it.
fn is_below(path: &Path, directory: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    real(path).zip(real(directory)).is_some_and(|(path, directory)| path.starts_with(directory))
}

fn parents(path: &Path) -> impl Iterator<Item = &Path> {
    path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty())
}

fn is_link(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink())
}

fn open(path: &Path) -> Result<File, ConfigError> {
    File::open(path).map_err(|source| unreadable(path, source))
}

fn read(path: &Path, file: &File, bytes_max: u64) -> Result<String, ConfigError> {
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(|source| unreadable(path, source))?;
    if bytes.len() as u64 > bytes_max {
        return Err(ConfigError::TooLong { path: path.to_owned(), bytes_max });
    }
    String::from_utf8(bytes).map_err(|_| ConfigError::NotText { path: path.to_owned() })
}

fn unreadable(path: &Path, source: std::io::Error) -> ConfigError {
    ConfigError::Unreadable { path: PathBuf::from(path), source }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::symlink,
    };

    use secrecy::ExposeSecret;

    use super::*;

    fn write(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).expect("written");
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("set");
    }

    fn is_open(path: &Path, environment: &Environment) -> bool {
        matches!(read_secret(path, environment), Err(ConfigError::OpenSecret { .. }))
    }

    #[test]
    fn secrets_open_to_others_are_refused_by_name_and_mode() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("signer");
        for mode in [0o644, 0o640, 0o604, 0o620, 0o601] {
            write(&path, "s3cret", mode);
            let error = read_secret(&path, &Environment::default()).expect_err("open to others");
            let said = error.to_string();
            assert!(
                said.contains(&format!("{mode:04o}"))
                    && said.contains("signer")
                    && !said.contains("s3cret"),
                "{said}"
            );
        }
        write(&path, "s3cret\r\n\n", 0o600);
        let secret = read_secret(&path, &Environment::default()).expect("private");
        assert_eq!(secret.expose_secret(), "s3cret");
    }

    #[test]
    fn systemd_credentials_are_excepted_and_nothing_beside_them() {
        let dir = tempfile::tempdir().expect("a directory");
        let credentials = dir.path().join("credentials");
        fs::create_dir(&credentials).expect("created");
        let (inside, outside) = (credentials.join("signer"), dir.path().join("signer"));
        write(&inside, "x", 0o440);
        write(&outside, "x", 0o440);
        let environment = Environment {
            credentials_directory: Some(credentials.clone()),
            ..Environment::default()
        };
        assert!(!is_open(&inside, &environment) && is_open(&inside, &Environment::default()));
        assert!(
            is_open(&outside, &environment)
                && is_open(&credentials.join("../signer"), &environment)
        );
    }

    #[test]
    fn kubernetes_volumes_are_excepted() {
        let dir = tempfile::tempdir().expect("a directory");
        let version = dir.path().join("..2026_11_21");
        fs::create_dir(&version).expect("created");
        write(&version.join("signer"), "x", 0o644);
        symlink("..2026_11_21", dir.path().join("..data")).expect("linked");
        symlink("..data/signer", dir.path().join("signer")).expect("linked");
        assert!(!is_open(&dir.path().join("signer"), &Environment::default()));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let absent = dir.path().join("absent");
        assert!(
            matches!(read_text(&absent), Err(ConfigError::Unreadable { path, .. }) if path == absent)
        );
        assert!(matches!(read_text(dir.path()), Err(ConfigError::Unreadable { .. })));
        let empty = dir.path().join("empty");
        write(&empty, "\n", 0o600);
        assert!(matches!(
            read_secret(&empty, &Environment::default()),
            Err(ConfigError::EmptySecret { .. })
        ));
        let binary = dir.path().join("binary");
        fs::write(&binary, [0xff, 0xfe]).expect("written");
        assert!(matches!(read_text(&binary), Err(ConfigError::NotText { .. })));
        let long = dir.path().join("long");
        fs::write(&long, vec![b'#'; (1 << 20) + 1]).expect("written");
        assert!(matches!(read_text(&long), Err(ConfigError::TooLong { .. })));
    }
}
