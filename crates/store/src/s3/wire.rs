//! Single signed requests, as they stand, and their answers, as they come: what the SDK would tidy away is what `prove` asks
//! about.

use std::{sync::Arc, time::Duration};

use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_s3::{config::SharedCredentialsProvider, primitives::SdkBody};
use aws_sigv4::{
    http_request::{
        PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
        UriPathNormalizationMode, sign,
    },
    sign::v4,
};
use aws_smithy_http_client::Connector;
use aws_smithy_runtime_api::client::http::HttpConnector as _;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use md5::{Digest as _, Md5};
use stonekeep_format::Clock;

use crate::Answer;

/// How long one request may take, its answer included: several times the slowest answer of a server that is well.
const REQUEST_MAX: Duration = Duration::from_secs(30);
/// How much of an answer is read (64 KiB): error documents and small objects have less.
const ANSWER_BYTES_MAX: usize = 64 << 10;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request to the bucket or an object in it.
#[derive(Debug, Clone, Default)]
pub(super) struct Request {
    pub(super) method: &'static str,
    /// The key with the repository's prefix; empty: the bucket.
    pub(super) key: String,
    /// With its question mark, encoded; or empty.
    pub(super) query: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: String,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) version_id: Option<String>,
    pub(super) body: String,
}

impl Response {
    /// Returns what the server said; an error inside a success is one.
    pub(super) fn answer(&self) -> Answer {
        let body = self.body.as_str();
        let is_error = self.status >= 300 || body.contains("<Error>");
        let of_error = |name| is_error.then(|| element(body, name)).flatten();
        Answer::new(self.status, of_error("Code"), of_error("Message"))
    }

    pub(super) fn element(&self, name: &str) -> Option<&str> {
        element(&self.body, name)
    }
}

/// The text of the first element of this name. The names asked for hold text alone.
fn element<'x>(xml: &'x str, name: &str) -> Option<&'x str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}

/// Where requests go and as whom.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) connector: Connector,
    pub(super) credentials: SharedCredentialsProvider,
    pub(super) region: String,
    /// The bucket's address, ended by a slash.
    pub(super) base: String,
    pub(super) clock: Arc<dyn Clock>,
}

impl Wire {
    /// Sends a request once; unsigned, it is nobody's.
    pub(super) async fn send(&self, request: &Request, signed: bool) -> Result<Response, BoxError> {
        tokio::time::timeout(REQUEST_MAX, self.exchange(request, signed)).await?
    }

    async fn exchange(&self, request: &Request, signed: bool) -> Result<Response, BoxError> {
        let mut built = http::Request::builder().method(request.method).uri(self.uri(request));
        for (name, value) in &request.headers {
            built = built.header(*name, value);
        }
        if !request.body.is_empty() {
            let md5 = Md5::digest(request.body.as_bytes());
            built = built.header("content-md5", BASE64_STANDARD.encode(md5));
        }
        if matches!(request.method, "PUT" | "POST") {
            built = built.header("content-length", request.body.len());
        }
        let mut built = built.body(SdkBody::from(request.body.as_str()))?;
        if signed {
            self.sign(&mut built, request).await?;
        }
        let answer = self.connector.call(built.try_into()?).await?;
        let status = answer.status().as_u16();
        let version_id = answer.headers().get("x-amz-version-id").map(str::to_owned);
        let body = read(answer.into_body()).await?;
        Ok(Response { status, version_id, body })
    }

    fn uri(&self, request: &Request) -> String {
        // Our keys and prefixes hold nothing that would need encoding.
        let base =
            if request.key.is_empty() { self.base.trim_end_matches('/') } else { &self.base };
        format!("{base}{}{}", request.key, request.query)
    }

    async fn sign(
        &self,
        built: &mut http::Request<SdkBody>,
        request: &Request,
    ) -> Result<(), BoxError> {
        let identity = self.credentials.provide_credentials().await?.into();
        let mut settings = SigningSettings::default();
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("s3")
            .time(self.clock.now().into())
            .settings(settings)
            .build()?
            .into();
        let headers = built.headers().iter();
        let headers =
            headers.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let body = SignableBody::Bytes(request.body.as_bytes());
        let signable = SignableRequest::new(request.method, self.uri(request), headers, body)?;
        let (instructions, _) = sign(signable, &params)?.into_parts();
        instructions.apply_to_request_http1x(built);
        Ok(())
    }
}

/// Reads the beginning of an answer, as text.
async fn read(body: SdkBody) -> Result<String, BoxError> {
    let mut stream = aws_sdk_s3::primitives::ByteStream::new(body);
    let mut bytes = Vec::new();
    while let Some(part) = stream.next().await {
        bytes.extend_from_slice(&part?);
        if bytes.len() >= ANSWER_BYTES_MAX {
            break;
        }
    }
    bytes.truncate(ANSWER_BYTES_MAX);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, body: &str) -> Response {
        Response { status, version_id: None, body: body.to_owned() }
    }

    #[test]
    fn an_error_inside_a_success_is_told() {
        let body = "<DeleteResult><Error><Key>k</Key><Code>AccessDenied</Code><Message>no</Message></Error></DeleteResult>";
        assert_eq!(
            response(200, body).answer(),
            Answer::new(200, Some("AccessDenied"), Some("no"))
        );
        let fine = "<DeleteResult><Deleted><Key>k</Key></Deleted></DeleteResult>";
        assert_eq!(response(200, fine).answer(), Answer::new(200, None, None));
        assert_eq!(response(403, "").answer(), Answer::new(403, None, None));
    }
}
