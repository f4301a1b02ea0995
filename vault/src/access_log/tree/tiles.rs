//! Hash tiles (c2sp.org/tlog-tiles): 256 hashes of one level; what a computation needs of them, how a log grows in them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use super::{Hash, Node, Range, fold, proof};
use crate::access_log::Error;

/// Hashes in a full tile.
pub const TILE_WIDTH: u64 = 256;
const HEIGHT: u8 = 8;

/// A tile as a log of a certain size has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileId {
    /// The level; `None` is the level of the entry bundles.
    pub level: Option<u8>,
    /// The index within the level.
    pub index: u64,
    /// How many hashes or entries, 1 to 256.
    pub width: u16,
}

impl TileId {
    /// The entry bundle at `index` of a log of `size` entries; none if it is empty.
    #[must_use]
    pub fn entries(index: u64, size: u64) -> Option<Self> {
        width(0, index, size).map(|width| Self { level: None, index, width })
    }

    /// The hash tile at `level` and `index` of a log of `size` entries; none if it is empty.
    #[must_use]
    pub fn hashes(level: u8, index: u64, size: u64) -> Option<Self> {
        width(level, index, size).map(|width| Self { level: Some(level), index, width })
    }

    /// Every hash tile of a log of `size` entries.
    pub fn all_hashes(size: u64) -> impl Iterator<Item = Self> {
        (0..HEIGHT).flat_map(move |level| {
            let count = hashes_at(level, size).div_ceil(TILE_WIDTH);
            (0..count).filter_map(move |index| Self::hashes(level, index, size))
        })
    }

    /// Every entry bundle of a log of `size` entries.
    pub fn all_entries(size: u64) -> impl Iterator<Item = Self> {
        (0..size.div_ceil(TILE_WIDTH)).filter_map(move |index| Self::entries(index, size))
    }
}

/// How many hashes a log of `size` entries has at a level of tiles.
const fn hashes_at(level: u8, size: u64) -> u64 {
    if level >= HEIGHT { 0 } else { size >> (level * HEIGHT) }
}

fn width(level: u8, index: u64, size: u64) -> Option<u16> {
    let start = index.checked_mul(TILE_WIDTH)?;
    let width = hashes_at(level, size).checked_sub(start)?.min(TILE_WIDTH);
    u16::try_from(width).ok().filter(|width| *width > 0)
}

impl fmt::Display for TileId {
    /// The path: `tile/0/x001/234.p/5`, `tile/entries/000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level {
            Some(level) => write!(f, "tile/{level}/")?,
            None => f.write_str("tile/entries/")?,
        }
        let digits = self.index.to_string();
        let digits = format!("{digits:0>width$}", width = digits.len().div_ceil(3) * 3);
        for at in (0..digits.len()).step_by(3) {
            let begins = if at + 3 < digits.len() { "x" } else { "" };
            let ends = if at + 3 < digits.len() { "/" } else { "" };
            write!(f, "{begins}{}{ends}", &digits[at..at + 3])?;
        }
        if u64::from(self.width) < TILE_WIDTH { write!(f, ".p/{}", self.width) } else { Ok(()) }
    }
}

impl FromStr for TileId {
    type Err = Error;

    fn from_str(path: &str) -> Result<Self, Error> {
        let (level, rest) = path.strip_prefix("tile/").and_then(|rest| rest.split_once('/')).ok_or(Error::Tile)?;
        let level = if level == "entries" { None } else { Some(level.parse().map_err(|_| Error::Tile)?) };
        let (index, width) = match rest.split_once(".p/") {
            Some((index, width)) => (index, width.parse().map_err(|_| Error::Tile)?),
            None => (rest, 256),
        };
        let digits: String = index.split('/').map(|part| part.strip_prefix('x').unwrap_or(part)).collect();
        let tile = Self { level, index: digits.parse().map_err(|_| Error::Tile)?, width };
        // One spelling: everything the parts above let through must come out as it went in.
        let sane = (1..=256).contains(&width) && level.is_none_or(|level| level < 64);
        if sane && tile.to_string() == path { Ok(tile) } else { Err(Error::Tile) }
    }
}

/// Hash tiles at hand, each as wide as it was given.
#[derive(Debug, Clone, Default)]
pub struct Tiles(BTreeMap<(u8, u64), Vec<Hash>>);

impl Tiles {
    /// Takes the bytes of a tile.
    ///
    /// # Errors
    /// [`Error::Tile`] for bytes that are no 1 to 256 hashes.
    pub fn insert(&mut self, level: u8, index: u64, bytes: &[u8]) -> Result<(), Error> {
        let (hashes, []) = bytes.as_chunks::<32>() else { return Err(Error::Tile) };
        if hashes.is_empty() || hashes.len() > TILE_WIDTH as usize {
            return Err(Error::Tile);
        }
        self.0.insert((level, index), hashes.to_vec());
        Ok(())
    }

    /// The bytes of a tile, cut to `width` hashes; none if so many are not at hand.
    #[must_use]
    pub fn bytes(&self, level: u8, index: u64, width: u16) -> Option<Vec<u8>> {
        self.0.get(&(level, index))?.get(..usize::from(width)).map(<[Hash]>::concat)
    }

    /// Lets go of every tile but these.
    pub fn keep(&mut self, wanted: &BTreeSet<TileId>) {
        self.0.retain(|(level, index), _| wanted.iter().any(|id| id.level == Some(*level) && id.index == *index));
    }

    /// A leaf's hash, if it is at hand.
    #[must_use]
    pub fn leaf(&self, index: u64) -> Option<Hash> {
        self.node(Node { height: 0, index }).ok()
    }

    /// The hash tiles an inclusion proof reads.
    #[must_use]
    pub fn for_inclusion(index: u64, size: u64) -> BTreeSet<TileId> {
        if index < size { tiles_of(proof::inclusion_nodes(index, size), size) } else { BTreeSet::new() }
    }

    /// The hash tiles a consistency proof reads.
    #[must_use]
    pub fn for_consistency(old: u64, new: u64) -> BTreeSet<TileId> {
        tiles_of(proof::consistency_nodes(old, new), new)
    }

    /// The hash tiles that the root at `size` and growth from there read: those of the right edge.
    #[must_use]
    pub fn for_root(size: u64) -> BTreeSet<TileId> {
        tiles_of(Range { start: 0, end: size }.nodes(), size)
    }

    /// Appends leaf hashes to a log of `size` entries and gives the new root and the tiles that changed.
    /// The tiles of [`Tiles::for_root`] must be at hand.
    ///
    /// # Errors
    /// [`Error::MissingTile`]; [`Error::OutsideTree`] if more hashes are at hand than the log has.
    pub fn append(&mut self, size: u64, leaves: &[Hash]) -> Result<(Hash, BTreeSet<TileId>), Error> {
        let mut touched = BTreeSet::new();
        for (leaf, at) in leaves.iter().zip(size..) {
            self.push(0, at, *leaf, &mut touched)?;
        }
        let new_size = size + leaves.len() as u64;
        let changed = touched.into_iter().filter_map(|(level, index)| TileId::hashes(level, index, new_size)).collect();
        Ok((proof::root(new_size, self)?, changed))
    }

    fn push(&mut self, level: u8, at: u64, hash: Hash, touched: &mut BTreeSet<(u8, u64)>) -> Result<(), Error> {
        let (index, place) = (at / TILE_WIDTH, at % TILE_WIDTH);
        let tile = self.0.entry((level, index)).or_default();
        if (tile.len() as u64) < place {
            return Err(missing(level, index));
        }
        if tile.len() as u64 > place {
            return Err(Error::OutsideTree);
        }
        tile.push(hash);
        touched.insert((level, index));
        if place + 1 == TILE_WIDTH {
            let above = super::root_of_hashes(tile);
            self.push(level + 1, index, above, touched)?;
        }
        Ok(())
    }

    pub(super) fn node(&self, node: Node) -> Result<Hash, Error> {
        let (level, index, from, count) = place(node);
        let tile = self.0.get(&(level, index)).ok_or_else(|| missing(level, index))?;
        let hashes = tile.get(from..from + count).ok_or_else(|| missing(level, index))?;
        Ok(super::root_of_hashes(hashes))
    }

    pub(super) fn range_hash(&self, range: Range) -> Result<Hash, Error> {
        let hashes = range.nodes().into_iter().map(|node| self.node(node)).collect::<Result<Vec<_>, _>>()?;
        Ok(fold(&hashes))
    }
}

/// Level and index of the tile a node's hash is made from, and which of its hashes.
fn place(node: Node) -> (u8, u64, usize, usize) {
    let (level, inner) = (node.height / HEIGHT, node.height % HEIGHT);
    // Below 256 both: the casts cannot cut.
    let from = (node.index << inner) % TILE_WIDTH;
    (level, node.index >> (HEIGHT - inner), from as usize, 1 << inner)
}

fn tiles_of(nodes: Vec<Node>, size: u64) -> BTreeSet<TileId> {
    let tile = |node| {
        let (level, index, ..) = place(node);
        TileId::hashes(level, index, size)
    };
    nodes.into_iter().filter_map(tile).collect()
}

fn missing(level: u8, index: u64) -> Error {
    Error::MissingTile(TileId { level: Some(level), index, width: 256 }.to_string())
}
