//! Resolves names to addresses that may be spoken to; those very addresses are connected to, nothing resolves again.

use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::egress::EgressPolicy;

/// The system's resolver behind the egress policy.
pub(super) struct FilteringResolver {
    policy: Arc<EgressPolicy>,
    /// The port that will be connected to.
    port: u16,
}

/// Why a name has no address to speak to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unresolved {
    /// One of its addresses may not be spoken to. One is enough: a name that mixes them is up to something.
    #[error("denied")]
    Denied,
    /// The name has no address.
    #[error("unknown")]
    Unknown,
}

impl FilteringResolver {
    pub(super) const fn new(policy: Arc<EgressPolicy>, port: u16) -> Self {
        Self { policy, port }
    }
}

impl Resolve for FilteringResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (policy, port) = (Arc::clone(&self.policy), self.port);
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), port)).await.map_err(|_| Unresolved::Unknown)?;
            let addresses = admitted(&policy, found.collect())?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// The addresses, if each of them may be spoken to.
fn admitted(policy: &EgressPolicy, addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Unresolved> {
    if addresses.is_empty() {
        return Err(Unresolved::Unknown);
    }
    if addresses.iter().all(|address| policy.permits(*address)) { Ok(addresses) } else { Err(Unresolved::Denied) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_forbidden_address_denies_the_name() {
        let policy = EgressPolicy::default();
        let addresses = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
        assert!(admitted(&policy, addresses(&["1.1.1.1:0", "[2606:4700::1]:0"])).is_ok());
        assert_eq!(admitted(&policy, addresses(&["1.1.1.1:0", "127.0.0.1:0"])), Err(Unresolved::Denied));
        assert_eq!(admitted(&policy, addresses(&["[::ffff:10.0.0.1]:0"])), Err(Unresolved::Denied));
        assert_eq!(admitted(&policy, Vec::new()), Err(Unresolved::Unknown));
    }
}
