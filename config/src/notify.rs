//! `[notify]`: whom the daemon tells when a backup failed, is suspicious, or is good again.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use secrecy::SecretString;
use serde::Deserialize;

use crate::{ConfigError, Environment, defaults, file, value};

/// Whom the daemon tells. Nobody, if nothing is set.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NotifyConfig {
    /// A file that holds the URL to post what is wrong to.
    pub webhook_url_file: Option<PathBuf>,
    /// What is posted there.
    pub webhook_format: WebhookFormat,
    /// A file that holds the URL to call when all databases of a run have good snapshots.
    pub ping_url_file: Option<PathBuf>,
    /// After how long a failure that lasts is told again.
    #[serde(deserialize_with = "value::repeat")]
    pub repeat: Duration,
    /// Who gets mail about what is wrong.
    pub mail: Option<MailConfig>,
}

impl Default for NotifyConfig {
    fn default() -> Self {
        Self {
            webhook_url_file: None,
            webhook_format: WebhookFormat::default(),
            ping_url_file: None,
            repeat: defaults::NOTIFY_REPEAT,
            mail: None,
        }
    }
}

/// What a webhook is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WebhookFormat {
    /// Fields for programs.
    #[default]
    Json,
    /// What Slack shows, and those that take the same.
    Slack,
}

/// A mail server, and whose names stand on the letters.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailConfig {
    /// The server's name.
    pub host: String,
    /// Its port; absent: the one that is usual for `tls`.
    #[serde(default, deserialize_with = "value::port")]
    pub port: Option<u16>,
    /// How the connection is protected.
    #[serde(default)]
    pub tls: MailTls,
    /// Who logs in; absent: nobody does.
    pub user: Option<String>,
    /// A file that holds the password.
    pub password_file: Option<PathBuf>,
    /// Who the letters are from.
    pub from: String,
    /// Who gets them; one or more.
    pub to: Vec<String>,
    /// Certificates (PEM) to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
}

/// How the connection to a mail server is protected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MailTls {
    /// It begins in the clear and must become encrypted before anything is said.
    #[default]
    Starttls,
    /// It is encrypted from its first byte.
    Implicit,
    /// Not at all: on loopback only.
    None,
}

impl NotifyConfig {
    /// Reads the URL to post what is wrong to. It is a secret: whoever knows it can write there.
    ///
    /// # Errors
    /// As [`file::read_secret`].
    pub fn webhook_url(
        &self,
        environment: &Environment,
    ) -> Result<Option<SecretString>, ConfigError> {
        secret(self.webhook_url_file.as_deref(), environment)
    }

    /// Reads the URL to call when all is well, a secret as well: whoever knows it can feign that.
    ///
    /// # Errors
    /// As [`file::read_secret`].
    pub fn ping_url(&self, environment: &Environment) -> Result<Option<SecretString>, ConfigError> {
        secret(self.ping_url_file.as_deref(), environment)
    }

    /// What no single value can show.
    pub(crate) fn check(&self, path: &Path) -> Result<(), ConfigError> {
        let Some(mail) = &self.mail else { return Ok(()) };
        let wrong = if mail.to.is_empty() {
            "[notify.mail] to names nobody: give one address or more"
        } else if mail.user.is_some() != mail.password_file.is_some() {
            "[notify.mail] user and password_file belong together: set both or none"
        } else {
            return Ok(());
        };
        Err(ConfigError::Notify { path: path.to_owned(), what: wrong })
    }
}

impl MailConfig {
    /// Returns the server's port: as configured, else 587 (RFC 6409), 465 (RFC 8314) or, without TLS, 25 (RFC 5321).
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(match self.tls {
            MailTls::Starttls => 587,
            MailTls::Implicit => 465,
            MailTls::None => 25,
        })
    }

    /// Reads the password of `user`.
    ///
    /// # Errors
    /// As [`file::read_secret`].
    pub fn password(&self, environment: &Environment) -> Result<Option<SecretString>, ConfigError> {
        secret(self.password_file.as_deref(), environment)
    }

    /// Reads the certificates to trust.
    ///
    /// # Errors
    /// As [`file::read_text`].
    pub fn authorities(&self, environment: &Environment) -> Result<Option<String>, ConfigError> {
        self.ca_file.as_deref().map(|path| file::read_text(path, environment)).transpose()
    }
}

pub(crate) fn secret(
    path: Option<&Path>,
    environment: &Environment,
) -> Result<Option<SecretString>, ConfigError> {
    path.map(|path| file::read_secret(path, environment)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<NotifyConfig, toml::de::Error> {
        toml::from_str(text)
    }

    const MAIL: &str = "[mail]\nhost = \"mail.example.com\"\nfrom = \"a@example.com\"\n";

    #[test]
    fn nobody_is_told_without_a_section() {
        let config = parse("").expect("empty");
        assert_eq!(config, NotifyConfig::default());
        assert_eq!(config.repeat, Duration::from_secs(86_400));
        assert!(config.webhook_url(&Environment::default()).expect("none").is_none());
    }

    #[test]
    fn the_port_follows_the_protection() {
        let port = |line: &str| {
            let config = parse(&format!("{MAIL}to = [\"b@example.com\"]\n{line}"));
            config.expect("mail").mail.map(|mail| mail.port())
        };
        assert_eq!(port(""), Some(587));
        assert_eq!(port("tls = \"implicit\""), Some(465));
        assert_eq!(port("tls = \"none\""), Some(25));
        assert_eq!(port("port = 2525"), Some(2525));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for bad in [
            "webhook_format = \"xml\"",
            "webhook_url = \"https://x\"",
            "repeat = \"1m\"",
            "repeat = \"31d\"",
            "[mail]\nhost = \"x\"",
            &format!("{MAIL}to = [\"b\"]\nport = 0"),
            &format!("{MAIL}to = [\"b\"]\nport = 65536"),
            &format!("{MAIL}to = [\"b\"]\ntls = \"maybe\""),
            &format!("{MAIL}to = [\"b\"]\npassword = \"x\""),
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        for bad in ["to = []", "to = [\"b\"]\nuser = \"x\"", "to = [\"b\"]\npassword_file = \"x\""]
        {
            let config = parse(&format!("{MAIL}{bad}")).expect("parses");
            let refused = config.check(Path::new("x"));
            assert!(matches!(refused, Err(ConfigError::Notify { .. })), "{bad}");
        }
    }
}
