//! The HTTP client of one tenant and destination, and the class of each of its failures.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Certificate, Client, redirect, retry};
use url::Url;

use super::egress::EgressPolicy;
use super::resolver::{FilteringResolver, Unresolved};
use crate::flows::error::{DeniedReason, Error, FailedReason};

/// How long a connection waits for its next request. Its buffers still hold the last one, so it is closed before two
/// seconds are over (promise 10). The pool looks around at intervals of this length: twice this is the longest. It is also
/// shorter than the keep-alive of common servers, so that no request is sent into a connection that is just being closed.
const IDLE: Duration = Duration::from_millis(900);
const CONNECT: Duration = Duration::from_secs(10);

/// Builds the client; nothing if the TLS library refuses.
pub(super) fn build(policy: Arc<EgressPolicy>, roots: &[Certificate], url: &Url) -> Option<Client> {
    let port = url.port_or_known_default()?;
    let builder = Client::builder()
        .http1_only()
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .no_proxy()
        .no_gzip()
        .referer(false)
        .dns_resolver(FilteringResolver::new(policy, port))
        .connect_timeout(CONNECT)
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(32)
        .user_agent("siv");
    let builder = match (url.scheme() == "http", roots.is_empty()) {
        // Loopback under `siv dev` needs no certificates, and a bare container has none.
        (true, _) => builder.tls_certs_only([]),
        (false, true) => builder.https_only(true),
        (false, false) => builder.https_only(true).tls_certs_merge(roots.iter().cloned()),
    };
    builder.build().ok()
}

/// The class of a failure. Its text may hold foreign words and goes no further.
pub(super) fn class(error: &reqwest::Error) -> Error {
    if let Some(unresolved) = cause::<Unresolved>(error) {
        return match unresolved {
            Unresolved::Denied => Error::DestinationDenied(DeniedReason::Address),
            Unresolved::Unknown => Error::DestinationFailed(FailedReason::Name),
        };
    }
    if error.is_timeout() {
        Error::DestinationTimeout
    } else if error.is_connect() || error.is_builder() {
        Error::DestinationFailed(FailedReason::Connection)
    } else {
        Error::DestinationFailed(FailedReason::Broken)
    }
}

fn cause<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}
