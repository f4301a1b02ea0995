//! Integration: the next batches of every lane get indices, hash tiles and a signed head.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;
use tracing::Instrument as _;

use super::judge::{Numbers, judge};
use super::lanes::{Lanes, Place, Sight};
use super::progress::Progress;
use super::{Error, checkpoints, heads, tiles};
use crate::access_log::tree::proof;
use crate::access_log::tree::tiles::Tiles;
use crate::access_log::{Certificate, Distrust, LogHealth, Position};
use crate::domain::{BootId, TenantName};
use crate::keys::Keys;
use crate::store::integration::{
    Integration, LaneAdvance, LaneProgress, LaneRow, LogAdvance, LogHead, PendingBatch, TileRow,
};
use crate::store::node_key::NodeKeyRecord;
use crate::store::records::Body as _;
use crate::store::rows::Table;
use crate::store::{Error as StoreError, Store};

/// The most entries of one step; a batch is never split.
const SLICE: u64 = 256;

/// After so many steps of a round much waits: then none rests any more. Before, each does, so long at most.
const GENTLE: u32 = 10;
const REST: Duration = Duration::from_millis(20);

/// So long after another node was seen to integrate this one stands by: an office is taken over within five seconds.
const STAND_BY: Duration = Duration::from_secs(2);

/// The one sequencer of a node; on one database several may run, the head's compare-and-swap lets one win.
pub(super) struct Integrator {
    store: Store,
    keys: Keys,
    health: LogHealth,
    certificates: HashMap<BootId, Certificate>,
    numbers: HashMap<Place, Numbers>,
    pub(super) lanes: Lanes,
    pub(super) edges: HashMap<TenantName, (LogHead, Tiles)>,
    noted: heads::Noted,
    /// When another node was last seen to integrate.
    yielded: Option<Instant>,
    /// Heads that are committed and not yet noted outside the database.
    unnoted: BTreeMap<TenantName, LogHead>,
}

/// A batch that holds, with the hashes of its leaves.
type Accepted<'a> = (&'a PendingBatch, Vec<[u8; 32]>);

/// What one step left behind it.
enum Step {
    /// More may wait.
    More,
    /// All that waited then is integrated; what came since waits for the next round, so that few slices do it.
    Rest,
    Nothing,
}

impl Integrator {
    pub(super) fn new(store: Store, keys: Keys, health: LogHealth) -> Self {
        let lanes = Lanes::new(store.clone(), health.clone());
        Self {
            store,
            keys,
            health,
            certificates: HashMap::new(),
            numbers: HashMap::new(),
            lanes,
            edges: HashMap::new(),
            noted: heads::Noted::default(),
            yielded: None,
            unnoted: BTreeMap::new(),
        }
    }

    /// Integrates what waits, about `at_most` so long, each step with its signed heads; then notes the heads outside.
    ///
    /// # Errors
    /// Store or key store do not answer. Altered rows are alarms: they stop their lane or log and no other.
    pub(super) async fn run(&mut self, at_most: Duration) -> Result<(), Error> {
        let lanes = self.lanes.look(if at_most == Duration::MAX { Sight::All } else { Sight::Living }).await?;
        self.run_lanes(lanes, at_most).await
    }

    /// Whether another node integrates: two that race for every head only undo each other's work. When it is not seen to
    /// for a moment, this one takes over.
    pub(super) fn stands_by(&self) -> bool {
        self.yielded.is_some_and(|at| at.elapsed() < STAND_BY)
    }

    /// Integrates nothing, and proves what another node says it integrated.
    ///
    /// # Errors
    /// As [`Integrator::run`].
    pub(super) async fn look(&mut self) -> Result<(), Error> {
        let mut lanes = self.lanes.look(Sight::Living).await?;
        while let Some((lane, waits)) = lanes.pop_front() {
            if let Err(error) = self.believe(&lane, waits).await
                && let Err(error) = self.judge_error(error, &lane)
            {
                self.lanes.put_back(lanes);
                return Err(error);
            }
        }
        self.note_heads().await
    }

    /// Integrates one boot's lanes to their end: for a recovery, whose entries come before those that waited.
    pub(super) async fn run_boot(&mut self, boot: BootId) -> Result<(), Error> {
        let lanes = self.lanes.look(Sight::All).await?;
        let (own, others): (VecDeque<_>, VecDeque<_>) = lanes.into_iter().partition(|(lane, _)| lane.boot == boot);
        self.lanes.put_back(others);
        self.run_lanes(own, Duration::MAX).await
    }

    /// Lanes that are not integrated any more because something in them was altered.
    pub(super) const fn refused(&self) -> &BTreeSet<Place> {
        &self.lanes.refused
    }

    async fn run_lanes(&mut self, mut lanes: VecDeque<LaneRow>, at_most: Duration) -> Result<(), Error> {
        let ran = self.turns(&mut lanes, at_most).await;
        self.noted.forget();
        self.lanes.put_back(lanes);
        // Whatever went wrong after it: what is committed is noted.
        let noted = self.note_heads().await;
        ran.and(noted)
    }

    /// A step of each lane in turn, so that a busy one keeps no other waiting.
    async fn turns(&mut self, lanes: &mut VecDeque<LaneRow>, at_most: Duration) -> Result<(), Error> {
        let (begun, mut steps) = (Instant::now(), 0);
        while let Some((mut lane, waits)) = lanes.pop_front() {
            let step = Instant::now();
            let place = (lane.boot, lane.lane);
            match self.step(&mut lane, waits).await {
                Ok(Step::More) => lanes.push_back((lane, waits)),
                Ok(Step::Rest) if at_most == Duration::MAX => lanes.push_back((lane, waits)),
                Ok(Step::Rest | Step::Nothing) => {}
                Err(error) => {
                    // What is stored now is not known: look again. Who came first said so of the logs of this step alone.
                    if !matches!(error, Error::Store(StoreError::Conflict)) {
                        self.edges.clear();
                    }
                    self.noted.forget();
                    self.numbers.remove(&place);
                    self.judge_error(error, &lane)?;
                }
            }
            if begun.elapsed() >= at_most {
                break;
            }
            // Requests that wait for a core have their turn between two steps.
            steps += 1;
            if at_most != Duration::MAX && steps <= GENTLE && !lanes.is_empty() {
                tokio::time::sleep((step.elapsed() * 2).min(REST)).await;
            }
        }
        Ok(())
    }

    /// Evidence stops what it speaks of; that somebody came first is nothing; the rest is for the next run.
    fn judge_error(&mut self, error: Error, lane: &LaneProgress) -> Result<(), Error> {
        match error {
            Error::Store(StoreError::Conflict) => {
                self.yielded = Some(Instant::now());
                Ok(())
            }
            Error::History(log) => {
                self.health.alarm(&format!("log {log}: its head in the database is not one that was signed"));
                self.health.set(Some(Distrust::History(log)));
                Ok(())
            }
            error if error.is_evidence() => {
                let LaneProgress { boot, lane, next, .. } = lane;
                let why = error.words();
                self.health.alarm(&format!("lane {lane} of boot {boot} from number {next}: {why}"));
                self.lanes.refused.insert((*boot, *lane));
                Ok(())
            }
            error => Err(error),
        }
    }

    async fn step(&mut self, lane: &mut LaneProgress, waits: bool) -> Result<Step, Error> {
        self.believe(lane, waits).await?;
        let (pending, more) = self.store.pending(lane.boot, lane.lane, lane.next, SLICE).await?;
        if pending.is_empty() {
            return Ok(Step::Nothing);
        }
        let (accepted, fault) = self.judge(&pending, lane).await?;
        if !accepted.is_empty() {
            self.integrate(accepted, lane).await?;
        }
        fault.map_or(Ok(if more { Step::More } else { Step::Rest }), |fault| Err(fault.into()))
    }

    /// Takes the lane's row for true: it says what is known, or it is proven. One that changed under our eyes and is not
    /// is somebody's work.
    async fn believe(&mut self, row: &LaneProgress, waits: bool) -> Result<(), Error> {
        let place = (row.boot, row.lane);
        let remembered = self.lanes.known.get(&place).copied();
        if remembered == Some(*row) {
            return Ok(());
        }
        match self.check(row, remembered.as_ref(), waits).await {
            Ok(()) => {
                if remembered.is_some() {
                    // It moves on any log: taking over must not fail at each of them in turn.
                    self.edges.clear();
                    self.yielded = Some(Instant::now());
                }
                self.numbers.remove(&place);
                self.lanes.known.insert(place, *row);
                Ok(())
            }
            Err(error) => {
                let is_history = matches!(error, Error::History(_));
                if remembered.is_some() && error.is_evidence() && !is_history {
                    self.health.set(Some(Distrust::Pending));
                }
                Err(error)
            }
        }
    }

    async fn check(&mut self, row: &LaneProgress, remembered: Option<&LaneProgress>, waits: bool) -> Result<(), Error> {
        // A lane begins with its first batch, in one commit: a beginning behind which nothing waits is none.
        if row.next == 0 && !waits {
            return Err(Error::Lane);
        }
        let certificate = self.certificate(row.boot).await?.ok_or(crate::access_log::Error::Certificate)?;
        let progress = Progress { store: self.store.clone(), keys: self.keys.clone() };
        progress.check(row, remembered, &certificate).await
    }

    /// Database first, then the signed file: once for all logs that grew.
    async fn note_heads(&mut self) -> Result<(), Error> {
        if self.unnoted.is_empty() {
            return Ok(());
        }
        let heads: Vec<_> = self.unnoted.iter().map(heads::to_file).collect();
        self.keys.write_heads(&heads).await?;
        self.unnoted.clear();
        Ok(())
    }

    /// The batches that hold, from the first one on, and what is wrong with the next one.
    async fn judge<'a>(
        &mut self,
        pending: &'a [PendingBatch],
        lane: &mut LaneProgress,
    ) -> Result<(Vec<Accepted<'a>>, Option<crate::access_log::Error>), Error> {
        let Some(certificate) = self.certificate(lane.boot).await? else {
            return Ok((Vec::new(), Some(crate::access_log::Error::Certificate)));
        };
        let mut numbers = self.numbers_of(pending, lane).await?;
        let mut accepted = Vec::new();
        for batch in pending {
            match judge(batch, Some(self.store.own_batches()), &certificate, lane, &mut numbers) {
                Ok(hashes) => accepted.push((batch, hashes)),
                Err(fault) => return Ok((accepted, Some(fault))),
            }
        }
        self.numbers.insert((lane.boot, lane.lane), numbers);
        Ok((accepted, None))
    }

    /// The certificate of a boot, if the system log's key signed one.
    async fn certificate(&mut self, boot: BootId) -> Result<Option<Certificate>, Error> {
        if let Some(certificate) = self.certificates.get(&boot) {
            return Ok(Some(certificate.clone()));
        }
        let certificate = certificate(boot, &self.store, &self.keys).await?;
        self.certificates.extend(certificate.clone().map(|certificate| (boot, certificate)));
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
                    // Not there or not integrated: then this group does not follow.
                    if self.store.is_integrated(&group.tenant, &before).await? { group.first } else { 0 }
                }
            };
            numbers.insert(group.tenant.clone(), next);
        }
        Ok(numbers)
    }

    /// Indices, tiles, signed heads and the lane, all or nothing.
    async fn integrate(&mut self, batches: Vec<Accepted<'_>>, lane: &LaneProgress) -> Result<(), Error> {
        let mut shares: BTreeMap<&TenantName, (Vec<Position>, Vec<[u8; 32]>)> = BTreeMap::new();
        for ((tenant, position, _), hash) in batches.iter().flat_map(|(batch, hashes)| batch.entries.iter().zip(hashes))
        {
            let share = shares.entry(tenant).or_default();
            share.0.push(*position);
            share.1.push(*hash);
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
            let checkpoint = Some(checkpoints::sign(log, to, &self.store, &self.keys).await?);
            edges.push((log.clone(), (to, edge)));
            step.logs.push(LogAdvance { log: log.clone(), from, to, positions, tiles, checkpoint });
        }
        let from = batches.first().map_or(lane.next, |(pending, _)| pending.batch.first);
        step.lanes.push(LaneAdvance {
            boot: lane.boot,
            lane: lane.lane,
            from,
            next: lane.next,
            previous: lane.previous,
        });
        let entries: usize = step.logs.iter().map(|log| log.positions.len()).sum();
        let span =
            tracing::debug_span!("integration", boot = %lane.boot, lane = lane.lane, logs = step.logs.len(), entries);
        let integrated = self.store.integrate(&step).instrument(span).await;
        if integrated.is_err() {
            step.logs.iter().for_each(|log| drop(self.edges.remove(&log.log)));
        }
        integrated?;
        self.lanes.known.insert((lane.boot, lane.lane), *lane);
        self.unnoted.extend(edges.iter().map(|(log, (head, _))| (log.clone(), *head)));
        self.edges.extend(edges);
        Ok(())
    }

    /// The head of a log and its right edge: remembered, or read and believed only as far as it was signed.
    async fn edge(&mut self, log: &TenantName) -> Result<(Option<LogHead>, Tiles), Error> {
        if let Some((head, edge)) = self.edges.get(log) {
            return Ok((Some(*head), edge.clone()));
        }
        let noted = self.noted.of(log, &self.keys).await?;
        let head = match self.store.head(log).await {
            Err(StoreError::Unreadable(_)) => return Err(Error::History(log.clone())),
            head => head?,
        };
        if let Some(noted) = noted
            && !heads::continues(log, noted, head, &self.store).await?
        {
            return Err(Error::History(log.clone()));
        }
        let Some(head) = head else { return Ok((None, Tiles::default())) };
        let edge = tiles::read(&Tiles::for_root(head.size), log, &self.store).await?;
        let holds = proof::root(head.size, &edge).is_ok_and(|root| root == head.root);
        if !holds || !checkpoints::is_signed(log, head, &self.store, &self.keys).await? {
            return Err(Error::History(log.clone()));
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
