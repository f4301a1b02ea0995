//! Where the relay may speak to: schemes, and addresses before and after a name is resolved.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use url::{Host, Url};

use super::addresses::is_public;
use crate::flows::error::{DeniedReason, Error};

/// The rules beside "https to public addresses of registered hosts".
#[derive(Debug, Clone, Default)]
pub struct EgressPolicy {
    /// Under `siv dev`: loopback may be spoken to, and by plain http.
    pub allow_loopback_http: bool,
    /// siv's own listeners: never spoken to. One that listens on every address forbids its port on this machine's
    /// addresses, and nowhere else.
    pub forbidden: Vec<SocketAddr>,
    /// Where browsers find this vault, whatever stands in front of it: never spoken to either.
    pub own_url: Option<Url>,
}

impl EgressPolicy {
    /// Whether this address may be asked for at all, before its name is resolved. An address written as an IP literal
    /// never reaches a resolver, so it is judged here.
    ///
    /// # Errors
    /// [`Error::DestinationDenied`] with the reason.
    pub fn admit(&self, url: &Url) -> Result<(), Error> {
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(_)) => None,
            None => return Err(Error::DestinationDenied(DeniedReason::Address)),
        };
        if self.own_url.as_ref().is_some_and(|own| same_place(own, url)) {
            return Err(Error::DestinationDenied(DeniedReason::Address));
        }
        let loopback = literal.map_or_else(|| url.host_str() == Some("localhost"), |address| address.is_loopback());
        match url.scheme() {
            "https" => {}
            "http" if self.allow_loopback_http && loopback => {}
            _ => return Err(Error::DestinationDenied(DeniedReason::Scheme)),
        }
        let port = url.port_or_known_default().unwrap_or_default();
        let denied = literal.is_some_and(|address| !self.permits(SocketAddr::new(address, port)))
            || (literal.is_none() && loopback && !self.allow_loopback_http);
        if denied { Err(Error::DestinationDenied(DeniedReason::Address)) } else { Ok(()) }
    }

    /// Whether this very address may be connected to.
    #[must_use]
    pub fn permits(&self, address: SocketAddr) -> bool {
        // Loopback with the port of a listener is that listener, under whatever address it was bound.
        let own = self.forbidden.iter().any(|own| {
            let both_loopback = own.ip().is_loopback() && address.ip().is_loopback();
            let same = own.ip() == address.ip() || both_loopback;
            own.port() == address.port() && (same || (own.ip().is_unspecified() && is_here(address.ip())))
        });
        let allowed = is_public(address.ip()) || (self.allow_loopback_http && address.ip().is_loopback());
        allowed && !own
    }
}

/// Whether two addresses name one host and port, by whichever scheme.
fn same_place(own: &Url, other: &Url) -> bool {
    let host = |url: &Url| url.host_str().map(|host| host.trim_end_matches('.').to_owned());
    host(own) == host(other) && own.port_or_known_default() == other.port_or_known_default()
}

/// Whether an address is one of this machine's: only those can be bound. Asked only where the port is a listener's own.
fn is_here(address: IpAddr) -> bool {
    address.is_loopback() || UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everywhere() -> EgressPolicy {
        let forbidden = vec!["0.0.0.0:8081".parse().unwrap(), "[::]:8082".parse().unwrap()];
        EgressPolicy { allow_loopback_http: true, forbidden, own_url: None }
    }

    #[test]
    fn a_listener_on_every_address_forbids_its_port_on_this_machine_only() {
        let permits = |address: &str| everywhere().permits(address.parse().unwrap());
        for address in ["1.1.1.1:8081", "[2606:4700:4700::1111]:8081", "1.1.1.1:8082", "127.0.0.1:8083"] {
            assert!(permits(address), "{address}");
        }
        for address in ["127.0.0.1:8081", "127.8.8.8:8081", "[::1]:8081", "127.0.0.1:8082", "[::1]:8082"] {
            assert!(!permits(address), "{address}");
        }
    }

    #[test]
    fn the_vaults_own_origin_is_never_spoken_to() {
        let own_url = Some("https://vault.example/".parse().unwrap());
        let policy = EgressPolicy { own_url, ..EgressPolicy::default() };
        let admits = |url: &str| policy.admit(&url.parse().unwrap()).is_ok();
        assert!(!admits("https://vault.example/v1/flows/x/invoke") && !admits("https://VAULT.example:443/"));
        assert!(!admits("https://vault.example./"));
        assert!(admits("https://vault.example:8443/") && admits("https://acquirer.example/"));
    }
}
