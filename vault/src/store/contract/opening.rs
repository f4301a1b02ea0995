//! Opening a database: whose it is, who may read it, which schema it has, what a failing disk does.

use std::os::unix::fs::PermissionsExt;

use super::on_every_engine;
use super::vault::{Vault, demo, entry, keys};
use crate::access_log::Action;
use crate::store::committer::operation::Changes;
use crate::store::{Error, Store};

on_every_engine!(
    a_newer_or_edited_schema_is_refused,
    another_installation_is_refused,
    a_commit_nobody_heard_of_closes_its_lane,
);

/// What is about SQLite's file.
mod of_a_file {
    use super::{
        a_full_disk_acknowledges_nothing_and_heals, after_a_refused_sync_nothing_is_written,
        nobody_else_may_read_the_files,
    };

    super::super::on_sqlite!(
        nobody_else_may_read_the_files,
        a_full_disk_acknowledges_nothing_and_heals,
        after_a_refused_sync_nothing_is_written,
    );
}

async fn a_newer_or_edited_schema_is_refused(vault: Vault) {
    let open = || Store::open(&vault.settings, vault.keys.clone(), vault.clock.clone());
    assert!(open().await.is_ok());
    vault.tamper(&format!("UPDATE _sqlx_migrations SET checksum = {}", vault.literal(&[0]))).await;
    assert!(matches!(open().await.err(), Some(Error::Schema(_))));
    vault.tamper("UPDATE _sqlx_migrations SET version = 9999").await;
    assert!(matches!(open().await.err(), Some(Error::Schema(_))));
}

async fn another_installation_is_refused(vault: Vault) {
    let other = keys(&vault.folder.path().join("b"), &vault.clock).await;
    let opened = Store::open(&vault.settings, other, vault.clock.clone()).await;
    assert!(matches!(opened.err(), Some(Error::WrongInstallation)));
}

async fn nobody_else_may_read_the_files(vault: Vault) {
    let vault = vault.with_tenant().await;
    let files: Vec<_> = std::fs::read_dir(vault.folder.path())
        .unwrap()
        .map(Result::unwrap)
        .filter(|file| file.file_name().to_string_lossy().starts_with("siv.db"))
        .collect();
    assert_eq!(files.len(), 3, "database, write-ahead log and its index");
    for file in files {
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", file.file_name());
    }
}

async fn a_full_disk_acknowledges_nothing_and_heals(vault: Vault) {
    let vault = vault.with_tenant().await;
    let write = || vault.write(|| Changes { entries: vec![entry(&demo(), Action::LogRead)], ..Changes::default() });
    let before = write().await.unwrap().receipts[0].position;
    vault.store.writer().await.sqlite().fill_the_disk().await;
    let mut refused = 0;
    while let Err(error) = vault.write(|| Changes { entries: vec![long()], ..Changes::default() }).await {
        assert!(matches!(error, Error::Unavailable), "{error:?}");
        refused += 1;
        assert!(refused < 3);
    }
    assert!(refused > 0, "the disk was not full");
    let after = write().await.unwrap().receipts[0].position;
    assert!(after > before);
    let gap =
        vault.number("SELECT max(number) - min(number) + 1 - count(*) FROM access_log WHERE tenant = 'demo'").await;
    assert_eq!(gap, 0);
}

async fn a_commit_nobody_heard_of_closes_its_lane(vault: Vault) {
    let vault = vault.with_tenant().await;
    let write = || vault.write(|| Changes { entries: vec![entry(&demo(), Action::LogRead)], ..Changes::default() });
    let before = write().await.unwrap().receipts[0].position;
    vault.store.writer().await.lose_the_next_answer();
    assert!(matches!(write().await, Err(Error::Unavailable)));
    let after = write().await.unwrap().receipts[0].position;
    assert_eq!((before.lane, after.lane, after.number), (0, 1, 0));
    // It did happen, so its number was taken: a lane that went on would have met it.
    let last = vault.number("SELECT max(number) FROM access_log WHERE tenant = 'demo' AND lane = 0").await;
    assert_eq!(last, i64::try_from(before.number).unwrap() + 1);
    let lanes = vault.store.lanes().await.unwrap();
    assert!(lanes.iter().map(|lane| lane.lane).eq([0, 1]));
}

async fn after_a_refused_sync_nothing_is_written(vault: Vault) {
    let vault = vault.with_tenant().await;
    vault.store.writer().await.sqlite().refuse_a_sync();
    for _ in 0..2 {
        assert!(matches!(vault.write(Changes::default).await, Err(Error::Poisoned)));
    }
    let vault = vault.killed_and_started().await;
    vault.write(Changes::default).await.unwrap();
}

fn long() -> crate::access_log::Entry {
    let mut entry = entry(&demo(), Action::LogRead);
    entry.facts = vec![("filling", "x".repeat(40_000))];
    entry
}
