//! Boots that ended without `node.stopped` (a crash, a power cut): an entry says so and names their last number.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::integrate::certificate;
use super::record::record;
use super::watch::is_kept;
use super::{Error, HOUR, due};
use crate::access_log::node::LaneEnd;
use crate::access_log::{Action, Entry, Heartbeat, Leaf, Outcome};
use crate::domain::{Actor, BootId, TenantName, Timestamp};
use crate::store::node_key::NodeKeyRecord;
use crate::store::records::Body as _;
use crate::store::rows::Table;
use crate::store::{Committer, Store};

/// A boot that gave a sign of life so recently may still be there.
const SILENCE: Duration = Duration::from_secs(30);
/// So many signs of life of its own, five seconds apart, a node sees come while none comes of a boot that it takes to be
/// silent: half a minute in which the database took what it was given. While the database is away everybody is silent.
const OWN_BEATS: u64 = 7;
/// So many entries go in one commit.
const AT_ONCE: usize = 200;
/// So many rows are read at once.
const PART: usize = 500;

/// Finds and closes ended boots; remembers those that are closed.
pub(super) struct Closing {
    store: Store,
    closed: BTreeSet<BootId>,
    /// Boots without a last word that may not write: who closed them went away in the middle.
    half_closed: BTreeSet<BootId>,
    /// When those were looked for among all that ever were.
    read_all: Option<Instant>,
    /// The last sign of life of each boot, and how many of its own this node had seen when it first saw that one. Neither
    /// clock is asked: other nodes' may be wrong, and this node may have been frozen itself.
    last: BTreeMap<BootId, (Timestamp, u64)>,
    /// The last one of its own, and how many it saw.
    own: (Option<Timestamp>, u64),
}

/// A boot that gave no sign of life for long, with its last one.
pub(super) type Silent = (NodeKeyRecord, Option<Heartbeat>);

impl Closing {
    pub(super) const fn new(store: Store) -> Self {
        Self {
            store,
            closed: BTreeSet::new(),
            half_closed: BTreeSet::new(),
            read_all: None,
            last: BTreeMap::new(),
            own: (None, 0),
        }
    }

    /// Looks who gave a sign of life: as often as this node gives one, so that none of its own is missed.
    pub(super) async fn watch(&mut self, own: BootId) -> Result<(), Error> {
        let beats = self.store.open_heartbeats().await?;
        let latest = beats.iter().find(|beat| beat.boot == own).map(|beat| beat.time);
        if latest != self.own.0 {
            self.own = (latest, self.own.1 + 1);
        }
        for beat in beats {
            self.is_still(beat.boot, beat.time);
        }
        Ok(())
    }

    /// Boots that are silent and, as far as is known here, not closed. Those that may write and those that somebody began to close are
    /// looked at each time; whether another one lacks its last word, of all that ever were, once an hour: its note was taken away.
    pub(super) async fn silent(&mut self) -> Result<Vec<Silent>, Error> {
        if due(&mut self.read_all, HOUR)
            && let Err(error) = self.read_all().await
        {
            self.read_all = None;
            return Err(error);
        }
        let now = self.store.clock().now();
        let (beats, boots) = self.candidates().await?;
        self.last.retain(|known, _| boots.iter().any(|boot| boot.boot == *known));
        let mut silent = Vec::new();
        for boot in boots {
            let last = beats.get(&boot.boot);
            let seen = last.map_or(boot.started_at, |beat| beat.time);
            // Both: a clock that is wrong makes no living boot a dead one.
            if self.is_still(boot.boot, seen) && now.since(seen) >= SILENCE {
                silent.push((boot, last.cloned()));
            }
        }
        Ok(silent)
    }

    /// Whether nothing new came from a boot while this node gave signs of life of its own. A node alone trusts its clock.
    fn is_still(&mut self, boot: BootId, seen: Timestamp) -> bool {
        let now = self.own.1;
        let known = self.last.entry(boot).or_insert((seen, now));
        if known.0 != seen {
            *known = (seen, now);
        }
        !self.store.keys().is_shared() || now - known.1 >= OWN_BEATS
    }

    /// Closes boots that were found silent, but this one and those that somebody closed already.
    pub(super) async fn close_all(&mut self, silent: Vec<Silent>, committer: &Committer) -> Result<(), Error> {
        if silent.is_empty() {
            return Ok(());
        }
        self.closed = stopped(&self.store).await?;
        for (boot, last) in silent {
            // Not among the closed ones: what another node noted of this boot is not forgotten for that.
            if self.closed.contains(&boot.boot) || boot.boot == committer.identity().boot() {
                continue;
            }
            // If this breaks off, it is taken up again, here or by another node.
            self.half_closed.insert(boot.boot);
            self.store.note_closing(boot.boot).await?;
            // It may have been frozen only: from here on it writes nothing more, so that what is found is where it ends.
            self.store.close_boot(boot.boot).await?;
            let promised = self.hold_to(last.as_ref(), &boot).await?;
            self.close(&boot, promised, committer).await?;
            self.closed.insert(boot.boot);
            self.store.forget_closing(boot.boot).await?;
        }
        Ok(())
    }

    /// Looks through every boot that ever was for those that may not write and have no last word.
    async fn read_all(&mut self) -> Result<(), Error> {
        let open: BTreeSet<BootId> = self.store.open_boots().await?.into_iter().collect();
        let mut boots: BTreeSet<BootId> = self.store.heartbeats().await?.iter().map(|beat| beat.boot).collect();
        let (system, mut after) = (TenantName::system(), String::new());
        // There is one for each start that ever was: in parts, so that no reading takes long.
        loop {
            let part = self.store.rows_after(Table::NodeKeys, (&after, PART), &system).await.map_err(Error::from);
            let rows = match part {
                Ok(rows) => rows,
                // The others are found by their signs of life.
                Err(error) if error.is_evidence() => {
                    self.store.log_health().alarm(&error.words());
                    break;
                }
                Err(error) => return Err(error),
            };
            boots.extend(rows.iter().filter_map(|row| row.key.parse::<BootId>().ok()));
            match rows.last() {
                Some(last) => after.clone_from(&last.key),
                None => break,
            }
        }
        self.closed = stopped(&self.store).await?;
        self.half_closed =
            boots.into_iter().filter(|boot| !self.closed.contains(boot) && !open.contains(boot)).collect();
        Ok(())
    }

    /// Boots that may be closed, with their signs of life. One whose row is not authentic is an alarm and hides no other.
    async fn candidates(&self) -> Result<(BTreeMap<BootId, Heartbeat>, Vec<NodeKeyRecord>), Error> {
        let open: BTreeSet<BootId> = self.store.open_boots().await?.into_iter().collect();
        let noted = self.store.closing_boots().await?;
        for boot in noted.iter().filter(|boot| self.closed.contains(boot)) {
            self.store.forget_closing(*boot).await?;
        }
        let noted = self.half_closed.iter().copied().chain(noted);
        let half_closed: BTreeSet<BootId> = noted.filter(|boot| !self.closed.contains(boot)).collect();
        let beats = if half_closed.is_subset(&open) {
            self.store.open_heartbeats().await?
        } else {
            self.store.heartbeats().await?
        };
        let mut boots = Vec::new();
        for boot in open.union(&half_closed).filter(|boot| !self.closed.contains(boot)) {
            match record_of(*boot, &self.store).await {
                Ok(row) => boots.extend(row),
                Err(error) if error.is_evidence() => {
                    self.store.log_health().alarm(&format!("boot {boot}: {}", error.words()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok((beats.into_iter().map(|beat| (beat.boot, beat)).collect(), boots))
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
        let stopped = async |log: &TenantName, lane: u32, next: u64| {
            let actor = Actor::node(committer.identity().boot());
            let mut entry = Entry::by(log.clone(), now, Action::NodeStopped, Outcome::Unknown, actor);
            entry.facts = vec![
                ("boot", boot.boot.to_string()),
                ("node", boot.node.clone()),
                ("lane", lane.to_string()),
                ("closedBy", committer.identity().boot().to_string()),
            ];
            // The log's own: a lane counts each log by itself, and what others wrote is nobody's business.
            let last = self.store.last_number(log, boot.boot, lane).await?;
            entry.facts.extend(last.map(|last| ("last", last.to_string())));
            if log.is_system() {
                entry.facts.push(("next", next.to_string()));
            }
            Ok::<_, Error>(entry)
        };
        let (mut of_tenants, mut of_system) = (Vec::new(), Vec::new());
        for (log, _) in self.store.heads().await?.iter().filter(|(log, _)| !log.is_system()) {
            for (lane, next) in &lanes {
                of_tenants.push(stopped(log, *lane, *next).await?);
            }
        }
        for (lane, next) in lanes {
            of_system.push(stopped(&TenantName::system(), lane, next).await?);
        }
        for chunk in of_tenants.chunks(AT_ONCE) {
            record(chunk.to_vec(), committer, now).await?;
        }
        if of_system.is_empty() {
            return Ok(());
        }
        record(of_system, committer, now).await?;
        Ok(())
    }
}

/// What a boot's own row says of it, if it is authentic.
async fn record_of(boot: BootId, store: &Store) -> Result<Option<NodeKeyRecord>, Error> {
    let row = store.row(Table::NodeKeys, &TenantName::system(), &boot.to_string()).await?;
    Ok(row.map(|row| NodeKeyRecord::from_row(&row)).transpose()?)
}

/// Boots with a `node.stopped` entry in the system log, by themselves or by whoever closed them.
async fn stopped(store: &Store) -> Result<BTreeSet<BootId>, Error> {
    let leaves = store.farewells().await?;
    let read = |leaf: &Vec<u8>| Leaf::parse(leaf).ok()?.fact("boot")?.parse().ok();
    Ok(leaves.iter().filter_map(read).collect())
}

/// Whether some boot gave a sign of life just now, or began just now, and may write still.
pub(super) async fn is_any_alive(store: &Store) -> Result<bool, Error> {
    let now = store.clock().now();
    Ok(last_signs(store).await?.values().any(|at| now.since(*at) < SILENCE))
}

/// When each boot that did not end in order gave its last sign of life, or began.
pub(super) async fn last_signs(store: &Store) -> Result<BTreeMap<BootId, Timestamp>, Error> {
    let mut seen: BTreeMap<BootId, Timestamp> = BTreeMap::new();
    let mut note = |boot: BootId, at: Timestamp| {
        seen.entry(boot).and_modify(|last| *last = at.max(*last)).or_insert(at);
    };
    store.open_heartbeats().await?.iter().for_each(|beat| note(beat.boot, beat.time));
    // Its first sign of life comes seconds after its start. Where rows were altered, signs of life alone are left.
    for boot in store.open_boots().await? {
        match record_of(boot, store).await {
            Ok(Some(record)) => note(boot, record.started_at),
            Ok(None) => {}
            Err(error) if error.is_evidence() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(seen)
}
