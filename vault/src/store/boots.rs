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

    /// Notes that somebody begins to close a boot, before it is closed: whoever goes on for them finds it.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn note_closing(&self, boot: BootId) -> Result<(), Error> {
        engine!(self, note_closing(boot))
    }

    /// What a boot's end comes to is written.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn forget_closing(&self, boot: BootId) -> Result<(), Error> {
        engine!(self, forget_closing(boot))
    }

    /// Boots that somebody began to close. A row that does not read is an alarm.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn closing_boots(&self) -> Result<Vec<BootId>, Error> {
        Ok(self.readable(engine!(self, closing_boots())?))
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
