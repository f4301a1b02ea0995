//! SQLite alone: who may read its file, what a failing disk does to it.

use std::os::unix::fs::PermissionsExt;

use super::on_sqlite;
use super::vault::{Vault, demo, entry};
use crate::access_log::Action;
use crate::store::Error;
use crate::store::committer::operation::Changes;

on_sqlite!(
    nobody_else_may_read_the_files,
    a_full_disk_acknowledges_nothing_and_heals,
    after_a_refused_sync_nothing_is_written,
);

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
    let write =
        || vault.write(|| Changes { entries: vec![entry(&demo(), Action::LogRead).into()], ..Changes::default() });
    let before = write().await.unwrap().receipts()[0].position;
    vault.store.writer().await.sqlite().fill_the_disk().await;
    let mut refused = 0;
    while let Err(error) = vault.write(|| Changes { entries: vec![long().into()], ..Changes::default() }).await {
        assert!(matches!(error, Error::Unavailable), "{error:?}");
        refused += 1;
        assert!(refused < 3);
    }
    assert!(refused > 0, "the disk was not full");
    let after = write().await.unwrap().receipts()[0].position;
    assert!(after > before);
    let gap =
        vault.number("SELECT max(number) - min(number) + 1 - count(*) FROM access_log WHERE tenant = 'demo'").await;
    assert_eq!(gap, 0);
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
