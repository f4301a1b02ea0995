//! The first entries of a boot: its certified key, and itself in every log.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::own_work::OwnWork;
use super::{Committer, OWN_WORK, announcement};
use crate::access_log::{Action, Entry, Note};
use crate::domain::{TenantName, Timestamp};
use crate::keys::KeyRecords as _;
use crate::store::Error;
use crate::store::committer::operation::Changes;
use crate::store::node_key::NodeKeyRecord;
use crate::store::records::Body;
use crate::store::rows::{DecidingRow, Table};

/// So many logs are greeted in one commit.
const AT_ONCE: usize = 200;

/// What a boot has to say before anything else, by the log it is about: entries of that log and of the system's.
pub type FirstWords = BTreeMap<TenantName, Vec<Entry>>;

impl Committer {
    /// Certifies the boot, sees to the installation's own KEK and greets every log.
    pub(super) async fn announce(&self, mut words: FirstWords) -> Result<(), Error> {
        let now = self.inner.clock.now();
        let row = self.certified(now).await?;
        let of_system = words.remove(&TenantName::system()).unwrap_or_default();
        self.write_system_row(row, of_system, announcement_of_boot).await?;
        self.ensure_system_kek(now).await?;
        for tenant in self.inner.store.tenants().await? {
            words.entry(tenant).or_default();
        }
        let greet = |(log, mut said): (TenantName, Vec<Entry>)| {
            // A log of which only the system log can tell is not greeted.
            if said.is_empty() || said.iter().any(|entry| entry.tenant == log) {
                said.push(announcement::started(&self.inner.identity, &log, now));
            }
            said
        };
        let greetings: Vec<Vec<Entry>> = words.into_iter().map(greet).collect();
        for greetings in greetings.chunks(AT_ONCE) {
            let entries: Vec<Arc<Entry>> = greetings.concat().into_iter().map(Arc::new).collect();
            let work = OwnWork::new(TenantName::system(), now.plus(OWN_WORK), move || Changes {
                entries: entries.clone(),
                ..Changes::default()
            });
            self.submit(work).await?;
        }
        Ok(())
    }

    /// The boot's key in a note signed by the system log's key.
    async fn certified(&self, now: Timestamp) -> Result<DecidingRow, Error> {
        let system = TenantName::system();
        let identity = &self.inner.identity;
        let signer = self.inner.keys.log_signer(&system).await?;
        let text = identity.certificate(now).to_text();
        let signature = signer.sign(text.as_bytes());
        let note = Note::new(text).map_err(|_| Error::Rule("a certificate is a note"))?;
        let note = note.signed(signer.verifier(), signature);
        let record = NodeKeyRecord {
            boot: identity.boot(),
            node: identity.node().to_owned(),
            build: identity.build().to_owned(),
            certificate: note.to_string(),
            started_at: now,
        };
        record.to_row(&system, &identity.boot().to_string(), 1)
    }

    /// Without a KEK of the installation the personal members of the system log could not be kept.
    async fn ensure_system_kek(&self, now: Timestamp) -> Result<(), Error> {
        let system = TenantName::system();
        let found = self.inner.store.active_kek(&system).await;
        if found.map_err(|_| Error::Tampered(Table::Keks.as_str()))?.is_some() {
            return Ok(());
        }
        let record = self.inner.keys.create_kek(&system, now).await?;
        let row = record.to_row(&system, &record.row_key(), 1)?;
        self.write_system_row(row, Vec::new(), |committer, row, now| {
            let mut entry =
                announcement::by_node(&committer.inner.identity, &row.tenant, Action::Key("kek.created"), now);
            entry.kek_id = Some(record.kek_id);
            entry
        })
        .await
    }

    /// Writes a row of the installation with the entry that makes it, after what is to be said first.
    async fn write_system_row(
        &self,
        row: DecidingRow,
        mut entries: Vec<Entry>,
        entry: impl Fn(&Self, &DecidingRow, Timestamp) -> Entry,
    ) -> Result<(), Error> {
        let now = self.inner.clock.now();
        let mut entry = entry(self, &row, now);
        entry.object = Some(row.object(self.inner.keys.realm()));
        entries.push(entry);
        let entries: Vec<Arc<Entry>> = entries.into_iter().map(Arc::new).collect();
        let bump_generation = row.table != Table::NodeKeys;
        let work = OwnWork::new(row.tenant.clone(), now.plus(OWN_WORK), move || Changes {
            rows: vec![row.clone()],
            entries: entries.clone(),
            bump_generation,
            ..Changes::default()
        });
        self.submit(work).await.map(|_| ())
    }
}

fn announcement_of_boot(committer: &Committer, row: &DecidingRow, now: Timestamp) -> Entry {
    announcement::started(&committer.inner.identity, &row.tenant, now)
}
