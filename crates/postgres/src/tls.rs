//! rustls for PostgreSQL: which certificates are believed.

use std::{path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};

use crate::{
    connect::{TlsMode, TlsOptions},
    pem::Pem,
};

/// Where Debian keeps the system's roots in one file, for libpq in a child process.
const SYSTEM_ROOTS_FILE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read as PEM.
    #[error("cannot read certificates or a key from {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// The system has no roots.
    #[error("the system has no certificate authorities: install ca-certificates or set ca_file")]
    NoRoots,
    /// Only one of certificate and key is given.
    #[error("client_cert_file and client_key_file belong together: set both or none")]
    HalfPair,
    /// rustls does not take them.
    #[error("the certificates cannot be used")]
    Unusable(#[from] rustls::Error),
}

/// Returns the file from which libpq verifies like us.
pub(crate) fn system_roots_file() -> PathBuf {
    PathBuf::from(SYSTEM_ROOTS_FILE)
}

/// Makes the client side of TLS.
pub(crate) fn client_config(options: &TlsOptions) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let builder = if options.mode == TlsMode::Require && options.authorities.is_none() {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
    } else {
        builder.with_root_certificates(roots(options.authorities.as_ref())?)
    };
    let config = match (&options.client_cert, &options.client_key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(cert), Some(key)) => {
            builder.with_client_auth_cert(certificates(cert)?, private_key(key)?)?
        }
        _ => return Err(TlsError::HalfPair),
    };
    Ok(Arc::new(config))
}

fn roots(authorities: Option<&Pem>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    match authorities {
        Some(pem) => {
            certificates(pem)?.into_iter().try_for_each(|certificate| roots.add(certificate))?;
        }
        None => {
            let _counts =
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() { Err(TlsError::NoRoots) } else { Ok(roots) }
}

fn certificates(pem: &Pem) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = match pem.as_text() {
        Some(text) => CertificateDer::pem_slice_iter(text.as_bytes()).collect(),
        None => CertificateDer::pem_file_iter(pem.name()).and_then(Iterator::collect),
    };
    certificates.map_err(|source| TlsError::File { path: pem.name().to_owned(), source })
}

fn private_key(pem: &Pem) -> Result<PrivateKeyDer<'static>, TlsError> {
    let key = match pem.as_text() {
        Some(text) => PrivateKeyDer::from_pem_slice(text.as_bytes()),
        None => PrivateKeyDer::from_pem_file(pem.name()),
    };
    key.map_err(|source| TlsError::File { path: pem.name().to_owned(), source })
}

/// Believes any certificate, as libpq's `require` does: the line is encrypted, the other end is not proven.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
