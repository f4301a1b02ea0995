//! Several rows that decide, written in one commit or not at all: each over the version that was read, each with its entry.

use std::sync::Arc;
use std::time::Duration;

use super::administration::{Administrator, in_both_logs};
use super::committer::operation::{A_REQUEST, Asker, Changes, Decision, Generation, Operation, Reads, Rows};
use super::rows::{DecidingRow, Table};
use super::{Committer, Error};
use crate::access_log::{Action, Entry, Outcome, Receipt};
use crate::crypto::DataKey;
use crate::domain::{DataKeyId, TenantName, Timestamp};
use crate::keys::LostDataKey;

/// Changes of rows that stand or fall together.
pub(in crate::store) struct Decree {
    by: Administrator,
    rows: Vec<(DecidingRow, Entry)>,
    /// Rows that must be of the version that was read, and are not changed.
    rests_on: Vec<(Table, String, u64)>,
    /// Data keys that go with it.
    erased: Vec<DataKeyId>,
    /// Data keys that end with a KEK version that is lost.
    lost: Vec<LostDataKey>,
    /// How long whoever submits it waits; as long as a request does where nothing is said.
    patience: Option<Duration>,
    /// After this moment it is too late, by the batch's clock.
    until: Option<Timestamp>,
}

impl Decree {
    /// Nothing yet.
    pub(in crate::store) const fn new(by: Administrator) -> Self {
        Self {
            by,
            rows: Vec::new(),
            rests_on: Vec::new(),
            erased: Vec::new(),
            lost: Vec::new(),
            patience: None,
            until: None,
        }
    }

    /// An entry of this decree.
    pub(in crate::store) fn entry(&self, action: Action) -> Entry {
        // The time is the batch's, known when it is decided.
        let now = Timestamp::from_millis(0);
        Entry::new(self.by.tenant.clone(), now, action, Outcome::Allowed, &self.by.context)
    }

    /// One more row, and the entry that makes it.
    pub(in crate::store) fn push(&mut self, row: DecidingRow, entry: Entry) {
        let object = Some(row.object(&self.by.realm));
        self.rows.push((row, Entry { object, ..entry }));
    }

    /// Nothing of it happens unless this row is still of the version that was read.
    pub(in crate::store) fn rest_on(&mut self, table: Table, key: String, version: u64) {
        self.rests_on.push((table, key, version));
    }

    /// Data keys whose records go in the same commit.
    pub(in crate::store) fn erase(&mut self, data_keys: Vec<DataKeyId>) {
        self.erased.extend(data_keys);
    }

    /// Data keys that end with a KEK version that is lost, marked in the same commit.
    pub(in crate::store) fn lose(&mut self, data_keys: Vec<LostDataKey>) {
        self.lost.extend(data_keys);
    }

    /// The tenant it is about.
    pub(in crate::store) const fn tenant(&self) -> &TenantName {
        &self.by.tenant
    }

    /// Nothing of it happens after this moment.
    pub(in crate::store) const fn until(mut self, end: Timestamp) -> Self {
        self.until = Some(end);
        self
    }

    /// It may take longer than a request: what it writes is much, and whoever asked waits for it.
    pub(in crate::store) const fn patient(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// The receipt of its first row's entry once all of it is durable; nothing if a row was changed meanwhile or it is too late.
    pub(in crate::store) async fn submit(self, committer: &Committer) -> Result<Option<Receipt>, Error> {
        let done = committer.submit(self).await?;
        Ok(if done.output { done.receipts().into_iter().next() } else { None })
    }
}

impl Operation for Decree {
    type Output = bool;

    fn tenant(&self) -> &TenantName {
        &self.by.tenant
    }

    fn generation(&self) -> Option<Generation> {
        self.by.generation
    }

    fn asker(&self) -> Option<Asker> {
        self.by.asker()
    }

    fn deadline(&self) -> Timestamp {
        self.by.deadline
    }

    fn patience(&self) -> Duration {
        self.patience.unwrap_or(A_REQUEST)
    }

    fn moves(&self) -> bool {
        true
    }

    fn reads(&self) -> Reads {
        let written = self.rows.iter().map(|(row, _)| (row.table, row.key.clone()));
        let read = self.rests_on.iter().map(|(table, key, _)| (*table, key.clone()));
        Reads { rows: written.chain(read).collect(), ..Reads::default() }
    }

    fn hold(&mut self, _: Arc<DataKey>) {}

    fn decide(&mut self, rows: &dyn Rows) -> Decision<bool> {
        let now = rows.now();
        let there = |table, key: &str| rows.row(table, key).map_or(0, |row| row.version);
        let moved = self.rows.iter().any(|(row, _)| there(row.table, &row.key) + 1 != row.version)
            || self.rests_on.iter().any(|(table, key, version)| there(*table, key) != *version);
        if moved || self.until.is_some_and(|end| end <= now) {
            return Decision::Answer(false);
        }
        let entry = |(_, entry): &(DecidingRow, Entry)| in_both_logs(Entry { time: now, ..entry.clone() });
        let changes = Changes {
            entries: self.rows.iter().flat_map(entry).collect(),
            rows: self.rows.iter().map(|(row, _)| row.clone()).collect(),
            removed_data_keys: self.erased.clone(),
            lost_data_keys: self.lost.clone(),
            bump_generation: true,
            ..Changes::default()
        };
        Decision::Write(changes, true)
    }
}
