//! Who is told of a look or of drills: one is called when all is well, to the other is posted what is not.

use std::error::Error;

use secrecy::SecretString;
use stonekeep_engine::Context;
use stonekeep_format::ErrorKind;
use stonekeep_process::{failure::FailureReport, notify::Notifier};

use crate::failure::Failure;

/// Who is told.
pub(crate) struct Notifiers {
    ping: Option<Notifier>,
    /// To whom is posted what is wrong.
    pub(crate) webhook: Option<Notifier>,
}

impl Notifiers {
    /// Takes the URLs. That one is wrong shows before the work, and not on the day on which it is needed.
    pub(crate) fn new(
        ping: Option<SecretString>,
        webhook: Option<SecretString>,
    ) -> Result<Self, Failure> {
        let failed = |option| move |source| Failure::Notifier { option, source };
        let ping = ping.map(|url| Notifier::new(&url)).transpose();
        let webhook = webhook.map(|url| Notifier::new(&url)).transpose();
        Ok(Self {
            ping: ping.map_err(failed("ping_url_file"))?,
            webhook: webhook.map_err(failed("webhook_url_file"))?,
        })
    }

    /// Says that all is well. That it does not arrive is a warning: whoever waits for it notices by himself.
    pub(crate) async fn ping(&self, context: &Context) {
        if let Some(ping) = &self.ping
            && let Err(error) = ping.ping().await
        {
            context.warn(format!("the ping did not arrive: {}", said(&error)));
        }
    }

    /// Warns that the webhook does not know.
    pub(crate) fn untold(error: &dyn Error, context: &Context) {
        context.warn(format!("the webhook was not told: {}", said(error)));
    }
}

fn said(error: &dyn Error) -> String {
    FailureReport::new(error, ErrorKind::Unavailable).message
}
