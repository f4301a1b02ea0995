//! Hash tiles out of the store, each cut to the width it had in a tree of a certain size.

use std::collections::BTreeSet;

use super::Error;
use crate::access_log::tree::tiles::{TILE_WIDTH, TileId, Tiles};
use crate::domain::TenantName;
use crate::store::Store;

/// Reads the tiles named. One that is missing, too narrow or no tile at all shows when a hash of it is needed.
pub(super) async fn read(wanted: &BTreeSet<TileId>, log: &TenantName, store: &Store) -> Result<Tiles, Error> {
    let mut tiles = Tiles::default();
    for id in wanted {
        let Some(level) = id.level else { continue };
        if let Some(bytes) = store.tile(log, level, id.index).await? {
            let width = bytes.len().min(usize::from(id.width) * 32);
            // Bytes that are no hashes are as good as none.
            let _ = tiles.insert(level, id.index, &bytes[..width]);
        }
    }
    Ok(tiles)
}

/// Reads what proves a leaf, and the tile it stands in itself: a leaf alone in its tile is proven without that.
pub(super) async fn beside(leaf: u64, size: u64, log: &TenantName, store: &Store) -> Result<Tiles, Error> {
    let mut wanted = Tiles::for_inclusion(leaf, size);
    wanted.extend(TileId::hashes(0, leaf / TILE_WIDTH, size));
    read(&wanted, log, store).await
}
