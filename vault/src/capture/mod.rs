//! A field's input -> validated -> sealed -> `secureValueKey`. Nothing here opens a stored value.

mod captures;
pub mod entries;
mod error;
mod known;
mod new_value;
mod owners;
mod pairs;
pub mod presence;
mod puts;
mod request;
mod session;
mod sessions;
mod storing;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;
use std::time::Duration;

pub use error::{Error, Fault};
pub use new_value::{Mould, NewValue};
pub use request::{
    CaptureItem, Content, FieldDescription, FieldName, KeyDescription, OpenedSession, PutItem, SessionDescription,
    SessionRequest, ValueDescription,
};
pub use sessions::Admitted;
use storing::Stored;

use crate::domain::{AppName, Clock};
use crate::keys::Keys;
use crate::store::idempotency::{IdempotencyKey, IdempotencyRequest, Scope};
use crate::store::{Caller, Catalog, Committer, Store};

/// How long a commit may take before the answer is 503: nothing was given out then (promise 3).
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
/// How often a request is decided anew when the tenant's settings move under it.
pub(crate) const ATTEMPTS: usize = 5;

/// Everything about capture. Cheap to clone.
#[derive(Clone)]
pub struct Capture {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    committer: Committer,
    keys: Keys,
    catalog: Catalog,
    clock: Clock,
    pairs: Arc<pairs::Pairs>,
    sessions: known::KnownSessions,
}

impl Capture {
    /// Puts the room together.
    #[must_use]
    pub fn new(store: Store, committer: Committer, keys: Keys, catalog: Catalog, clock: Clock) -> Self {
        let pairs = Arc::new(pairs::Pairs::default());
        let held = Arc::downgrade(&pairs);
        keys.after_wiping(move || held.upgrade().map(|pairs| pairs.sweep()).is_some());
        let sessions = known::KnownSessions::default();
        Self { inner: Arc::new(Inner { store, committer, keys, catalog, clock, pairs, sessions }) }
    }

    /// A caller's request, if it may come twice.
    async fn prepare(
        &self,
        caller: &Caller,
        route: &'static str,
        (app, sensitive): (&AppName, bool),
        idempotency: Option<IdempotencyKey>,
    ) -> Result<Option<Arc<IdempotencyRequest>>, Error> {
        let Some(given) = idempotency else { return Ok(None) };
        let scope = Scope { tenant: caller.tenant_name(), route, subject: app.as_str(), session: None, sensitive };
        let (place, now) = ((&self.inner.keys, &self.inner.store), self.inner.clock.now());
        Ok(Some(Arc::new(IdempotencyRequest::prepare(given, scope, Arc::clone(&caller.secret), place, now).await?)))
    }
}
