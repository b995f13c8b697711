//! Where a database password comes from: a file of ours, libpq's password file, or the environment, in this order.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use crate::{ConfigError, Environment, file};

/// Whose password is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Login<'a> {
    /// A host name or address, or the directory of a Unix socket.
    pub host: &'a str,
    /// The port.
    pub port: u16,
    /// The database.
    pub database: &'a str,
    /// The role.
    pub user: &'a str,
}

/// Returns the password for `login`: from `password_file` if one is named; else from the file that `PGPASSFILE` names, or
/// `~/.pgpass`; else `PGPASSWORD`; else none, and the server may not want one.
///
/// # Errors
/// [`ConfigError`] if a named file cannot be read, or one of them is open to others (libpq only warns and then logs in without
/// a password, which hides the reason). A `~/.pgpass` that does not exist is no error.
pub fn find(
    login: Login<'_>,
    password_file: Option<&Path>,
    environment: &Environment,
) -> Result<Option<SecretString>, ConfigError> {
    if let Some(path) = password_file {
        return file::read_secret(path, environment).map(Some);
    }
    let listed =
        pgpass_path(environment).map(|path| pgpass_text(&path, environment)).transpose()?.flatten();
    let password = listed.and_then(|text| lookup(text.expose_secret(), login));
    Ok(password.or_else(|| environment.pgpassword.clone()))
}

/// The file that is there to be read: a named one must be, the one at home may be.
fn pgpass_path(environment: &Environment) -> Option<PathBuf> {
    let at_home =
        || environment.home.as_ref().map(|home| home.join(".pgpass")).filter(|path| path.exists());
    environment.pgpassfile.clone().or_else(at_home)
}

fn pgpass_text(
    path: &Path,
    environment: &Environment,
) -> Result<Option<SecretString>, ConfigError> {
    match file::read_secret(path, environment) {
        Err(ConfigError::EmptySecret { .. }) => Ok(None),
        other => other.map(Some),
    }
}

/// Finds the first line whose four fields match, as libpq does.
fn lookup(text: &str, login: Login<'_>) -> Option<SecretString> {
    let port = login.port.to_string();
    let wanted = [host_field(login.host), &port, login.database, login.user];
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| matching(line, &wanted)).map(|field| unescape(field).into()).next()
}

/// libpq calls a socket in one of the usual directories `localhost`.
fn host_field(host: &str) -> &str {
    match host.trim_end_matches('/') {
        "/tmp" | "/run/postgresql" | "/var/run/postgresql" => "localhost",
        _ => host,
    }
}

/// Returns the fifth field of a line whose first four are `wanted`.
fn matching<'l>(line: &'l str, wanted: &[&str; 4]) -> Option<&'l str> {
    let mut rest = line;
    for wanted in wanted {
        let (field, behind) = next_field(rest);
        let matches = field == "*" || unescape(field) == **wanted;
        rest = behind.filter(|_| matches)?;
    }
    Some(next_field(rest).0)
}

/// Cuts at the first colon that no backslash stands before.
fn next_field(text: &str) -> (&str, Option<&str>) {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ':' => return (&text[..at], Some(&text[at + 1..])),
            _ => {}
        }
    }
    (text, None)
}

fn unescape(field: &str) -> String {
    let mut plain = String::with_capacity(field.len());
    let mut chars = field.chars();
    while let Some(c) = chars.next() {
        // A backslash at the very end stands for itself.
        plain.push(if c == '\\' { chars.next().unwrap_or(c) } else { c });
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use proptest::prelude::*;

    use super::*;

    const LOGIN: Login<'static> =
        Login { host: "db.internal", port: 5432, database: "bookings", user: "stonekeep" };

    fn found(text: &str, login: Login<'_>) -> Option<String> {
        lookup(text, login).map(|password| password.expose_secret().to_owned())
    }

    fn private(path: &Path, text: &str) {
        fs::write(path, text).expect("written");
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("set");
    }

    #[test]
    fn the_first_matching_line_counts() {
        let text = "# db.internal:5432:bookings:stonekeep:comment\n\
                    other:5432:*:*:a\n\
                    db.internal:5433:*:*:b\n\
                    db.internal:*:bookings:stonekeep:c\n\
                    *:*:*:*:d\n";
        assert_eq!(found(text, LOGIN).as_deref(), Some("c"));
        assert_eq!(found(text, Login { database: "x", ..LOGIN }).as_deref(), Some("d"));
        assert_eq!(found("db.internal:5432:bookings:stonekeep", LOGIN), None);
        assert_eq!(found("", LOGIN), None);
    }

    #[test]
    fn backslashes_escape_colons_and_themselves() {
        assert_eq!(found(r"*:*:*:*:a\:b\\c", LOGIN).as_deref(), Some(r"a:b\c"));
        assert_eq!(found(r"*:*:*:*:a:rest", LOGIN).as_deref(), Some("a"));
        assert_eq!(
            found(r"\:\:1:*:*:*:six", Login { host: "::1", ..LOGIN }).as_deref(),
            Some("six")
        );
        assert_eq!(found(r"\*:*:*:*:x", LOGIN), None);
    }

    #[test]
    fn sockets_are_localhost() {
        let text = "localhost:5432:*:*:local\n";
        assert_eq!(
            found(text, Login { host: "/var/run/postgresql", ..LOGIN }).as_deref(),
            Some("local")
        );
        assert_eq!(found(text, Login { host: "/srv/socket", ..LOGIN }), None);
    }

    #[test]
    fn own_file_comes_before_pgpass_and_that_before_the_variable() {
        let dir = tempfile::tempdir().expect("a directory");
        let (own, pgpass, home) =
            (dir.path().join("own"), dir.path().join("pgpass"), dir.path().join(".pgpass"));
        let mut environment = Environment {
            home: Some(dir.path().to_owned()),
            pgpassword: Some("variable".into()),
            ..Environment::default()
        };
        let password = |environment: &Environment, own: Option<&Path>| {
            let found = find(LOGIN, own, environment).expect("no error");
            found.map(|password| password.expose_secret().to_owned())
        };
        assert_eq!(password(&environment, None).as_deref(), Some("variable"));
        private(&home, "*:*:*:*:home\n");
        assert_eq!(password(&environment, None).as_deref(), Some("home"));
        private(&pgpass, "elsewhere:*:*:*:named\n");
        environment.pgpassfile = Some(pgpass);
        assert_eq!(password(&environment, None).as_deref(), Some("variable"));
        private(&own, "own\n");
        assert_eq!(password(&environment, Some(&own)).as_deref(), Some("own"));
        assert_eq!(password(&Environment::default(), None), None);
    }

    #[test]
    fn an_open_or_absent_named_file_is_an_error() {
        let dir = tempfile::tempdir().expect("a directory");
        let pgpass = dir.path().join("pgpass");
        let environment =
            Environment { pgpassfile: Some(pgpass.clone()), ..Environment::default() };
        assert!(matches!(find(LOGIN, None, &environment), Err(ConfigError::Unreadable { .. })));
        private(&pgpass, "*:*:*:*:x");
        fs::set_permissions(&pgpass, fs::Permissions::from_mode(0o644)).expect("set");
        assert!(matches!(find(LOGIN, None, &environment), Err(ConfigError::OpenSecret { .. })));
        private(&pgpass, "");
        assert!(matches!(find(LOGIN, None, &environment), Ok(None)));
    }

    proptest! {
        #[test]
        fn what_is_escaped_is_found(fields in prop::array::uniform4("[^\n\r]{1,12}"), password in "[^\n\r]{1,20}") {
            let escape = |text: &str| text.replace('\\', r"\\").replace(':', r"\:");
            let [host, database, user, _] = &fields;
            prop_assume!(!host.starts_with('#'));
            let line = [host, "5432", database, user, &password].map(escape).join(":");
            let login = Login { host, port: 5432, database, user };
            prop_assert_eq!(found(&line, login), Some(password));
        }
    }
}
