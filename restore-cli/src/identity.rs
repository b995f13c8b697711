//! age identities: the private half of what the daemon seals to. Read here, handed to the engine, never kept.

use std::{
    io::{BufReader, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use age::{
    Decryptor, IdentityFile, armor::ArmoredReader, cli_common::UiCallbacks,
    encrypted::EncryptedIdentity,
};
use secrecy::ExposeSecret as _;
use stonekeep_config::{ConfigError, Environment, defaults, file};
use stonekeep_engine::drill::ListedIdentity;
use stonekeep_format::codec::{Identities, SharedIdentity};

use crate::failure::Failure;

/// Reads the identities in `files` one by one, each with the name of its file and whose it is. As [`load`] otherwise.
pub(crate) fn listed(
    files: &[PathBuf],
    environment: &Environment,
) -> Result<Vec<ListedIdentity>, Failure> {
    if files.is_empty() {
        return Err(Failure::NoIdentity);
    }
    let mut all = Vec::new();
    for path in files {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let opened = open(path, environment)?;
        let mut recipients = recipients(&opened).into_iter();
        all.extend(identities(opened, path)?.into_iter().map(|identity| ListedIdentity {
            file: name.clone(),
            recipient: recipients.next(),
            identity: SharedIdentity::new(identity),
        }));
    }
    Ok(all)
}

/// Whose each identity of a file is, in its order; nobody's, if one of them is a plugin's, which does not tell.
fn recipients(file: &IdentityFile<UiCallbacks>) -> Vec<String> {
    let mut text = Vec::new();
    match file.write_recipients_file(&mut text) {
        Ok(()) => String::from_utf8_lossy(&text).lines().map(str::to_owned).collect(),
        Err(_) => Vec::new(),
    }
}

/// Reads the identities in `files`. One that is encrypted with a passphrase is opened now, so that a person is asked before
/// the work begins; plugins (hardware keys) ask when they are first needed.
pub(crate) fn load(
    files: &[PathBuf],
    environment: &Environment,
) -> Result<Arc<Identities>, Failure> {
    if files.is_empty() {
        return Err(Failure::NoIdentity);
    }
    let mut all: Vec<Box<dyn age::Identity + Send + Sync>> = Vec::new();
    for path in files {
        all.extend(identities(open(path, environment)?, path)?);
    }
    Ok(all.into())
}

fn open(path: &Path, environment: &Environment) -> Result<IdentityFile<UiCallbacks>, Failure> {
    let bytes = zeroize::Zeroizing::new(read_bytes(path, environment)?);
    match Decryptor::new(ArmoredReader::new(&bytes[..])) {
        Ok(decryptor) => open_encrypted(decryptor, path),
        Err(_) => Ok(IdentityFile::from_buffer(&bytes[..])
            .map_err(|error| unusable(path, error.into()))?
            .with_callbacks(UiCallbacks)),
    }
}

fn unusable(path: &Path, source: age::DecryptError) -> Failure {
    Failure::Identity { path: path.to_owned(), source: Box::new(source) }
}

fn identities(
    file: IdentityFile<UiCallbacks>,
    path: &Path,
) -> Result<Vec<Box<dyn age::Identity + Send + Sync>>, Failure> {
    let identities = file.into_identities().map_err(|error| unusable(path, error))?;
    if identities.is_empty() {
        return Err(Failure::EmptyIdentity { path: path.to_owned() });
    }
    Ok(identities)
}

fn open_encrypted(
    decryptor: Decryptor<ArmoredReader<BufReader<&[u8]>>>,
    path: &Path,
) -> Result<IdentityFile<UiCallbacks>, Failure> {
    let sealed = || Failure::SealedIdentity { path: path.to_owned() };
    let encrypted = EncryptedIdentity::new(decryptor, UiCallbacks, None).ok_or_else(sealed)?;
    let name = path.display().to_string();
    encrypted.decrypt(Some(&name)).map_err(|error| unusable(path, error))
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
    fn each_identity_says_whose_it_is_and_in_which_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let keys = [(); 2].map(|()| age::x25519::Identity::generate());
        let text: String =
            keys.iter().map(|key| format!("{}\n", key.to_string().expose_secret())).collect();
        let path = private(dir.path(), text.as_bytes());
        let listed = listed(&[path], &Environment::default()).expect("reads");
        let found: Vec<_> = listed.into_iter().map(|each| (each.file, each.recipient)).collect();
        let wanted = keys.map(|key| ("identity".to_owned(), Some(key.to_public().to_string())));
        assert_eq!(found, wanted);
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
