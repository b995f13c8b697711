//! From options to a client whose every setting is fixed here, not by the environment and not by the SDK's next version.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_config::{
    default_provider::credentials::DefaultCredentialsChain, profile::ProfileFileCredentialsProvider,
};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_s3::{
    Client, Config,
    config::{
        BehaviorVersion, Credentials, Region, RequestChecksumCalculation,
        ResponseChecksumValidation, SharedCredentialsProvider, SharedHttpClient,
        StalledStreamProtectionConfig, retry::RetryConfig, timeout::TimeoutConfig,
    },
};
use aws_smithy_async::{
    rt::sleep::{SharedAsyncSleep, default_async_sleep},
    time::TimeSource,
};
use aws_smithy_http_client::{
    Builder, Connector, ConnectorBuilder,
    proxy::ProxyConfig,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::http::HttpConnectorSettings;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use secrecy::ExposeSecret;
use stonekeep_format::Clock;

use super::{Authorities, S3Credentials, S3Options};
use crate::OptionsError;

/// How long a connection may take to be made: several times the slowest handshake across the world.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// How long a call may take that carries no object.
const CALL_MAX: Duration = Duration::from_secs(60);
/// The slowest line on which objects are still moved (bytes per second, half a megabit): a segment of 16 MiB in 5 minutes.
const BYTES_PER_SEC_MIN: u64 = 64 << 10;
/// How long a transfer may stand still.
const STALL_MAX: Duration = Duration::from_secs(20);

/// Returns how long a call may take that carries `bytes`.
pub(super) const fn transfer_max(bytes: u64) -> Duration {
    Duration::from_secs(CALL_MAX.as_secs() + bytes / BYTES_PER_SEC_MIN)
}

/// Returns the timeouts of a call that carries `bytes`.
pub(super) fn timeouts(bytes: u64) -> TimeoutConfig {
    let limit = transfer_max(bytes);
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_MAX)
        .operation_attempt_timeout(limit)
        .operation_timeout(limit)
        .build()
}

pub(super) async fn client(
    options: &S3Options,
    clock: Arc<dyn Clock>,
) -> Result<Client, OptionsError> {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(options.region.clone()))
        .credentials_provider(credentials(options).await?)
        .http_client(http_client(options)?)
        .time_source(HostTime(clock))
        // A wrong host clock must show: locks are computed from the server's time, and skew is refused, not corrected.
        .disable_clock_skew_correction(true)
        .force_path_style(options.path_style)
        // Content-MD5 and the signed payload hash are what every server checks; the SDK's checksums are not.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        // Retries are in `crate::retry` and nowhere else.
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts(0))
        .stalled_stream_protection(
            StalledStreamProtectionConfig::enabled()
                .upload_enabled(true)
                .download_enabled(true)
                .grace_period(STALL_MAX)
                .build(),
        );
    let config = match &options.endpoint {
        Some(endpoint) => config.endpoint_url(endpoint),
        None => config,
    };
    Ok(Client::from_conf(config.build()))
}

pub(super) async fn credentials(
    options: &S3Options,
) -> Result<SharedCredentialsProvider, OptionsError> {
    Ok(match &options.credentials {
        S3Credentials::Chain => {
            let region = Region::new(options.region.clone());
            let chain = DefaultCredentialsChain::builder().region(region).build().await;
            SharedCredentialsProvider::new(chain)
        }
        S3Credentials::File { path, profile } => {
            read("credentials_file", path)?;
            let files =
                EnvConfigFiles::builder().with_file(EnvConfigFileKind::Credentials, path).build();
            of_profile(files, profile)
        }
        S3Credentials::Text { text, profile } => {
            let kind = EnvConfigFileKind::Credentials;
            let files = EnvConfigFiles::builder().with_contents(kind, text.expose_secret()).build();
            of_profile(files, profile)
        }
        S3Credentials::Static { access_key_id, secret_access_key, session_token } => {
            let token = session_token.as_ref().map(|token| token.expose_secret().to_owned());
            let secret = secret_access_key.expose_secret();
            let credentials = Credentials::new(access_key_id, secret, token, None, "stonekeep");
            SharedCredentialsProvider::new(credentials)
        }
    })
}

fn of_profile(files: EnvConfigFiles, profile: &str) -> SharedCredentialsProvider {
    let provider = ProfileFileCredentialsProvider::builder();
    SharedCredentialsProvider::new(provider.profile_files(files).profile_name(profile).build())
}

fn http_client(options: &S3Options) -> Result<SharedHttpClient, OptionsError> {
    let way = Way::of(options)?;
    Ok(Builder::new().build_with_connector_fn(move |settings, components| {
        way.connector(settings.cloned(), components.and_then(|components| components.sleep_impl()))
    }))
}

/// Returns a connector for single requests, without the SDK around them.
pub(super) fn connector(options: &S3Options) -> Result<Connector, OptionsError> {
    let settings = HttpConnectorSettings::builder().connect_timeout(CONNECT_MAX).build();
    Ok(Way::of(options)?.connector(Some(settings), default_async_sleep()))
}

/// Whom to trust and which way to go.
#[derive(Debug, Clone)]
struct Way {
    trust: TrustStore,
    loopback: bool,
}

impl Way {
    fn of(options: &S3Options) -> Result<Self, OptionsError> {
        let is_plain = |endpoint: &String| endpoint.to_lowercase().starts_with("http:");
        let loopback = options.endpoint.as_ref().is_some_and(is_plain);
        Ok(Self { trust: trust_store(options.authorities.as_ref())?, loopback })
    }

    /// As the SDK's own, but for whom it trusts and which way it goes: a proxy of the environment is taken for https (where it
    /// sees ciphertext), and never on loopback.
    fn connector(
        &self,
        settings: Option<HttpConnectorSettings>,
        sleep: Option<SharedAsyncSleep>,
    ) -> Connector {
        // The builder fails with a trust store of another TLS library only; then the default trust, which is no weaker, stays.
        let tls = TlsContext::builder().with_trust_store(self.trust.clone()).build();
        let proxy = if self.loopback { ProxyConfig::disabled() } else { ProxyConfig::from_env() };
        let mut connector = ConnectorBuilder::default()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(tls.unwrap_or_default())
            .proxy_config(proxy);
        connector.set_connector_settings(settings);
        connector.set_sleep_impl(sleep);
        connector.build()
    }
}

/// With a `ca_file`, its authorities are the only ones trusted: who runs his own does not need the world's.
fn trust_store(authorities: Option<&Authorities>) -> Result<TrustStore, OptionsError> {
    let (path, pem) = match authorities {
        None => return Ok(TrustStore::default()),
        Some(Authorities::File(path)) => (path, read("ca_file", path)?),
        Some(Authorities::Text { name, pem }) => (name, pem.clone().into_bytes()),
    };
    // The SDK panics on a certificate that cannot be parsed, so each is tried here first.
    let unusable = || OptionsError::CaFile { path: path.clone() };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|_| unusable())?;
        roots.add(certificate).map_err(|_| unusable())?;
    }
    if roots.is_empty() {
        return Err(unusable());
    }
    Ok(TrustStore::empty().with_native_roots(false).with_pem_certificate(pem))
}

/// Files that name keys and authorities are small; one that is not is not one (1 MiB).
const FILE_BYTES_MAX: u64 = 1 << 20;

fn read(option: &'static str, path: &Path) -> Result<Vec<u8>, OptionsError> {
    use std::io::Read;
    let failed = |source| OptionsError::File { option, path: PathBuf::from(path), source };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// The host's clock for the SDK: it dates and signs requests.
#[derive(Debug)]
struct HostTime(Arc<dyn Clock>);

impl TimeSource for HostTime {
    fn now(&self) -> SystemTime {
        self.0.now().into()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_ca_file_without_certificates_is_refused() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        let refused = trust_store(Some(&Authorities::File(file.path().to_owned())));
        assert!(matches!(refused, Err(OptionsError::CaFile { .. })), "{refused:?}");
        let missing = trust_store(Some(&Authorities::File("/nowhere/ca.pem".into())));
        assert!(matches!(missing, Err(OptionsError::File { option: "ca_file", .. })));
    }

    #[test]
    fn a_transfer_has_time_for_its_length() {
        assert_eq!(transfer_max(0), CALL_MAX);
        assert_eq!(transfer_max(16 << 20), CALL_MAX + Duration::from_secs(256));
    }
}
