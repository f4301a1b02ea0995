//! Hash tiles out of the store, each cut to the width it had in a tree of a certain size.

use std::collections::BTreeSet;

use super::Error;
use crate::access_log::tree::tiles::{TileId, Tiles};
use crate::access_log::tree::{Hash, proof};
use crate::domain::TenantName;
use crate::store::Store;

/// Reads the tiles named. One that is missing or too narrow shows when a hash of it is needed.
pub(super) async fn read(wanted: &BTreeSet<TileId>, log: &TenantName, store: &Store) -> Result<Tiles, Error> {
    let mut tiles = Tiles::default();
    for id in wanted {
        let Some(level) = id.level else { continue };
        if let Some(bytes) = store.tile(log, level, id.index).await? {
            let width = bytes.len().min(usize::from(id.width) * 32);
            tiles.insert(level, id.index, &bytes[..width])?;
        }
    }
    Ok(tiles)
}

/// The root of the tree of `size` leaves as the stored tiles give it.
pub(super) async fn root(size: u64, log: &TenantName, store: &Store) -> Result<Hash, Error> {
    let tiles = read(&Tiles::for_root(size), log, store).await?;
    Ok(proof::root(size, &tiles)?)
}
