//! Erasure keys die by the clock, so that what they seal is gone from every backup (docs/formats.md section 3).

use super::key_store::SecretKind;
use super::{Error, Keys};
use crate::domain::Timestamp;

impl Keys {
    /// Destroys every erasure key whose time is past and says how many; repeatable, resumes after a crash. It cannot be
    /// undone: `now` is a time that is surely come ([`crate::domain::Clock::surely`]).
    ///
    /// # Errors
    /// The key store cannot be listed or written.
    pub async fn destroy_due_erasure_keys(&self, now: Timestamp) -> Result<u64, Error> {
        self.wipe_idle();
        let mut destroyed = 0;
        for name in self.inner.store.list(SecretKind::Erasure).await? {
            let Some((class, epoch)) = name.erasure_epoch() else { continue };
            if class.erased_at(epoch).is_some_and(|gone| now >= gone) && self.inner.store.destroy(&name).await? {
                destroyed += 1;
            }
        }
        Ok(destroyed)
    }
}
