//! One running host: how it is started from its row, which canaries it watches, and how it is let go.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hsm::{Canary, Configuration, Host, HsmError, Limits, Phase, Pin, PinSource, Status};
use tokio::sync::Semaphore;

use super::news::{HsmNews, News, Told, is_starting};
use super::{CALL, HANGS, HsmProvider, MANAGE, Place};
use crate::domain::{KeyProviderId, TenantName};
use crate::keys::hsm_records::{HsmKek, ProviderRecord};
use crate::keys::key_store::SecretName;
use crate::keys::{Error, KeyRecords, Seen};

/// Calls of one tenant at once. A worker does four at a time; a few more wait at it.
const TURNS: usize = 8;
/// Address space of a worker: its threads reserve much of it and use little.
const MEMORY: u64 = 2 << 30;
/// Alarms of calls are told so often.
const ALARMS: Duration = Duration::from_secs(60);
/// A token that was waited for in vain is not waited for again for so long.
const SILENT: Duration = Duration::from_secs(60);
/// So long after a failure nothing is asked of a host that is not ready.
const REST: Duration = Duration::from_secs(1);

/// A host with what the vault knows of it.
pub(super) struct Running {
    place: Place,
    version: u64,
    /// Taken at the end, which waits for its thread.
    host: Option<Arc<Host>>,
    turns: Arc<Semaphore>,
    watched: Mutex<Vec<Canary>>,
    failed: Mutex<Option<Instant>>,
    alarmed: Mutex<Option<Instant>>,
    pub(super) told: Mutex<Told>,
    /// When it was waited for in vain, and what was seen.
    silent: Mutex<Option<(Instant, Seen)>>,
}

impl Running {
    pub(super) fn new(place: Place, version: u64, host: Arc<Host>, watched: Vec<Canary>) -> Self {
        Self {
            place,
            version,
            host: Some(host),
            turns: Arc::new(Semaphore::new(TURNS)),
            watched: Mutex::new(watched),
            failed: Mutex::default(),
            alarmed: Mutex::default(),
            told: Mutex::default(),
            silent: Mutex::default(),
        }
    }

    /// The same host under the row that was committed for it.
    pub(super) fn settled(mut self, version: u64) -> Self {
        self.version = version;
        self
    }

    pub(super) const fn place(&self) -> &Place {
        &self.place
    }

    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn host(&self) -> Arc<Host> {
        // Only its drop takes it.
        self.host.as_ref().map(Arc::clone).unwrap_or_else(|| unreachable!("a host lives as long as what holds it"))
    }

    pub(super) const fn turns(&self) -> &Arc<Semaphore> {
        &self.turns
    }

    pub(super) fn status(&self) -> Status {
        self.host().status()
    }

    /// Whether its worker is there: a call need not wait for a place or a start.
    pub(super) fn has_worker(&self) -> bool {
        matches!(self.status().phase, Phase::Ready | Phase::Degraded | Phase::Quarantined)
    }

    pub(super) fn news(&self, what: News) -> HsmNews {
        HsmNews { tenant: self.place.0.clone(), provider: self.place.1, version: self.version, what }
    }

    /// The outage just heard of, while the host is not back: one that waited for it says so for all who come after it.
    pub(super) fn known_outage(&self) -> Option<HsmError> {
        let failed = (*self.failed.lock().unwrap_or_else(PoisonError::into_inner))?;
        let status = self.status();
        let is_up = matches!(status.phase, Phase::Ready | Phase::Idle) || is_starting(&status);
        let away = failed.elapsed() < REST && !is_up;
        away.then(|| HsmError::Unavailable(status.last_error.unwrap_or_else(|| "no worker".to_owned())))
    }

    /// Remembers how the last call ended.
    pub(super) fn heard(&self, error: Option<&HsmError>) {
        let failed = error.filter(|error| error.is_outage()).map(|_| Instant::now());
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = failed;
    }

    /// With what it was silent a moment ago.
    pub(super) fn known_silence(&self) -> Option<Seen> {
        let known = *self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        known.filter(|(since, _)| since.elapsed() < SILENT).map(|(_, seen)| seen)
    }

    /// It was waited for in vain.
    pub(super) fn is_silent(&self, seen: Seen) {
        *self.silent.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), seen));
    }

    /// Whether an alarm of a call is worth an entry: who makes thousands of them fills no log.
    pub(super) fn may_tell(&self) -> bool {
        let mut alarmed = self.alarmed.lock().unwrap_or_else(PoisonError::into_inner);
        if alarmed.is_some_and(|at| at.elapsed() < ALARMS) {
            return false;
        }
        *alarmed = Some(Instant::now());
        true
    }

    /// Adds a canary to those it watches; all of them if it is new.
    fn to_watch(&self, canary: &Canary) -> Option<Vec<Canary>> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.contains(canary) {
            return None;
        }
        watched.push(canary.clone());
        Some(watched.clone())
    }

    /// Takes a canary from those it watches; what is left.
    pub(super) fn without(&self, canary: &Canary) -> Vec<Canary> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|known| known != canary);
        watched.clone()
    }
}

impl Running {
    /// Takes a canary from those it watches, without waiting for the worker to hear of it.
    pub(super) fn no_longer_watch(&self, canary: &Canary) {
        if !self.watched.lock().unwrap_or_else(PoisonError::into_inner).contains(canary) {
            return;
        }
        let (left, host) = (self.without(canary), self.host());
        let told = move || host.watch(left, CALL);
        // A worker that does not hear of it is ended by its host; the next one is told.
        drop(std::thread::Builder::new().name("hsm-unwatch".to_owned()).spawn(told));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(host) = self.host.take() else { return };
        // Its end waits for its thread, and nobody here may wait.
        let _ = std::thread::Builder::new().name("hsm-end".to_owned()).spawn(move || drop(host));
    }
}

impl HsmProvider {
    /// The host of a KEK, started if it is not there; refused where the row says that its PIN was refused.
    pub(super) async fn running<R: KeyRecords>(
        &self,
        records: &R,
        tenant: &TenantName,
        kek: &HsmKek,
    ) -> Result<Arc<Running>, Error> {
        let running = self.started(records, tenant, kek.provider).await?;
        if let Some(canaries) = running.to_watch(&kek.canary) {
            let watch = move |host: &Host, left| host.watch(canaries, left);
            if let Err(error) = self.call(&running, CALL, watch).await {
                running.without(&kek.canary);
                return Err(error);
            }
        }
        Ok(running)
    }

    /// The host of a configuration, whatever keys it watches.
    pub(super) async fn started<R: KeyRecords>(
        &self,
        records: &R,
        tenant: &TenantName,
        provider: KeyProviderId,
    ) -> Result<Arc<Running>, Error> {
        let place = (tenant.clone(), provider);
        // The row first, each time: a PIN that another node, or this one before a restart, found refused is not tried again.
        let (version, record) = records.key_provider(tenant, provider).await?.ok_or(Error::KekUnusable)?;
        if record.quarantined {
            self.hosts().remove(&place);
            return Err(Error::Hsm(HsmError::Quarantined("its PIN was refused".to_owned())));
        }
        let known = self.hosts().get(&place).filter(|running| running.version >= version).cloned();
        match known {
            Some(running) => Ok(running),
            None => self.start(records, place, version, &record).await,
        }
    }

    async fn start<R: KeyRecords>(
        &self,
        records: &R,
        place: Place,
        version: u64,
        record: &ProviderRecord,
    ) -> Result<Arc<Running>, Error> {
        let keks = records.keks(&place.0).await?;
        let usable = keks.iter().filter(|kek| kek.state.may_unwrap()).filter_map(|kek| kek.hsm.as_deref());
        let canaries: Vec<_> = usable.filter(|kek| kek.provider == place.1).map(|kek| kek.canary.clone()).collect();
        let pin = self.pin(&place.0, record).await?;
        let configuration = Configuration { canaries: canaries.clone(), ..configuration(record, pin) };
        let mut hosts = self.hosts();
        // Whoever waited for the same rows and came second takes the first one's.
        if let Some(running) = hosts.get(&place).filter(|running| running.version >= version) {
            return Ok(Arc::clone(running));
        }
        let host = self.launched(configuration)?;
        let running = Arc::new(Running::new(place.clone(), version, Arc::new(host), canaries));
        hosts.insert(place, Arc::clone(&running));
        Ok(running)
    }

    /// Starts a host, which returns at once.
    fn launched(&self, configuration: Configuration) -> Result<Host, Error> {
        self.hosted(configuration, Host::start)
    }

    /// The same with a PIN that somebody has just said.
    pub(super) fn trying(&self, configuration: Configuration, may_try: hsm::MayTry) -> Result<Host, Error> {
        self.hosted(configuration, |launch, configuration, limits| {
            Host::try_out(launch, configuration, limits, may_try)
        })
    }

    fn hosted(
        &self,
        configuration: Configuration,
        begin: impl FnOnce(hsm::Launch, Configuration, Limits) -> Result<Host, HsmError>,
    ) -> Result<Host, Error> {
        let setup = self.setup.get().ok_or(Error::KekUnusable)?;
        // What the settings forbid is not loaded, whatever a row says.
        setup.allows(&configuration.module).map_err(Error::Hsm)?;
        begin(setup.launch.clone(), configuration, limits()).map_err(Error::Hsm)
    }

    async fn pin(&self, tenant: &TenantName, record: &ProviderRecord) -> Result<Pin, Error> {
        let name = SecretName::hsm_pin(tenant, record.provider_id, record.pin_version);
        let bytes = self.store.load(&name).await?.ok_or(Error::KekUnusable)?;
        Pin::new(&bytes).map_err(Error::Hsm)
    }
}

/// What every host here is held to.
pub(super) fn limits() -> Limits {
    Limits { call: HANGS, manage: MANAGE, ..Limits::default() }
}

/// The configuration of a row, without canaries.
pub(super) fn configuration(record: &ProviderRecord, pin: Pin) -> Configuration {
    Configuration {
        module: record.module.clone().into(),
        module_sha256: Some(record.module_sha256),
        token: record.token.clone(),
        pin: PinSource::Given(pin),
        sessions: 4,
        memory_bytes: MEMORY,
        canaries: Vec::new(),
        sha1_for_tests: false,
    }
}
