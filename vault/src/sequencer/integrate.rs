//! Integration: the next batches of every lane get indices, hash tiles and a signed head.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::judge::{Numbers, judge};
use super::{Error, checkpoints, tiles};
use crate::access_log::tree::tiles::Tiles;
use crate::access_log::{Certificate, LogHealth, Position, leaf_hash};
use crate::domain::{BootId, TenantName};
use crate::keys::Keys;
use crate::store::integration::{Integration, LaneAdvance, LaneProgress, LogAdvance, LogHead, PendingBatch, TileRow};
use crate::store::node_key::NodeKeyRecord;
use crate::store::records::Body as _;
use crate::store::rows::Table;
use crate::store::{Error as StoreError, Store};

/// The most entries of one step; a batch is never split.
const SLICE: u64 = 256;

/// The one sequencer of a node; on one database several may run, the head's compare-and-swap lets one win.
pub(super) struct Integrator {
    store: Store,
    keys: Keys,
    health: LogHealth,
    certificates: HashMap<BootId, Option<Certificate>>,
    numbers: HashMap<(BootId, u32), Numbers>,
    edges: HashMap<TenantName, (LogHead, Tiles)>,
    refused: HashSet<(BootId, u32)>,
}

impl Integrator {
    pub(super) fn new(store: Store, keys: Keys, health: LogHealth) -> Self {
        Self {
            store,
            keys,
            health,
            certificates: HashMap::new(),
            numbers: HashMap::new(),
            edges: HashMap::new(),
            refused: HashSet::new(),
        }
    }

    /// Integrates whatever waits and signs the heads that grew. Gives the lanes that were refused for the first time.
    pub(super) async fn run(&mut self) -> Result<Vec<(BootId, u32)>, Error> {
        let (mut grown, mut refused) = (BTreeSet::new(), Vec::new());
        for mut lane in self.store.lanes().await? {
            let place = (lane.boot, lane.lane);
            if self.refused.contains(&place) {
                continue;
            }
            loop {
                let pending = self.store.pending(lane.boot, lane.lane, lane.next, SLICE).await?;
                if pending.is_empty() {
                    break;
                }
                let (accepted, fault) = self.judge(&pending, &mut lane).await?;
                if !accepted.is_empty() {
                    match self.integrate(accepted, &lane).await {
                        Ok(logs) => grown.extend(logs),
                        Err(error) => {
                            // What is stored now is not known: look again.
                            self.edges.clear();
                            self.numbers.remove(&place);
                            match error {
                                // Another sequencer came first.
                                Error::Store(StoreError::Conflict) => break,
                                error => return Err(error),
                            }
                        }
                    }
                }
                if let Some(fault) = fault {
                    let text = format!("lane {} of boot {} from number {}: {fault}", lane.lane, lane.boot, lane.next);
                    self.health.alarm(&text);
                    self.refused.insert(place);
                    refused.push(place);
                    break;
                }
            }
        }
        for log in &grown {
            checkpoints::sign(log, &self.store, &self.keys).await?;
        }
        Ok(refused)
    }

    /// The batches that hold, from the first one on, and what is wrong with the next one.
    async fn judge<'a>(
        &mut self,
        pending: &'a [PendingBatch],
        lane: &mut LaneProgress,
    ) -> Result<(Vec<&'a PendingBatch>, Option<crate::access_log::Error>), Error> {
        let Some(certificate) = self.certificate(lane.boot).await? else {
            return Ok((Vec::new(), Some(crate::access_log::Error::Certificate)));
        };
        let mut numbers = self.numbers_of(pending, lane).await?;
        let mut accepted = Vec::new();
        for batch in pending {
            if let Err(fault) = judge(batch, &certificate, lane, &mut numbers) {
                return Ok((accepted, Some(fault)));
            }
            accepted.push(batch);
        }
        self.numbers.insert((lane.boot, lane.lane), numbers);
        Ok((accepted, None))
    }

    /// The certificate of a boot, if the system log's key signed one.
    async fn certificate(&mut self, boot: BootId) -> Result<Option<Certificate>, Error> {
        if let Some(Some(certificate)) = self.certificates.get(&boot) {
            return Ok(Some(certificate.clone()));
        }
        let certificate = certificate(boot, &self.store, &self.keys).await?;
        self.certificates.insert(boot, certificate.clone());
        Ok(certificate)
    }

    /// The tenants' next numbers in a lane: remembered, or proven by the entry before being integrated.
    async fn numbers_of(&self, pending: &[PendingBatch], lane: &LaneProgress) -> Result<Numbers, Error> {
        let mut numbers = self.numbers.get(&(lane.boot, lane.lane)).cloned().unwrap_or_default();
        for group in pending.iter().flat_map(|batch| &batch.groups) {
            if numbers.contains_key(&group.tenant) {
                continue;
            }
            let next = match group.first.checked_sub(1) {
                None => 0,
                Some(number) => {
                    let before = Position { boot: lane.boot, lane: lane.lane, number };
                    let entry = self.store.entry_at(&group.tenant, &before).await?;
                    // Not there or not integrated: then this group does not follow.
                    if entry.is_some_and(|entry| entry.index.is_some()) { group.first } else { 0 }
                }
            };
            numbers.insert(group.tenant.clone(), next);
        }
        Ok(numbers)
    }

    /// One step: indices, tiles, heads and the lane, all or nothing.
    async fn integrate(&mut self, batches: Vec<&PendingBatch>, lane: &LaneProgress) -> Result<Vec<TenantName>, Error> {
        let mut shares: BTreeMap<&TenantName, (Vec<Position>, Vec<[u8; 32]>)> = BTreeMap::new();
        for (tenant, position, leaf) in batches.iter().flat_map(|batch| &batch.entries) {
            let share = shares.entry(tenant).or_default();
            share.0.push(*position);
            share.1.push(leaf_hash(leaf));
        }
        let mut step = Integration::default();
        let mut edges = Vec::new();
        for (log, (positions, leaves)) in shares {
            let (from, mut edge) = self.edge(log).await?;
            let size = from.map_or(0, |head| head.size);
            let (root, changed) = edge.append(size, &leaves)?;
            let to = LogHead { size: size + leaves.len() as u64, root };
            let row = |id: &crate::access_log::tree::tiles::TileId| {
                let level = id.level?;
                Some(TileRow { level, tile: id.index, hashes: edge.bytes(level, id.index, id.width)? })
            };
            let tiles = changed.iter().filter_map(row).collect();
            edge.keep(&Tiles::for_root(to.size));
            edges.push((log.clone(), (to, edge)));
            step.logs.push(LogAdvance { log: log.clone(), from, to, positions, tiles, checkpoint: None });
        }
        let from = batches.first().map_or(lane.next, |batch| batch.batch.first);
        step.lanes.push(LaneAdvance {
            boot: lane.boot,
            lane: lane.lane,
            from,
            next: lane.next,
            previous: lane.previous,
        });
        self.store.integrate(&step).await?;
        let logs = edges.iter().map(|(log, _)| log.clone()).collect();
        self.edges.extend(edges);
        Ok(logs)
    }

    /// The head of a log and its right edge: remembered, or read and held against the head's root.
    async fn edge(&self, log: &TenantName) -> Result<(Option<LogHead>, Tiles), Error> {
        if let Some((head, edge)) = self.edges.get(log) {
            return Ok((Some(*head), edge.clone()));
        }
        let Some(head) = self.store.head(log).await? else { return Ok((None, Tiles::default())) };
        let edge = tiles::read(&Tiles::for_root(head.size), log, &self.store).await?;
        if crate::access_log::tree::proof::root(head.size, &edge)? != head.root {
            return Err(Error::Log(crate::access_log::Error::Proof));
        }
        Ok((Some(head), edge))
    }
}

/// The certificate of a boot, if its row is authentic and the system log's key signed it.
pub(super) async fn certificate(boot: BootId, store: &Store, keys: &Keys) -> Result<Option<Certificate>, Error> {
    let system = TenantName::system();
    let Some(row) = store.row(Table::NodeKeys, &system, &boot.to_string()).await? else { return Ok(None) };
    let record = NodeKeyRecord::from_row(&row)?;
    // Boots before a recovery were certified under an earlier origin.
    let trusted = keys.log_verifiers(&system).await?;
    let certificate = Certificate::open(&record.certificate, &trusted)?;
    Ok((certificate.boot == boot && certificate.realm == *keys.realm()).then_some(certificate))
}
