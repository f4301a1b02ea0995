//! Numbering and sealing of a batch's entries, when nothing can send an operation back any more.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::announcement;
use super::queued::Place;
use crate::access_log::{Action, Batch, Draft, Entry, Group, Leaf, NodeIdentity, Opening, Personal, Position, Salts};
use crate::crypto::{DataKey, Drawn, seal_each};
use crate::domain::{DataKeyId, TenantName, Timestamp};
use crate::store::Error;
use crate::store::batch::EntryRow;
use crate::store::log_reads::OPENING;

/// Random bytes of an entry: four salts, four nonces.
const RANDOM: usize = 4 * (32 + 12);

/// True if a personal member stands in the entry, so that its openings are worth a key.
pub(super) fn is_personal(entry: &Entry) -> bool {
    entry.on_behalf_of.is_some() || entry.address.is_some() || entry.actor.name.is_some() || entry.reference.is_some()
}

/// The rows of the entries, and the signed batch if there are any.
pub(super) type Signed = (Vec<EntryRow>, Option<(Batch, Vec<Group>)>);

/// A batch's entries, numbered and sealed.
pub(super) struct Numbering<'l> {
    draft: Draft<'l>,
    /// Logs that know this boot already.
    known: &'l BTreeSet<TenantName>,
    pub(super) identity: &'l NodeIdentity,
    pub(super) now: Timestamp,
    rows: Vec<EntryRow>,
    /// Salts and nonces.
    random: Drawn,
    /// Tenants in whose logs this boot announces itself with this batch.
    pub(super) announced: BTreeSet<TenantName>,
}

impl<'l> Numbering<'l> {
    pub(super) fn new(
        draft: Draft<'l>,
        known: &'l BTreeSet<TenantName>,
        identity: &'l NodeIdentity,
        now: Timestamp,
        operations: usize,
    ) -> Self {
        let random = Drawn::some(operations.saturating_mul(RANDOM));
        Self { draft, known, identity, now, rows: Vec::with_capacity(operations), random, announced: BTreeSet::new() }
    }

    /// Whether these entries, with the announcements they bring, leave the batch at `most`. Whatever comes first does.
    pub(super) fn has_room(&self, entries: &[Arc<Entry>], most: usize) -> bool {
        let new = |entry: &&Arc<Entry>| !self.known.contains(&entry.tenant) && !self.announced.contains(&entry.tenant);
        let announcements: BTreeSet<&TenantName> = entries.iter().filter(new).map(|entry| &entry.tenant).collect();
        self.rows.is_empty() || self.rows.len() + entries.len() + announcements.len() <= most
    }

    /// Gives an entry its place and seals it. The first entry of this boot in a log comes after the boot's
    /// announcement; only what a recovery has to say comes before it.
    pub(super) fn push(&mut self, entry: &Arc<Entry>, key: Option<&Arc<DataKey>>) -> Result<Place, Error> {
        if !self.known.contains(&entry.tenant) && self.announced.insert(entry.tenant.clone()) {
            let started = announcement::started(self.identity, &entry.tenant, self.now);
            if entry.action != started.action && entry.action != Action::RECOVERED {
                self.seal(&Arc::new(started), None)?;
            }
        }
        self.seal(entry, key)
    }

    fn seal(&mut self, entry: &Arc<Entry>, key: Option<&Arc<DataKey>>) -> Result<Place, Error> {
        let salts = Salts::from_bytes(self.random.take().map_err(|_| Error::Unavailable)?);
        let (position, leaf, openings) =
            self.draft.push(entry, &salts).map_err(|_| Error::Rule("an entry must seal"))?;
        let leaf_hash = leaf.hash();
        let openings = match key {
            Some(key) => {
                let nonces = self.random.take().map_err(|_| Error::Unavailable)?;
                Some((key.id(), sealed(&openings, &position, &entry.tenant, key, nonces)?))
            }
            None => None,
        };
        self.rows.push(row(Arc::clone(entry), position, (leaf, leaf_hash), openings));
        Ok(Place { tenant: entry.tenant.clone(), position, leaf_hash })
    }

    /// Signs the batch, if there is one.
    pub(super) fn sign(self) -> Result<Signed, Error> {
        if self.rows.is_empty() {
            return Ok((self.rows, None));
        }
        let signed = self.draft.sign(self.identity, self.now).map_err(|_| Error::Unavailable)?;
        Ok((self.rows, Some(signed)))
    }
}

fn sealed(
    openings: &[Opening; 4],
    position: &Position,
    tenant: &TenantName,
    key: &DataKey,
    nonces: [[u8; 12]; 4],
) -> Result<[Vec<u8>; 4], Error> {
    let aads = Personal::ALL.map(|member| Opening::aad(member, position, tenant));
    let texts = Personal::ALL.map(|member| openings[member as usize].to_bytes());
    let at = |index: usize| (&aads[index][..], &texts[index][..]);
    seal_each(key, OPENING, nonces, [at(0), at(1), at(2), at(3)]).map_err(|_| Error::Unavailable)
}

fn row(
    entry: Arc<Entry>,
    position: Position,
    (leaf, leaf_hash): (Leaf, [u8; 32]),
    openings: Option<(DataKeyId, [Vec<u8>; 4])>,
) -> EntryRow {
    EntryRow {
        position,
        action: entry.action.text(),
        object: entry.object.as_ref().map(|object| (format!("{}/{}", object.table, object.key), object.version)),
        leaf: leaf.into_bytes(),
        leaf_hash,
        openings,
        entry,
    }
}
