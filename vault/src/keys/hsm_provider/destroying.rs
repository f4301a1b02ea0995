//! The end of a KEK version in its token: destroyed there, not found there, or another key in its place. What its
//! silence is, `silence` says.

use std::time::Instant;

use hsm::{Anomaly, HsmError};

use super::making::blocking;
use super::news::News;
use super::running::Running;
use super::silence::{self, Heard};
use super::{HsmProvider, MANAGE, in_token};
use crate::domain::TenantName;
use crate::keys::{Error, HowEnded, KekEnd, KekRecord, KeyRecords, Looked, NotAsked, Seen, SeenToken, Statement};

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
        let silent = |seen| Ok(KekEnd { how: HowEnded::Stated, token: None, seen: Some(seen) });
        let is_stated = statement == Statement::TokenLost;
        if is_stated && let Some(why) = self.why_not_asked(records, tenant, kek.provider).await? {
            return Err(Error::NotAsked(why));
        }
        let running = match self.started(records, tenant, kek.provider).await {
            Err(Error::Hsm(HsmError::Quarantined(_))) if is_stated => return silent(Seen::PinRefused),
            running => running?,
        };
        if is_stated && let Some(seen) = self.silence(&running).await? {
            return silent(seen);
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
        let error = match asked.await? {
            Ok(ended) => {
                let how = if ended.was_there { HowEnded::Destroyed } else { HowEnded::NotInToken };
                return Ok(KekEnd { how, token: Some(seen_as(ended.token)), seen: None });
            }
            Err(error) => error,
        };
        self.tell_of_decoy(&running, kek.label(), &error);
        match statement {
            Statement::None => Err(Error::Hsm(error)),
            Statement::TokenLost => {
                let token = running.status().worker.map(|worker| seen_as(worker.token));
                Ok(KekEnd { how: HowEnded::AnotherKey, token, seen: None })
            }
        }
    }

    /// Whether a version's key answers in its token. One of a tenant at a time: each waits as long as a token may be silent.
    pub(in crate::keys) async fn look<R: KeyRecords>(
        &self,
        records: &R,
        tenant: &TenantName,
        record: &KekRecord,
    ) -> Result<Looked, Error> {
        let kek = in_token(record)?;
        let _turn = self.turn_to_make(tenant).await?;
        if let Some(why) = self.why_not_asked(records, tenant, kek.provider).await? {
            return Ok(Looked::NotAsked(why));
        }
        let lost = |seen, how, token| Looked::Gone(KekEnd { how, token, seen: Some(seen) });
        let running = match self.started(records, tenant, kek.provider).await {
            Err(Error::Hsm(HsmError::Quarantined(_))) => {
                return Ok(lost(Seen::PinRefused, HowEnded::StatedLost, None));
            }
            running => running?,
        };
        let (host, canary, patience) = (running.host(), kek.canary.clone(), self.patience());
        let heard = blocking(move || silence::ask(&host, &canary, patience).map_err(Error::Hsm)).await?;
        let token = || running.status().worker.map(|worker| seen_as(worker.token));
        Ok(match heard {
            // One that is there, and must not be used as it is: who rules the token can put that right.
            Heard::Answer(None | Some(Anomaly::Unfit)) => Looked::Answers,
            // Its own may be among them.
            Heard::Answer(Some(Anomaly::Ambiguous)) => Looked::NotAsked(NotAsked::KeysAlike),
            Heard::Answer(Some(Anomaly::Replaced)) => lost(Seen::AnotherKey, HowEnded::AnotherKey, token()),
            Heard::Answer(Some(Anomaly::Missing)) => lost(Seen::NoKey, HowEnded::StatedLost, token()),
            Heard::Silence(seen) => lost(seen, HowEnded::StatedLost, None),
            Heard::NotAsked(why) => Looked::NotAsked(why),
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

fn seen_as(token: hsm::TokenInfo) -> SeenToken {
    SeenToken { label: token.label, serial: token.serial }
}
