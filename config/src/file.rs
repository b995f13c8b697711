//! Files that the configuration names: bounded, and private where they hold secrets.
//!
//! `env:NAME` in the place of a path is the text of an environment variable, for platforms that have nothing else. What has
//! several lines may stand there in one, with `\n` for each line's end: some dashboards make that of what is pasted into them.
//!
//! `credential:NAME` in the place of a path is a file that systemd hands over, by
//! `LoadCredential=stonekeep:/etc/stonekeep/credentials`, which gives it the name `stonekeep_NAME`.

use std::{
    borrow::Cow,
    fs::File,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use secrecy::SecretString;

use crate::{ConfigError, Environment, defaults};

/// Any permission of group or others.
const OTHERS: u32 = 0o077;

/// What a path begins with that is the name of a variable.
const VARIABLE: &str = "env:";

/// What a path begins with that is the name of a credential.
const CREDENTIAL: &str = "credential:";

/// What systemd puts before the name of each file of the directory: the units' `LoadCredential=stonekeep:…`.
const CREDENTIAL_ID: &str = "stonekeep_";

/// A file that is handed on by its name to whoever reads it, or the text that a variable holds in its place.
#[derive(Debug, Clone)]
pub enum Given {
    /// A file.
    File(PathBuf),
    /// What a variable holds.
    Variable {
        /// How the configuration names it: `env:NAME`.
        path: PathBuf,
        /// What it holds.
        text: SecretString,
    },
}

/// Returns what stands behind `env:`, if `path` names a variable.
#[must_use]
pub fn variable(path: &Path) -> Option<&str> {
    path.to_str()?.strip_prefix(VARIABLE)
}

/// Reads a file of text, which is no variable.
pub(crate) fn read_file(path: &Path) -> Result<String, ConfigError> {
    let file = open(path)?;
    read(path, &file, defaults::CONFIG_BYTES_MAX)
}

/// Reads a text that is no secret.
///
/// # Errors
/// [`ConfigError::Unreadable`], [`ConfigError::TooLong`] over [`defaults::CONFIG_BYTES_MAX`], [`ConfigError::NotText`];
/// [`ConfigError::NoVariable`] and [`ConfigError::NoName`].
pub fn read_text(path: &Path, environment: &Environment) -> Result<String, ConfigError> {
    match variable(path) {
        Some(name) => value(name, environment).map(unfolded),
        None => read_file(&place(path, environment)),
    }
}

/// Reads a secret of one line (a password, a URL), without the newlines at its end. A backslash in it is a backslash.
///
/// # Errors
/// As [`read_text`], [`ConfigError::OpenSecret`] if others may read it, [`ConfigError::EmptySecret`].
pub fn read_secret(path: &Path, environment: &Environment) -> Result<SecretString, ConfigError> {
    let text = match variable(path) {
        Some(name) => value(name, environment)?.to_owned(),
        None => {
            let file = open_private(path, environment)?;
            read(path, &file, defaults::SECRET_BYTES_MAX)?
        }
    };
    without_end(text, path)
}

/// Reads a secret of several lines (a key, identities), without the newlines at its end.
///
/// # Errors
/// As [`read_secret`].
pub fn read_key(path: &Path, environment: &Environment) -> Result<SecretString, ConfigError> {
    match variable(path) {
        Some(name) => without_end(unfolded(value(name, environment)?), path),
        None => read_secret(path, environment),
    }
}

/// Returns a file that others read by its name, or the text in its place.
///
/// # Errors
/// [`ConfigError::NoVariable`], [`ConfigError::NoName`], [`ConfigError::NotText`]; whether there is a file, its reader says.
pub fn given(path: Option<&Path>, environment: &Environment) -> Result<Option<Given>, ConfigError> {
    let given = |path: &Path| match variable(path) {
        Some(name) => {
            let text = unfolded(value(name, environment)?).into();
            Ok(Given::Variable { path: path.to_owned(), text })
        }
        None => Ok(Given::File(place(path, environment).into_owned())),
    };
    path.map(given).transpose()
}

/// The same of a file that holds a secret.
///
/// # Errors
/// As [`given`] and [`open_private`].
pub fn given_private(path: &Path, environment: &Environment) -> Result<Given, ConfigError> {
    if variable(path).is_none() {
        open_private(path, environment)?;
        return Ok(Given::File(place(path, environment).into_owned()));
    }
    let text = read_key(path, environment)?;
    Ok(Given::Variable { path: path.to_owned(), text })
}

/// Returns where a file is. A credential is where systemd has put it; without systemd it is in
/// [`defaults::CREDENTIALS_DIR`], so that root can run by hand what the units run.
fn place<'p>(path: &'p Path, environment: &Environment) -> Cow<'p, Path> {
    let name = path.to_str().and_then(|path| path.strip_prefix(CREDENTIAL));
    let Some(name) = name else { return path.into() };
    let usual = || Path::new(defaults::CREDENTIALS_DIR);
    let directory = environment.credentials_directory.as_deref().unwrap_or_else(usual);
    let loaded = directory.join(format!("{CREDENTIAL_ID}{name}"));
    // By hand, the directory may be the one that the units load from.
    if loaded.exists() { loaded.into() } else { directory.join(name).into() }
}

/// A value in a variable: bounded by the kernel.
fn value<'e>(name: &str, environment: &'e Environment) -> Result<&'e str, ConfigError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(ConfigError::NoName);
    }
    let found = environment.variables.get(name);
    let found = found.ok_or_else(|| ConfigError::NoVariable { name: name.to_owned() })?;
    let path = || PathBuf::from(format!("{VARIABLE}{name}"));
    found.to_str().ok_or_else(|| ConfigError::NotText { path: path() })
}

/// Gives a text its lines back that came with `\n` for each line's end.
pub(crate) fn unfolded(text: &str) -> String {
    if text.contains('\n') {
        return text.to_owned();
    }
    text.replace("\\r\\n", "\n").replace("\\n", "\n")
}

fn without_end(mut text: String, path: &Path) -> Result<SecretString, ConfigError> {
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
    let path = &*place(path, environment);
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
    fn a_credential_is_where_systemd_has_put_it_and_else_in_the_directory_that_it_takes_them_from()
    {
        let dir = tempfile::tempdir().expect("a directory");
        let named = Path::new("credential:signer");
        let environment = Environment {
            credentials_directory: Some(dir.path().to_owned()),
            ..Environment::default()
        };
        let read = || read_secret(named, &environment).expect("there").expose_secret().to_owned();
        write(&dir.path().join("signer"), "by hand", 0o600);
        assert_eq!(read(), "by hand");
        let loaded = dir.path().join("stonekeep_signer");
        write(&loaded, "by systemd", 0o440);
        assert_eq!(read(), "by systemd");
        assert_eq!(read_text(named, &environment).expect("there"), "by systemd");
        let places = [
            given_private(named, &environment),
            given(Some(named), &environment).map(|it| it.expect("one")),
        ];
        for place in places {
            assert!(matches!(place, Ok(Given::File(path)) if path == loaded));
        }
        let error = read_secret(named, &Environment::default()).expect_err("not on this machine");
        assert!(error.to_string().contains("/etc/stonekeep/credentials/signer"), "{error}");
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

    fn holding(value: &str) -> Environment {
        let variables = [("SECRET_1", value), ("EMPTY", "")].into_iter().collect();
        Environment { variables, ..Environment::default() }
    }

    #[test]
    fn a_variable_stands_in_the_place_of_any_file() {
        let path = Path::new("env:SECRET_1");
        let key = "-----BEGIN KEY-----\nAAAA\n-----END KEY-----\n";
        let folded = [key.to_owned(), key.replace('\n', "\\n"), key.replace('\n', "\\r\\n")];
        for value in &folded {
            let environment = holding(value);
            assert_eq!(read_text(path, &environment).expect("there"), key);
            let read = read_key(path, &environment).expect("there");
            assert_eq!(read.expose_secret(), key.trim_end());
            let Ok(Given::Variable { text, .. }) = given_private(path, &environment) else {
                panic!("a variable is given as text");
            };
            assert_eq!(text.expose_secret(), key.trim_end());
        }
        // A password may have a backslash in it.
        let password = read_secret(path, &holding("a\\nb\n")).expect("there");
        assert_eq!(password.expose_secret(), "a\\nb");
    }

    #[test]
    fn a_variable_that_is_not_there_is_named_and_what_cannot_be_a_name_is_not_repeated() {
        let said = |path: &str| {
            let (path, environment) = (Path::new(path), holding("hunter2"));
            let errors = [
                read_secret(path, &environment).err(),
                read_text(path, &environment).err(),
                given(Some(path), &environment).err(),
            ];
            errors.map(|error| error.expect("refused").to_string()).join(" ")
        };
        assert!(said("env:ABSENT").contains("no variable ABSENT"));
        assert!(said("env:EMPTY").contains("no variable EMPTY"));
        assert!(!said("env:hunter2-itself").contains("hunter2") && said("env:").contains("env:"));
        let shown = format!("{:?}", holding("hunter2").variables);
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let absent = dir.path().join("absent");
        assert!(
            matches!(read_file(&absent), Err(ConfigError::Unreadable { path, .. }) if path == absent)
        );
        assert!(matches!(read_file(dir.path()), Err(ConfigError::Unreadable { .. })));
        let empty = dir.path().join("empty");
        write(&empty, "\n", 0o600);
        assert!(matches!(
            read_secret(&empty, &Environment::default()),
            Err(ConfigError::EmptySecret { .. })
        ));
        let binary = dir.path().join("binary");
        fs::write(&binary, [0xff, 0xfe]).expect("written");
        assert!(matches!(read_file(&binary), Err(ConfigError::NotText { .. })));
        let long = dir.path().join("long");
        fs::write(&long, vec![b'#'; (1 << 20) + 1]).expect("written");
        assert!(matches!(read_file(&long), Err(ConfigError::TooLong { .. })));
    }
}
