//! Whoever writes to the database writes no history: heads are believed as far as they were signed, and a row that is
//! broken on purpose silences nothing but itself.

use std::time::Duration;

use super::{Vault, tenant};
use crate::access_log::tree::tiles::Tiles;
use crate::access_log::{Action, Checkpoint, Distrust, NodeIdentity, Position, leaf_hash};
use crate::domain::TenantName;
use crate::sequencer::{Pass, Sequencer, tiles};
use crate::store::integration::{Checkpointed, Integration, LogAdvance, LogHead, TileRow};

impl Vault {
    /// Appends an entry that nobody wrote, with an index, tiles and a head that hold together.
    async fn forge(&self, note: Option<String>) -> LogHead {
        let head = self.store.head(&tenant()).await.unwrap().unwrap();
        let mut edge = tiles::read(&Tiles::for_root(head.size), &tenant(), &self.store).await.unwrap();
        let (root, changed) = edge.append(head.size, &[leaf_hash(b"forged")]).unwrap();
        let to = LogHead { size: head.size + 1, root };
        let boot = self.committer.identity().boot();
        let row = |id: crate::access_log::tree::tiles::TileId| TileRow {
            level: id.level.unwrap(),
            tile: id.index,
            hashes: edge.bytes(id.level.unwrap(), id.index, id.width).unwrap(),
        };
        let advance = LogAdvance {
            log: tenant(),
            from: Some(head),
            to,
            positions: vec![Position { boot, lane: 0, number: 999 }],
            tiles: changed.into_iter().map(row).collect(),
            checkpoint: note.map(|note| Checkpointed { size: to.size, time: self.clock.now(), note }),
        };
        self.store.integrate(&Integration { lanes: Vec::new(), logs: vec![advance] }).await.unwrap();
        to
    }

    async fn newest_checkpoint(&self) -> String {
        self.store.checkpoint(&tenant(), None).await.unwrap().unwrap().note
    }
}

#[tokio::test]
async fn a_forged_head_is_never_signed_nor_built_on() {
    let vault = Vault::start().await;
    vault.write(3).await;
    let mut integrator = vault.integrator();
    integrator.run(Duration::MAX).await.unwrap();
    let genuine = vault.newest_checkpoint().await;
    let forged = vault.forge(None).await;
    vault.write(1).await;
    // The compare-and-swap fails, the head is read again.
    integrator.run(Duration::MAX).await.unwrap();
    integrator.run(Duration::MAX).await.unwrap();
    assert_eq!(vault.store.head(&tenant()).await.unwrap(), Some(forged));
    assert_eq!(vault.newest_checkpoint().await, genuine);
    assert_eq!(vault.store.log_health().distrust(), Some(Distrust::History(tenant())));
    assert!(vault.alarms().contains("not one that was signed"), "{}", vault.alarms());
    // Nor does any other sequencer take it for the log.
    assert_eq!(vault.look().await, Some(Distrust::History(tenant())));
    let noted = vault.keys.read_heads().await.unwrap();
    assert!(noted.iter().all(|head| head.log != tenant() || head.size < forged.size));
}

#[tokio::test]
async fn a_forged_head_with_another_keys_signature_is_no_better() {
    let vault = Vault::start().await;
    vault.write(2).await;
    vault.integrate().await;
    let old = vault.newest_checkpoint().await;
    let forged = vault.forge(Some(old)).await;
    assert_eq!(vault.look().await, Some(Distrust::History(tenant())));
    let checkpoint = Checkpoint { origin: "siv/x".to_owned(), size: forged.size, root: forged.root };
    let (text, size) = (checkpoint.to_text(), forged.size);
    vault.meddle(format!("UPDATE checkpoints SET note = '{text}' WHERE tenant = 'demo' AND size = {size}")).await;
    assert_eq!(vault.look().await, Some(Distrust::History(tenant())));
}

#[tokio::test]
async fn a_head_that_went_back_while_the_node_ran_is_not_signed_a_second_time() {
    let vault = Vault::start().await;
    vault.write(1).await;
    let mut integrator = vault.integrator();
    integrator.run(Duration::MAX).await.unwrap();
    let before = vault.store.head(&tenant()).await.unwrap().unwrap();
    vault.write(2).await;
    integrator.run(Duration::MAX).await.unwrap();
    let root: String = before.root.iter().map(|byte| format!("{byte:02x}")).collect();
    vault.meddle(format!("UPDATE log_heads SET size = {}, root = x'{root}' WHERE tenant = 'demo'", before.size)).await;
    vault.write(1).await;
    integrator.run(Duration::MAX).await.unwrap();
    integrator.run(Duration::MAX).await.unwrap();
    assert_eq!(vault.store.head(&tenant()).await.unwrap(), Some(before));
    assert_eq!(vault.store.log_health().distrust(), Some(Distrust::History(tenant())));
}

#[tokio::test]
async fn a_broken_lane_is_an_alarm_and_stops_no_other() {
    for (sql, said) in [
        ("UPDATE log_batches SET signature = x'00' WHERE boot = ?", "log_batches is not readable"),
        ("UPDATE log_lanes SET previous = x'00' WHERE boot = ?", "log_lanes is not readable"),
        ("UPDATE node_keys SET mac = zeroblob(32) WHERE key = '#'", "node_keys was tampered with"),
    ] {
        let dead = Vault::start().await;
        let boot = dead.committer.identity().boot();
        dead.write(1).await;
        let vault = Vault::start_in(dead.crash().await).await;
        vault.write(1).await;
        let hex: String = boot.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        vault.meddle(sql.replace('?', &format!("x'{hex}'")).replace('#', &boot.to_string())).await;
        let refused = vault.integrate().await;
        assert!(refused.iter().all(|(of, _)| *of == boot), "{sql}: {refused:?}");
        assert!(vault.alarms().contains(said), "{sql}: {}", vault.alarms());
        let head = vault.store.head(&tenant()).await.unwrap().unwrap();
        assert_eq!(head.size, 2, "{sql}: this boot's entries are integrated");
    }
}

#[tokio::test]
async fn an_index_that_is_taken_already_is_an_alarm() {
    // Where the next leaf will stand, and further on, where only a later one would.
    for taken in [0, 1, 500] {
        let vault = Vault::start().await;
        vault.write(1).await;
        let forged = format!(
            "INSERT INTO log_index (tenant, leaf_index, count, boot, lane, number) VALUES ('demo', {taken}, 1, x'00', 0, 0)"
        );
        vault.meddle(forged).await;
        assert_eq!(vault.integrate().await.len(), 1, "{taken}");
        assert!(vault.alarms().contains("log_index was tampered with"), "{taken}: {}", vault.alarms());
    }
}

#[tokio::test]
async fn entries_that_lane_rows_call_integrated_are_missed() {
    let vault = Vault::start().await;
    vault.write(2).await;
    // As if everything had its index already.
    vault.meddle("UPDATE log_lanes SET next = 90").await;
    let (store, keys) = (vault.store.clone(), vault.keys.clone());
    let sequencer = Sequencer::start(store, keys, vault.committer.clone()).await.unwrap();
    sequencer.stop().await;
    assert_eq!(vault.store.log_health().distrust(), Some(Distrust::Pending));
}

#[tokio::test]
async fn one_bad_log_keeps_no_checkpoint_of_another_out_of_the_system_log() {
    let vault = Vault::start().await;
    vault.write(2).await;
    let other: TenantName = "other".parse().unwrap();
    let entry = crate::access_log::Entry::by(
        other.clone(),
        vault.clock.now(),
        Action::LogRead,
        crate::access_log::Outcome::Allowed,
        crate::domain::Actor::anonymous(),
    );
    super::record(vec![entry], &vault.committer, vault.clock.now()).await.unwrap();
    vault.integrate().await;
    vault.meddle("UPDATE checkpoints SET note = 'x' WHERE tenant = 'demo'").await;
    let mut anchoring = crate::sequencer::anchoring::Anchoring::new(vault.store.clone(), vault.keys.clone());
    anchoring.run(&vault.committer).await.unwrap();
    let noted = vault.entries_of("admin.log.checkpoint", &TenantName::system()).await;
    assert_eq!(noted.iter().filter_map(|entry| entry.fact("log")).collect::<Vec<_>>(), ["other"]);
    assert!(vault.alarms().contains("log demo: the newest checkpoint"), "{}", vault.alarms());
}

#[tokio::test]
async fn an_entry_cannot_pass_for_an_old_one_to_escape_the_hourly_check() {
    let vault = Vault::start().await;
    // Half of it is index 255: whoever believes its time goes on at the next tile.
    vault.write(509).await;
    vault.integrate().await;
    vault
        .meddle("UPDATE access_log SET leaf = CAST(replace(CAST(leaf AS TEXT), '\"2026-', '\"2020-') AS BLOB) WHERE tenant = 'demo' AND number = 255")
        .await;
    vault.reader().self_check(Pass::Recent, vault.store.log_health()).await.unwrap();
    assert!(vault.alarms().contains("entry 255 is not the one"), "{}", vault.alarms());
}

#[tokio::test]
async fn a_stranger_cannot_certify_itself() {
    // What the sequencer believes of a boot is what the system log's key signed.
    let vault = Vault::start().await;
    let stranger = NodeIdentity::generate(vault.keys.realm().clone(), "node-1", "test", vault.clock.now()).unwrap();
    let found = crate::sequencer::integrate::certificate(stranger.boot(), &vault.store, &vault.keys).await.unwrap();
    assert_eq!(found, None);
}
