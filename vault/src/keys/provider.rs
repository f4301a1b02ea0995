//! Where KEKs live: the built-in KMS now, a customer's token later.

use zeroize::Zeroizing;

use super::Error;
use super::local_kms::{self, LocalKms};
use super::records::DataKeyRow;

/// Wraps and unwraps data keys under a tenant's KEK; which one, the mechanism of the KEK's version says.
pub(super) enum KeyProvider {
    /// The built-in KMS.
    LocalKms(LocalKms),
}

impl KeyProvider {
    /// W: the data key wrapped under the KEK that the row names, bound to the context.
    pub(super) async fn wrap(&self, row: &DataKeyRow, context: &[u8], key: &[u8; 32]) -> Result<Vec<u8>, Error> {
        match (self, row.mechanism.as_str()) {
            (Self::LocalKms(kms), local_kms::MECHANISM) => kms.wrap(row, context, key).await,
            _ => Err(Error::KekUnusable),
        }
    }

    /// The data key of W.
    pub(super) async fn unwrap(
        &self,
        row: &DataKeyRow,
        context: &[u8],
        wrapped: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        match (self, row.mechanism.as_str()) {
            (Self::LocalKms(kms), local_kms::MECHANISM) => kms.unwrap(row, context, wrapped).await,
            _ => Err(Error::KekUnusable),
        }
    }
}
