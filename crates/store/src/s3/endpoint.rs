//! Which endpoints are taken.

use std::net::IpAddr;

use http::{Uri, uri::Scheme};

use crate::OptionsError;

/// Checks an endpoint: https to anywhere, http to this host only, and nothing in the URL but scheme, host and port.
///
/// Plain http would show the listing, the manifests and the times of backups to the network, and let it answer in the server's
/// name; `Date`, on which locks rest, among the rest.
pub(super) fn check(endpoint: &str) -> Result<(), OptionsError> {
    let malformed = || OptionsError::Endpoint { endpoint: endpoint.to_owned() };
    let uri: Uri = endpoint.parse().map_err(|_| malformed())?;
    let authority = uri.authority().ok_or_else(malformed)?;
    let bare = uri.path_and_query().is_none_or(|rest| rest == "/");
    if !bare || authority.as_str().contains('@') || authority.host().is_empty() {
        return Err(malformed());
    }
    match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => Ok(()),
        Some(scheme) if *scheme == Scheme::HTTP && is_loopback(authority.host()) => Ok(()),
        Some(scheme) if *scheme == Scheme::HTTP => {
            Err(OptionsError::PlainHttp { endpoint: endpoint.to_owned() })
        }
        _ => Err(malformed()),
    }
}

/// Whether the endpoint is AWS itself, where a bucket is made with its region spelled out.
pub(super) fn is_aws(endpoint: Option<&str>) -> bool {
    endpoint.is_none_or(|endpoint| {
        let host = endpoint.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_lowercase));
        host.is_some_and(|host| {
            host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn")
        })
    })
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_taken_on_loopback_only() {
        for endpoint in [
            "http://127.0.0.1:7480",
            "http://127.9.9.9",
            "http://[::1]:80/",
            "http://localhost:9000",
            "https://s3.example.com",
            "https://192.0.2.1:8443/",
        ] {
            assert!(check(endpoint).is_ok(), "{endpoint}");
        }
        for endpoint in [
            "http://s3.example.com",
            "http://10.0.0.1:9000",
            "http://localhost.example.com",
            "http://127.0.0.1.example.com",
            "http://0.0.0.0:80",
            "http://[::ffff:192.0.2.1]:80",
            "HTTP://s3.example.com",
        ] {
            let refused = check(endpoint);
            assert!(
                matches!(refused, Err(OptionsError::PlainHttp { .. })),
                "{endpoint} {refused:?}"
            );
        }
    }

    #[test]
    fn an_endpoint_is_scheme_host_and_port() {
        for endpoint in [
            "s3.example.com",
            "https://",
            "https://s3.example.com/bucket",
            "https://s3.example.com/?x",
            "https://user:secret@s3.example.com",
            "http://127.0.0.1@s3.example.com",
            "ftp://127.0.0.1",
            "",
        ] {
            let refused = check(endpoint);
            assert!(
                matches!(refused, Err(OptionsError::Endpoint { .. })),
                "{endpoint} {refused:?}"
            );
        }
    }

    #[test]
    fn aws_is_known_by_its_host() {
        assert!(is_aws(None));
        assert!(is_aws(Some("https://s3.eu-central-1.amazonaws.com")));
        assert!(!is_aws(Some("https://amazonaws.com.example.net")));
    }
}
