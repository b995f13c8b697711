//! `[[database]]`: what is backed up, and when.

use std::{path::PathBuf, time::Duration};

use chrono_tz::Tz;
use secrecy::SecretString;
use serde::Deserialize;
use stonekeep_format::ids::Label;

use crate::{
    ConfigError, DatabaseUrl, Environment, defaults, file,
    password::{self, Login},
    schedule::Crontab,
    url, value,
};

/// A database of a PostgreSQL server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// Its label: the name it has here and in the bucket.
    pub name: Label,
    /// Where it is; without options.
    #[serde(deserialize_with = "url::without_options")]
    pub url: DatabaseUrl,
    /// A file that holds the password.
    pub password_file: Option<PathBuf>,
    /// How the connection is protected; absent: see [`TlsMode::for_host`].
    pub tls: Option<TlsMode>,
    /// Certificates (PEM) to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Our certificate (PEM), for servers that ask for one.
    pub client_cert_file: Option<PathBuf>,
    /// Its private key (PEM).
    pub client_key_file: Option<PathBuf>,
    /// When it is backed up by the service; `stonekeepd backup` runs whenever it is called.
    pub schedule: Option<Crontab>,
    /// The zone in which the schedule and the tiers' periods are counted.
    #[serde(default = "defaults::time_zone", deserialize_with = "value::time_zone")]
    pub time_zone: Tz,
    /// By how many percent rows, tables or bytes may shrink before a snapshot is called suspicious; 100: by any.
    #[serde(default = "defaults::shrink_percent_max", deserialize_with = "value::percent")]
    pub shrink_percent_max: u8,
    /// Connections that copy at the same time.
    #[serde(default = "defaults::jobs", deserialize_with = "value::jobs")]
    pub jobs: usize,
    /// How long a run may hold up somebody's waiting DDL.
    #[serde(default = "defaults::ddl_wait_max", deserialize_with = "value::ddl_wait_max")]
    pub ddl_wait_max: Duration,
}

/// How a connection to PostgreSQL is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// Not at all.
    Disable,
    /// Encrypted, to whomever answers.
    Require,
    /// Encrypted, to the host that the certificate names.
    VerifyFull,
}

impl TlsMode {
    /// Returns what holds if nothing is said: nothing for a socket or the own host, where nobody can listen who is not root,
    /// and a verified certificate for every other.
    #[must_use]
    pub fn for_host(host: &str) -> Self {
        let loopback = host
            .trim_matches(['[', ']'])
            .parse()
            .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        if host.is_empty() || host.starts_with('/') || host == "localhost" || loopback {
            Self::Disable
        } else {
            Self::VerifyFull
        }
    }
}

impl DatabaseConfig {
    /// Returns the password for `login` (which the URL says), if there is one.
    ///
    /// # Errors
    /// As [`password::find`].
    pub fn password(
        &self,
        login: Login<'_>,
        environment: &Environment,
    ) -> Result<Option<SecretString>, ConfigError> {
        password::find(login, self.password_file.as_deref(), environment)
    }

    /// Checks that the private key of our certificate is private.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`] and [`ConfigError::OpenSecret`].
    pub fn check_key_file(&self, environment: &Environment) -> Result<(), ConfigError> {
        self.client_key_file
            .as_deref()
            .map_or(Ok(()), |path| file::open_private(path, environment).map(drop))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_host_goes_without_tls_by_default() {
        for host in ["", "/run/postgresql", "localhost", "127.0.0.1", "127.1.2.3", "::1", "[::1]"] {
            assert_eq!(TlsMode::for_host(host), TlsMode::Disable, "{host}");
        }
        for host in ["db.internal", "10.0.0.1", "localhost.example.com", "fe80::1"] {
            assert_eq!(TlsMode::for_host(host), TlsMode::VerifyFull, "{host}");
        }
    }
}
