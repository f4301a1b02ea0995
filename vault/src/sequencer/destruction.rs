//! Certificates of destruction: made from an entry that the signed tree holds, or that this node has just been told is durable.
//! Never from an entry that only lies in the database: who can write there would have us certify what never happened.

use super::{Error, LogReader, checkpoints};
use crate::access_log::{DestructionCertificate, Leaf, LogProof, Receipt, leaf_hash};
use crate::domain::{TenantName, ValueId};
use crate::store::lost_version::VERSION_LOST;
use crate::store::shredding::TENANT_SHREDDED;
use crate::store::{EntryFilter, StoredEntry};

/// So many entries are looked at in one reading.
const PAGE: usize = 16;

/// A certificate with what proves it.
#[derive(Debug, Clone)]
pub struct Certified {
    /// What is certified.
    pub certificate: DestructionCertificate,
    /// The same as a note that the log's key signed.
    pub note: String,
    /// The entry's leaf without its version byte, exactly: canonical JSON.
    pub leaf: String,
    /// The tlog-proof of the entry (c2sp.org/tlog-proof); none before it is integrated.
    pub proof: Option<String>,
}

impl LogReader {
    /// The certificate of the destruction of a tenant's keys, with its proof.
    ///
    /// # Errors
    /// [`Error::Absent`] if they were not destroyed; [`Error::Pending`] before the entry is integrated.
    pub async fn destruction_of_tenant(&self, log: &TenantName) -> Result<Certified, Error> {
        let action = Some(format!("key.{TENANT_SHREDDED}"));
        let found = self.newest_entry(log, EntryFilter { action, ..EntryFilter::default() }).await?;
        self.proven(log, &found).await
    }

    /// The certificate of the loss of one version of a key (`id.version`), with its proof.
    ///
    /// # Errors
    /// [`Error::Absent`] if it was not stated to be lost; [`Error::Pending`] before the entry is integrated.
    pub async fn loss_of_version(&self, log: &TenantName, kek: &str) -> Result<Certified, Error> {
        let filter = EntryFilter { action: Some(format!("key.{VERSION_LOST}")), ..EntryFilter::default() };
        let is_its = |entry: &StoredEntry| Leaf::parse(&entry.leaf).is_ok_and(|leaf| leaf.fact("kek") == Some(kek));
        let found = self.newest_such(log, filter, is_its).await?;
        self.proven(log, &found).await
    }

    /// The certificate of the deletion of a value, with its proof.
    ///
    /// # Errors
    /// [`Error::Absent`] if it was not deleted, or is there; [`Error::Pending`] before the entry is integrated.
    pub async fn destruction_of_value(&self, log: &TenantName, value_id: ValueId) -> Result<Certified, Error> {
        if self.store.value(log, value_id).await?.is_some() {
            return Err(Error::Absent);
        }
        let (action, value) = (Some("value.deleted".to_owned()), Some(value_id));
        let found = self.newest_entry(log, EntryFilter { action, value_id: value, ..EntryFilter::default() }).await?;
        self.proven(log, &found).await
    }

    /// The certificate of an entry whose receipt this node holds from the commit itself; not yet with a proof.
    ///
    /// # Errors
    /// [`Error::Contradiction`] if the log does not hold what the receipt promises.
    pub async fn destruction_received(&self, log: &TenantName, receipt: &Receipt) -> Result<Certified, Error> {
        let entry = self.store.entry_at(log, &receipt.position).await?.ok_or(Error::Contradiction)?;
        if leaf_hash(&entry.leaf) != receipt.leaf_hash {
            return Err(Error::Contradiction);
        }
        self.certified(log, &entry, None).await
    }

    async fn newest_entry(&self, log: &TenantName, filter: EntryFilter) -> Result<StoredEntry, Error> {
        self.newest_such(log, filter, |_| true).await
    }

    async fn newest_such(
        &self,
        log: &TenantName,
        filter: EntryFilter,
        is_meant: impl Fn(&StoredEntry) -> bool,
    ) -> Result<StoredEntry, Error> {
        let mut before = None;
        loop {
            let (entries, next) = self.store.newest_entries(log, &filter, before, PAGE).await?;
            if let Some(entry) = entries.into_iter().find(&is_meant) {
                return Ok(entry);
            }
            before = Some(next.ok_or(Error::Absent)?);
        }
    }

    async fn proven(&self, log: &TenantName, entry: &StoredEntry) -> Result<Certified, Error> {
        let proof = self.proof_of_index(log, entry.index.ok_or(Error::Pending)?).await?;
        let trusted = [self.keys.log_signer(log).await?.verifier().clone()];
        proof.parse::<LogProof>()?.verify(&leaf_hash(&entry.leaf), &trusted).map_err(|_| Error::Contradiction)?;
        self.certified(log, entry, Some(proof)).await
    }

    async fn certified(
        &self,
        log: &TenantName,
        entry: &StoredEntry,
        proof: Option<String>,
    ) -> Result<Certified, Error> {
        let parsed = Leaf::parse(&entry.leaf)?;
        if parsed.tenant != *log {
            return Err(Error::Contradiction);
        }
        let certificate = DestructionCertificate::of(&parsed, &leaf_hash(&entry.leaf)).ok_or(Error::Absent)?;
        let note = checkpoints::note(certificate.to_text(), &*self.keys.log_signer(log).await?)?;
        let leaf = String::from_utf8_lossy(entry.leaf.get(1..).unwrap_or_default()).into_owned();
        Ok(Certified { certificate, note, leaf, proof })
    }
}
