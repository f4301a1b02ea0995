//! PINs that somebody brings for a token and that were never accepted there: counted in the database before each is tried, for
//! all nodes and over every restart, by who brings them and by the token's serial number. A token counts them too, whoever asks.
//!
//! The rows decide nothing about a value, and hold nothing of a PIN: they are not authenticated.

use std::sync::Arc;
use std::time::Duration;

use super::administration::{Administrator, in_both_logs};
use super::committer::operation::{Asker, Changes, Decision, Generation, Operation, Reads, Rows};
use super::tenants::Ground;
use super::{Error, Store, engine};
use crate::access_log::{Action, Entry, Outcome};
use crate::crypto::DataKey;
use crate::domain::{TenantName, Timestamp};
use crate::keys::Guess;

/// So many are tried, then no other until one of theirs is accepted or the time below is over: a token allows three and more.
pub const NEW_PINS: u32 = 2;

/// So long after the last one they are remembered: as long as the approvals that a custodian would ask for meanwhile.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);

/// What was begun before this moment is forgotten.
fn horizon(now: Timestamp) -> Timestamp {
    let back = u64::try_from(REMEMBERED.as_millis()).unwrap_or(u64::MAX);
    Timestamp::from_millis(now.as_millis().saturating_sub(back))
}

impl Store {
    /// Counts one more before it is tried; nothing is counted if no other may be.
    pub(in crate::store) async fn guess(&self, by: &TenantName, token: &str) -> Result<Guess, Error> {
        let now = self.clock().now();
        let counted = engine!(self, guess((by, token), NEW_PINS, now, horizon(now)))?;
        Ok(match counted {
            Ok(tried) => Guess::Counted(NEW_PINS.saturating_sub(u32::try_from(tried).unwrap_or(NEW_PINS))),
            Err(last) => Guess::NotBefore(last.plus(REMEMBERED)),
        })
    }

    /// One that was counted was not tried.
    pub(in crate::store) async fn guess_back(&self, by: &TenantName, token: &str) -> Result<(), Error> {
        engine!(self, guess_back(by, token))
    }

    /// A PIN was accepted: the ones before are forgotten, as the token forgets them.
    pub(in crate::store) async fn guesses_over(&self, by: &TenantName, token: &str) -> Result<(), Error> {
        engine!(self, guesses_over(by, token))
    }

    /// Removes what is not remembered any more; how many.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn purge_guesses(&self) -> Result<u64, Error> {
        // It cannot be undone.
        engine!(self, purge_guesses(horizon(self.clock().surely())))
    }
}

/// Takes the count back of PINs that a tenant brought for a token, so that another may be tried at once; those that were counted.
/// `by` acts for the installation: the count guards a token that may be somebody else's, and no custodian's own word ends it. For
/// tenants that are being made, `by.tenant` is the installation.
///
/// # Errors
/// [`Error::Database`]; those of the committer.
pub async fn forget(by: Administrator, token: String, ground: Ground<'_>) -> Result<Option<u64>, Error> {
    ground.committer.submit(Forgetting { by, token }).await.map(|done| done.output)
}

/// The count goes in the commit of the entry that says who took it back; it is read, and held, in that very commit: of two who do so
/// at once one finds nothing.
struct Forgetting {
    by: Administrator,
    token: String,
}

impl Operation for Forgetting {
    type Output = Option<u64>;

    fn tenant(&self) -> &TenantName {
        &self.by.tenant
    }

    fn generation(&self) -> Option<Generation> {
        // It rests on no setting, and on who asks alone.
        None
    }

    fn asker(&self) -> Option<Asker> {
        self.by.asker()
    }

    fn deadline(&self) -> Timestamp {
        self.by.deadline
    }

    fn reads(&self) -> Reads {
        Reads { guesses: vec![self.token.clone()], ..Reads::default() }
    }

    fn hold(&mut self, _: Arc<DataKey>) {}

    fn decide(&mut self, rows: &dyn Rows) -> Decision<Option<u64>> {
        let Some(tried) = rows.guesses(&self.token) else { return Decision::Answer(None) };
        let action = Action::Key("provider.pins-forgotten");
        let mut entry = Entry::new(self.by.tenant.clone(), rows.now(), action, Outcome::Allowed, &self.by.context);
        entry.facts = vec![("tokenSerial", self.token.clone()), ("tried", tried.to_string())];
        let forgotten_guesses = vec![self.token.clone()];
        Decision::Write(Changes { entries: in_both_logs(entry), forgotten_guesses, ..Changes::default() }, Some(tried))
    }
}
