//! Boots that ended without `node.stopped` (a crash, a power cut): an entry says so and names their last number.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Error;
use super::integrate::certificate;
use super::record::record;
use crate::access_log::{Action, Entry, Heartbeat, Leaf, Outcome};
use crate::domain::{Actor, BootId, TenantName};
use crate::store::node_key::NodeKeyRecord;
use crate::store::records::Body as _;
use crate::store::rows::Table;
use crate::store::{Committer, EntryFilter, Store};

/// A boot that gave a sign of life so recently may still be there.
const SILENCE: Duration = Duration::from_secs(30);

/// Finds and closes ended boots; remembers those that are closed.
pub(super) struct Closing {
    store: Store,
    closed: Option<BTreeSet<BootId>>,
}

impl Closing {
    pub(super) const fn new(store: Store) -> Self {
        Self { store, closed: None }
    }

    /// Closes every boot but this one that is silent and not closed.
    pub(super) async fn run(&mut self, committer: &Committer) -> Result<(), Error> {
        let mut closed = match self.closed.take() {
            Some(closed) => closed,
            None => self.stopped().await?,
        };
        closed.insert(committer.identity().boot());
        let now = self.store.clock().now();
        let heartbeats = self.store.heartbeats().await?;
        let rows = self.store.rows(Table::NodeKeys, &TenantName::system()).await?;
        for row in rows {
            let boot = NodeKeyRecord::from_row(&row)?;
            let last = heartbeats.iter().find(|beat| beat.boot == boot.boot);
            let seen = last.map_or(boot.started_at, |beat| beat.time);
            if !closed.contains(&boot.boot) && now.since(seen) >= SILENCE {
                self.hold_to(last, &boot).await?;
                self.close(&boot, committer).await?;
                closed.insert(boot.boot);
            }
        }
        self.closed = Some(closed);
        Ok(())
    }

    /// The last sign of life says how much of each lane must be there.
    async fn hold_to(&self, last: Option<&Heartbeat>, boot: &NodeKeyRecord) -> Result<(), Error> {
        let Some(beat) = last else { return Ok(()) };
        let certificate = certificate(boot.boot, &self.store, self.store.keys()).await?;
        let health = self.store.log_health();
        if certificate.is_none_or(|certificate| beat.verify(&certificate).is_err()) {
            health.alarm(&format!("boot {}: its last sign of life is not its own", boot.boot));
            return Ok(());
        }
        for end in beat.lanes.iter().filter(|end| end.next > 0) {
            let progress = self.store.lane(boot.boot, end.lane).await?;
            if progress.is_none_or(|lane| lane.next < end.next) {
                health.alarm(&format!("lane {} of boot {}: acknowledged entries are gone", end.lane, boot.boot));
            }
        }
        Ok(())
    }

    /// Boots with a `node.stopped` entry in the system log, by themselves or by whoever closed them.
    async fn stopped(&self) -> Result<BTreeSet<BootId>, Error> {
        let filter = EntryFilter { action: Some(Action::NodeStopped.to_string()), ..EntryFilter::default() };
        let (mut stopped, mut cursor) = (BTreeSet::new(), None::<String>);
        loop {
            let page = self.store.entries(&TenantName::system(), &filter, cursor.as_deref(), 1000).await?;
            for entry in &page.entries {
                let boot: Option<BootId> = Leaf::parse(&entry.leaf)?.fact("boot").and_then(|boot| boot.parse().ok());
                stopped.extend(boot);
            }
            match page.next {
                Some(next) => cursor = Some(next),
                None => return Ok(stopped),
            }
        }
    }

    /// One entry for each lane, in every log: the boot greeted them all.
    async fn close(&self, boot: &NodeKeyRecord, committer: &Committer) -> Result<(), Error> {
        let now = self.store.clock().now();
        let mut entries = Vec::new();
        let logs: Vec<TenantName> = self.store.heads().await?.into_iter().map(|(log, _)| log).collect();
        let mut lane = 0;
        while let Some(progress) = self.store.lane(boot.boot, lane).await? {
            for log in &logs {
                let actor = Actor::node(committer.identity().boot());
                let mut entry = Entry::by(log.clone(), now, Action::NodeStopped, Outcome::Unknown, actor);
                entry.facts = vec![
                    ("boot", boot.boot.to_string()),
                    ("node", boot.node.clone()),
                    ("lane", lane.to_string()),
                    ("next", progress.next.to_string()),
                    ("closedBy", committer.identity().boot().to_string()),
                ];
                entries.push(entry);
            }
            lane += 1;
        }
        for chunk in entries.chunks(200) {
            record(chunk.to_vec(), committer, now).await?;
        }
        Ok(())
    }
}
