//! `[status]`: where the service shows how it is, and how much of it.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Deserializer, de::Error};

/// Where the page is served unless said otherwise: on the own host only. It has no passwords, so whoever can reach it can read
/// it. The port is none that IANA gave out.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9620);
/// What stands for "nowhere".
const OFF: &str = "off";

/// What `stonekeepd run` shows of itself over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StatusConfig {
    /// Where; `None`: nowhere.
    #[serde(deserialize_with = "listen")]
    pub listen: Option<SocketAddr>,
    /// Whether databases and repositories are called by their names there, and failures are told in full. Otherwise they are
    /// numbered in the order of the configuration.
    pub show_names: bool,
}

impl Default for StatusConfig {
    fn default() -> Self {
        Self { listen: Some(LISTEN), show_names: false }
    }
}

fn listen<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(from)?;
    if text == OFF {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        D::Error::custom(format!(
            "{text:?} is no address: give an IP address and a port, such as \"{LISTEN}\" or \"[::1]:9620\", or \"{OFF}\""
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<StatusConfig, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn the_page_is_for_the_own_host_unless_said_otherwise() {
        let bare = read("").expect("a section");
        assert_eq!(bare, StatusConfig::default());
        assert!(bare.listen.is_some_and(|address| address.ip().is_loopback()));
        assert!(!bare.show_names);
    }

    #[test]
    fn an_address_is_an_ip_address_and_a_port_or_off() {
        let at = |text: &str| read(&format!("listen = {text:?}")).map(|status| status.listen);
        assert_eq!(at("off"), Ok(None));
        assert_eq!(at("[::1]:9000").map(|address| address.map(|it| it.port())), Ok(Some(9000)));
        assert!(at("0.0.0.0:9620").is_ok());
        for bad in ["", "9620", ":9620", "localhost:9620", "127.0.0.1", "127.0.0.1:99999", "none"] {
            assert!(at(bad).is_err_and(|message| message.contains("no address")), "{bad}");
        }
        assert!(read("port = 1").is_err());
    }
}
