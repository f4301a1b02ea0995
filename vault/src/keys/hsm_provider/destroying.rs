//! The end of a KEK version in its token: destroyed there, not found there, or another key in its place. What a token is asked
//! for that custodians call lost.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use hsm::{Anomaly, HsmError, Phase};

use super::making::blocking;
use super::news::News;
use super::onboarding::connects;
use super::running::Running;
use super::{HsmProvider, MANAGE, in_token};
use crate::domain::TenantName;
use crate::keys::{Error, HowEnded, KekEnd, KekRecord, KeyRecords, SeenToken, Statement};

/// A token that was waited for in vain is not waited for again for so long: the versions of a tenant end one after the other.
const SILENT: Duration = Duration::from_secs(60);

impl HsmProvider {
    /// Destroys a KEK version in its token, unless the token says that it has none. Another key in its place is left alone: it
    /// is no end, except for custodians who state that the version's own is lost.
    pub(in crate::keys) async fn destroy<R: KeyRecords>(
        &self,
        records: &R,
        tenant: &TenantName,
        record: &KekRecord,
        statement: Statement,
    ) -> Result<KekEnd, Error> {
        let kek = in_token(record)?;
        let running = self.started(records, tenant, kek.provider).await?;
        if statement == Statement::TokenLost {
            waited_for(&running, connects()).await?;
        }
        // Its end must not look like somebody's attack. The request itself brings the canary.
        let (left, canary) = (running.without(&kek.canary), kek.canary.clone());
        let asked = self.call(&running, MANAGE, move |host, limit| {
            let until = Instant::now() + limit;
            host.watch(left, limit)?;
            let left = until.saturating_duration_since(Instant::now());
            match host.destroy_kek(&canary.kek.selector, Some(&canary), left) {
                Err(error @ (HsmError::KekReplaced | HsmError::KekAmbiguous(_))) => Ok(Err(error)),
                ended => ended.map(Ok),
            }
        });
        let seen = |token: hsm::TokenInfo| SeenToken { label: token.label, serial: token.serial };
        let error = match asked.await? {
            Ok(ended) => {
                let how = if ended.was_there { HowEnded::Destroyed } else { HowEnded::NotInToken };
                return Ok(KekEnd { how, token: Some(seen(ended.token)) });
            }
            Err(error) => error,
        };
        self.tell_of_decoy(&running, kek.label(), &error);
        match statement {
            Statement::None => Err(Error::Hsm(error)),
            Statement::TokenLost => {
                let token = running.status().worker.map(|worker| seen(worker.token));
                Ok(KekEnd { how: HowEnded::AnotherKey, token })
            }
        }
    }

    /// Whether a version's key answers in its token; nothing if it does. A token that has no such key, or shows another one in its
    /// place, has answered without it.
    pub(in crate::keys) async fn look<R: KeyRecords>(
        &self,
        records: &R,
        tenant: &TenantName,
        record: &KekRecord,
    ) -> Result<Option<KekEnd>, Error> {
        let kek = in_token(record)?;
        let running = self.started(records, tenant, kek.provider).await?;
        waited_for(&running, connects()).await?;
        let running = self.running(records, tenant, kek).await?;
        let findings = self.call(&running, MANAGE, |host, limit| host.ask_canaries(limit)).await?;
        let Some(found) = findings.into_iter().find(|finding| finding.kek == *kek.kek()) else { return Ok(None) };
        let worker = running.status().worker.map(|worker| worker.token);
        let token = worker.map(|token| SeenToken { label: token.label, serial: token.serial });
        Ok(match found.what {
            // It is there, and must not be used as it is: who rules the token can put that right.
            Anomaly::Unfit => None,
            Anomaly::Replaced | Anomaly::Ambiguous => Some(KekEnd { how: HowEnded::AnotherKey, token }),
            // A token that went away a moment ago looks the same: nothing is said of one that was seen.
            Anomaly::Missing => Some(KekEnd { how: HowEnded::StatedLost, token: None }),
        })
    }

    /// An alarm, told as often as any.
    fn tell_of_decoy(&self, running: &Running, label: &str, error: &HsmError) {
        let (tenant, provider) = running.place();
        let what = match error {
            HsmError::KekAmbiguous(_) => {
                "several keys have label and id of the one to be destroyed: remove at the token those that are not it"
            }
            _ => "another key stands where a key was to be destroyed",
        };
        tracing::error!(%tenant, %provider, label, what);
        self.meter.hsm_alarms.inc();
        if running.may_tell() {
            self.news.push(running.news(News::Alarm { kek: Some(label.to_owned()), what: what.to_owned() }));
        }
    }
}

/// Waits until the token is logged in, at most for `wait`: as long as a start may take. What it was silent with. Silence is what an attempt came to that was
/// made since: a worker that has no place yet, or that is on its way, says nothing about its token.
pub(super) async fn waited_for(running: &Arc<Running>, wait: Duration) -> Result<(), Error> {
    let (host, before) = (running.host(), running.status().downs);
    let known = *running.silent.lock().unwrap_or_else(PoisonError::into_inner);
    let is_known = known.is_some_and(|since| since.elapsed() < SILENT);
    if !is_known {
        let waiting = Arc::clone(&host);
        let is_over = move |status: &hsm::Status| {
            matches!(status.phase, Phase::Ready | Phase::Quarantined) || status.downs > before
        };
        blocking(move || {
            waiting.wake();
            Ok(waiting.wait(wait, is_over))
        })
        .await?;
    }
    let status = host.status();
    let silent = match status.phase {
        Phase::Ready => None,
        Phase::Quarantined => Some(HsmError::Quarantined(status.last_error.clone().unwrap_or_default())),
        _ if is_known || status.downs > before || status.phase == Phase::Degraded => {
            Some(HsmError::Unavailable(status.last_error.clone().unwrap_or_else(|| "no worker".to_owned())))
        }
        // It was not asked. The next look asks it.
        _ => return Err(Error::Hsm(HsmError::Overloaded)),
    };
    if !is_known {
        *running.silent.lock().unwrap_or_else(PoisonError::into_inner) = silent.is_some().then(Instant::now);
    }
    silent.map_or(Ok(()), |silent| Err(Error::Hsm(silent)))
}
