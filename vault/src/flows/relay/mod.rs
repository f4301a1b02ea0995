//! The relay: speaks to destinations, and to nothing that is not one.
//!
//! There is one client, and so one pool of connections, per tenant and destination: no connection is ever shared
//! between tenants. Plain HTTP/1.1 over TLS: one parser, no multiplexing.

mod addresses;
mod answer;
mod client;
mod egress;
mod meter;
mod resolver;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;
use hyper::body::Bytes;
use moka::sync::Cache;
use reqwest::Certificate;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tracing::Instrument as _;
use zeroize::Zeroizing;

pub use self::egress::EgressPolicy;
pub use self::meter::Meter;
use super::error::{Error, FailedReason};
use crate::domain::TenantName;

/// How many tenants' destinations keep a client, and for how long without use.
const MOST_CLIENTS: u64 = 256;
const IDLE: Duration = Duration::from_secs(300);

/// A rendered request. Its body is wiped.
pub struct RelayRequest {
    /// The method.
    pub method: http::Method,
    /// Where to.
    pub url: url::Url,
    /// Headers; values that held a secret are marked sensitive.
    pub headers: HeaderMap,
    /// The body with its media type.
    pub body: Option<(&'static str, Zeroizing<Vec<u8>>)>,
    /// For the whole exchange.
    pub timeout: Duration,
}

/// Sends requests.
#[derive(Debug, Clone)]
pub struct Relay {
    policy: Arc<EgressPolicy>,
    roots: Arc<[Certificate]>,
    clients: Cache<(TenantName, String), reqwest::Client>,
    meter: Arc<Meter>,
}

impl Relay {
    /// A relay under a policy. It trusts the system's root certificates.
    #[must_use]
    pub fn new(policy: EgressPolicy) -> Self {
        let clients = Cache::builder().max_capacity(MOST_CLIENTS).time_to_idle(IDLE).build();
        Self { policy: Arc::new(policy), roots: Arc::new([]), clients, meter: Arc::default() }
    }

    /// The same relay that trusts these root certificates (PEM) too, for destinations of a private authority.
    ///
    /// # Errors
    /// [`Error::Invalid`] if they are none.
    pub fn trusting(self, roots_pem: &[u8]) -> Result<Self, Error> {
        let wrong = || Error::Invalid("root certificates: are no PEM certificates".to_owned());
        let (mut roots, mut sound) = (Vec::new(), rustls::RootCertStore::empty());
        for der in CertificateDer::pem_slice_iter(roots_pem) {
            let der = der.map_err(|_| wrong())?;
            roots.push(Certificate::from_der(&der).map_err(|_| wrong())?);
            // reqwest reads them only when it connects.
            sound.add(der).map_err(|_| wrong())?;
        }
        if roots.is_empty() {
            return Err(wrong());
        }
        Ok(Self { roots: roots.into(), ..Self::new((*self.policy).clone()) })
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &EgressPolicy {
        &self.policy
    }

    /// Sends a request and reads the answer's body, bounded in size and time.
    ///
    /// # Errors
    /// [`Error::DestinationDenied`], [`Error::DestinationFailed`], [`Error::DestinationTimeout`]: classes only, never
    /// a word of the destination's.
    pub async fn send(&self, tenant: &TenantName, request: RelayRequest) -> Result<Zeroizing<Vec<u8>>, Error> {
        let span = tracing::debug_span!("relay", destination = request.url.host_str(), outcome = tracing::field::Empty);
        let began = Instant::now();
        let sent = self.sent(tenant, request).instrument(span.clone()).await;
        self.meter.times.took(began.elapsed());
        span.record("outcome", self.meter.ended(&sent));
        sent
    }

    /// What it counted.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    async fn sent(&self, tenant: &TenantName, request: RelayRequest) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.policy.admit(&request.url)?;
        let timeout = request.timeout;
        let exchange = self.exchange(tenant, request);
        tokio::time::timeout(timeout, exchange).await.unwrap_or(Err(Error::DestinationTimeout))
    }

    async fn exchange(&self, tenant: &TenantName, request: RelayRequest) -> Result<Zeroizing<Vec<u8>>, Error> {
        let client = self.client(tenant, &request.url).await?;
        let mut outgoing = client.request(request.method, request.url).headers(request.headers);
        if let Some((media_type, body)) = request.body {
            // The bytes stay in our buffer, which is wiped when the last reader lets go of it.
            outgoing = outgoing.header(http::header::CONTENT_TYPE, media_type).body(Bytes::from_owner(Body(body)));
        }
        let response = outgoing.send().await.map_err(|error| client::class(&error))?;
        answer::read(response).await
    }

    async fn client(&self, tenant: &TenantName, url: &url::Url) -> Result<reqwest::Client, Error> {
        let named = (tenant.clone(), url.origin().ascii_serialization());
        if let Some(client) = self.clients.get(&named) {
            return Ok(client);
        }
        let (policy, roots, url) = (Arc::clone(&self.policy), Arc::clone(&self.roots), url.clone());
        // Reading the system's root certificates takes a while.
        let built = tokio::task::spawn_blocking(move || client::build(policy, &roots, &url)).await;
        let client = built.ok().flatten().ok_or(Error::DestinationFailed(FailedReason::Connection))?;
        self.clients.insert(named, client.clone());
        Ok(client)
    }
}

struct Body(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
pub(in crate::flows) mod test_destination;
#[cfg(test)]
mod tests;
