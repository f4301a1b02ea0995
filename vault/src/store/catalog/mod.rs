//! The settings of tenants in memory: authenticated rows, valid for one generation, polled twice a second.

mod known;
mod tenant_catalog;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use known::{Known, first_of};
use tokio::time::Instant;

pub use tenant_catalog::{StoredFlow, TenantCatalog};

use super::committer::operation::Generation;
use super::rows::Table;
use super::{Error, Store, engine};
use crate::domain::credential::CredentialRecord;
use crate::domain::{AppName, CredentialId, TenantName};

/// How often generations are read.
const POLL: Duration = Duration::from_millis(500);
/// A generation older than this is read again before it is relied on: what was changed on another node is effective on
/// this one within a second, also when this one was frozen meanwhile.
const FRESH: Duration = Duration::from_secs(1);
/// A node that does not know the generations for this long serves nothing (docs/formats.md section 9).
const BLIND: Duration = Duration::from_secs(2);
/// Everything that decides about a tenant and is kept in memory.
const TABLES: [Table; 7] = [
    Table::Tenants,
    Table::Apps,
    Table::Flows,
    Table::Destinations,
    Table::Credentials,
    Table::Keks,
    Table::KeyProviders,
];

/// The cache of tenants' settings. Cheap to clone.
#[derive(Clone)]
pub struct Catalog {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    seen: RwLock<Seen>,
}

/// What is known.
struct Seen {
    generations: HashMap<TenantName, Generation>,
    /// When that was true.
    at: Instant,
    tenants: HashMap<TenantName, Known>,
    /// Whose credential an id is; the tenant's own row decides.
    credentials: HashMap<CredentialId, TenantName>,
    /// Whose app a name is; likewise.
    apps: HashMap<AppName, TenantName>,
}

impl Catalog {
    /// Starts with nothing read, and polls the generations from now on.
    #[must_use]
    pub fn start(store: Store) -> Self {
        let seen = Seen {
            generations: HashMap::new(),
            // As good as never: the first use reads them itself.
            at: Instant::now().checked_sub(BLIND * 2).unwrap_or_else(Instant::now),
            tenants: HashMap::new(),
            credentials: HashMap::new(),
            apps: HashMap::new(),
        };
        let catalog = Self { inner: Arc::new(Inner { store, seen: RwLock::new(seen) }) };
        tokio::spawn(poll(Arc::downgrade(&catalog.inner)));
        catalog
    }

    /// A tenant's settings; none if there is no such tenant. The system's name gives the installation's own credentials.
    ///
    /// # Errors
    /// [`Error::Tampered`] if a row is not what was written; [`Error::Unavailable`] if the generation is not known for 2 s.
    pub async fn tenant(&self, tenant: &TenantName) -> Result<Option<Arc<TenantCatalog>>, Error> {
        let (newest, now) = (self.generation(tenant).await?, Instant::now());
        let fresh = |known: &Known| known.for_request(newest, now);
        if let Some(catalog) = self.read(|seen| seen.tenants.get(tenant).and_then(fresh)) {
            return Ok(Some(catalog));
        }
        let catalog = self.read_again(tenant).await?;
        self.read(|seen| {
            if let Some(known) = seen.tenants.get(tenant) {
                known.note_use(now);
            }
        });
        Ok(catalog)
    }

    /// The same for what the node does by itself for every tenant there is: it counts as no use, and takes what is known of
    /// the newest generation however old it is. Nothing that a request is answered with may rest on it.
    ///
    /// # Errors
    /// As [`Catalog::tenant`].
    pub async fn look_at(&self, tenant: &TenantName) -> Result<Option<Arc<TenantCatalog>>, Error> {
        let newest = self.generation(tenant).await?;
        match self.read(|seen| seen.tenants.get(tenant).and_then(|known| known.as_known(newest))) {
            Some(catalog) => Ok(Some(catalog)),
            None => self.read_again(tenant).await,
        }
    }

    /// Reads a tenant's settings again at its next use.
    pub fn refresh(&self, tenant: &TenantName) {
        self.write(|seen| {
            if let Some(known) = seen.tenants.get_mut(tenant) {
                known.is_stale = true;
            }
            seen.generations.remove(tenant);
        });
    }

    fn drop_tenant(&self, tenant: &TenantName) {
        self.write(|seen| {
            seen.tenants.remove(tenant);
            seen.generations.remove(tenant);
        });
    }

    /// Forgets tenants that no request asked for in a while, with all that is remembered because of them.
    fn forget_unused(&self) {
        let now = Instant::now();
        let is_unused = |(name, known): (&TenantName, &Known)| known.is_unused(now).then(|| name.clone());
        let unused: HashSet<TenantName> = self.read(|seen| seen.tenants.iter().filter_map(is_unused).collect());
        if unused.is_empty() {
            return;
        }
        self.write(|seen| {
            seen.tenants.retain(|name, _| !unused.contains(name));
            seen.credentials.retain(|_, tenant| !unused.contains(tenant));
            seen.apps.retain(|_, tenant| !unused.contains(tenant));
        });
        // Nobody follows any more what becomes of them: what is still opened must not outlive that.
        unused.iter().for_each(|tenant| self.inner.store.keys().forget_tenant(tenant));
    }

    /// Whom the poll reads again now.
    fn due(&self) -> Vec<TenantName> {
        let now = Instant::now();
        first_of(self.read(|seen| {
            let due = |(name, known): (&TenantName, &Known)| {
                Some((known.due(seen.generations.get(name).copied(), now)?, name.clone()))
            };
            seen.tenants.iter().filter_map(due).collect()
        }))
    }

    /// Every tenant's name.
    ///
    /// # Errors
    /// As [`Catalog::tenant`].
    pub async fn tenants(&self) -> Result<Vec<TenantName>, Error> {
        self.inner.store.tenants().await
    }

    /// The tenant that has an app of this name.
    ///
    /// # Errors
    /// As [`Catalog::tenant`].
    pub async fn tenant_of_app(&self, app: &AppName) -> Result<Option<TenantName>, Error> {
        let routed = self.read(|seen| seen.apps.get(app).cloned());
        let routed = match routed {
            Some(tenant) => Some(tenant),
            None => engine!(self.inner.store, owner_of_app(app))?,
        };
        let Some(tenant) = routed else { return Ok(None) };
        let has = self.tenant(&tenant).await?.is_some_and(|catalog| catalog.apps.contains_key(app));
        Ok(has.then_some(tenant))
    }

    /// A credential with its tenant and keyed hash; whether it is revoked, suspended or expired is for the caller to judge.
    ///
    /// # Errors
    /// As [`Catalog::tenant`].
    pub async fn credential(
        &self,
        credential: &CredentialId,
    ) -> Result<Option<(TenantName, CredentialRecord, [u8; 32])>, Error> {
        let known = self.read(|seen| seen.credentials.get(credential).cloned());
        let tenant = match known {
            Some(tenant) => tenant,
            None => match self.inner.store.row_by_id(Table::Credentials, &credential.to_string()).await? {
                // Settings that do not know it are older than it is: another node made it just now.
                Some(row) => {
                    self.refresh(&row.tenant);
                    row.tenant
                }
                None => return Ok(None),
            },
        };
        let Some(catalog) = self.tenant(&tenant).await? else { return Ok(None) };
        let found = catalog.credentials.get(credential);
        Ok(found.map(|(_, stored)| (tenant, stored.record.clone(), stored.hash)))
    }

    /// The generation of a tenant, at most a second old.
    async fn generation(&self, tenant: &TenantName) -> Result<Generation, Error> {
        let fresh = self.read(|seen| (seen.at.elapsed() < FRESH).then(|| seen.generations.get(tenant).copied()));
        match fresh {
            Some(generation) => Ok(generation.unwrap_or_default()),
            None => {
                read_generations(&self.inner).await?;
                Ok(self.read(|seen| seen.generations.get(tenant).copied()).unwrap_or_default())
            }
        }
    }

    async fn read_again(&self, tenant: &TenantName) -> Result<Option<Arc<TenantCatalog>>, Error> {
        let (store, read_at) = (&self.inner.store, Instant::now());
        let (generation, rows) = engine!(store, settings(&TABLES, tenant))?;
        let rows = rows.into_iter().map(|stored| store.inner.seal.check(stored)).collect::<Result<Vec<_>, _>>()?;
        let Some(catalog) = TenantCatalog::read(tenant, generation, &rows)? else {
            self.drop_tenant(tenant);
            return Ok(None);
        };
        let catalog = Arc::new(catalog);
        self.follow(&catalog);
        self.write(|seen| {
            let generation = seen.generations.entry(tenant.clone()).or_default();
            *generation = catalog.generation.max(*generation);
            for credential in catalog.credentials.keys() {
                seen.credentials.insert(*credential, tenant.clone());
            }
            for app in catalog.apps.keys() {
                seen.apps.insert(app.clone(), tenant.clone());
            }
            let before = seen.tenants.remove(tenant);
            seen.tenants.insert(tenant.clone(), Known::new(Arc::clone(&catalog), read_at, before));
        });
        Ok(Some(catalog))
    }

    /// What the settings mean for opened keys: their age, and their end when a KEK changed its state or the tenant is
    /// sealed (promise 8). A generation moves on too where a data key is closed: what seals is chosen anew with each.
    fn follow(&self, catalog: &TenantCatalog) {
        let (keys, tenant) = (self.inner.store.keys(), &catalog.tenant);
        keys.set_cache_age(&tenant.name, Duration::from_secs(u64::from(tenant.cache_seconds)));
        keys.follow_hsms(&tenant.name, &catalog.providers, catalog.keks.values().map(|(_, kek)| kek));
        let before = self.read(|seen| seen.tenants.get(&tenant.name).map(|known| Arc::clone(&known.catalog)));
        if tenant.sealed || before.as_ref().is_none_or(|before| before.keks != catalog.keks) {
            keys.forget_tenant(&tenant.name);
        } else if before.is_some_and(|before| before.generation != catalog.generation) {
            keys.choose_anew(&tenant.name);
        }
    }

    fn read<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.inner.seen.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.inner.seen.write().unwrap_or_else(PoisonError::into_inner));
    }
}

async fn read_generations(inner: &Inner) -> Result<(), Error> {
    let at = Instant::now();
    let read = async { engine!(inner.store, generations()) };
    let generations = tokio::time::timeout(BLIND, read).await.map_err(|_| Error::Unavailable)??;
    let mut seen = inner.seen.write().unwrap_or_else(PoisonError::into_inner);
    // A slower, older reading must not hide a newer one.
    if at > seen.at {
        (seen.generations, seen.at) = (generations.into_iter().collect(), at);
    }
    Ok(())
}

/// Polls as long as somebody holds the catalog. A tenant whose settings moved on is read at once, so that a seal or a
/// KEK's new state reaches the opened keys without a request.
async fn poll(inner: Weak<Inner>) {
    let mut ticks = tokio::time::interval(POLL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(inner) = inner.upgrade() else { return };
        if let Err(error) = read_generations(&inner).await {
            tracing::warn!(%error, "the generations cannot be read");
            continue;
        }
        let catalog = Catalog { inner };
        catalog.forget_unused();
        for tenant in catalog.due() {
            if let Err(error) = catalog.read_again(&tenant).await {
                tracing::error!(%tenant, %error, "a tenant's settings cannot be read");
                // Whoever asks next hears why; the poll has others to look after.
                catalog.drop_tenant(&tenant);
            }
        }
    }
}
