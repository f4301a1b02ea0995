//! Which boots may write. A boot that another node closed, since it gave no sign of life, writes nothing any more: neither
//! into a lane whose end is noted nor into a new one. It may have been frozen, and does not know.

use super::{Error, Store, engine};
use crate::domain::BootId;

impl Store {
    /// Lets a boot write from now on.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub(in crate::store) async fn open_boot(&self, boot: BootId) -> Result<(), Error> {
        engine!(self, open_boot(boot))?;
        if let Some(replica) = &self.inner.replica {
            replica.must_know(boot);
        }
        Ok(())
    }

    /// Lets a boot write no more. A batch of it that is under way ends first: afterwards the ends of its lanes are final.
    ///
    /// # Errors
    /// [`Error::Database`], also while such a batch stands still; the server ends it soon.
    pub async fn close_boot(&self, boot: BootId) -> Result<(), Error> {
        engine!(self, close_boot(boot))
    }

    /// Whether a boot may write, as it is at this moment. Where the database's clock is the one that counts, the time is
    /// taken from it with this question.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub(in crate::store) async fn is_open(&self, boot: BootId) -> Result<bool, Error> {
        engine!(self, is_open(boot, &self.inner.clock))
    }
}
