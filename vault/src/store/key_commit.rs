//! Several rows about a tenant's keys with their entries, in one commit: a rotation, a token taken on, a move between
//! providers. Each row is written over the version that was read, or none of them is.

use std::sync::Arc;

use super::administration::{Administrator, in_both_logs};
use super::committer::operation::{Changes, Decision, Generation, Operation, Reads, Rows};
use super::records::Body;
use super::rows::DecidingRow;
use super::tenants::Ground;
use super::{Error, Store};
use crate::access_log::{Action, Entry, Outcome};
use crate::crypto::DataKey;
use crate::domain::{KekId, TenantName, Timestamp};
use crate::keys::MadeKek;

/// A row to be written, with what its entry says.
pub(super) struct Write {
    row: DecidingRow,
    action: Action,
    facts: Vec<(&'static str, String)>,
}

/// The commit.
pub(super) struct KeyCommit {
    by: Administrator,
    kek_id: KekId,
    writes: Vec<Write>,
}

impl KeyCommit {
    pub(super) const fn new(by: Administrator, kek_id: KekId) -> Self {
        Self { by, kek_id, writes: Vec::new() }
    }

    /// Adds a row; its version is the one after that which was read.
    pub(super) fn write<B: Body>(
        mut self,
        (key, version): (&str, u64),
        body: &B,
        action: Action,
        facts: Vec<(&'static str, String)>,
    ) -> Result<Self, Error> {
        let row = body.to_row(&self.by.tenant, key, version)?;
        self.writes.push(Write { row, action, facts });
        Ok(self)
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
        let row = self.writes.iter().find(|write| write.row.key == made.record.row_key());
        let place = row.map(|write| (write.row.table, write.row.tenant.clone(), write.row.key.clone()));
        let result = ground.committer.submit(self).await;
        let written = match (&result, place) {
            (Ok(committed), _) => Some(committed.output),
            (Err(Error::Unavailable | Error::Late | Error::Closed), Some(place)) => is_there(place, ground.store).await,
            (Err(_), _) => Some(false),
        };
        match written {
            Some(true) => ground.keys.take_on(made).await,
            Some(false) => ground.keys.give_up(made).await,
            None => {
                let label = made.record.hsm.as_ref().map(|hsm| hsm.label().to_owned());
                tracing::error!(
                    label,
                    "nobody knows whether a new key-encryption key was committed: it is left where it is"
                );
            }
        }
        match result {
            Ok(committed) if committed.output => Ok(()),
            Ok(_) => Err(Error::Conflict),
            Err(_) if written == Some(true) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Whether a row whose commit broke off is there; nothing where it may still come or the store does not say.
async fn is_there((table, tenant, key): (super::rows::Table, TenantName, String), store: &Store) -> Option<bool> {
    // Absence proves nothing: the commit may be under way.
    store.row(table, &tenant, &key).await.ok()?.map(|_| true)
}

impl Operation for KeyCommit {
    type Output = bool;

    fn tenant(&self) -> &TenantName {
        &self.by.tenant
    }

    fn generation(&self) -> Option<Generation> {
        // The versions of the rows say all that it was decided on.
        None
    }

    fn deadline(&self) -> Timestamp {
        self.by.deadline
    }

    fn reads(&self) -> Reads {
        let rows = self.writes.iter().map(|write| (write.row.table, write.row.key.clone()));
        Reads { rows: rows.collect(), ..Reads::default() }
    }

    fn hold(&mut self, _: Arc<DataKey>) {}

    fn decide(&mut self, rows: &dyn Rows) -> Decision<bool> {
        let as_read = |write: &Write| {
            let there = rows.row(write.row.table, &write.row.key).map_or(0, |row| row.version);
            there + 1 == write.row.version
        };
        if !self.writes.iter().all(as_read) {
            return Decision::Answer(false);
        }
        let entry = |write: &Write| {
            let (tenant, action) = (self.by.tenant.clone(), write.action.clone());
            let mut entry = Entry::new(tenant, rows.now(), action, Outcome::Allowed, &self.by.context);
            entry.object = Some(write.row.object(&self.by.realm));
            entry.kek_id = Some(self.kek_id);
            entry.facts.extend(write.facts.iter().cloned());
            entry
        };
        let changes = Changes {
            entries: self.writes.iter().map(entry).flat_map(in_both_logs).collect(),
            rows: self.writes.iter().map(|write| write.row.clone()).collect(),
            bump_generation: true,
            ..Changes::default()
        };
        Decision::Write(changes, true)
    }
}
