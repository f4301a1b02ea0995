//! What every route can reach, and how work is brought to its end whatever the client does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::detached::ToTheEnd;
use super::metrics::{Metrics, Scrapes};
use super::notes::Notes;
use super::problem::{Code, Problem};
use super::rate::Limits;
use super::routes::health::Probes;
use super::settings::Settings;
use super::waiting::{STRANGERS, Waiting};
use crate::access_log::{Action, Entry, Outcome};
use crate::capture::Capture;
use crate::domain::{Clock, TenantName, Timestamp};
use crate::flows::{EgressPolicy, Runner};
use crate::keys::Keys;
use crate::store::administration::{Act, Administrator, Applied, FIRST_OPERATOR};
use crate::store::tenants::Ground;
use crate::store::{Caller, Catalog, Committer, Error, Store, TenantCatalog};

/// How long an act may wait for its commit.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bundles under way at once.
const EXPORTS: usize = 4;
/// How often a decision is made anew when settings move under it.
const ANEW: usize = 5;

/// The inner rooms, opened and started.
#[derive(Clone)]
pub struct Rooms {
    /// Rows.
    pub store: Store,
    /// The one writer.
    pub committer: Committer,
    /// Keys.
    pub keys: Keys,
    /// Settings of tenants, cached.
    pub catalog: Catalog,
    /// Capture.
    pub capture: Capture,
    /// Runs of flows.
    pub runner: Runner,
    /// Where flows may speak to: what a flow is checked against when it is applied.
    pub egress: EgressPolicy,
    /// Time.
    pub clock: Clock,
}

/// What both listeners share. Cheap to clone.
#[derive(Clone)]
pub struct State {
    inner: Arc<Inner>,
}

struct Inner {
    rooms: Rooms,
    settings: Arc<Settings>,
    limits: Limits,
    strangers: Waiting,
    notes: Notes,
    works: TaskTracker,
    exports: Arc<Semaphore>,
    public: Arc<Metrics>,
    private: Arc<Metrics>,
    scrapes: Scrapes,
    probes: Probes,
    /// Whether this node was asked to end; never taken back.
    ending: AtomicBool,
    /// Whether this node has recorded that the first operator credential is in use.
    bootstrap_closed: AtomicBool,
}

impl State {
    /// Puts the rooms behind the listeners.
    #[must_use]
    pub fn new(rooms: Rooms, settings: Settings) -> Self {
        let limits = Limits::new(&settings.rates);
        let scrapes = Scrapes::new(rooms.clock.now());
        let strangers = Waiting::new(STRANGERS, settings.rates.loopback_free);
        let inner = Inner {
            rooms,
            settings: Arc::new(settings),
            limits,
            strangers,
            notes: Notes::new(),
            works: TaskTracker::new(),
            exports: Arc::new(Semaphore::new(EXPORTS)),
            public: Arc::default(),
            private: Arc::default(),
            scrapes,
            probes: Probes::new(),
            ending: AtomicBool::new(false),
            bootstrap_closed: AtomicBool::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The inner rooms.
    #[must_use]
    pub fn rooms(&self) -> &Rooms {
        &self.inner.rooms
    }

    pub(crate) fn settings(&self) -> &Arc<Settings> {
        &self.inner.settings
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// Bodies that anybody may send and that have not yet come.
    pub(crate) fn strangers(&self) -> &Waiting {
        &self.inner.strangers
    }

    pub(crate) fn notes(&self) -> &Notes {
        &self.inner.notes
    }

    /// Records the use of the first operator credential, once for each start of a node: from then on nobody makes another
    /// on the machine (`siv init`).
    pub(crate) async fn close_bootstrap(&self, caller: &Caller) -> Result<(), Problem> {
        if caller.credential.name != FIRST_OPERATOR || self.inner.bootstrap_closed.load(Ordering::Acquire) {
            return Ok(());
        }
        let closed = Action::Admin("bootstrap.closed");
        let entry = Entry::new(TenantName::system(), self.now(), closed, Outcome::Allowed, &caller.context);
        self.record(entry).await?;
        self.inner.bootstrap_closed.store(true, Ordering::Release);
        Ok(())
    }

    pub(crate) fn public_metrics(&self) -> &Arc<Metrics> {
        &self.inner.public
    }

    pub(crate) fn private_metrics(&self) -> &Arc<Metrics> {
        &self.inner.private
    }

    /// What scrapes share.
    pub(crate) fn scrapes(&self) -> &Scrapes {
        &self.inner.scrapes
    }

    /// What probes share.
    pub(crate) fn probes(&self) -> &Probes {
        &self.inner.probes
    }

    /// Says that this node will end: `/readyz` is 503 from now on, and everything is served all the same.
    pub fn announce_end(&self) {
        self.inner.ending.store(true, Ordering::Release);
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.inner.ending.load(Ordering::Acquire)
    }

    /// Places for bundles under way.
    pub(crate) fn exports(&self) -> Arc<Semaphore> {
        Arc::clone(&self.inner.exports)
    }

    pub(crate) fn works(&self) -> &TaskTracker {
        &self.inner.works
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.inner.rooms.clock.now()
    }

    pub(crate) fn deadline(&self) -> Timestamp {
        self.now().plus(PATIENCE)
    }

    /// Does work that must not stop in the middle when the client goes away or the request's time is up.
    pub(crate) fn to_the_end<T, W>(&self, work: W) -> ToTheEnd<Result<T, Problem>>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, Problem>> + Send + 'static,
    {
        ToTheEnd::new(work, &self.inner.works)
    }

    /// Nothing is served from logs that cannot be relied on; auditors may still look.
    pub(crate) fn serving(&self) -> Result<(), Problem> {
        let serving = self.rooms().store.log_health().is_serving();
        if serving { Ok(()) } else { Err(Problem::new(Code::LogUnavailable)) }
    }

    /// A tenant's settings.
    pub(crate) async fn tenant(&self, name: &TenantName) -> Result<Arc<TenantCatalog>, Problem> {
        self.rooms()
            .catalog
            .tenant(name)
            .await?
            .ok_or_else(|| Problem::new(Code::NotFound).with_fault("tenant", "unknown"))
    }

    /// Commits an administrative act; decides anew while the tenant's settings move under it.
    pub(crate) async fn administer(
        &self,
        caller: Caller,
        decide: impl Fn(&TenantCatalog, Administrator) -> Result<Act, Problem> + Send + 'static,
    ) -> Result<Applied, Problem> {
        let state = self.clone();
        self.to_the_end(async move {
            let mut tenant = Arc::clone(&caller.tenant);
            let name = tenant.tenant.name.clone();
            for _ in 0..ANEW {
                let by = state.administrator(&tenant, &caller);
                let decided = state.rooms().committer.submit(decide(&tenant, by)?).await;
                state.rooms().catalog.refresh(&name);
                match decided {
                    Ok(committed) => return Ok(committed.output),
                    Err(Error::Stale) => tenant = state.tenant(&name).await?,
                    Err(error) => return Err(error.into()),
                }
            }
            Err(Problem::new(Code::Overloaded))
        })
        .await
    }

    /// Who acts on a tenant under its present settings.
    pub(crate) fn administrator(&self, tenant: &TenantCatalog, caller: &Caller) -> Administrator {
        Administrator {
            tenant: tenant.tenant.name.clone(),
            generation: Some(tenant.generation),
            context: caller.context.clone(),
            realm: self.rooms().keys.realm().clone(),
            deadline: self.deadline(),
        }
    }

    /// Who acts for the whole installation.
    pub(crate) fn installation(&self, caller: &Caller) -> Administrator {
        Administrator {
            tenant: TenantName::system(),
            generation: None,
            context: caller.context.clone(),
            realm: self.rooms().keys.realm().clone(),
            deadline: self.deadline(),
        }
    }

    /// Whether a caller's credential is the installation's own, whichever tenant it names.
    pub(crate) async fn is_installations(&self, caller: &Caller) -> Result<bool, Problem> {
        let found = self.rooms().catalog.credential(&caller.credential.credential_id).await?;
        Ok(found.is_some_and(|(tenant, _, _)| tenant.is_system()))
    }

    /// The rooms a tenant is made with.
    pub(crate) fn ground(&self) -> Ground<'_> {
        let rooms = self.rooms();
        Ground { store: &rooms.store, committer: &rooms.committer, keys: &rooms.keys }
    }
}
