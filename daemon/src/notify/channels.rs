//! Who is told, and by which way.

use serde::Serialize;
use stonekeep_config::{
    DaemonConfig, Environment,
    notify::{MailConfig, MailTls, NotifyConfig, WebhookFormat},
};
use stonekeep_format::ids::Label;
use stonekeep_process::notify::{Mailer, Notifier};

use super::{notice::Notice, said::chain};
use crate::{failure::Failure, plan::of_server};

/// Everybody who is configured.
pub(super) struct Channels {
    webhook: Option<(Notifier, WebhookFormat)>,
    mail: Option<(Mailer, String)>,
    ping: Option<Notifier>,
    /// Of the databases of the configuration, each with its ping.
    databases: Vec<Entry>,
}

/// A `[[database]]`.
struct Entry {
    name: Label,
    /// Whether it stands for several.
    is_server: bool,
    ping: Option<Notifier>,
}

impl Entry {
    fn is_of(&self, label: &Label) -> bool {
        *label == self.name || self.is_server && of_server(label, &self.name)
    }
}

/// Whether one of them can be used.
#[derive(Debug, Serialize)]
pub(crate) struct Checked {
    /// Which one.
    pub(crate) what: String,
    /// Whether it can.
    pub(crate) ok: bool,
    /// What was tried, or why it cannot.
    pub(crate) detail: String,
}

/// What became of one way: its name, and why it failed.
pub(super) type Delivered = (&'static str, Result<(), String>);

impl Channels {
    pub(super) fn load(config: &DaemonConfig, environment: &Environment) -> Result<Self, Failure> {
        let notify = &config.notify;
        let webhook = notifier("webhook_url_file", notify.webhook_url(environment)?)?;
        let databases = config.databases().iter().map(|database| {
            Ok(Entry {
                name: database.name.clone(),
                is_server: database.patterns().is_some(),
                ping: notifier("ping_url_file", database.ping_url(environment)?)?,
            })
        });
        Ok(Self {
            webhook: webhook.map(|webhook| (webhook, notify.webhook_format)),
            mail: mail(notify, environment)?,
            ping: notifier("ping_url_file", notify.ping_url(environment)?)?,
            databases: databases.collect::<Result<_, Failure>>()?,
        })
    }

    /// Whether nobody is to be told anything.
    pub(super) fn is_nobody(&self) -> bool {
        let pings = || self.databases.iter().any(|entry| entry.ping.is_some());
        self.webhook.is_none() && self.mail.is_none() && self.ping.is_none() && !pings()
    }

    /// Tells everybody at the same time.
    pub(super) async fn deliver(&self, notice: &Notice) -> Vec<Delivered> {
        let (webhook, mail) = tokio::join!(self.post(notice), self.send(notice));
        let webhook = webhook.map(|result| ("webhook", result));
        webhook.into_iter().chain(mail.map(|result| ("mail", result))).collect()
    }

    async fn post(&self, notice: &Notice) -> Option<Result<(), String>> {
        let (webhook, format) = self.webhook.as_ref()?;
        let posted = match format {
            WebhookFormat::Json => webhook.post(notice).await,
            WebhookFormat::Slack => webhook.post(&notice.slack()).await,
        };
        Some(posted.map_err(|error| chain(&error)))
    }

    async fn send(&self, notice: &Notice) -> Option<Result<(), String>> {
        let (mail, _) = self.mail.as_ref()?;
        let sent = mail.send(notice.subject(), &notice.letter(), notice.at()).await;
        Some(sent.map_err(|error| chain(&error)))
    }

    /// Returns the ping of all databases.
    pub(super) const fn ping(&self) -> Option<&Notifier> {
        self.ping.as_ref()
    }

    /// Returns the ping of a database, and of which databases it is besides.
    pub(super) fn ping_of(&self, label: &Label) -> Option<(&Notifier, impl Fn(&Label) -> bool)> {
        let entry = self.entry(label)?;
        Some((entry.ping.as_ref()?, move |label: &Label| entry.is_of(label)))
    }

    /// Whether a database is still one of the configuration.
    pub(super) fn is_configured(&self, label: &Label) -> bool {
        self.entry(label).is_some()
    }

    /// One of that very name comes first: `shop` may be a server, and `shop-eu` a database.
    fn entry(&self, label: &Label) -> Option<&Entry> {
        let named = self.databases.iter().find(|entry| entry.name == *label);
        named.or_else(|| self.databases.iter().find(|entry| entry.is_of(label)))
    }

    /// Sends `test`, if given, to who takes messages. A ping is never called: it would say that all is well.
    pub(super) async fn check(&self, test: Option<Notice>) -> Vec<Checked> {
        let is_sent = test.is_some();
        let delivered = match &test {
            Some(test) => self.deliver(test).await,
            None => Vec::new(),
        };
        let ways = [
            (
                "webhook",
                self.webhook.as_ref().map(|(_, format)| format!("{format:?}").to_lowercase()),
            ),
            ("mail", self.mail.as_ref().map(|(_, to)| to.clone())),
        ];
        let mut checked: Vec<Checked> = ways
            .into_iter()
            .filter_map(|(way, how)| {
                let result =
                    delivered.iter().find(|(name, _)| *name == way).map(|(_, result)| result);
                Some(of_way(way, &how?, result))
            })
            .collect();
        let pings = self.databases.iter().filter(|entry| entry.ping.is_some()).count();
        let pings = pings + usize::from(self.ping.is_some());
        if pings > 0 {
            let detail =
                if is_sent { "never for a test: it says that all is well" } else { "not called" };
            checked.push(Checked {
                what: format!("{pings} ping URLs"),
                ok: true,
                detail: detail.to_owned(),
            });
        }
        checked
    }
}

fn of_way(way: &str, how: &str, result: Option<&Result<(), String>>) -> Checked {
    let what = format!("{way} ({how})");
    match result {
        None => Checked { what, ok: true, detail: "can be used; --notify sends a test".to_owned() },
        Some(Ok(())) => Checked { what, ok: true, detail: "took a test".to_owned() },
        Some(Err(why)) => Checked { what, ok: false, detail: why.clone() },
    }
}

fn notifier(
    option: &'static str,
    url: Option<secrecy::SecretString>,
) -> Result<Option<Notifier>, Failure> {
    let notifier = url.map(|url| Notifier::new(&url)).transpose();
    notifier.map_err(|source| Failure::Notifier { option, source })
}

fn mail(
    notify: &NotifyConfig,
    environment: &Environment,
) -> Result<Option<(Mailer, String)>, Failure> {
    let Some(mail) = &notify.mail else { return Ok(None) };
    let (password, authorities) = (mail.password(environment)?, mail.authorities(environment)?);
    let mailer = Mailer::new(mail, password.as_ref(), authorities.as_deref());
    mailer.map(|mailer| Some((mailer, described(mail)))).map_err(Failure::Mail)
}

fn described(mail: &MailConfig) -> String {
    let tls = match mail.tls {
        MailTls::Starttls => "STARTTLS",
        MailTls::Implicit => "TLS",
        MailTls::None => "no TLS",
    };
    format!("{} by {} port {}, {tls}", mail.to.join(", "), mail.host, mail.port())
}
