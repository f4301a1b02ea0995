//! Boots that ended without `node.stopped` (a crash, a power cut): an entry says so and names their last number.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Error;
use super::integrate::certificate;
use super::record::record;
use super::watch::is_kept;
use crate::access_log::node::LaneEnd;
use crate::access_log::{Action, Entry, Heartbeat, Leaf, Outcome};
use crate::domain::{Actor, BootId, TenantName};
use crate::store::node_key::NodeKeyRecord;
use crate::store::records::Body as _;
use crate::store::rows::Table;
use crate::store::{Committer, Store};

/// A boot that gave a sign of life so recently may still be there.
const SILENCE: Duration = Duration::from_secs(30);
/// So many entries go in one commit.
const AT_ONCE: usize = 200;

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
        if self.closed.is_none() {
            self.closed = Some(BTreeSet::from([committer.identity().boot()]));
            let stopped = self.stopped().await.inspect_err(|_| self.closed = None)?;
            self.closed.get_or_insert_default().extend(stopped);
        }
        let now = self.store.clock().now();
        let beats = self.store.heartbeats().await?;
        let beats: BTreeMap<BootId, Heartbeat> = beats.into_iter().map(|beat| (beat.boot, beat)).collect();
        for boot in self.boots(&beats).await? {
            let last = beats.get(&boot.boot);
            let seen = last.map_or(boot.started_at, |beat| beat.time);
            let is_closed = self.closed.as_ref().is_some_and(|closed| closed.contains(&boot.boot));
            if is_closed || now.since(seen) < SILENCE {
                continue;
            }
            let promised = self.hold_to(last, &boot).await?;
            self.close(&boot, promised, committer).await?;
            self.closed.get_or_insert_default().insert(boot.boot);
        }
        Ok(())
    }

    /// Every boot whose row is authentic. One that is not is an alarm; the others are found by their signs of life.
    async fn boots(&self, beats: &BTreeMap<BootId, Heartbeat>) -> Result<Vec<NodeKeyRecord>, Error> {
        let system = TenantName::system();
        match self.store.rows(Table::NodeKeys, &system).await.map_err(Error::from) {
            Ok(rows) => return Ok(rows.iter().map(NodeKeyRecord::from_row).collect::<Result<_, _>>()?),
            Err(error) if error.is_evidence() => self.store.log_health().alarm(&error.words()),
            Err(error) => return Err(error),
        }
        let mut boots = Vec::new();
        for boot in beats.keys() {
            match self.store.row(Table::NodeKeys, &system, &boot.to_string()).await.map_err(Error::from) {
                Ok(row) => boots.extend(row.map(|row| NodeKeyRecord::from_row(&row)).transpose()?),
                Err(error) if error.is_evidence() => {
                    self.store.log_health().alarm(&format!("boot {boot}: {}", error.words()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(boots)
    }

    /// The last sign of life says how much of each lane must be there. Gives the lanes it speaks of, if it is genuine.
    async fn hold_to(&self, last: Option<&Heartbeat>, boot: &NodeKeyRecord) -> Result<Vec<LaneEnd>, Error> {
        let Some(beat) = last else { return Ok(Vec::new()) };
        let health = self.store.log_health();
        let certificate = match certificate(boot.boot, &self.store, self.store.keys()).await {
            Err(error) if error.is_evidence() => None,
            certificate => certificate?,
        };
        if certificate.is_none_or(|certificate| beat.verify(&certificate).is_err()) {
            health.alarm(&format!("boot {}: its last sign of life is not its own", boot.boot));
            return Ok(Vec::new());
        }
        for end in beat.lanes.iter().filter(|end| end.next > 0) {
            if !is_kept(*end, boot.boot, &self.store).await? {
                health.alarm(&format!("lane {} of boot {}: acknowledged entries are gone", end.lane, boot.boot));
            }
        }
        Ok(beat.lanes.clone())
    }

    /// Boots with a `node.stopped` entry in the system log, by themselves or by whoever closed them.
    async fn stopped(&self) -> Result<BTreeSet<BootId>, Error> {
        let leaves = self.store.farewells().await?;
        let read = |leaf: &Vec<u8>| Leaf::parse(leaf).ok()?.fact("boot")?.parse().ok();
        Ok(leaves.iter().filter_map(read).collect())
    }

    /// One entry for each lane, in every log: the boot greeted them all. The system log's come last and together, since
    /// they are what says that the boot is closed.
    async fn close(&self, boot: &NodeKeyRecord, promised: Vec<LaneEnd>, committer: &Committer) -> Result<(), Error> {
        let now = self.store.clock().now();
        // By the signed batches that are there; a lane without any is known by the sign of life alone.
        let mut lanes: BTreeMap<u32, u64> = promised.iter().map(|end| (end.lane, 0)).collect();
        for tail in self.store.lane_ends(boot.boot).await? {
            let end = tail.end;
            if !tail.is_whole {
                let what = format!("lane {} of boot {}: acknowledged entries are gone", end.lane, boot.boot);
                self.store.log_health().alarm(&what);
            }
            lanes.insert(end.lane, end.next);
        }
        let stopped = |log: &TenantName, (lane, next): (&u32, &u64)| {
            let actor = Actor::node(committer.identity().boot());
            let mut entry = Entry::by(log.clone(), now, Action::NodeStopped, Outcome::Unknown, actor);
            entry.facts = vec![
                ("boot", boot.boot.to_string()),
                ("node", boot.node.clone()),
                ("lane", lane.to_string()),
                ("next", next.to_string()),
                ("closedBy", committer.identity().boot().to_string()),
            ];
            entry
        };
        let logs = self.store.heads().await?.into_iter().map(|(log, _)| log).filter(|log| !log.is_system());
        let of_tenants: Vec<Entry> =
            logs.flat_map(|log| lanes.iter().map(|lane| stopped(&log, lane)).collect::<Vec<_>>()).collect();
        for chunk in of_tenants.chunks(AT_ONCE) {
            record(chunk.to_vec(), committer, now).await?;
        }
        let of_system: Vec<Entry> = lanes.iter().map(|lane| stopped(&TenantName::system(), lane)).collect();
        if of_system.is_empty() {
            return Ok(());
        }
        record(of_system, committer, now).await?;
        Ok(())
    }
}
