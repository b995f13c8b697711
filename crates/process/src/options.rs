//! From the configuration to what the store and the PostgreSQL side take.

use std::path::{Path, PathBuf};

use stonekeep_config::{RepositoryConfig, RepositoryTier, TlsMode};
use stonekeep_postgres::connect::{self, TlsOptions};
use stonekeep_store::{S3Credentials, S3Options};

/// Says how to reach `repository`, with the access key in `credentials_file` or else by the AWS chain.
#[must_use]
pub fn s3(repository: &RepositoryConfig, credentials_file: Option<&Path>) -> S3Options {
    S3Options {
        bucket: repository.bucket.clone(),
        lock_by: repository.lock_by,
        prefix: repository.prefix.clone(),
        region: repository.region.clone(),
        endpoint: repository.endpoint.clone(),
        path_style: repository.path_style,
        ca_file: repository.ca_file.clone(),
        credentials: credentials_file.map_or(S3Credentials::Chain, |path| S3Credentials::File {
            path: path.to_owned(),
            profile: "default".to_owned(),
        }),
    }
}

/// Says the same of each tier's bucket, by the tier's name.
pub fn s3_of_tiers(
    repository: &RepositoryConfig,
    credentials_file: Option<&Path>,
) -> impl Iterator<Item = (String, S3Options)> {
    let whole = s3(repository, credentials_file);
    repository.tiers.iter().map(move |RepositoryTier { name, bucket }| {
        (name.clone(), S3Options { bucket: bucket.clone(), ..whole.clone() })
    })
}

/// Says how the connection to `host` is protected; see [`TlsMode::for_host`] for what holds without a `mode`.
#[must_use]
pub fn tls(
    host: &str,
    mode: Option<TlsMode>,
    ca_file: Option<PathBuf>,
    client_cert_file: Option<PathBuf>,
    client_key_file: Option<PathBuf>,
) -> TlsOptions {
    let mode = match mode.unwrap_or_else(|| TlsMode::for_host(host)) {
        TlsMode::Disable => connect::TlsMode::Disable,
        TlsMode::Require => connect::TlsMode::Require,
        TlsMode::VerifyFull => connect::TlsMode::VerifyFull,
    };
    TlsOptions { mode, ca_file, client_cert_file, client_key_file }
}
