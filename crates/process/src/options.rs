//! From the configuration to what the store and the PostgreSQL side take.

use std::io;

use secrecy::ExposeSecret;
use stonekeep_config::{
    Access, Given, RepositoryConfig, RepositoryTier, TlsMode, database::TlsGiven,
};
use stonekeep_postgres::{
    connect::{self, TlsOptions},
    pem::Pem,
};
use stonekeep_store::{Authorities, S3Credentials, S3Options};

/// Says how to reach `repository`, with the access key in `access` or else by the AWS chain.
#[must_use]
pub fn s3(repository: &RepositoryConfig, access: &Access) -> S3Options {
    let profile = || "default".to_owned();
    S3Options {
        bucket: repository.bucket.clone(),
        lock_by: repository.lock_by,
        prefix: repository.prefix.clone(),
        region: repository.region.clone(),
        endpoint: repository.endpoint.clone(),
        path_style: repository.path_style,
        authorities: access.authorities.clone().map(|given| match given {
            Given::File(path) => Authorities::File(path),
            Given::Variable { path, text } => {
                Authorities::Text { name: path, pem: text.expose_secret().to_owned() }
            }
        }),
        credentials: match access.credentials.clone() {
            None => S3Credentials::Chain,
            Some(Given::File(path)) => S3Credentials::File { path, profile: profile() },
            Some(Given::Variable { text, .. }) => S3Credentials::Text { text, profile: profile() },
        },
    }
}

/// Says the same of each tier's bucket, by the tier's name.
pub fn s3_of_tiers(
    repository: &RepositoryConfig,
    access: &Access,
) -> impl Iterator<Item = (String, S3Options)> {
    let whole = s3(repository, access);
    repository.tiers.iter().map(move |RepositoryTier { name, bucket }| {
        (name.clone(), S3Options { bucket: bucket.clone(), ..whole.clone() })
    })
}

/// Says how the connection to `host` is protected; see [`TlsMode::for_host`] for what holds without a `mode`.
///
/// # Errors
/// The operating system's: there is no memory for a certificate that is in no file.
pub fn tls(host: &str, mode: Option<TlsMode>, given: TlsGiven) -> io::Result<TlsOptions> {
    let mode = match mode.unwrap_or_else(|| TlsMode::for_host(host)) {
        TlsMode::Disable => connect::TlsMode::Disable,
        TlsMode::Require => connect::TlsMode::Require,
        TlsMode::VerifyFull => connect::TlsMode::VerifyFull,
    };
    let TlsGiven { authorities, client_cert, client_key } = given;
    Ok(TlsOptions {
        mode,
        authorities: authorities.map(pem).transpose()?,
        client_cert: client_cert.map(pem).transpose()?,
        client_key: client_key.map(pem).transpose()?,
    })
}

fn pem(given: Given) -> io::Result<Pem> {
    match given {
        Given::File(path) => Ok(Pem::file(path)),
        Given::Variable { path, text } => Pem::text(path, text),
    }
}
