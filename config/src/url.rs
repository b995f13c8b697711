//! A PostgreSQL URL without a password.

use std::{ffi::OsString, fmt, os::unix::ffi::OsStringExt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Deserializer, de::Error};

use crate::TlsMode;

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
    /// Options in a configuration.
    #[error(
        "the URL has options behind a question mark: leave them out; tls, ca_file, client_cert_file and client_key_file are settings of their own"
    )]
    Options,
    /// An option on a command line that is not about TLS.
    #[error(
        "the URL has an option other than sslmode, sslrootcert, sslcert and sslkey: leave it out"
    )]
    UnknownOption,
    /// An `sslmode` that we do not have.
    #[error("sslmode in the URL is not one of disable, require, verify-full")]
    SslMode,
}

/// What a URL says about TLS, in libpq's names: `sslmode`, `sslrootcert`, `sslcert`, `sslkey`. For URLs on a command line; the
/// configuration has names of its own for them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsParameters {
    /// How the connection is protected; absent: see [`TlsMode::for_host`].
    pub mode: Option<TlsMode>,
    /// Certificates (PEM) to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Our certificate (PEM).
    pub client_cert_file: Option<PathBuf>,
    /// Its private key (PEM).
    pub client_key_file: Option<PathBuf>,
}

impl DatabaseUrl {
    /// Takes out of the URL what it says about TLS. It may say nothing else: an option that is left alone would be one that
    /// somebody believes in.
    ///
    /// # Errors
    /// [`UrlError::SslMode`] and [`UrlError::UnknownOption`].
    pub fn take_tls(&self) -> Result<(Self, TlsParameters), UrlError> {
        let mut tls = TlsParameters::default();
        let Some((base, options)) = self.0.split_once('?') else { return Ok((self.clone(), tls)) };
        for option in options.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            match name {
                "sslmode" => tls.mode = Some(mode(value)?),
                "sslrootcert" => tls.ca_file = Some(path(value)),
                "sslcert" => tls.client_cert_file = Some(path(value)),
                "sslkey" => tls.client_key_file = Some(path(value)),
                _ => return Err(UrlError::UnknownOption),
            }
        }
        Ok((Self(base.to_owned()), tls))
    }

    /// Returns the same server and role with another database.
    #[must_use]
    pub fn with_database(&self, name: &str) -> Self {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("postgres", &self.0));
        let (base, options) = rest.split_once('?').map_or((rest, None), |(a, b)| (a, Some(b)));
        let authority = base.split('/').next().unwrap_or_default();
        let encode = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        };
        let name: String = name.bytes().map(encode).collect();
        let options = options.map_or_else(String::new, |options| format!("?{options}"));
        Self(format!("{scheme}://{authority}/{name}{options}"))
    }

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

/// Reads the URL of a configuration, which has no options.
pub(crate) fn without_options<'de, D: Deserializer<'de>>(from: D) -> Result<DatabaseUrl, D::Error> {
    let url = DatabaseUrl::deserialize(from)?;
    if url.0.contains('?') { Err(D::Error::custom(UrlError::Options)) } else { Ok(url) }
}

fn mode(text: &str) -> Result<TlsMode, UrlError> {
    match text {
        "disable" => Ok(TlsMode::Disable),
        "require" => Ok(TlsMode::Require),
        "verify-full" => Ok(TlsMode::VerifyFull),
        _ => Err(UrlError::SslMode),
    }
}

/// Undoes percent-encoding. A percent sign that begins no pair of digits stands for itself.
fn path(encoded: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let pair = behind
            .get(..2)
            .filter(|_| first == b'%')
            .and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.push(first);
                rest = behind;
            }
        }
    }
    OsString::from_vec(bytes).into()
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
    fn another_database_stands_in_the_place_of_the_first() {
        let url: DatabaseUrl = "postgres://u@db:5433/postgres".parse().expect("a URL");
        assert_eq!(url.with_database("a b/ü").as_str(), "postgres://u@db:5433/a%20b%2F%C3%BC");
        let bare: DatabaseUrl = "postgresql://u@db".parse().expect("a URL");
        assert_eq!(bare.with_database("x").as_str(), "postgresql://u@db/x");
    }

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
    fn tls_is_taken_out_of_the_url() {
        let url = "postgres://u@db/x?sslmode=verify-full&sslrootcert=%2Fa%20b%25.pem&sslkey=100%";
        let (rest, tls) = url.parse::<DatabaseUrl>().expect("a URL").take_tls().expect("TLS");
        assert_eq!(rest.as_str(), "postgres://u@db/x");
        assert_eq!(
            (tls.mode, tls.ca_file),
            (Some(TlsMode::VerifyFull), Some(PathBuf::from("/a b%.pem")))
        );
        assert_eq!(
            (tls.client_cert_file, tls.client_key_file),
            (None, Some(PathBuf::from("100%")))
        );
        let plain = "postgres://u@db/x".parse::<DatabaseUrl>().expect("a URL");
        assert_eq!(plain.take_tls(), Ok((plain.clone(), TlsParameters::default())));
        let prefer = "postgres://u@db/x?sslmode=prefer".parse::<DatabaseUrl>().expect("a URL");
        assert_eq!(prefer.take_tls(), Err(UrlError::SslMode));
        let other =
            "postgres://u@db/x?sslmode=require&options=-crow_security%3Doff".parse::<DatabaseUrl>();
        assert_eq!(other.expect("a URL").take_tls(), Err(UrlError::UnknownOption));
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
