//! Telling somebody by mail.
//!
//! What a server answers is kept as its code alone: it may repeat what it was sent, and that holds a password.

use std::{fmt, time::SystemTime};

use chrono::{DateTime, Utc};
use lettre::{
    AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    message::{
        Mailbox,
        header::{HeaderName, HeaderValue},
    },
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, CertificateStore, Tls, TlsParameters},
    },
};
use secrecy::{ExposeSecret as _, SecretString};
use stonekeep_config::notify::{MailConfig, MailTls};
use tokio::time::timeout;

use super::{
    is_loopback,
    retry::{TRY_MAX, retry},
};
use crate::output::printable;

/// What each certificate of a PEM file begins with.
const PEM: &str = "-----BEGIN CERTIFICATE-----";
/// The longest subject, in characters (200): two lines of a letter's head, and more than any list shows.
const SUBJECT_CHARS_MAX: usize = 200;

/// Who is told by mail.
#[derive(Clone)]
pub struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
}

/// Why there was no mail. Holds no password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MailError {
    /// An address is none.
    #[error("{address:?} in {option} is no mail address")]
    Address {
        /// Where it stands.
        option: &'static str,
        /// The address.
        address: String,
    },
    /// In the clear to another host.
    #[error("tls = \"none\" is for loopback only (127.0.0.0/8, [::1], localhost)")]
    Plain,
    /// The certificates to trust are none.
    #[error("ca_file holds no certificates (PEM) that can be used")]
    Authorities,
    /// TLS cannot be set up.
    #[error("cannot prepare TLS")]
    Tls(#[source] lettre::transport::smtp::Error),
    /// The letter cannot be written.
    #[error("cannot write the mail")]
    Letter(#[source] lettre::error::Error),
    /// No connection, or none that can be trusted.
    #[error("no connection to the mail server")]
    Connect(#[source] lettre::transport::smtp::Error),
    /// It took too long.
    #[error("the mail server took longer than {} s", TRY_MAX.as_secs())]
    Timeout,
    /// An answer that is not one of success.
    #[error("the mail server answered {code} ({})", meaning(*code))]
    Answer {
        /// Its code.
        code: u16,
    },
    /// The server and we do not understand each other.
    #[error(
        "the mail server speaks no SMTP, or offers no STARTTLS or no login that is asked of it"
    )]
    Protocol,
}

impl MailError {
    /// Codes from 400 on are temporary, from 500 on for good (RFC 5321, 4.2.1).
    const fn is_passing(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Timeout => true,
            Self::Answer { code } => *code < 500,
            _ => false,
        }
    }
}

const fn meaning(code: u16) -> &'static str {
    match code {
        530 => "it wants a login",
        534 | 535 => "user or password is wrong",
        538 => "it wants encryption",
        550 | 551 | 553 | 554 => "it does not take mail from or to these addresses",
        400..500 => "try again later",
        _ => "it refuses",
    }
}

impl fmt::Debug for Mailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mailer")
    }
}

impl Mailer {
    /// Returns the one that is configured, with the password of its user and the text of its `ca_file`. Connects to nobody.
    ///
    /// # Errors
    /// [`MailError`]: addresses, protection or certificates cannot be used.
    pub fn new(
        config: &MailConfig,
        password: Option<&SecretString>,
        authorities: Option<&str>,
    ) -> Result<Self, MailError> {
        let tls = tls(config, authorities)?;
        let mut transport =
            AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(config.host.as_str())
                .port(config.port())
                .timeout(Some(TRY_MAX))
                .tls(tls);
        if let (Some(user), Some(password)) = (&config.user, password) {
            let password = password.expose_secret().to_owned();
            transport = transport.credentials(Credentials::new(user.clone(), password));
        }
        let to = config.to.iter().map(|address| mailbox("to", address));
        Ok(Self {
            transport: transport.build(),
            from: mailbox("from", &config.from)?,
            to: to.collect::<Result<_, _>>()?,
        })
    }

    /// Sends a letter to all of them.
    ///
    /// # Errors
    /// [`MailError`], after three tries.
    pub async fn send(
        &self,
        subject: &str,
        text: &str,
        at: DateTime<Utc>,
    ) -> Result<(), MailError> {
        let letter = self.letter(subject, text, at)?;
        retry(|| self.send_once(letter.clone()), MailError::is_passing).await
    }

    fn letter(&self, subject: &str, text: &str, at: DateTime<Utc>) -> Result<Message, MailError> {
        // So that no holiday answers it (RFC 3834).
        let by_program = HeaderName::new_from_ascii_str("Auto-Submitted");
        let mut letter = Message::builder()
            .from(self.from.clone())
            .subject(one_line(subject))
            .date(SystemTime::from(at))
            .message_id(None)
            .raw_header(HeaderValue::new(by_program, "auto-generated".to_owned()));
        for to in &self.to {
            letter = letter.to(to.clone());
        }
        letter.body(text.to_owned()).map_err(MailError::Letter)
    }

    async fn send_once(&self, letter: Message) -> Result<(), MailError> {
        // The transport's own limit is one for each step.
        let sent = timeout(TRY_MAX, self.transport.send(letter)).await;
        match sent.map_err(|_| MailError::Timeout)? {
            Ok(_) => Ok(()),
            Err(error) => Err(refused(error)),
        }
    }
}

fn refused(error: lettre::transport::smtp::Error) -> MailError {
    match error.status() {
        Some(code) => MailError::Answer { code: code.into() },
        None if error.is_response() || error.is_client() => MailError::Protocol,
        None => MailError::Connect(error),
    }
}

fn tls(config: &MailConfig, authorities: Option<&str>) -> Result<Tls, MailError> {
    match config.tls {
        MailTls::None if is_loopback(&config.host) => Ok(Tls::None),
        MailTls::None => Err(MailError::Plain),
        MailTls::Starttls => Ok(Tls::Required(parameters(&config.host, authorities)?)),
        MailTls::Implicit => Ok(Tls::Wrapper(parameters(&config.host, authorities)?)),
    }
}

fn parameters(host: &str, authorities: Option<&str>) -> Result<TlsParameters, MailError> {
    let mut parameters = TlsParameters::builder(host.to_owned());
    if let Some(authorities) = authorities {
        let is_pem = authorities.contains(PEM);
        let certificates = Certificate::from_pem(authorities.as_bytes());
        let certificates = certificates.ok().filter(|_| is_pem).ok_or(MailError::Authorities)?;
        parameters =
            parameters.certificate_store(CertificateStore::None).add_root_certificate(certificates);
    }
    parameters.build().map_err(MailError::Tls)
}

fn mailbox(option: &'static str, address: &str) -> Result<Mailbox, MailError> {
    let wrong = |_| MailError::Address { option, address: printable(address) };
    address.parse().map_err(wrong)
}

/// A line break in a head would begin another field of it.
fn one_line(subject: &str) -> String {
    printable(subject).chars().take(SUBJECT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(lines: &str) -> MailConfig {
        let text = format!("{lines}\nfrom = \"Keep <a@example.com>\"\nto = [\"b@example.com\"]");
        toml::from_str(&text).expect("mail")
    }

    fn mailer() -> Mailer {
        let config = config("host = \"localhost\"\ntls = \"none\"\nuser = \"u\"");
        Mailer::new(&config, Some(&"s3cret".to_owned().into()), None).expect("a mailer")
    }

    #[test]
    fn no_line_break_begins_another_field() {
        let at = "2026-11-21T00:00:00Z".parse().expect("a date");
        let subject = "down\r\nBcc: thief@example.com\n\nx";
        let letter = mailer().letter(subject, ".\r\nbody", at).expect("a letter").formatted();
        let letter = String::from_utf8(letter).expect("text");
        let (head, body) = letter.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains("Subject: down  Bcc: thief@example.com  x"), "{head}");
        assert!(head.contains("To: b@example.com") && head.contains("Auto-Submitted: auto"));
        assert!(!head.lines().any(|line| line.starts_with("Bcc")), "{head}");
        assert!(head.contains("Date: Sat, 21 Nov 2026 00:00:00 +0000"), "{head}");
        assert!(body.contains("body"), "{body}");
        assert!(one_line(&"x".repeat(5000)).len() == SUBJECT_CHARS_MAX);
    }

    #[test]
    fn an_address_with_a_line_break_is_none() {
        for bad in ["", "nobody", "a@b\r\nBcc: c@d", "a@b, c@d\n"] {
            let mut config = config("host = \"localhost\"\ntls = \"none\"");
            config.to.push(bad.to_owned());
            let refused = Mailer::new(&config, None, None);
            assert!(matches!(refused, Err(MailError::Address { .. })), "{bad:?}");
        }
    }

    #[test]
    fn in_the_clear_is_for_loopback() {
        let of = |host: &str| config(&format!("host = \"{host}\"\ntls = \"none\""));
        for good in ["127.0.0.1", "localhost", "::1", "[::1]"] {
            assert!(Mailer::new(&of(good), None, None).is_ok(), "{good}");
        }
        for bad in ["mail.example.com", "127.0.0.1.example.com", "10.0.0.1"] {
            assert!(matches!(Mailer::new(&of(bad), None, None), Err(MailError::Plain)), "{bad}");
        }
    }

    #[test]
    fn certificates_to_trust_are_certificates() {
        for bad in ["", "nothing", "-----BEGIN CERTIFICATE-----\nx"] {
            let config = config("host = \"mail.example.com\"");
            let refused = Mailer::new(&config, None, Some(bad));
            assert!(matches!(refused, Err(MailError::Authorities | MailError::Tls(_))), "{bad}");
        }
    }

    #[test]
    fn nothing_shows_the_password() {
        assert!(!format!("{:?}", mailer()).contains("s3cret"));
    }

    #[test]
    fn a_temporary_refusal_is_tried_again_and_a_final_one_is_not() {
        assert!(MailError::Answer { code: 451 }.is_passing() && MailError::Timeout.is_passing());
        assert!(!MailError::Answer { code: 535 }.is_passing() && !MailError::Protocol.is_passing());
    }
}
