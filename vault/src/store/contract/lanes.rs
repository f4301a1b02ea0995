//! Lanes: few are read often, all of them in pieces, and what was written into one is looked at in pieces too.

use super::on_every_engine;
use super::vault::{Vault, demo, entry};
use crate::access_log::Action;
use crate::access_log::node::LaneEnd;
use crate::domain::BootId;
use crate::store::committer::operation::Changes;
use crate::store::engine;
use crate::store::integration::LaneKey;

on_every_engine!(
    lanes_and_signs_of_life_of_boots_that_are_closed_are_not_read_with_those_that_may_write,
    every_lane_is_found_in_pieces_of_one,
    what_was_written_into_a_lane_is_looked_at_in_pieces,
);

async fn write(vault: &Vault) {
    let used = || Changes { entries: vec![entry(&demo(), Action::ValueDereferenced).into()], ..Changes::default() };
    vault.write(used).await.unwrap();
}

/// Another boot of this installation that wrote its first and its last.
async fn ended(vault: &Vault) -> BootId {
    let (_store, committer) = vault.second_node().await;
    committer.beat().await.unwrap();
    committer.stop().await.unwrap();
    committer.identity().boot()
}

async fn lanes_and_signs_of_life_of_boots_that_are_closed_are_not_read_with_those_that_may_write(vault: Vault) {
    let vault = vault.with_tenant().await;
    vault.committer.beat().await.unwrap();
    let (own, other) = (vault.committer.identity().boot(), ended(&vault).await);
    assert_eq!(vault.store.lanes_of(other).await.unwrap().len(), 1);
    let (bad, of) = (vault.literal(&[0]), vault.literal(other.as_bytes()));
    vault.tamper(&format!("UPDATE log_lanes SET previous = {bad} WHERE boot = {of}")).await;
    vault.tamper(&format!("UPDATE heartbeats SET signature = {bad} WHERE boot = {of}")).await;
    let alarms = || vault.store.log_health().self_check().alarms;
    assert_eq!(vault.store.open_boots().await.unwrap(), [own]);
    let lanes = vault.store.lanes_of_open_boots().await.unwrap();
    assert!(lanes.iter().map(|(lane, _)| lane.boot).eq([own]));
    let beats = vault.store.open_heartbeats().await.unwrap();
    assert!(beats.iter().map(|beat| beat.boot).eq([own]));
    assert_eq!(alarms(), Vec::<String>::new());
    assert!(vault.store.lanes_of(other).await.unwrap().is_empty());
    assert_eq!((vault.store.all_lanes().await.unwrap().len(), vault.store.heartbeats().await.unwrap().len()), (1, 1));
    assert_eq!(alarms().len(), 2, "{:?}", alarms());
}

async fn every_lane_is_found_in_pieces_of_one(vault: Vault) {
    let vault = vault.with_tenant().await;
    let boots = [vault.committer.identity().boot(), ended(&vault).await, ended(&vault).await];
    let (mut found, mut after) = (Vec::new(), Some(LaneKey::default()));
    while let Some(key) = after {
        let piece = engine!(vault.store, lanes_after(&key, 1)).unwrap();
        assert!(piece.rows.len() <= 1);
        found.extend(piece.rows.into_iter().map(|row| row.unwrap().0.boot));
        after = piece.next;
    }
    found.sort_unstable();
    let mut all = boots.to_vec();
    all.sort_unstable();
    assert_eq!(found, all);
    for gone in [boots[0], boots[2]] {
        vault.tamper(&format!("DELETE FROM log_lanes WHERE boot = {}", vault.literal(gone.as_bytes()))).await;
    }
    let (mut without, mut after) = (Vec::new(), Some(LaneKey::default()));
    while let Some(key) = after {
        let piece = engine!(vault.store, lanes_without_row(&key, 1)).unwrap();
        without.extend(piece.rows.into_iter().map(|row| row.unwrap().0));
        after = piece.next;
    }
    without.sort_unstable();
    all.retain(|boot| *boot != boots[1]);
    assert_eq!(without, all);
}

async fn what_was_written_into_a_lane_is_looked_at_in_pieces(vault: Vault) {
    let vault = vault.with_tenant().await;
    for _ in 0..7 {
        write(&vault).await;
    }
    let (boot, to) = (vault.committer.identity().boot(), vault.committer.lanes()[0]);
    let chained = async |from: LaneEnd| vault.store.chained(boot, from, to, 3).await.unwrap();
    let beginning = LaneEnd { lane: 0, next: 0, previous: [0; 32] };
    let (mut ends, mut end) = (Vec::new(), beginning);
    while end != to {
        let next = chained(end).await.unwrap();
        assert!(next.next > end.next && next.next <= to.next);
        ends.push(next);
        end = next;
    }
    assert!(ends.len() >= 4, "{ends:?}");
    // From where it was found whole on nothing before is read.
    let last = ends[ends.len() - 2];
    vault.tamper(&format!("DELETE FROM log_groups WHERE batch = {}", ends[0].next)).await;
    assert_eq!(chained(last).await, Some(to));
    assert_eq!(chained(ends[0]).await, None);
    let forged = LaneEnd { previous: [7; 32], ..last };
    assert_eq!(chained(forged).await, None);
    assert_eq!(chained(to).await, None, "nothing is there behind the end");
}
