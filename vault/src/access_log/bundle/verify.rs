//! The check of a bundle, from the signature down to each opening. It stops at the first fault.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, Read as _};

use sha2::{Digest, Sha256};

use super::{CHECKPOINT, Fault, Files, IndexRange, MANIFEST, Manifest, OPENINGS, RANGE, README, VKEY, names};
use crate::access_log::checkpoint::Checkpoint;
use crate::access_log::tree::entries::split_entries;
use crate::access_log::tree::tiles::{TILE_WIDTH, TileId, Tiles};
use crate::access_log::tree::{Hash, consistency_proof, empty_root, leaf_hash, proof, verify_consistency};
use crate::access_log::{Commitment, Error, Leaf, Opening, ParsedEntry, Personal, Position, VerifierKey};
use crate::domain::{BootId, TenantName};

/// What a bundle without fault holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The verified checkpoint.
    pub checkpoint: Checkpoint,
    /// The indices whose entries are in the bundle; all of them are.
    pub range: IndexRange,
    /// Openings of personal members that are there.
    pub openings: u64,
    /// Personal members without one: erased, or made while the key that seals openings could not be had. The bytes of the log
    /// do not tell these apart.
    pub without_opening: u64,
    /// Others without one, of which the bundle says that they were out of reach when it was made.
    pub out_of_reach: u64,
    /// The older checkpoint that this log continues.
    pub since: Option<Checkpoint>,
}

/// Checks a bundle against keys the auditor trusts, and against a checkpoint they kept, if any.
///
/// # Errors
/// The first [`Fault`].
pub fn verify(files: &impl Files, trusted: &[VerifierKey], since: Option<&str>) -> Result<Report, Fault> {
    let note = text(files, CHECKPOINT)?;
    let checkpoint = Checkpoint::open(&note, trusted).map_err(|error| Fault::Checkpoint { error })?;
    let range = range(files, checkpoint.size)?;
    let entries = Entries::read(files, range, checkpoint.size)?;
    let tiles = hash_tiles(files, &entries, &checkpoint)?;
    let since = since.map(|note| continues(note, &checkpoint, &tiles, trusted)).transpose()?;
    let entries = entries.each_reads()?;
    let (openings, seen) = openings(files, &entries)?;
    let out_of_reach = out_of_reach(files, &entries, &seen)?;
    manifest(files, range, checkpoint.size)?;
    let lacking = |seen: &u8| MEMBERS.saturating_sub(u64::from(seen.count_ones()));
    let kept = seen.iter().zip(&entries.personal).filter(|(_, keeps)| **keeps);
    let without_opening = kept.map(|(seen, _)| lacking(seen)).sum::<u64>().saturating_sub(out_of_reach);
    Ok(Report { checkpoint, range, openings, without_opening, out_of_reach, since })
}

fn bytes(files: &impl Files, name: &str) -> Result<Vec<u8>, Fault> {
    let read = files.read(name).map_err(|source| Fault::Read { file: name.to_owned(), source })?;
    read.ok_or_else(|| Fault::Missing { file: name.to_owned() })
}

fn text(files: &impl Files, name: &str) -> Result<String, Fault> {
    let read = String::from_utf8(bytes(files, name)?);
    read.map_err(|_| Fault::Unreadable { file: name.to_owned(), error: Error::Note })
}

fn range(files: &impl Files, size: u64) -> Result<IndexRange, Fault> {
    let read = files.read(RANGE).map_err(|source| Fault::Read { file: RANGE.to_owned(), source })?;
    let Some(content) = read else { return Ok(IndexRange { from: 0, to: size }) };
    let wrong = |error| Fault::Unreadable { file: RANGE.to_owned(), error };
    let range: IndexRange =
        std::str::from_utf8(&content).map_err(|_| wrong(Error::OutsideTree))?.parse().map_err(wrong)?;
    // A partial bundle holds whole entry bundles, so that its borders cannot hide an entry.
    if range.widened(size) == range { Ok(range) } else { Err(wrong(Error::OutsideTree)) }
}

/// So many openings an entry can have.
const MEMBERS: u64 = Personal::ALL.len() as u64;

/// What the check keeps of the entries: a log of a million fits into little memory, the entries themselves do not.
struct Entries {
    from: u64,
    hashes: Vec<Hash>,
    commitments: Vec<[Commitment; Personal::ALL.len()]>,
    /// Which of them keep openings: those of the vault's own doing have no personal members.
    personal: Vec<bool>,
    /// The first entry that does not read or follow: told after what the tree says.
    fault: Option<Fault>,
}

impl Entries {
    fn read(files: &impl Files, range: IndexRange, size: u64) -> Result<Self, Fault> {
        let (hashes, commitments, personal) = (Vec::new(), Vec::new(), Vec::new());
        let mut all = Self { from: range.from, hashes, commitments, personal, fault: None };
        let mut order = Order { from: range.from, lanes: BTreeMap::new(), tenant: None };
        for tile in range.from / TILE_WIDTH..range.to.div_ceil(TILE_WIDTH) {
            let Some(id) = TileId::entries(tile, size) else { continue };
            let (file, start) = (id.to_string(), tile * TILE_WIDTH);
            let content = bytes(files, &file)?;
            let wrong = |at: usize| Fault::Entries { file: file.clone(), index: start + at as u64, expected: id.width };
            let leaves = split_entries(&content).map_err(wrong)?;
            if leaves.len() != usize::from(id.width) {
                return Err(wrong(leaves.len().min(usize::from(id.width))));
            }
            for (leaf, index) in leaves.into_iter().zip(start..) {
                all.hashes.push(leaf_hash(leaf));
                if all.fault.is_none() {
                    all.take(order.next(leaf, index));
                }
            }
        }
        Ok(all)
    }

    fn take(&mut self, read: Result<ParsedEntry, Fault>) {
        match read {
            Ok(entry) => {
                self.personal.push(!entry.is_own());
                self.commitments.push(Personal::ALL.map(|member| entry.commitment(member)));
            }
            Err(fault) => self.fault = Some(fault),
        }
    }

    fn each_reads(self) -> Result<Self, Fault> {
        let Self { from, hashes, commitments, personal, fault } = self;
        fault.map_or(Ok(Self { from, hashes, commitments, personal, fault: None }), Err)
    }

    /// The place of an index among the entries.
    fn place(&self, index: u64) -> Option<usize> {
        let place = usize::try_from(index.checked_sub(self.from)?).ok()?;
        (place < self.commitments.len()).then_some(place)
    }
}

/// What the next entry must be.
struct Order {
    from: u64,
    lanes: BTreeMap<(BootId, u32), u64>,
    tenant: Option<TenantName>,
}

impl Order {
    /// Reads an entry: canonical, of one tenant, and next in its lane.
    fn next(&mut self, leaf: &[u8], index: u64) -> Result<ParsedEntry, Fault> {
        let wrong = |error| Fault::Leaf { file: entry_file(index), index, error };
        let entry = Leaf::parse(leaf).map_err(wrong)?;
        let at = entry.position;
        // The first number of a lane can only be known where the log begins in the bundle.
        let known = self.lanes.get(&(at.boot, at.lane)).copied();
        let next = known.or_else(|| (self.from == 0).then_some(0)).unwrap_or(at.number);
        let owner = self.tenant.get_or_insert_with(|| entry.tenant.clone());
        if at.number != next || entry.tenant != *owner {
            let expected = format!("{owner} {}", Position { number: next, ..at });
            return Err(Fault::Lane { index, found: format!("{} {at}", entry.tenant), expected });
        }
        self.lanes.insert((at.boot, at.lane), next.saturating_add(1));
        Ok(entry)
    }
}

fn entry_file(index: u64) -> String {
    format!("{}…", TileId { level: None, index: index / TILE_WIDTH, width: 256 })
}

/// All hash tiles, computed from level 0 upwards and compared file by file; the root is the signed one.
fn hash_tiles(files: &impl Files, entries: &Entries, signed: &Checkpoint) -> Result<Tiles, Fault> {
    let level0 = TileId::all_hashes(signed.size).take_while(|id| id.level == Some(0));
    let mut leaves: Vec<Hash> = Vec::new();
    for id in level0 {
        leaves.extend(tile_hashes(files, &id)?);
    }
    let mut tiles = Tiles::default();
    let root = tiles.append(0, &leaves).map_or_else(|_| empty_root(), |(root, _)| root);
    let from = usize::try_from(entries.from).unwrap_or(usize::MAX);
    let in_tiles = leaves.get(from..).unwrap_or_default();
    let differs = entries.hashes.iter().zip(in_tiles).position(|(own, tile)| own != tile);
    if let Some(at) = differs {
        let index = entries.from + at as u64;
        let (own, tile) = (entries.hashes[at], in_tiles[at]);
        if root == signed.root {
            return Err(Fault::Entry { file: entry_file(index), index, found: own, expected: tile });
        }
        let whole = entries.hashes.len() == leaves.len();
        if whole && crate::access_log::tree::root_of_hashes(&entries.hashes) == signed.root {
            let (file, place) = (level0_file(index, signed.size), at % TILE_WIDTH as usize);
            return Err(Fault::Tile { file, place, found: tile, expected: own });
        }
    }
    let wrong_above = TileId::all_hashes(signed.size)
        .filter(|id| id.level != Some(0))
        .find_map(|id| compare(files, &id, &tiles).err());
    if root != signed.root {
        let suspect =
            differs.map(|at| entry_file(entries.from + at as u64)).or_else(|| below(wrong_above, signed.size));
        return Err(Fault::Root { size: signed.size, found: root, expected: signed.root, suspect });
    }
    wrong_above.map_or(Ok(tiles), Err)
}

/// The tile whose root a differing hash is.
fn below(fault: Option<Fault>, size: u64) -> Option<String> {
    let Some(Fault::Tile { file, place, .. }) = fault else { return None };
    let id: TileId = file.parse().ok()?;
    TileId::hashes(id.level?.checked_sub(1)?, id.index * TILE_WIDTH + place as u64, size).map(|id| id.to_string())
}

fn level0_file(index: u64, size: u64) -> String {
    TileId::hashes(0, index / TILE_WIDTH, size).map_or_else(String::new, |id| id.to_string())
}

fn tile_hashes(files: &impl Files, id: &TileId) -> Result<Vec<Hash>, Fault> {
    let file = id.to_string();
    let content = bytes(files, &file)?;
    match content.as_chunks::<32>() {
        (hashes, []) if hashes.len() == usize::from(id.width) => Ok(hashes.to_vec()),
        _ => Err(Fault::Unreadable { file, error: Error::Tile }),
    }
}

fn compare(files: &impl Files, id: &TileId, tiles: &Tiles) -> Result<(), Fault> {
    let found = tile_hashes(files, id)?;
    let expected = id.level.and_then(|level| tiles.bytes(level, id.index, id.width)).unwrap_or_default();
    let (expected, _) = expected.as_chunks::<32>();
    match found.iter().zip(expected).position(|(found, expected)| found != expected) {
        Some(place) => Err(Fault::Tile { file: id.to_string(), place, found: found[place], expected: expected[place] }),
        None => Ok(()),
    }
}

/// The older checkpoint is of the same log and this tree begins with its tree.
fn continues(note: &str, new: &Checkpoint, tiles: &Tiles, trusted: &[VerifierKey]) -> Result<Checkpoint, Fault> {
    let old = Checkpoint::open(note, trusted).map_err(|error| Fault::Since { error })?;
    if old.origin != new.origin {
        return Err(Fault::Since { error: Error::Origin });
    }
    let found = if old.size <= new.size { proof::root(old.size, tiles).ok() } else { None };
    let proven = consistency_proof(old.size, new.size, tiles)
        .and_then(|proof| verify_consistency(old.size, &old.root, new.size, &new.root, &proof));
    if proven.is_ok() && found == Some(old.root) {
        Ok(old)
    } else {
        Err(Fault::History { old: Box::new(old), new: Box::new(new.clone()), found })
    }
}

/// The openings that are missing of entries which the bundle names as out of reach. It is its word: what it says of them is as good as
/// that they were erased.
fn out_of_reach(files: &impl Files, entries: &Entries, seen: &[u8]) -> Result<u64, Fault> {
    let wrong = |error| Fault::Unreadable { file: README.to_owned(), error };
    let read = files.read(README).map_err(|source| Fault::Read { file: README.to_owned(), source })?;
    let Some(readme) = read else { return Ok(0) };
    let ranges = names::out_of_reach(&String::from_utf8_lossy(&readme)).map_err(wrong)?;
    let (mut count, mut next) = (0, entries.from);
    for IndexRange { from, to } in ranges {
        // In order, so that none is counted twice.
        if from < next || from >= to {
            return Err(wrong(Error::OutsideTree));
        }
        next = to;
        for index in from..to {
            let place = entries.place(index).ok_or_else(|| wrong(Error::OutsideTree))?;
            let possible = if entries.personal[place] { MEMBERS } else { 0 };
            count += possible.saturating_sub(u64::from(seen[place].count_ones()));
        }
    }
    Ok(count)
}

/// Every opening opens a commitment of an entry in the bundle, once. Gives their number, and a bit for each member of each entry.
fn openings(files: &impl Files, entries: &Entries) -> Result<(u64, Vec<u8>), Fault> {
    let (mut seen, mut count) = (vec![0_u8; entries.commitments.len()], 0);
    for (line, at) in io::BufReader::new(stream(files, OPENINGS)?).lines().zip(1..) {
        let line = line.map_err(|source| match source.kind() {
            io::ErrorKind::InvalidData => Fault::Unreadable { file: OPENINGS.to_owned(), error: Error::Note },
            _ => Fault::Read { file: OPENINGS.to_owned(), source },
        })?;
        let wrong = |index, error| Fault::Opening { line: at, index, error };
        let (index, opening) = Opening::from_line(&line).map_err(|error| wrong(0, error))?;
        let place = entries.place(index).ok_or_else(|| wrong(index, Error::OutsideTree))?;
        let (member, bit) = (opening.member as usize, 1_u8 << opening.member as u8);
        if entries.commitments[place][member] != opening.commitment() || seen[place] & bit != 0 {
            return Err(wrong(index, Error::Commitment));
        }
        seen[place] |= bit;
        count += 1;
    }
    Ok((count, seen))
}

fn stream<'f>(files: &'f impl Files, name: &str) -> Result<Box<dyn io::Read + 'f>, Fault> {
    let opened = files.open(name).map_err(|source| Fault::Read { file: name.to_owned(), source })?;
    opened.ok_or_else(|| Fault::Missing { file: name.to_owned() })
}

fn hash_of(files: &impl Files, name: &str) -> Result<Hash, Fault> {
    let (mut content, mut digest, mut piece) = (stream(files, name)?, Sha256::new(), vec![0; 64 * 1024]);
    loop {
        match content.read(&mut piece) {
            Ok(0) => return Ok(digest.finalize().into()),
            Ok(read) => digest.update(&piece[..read]),
            Err(source) if source.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(Fault::Read { file: name.to_owned(), source }),
        }
    }
}

/// Every file stands in the manifest with its hash, and no file is there that does not belong.
fn manifest(files: &impl Files, range: IndexRange, size: u64) -> Result<(), Fault> {
    let unreadable = |_| Fault::Unreadable { file: MANIFEST.to_owned(), error: Error::Note };
    let manifest: Manifest = text(files, MANIFEST)?.parse().map_err(unreadable)?;
    for (name, expected) in manifest.iter() {
        let found = hash_of(files, name)?;
        if found != *expected {
            return Err(Fault::Manifest { file: name.to_owned(), found, expected: *expected });
        }
    }
    let names = files.names().map_err(|source| Fault::Read { file: ".".to_owned(), source })?;
    for file in names {
        let belongs = match file.parse::<TileId>() {
            Ok(TileId { level: None, index, width }) => {
                let inside = (range.from..range.to).contains(&index.saturating_mul(TILE_WIDTH));
                inside && TileId::entries(index, size).is_some_and(|id| id.width == width)
            }
            Ok(TileId { level: Some(level), index, width }) => {
                TileId::hashes(level, index, size).is_some_and(|id| id.width == width)
            }
            Err(_) => [CHECKPOINT, OPENINGS, RANGE, README, VKEY].contains(&file.as_str()),
        };
        if file != MANIFEST && !(belongs && manifest.get(&file).is_some()) {
            return Err(Fault::Unexpected { file });
        }
    }
    Ok(())
}
