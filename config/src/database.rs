//! `[[database]]`: what is backed up, and when.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::NaiveDate;
use chrono_tz::Tz;
use secrecy::SecretString;
use serde::Deserialize;
use stonekeep_format::ids::{Digest, Label};

use crate::{
    ConfigError, DatabaseUrl, Environment, Given, defaults, file, notify,
    password::{self, Login},
    schedule::Crontab,
    url, value,
};

/// The longest label.
const LABEL_BYTES_MAX: usize = 63;
/// Digits of the digest of a database's name in its label (8): 32 bits, for the few hundred of one server.
const DIGEST_DIGITS: usize = 8;

/// A database of a PostgreSQL server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// Its label: the name it has here and in the bucket.
    pub name: Label,
    /// Where it is; without options.
    #[serde(deserialize_with = "url::without_options")]
    pub url: DatabaseUrl,
    /// If given: every database of the server whose name matches, instead of the one in the URL, to which the list of them is
    /// asked for. `*` stands for anything, `?` for one character; what begins with `!` is left out.
    #[serde(default)]
    pub databases: Vec<String>,
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
    /// A file that holds the URL to call when this database, or each of several, has a good snapshot in every repository.
    pub ping_url_file: Option<PathBuf>,
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

/// What TLS to a PostgreSQL server takes, all PEM.
#[derive(Debug, Clone, Default)]
pub struct TlsGiven {
    /// Certificates to trust instead of the system's.
    pub authorities: Option<Given>,
    /// Our certificate.
    pub client_cert: Option<Given>,
    /// Its private key.
    pub client_key: Option<Given>,
}

impl TlsGiven {
    /// Takes the files of authorities, certificate and key; the key must be private.
    ///
    /// # Errors
    /// As [`file::given_private`] and [`file::given`].
    pub fn of(
        [authorities, client_cert, client_key]: [Option<&Path>; 3],
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            authorities: file::given(authorities, environment)?,
            client_cert: file::given(client_cert, environment)?,
            client_key: client_key
                .map(|path| file::given_private(path, environment))
                .transpose()?,
        })
    }
}

/// Which databases of a server are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patterns {
    /// As patterns of SQL's LIKE.
    pub include: Vec<String>,
    /// What of those is not meant.
    pub exclude: Vec<String>,
}

impl DatabaseConfig {
    /// Returns the patterns if the configuration is of several databases.
    #[must_use]
    pub fn patterns(&self) -> Option<Patterns> {
        let like = |pattern: &str| {
            let escaped = pattern.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
            escaped.replace('*', "%").replace('?', "_")
        };
        let (exclude, include): (Vec<&String>, Vec<&String>) =
            self.databases.iter().partition(|pattern| pattern.starts_with('!'));
        (!self.databases.is_empty()).then(|| Patterns {
            // Of exceptions alone: all but those.
            include: if include.is_empty() {
                vec!["%".to_owned()]
            } else {
                include.into_iter().map(|pattern| like(pattern)).collect()
            },
            exclude: exclude.into_iter().map(|pattern| like(&pattern[1..])).collect(),
        })
    }

    /// Returns the configuration of one database of several. Its label is `<name>-<database>`; what a label cannot hold becomes
    /// a dash, and then a digest of the whole name is added, so that no two are the same.
    #[must_use]
    pub fn of_database(&self, database: &str) -> Self {
        let plain = |c: char| match c.to_ascii_lowercase() {
            c @ ('a'..='z' | '0'..='9' | '-' | '_' | '.') => c,
            _ => '-',
        };
        let tame: String = database.chars().map(plain).collect();
        let whole = format!("{}-{tame}", self.name);
        let label = if tame == database && whole.len() <= LABEL_BYTES_MAX {
            whole
        } else {
            let digest = Digest::of(database.as_bytes()).to_string();
            let room = LABEL_BYTES_MAX - DIGEST_DIGITS - 1;
            let cut: String = whole.chars().take(room).collect();
            format!("{cut}-{}", &digest[..DIGEST_DIGITS])
        };
        Self {
            // It begins as our own does and holds nothing else that a label cannot.
            name: label.parse().unwrap_or_else(|_| self.name.clone()),
            url: self.url.with_database(database),
            databases: Vec::new(),
            ..self.clone()
        }
    }

    /// Returns how old the newest snapshot may be: twice the longest gap in the schedule within a year from `today`, so that
    /// one run may fail. `None`: there is no schedule, or it comes to no two runs.
    #[must_use]
    pub fn age_max(&self, today: NaiveDate) -> Option<Duration> {
        let gap = self.schedule.as_ref()?.longest_gap(today, self.time_zone)?;
        Some((gap * 2).max(defaults::AGE_MIN))
    }

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

    /// Reads the URL to call when this database is backed up: a secret, for whoever knows it can feign that.
    ///
    /// # Errors
    /// As [`file::read_secret`].
    pub fn ping_url(&self, environment: &Environment) -> Result<Option<SecretString>, ConfigError> {
        notify::secret(self.ping_url_file.as_deref(), environment)
    }

    /// Returns what TLS takes.
    ///
    /// # Errors
    /// As [`TlsGiven::of`].
    pub fn tls_given(&self, environment: &Environment) -> Result<TlsGiven, ConfigError> {
        let files = [&self.ca_file, &self.client_cert_file, &self.client_key_file];
        TlsGiven::of(files.map(Option::as_deref), environment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(databases: &[&str]) -> DatabaseConfig {
        let list = format!("{databases:?}");
        let text =
            format!("name = \"main\"\nurl = \"postgres://u@db/postgres\"\ndatabases = {list}");
        toml::from_str(&text).expect("a database")
    }

    #[test]
    fn patterns_become_those_of_sql() {
        assert_eq!(config(&[]).patterns(), None);
        let patterns = config(&["app_*", "x?", "!app_tmp%", "!*_old"]).patterns().expect("some");
        assert_eq!(patterns.include, ["app\\_%", "x_"]);
        assert_eq!(patterns.exclude, ["app\\_tmp\\%", "%\\_old"]);
        assert_eq!(config(&["!x"]).patterns().expect("some").include, ["%"]);
    }

    #[test]
    fn every_database_has_a_label_of_its_own() {
        let of = |name: &str| config(&["*"]).of_database(name);
        assert_eq!(of("shop").name.as_str(), "main-shop");
        assert_eq!(of("shop").url.as_str(), "postgres://u@db/shop");
        let labels: std::collections::BTreeSet<_> =
            ["Shop", "shop", "sh op", "sh-op", "ü", "ö", &"x".repeat(63), &"x".repeat(62)]
                .map(|name| of(name).name)
                .into();
        assert_eq!(labels.len(), 8, "{labels:?}");
    }

    #[test]
    fn a_snapshot_may_be_twice_as_old_as_the_longest_gap() {
        let today = NaiveDate::from_ymd_opt(2026, 11, 21).expect("a day");
        let of = |schedule: &str| {
            let schedule = Some(schedule.parse().expect("a schedule"));
            DatabaseConfig { schedule, ..config(&[]) }.age_max(today).map(|age| age.as_secs())
        };
        assert_eq!(of("15 * * * *"), Some(2 * 3_600));
        assert_eq!(of("* * * * *"), Some(300), "no less than clocks may differ");
        assert_eq!(config(&[]).age_max(today), None);
    }

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
