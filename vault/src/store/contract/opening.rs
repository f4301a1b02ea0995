//! Opening a database: whose it is, which schema it has; what an unknown commit does.

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

async fn a_commit_nobody_heard_of_closes_its_lane(vault: Vault) {
    let vault = vault.with_tenant().await;
    let write =
        || vault.write(|| Changes { entries: vec![entry(&demo(), Action::LogRead).into()], ..Changes::default() });
    let before = write().await.unwrap().receipts()[0].position;
    vault.store.writer().await.lose_the_next_answer(true);
    assert!(matches!(write().await, Err(Error::Unavailable)));
    let after = write().await.unwrap().receipts()[0].position;
    assert_eq!((before.lane, after.lane, after.number), (0, 1, 0));
    // It did happen, so its number was taken: a lane that went on would have met it.
    let last = vault.number("SELECT max(number) FROM access_log WHERE tenant = 'demo' AND lane = 0").await;
    assert_eq!(last, i64::try_from(before.number).unwrap() + 1);
    let lanes = vault.waiting_lanes().await;
    assert!(lanes.iter().map(|lane| lane.lane).eq([0, 1]));
}
