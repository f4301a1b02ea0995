//! Where the relay may speak to: schemes, and addresses before and after a name is resolved.

use std::net::{IpAddr, SocketAddr};

use url::{Host, Url};

use super::addresses::is_public;
use crate::flows::error::{DeniedReason, Error};

/// The rules beside "https to public addresses of registered hosts".
#[derive(Debug, Clone, Default)]
pub struct EgressPolicy {
    /// Under `siv dev`: loopback may be spoken to, and by plain http.
    pub allow_loopback_http: bool,
    /// siv's own listeners: never spoken to.
    pub forbidden: Vec<SocketAddr>,
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
            let same = own.ip() == address.ip() || own.ip().is_unspecified();
            own.port() == address.port() && (same || (own.ip().is_loopback() && address.ip().is_loopback()))
        });
        let allowed = is_public(address.ip()) || (self.allow_loopback_http && address.ip().is_loopback());
        allowed && !own
    }
}
