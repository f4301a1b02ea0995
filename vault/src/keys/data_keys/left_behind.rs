//! Data keys whose own token does not answer and is not the tenant's present one: nothing waits for it. What is sealed from now on is
//! sealed beside them, and what only they open is out of reach until their token is back, if it ever is.

use std::sync::Arc;
use std::time::Duration;

use crate::crypto::DataKey;
use crate::domain::{DataKeyId, TenantName, chain};
use crate::keys::cache::{Ticket, Use};
use crate::keys::records::{DataKeyRow, KekRecord};
use crate::keys::{Error, KeyRecords, Keys};

/// So long a token that was left is asked before another data key is begun: what is made then needs the rest of the time that
/// a request has.
const ASKED: Duration = Duration::from_millis(600);

/// What became of a data key that was to be wrapped anew.
#[derive(Debug)]
pub enum Rewrap {
    /// Wrapped under the active version.
    Renewed(DataKeyRow),
    /// The time of its erasure key is over: the row can go.
    Erased,
    /// Its own token was left and does not open it now.
    LeftBehind(Error),
}

impl Keys {
    /// The opened data key of a row that seals now; nothing if it is wrapped under another version than the active one and does
    /// not open there: then another is begun beside it.
    pub(super) async fn opened_to_seal<R: KeyRecords>(
        &self,
        records: &R,
        row: &DataKeyRow,
        to: (Use, Ticket),
    ) -> Result<Option<Arc<DataKey>>, Error> {
        if let Some(key) = self.inner.cache.choose(&row.tenant, (row.class, row.epoch), row.data_key_id, to) {
            return Ok(Some(key));
        }
        let active = records.active_kek(&row.tenant).await?;
        if active.is_none_or(|kek| (kek.kek_id, kek.version) == (row.kek_id, row.kek_version)) {
            return self.open(records, row, to).await.map(Some);
        }
        let opened = tokio::time::timeout(ASKED, self.open(records, row, to)).await;
        match opened.unwrap_or_else(|_| Err(Error::timed_out())) {
            Err(error @ (Error::Hsm(_) | Error::Unavailable(_))) => {
                let (tenant, class) = (&row.tenant, row.class);
                tracing::warn!(%tenant, %class, data_key_id = %row.data_key_id, error = chain(&error), "a data key does not open where it was left: another is begun");
                Ok(None)
            }
            opened => opened.map(Some),
        }
    }

    /// Whether a data key that did not open is in a token that nobody needs to wait for: one that was left, or that refuses for good.
    /// The outage of the token in use, of the key store or of the database is none of these.
    pub(super) async fn is_left_behind<R: KeyRecords>(
        &self,
        records: &R,
        row: &DataKeyRow,
        error: &Error,
    ) -> Result<bool, Error> {
        let is_outage = match error {
            Error::Hsm(error) => error.is_outage(),
            Error::Unavailable(_) => true,
            _ => return Ok(false),
        };
        let kek = records.load_kek(&row.tenant, row.kek_id, row.kek_version).await?;
        let Some((kek, its)) = kek.and_then(|kek| Some((kek.state, kek.hsm?.provider))) else { return Ok(false) };
        if !is_outage {
            return Ok(true);
        }
        let present = records.active_kek(&row.tenant).await?.and_then(|kek| kek.hsm).map(|hsm| hsm.provider);
        Ok(!kek.may_wrap() && present != Some(its))
    }

    /// Whether a rewrap goes on without it: the token in use, if that is what does not answer, is needed for all that follows.
    pub(super) async fn is_passed_over<R: KeyRecords>(
        &self,
        records: &R,
        (row, active): (&DataKeyRow, &KekRecord),
        error: &Error,
    ) -> Result<bool, Error> {
        use hsm::HsmError::{KekAmbiguous, KekNotFound, KekReplaced, KekUnfit};
        if let Error::Hsm(KekNotFound | KekReplaced | KekAmbiguous(_) | KekUnfit(_)) = error {
            return Ok(true);
        }
        let kek = records.load_kek(&row.tenant, row.kek_id, row.kek_version).await?;
        let provider = |kek: &KekRecord| kek.hsm.as_ref().map(|hsm| hsm.provider);
        let is_elsewhere = kek.as_ref().and_then(provider) != provider(active);
        Ok(is_elsewhere && self.is_left_behind(records, row, error).await?)
    }

    /// The same of a data key by its id, for whoever waits for it.
    ///
    /// # Errors
    /// [`Error::Records`].
    pub async fn is_out_of_reach<R: KeyRecords>(
        &self,
        records: &R,
        (tenant, id): (&TenantName, DataKeyId),
        error: &Error,
    ) -> Result<bool, Error> {
        match records.load_data_key(tenant, id).await? {
            Some(row) => self.is_left_behind(records, &row, error).await,
            None => Ok(false),
        }
    }
}
