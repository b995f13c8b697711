//! A PostgreSQL URL without a password.

use std::{fmt, str::FromStr};

use serde::Deserialize;

/// `postgres://user@host:port/database?option=value`, in which no password stands: a URL is shown in process lists, logs and
/// errors. What else it says is read by the crate that connects.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct DatabaseUrl(String);

/// What is wrong with a URL. It is not repeated, for it may hold a password.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum UrlError {
    /// Another scheme, or none.
    #[error("a database is named by a URL: postgres://user@host:port/database")]
    Scheme,
    /// A password.
    #[error(
        "the URL holds a password, which anyone may read there: take it out, and put it into a password_file, ~/.pgpass (or the file PGPASSFILE names) or PGPASSWORD"
    )]
    Password,
}

impl DatabaseUrl {
    /// Returns the URL as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DatabaseUrl {
    type Err = UrlError;
    fn from_str(text: &str) -> Result<Self, UrlError> {
        let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
        let rest = rest.ok_or(UrlError::Scheme)?;
        if has_password(rest) { Err(UrlError::Password) } else { Ok(Self(text.to_owned())) }
    }
}

impl TryFrom<String> for DatabaseUrl {
    type Error = UrlError;
    fn try_from(text: String) -> Result<Self, UrlError> {
        text.parse()
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Looks for `user:password@` and for `password=` among the options. The last `@` before path and options ends the user, so a
/// password that holds an unescaped `@`, `/` or `?` is still found: whatever stands before any `@` with a colon in it counts.
fn has_password(rest: &str) -> bool {
    let user = rest.rsplit_once('@').map_or("", |(user, _)| user);
    let options = rest.split_once('?').map_or("", |(_, options)| options);
    let named = options.split('&').filter_map(|option| option.split_once('=')).any(|(name, _)| {
        let name = name.to_ascii_lowercase();
        name.contains("pass") && name != "passfile" || name.contains('%')
    });
    user.contains(':') || named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_refused_wherever_it_stands() {
        for bad in [
            "postgres://u:secret@db/bookings",
            "postgres://u:@db/bookings",
            "postgres://:secret@db/bookings",
            "postgres://u:se/cret@db/bookings",
            "postgres://u:se?cret@db/bookings",
            "postgresql://u@db/bookings?password=secret",
            "postgres://u@db/bookings?sslmode=require&PASSWORD=secret",
            "postgres://u@db/bookings?sslpassword=secret",
            "postgres://u@db/bookings?pass%77ord=secret",
        ] {
            let error = bad.parse::<DatabaseUrl>().expect_err(bad);
            assert_eq!(error, UrlError::Password);
            assert!(!error.to_string().contains("cret"));
        }
    }

    #[test]
    fn ordinary_urls_are_taken() {
        for good in [
            "postgres://stonekeep@db.internal/bookings",
            "postgresql://db.internal:5433/bookings",
            "postgres://u@[::1]:5432/bookings?sslmode=verify-full",
            "postgres://u@%2Frun%2Fpostgresql/bookings",
        ] {
            assert!(good.parse::<DatabaseUrl>().is_ok(), "{good}");
        }
        assert_eq!("mysql://u@db/x".parse::<DatabaseUrl>(), Err(UrlError::Scheme));
        assert_eq!("host=db dbname=x".parse::<DatabaseUrl>(), Err(UrlError::Scheme));
    }
}
