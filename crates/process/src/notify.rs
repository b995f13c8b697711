//! Telling somebody over HTTP, or by mail ([`Mailer`]): that all is well, or what is not.
//!
//! The URL is a secret, for whoever knows it can say the same: it stands in a file, and in no error. Answers are not read, and
//! redirects not followed. A notice that does not arrive is somebody's else to notice: that is what a dead man's switch is for.

mod mail;
mod retry;

use std::fmt;

use reqwest::{
    Client, Method, StatusCode, Url,
    header::{CONTENT_TYPE, HeaderValue},
    redirect::Policy,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;

pub use self::mail::{MailError, Mailer};
use self::retry::{TRY_MAX, retry};

/// Somebody who is told.
#[derive(Clone)]
pub struct Notifier {
    client: Client,
    url: Url,
}

/// Why nobody was told. Holds no URL.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotifyError {
    /// It is no URL.
    #[error("what the file holds is no URL of the form https://host/path")]
    Url,
    /// Plain http to another host.
    #[error(
        "the URL must be https: plain http is taken on loopback only (127.0.0.0/8, [::1], localhost)"
    )]
    PlainHttp,
    /// No client could be made.
    #[error("cannot prepare the call")]
    Client(#[source] reqwest::Error),
    /// The message cannot be written.
    #[error("cannot write the message")]
    Message(#[source] serde_json::Error),
    /// No answer.
    #[error("no answer")]
    Call(#[source] reqwest::Error),
    /// An answer that is not one of success.
    #[error("the answer was {0}")]
    Answer(StatusCode),
}

impl NotifyError {
    fn is_passing(&self) -> bool {
        match self {
            Self::Call(_) => true,
            Self::Answer(status) => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
            _ => false,
        }
    }
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notifier")
    }
}

impl Notifier {
    /// Returns the one at `url`. A proxy of the environment is taken for other hosts.
    ///
    /// # Errors
    /// [`NotifyError`]: the URL cannot be used.
    pub fn new(url: &SecretString) -> Result<Self, NotifyError> {
        let url: Url = url.expose_secret().trim().parse().map_err(|_| NotifyError::Url)?;
        let is_loopback = is_loopback(url.host_str().unwrap_or_default());
        match url.scheme() {
            "https" => {}
            "http" if is_loopback => {}
            "http" => return Err(NotifyError::PlainHttp),
            _ => return Err(NotifyError::Url),
        }
        let client = Client::builder().timeout(TRY_MAX).redirect(Policy::none());
        let client = if is_loopback { client.no_proxy() } else { client };
        let client = client.build().map_err(|error| NotifyError::Client(error.without_url()))?;
        Ok(Self { client, url })
    }

    /// Says that all is well.
    ///
    /// # Errors
    /// [`NotifyError`], after three tries.
    pub async fn ping(&self) -> Result<(), NotifyError> {
        self.send(Method::GET, None).await
    }

    /// Posts `message` as JSON.
    ///
    /// # Errors
    /// As [`Notifier::ping`].
    pub async fn post(&self, message: &(impl Serialize + Sync)) -> Result<(), NotifyError> {
        let body = serde_json::to_vec(message).map_err(NotifyError::Message)?;
        self.send(Method::POST, Some(body)).await
    }

    async fn send(&self, method: Method, body: Option<Vec<u8>>) -> Result<(), NotifyError> {
        retry(|| self.send_once(method.clone(), body.clone()), NotifyError::is_passing).await
    }

    async fn send_once(&self, method: Method, body: Option<Vec<u8>>) -> Result<(), NotifyError> {
        let mut request = self.client.request(method, self.url.clone());
        if let Some(body) = body {
            let json = HeaderValue::from_static("application/json");
            request = request.header(CONTENT_TYPE, json).body(body);
        }
        let answer = request.send().await;
        let status = answer.map_err(|error| NotifyError::Call(error.without_url()))?.status();
        if status.is_success() { Ok(()) } else { Err(NotifyError::Answer(status)) }
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    let is_loopback_ip = host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    is_loopback_ip || host == "localhost"
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    fn notifier(url: &str) -> Result<Notifier, NotifyError> {
        Notifier::new(&SecretString::from(url.to_owned()))
    }

    /// Gives these answers, one after the other; returns its address and what it was asked.
    async fn server(answers: Vec<&'static str>) -> (String, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let asked = tokio::spawn(async move {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.expect("a call");
                let mut bytes = vec![0; 4096];
                let length = stream.read(&mut bytes).await.expect("a request");
                bytes.truncate(length);
                asked.push(String::from_utf8(bytes).expect("text"));
                let head = "content-length: 0\r\nconnection: close\r\n\r\n";
                let answer = format!("HTTP/1.1 {answer}\r\n{head}");
                stream.write_all(answer.as_bytes()).await.expect("sent");
            }
            asked
        });
        (format!("http://{address}/secret"), asked)
    }

    #[tokio::test]
    async fn a_service_that_stumbles_is_called_again_and_one_that_refuses_is_not() {
        let (url, asked) = server(vec!["503 Busy", "200 OK"]).await;
        notifier(&url).expect("a URL").ping().await.expect("told");
        let asked = asked.await.expect("asked");
        assert_eq!(asked.len(), 2);
        assert!(asked[0].starts_with("GET /secret HTTP/1.1"), "{asked:?}");
        let (url, asked) = server(vec!["404 Not Found"]).await;
        let refused = notifier(&url).expect("a URL").ping().await;
        assert!(matches!(refused, Err(NotifyError::Answer(StatusCode::NOT_FOUND))));
        assert_eq!(asked.await.expect("asked").len(), 1);
    }

    #[tokio::test]
    async fn redirects_are_not_followed() {
        let (url, _asked) = server(vec!["302 Found\r\nlocation: http://127.0.0.1:1/"]).await;
        let refused = notifier(&url).expect("a URL").ping().await;
        assert!(matches!(refused, Err(NotifyError::Answer(StatusCode::FOUND))), "{refused:?}");
    }

    #[tokio::test]
    async fn an_error_holds_no_url() {
        let notifier = notifier("http://127.0.0.1:1/s3cret").expect("a URL");
        let mut said = format!("{notifier:?}");
        let error = notifier.send_once(Method::GET, None).await.expect_err("nobody is there");
        let mut next: Option<&dyn std::error::Error> = Some(&error);
        while let Some(error) = next {
            said.push_str(&format!("{error} {error:?}"));
            next = error.source();
        }
        assert!(error.source().is_some() && !said.contains("s3cret"), "{said}");
    }

    #[test]
    fn plain_http_is_for_loopback() {
        for good in ["https://hooks.example.com/x", "http://localhost:8/x", "http://[::1]/x"] {
            assert!(notifier(good).is_ok(), "{good}");
        }
        for bad in ["http://hooks.example.com/x", "http://127.0.0.1.example.com/"] {
            assert!(matches!(notifier(bad), Err(NotifyError::PlainHttp)), "{bad}");
        }
        for bad in ["", "hooks", "ftp://localhost/", "file:///etc/passwd"] {
            assert!(matches!(notifier(bad), Err(NotifyError::Url)), "{bad}");
        }
    }
}
