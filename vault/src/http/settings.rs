//! What the listeners are told: the public origin, limits, the switches of `siv dev`. Read from files by config, not here.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderMap;
use ipnet::IpNet;

use super::rate::Rates;
use crate::domain::TenantName;

/// Settings of both listeners.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The vault's origin as browsers see it, such as `https://vault.example`.
    pub public_origin: String,
    /// Whether captures may come unsealed inside TLS.
    pub plain_capture: bool,
    /// The tenant that an operator of the installation means without naming one (`siv dev`: `demo`).
    pub default_tenant: Option<TenantName>,
    /// How often somebody may ask.
    pub rates: Rates,
    /// Requests under way on each listener; more are answered 503 at once.
    pub most_requests: usize,
    /// How long a public request may take; a private one may take twice as long.
    pub request_time: Duration,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Folders whose disk is watched, each with what lies there.
    pub disks: Vec<(&'static str, PathBuf)>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            public_origin: "http://127.0.0.1:8080".to_owned(),
            plain_capture: false,
            default_tenant: None,
            rates: Rates::default(),
            most_requests: 1024,
            request_time: Duration::from_secs(30),
            trusted_proxies: Vec::new(),
            disks: Vec::new(),
        }
    }
}

impl Settings {
    /// Who asks: the peer, or the last address before our own proxies.
    pub(crate) fn client_address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let trusted = |address: &IpAddr| self.trusted_proxies.iter().any(|net| net.contains(address));
        let mut address = peer.to_canonical();
        if !trusted(&address) {
            return address;
        }
        let lists: Vec<&str> =
            headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok()).collect();
        for hop in lists.iter().rev().flat_map(|list| list.rsplit(',')) {
            let Ok(before) = hop.trim().parse::<IpAddr>() else { break };
            address = before.to_canonical();
            if !trusted(&address) {
                break;
            }
        }
        address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forwarded_address_is_believed_from_our_proxies_only() {
        let settings = Settings { trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()], ..Settings::default() };
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "198.51.100.9, 203.0.113.7, 10.1.1.1".parse().unwrap());
        let seen = |peer: &str| settings.client_address(peer.parse().unwrap(), &headers).to_string();
        assert_eq!(seen("10.9.9.9"), "203.0.113.7");
        assert_eq!(seen("198.51.100.1"), "198.51.100.1");
    }
}
