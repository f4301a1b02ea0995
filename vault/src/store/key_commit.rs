//! Several rows about a tenant's keys with their entries, in one commit: a rotation, a token taken on, a move between
//! providers. Each row is written over the version that was read, or none of them is.

use super::administration::Administrator;
use super::decree::Decree;
use super::records::Body;
use super::rows::DecidingRow;
use super::tenants::Ground;
use super::{Error, Store};
use crate::access_log::{Action, Entry};
use crate::domain::{KekId, TenantName, Timestamp};
use crate::keys::{KekRecord, MadeKek};

/// The commit.
pub(super) struct KeyCommit {
    decree: Decree,
    kek_id: KekId,
}

impl KeyCommit {
    pub(super) fn new(by: Administrator, kek_id: KekId) -> Self {
        // The versions of the rows say all that it was decided on, and the credential that asked is judged beside them.
        Self { decree: Decree::new(Administrator { generation: None, ..by }), kek_id }
    }

    /// Adds a row; its version is the one after that which was read.
    pub(super) fn write<B: Body>(
        mut self,
        (key, version): (&str, u64),
        body: &B,
        action: Action,
        facts: Vec<(&'static str, String)>,
    ) -> Result<Self, Error> {
        let row = body.to_row(self.decree.tenant(), key, version)?;
        let entry = Entry { kek_id: Some(self.kek_id), facts, ..self.decree.entry(action) };
        self.decree.push(row, entry);
        Ok(self)
    }

    /// Nothing is written unless this row is still of the version that was read.
    pub(super) fn resting_on<B: Body>(mut self, key: String, version: u64) -> Self {
        self.decree.rest_on(B::TABLE, key, version);
        self
    }

    /// Nothing is written after this moment.
    pub(super) fn until(self, end: Timestamp) -> Self {
        Self { decree: self.decree.until(end), ..self }
    }

    /// Adds a version that was just made, and the configuration of its token.
    pub(super) fn made(self, made: &MadeKek, act: &'static str) -> Result<Self, Error> {
        let kek = &made.record;
        let commit = self.write((&kek.row_key(), 1), kek, Action::Key(act), made.facts.clone())?;
        match &made.provider {
            Some((record, version)) => {
                let act = if *version == 1 { "provider.created" } else { "provider.changed" };
                let key = record.provider_id.to_string();
                commit.write((&key, *version), record, Action::Key(act), made.facts.clone())
            }
            None => Ok(commit),
        }
    }

    /// Commits; what was made outside goes again if nothing was written. Where nobody knows, it stays and is looked for.
    pub(super) async fn submit(self, made: MadeKek, ground: Ground<'_>) -> Result<(), Error> {
        let tenant = self.decree.tenant().clone();
        let result = self.decree.submit(ground.committer).await;
        let written = match &result {
            Ok(receipt) => Some(receipt.is_some()),
            // Each of these may follow a commit that reached the disk: without its key the tenant would be lost.
            Err(Error::Unavailable | Error::Late | Error::Closed | Error::Poisoned | Error::Database(_)) => {
                was_written(&made.record, &tenant, ground.store).await
            }
            Err(_) => Some(false),
        };
        let mut taken = Ok(());
        match written {
            Some(true) => ground.keys.take_on(made).await,
            Some(false) => {
                // Of two that name one key of a token in the same moment the second hears why, as if it had come later.
                taken = ground.keys.refuse_taken(ground.store, &made.record).await;
                ground.keys.give_up(made).await;
            }
            None => {
                let label = made.record.hsm.as_ref().map(|hsm| hsm.label().to_owned());
                tracing::error!(
                    label,
                    "nobody knows whether a new key-encryption key was committed: it is left where it is"
                );
            }
        }
        match result {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(Error::Conflict),
            Err(_) if written == Some(true) => Ok(()),
            Err(Error::Conflict) => Err(taken.err().map_or(Error::Conflict, Error::from)),
            Err(error) => Err(error),
        }
    }
}

/// Whether a version was written whose commit broke off; nothing where that may still come or the store does not say.
pub(in crate::store) async fn was_written(made: &KekRecord, tenant: &TenantName, store: &Store) -> Option<bool> {
    // Absence proves nothing: the commit may be under way. Another request's row proves that this one never comes.
    let row = store.row(KekRecord::TABLE, tenant, &made.row_key()).await.ok()??;
    Some(is_of(&row, made))
}

/// Whether a row is the one that a request wrote for what it made, or what became of it since: another request may have made a
/// version of the same number. What its key is known by never changes, and for a token's key is like no other.
fn is_of(row: &DecidingRow, made: &KekRecord) -> bool {
    KekRecord::from_row(row).is_ok_and(|there| {
        let KekRecord { kek_id, version, mechanism, created_at, hsm, .. } = there;
        (kek_id, version, &mechanism, created_at, &hsm)
            == (made.kek_id, made.version, &made.mechanism, made.created_at, &made.hsm)
    })
}
