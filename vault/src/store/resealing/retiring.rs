//! Takes data keys away that nothing rests on any more. What is taken away opens nothing ever again.
//!
//! A value that another node writes under a data key while it is looked for must not be missed, and no index tells which values rest
//! on one: it would be written with every capture. Asked in the commit that removes the data key it would take all of a tenant's values,
//! and every other batch would wait. So it is closed first, in a commit of its own that waits for every batch that seals under it
//! ([`Reads::data_keys`](crate::store::Reads)), and moves the tenant's generation on: whatever is decided later finds it closed, and what
//! captures seal under is chosen anew, on every node, by rows that say so. From then on nothing comes to rest on it. Then all values are
//! looked at, in parts, and what was found stays true. The last commit removes it only if it is closed, and so was before they were
//! looked at.

use std::collections::BTreeSet;

use super::{LOOK, Walk, deadline, entry};
use crate::domain::{DataKeyId, TenantName};
use crate::store::administration::{Administrator, in_both_logs};
use crate::store::committer::operation::Changes;
use crate::store::committer::own_work::OwnWork;
use crate::store::rows::DataKeyRow;
use crate::store::tenants::Ground;
use crate::store::{Error, Store};

/// Removes those of these data keys on which no value and no state rests, of whatever time it is; the others are closed, and are
/// looked at again by the next pass.
pub(super) async fn retire(
    by: &Administrator,
    idle: Vec<DataKeyRow>,
    walk: &mut Walk<'_>,
    ground: Ground<'_>,
) -> Result<(), Error> {
    let mut genuine = Vec::new();
    for row in idle {
        let (tenant, data_key_id) = (&by.tenant, row.data_key_id);
        // Only data keys of values are idle: a row that was made to look like one may be needed by what nobody looks for here.
        match ground.keys.is_bound(&row).await {
            Ok(Some(false)) => {
                tracing::error!(%tenant, %data_key_id, "a data key is not what was written: it is not taken away");
            }
            Ok(_) => genuine.push(row),
            // It keeps no other: its erasure key may come back.
            Err(error) => {
                tracing::warn!(%tenant, %data_key_id, %error, "whether a data key is what was written is not known")
            }
        }
    }
    // Those too that are closed: neither that nor the era by which they are idle is covered by their MAC, and a row that somebody
    // closed behind our back may be what seals at this moment.
    close(&by.tenant, genuine.iter().map(|row| row.data_key_id).collect(), ground).await?;
    let Some(needed) = data_keys_in_use(&by.tenant, walk, ground.store).await? else {
        tracing::error!(tenant = %by.tenant, "a value does not say which data key it needs: none is taken away");
        return Ok(());
    };
    for row in genuine.into_iter().filter(|row| !needed.contains(&row.data_key_id)) {
        let data_key_id = row.data_key_id;
        match ground.committer.submit(retirement(by, row, ground)).await {
            Ok(_) => {}
            // Another node took it away, or somebody opened it again.
            Err(Error::Conflict) => {
                tracing::warn!(tenant = %by.tenant, %data_key_id, "a data key is not what it was when values were looked at");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Closes data keys, after every batch that seals something under one of them, and every batch that was decided before.
pub(in crate::store) async fn close(
    tenant: &TenantName,
    data_keys: Vec<DataKeyId>,
    ground: Ground<'_>,
) -> Result<(), Error> {
    if data_keys.is_empty() {
        return Ok(());
    }
    let changes = move || Changes { closed_data_keys: data_keys.clone(), ..Changes::default() };
    ground.committer.submit(OwnWork::new(tenant.clone(), deadline(ground), changes).moving()).await?;
    // The others follow their generation.
    ground.keys.choose_anew(tenant);
    Ok(())
}

/// The data keys that some value or state of a tenant needs: all of them are read, a bounded part at a time. Nothing if a row does
/// not say which it needs.
async fn data_keys_in_use(
    tenant: &TenantName,
    walk: &Walk<'_>,
    store: &Store,
) -> Result<Option<BTreeSet<DataKeyId>>, Error> {
    let (mut found, mut after) = (BTreeSet::new(), Vec::new());
    loop {
        let _turn = walk.turn().await?;
        let seen = store.seals((&after, &[0xff; 32]), LOOK, tenant).await?;
        let Some(last) = seen.last() else { return Ok(Some(found)) };
        after.clone_from(&last.key);
        for row in seen {
            let Some(seals) = row.seals else { return Ok(None) };
            found.extend([Some(seals.data_key), seals.state].into_iter().flatten());
        }
    }
}

/// The commit that takes a data key away.
fn retirement(by: &Administrator, row: DataKeyRow, ground: Ground<'_>) -> OwnWork {
    let (who, clock) = (by.clone(), ground.store.clock().clone());
    OwnWork::new(by.tenant.clone(), deadline(ground), move || Changes {
        entries: in_both_logs(entry(&who, &row, "data-key.retired", clock.now())),
        retired_data_keys: vec![row.data_key_id],
        ..Changes::default()
    })
}
