//! Whoever writes to the database behind the vault's back is found.

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Vault, copy_of_database, put_back, tenant};
use crate::access_log::{Distrust, LogHealth};
use crate::sequencer::watch::Watch;
use crate::sequencer::{LogReader, Pass, Sequencer, supervise};

/// What is wrong after the pending entries were meddled with: the lane is refused and says why.
async fn refused_after(sql: &'static str) -> String {
    let vault = Vault::start().await;
    vault.write(3).await;
    vault.meddle(sql).await;
    let refused = vault.integrate().await;
    assert_eq!(refused.len(), 1, "{sql}");
    // Batches before the altered one may stand; the one entry of the announcement and two more at most.
    assert!(vault.store.head(&tenant()).await.unwrap().is_none_or(|head| head.size < 4), "{sql}");
    vault.alarms()
}

#[tokio::test]
async fn an_altered_entry_is_never_integrated() {
    let alarm = refused_after(
        "UPDATE access_log SET leaf = CAST(replace(CAST(leaf AS TEXT), 'log.read', 'log.raed') AS BLOB) WHERE tenant = 'demo' AND number = 2",
    )
    .await;
    assert!(alarm.contains("does not hold together"), "{alarm}");
}

#[tokio::test]
async fn a_removed_entry_stops_its_lane() {
    refused_after("DELETE FROM access_log WHERE tenant = 'demo' AND number = 2").await;
}

#[tokio::test]
async fn a_batch_that_is_altered_or_removed_from_the_middle_stops_its_lane() {
    refused_after("UPDATE log_batches SET time = time + 1 WHERE first = (SELECT max(first) FROM log_batches)").await;
    refused_after("DELETE FROM log_batches WHERE first = (SELECT max(first) - 1 FROM log_batches)").await;
    refused_after("UPDATE log_groups SET first = first + 1 WHERE tenant = 'demo' AND first = 3").await;
}

#[tokio::test]
async fn a_boot_without_certificate_is_never_integrated() {
    let vault = Vault::start().await;
    vault.write(1).await;
    vault.meddle("UPDATE node_keys SET body = CAST(replace(CAST(body AS TEXT), 'node-1', 'node-2') AS BLOB)").await;
    // The row does not authenticate: nothing of that boot is taken.
    assert_eq!(vault.integrate().await.len(), 1);
    assert!(vault.store.head(&tenant()).await.unwrap().is_none());
    assert!(vault.alarms().contains("node_keys was tampered with"), "{}", vault.alarms());
}

#[tokio::test]
async fn a_tail_that_vanishes_before_integration_stops_the_node() {
    let vault = Vault::start().await;
    let sequencer = Sequencer::start(vault.store.clone(), vault.keys.clone(), vault.committer.clone()).await.unwrap();
    // The sequencer is kept from integrating by an earlier lane state; then the newest batch goes.
    vault.write(1).await;
    sequencer.stop().await;
    vault.write(2).await;
    vault.meddle("DELETE FROM log_batches WHERE first = (SELECT max(first) FROM log_batches)").await;
    let sequencer = Sequencer::start(vault.store.clone(), vault.keys.clone(), vault.committer.clone()).await.unwrap();
    sequencer.stop().await;
    assert_eq!(vault.store.log_health().distrust(), Some(Distrust::Pending));
}

#[tokio::test]
async fn a_database_that_was_put_back_is_not_served() {
    let vault = Vault::start().await;
    vault.write(3).await;
    vault.integrate().await;
    let dir = vault.end().await;
    let copy = copy_of_database(dir.path());
    let vault = Vault::start_in(dir).await;
    vault.write(3).await;
    vault.integrate().await;
    let dir = vault.end().await;
    put_back(copy.path(), dir.path());
    let vault = Vault::start_in(dir).await;
    let size = vault.store.head(&tenant()).await.unwrap().unwrap().size;
    let sequencer = Sequencer::start(vault.store.clone(), vault.keys.clone(), vault.committer.clone()).await.unwrap();
    assert!(matches!(vault.store.log_health().distrust(), Some(Distrust::History(_))));
    sequencer.stop().await;
    let after = vault.store.head(&tenant()).await.unwrap().unwrap().size;
    assert_eq!(size, after, "a log that cannot be relied on does not grow");
}

#[tokio::test]
async fn rewritten_tiles_and_heads_are_noticed() {
    for sql in [
        "UPDATE log_heads SET size = size - 1 WHERE tenant = 'demo'",
        "UPDATE log_heads SET root = zeroblob(32) WHERE tenant = 'demo'",
        "DELETE FROM log_heads WHERE tenant = 'demo'",
        "UPDATE log_heads SET root = x'00' WHERE tenant = 'demo'",
        "UPDATE log_tiles SET hashes = x'01' WHERE tenant = 'demo' AND level = 0",
        "DELETE FROM checkpoints WHERE tenant = 'demo'",
        "UPDATE log_tiles SET hashes = zeroblob(length(hashes)) WHERE tenant = 'demo' AND level = 0",
    ] {
        let vault = Vault::start().await;
        vault.write(3).await;
        vault.integrate().await;
        vault.meddle(sql).await;
        assert_eq!(vault.look().await, Some(Distrust::History(tenant())), "{sql}");
    }
}

#[tokio::test]
async fn a_history_that_was_found_broken_is_not_taken_back_because_its_head_is_remembered() {
    let vault = Vault::start().await;
    vault.write(3).await;
    vault.integrate().await;
    let mut watch = Watch::new(vault.store.clone(), vault.keys.clone(), vault.committer.clone());
    watch.compare().await.unwrap();
    let (health, history) = (vault.store.log_health(), Some(Distrust::History(tenant())));
    vault.meddle("UPDATE log_tiles SET tile = tile + 100 WHERE tenant = 'demo'").await;
    // As the integrator says it when it reads the edge that it builds on.
    health.set(history.clone());
    watch.compare().await.unwrap();
    assert_eq!(health.distrust(), history, "the head is the one that is remembered, the tiles below it are not");
    vault.meddle("UPDATE log_tiles SET tile = tile - 100 WHERE tenant = 'demo'").await;
    watch.compare().await.unwrap();
    assert_eq!(health.distrust(), None, "proven again");
}

#[tokio::test]
async fn altered_heads_outside_are_noticed() {
    let vault = Vault::start().await;
    vault.write(1).await;
    vault.integrate().await;
    std::fs::remove_file(vault.dir.path().join("keys/heads")).unwrap();
    assert_eq!(vault.look().await, Some(Distrust::Heads));
}

#[tokio::test]
async fn the_self_check_names_what_was_altered_after_integration() {
    for (sql, said) in [
        (
            "UPDATE access_log SET leaf = CAST(replace(CAST(leaf AS TEXT), 'log.read', 'log.raed') AS BLOB) WHERE tenant = 'demo' AND number = 2",
            "entry 2",
        ),
        ("DELETE FROM access_log WHERE tenant = 'demo' AND number = 3", "entry 3 is missing"),
        ("UPDATE access_log SET action = 'log.raed' WHERE tenant = 'demo' AND number = 2", "contradict"),
        ("UPDATE access_log SET actor_id = 'x' WHERE tenant = 'demo' AND number = 2", "contradict"),
        ("UPDATE log_index SET number = 90 WHERE tenant = 'demo'", "entry 2 is missing"),
        ("UPDATE log_index SET count = 2 WHERE tenant = 'demo'", "entry 2 is missing"),
        ("UPDATE log_index SET leaf_index = 1 WHERE tenant = 'demo'", "entry 0 is missing"),
        (
            "INSERT INTO log_index SELECT tenant, 2, 1, boot, lane, 1 FROM log_index WHERE tenant = 'demo'",
            "entry 2 stands there twice",
        ),
        (
            "UPDATE log_tiles SET hashes = zeroblob(length(hashes)) WHERE tenant = 'demo'",
            "does not lead to the signed root",
        ),
        ("UPDATE checkpoints SET note = replace(note, '/demo', '/dema') WHERE tenant = 'demo'", "checkpoint"),
        ("DELETE FROM checkpoints WHERE tenant = 'demo'", "there is no checkpoint"),
        (
            "INSERT INTO checkpoints SELECT tenant, size + 1000000, time, note || 'x' FROM checkpoints WHERE tenant = 'demo'",
            "the newest checkpoint",
        ),
        ("UPDATE log_tiles SET hashes = x'01' WHERE tenant = 'demo'", "does not lead to the signed root"),
        ("UPDATE access_log SET value_id = x'01' WHERE tenant = 'demo' AND number = 2", "access_log is not readable"),
    ] {
        let vault = Vault::start().await;
        vault.write(4).await;
        vault.integrate().await;
        let reader = LogReader::new(vault.store.clone(), vault.keys.clone());
        let health = vault.store.log_health();
        for pass in [Pass::Recent, Pass::All] {
            reader.self_check(pass, health).await.unwrap();
            assert_eq!(health.self_check().alarms, Vec::<String>::new(), "{pass:?}");
        }
        vault.meddle(sql).await;
        reader.self_check(Pass::Recent, health).await.unwrap();
        let alarms = health.self_check().alarms.join("\n");
        assert!(alarms.contains(said), "{sql}: {alarms}");
    }
}

#[tokio::test]
async fn the_self_check_finds_nothing_in_a_log_whose_last_tile_has_one_entry() {
    let vault = Vault::start().await;
    vault.write(256).await;
    vault.integrate().await;
    assert_eq!(vault.store.head(&tenant()).await.unwrap().unwrap().size, 257);
    vault.reader().self_check(Pass::All, vault.store.log_health()).await.unwrap();
    assert_eq!(vault.alarms(), "");
}

#[tokio::test]
async fn a_part_that_ends_unasked_closes_the_node_though_the_watch_finds_everything_whole() {
    let (health, stop, mut parts) = (LogHealth::default(), CancellationToken::new(), JoinSet::new());
    parts.spawn(async {});
    let (of, until) = (health.clone(), stop.clone());
    // The watch's last look takes back what it can.
    parts.spawn(async move {
        until.cancelled().await;
        of.settle(of.distrust().as_ref(), None);
    });
    supervise(parts, stop, health.clone()).await;
    assert_eq!(health.distrust(), Some(Distrust::Heads));
}

#[tokio::test]
async fn parts_that_end_because_they_are_told_to_close_nothing() {
    let (health, stop, mut parts) = (LogHealth::default(), CancellationToken::new(), JoinSet::new());
    let until = stop.clone();
    parts.spawn(async move { until.cancelled().await });
    stop.cancel();
    supervise(parts, stop, health.clone()).await;
    assert!(health.is_serving());
}
