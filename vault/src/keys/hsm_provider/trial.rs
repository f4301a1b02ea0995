//! What taking on a token would come to: it is reached, its key is looked at or a throw-away one is tried, and nothing of it
//! is kept. The one login is the only thing that leaves a trace.

use super::HsmProvider;
use super::making::{Known, blocking, is_known, settled, token_kek, watching};
use super::onboarding::{self, HsmWish};
use crate::domain::{TenantName, Timestamp};
use crate::keys::{Error, KekRecord, KeyRecords, Keys, SeenToken};

/// What would be taken on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TriedToken {
    /// The profile that would be pinned.
    pub profile: String,
    /// The token.
    pub token: SeenToken,
    /// Whether the present version's key answers there.
    pub is_beside: bool,
}

impl TriedToken {
    /// The token's serial number, where it has one.
    #[must_use]
    pub fn serial(&self) -> Option<String> {
        Some(self.token.serial.clone()).filter(|serial| !serial.is_empty())
    }
}

impl Keys {
    /// What [`Keys::move_to_hsm`] would do now.
    ///
    /// # Errors
    /// Those of [`Keys::move_to_hsm`].
    pub async fn try_hsm<R: KeyRecords>(
        &self,
        records: &R,
        tenant: &TenantName,
        active: &KekRecord,
        wish: HsmWish,
        now: Timestamp,
    ) -> Result<TriedToken, Error> {
        let known = Known::of(records, tenant, active).await?;
        self.inner.provider.hsm.try_out(records, tenant, (wish, known), now).await
    }
}

impl HsmProvider {
    async fn try_out<R: KeyRecords>(
        &self,
        records: &R,
        tenant: &TenantName,
        (wish, known): (HsmWish, Known),
        now: Timestamp,
    ) -> Result<TriedToken, Error> {
        let _turn = self.turn_to_make(tenant).await?;
        let (draft, host, token) = self.reached(records, (&wish, tenant), now).await?;
        let (record, ..) = settled(draft, &token, &known.providers);
        let tried = blocking(move || match &wish.kek {
            Some(label) => {
                onboarding::found(&host, (label, wish.waive)).map(|tried| (host, tried.kek.profile, Some(tried)))
            }
            None => onboarding::would_do(&host).map(|profile| (host, profile, None)),
        });
        let (host, profile, found) = tried.await?;
        let found = found.map(|tried| token_kek(record.provider_id, token.serial.clone(), tried));
        if let Some(kek) = found
            && is_known(records, &kek).await?
        {
            return Err(onboarding::in_use());
        }
        let active = known.active.filter(|kek| kek.provider == record.provider_id);
        let canaries = active.iter().map(|kek| kek.canary.clone()).collect();
        let (host, is_beside) = watching(host, canaries, active).await?;
        // Its end waits for its thread.
        blocking(move || {
            drop(host);
            Ok(())
        })
        .await?;
        let token = SeenToken { label: token.label, serial: token.serial };
        Ok(TriedToken { profile: profile.to_string(), token, is_beside })
    }
}
