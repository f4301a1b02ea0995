//! Numbering and sealing of a batch's entries, when nothing can send an operation back any more.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::announcement;
use super::queued::Place;
use crate::access_log::{Action, Batch, Draft, Entry, Group, Leaf, NodeIdentity, Opening, Personal, Position};
use crate::crypto::{DataKey, seal_each};
use crate::domain::{TenantName, Timestamp};
use crate::store::Error;
use crate::store::batch::EntryRow;
use crate::store::log_reads::OPENING;

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
    /// Tenants in whose logs this boot announces itself with this batch.
    pub(super) announced: BTreeSet<TenantName>,
}

impl<'l> Numbering<'l> {
    pub(super) const fn new(
        draft: Draft<'l>,
        known: &'l BTreeSet<TenantName>,
        identity: &'l NodeIdentity,
        now: Timestamp,
    ) -> Self {
        Self { draft, known, identity, now, rows: Vec::new(), announced: BTreeSet::new() }
    }

    /// Whether these entries, with the announcements they bring, leave the batch at `most`. Whatever comes first does.
    pub(super) fn has_room(&self, entries: &[Arc<Entry>], most: usize) -> bool {
        let new = |entry: &&Arc<Entry>| !self.known.contains(&entry.tenant) && !self.announced.contains(&entry.tenant);
        let announcements: BTreeSet<&TenantName> = entries.iter().filter(new).map(|entry| &entry.tenant).collect();
        self.rows.is_empty() || self.rows.len() + entries.len() + announcements.len() <= most
    }

    /// Gives an entry its place and seals it. The first entry of this boot in a log comes after the boot's
    /// announcement; only what a recovery has to say comes before it.
    pub(super) fn push(&mut self, entry: &Entry, key: Option<&Arc<DataKey>>) -> Result<Place, Error> {
        if !self.known.contains(&entry.tenant) && self.announced.insert(entry.tenant.clone()) {
            let started = announcement::started(self.identity, &entry.tenant, self.now);
            if entry.action != started.action && entry.action != Action::RECOVERED {
                self.seal(&started, None)?;
            }
        }
        self.seal(entry, key)
    }

    fn seal(&mut self, entry: &Entry, key: Option<&Arc<DataKey>>) -> Result<Place, Error> {
        let (position, leaf, openings) = self.draft.push(entry).map_err(|_| Error::Rule("an entry must seal"))?;
        let place = Place { tenant: entry.tenant.clone(), position, leaf_hash: leaf.hash() };
        let openings = match key {
            Some(key) => Some((key.id(), sealed(&openings, &position, &entry.tenant, key)?)),
            None => None,
        };
        self.rows.push(row(entry, position, leaf, openings));
        Ok(place)
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
) -> Result<[Vec<u8>; 4], Error> {
    let aads = Personal::ALL.map(|member| Opening::aad(member, position, tenant));
    let texts = Personal::ALL.map(|member| openings[member as usize].to_bytes());
    let at = |index: usize| (&aads[index][..], &texts[index][..]);
    seal_each(key, OPENING, [at(0), at(1), at(2), at(3)]).map_err(|_| Error::Unavailable)
}

fn row(
    entry: &Entry,
    position: Position,
    leaf: Leaf,
    openings: Option<(crate::domain::DataKeyId, [Vec<u8>; 4])>,
) -> EntryRow {
    EntryRow {
        tenant: entry.tenant.clone(),
        position,
        time: entry.time,
        action: entry.action.to_string(),
        outcome: entry.outcome.as_str(),
        value_id: entry.value_id,
        actor_id: entry.actor.id.clone(),
        flow: entry.flow.as_ref().map(|(name, _)| name.to_string()),
        app: entry.app.as_ref().map(ToString::to_string),
        object: entry.object.as_ref().map(|object| (format!("{}/{}", object.table, object.key), object.version)),
        state_version: entry.state_version,
        leaf: leaf.into_bytes(),
        openings,
    }
}
