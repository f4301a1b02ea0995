//! SQLite alone: who may read its file, what a failing disk does to it.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, Executor};

use super::on_sqlite;
use super::vault::{Vault, demo, entry};
use crate::access_log::Action;
use crate::store::committer::operation::Changes;
use crate::store::{Engine, Error};

on_sqlite!(
    nobody_else_may_read_the_files,
    a_connection_that_reads_writes_nothing_and_keeps_half_a_megabyte_of_pages,
    a_full_disk_acknowledges_nothing_and_heals,
    after_a_refused_sync_nothing_is_written,
    the_write_ahead_log_stays_short_though_somebody_always_reads,
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

async fn a_connection_that_reads_writes_nothing_and_keeps_half_a_megabyte_of_pages(vault: Vault) {
    let Engine::Sqlite(store) = &vault.store.inner.engine else { panic!("this is of SQLite alone") };
    let mut reader = store.reader().await.unwrap();
    let pages: i64 = sqlx::query_scalar("PRAGMA cache_size").fetch_one(&mut *reader).await.unwrap();
    assert_eq!(pages, -512, "kibibytes");
    let refused = reader.execute("DELETE FROM installation").await.unwrap_err().to_string();
    assert!(refused.contains("readonly"), "{refused}");
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

/// Under load there is no moment at which nobody reads: each reader begins before the one before it has ended.
async fn the_write_ahead_log_stays_short_though_somebody_always_reads(vault: Vault) {
    let vault = vault.with_tenant().await;
    let log = vault.folder.path().join("siv.db-wal");
    let length = || std::fs::metadata(&log).unwrap().len();
    let options = SqliteConnectOptions::new().filename(vault.folder.path().join("siv.db"));
    let reader = || async {
        let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
        connection.execute("BEGIN; SELECT count(*) FROM installation").await.unwrap();
        connection
    };
    let (mut one, mut other) = (reader().await, reader().await);
    let reads = async {
        loop {
            one.execute("COMMIT; BEGIN; SELECT count(*) FROM installation").await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
            std::mem::swap(&mut one, &mut other);
        }
    };
    let writes = async {
        let (mut written, mut longest) = (0, 0);
        // Four times what it may hold, and time enough to begin anew: it is tried once a second.
        while written < 32 << 20 {
            vault
                .write(|| Changes { entries: (0..20).map(|_| long().into()).collect(), ..Changes::default() })
                .await
                .unwrap();
            written += 20 * 40_000;
            longest = longest.max(length());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        longest
    };
    let longest = tokio::select! {
        longest = writes => longest,
        () = reads => 0,
    };
    assert!(longest > 2 << 20, "it was long, else nothing was tried: {longest}");
    assert!(longest < 24 << 20, "it grew as if it were never begun anew: {longest}");
}

fn long() -> crate::access_log::Entry {
    let mut entry = entry(&demo(), Action::LogRead);
    entry.facts = vec![("filling", "x".repeat(40_000))];
    entry
}
