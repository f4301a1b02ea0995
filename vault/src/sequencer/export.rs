//! Bundles out of the store: file by file, so that a log of any size goes through little memory.

use std::io;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::mpsc::{OwnedPermit, Receiver, Sender};
use zeroize::Zeroizing;

use super::{Error, LogReader, checkpoints, tiles};
use crate::access_log::bundle::{CHECKPOINT, IndexRange, MANIFEST, Manifest, OPENINGS, RANGE, README, VKEY, readme};
use crate::access_log::tree::tiles::{TILE_WIDTH, TileId};
use crate::access_log::{Checkpoint, Leaf};
use crate::domain::{DataKeyClass, Epoch, TenantName, Timestamp};
use crate::keys::{self, KeyRecords as _};

/// Which part of a log to export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// Entries with these indices.
    Indices(IndexRange),
    /// Entries of this time on, and before that.
    Times(Timestamp, Timestamp),
}

impl Part {
    /// Reads `from` and `to` of a request: both times (RFC 3339) or both indices; one that is missing is the end of the log.
    ///
    /// # Errors
    /// [`Error::Range`].
    pub fn parse(from: Option<&str>, to: Option<&str>) -> Result<Self, Error> {
        if from.is_none() && to.is_none() {
            return Ok(Self::Whole);
        }
        let index = |text: Option<&str>, end| text.map_or(Some(end), |text| text.parse::<u64>().ok());
        if let (Some(from), Some(to)) = (index(from, 0), index(to, u64::MAX)) {
            return if from <= to { Ok(Self::Indices(IndexRange { from, to })) } else { Err(Error::Range) };
        }
        let time =
            |text: Option<&str>, end| text.map_or_else(|| Some(Timestamp::from_millis(end)), Timestamp::from_rfc3339);
        match (time(from, 0), time(to, u64::MAX)) {
            (Some(from), Some(to)) if from <= to => Ok(Self::Times(from, to)),
            _ => Err(Error::Range),
        }
    }
}

/// Where a bundle's files go.
pub trait Sink {
    /// Begins a file of so many bytes; the order is not fixed, but [`MANIFEST`] comes last.
    ///
    /// # Errors
    /// It cannot be written.
    fn begin(&mut self, name: &str, length: u64) -> impl Future<Output = io::Result<()>> + Send;

    /// Takes the next bytes of the file.
    ///
    /// # Errors
    /// It cannot be written.
    fn more(&mut self, content: &[u8]) -> impl Future<Output = io::Result<()>> + Send;

    /// Ends the file.
    ///
    /// # Errors
    /// It cannot be written.
    fn end(&mut self) -> impl Future<Output = io::Result<()>> + Send;
}

impl LogReader {
    /// Writes the bundle of a log, or of a part of it, up to its newest checkpoint.
    ///
    /// # Errors
    /// [`Error::Pending`] before the first entry is integrated, [`Error::Range`], [`Error::Output`], the store's.
    pub async fn export(
        &self,
        log: &TenantName,
        part: Part,
        sink: &mut (impl Sink + Send),
    ) -> Result<Checkpoint, Error> {
        let (note, checkpoint) = checkpoints::newest(log, &self.store, &self.keys).await?;
        let range = self.range(log, part, checkpoint.size).await?;
        let mut bundle = Bundle { sink, manifest: Manifest::default() };
        bundle.put(CHECKPOINT, note.as_bytes()).await?;
        bundle.put(VKEY, format!("{}\n", self.vkey(log).await?).as_bytes()).await?;
        if part != Part::Whole {
            bundle.put(RANGE, range.to_string().as_bytes()).await?;
        }
        for id in TileId::all_hashes(checkpoint.size) {
            let (Some(level), wanted) = (id.level, std::collections::BTreeSet::from([id])) else { continue };
            let read = tiles::read(&wanted, log, &self.store).await?;
            let content = read.bytes(level, id.index, id.width).ok_or(Error::Absent)?;
            bundle.put(&id.to_string(), &content).await?;
        }
        let mut length = 0;
        for tile in range.from / TILE_WIDTH..range.to.div_ceil(TILE_WIDTH) {
            let Some(id) = TileId::entries(tile, checkpoint.size) else { continue };
            bundle.put(&id.to_string(), &self.entries(log, &id).await?).await?;
            length += self.openings(log, &id).await?.0.len() as u64;
        }
        let out_of_reach = self.put_openings(log, range, checkpoint.size, length, &mut bundle).await?;
        bundle.put(README, readme(&out_of_reach).as_bytes()).await?;
        let manifest = bundle.manifest.to_string();
        bundle.put(MANIFEST, manifest.as_bytes()).await?;
        Ok(checkpoint)
    }

    /// Whether an export can begin: whether there is something, and whether what seals openings can be had; what nobody should wait for
    /// is left out of a bundle.
    ///
    /// # Errors
    /// [`Error::Pending`] before the first entry is integrated, [`Error::Keys`] while the tenant's key provider does not answer,
    /// the store's.
    pub async fn look_ahead(&self, log: &TenantName) -> Result<(), Error> {
        checkpoints::newest(log, &self.store, &self.keys).await?;
        let now = DataKeyClass::LogOpening.epoch(self.store.clock().now()).0;
        for epoch in now.saturating_sub(OPENING_EPOCHS)..=now {
            let class = DataKeyClass::LogOpening;
            let rows = self.store.find_data_keys(log, class, Epoch(epoch)).await.map_err(keys::Error::from)?;
            for row in rows {
                let Err(error) = self.keys.data_key(&self.store, log, row.data_key_id).await else { continue };
                let at = (log, row.data_key_id);
                if error.may_pass() && !self.keys.is_out_of_reach(&self.store, at, &error).await? {
                    return Err(Error::Keys(error));
                }
            }
        }
        Ok(())
    }

    /// How many entries of this part, or later ones, are durable and in no bundle yet, because they wait for integration: the bundle ends
    /// before them. At least so many where more than ten thousand batches wait.
    ///
    /// # Errors
    /// The store's.
    pub async fn pending(&self, log: &TenantName, part: Part) -> Result<u64, Error> {
        let Some(waiting) = self.store.waiting_in(log).await? else { return Ok(0) };
        let is_asked_for = match part {
            Part::Whole => true,
            Part::Indices(range) => range.to > checkpoints::newest(log, &self.store, &self.keys).await?.1.size,
            Part::Times(_, to) => to > waiting.since,
        };
        Ok(if is_asked_for { waiting.entries } else { 0 })
    }

    /// The lines of one entry bundle's openings, and the entries whose openings are out of reach and not waited for.
    async fn openings(&self, log: &TenantName, id: &TileId) -> Result<(Zeroizing<String>, Vec<IndexRange>), Error> {
        let start = id.index * TILE_WIDTH;
        let (mut lines, mut left) = (Zeroizing::new(String::new()), Vec::new());
        for entry in self.store.entries_by_index(log, start..start + u64::from(id.width)).await? {
            let Some(index) = entry.index else { continue };
            if entry.is_left_behind {
                append(&mut left, IndexRange { from: index, to: index + 1 });
            } else if entry.is_out_of_reach {
                // Soon they can be had: a bundle without them would be worth less.
                let why = io::Error::other("openings are out of reach");
                return Err(Error::Keys(keys::Error::Unavailable(Box::new(why))));
            }
            lines.extend(entry.openings.iter().map(|opening| opening.to_line(index) + "\n"));
        }
        Ok((lines, left))
    }

    /// All openings, a bundle of entries at a time. A tar names a file's length first, so they are read a second time; one
    /// that was erased meanwhile breaks the export off, and it can be asked for again. The entries whose openings are out of reach.
    async fn put_openings<S: Sink>(
        &self,
        log: &TenantName,
        range: IndexRange,
        size: u64,
        length: u64,
        bundle: &mut Bundle<'_, S>,
    ) -> Result<Vec<IndexRange>, Error> {
        bundle.sink.begin(OPENINGS, length).await.map_err(Error::Output)?;
        let (mut digest, mut left, mut out_of_reach) = (Sha256::new(), length, Vec::new());
        for tile in range.from / TILE_WIDTH..range.to.div_ceil(TILE_WIDTH) {
            let Some(id) = TileId::entries(tile, size) else { continue };
            let (lines, missing) = self.openings(log, &id).await?;
            missing.into_iter().for_each(|range| append(&mut out_of_reach, range));
            left = left.checked_sub(lines.len() as u64).ok_or_else(changed_meanwhile)?;
            digest.update(lines.as_bytes());
            bundle.sink.more(lines.as_bytes()).await.map_err(Error::Output)?;
        }
        if left > 0 {
            return Err(changed_meanwhile());
        }
        bundle.sink.end().await.map_err(Error::Output)?;
        bundle.manifest.insert_hash(OPENINGS, digest.finalize().into());
        Ok(out_of_reach)
    }

    /// The whole entry bundles that hold every entry of the part.
    async fn range(&self, log: &TenantName, part: Part, size: u64) -> Result<IndexRange, Error> {
        let range = match part {
            Part::Whole => IndexRange { from: 0, to: size },
            Part::Indices(range) => range,
            Part::Times(from, to) => IndexRange {
                from: self.first_since(log, from, size).await?,
                to: self.last_before(log, to, size).await?,
            },
        };
        if range.from > range.to {
            return Err(Error::Range);
        }
        Ok(range.widened(size))
    }

    /// An index before which no entry is of this time or later. Entries are nearly in the order of time: several lanes
    /// may overlap by seconds, so the search looks for a minute earlier.
    async fn first_since(&self, log: &TenantName, time: Timestamp, size: u64) -> Result<u64, Error> {
        let time = Timestamp::from_millis(time.as_millis().saturating_sub(OVERLAP));
        self.search(log, size, |at| at >= time).await
    }

    async fn last_before(&self, log: &TenantName, time: Timestamp, size: u64) -> Result<u64, Error> {
        let time = Timestamp::from_millis(time.as_millis().saturating_add(OVERLAP));
        self.search(log, size, |at| at >= time).await
    }

    /// The first index whose entry is late enough, in a log that is ordered by time.
    async fn search(&self, log: &TenantName, size: u64, late: impl Fn(Timestamp) -> bool) -> Result<u64, Error> {
        let (mut low, mut high) = (0, size);
        while low < high {
            let middle = low + (high - low) / 2;
            let found = self.store.leaves(log, middle..middle + 1).await?;
            let (.., leaf) = found.first().ok_or(Error::Absent)?;
            if late(Leaf::parse(leaf)?.time) { high = middle } else { low = middle + 1 }
        }
        Ok(low)
    }
}

/// So many epochs of openings, and the present one, can there be: thirteen months, and the month that began before them.
const OPENING_EPOCHS: u64 = 14;

/// Adds a range behind the others; one that follows at once is one with the last.
fn append(ranges: &mut Vec<IndexRange>, next: IndexRange) {
    match ranges.last_mut() {
        Some(last) if last.to == next.from => last.to = next.to,
        _ => ranges.push(next),
    }
}

/// How far lanes may overlap in the order of the index, in milliseconds.
pub(super) const OVERLAP: u64 = 60_000;

struct Bundle<'a, S> {
    sink: &'a mut S,
    manifest: Manifest,
}

impl<S: Sink> Bundle<'_, S> {
    async fn put(&mut self, name: &str, content: &[u8]) -> Result<(), Error> {
        self.manifest.insert(name, content);
        let written = async {
            self.sink.begin(name, content.len() as u64).await?;
            self.sink.more(content).await?;
            self.sink.end().await
        };
        written.await.map_err(Error::Output)
    }
}

fn changed_meanwhile() -> Error {
    Error::Output(io::Error::other("an opening was erased meanwhile"))
}

/// A tar, given away in pieces as it grows; an error is the last piece, so that nobody takes half a bundle for a whole.
pub struct Tar {
    /// Bytes of the file that is under way.
    written: u64,
    pieces: Sender<io::Result<Vec<u8>>>,
    /// The last piece's place in the queue: it never waits.
    last: Option<OwnedPermit<io::Result<Vec<u8>>>>,
    patience: Duration,
    time: u64,
}

/// A piece that is not taken for so long ends the export: its place is somebody else's.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pieces that wait to be taken, beside the last one.
const AHEAD: usize = 4;

impl Tar {
    /// A tar whose pieces come out of the receiver.
    #[must_use]
    pub fn new(now: Timestamp) -> (Self, Receiver<io::Result<Vec<u8>>>) {
        Self::with_patience(now, PATIENCE)
    }

    /// The same with another patience.
    pub(super) fn with_patience(now: Timestamp, patience: Duration) -> (Self, Receiver<io::Result<Vec<u8>>>) {
        let (pieces, receiver) = tokio::sync::mpsc::channel(AHEAD + 1);
        let last = pieces.clone().try_reserve_owned().ok();
        (Self { written: 0, pieces, last, patience, time: now.as_millis() / 1000 }, receiver)
    }

    /// Writes the end of the tar, or passes on why there is none.
    pub fn finish(self, done: Result<(), Error>) {
        let last = match done {
            Ok(()) => Ok(vec![0; 2 * BLOCK]),
            Err(error) => {
                tracing::error!(%error, "an export of the access log broke off");
                Err(io::Error::other("the export broke off"))
            }
        };
        // Whoever asked may be gone: then nobody misses it.
        if let Some(place) = self.last {
            place.send(last);
        }
    }
}

/// A tar is made of blocks; a file's last one is filled up, two empty ones are the end.
const BLOCK: usize = 512;

impl Tar {
    async fn give(&self, piece: Vec<u8>) -> io::Result<()> {
        self.pieces.send_timeout(Ok(piece), self.patience).await.map_err(|error| match error {
            SendTimeoutError::Timeout(_) => io::ErrorKind::TimedOut.into(),
            SendTimeoutError::Closed(_) => io::ErrorKind::BrokenPipe.into(),
        })
    }
}

impl Sink for Tar {
    async fn begin(&mut self, name: &str, length: u64) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_path(name)?;
        header.set_size(length);
        header.set_mode(0o644);
        header.set_mtime(self.time);
        header.set_cksum();
        self.written = 0;
        self.give(header.as_bytes().to_vec()).await
    }

    async fn more(&mut self, content: &[u8]) -> io::Result<()> {
        self.written += content.len() as u64;
        self.give(content.to_vec()).await
    }

    async fn end(&mut self) -> io::Result<()> {
        let over = usize::try_from(self.written % BLOCK as u64).unwrap_or(0);
        if over == 0 { Ok(()) } else { self.give(vec![0; BLOCK - over]).await }
    }
}
