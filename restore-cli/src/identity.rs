//! age identities: the private half of what the daemon seals to. Read here, handed to the engine, never kept.

use std::{
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use age::{
    Decryptor, IdentityFile, armor::ArmoredReader, cli_common::UiCallbacks,
    encrypted::EncryptedIdentity,
};
use secrecy::ExposeSecret as _;
use stonekeep_config::{ConfigError, Environment, defaults, file};
use stonekeep_format::codec::Identities;

use crate::failure::Failure;

/// Reads the identities in `files`. One that is encrypted with a passphrase is opened now, so that a person is asked before
/// the work begins; plugins (hardware keys) ask when they are first needed.
pub(crate) fn load(
    files: &[PathBuf],
    environment: &Environment,
) -> Result<Arc<Identities>, Failure> {
    if files.is_empty() {
        return Err(Failure::NoIdentity);
    }
    let mut identities: Vec<Box<dyn age::Identity + Send + Sync>> = Vec::new();
    for path in files {
        identities.extend(read(path, environment)?);
    }
    Ok(identities.into())
}

fn read(
    path: &Path,
    environment: &Environment,
) -> Result<Vec<Box<dyn age::Identity + Send + Sync>>, Failure> {
    let unusable = |source| Failure::Identity { path: path.to_owned(), source: Box::new(source) };
    let bytes = zeroize::Zeroizing::new(read_bytes(path, environment)?);
    let identities = parse(&bytes, path)?.into_identities().map_err(unusable)?;
    if identities.is_empty() {
        return Err(Failure::EmptyIdentity { path: path.to_owned() });
    }
    Ok(identities)
}

/// Returns the recipients that the identities in a file belong to. Those of plugins (hardware keys) only the plugin knows: of
/// such a file, the recipients that its comments name.
pub(crate) fn recipients(path: &Path, environment: &Environment) -> Result<Vec<String>, Failure> {
    let bytes = zeroize::Zeroizing::new(read_bytes(path, environment)?);
    let mut lines = Vec::new();
    if parse(&bytes, path)?.write_recipients_file(&mut lines).is_err() {
        let text = String::from_utf8_lossy(&bytes);
        let comments = text.lines().filter(|line| line.starts_with('#'));
        let words = comments.flat_map(str::split_whitespace);
        return Ok(words.filter(|word| word.starts_with("age1")).map(str::to_owned).collect());
    }
    Ok(String::from_utf8_lossy(&lines).lines().map(str::to_owned).collect())
}

fn parse(bytes: &[u8], path: &Path) -> Result<IdentityFile<UiCallbacks>, Failure> {
    let unusable = |source: io::Error| Failure::Identity {
        path: path.to_owned(),
        source: Box::new(source.into()),
    };
    match Decryptor::new(ArmoredReader::new(bytes)) {
        Ok(decryptor) => open_encrypted(decryptor, path),
        Err(_) => {
            Ok(IdentityFile::from_buffer(bytes).map_err(unusable)?.with_callbacks(UiCallbacks))
        }
    }
}

fn open_encrypted(
    decryptor: Decryptor<ArmoredReader<BufReader<&[u8]>>>,
    path: &Path,
) -> Result<IdentityFile<UiCallbacks>, Failure> {
    let sealed = || Failure::SealedIdentity { path: path.to_owned() };
    let encrypted = EncryptedIdentity::new(decryptor, UiCallbacks, None).ok_or_else(sealed)?;
    let name = path.display().to_string();
    let failed = |source| Failure::Identity { path: path.to_owned(), source: Box::new(source) };
    encrypted.decrypt(Some(&name)).map_err(failed)
}

fn read_bytes(path: &Path, environment: &Environment) -> Result<Vec<u8>, Failure> {
    if file::variable(path).is_some() {
        return Ok(file::read_key(path, environment)?.expose_secret().as_bytes().to_vec());
    }
    let private = file::open_private(path, environment)?;
    let mut bytes = Vec::new();
    let read = private.take(defaults::SECRET_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    if bytes.len() as u64 > defaults::SECRET_BYTES_MAX {
        return Err(ConfigError::TooLong {
            path: path.to_owned(),
            bytes_max: defaults::SECRET_BYTES_MAX,
        }
        .into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use age::secrecy::ExposeSecret;
    use stonekeep_format::ErrorKind;

    use super::*;

    fn private(dir: &Path, text: &[u8]) -> PathBuf {
        let path = dir.join("identity");
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("set");
        path
    }

    fn refused(text: &[u8]) -> Failure {
        let dir = tempfile::tempdir().expect("a directory");
        let path = private(dir.path(), text);
        load(&[path], &Environment::default())
            .map(|identities| identities.len())
            .expect_err("refused")
    }

    #[test]
    fn every_identity_of_every_file_is_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let keys = [(); 2]
            .map(|()| age::x25519::Identity::generate().to_string().expose_secret().to_owned());
        let path =
            private(dir.path(), format!("# created\n{}\n\n{}\n", keys[0], keys[1]).as_bytes());
        let identities = load(&[path.clone(), path], &Environment::default()).expect("reads");
        assert_eq!(identities.len(), 4);
    }

    #[test]
    fn what_is_no_identity_is_refused_and_not_repeated() {
        let failure = refused(b"hunter2\n");
        assert!(matches!(failure, Failure::Identity { .. }) && failure.kind() == ErrorKind::Config);
        assert!(!format!("{failure} {failure:?}").contains("hunter2"));
        assert!(matches!(refused(b"# nothing\n"), Failure::EmptyIdentity { .. }));
        assert!(matches!(load(&[], &Environment::default()), Err(Failure::NoIdentity)));
    }

    #[test]
    fn an_identity_that_is_sealed_to_somebody_is_refused() {
        let recipient = age::x25519::Identity::generate().to_public();
        let sealed = age::encrypt(&recipient, b"AGE-SECRET-KEY-1\n").expect("sealed");
        assert!(matches!(refused(&sealed), Failure::SealedIdentity { .. }));
    }

    #[test]
    fn an_identity_open_to_others_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = private(dir.path(), b"x");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("set");
        let outcome = load(&[path], &Environment::default());
        assert!(matches!(outcome, Err(Failure::Config(ConfigError::OpenSecret { .. }))));
    }
}
