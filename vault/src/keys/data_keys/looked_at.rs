//! What the vault sees of a wrapped data key by itself: which KEK may open it, and whether it is what was written. No key
//! provider works for it.

use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use crate::crypto::LockedKey;
use crate::keys::compromise::Compromise;
use crate::keys::macs::MacPurpose;
use crate::keys::records::{DataKeyRow, KekRecord};
use crate::keys::{Error, KeyRecords, Keys, wrapping};

impl Keys {
    /// Whether [`Keys::rewrap`] would have something to wrap: not if the time of the row's erasure key is over.
    ///
    /// # Errors
    /// As [`Keys::rewrap`], except for what only a key provider knows.
    pub async fn would_rewrap<R: KeyRecords>(&self, records: &R, row: &DataKeyRow) -> Result<bool, Error> {
        let Some(erasure) = self.erasure_key_left(row).await? else { return Ok(false) };
        self.kek_that_opens(records, row).await?;
        self.as_written(row, erasure.as_ref()).map(|_| true)
    }

    /// Whether seal and H bind a row to the KEK version that it names; nothing once the time of its erasure key is over.
    ///
    /// # Errors
    /// [`Error::Erased`] if its erasure key is away before its time; the key store cannot be read.
    pub async fn is_bound(&self, row: &DataKeyRow) -> Result<Option<bool>, Error> {
        let Some(erasure) = self.erasure_key_left(row).await? else { return Ok(None) };
        match self.as_written(row, erasure.as_ref()) {
            Err(Error::Altered) => Ok(Some(false)),
            bound => bound.map(|_| Some(true)),
        }
    }

    /// The erasure key of a row, where its class has one; nothing at all once its time is over. Away before that it is a
    /// fault: a key store that is restored later may mend it.
    pub(in crate::keys) async fn erasure_key_left(&self, row: &DataKeyRow) -> Result<Option<Option<LockedKey>>, Error> {
        match self.erasure_key_to_open(row.class, row.epoch).await {
            Err(Error::Erased) if self.refuse_erased(row.class, row.epoch).is_err() => Ok(None),
            erasure => erasure.map(Some),
        }
    }

    /// W of a row, after seal and H were checked.
    #[expect(clippy::disallowed_methods, reason = "key of the erasure seal")]
    pub(super) fn as_written(
        &self,
        row: &DataKeyRow,
        erasure: Option<&LockedKey>,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let macs = self.inner.macs.all(MacPurpose::DataKey).iter().map(AsRef::as_ref);
        wrapping::wrapped(macs, erasure.map(ExposeSecret::expose_secret), self.realm(), row)
    }

    /// The KEK version that a row names, if it may unwrap.
    pub(super) async fn kek_that_opens<R: KeyRecords>(
        &self,
        records: &R,
        row: &DataKeyRow,
    ) -> Result<KekRecord, Error> {
        let kek = records.load_kek(&row.tenant, row.kek_id, row.kek_version).await?.ok_or(Error::KekUnusable)?;
        if !kek.state.may_unwrap() || kek.mechanism != row.mechanism {
            return Err(Error::KekUnusable);
        }
        if row.era > 0 && row.era > Compromise::of(&records.keks(&row.tenant).await?).era() {
            return Err(Error::Altered);
        }
        Ok(kek)
    }
}
