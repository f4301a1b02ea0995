//! Where KEKs live: the built-in KMS, or a customer's token. Which one, the KEK version's record says.

use zeroize::Zeroizing;

use super::hsm_provider::{HsmProvider, in_token};
use super::local_kms::{self, LocalKms};
use super::records::{DataKeyRow, KekRecord};
use super::{Error, KeyRecords};

/// Wraps and unwraps data keys under a tenant's KEK.
pub(super) struct KeyProvider {
    /// The built-in KMS.
    pub(super) local: LocalKms,
    /// Customers' tokens.
    pub(super) hsm: HsmProvider,
}

impl KeyProvider {
    /// W: the data key wrapped under the KEK that the row names, bound to the context.
    pub(super) async fn wrap<R: KeyRecords>(
        &self,
        records: &R,
        (row, kek): (&DataKeyRow, &KekRecord),
        context: &[u8],
        key: &[u8; 32],
    ) -> Result<Vec<u8>, Error> {
        if is_local(row, kek)? {
            return self.local.wrap(row, context, key).await;
        }
        self.hsm.wrap(records, &row.tenant, in_token(kek)?, context, key).await
    }

    /// The data key of W.
    pub(super) async fn unwrap<R: KeyRecords>(
        &self,
        records: &R,
        (row, kek): (&DataKeyRow, &KekRecord),
        context: &[u8],
        wrapped: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        if is_local(row, kek)? {
            return self.local.unwrap(row, context, wrapped).await;
        }
        self.hsm.unwrap(records, &row.tenant, in_token(kek)?, context, wrapped).await
    }
}

/// Whether the built-in KMS has the KEK. Row and record must speak of the same version and mechanism, and a mechanism of the
/// built-in KMS has no place in a token.
fn is_local(row: &DataKeyRow, kek: &KekRecord) -> Result<bool, Error> {
    let same = (row.kek_id, row.kek_version, &row.mechanism) == (kek.kek_id, kek.version, &kek.mechanism);
    let pinned = match &kek.hsm {
        None => kek.mechanism == local_kms::MECHANISM,
        Some(hsm) => kek.mechanism == hsm.canary.kek.profile.to_string(),
    };
    if same && pinned { Ok(kek.hsm.is_none()) } else { Err(Error::KekUnusable) }
}
