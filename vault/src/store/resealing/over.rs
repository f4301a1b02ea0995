//! Whether a compromise is over.

use std::collections::BTreeMap;

use super::DATA_KEYS;
use crate::domain::{KekId, TenantName};
use crate::keys::{self, Compromise, KeyRecords};
use crate::store::{Error, Store};

/// How many data keys stand still that were made before each compromised version was said to be so, and that values may rest on: at
/// 0 its compromise is over. A data key that does not read is among them: nobody knows that it is not. One whose class was
/// altered in its row is found when it is opened, not here.
///
/// # Errors
/// [`Error::Database`]; a row that does not read.
pub async fn left(tenant: &TenantName, store: &Store) -> Result<BTreeMap<(KekId, u32), u64>, Error> {
    let keks = store.keks(tenant).await.map_err(keys::Error::from)?;
    let said = keks.iter().filter_map(|kek| Some(((kek.kek_id, kek.version), Compromise::by(kek, &keks)?)));
    let said: Vec<_> = said.collect();
    let mut left: BTreeMap<_, u64> = said.iter().map(|(version, _)| (*version, 0)).collect();
    if said.is_empty() {
        return Ok(left);
    }
    let (mut after, mut read) = (None, 0);
    loop {
        let rows = store.data_keys_after(tenant, after, DATA_KEYS).await?;
        let Some(last) = rows.last() else { break };
        after = Some(last.data_key_id);
        read += rows.len() as u64;
        for row in rows.iter().filter(|row| row.class.is_of_values()) {
            for (version, _) in said.iter().filter(|(_, compromise)| compromise.spoils(row)) {
                *left.entry(*version).or_default() += 1;
            }
        }
    }
    // Counted after them: one that is made meanwhile counts for a moment, and none is missed.
    let all: u64 = store.data_keys_by_kek(tenant).await?.iter().map(|(_, _, count)| count).sum();
    left.values_mut().for_each(|left| *left += all.saturating_sub(read));
    Ok(left)
}
