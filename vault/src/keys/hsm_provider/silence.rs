//! What a token is asked for that custodians call lost, and what its silence is. One failed attempt is none, nor is any fault of
//! this node: who acts on it cannot take it back.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hsm::{Anomaly, Canary, Host, HsmError, ModuleFile, Phase, Status};

use super::HsmProvider;
use super::making::blocking;
use super::running::Running;
use crate::domain::{KeyProviderId, TenantName};
use crate::keys::key_store::SecretName;
use crate::keys::{Error, KeyRecords, NotAsked, Seen};

/// Between two looks at a host: a token that is wanted is looked for at the pace of its tenant's readers.
const PACE: Duration = Duration::from_secs(1);
/// After a call that failed though its token had been logged in.
const PAUSE: Duration = Duration::from_millis(200);

/// What a token said.
pub(super) enum Heard {
    /// It answered: what is wrong with the key, if anything is.
    Answer(Option<Anomaly>),
    /// Nobody could log in, all the time.
    Silence(Seen),
    /// It cannot be asked from here.
    NotAsked(NotAsked),
}

/// A host that is waited for, and how it stood before.
struct Wait<'h> {
    host: &'h Host,
    until: Instant,
    downs: u64,
    logged_in: Option<SystemTime>,
}

impl<'h> Wait<'h> {
    fn of(host: &'h Host, patience: Duration) -> Self {
        let Status { downs, canaries_at, .. } = host.status();
        Self { host, until: Instant::now() + patience, downs, logged_in: canaries_at }
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Where it stands after a while, or as soon as it is logged in, or its PIN is refused.
    fn next(&self) -> Phase {
        self.host.wake();
        self.host.wait(self.left().min(PACE), |status| matches!(status.phase, Phase::Ready | Phase::Quarantined));
        self.host.status().phase
    }

    /// What it comes to that nobody saw a login.
    fn over(&self) -> Result<Heard, HsmError> {
        let status = self.host.status();
        if status.phase == Phase::Quarantined {
            return Ok(Heard::Silence(Seen::PinRefused));
        }
        // It was logged in for a moment, or no attempt ended at all: nothing was heard of it.
        let is_unheard = status.canaries_at != self.logged_in || status.downs == self.downs;
        if is_unheard || matches!(status.phase, Phase::Ready | Phase::Degraded) {
            return Err(HsmError::Overloaded);
        }
        match status.failure {
            Some(HsmError::Overloaded) | None => Err(HsmError::Overloaded),
            Some(HsmError::TokenNotFound(_)) => Ok(Heard::Silence(Seen::NoToken)),
            Some(HsmError::DeadlineExceeded) => Ok(Heard::Silence(Seen::NoAnswer)),
            Some(HsmError::Unavailable(_) | HsmError::Protocol(_)) => Ok(Heard::Silence(Seen::Fails)),
            Some(HsmError::TokenAmbiguous(_)) => Ok(Heard::NotAsked(NotAsked::TokensAlike)),
            // A refusal at the door, or a module that cannot be used: whatever it is, it is not the token's.
            Some(_) => Ok(Heard::NotAsked(NotAsked::Unusable)),
        }
    }
}

/// Asks for one key, and again until an answer or the end of the time. An outage of a token that was logged in is no silence.
pub(super) fn ask(host: &Host, canary: &Canary, patience: Duration) -> Result<Heard, HsmError> {
    let wait = Wait::of(host, patience);
    let mut failed = None;
    loop {
        match wait.next() {
            Phase::Ready => match host.look_for(canary, wait.left()) {
                Ok(found) => return Ok(Heard::Answer(found)),
                Err(error) if error.is_outage() || matches!(error, HsmError::Quarantined(_)) => failed = Some(error),
                Err(error) => return Err(error),
            },
            Phase::Degraded => failed = failed.or(Some(HsmError::Overloaded)),
            Phase::Quarantined => break,
            Phase::Idle | Phase::Down | Phase::Connecting => {}
        }
        if wait.left().is_zero() {
            break;
        }
        if failed.is_some() {
            std::thread::sleep(PAUSE.min(wait.left()));
        }
    }
    failed.map_or_else(|| wait.over(), Err)
}

/// Waits for a login, all the time; nothing once there is one.
pub(super) fn login(host: &Host, patience: Duration) -> Result<Option<Heard>, HsmError> {
    let wait = Wait::of(host, patience);
    while !wait.left().is_zero() {
        match wait.next() {
            Phase::Ready => return Ok(None),
            Phase::Quarantined => break,
            _ => {}
        }
    }
    wait.over().map(Some)
}

impl HsmProvider {
    /// How long a token is waited for before it is silent.
    pub(super) fn patience(&self) -> Duration {
        // Without a set-up nobody is waited for: that no token can be asked is said before.
        self.setup.get().map_or(Duration::ZERO, |setup| setup.lost_after)
    }

    /// What of this node keeps it from asking a token, if anything does.
    pub(super) async fn why_not_asked<R: KeyRecords>(
        &self,
        records: &R,
        tenant: &TenantName,
        provider: KeyProviderId,
    ) -> Result<Option<NotAsked>, Error> {
        let Some(setup) = self.setup.get().cloned() else { return Ok(Some(NotAsked::NoSetUp)) };
        let Some((_, record)) = records.key_provider(tenant, provider).await? else {
            return Ok(Some(NotAsked::NoRow));
        };
        if self.store.load(&SecretName::hsm_pin(tenant, provider, record.pin_version)).await?.is_none() {
            return Ok(Some(NotAsked::NoPin));
        }
        let path = PathBuf::from(record.module);
        if setup.allows(&path).is_err() {
            return Ok(Some(NotAsked::NotAllowed));
        }
        let examined = blocking(move || Ok(ModuleFile::examine(&path).map(|file| file.sha256))).await?;
        Ok(match examined {
            Ok(hash) if hash == record.module_sha256 => None,
            Ok(_) => Some(NotAsked::OtherModule),
            Err(_) => Some(NotAsked::NoModule),
        })
    }

    /// With what a token is silent that the custodians of a whole tenant call lost; nothing once it is logged in. Within a minute
    /// it is not waited for again: the versions of a tenant end one after the other.
    pub(super) async fn silence(&self, running: &Arc<Running>) -> Result<Option<Seen>, Error> {
        if let Some(seen) = running.known_silence() {
            return Ok(Some(seen));
        }
        let (host, patience) = (running.host(), self.patience());
        match blocking(move || login(&host, patience).map_err(Error::Hsm)).await? {
            Some(Heard::Silence(seen)) => {
                running.is_silent(seen);
                Ok(Some(seen))
            }
            Some(Heard::NotAsked(why)) => Err(Error::NotAsked(why)),
            Some(Heard::Answer(_)) | None => Ok(None),
        }
    }
}
