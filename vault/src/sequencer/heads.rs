//! The heads outside: at start and every few seconds the database must continue what was signed, or nothing is served.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use super::{Error, checkpoints, tiles};
use crate::access_log::tree::tiles::Tiles;
use crate::access_log::tree::{consistency_proof, proof, verify_consistency};
use crate::access_log::{Distrust, LogHealth};
use crate::domain::TenantName;
use crate::keys::{self, Head, Keys};
use crate::store::Store;
use crate::store::integration::LogHead;

/// Compares the database with the key store's file and with the highest heads this node has seen.
pub(super) struct HeadWatch {
    store: Store,
    keys: Keys,
    /// The heads of the last look: signed, each a continuation of the one before.
    highest: BTreeMap<TenantName, LogHead>,
}

impl HeadWatch {
    pub(super) const fn new(store: Store, keys: Keys) -> Self {
        Self { store, keys, highest: BTreeMap::new() }
    }

    /// Looks once: why nothing may be served, or nothing. A store that does not answer is not evidence: that is an error.
    /// While the node serves, what is remembered needs no proof a second time; a reason not to serve is only taken back
    /// after all of it.
    pub(super) async fn look(&mut self, health: &LogHealth) -> Result<Option<Distrust>, Error> {
        let before = health.distrust();
        let file = match self.keys.read_heads().await {
            Ok(file) => file,
            // A key store that does not answer is no evidence either; one that is altered or gone is.
            Err(error @ keys::Error::Unavailable(_)) => return Err(error.into()),
            Err(_) => return Ok(Some(Distrust::Heads)),
        };
        let current: BTreeMap<TenantName, LogHead> = self.store.heads().await?.into_iter().collect();
        for (log, head) in &current {
            let is_known = before.is_none() && self.highest.get(log) == Some(head);
            if !is_known && !checkpoints::is_signed(log, *head, &self.store, &self.keys).await? {
                health.alarm(&format!("log {log}: its head of {} entries was never signed", head.size));
                return Ok(Some(Distrust::History(log.clone())));
            }
            // Its right edge, which the next entries are built on.
            if !is_known && !continues(log, *head, Some(*head), &self.store).await? {
                health.alarm(&format!("log {log}: its tiles do not lead to the root of the {} signed", head.size));
                return Ok(Some(Distrust::History(log.clone())));
            }
        }
        // A head that does not read is none here, and may be what was found.
        if let Some(Distrust::History(log)) = &before
            && !current.contains_key(log)
        {
            return Ok(before);
        }
        let file: BTreeMap<TenantName, LogHead> = file.into_iter().map(of_file).collect();
        for (log, old) in file.iter().chain(&self.highest) {
            let now = current.get(log);
            let is_known = before.is_none() && Some(old) == now && self.highest.get(log) == now;
            if !is_known && !continues(log, *old, now.copied(), &self.store).await? {
                health.alarm(&format!("log {log}: the database does not continue the {} entries signed", old.size));
                return Ok(Some(Distrust::History(log.clone())));
            }
        }
        // A crash, or a key store that was away, may have left the file behind; a larger head there always stays.
        let behind = current.iter().filter(|(log, head)| file.get(log) != Some(head));
        let behind: Vec<Head> = behind.map(to_file).collect();
        if !behind.is_empty() {
            self.keys.write_heads(&behind).await?;
        }
        self.highest = current;
        Ok(None)
    }
}

/// What is known of the file is relied on for so long at most: as long as a round of integration.
const NOTED: Duration = Duration::from_secs(1);

/// The heads in the file, read once for all logs of a round. One that was noted since is a continuation of what is known here:
/// a log is held to what was noted when its round began.
#[derive(Default)]
pub(super) struct Noted(Option<(Instant, HashMap<TenantName, LogHead>)>);

impl Noted {
    /// The head of a log.
    pub(super) async fn of(&mut self, log: &TenantName, keys: &Keys) -> Result<Option<LogHead>, Error> {
        if self.0.as_ref().is_none_or(|(at, _)| at.elapsed() >= NOTED) {
            let at = Instant::now();
            self.0 = Some((at, keys.read_heads().await?.into_iter().map(of_file).collect()));
        }
        Ok(self.0.as_ref().and_then(|(_, heads)| heads.get(log).copied()))
    }

    /// Reads the file again before it is relied on.
    pub(super) fn forget(&mut self) {
        self.0 = None;
    }
}

pub(super) fn of_file(head: Head) -> (TenantName, LogHead) {
    (head.log, LogHead { size: head.size, root: head.root })
}

pub(super) fn to_file((log, head): (&TenantName, &LogHead)) -> Head {
    Head { log: log.clone(), size: head.size, root: head.root }
}

/// Whether the log now begins with the tree it was then: a size not below and a proof from the stored tiles.
pub(super) async fn continues(
    log: &TenantName,
    old: LogHead,
    now: Option<LogHead>,
    store: &Store,
) -> Result<bool, Error> {
    let Some(now) = now else { return Ok(old.size == 0) };
    if now.size < old.size {
        return Ok(false);
    }
    let mut wanted = Tiles::for_root(now.size);
    wanted.extend(Tiles::for_consistency(old.size, now.size));
    let tiles = tiles::read(&wanted, log, store).await?;
    let proven = proof::root(now.size, &tiles).is_ok_and(|root| root == now.root)
        && consistency_proof(old.size, now.size, &tiles)
            .is_ok_and(|proof| verify_consistency(old.size, &old.root, now.size, &now.root, &proof).is_ok());
    Ok(proven)
}
