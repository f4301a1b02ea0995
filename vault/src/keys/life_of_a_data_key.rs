//! The law of data keys: who opens them, until when, and what no attacker with the database can make of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::fixture::{Blind, NOW, Records, bytes_of, open, tenant};
use super::key_store::{SecretKind, SecretName};
use super::{Error, HowEnded, KekState, Keys, Rewrap, Statement};
use crate::crypto::{DataKey, seal_bytes};
use crate::domain::{Clock, DataKeyClass, DataKeyId, Timestamp};

const SESSION: DataKeyClass = DataKeyClass::Session;

async fn vault(dir: &tempfile::TempDir) -> (Keys, Records, Clock) {
    let clock = Clock::held(NOW);
    let keys = open(dir.path(), &clock).await.unwrap();
    let records = Records::with_kek(&keys).await;
    (keys, records, clock)
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[tokio::test]
async fn one_data_key_serves_a_tenant_class_and_epoch_across_restarts() {
    let dir = folder();
    let (keys, records, clock) = vault(&dir).await;
    for class in DataKeyClass::ALL {
        let made = keys.data_key_to_seal(&records, &tenant(), class, NOW).await.unwrap();
        let again = keys.data_key_to_seal(&records, &tenant(), class, NOW).await.unwrap();
        assert_eq!(made.bytes(), again.bytes());
        let next = NOW.plus(class.epoch_length());
        assert_ne!(keys.data_key_to_seal(&records, &tenant(), class, next).await.unwrap().id(), made.id());
    }
    let before = keys.data_key_to_seal(&records, &tenant(), SESSION, NOW).await.unwrap();
    drop(keys);
    let keys = open(dir.path(), &clock).await.unwrap();
    let after = keys.data_key(&records, &tenant(), before.id()).await.unwrap();
    assert_eq!(before.bytes(), after.bytes());
}

#[tokio::test]
async fn without_a_kek_nothing_is_sealed() {
    let dir = folder();
    let (keys, _, _) = vault(&dir).await;
    let none = keys.data_key_to_seal(&Records::default(), &tenant(), SESSION, NOW).await;
    assert!(matches!(none, Err(Error::NoKek)));
}

#[tokio::test]
async fn a_wrapped_key_that_was_altered_or_moved_is_refused() {
    let dir = folder();
    let (keys, records, _) = vault(&dir).await;
    for class in [SESSION, DataKeyClass::Stored] {
        let id = keys.data_key_to_seal(&records, &tenant(), class, NOW).await.unwrap().id();
        let row = records.rows.lock().unwrap().iter().find(|row| row.data_key_id == id).unwrap().clone();
        for at in 0..row.sealed.len() {
            let mut wrong = row.clone();
            wrong.sealed[at] ^= 1 << (at % 8);
            assert!(refused(&keys, &records, wrong).await, "byte {at}");
            let mut cut = row.clone();
            cut.sealed.truncate(at);
            assert!(refused(&keys, &records, cut).await, "cut to {at}");
        }
        let mut longer = row.clone();
        longer.sealed.push(0);
        let mut other_class = row.clone();
        other_class.class = DataKeyClass::Capture;
        let mut other_epoch = row.clone();
        other_epoch.epoch.0 += 1;
        let mut other_id = row.clone();
        other_id.data_key_id = DataKeyId::generate(NOW);
        let mut other_kek = row.clone();
        other_kek.kek_version = 2;
        let mut other_tenant = row.clone();
        other_tenant.tenant = "other".parse().unwrap();
        for (number, moved) in
            [longer, other_class, other_epoch, other_id, other_kek, other_tenant].into_iter().enumerate()
        {
            assert!(refused(&keys, &records, moved).await, "move {number} of {class}");
        }
    }
}

/// Whether a row put into the database by hand does not open.
async fn refused(keys: &Keys, records: &Records, row: super::DataKeyRow) -> bool {
    keys.forget_tenant(&row.tenant);
    let database = Records::default();
    database.keks.lock().unwrap().clone_from(&records.keks.lock().unwrap());
    let (owner, id) = (row.tenant.clone(), row.data_key_id);
    database.rows.lock().unwrap().push(row);
    keys.data_key(&database, &owner, id).await.is_err()
}

#[tokio::test]
async fn an_erasure_key_dies_by_the_clock_and_takes_its_data_keys_with_it() {
    let dir = folder();
    let (keys, records, clock) = vault(&dir).await;
    let class = DataKeyClass::SensitiveAuthentication;
    let id = keys.data_key_to_seal(&records, &tenant(), class, NOW).await.unwrap().id();
    let kept = keys.data_key_to_seal(&records, &tenant(), DataKeyClass::Stored, NOW).await.unwrap().id();
    let gone = class.erased_at(class.epoch(NOW)).unwrap();
    clock.advance(gone.since(NOW) - Duration::from_millis(1));
    assert_eq!(keys.destroy_due_erasure_keys(clock.now()).await.unwrap(), 0);
    assert!(keys.data_key(&records, &tenant(), id).await.is_ok());
    // Its time is past: refused from the cache and from the database, though the file is still there.
    clock.advance(Duration::from_millis(1));
    assert!(keys.cached(&tenant(), id).is_none());
    assert!(matches!(keys.data_key(&records, &tenant(), id).await, Err(Error::Erased)));
    assert_eq!(keys.destroy_due_erasure_keys(clock.now()).await.unwrap(), 1);
    assert_eq!(keys.destroy_due_erasure_keys(clock.now()).await.unwrap(), 0);
    assert!(matches!(keys.data_key_to_seal(&records, &tenant(), class, NOW).await, Err(Error::Erased)));
    assert!(keys.data_key(&records, &tenant(), kept).await.is_ok());
}

#[tokio::test]
async fn a_clock_put_back_does_not_bring_an_erased_key_back() {
    let dir = folder();
    let (keys, records, clock) = vault(&dir).await;
    let id = keys.data_key_to_seal(&records, &tenant(), SESSION, NOW).await.unwrap().id();
    keys.destroy_due_erasure_keys(SESSION.erased_at(SESSION.epoch(NOW)).unwrap()).await.unwrap();
    keys.forget_tenant(&tenant());
    assert_eq!(clock.now(), NOW);
    assert!(matches!(keys.data_key(&records, &tenant(), id).await, Err(Error::Erased)));
}

#[tokio::test]
async fn an_opened_key_has_an_absolute_age() {
    let dir = folder();
    let (keys, records, clock) = vault(&dir).await;
    *records.age.lock().unwrap() = Some(Duration::from_secs(30));
    let id = keys.data_key_to_seal(&records, &tenant(), SESSION, NOW).await.unwrap().id();
    for _ in 0..29 {
        clock.advance(Duration::from_secs(1));
        assert!(keys.cached(&tenant(), id).is_some(), "use does not renew it");
    }
    clock.advance(Duration::from_secs(1));
    assert!(keys.cached(&tenant(), id).is_none());
    // A tenant that allows no cache has none; what an operation holds stays with the operation.
    *records.age.lock().unwrap() = Some(Duration::ZERO);
    let key = keys.data_key(&records, &tenant(), id).await.unwrap();
    assert!(keys.cached(&tenant(), id).is_none());
    let mut held = keys.held();
    assert!(held.get(&tenant(), id).is_none());
    held.hold(key);
    assert!(held.get(&tenant(), id).is_some());
}

#[tokio::test]
async fn a_key_that_was_on_its_way_when_its_tenant_was_forgotten_is_not_kept() {
    let dir = folder();
    let (keys, records, _) = vault(&dir).await;
    let id = keys.data_key_to_seal(&records, &tenant(), SESSION, NOW).await.unwrap().id();
    keys.forget_tenant(&tenant());
    let (arrived, go_on) = (Arc::<tokio::sync::Notify>::default(), Arc::<tokio::sync::Notify>::default());
    *records.unwrapped.lock().unwrap() = Some((arrived.clone(), go_on.clone()));
    let demo = tenant();
    let (opened, ()) = tokio::join!(keys.data_key(&records, &demo, id), async {
        // It is unwrapped and not yet kept: now the tenant is sealed, its KEK destroyed, or its state changed.
        arrived.notified().await;
        keys.forget_tenant(&demo);
        go_on.notify_one();
    });
    opened.unwrap();
    assert!(keys.cached(&tenant(), id).is_none());
    *records.unwrapped.lock().unwrap() = None;
    keys.data_key(&records, &tenant(), id).await.unwrap();
    assert!(keys.cached(&tenant(), id).is_some(), "what is opened after is kept");
}

#[tokio::test]
async fn a_key_whose_tenant_is_forgotten_right_after_its_row_was_read_does_not_become_the_one_that_seals() {
    let dir = folder();
    let (keys, records, _) = vault(&dir).await;
    let id = keys.data_key_to_seal(&records, &tenant(), SESSION, NOW).await.unwrap().id();
    keys.forget_tenant(&tenant());
    // It was read as fit to seal, and is spoilt by the compromise that is committed now.
    let compromised = keys.clone();
    *records.after_reading.lock().unwrap() = Some(Box::new(move || compromised.forget_tenant(&tenant())));
    assert_eq!(keys.data_key_to_seal(&records, &tenant(), SESSION, NOW).await.unwrap().id(), id);
    assert!(keys.cached(&tenant(), id).is_none());
    *records.after_reading.lock().unwrap() = None;
    keys.data_key_to_seal(&records, &tenant(), SESSION, NOW).await.unwrap();
    assert!(keys.cached(&tenant(), id).is_some());
}

#[tokio::test]
async fn forgetting_a_tenant_wipes_its_keys_at_once() {
    let dir = folder();
    let (keys, records, _) = vault(&dir).await;
    let key = keys.data_key_to_seal(&records, &tenant(), SESSION, NOW).await.unwrap();
    keys.forget_tenant(&tenant());
    assert_eq!(Arc::strong_count(&key), 1, "only the test holds it");
    assert!(keys.cached(&tenant(), key.id()).is_none());
}

#[tokio::test]
async fn many_who_want_one_key_open_it_once() {
    let dir = folder();
    let (keys, records, _) = vault(&dir).await;
    let id = keys.data_key_to_seal(&records, &tenant(), SESSION, NOW).await.unwrap().id();
    keys.forget_tenant(&tenant());
    let owner = tenant();
    let all = futures_util::future::join_all((0..50).map(|_| keys.data_key(&records, &owner, id))).await;
    assert!(all.into_iter().all(|key| key.is_ok()));
    assert_eq!(records.loads.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn who_loses_the_race_to_make_a_key_takes_the_stored_one() {
    let dir = folder();
    let (keys, records, clock) = vault(&dir).await;
    let stored = keys.data_key_to_seal(&records, &tenant(), SESSION, NOW).await.unwrap();
    keys.forget_tenant(&tenant());
    // A second node that saw no row yet: its insert finds the first node's.
    let blind = Blind(&records);
    let key = keys.data_key_to_seal(&blind, &tenant(), SESSION, clock.now()).await.unwrap();
    assert_eq!((key.id(), key.bytes()), (stored.id(), stored.bytes()));
}

#[tokio::test]
async fn an_old_kek_version_unwraps_until_its_state_forbids_it() {
    let dir = folder();
    let (keys, records, clock) = vault(&dir).await;
    let old = keys.data_key_to_seal(&records, &tenant(), SESSION, NOW).await.unwrap().id();
    let first = records.keks.lock().unwrap()[0].clone();
    let second = keys.rotate_kek(&tenant(), &first, NOW).await.unwrap();
    assert_eq!((second.kek_id, second.version), (first.kek_id, 2));
    records.set_state(1, KekState::Deactivated);
    records.keks.lock().unwrap().push(second);
    let tomorrow = Timestamp::from_millis(NOW.as_millis() + 86_400_000);
    let new = keys.data_key_to_seal(&records, &tenant(), SESSION, tomorrow).await.unwrap().id();
    assert_eq!(records.rows.lock().unwrap().iter().find(|row| row.data_key_id == new).unwrap().kek_version, 2);
    keys.forget_tenant(&tenant());
    assert!(keys.data_key(&records, &tenant(), old).await.is_ok());
    records.set_state(1, KekState::Destroying);
    keys.forget_tenant(&tenant());
    assert!(matches!(keys.data_key(&records, &tenant(), old).await, Err(Error::KekUnusable)));
    assert_eq!(clock.now(), NOW);
}

#[tokio::test]
async fn rewrapping_moves_a_data_key_and_nothing_refers_to_the_old_version() {
    let dir = folder();
    let (keys, records, clock) = vault(&dir).await;
    let class = DataKeyClass::SensitiveAuthentication;
    let before = keys.data_key_to_seal(&records, &tenant(), SESSION, NOW).await.unwrap();
    keys.data_key_to_seal(&records, &tenant(), class, NOW).await.unwrap();
    let first = records.keks.lock().unwrap()[0].clone();
    let second = keys.rotate_kek(&tenant(), &first, NOW).await.unwrap();
    records.set_state(1, KekState::Deactivated);
    records.keks.lock().unwrap().push(second);
    clock.advance(Duration::from_secs(36 * 60));
    keys.destroy_due_erasure_keys(clock.now()).await.unwrap();
    let rows = records.rows.lock().unwrap().clone();
    let mut renewed = Vec::new();
    for row in &rows {
        if let Rewrap::Renewed(row) = keys.rewrap(&records, row).await.unwrap() {
            renewed.push(row);
        }
    }
    assert!(renewed.iter().all(|row| row.kek_version == 2 && row.class != class), "the erased one goes");
    assert_eq!(renewed.len(), 1);
    *records.rows.lock().unwrap() = renewed;
    // The old version may be destroyed now.
    records.set_state(1, KekState::Destroying);
    let old = records.keks.lock().unwrap()[0].clone();
    keys.destroy_kek(&records, &tenant(), &old, Statement::None).await.unwrap();
    let after = keys.data_key(&records, &tenant(), before.id()).await.unwrap();
    assert_eq!(after.bytes(), before.bytes());
}

#[tokio::test]
async fn shredding_a_kek_makes_its_data_keys_unopenable() {
    let dir = folder();
    let (keys, records, _) = vault(&dir).await;
    let id = keys.data_key_to_seal(&records, &tenant(), DataKeyClass::Stored, NOW).await.unwrap().id();
    let active = records.keks.lock().unwrap()[0].clone();
    let early = keys.destroy_kek(&records, &tenant(), &active, Statement::None).await;
    assert!(matches!(early, Err(Error::KekUnusable)), "database first");
    let destroying = super::KekRecord { state: KekState::Destroying, ..active };
    let mut ended = Vec::new();
    for _ in 0..2 {
        ended.push(keys.destroy_kek(&records, &tenant(), &destroying, Statement::None).await.unwrap().how);
    }
    assert_eq!(ended, [HowEnded::Destroyed, HowEnded::NotInKeyStore], "repeatable after a crash, and said as it was");
    // Even a database put back to before, where the KEK is active, opens nothing.
    assert!(matches!(keys.data_key(&records, &tenant(), id).await, Err(Error::KekUnusable)));
}

#[tokio::test]
async fn an_orphaned_erasure_key_is_kept_until_its_time_and_taken_up_again() {
    // Killed after the erasure key was made and before the row: the next one uses the same erasure key.
    let dir = folder();
    let (keys, records, _) = vault(&dir).await;
    let name = SecretName::erasure(SESSION, SESSION.epoch(NOW));
    let orphan = keys.inner.store.create_key(&name).await.unwrap();
    assert_eq!(keys.destroy_due_erasure_keys(NOW).await.unwrap(), 0);
    keys.data_key_to_seal(&records, &tenant(), SESSION, NOW).await.unwrap();
    let found = keys.inner.store.load_key(&name).await.unwrap().unwrap();
    assert_eq!(bytes_of(&found), bytes_of(&orphan));
    assert_eq!(keys.inner.store.list(SecretKind::Erasure).await.unwrap(), [name]);
}

#[tokio::test]
async fn a_data_key_that_sealed_much_has_another_beside_it_and_both_open() {
    let dir = folder();
    let (keys, records, clock) = vault(&dir).await;
    keys.seal_at_most(3);
    let seal = |key: &DataKey| seal_bytes(key, "siv/v1/test", b"", b"x").map(drop).unwrap();
    let current = async |keys: &Keys| keys.data_key_to_seal(&records, &tenant(), SESSION, NOW).await.unwrap();
    let first = current(&keys).await;
    (0..2).for_each(|_| seal(&first));
    assert_eq!(current(&keys).await.id(), first.id());
    // Opened anew it goes on with its count, in the hand of whoever has it already as well.
    keys.forget_tenant(&tenant());
    let again = current(&keys).await;
    assert_eq!((again.id(), again.seals()), (first.id(), 2));
    seal(&first);
    let second = current(&keys).await;
    assert_ne!(second.id(), first.id());
    assert_eq!(records.rows.lock().unwrap().iter().map(|row| row.part).collect::<Vec<_>>(), [0, 1]);
    keys.forget_tenant(&tenant());
    assert_eq!(current(&keys).await.id(), second.id(), "not the one that sealed much");
    for id in [first.id(), second.id()] {
        keys.data_key(&records, &tenant(), id).await.unwrap();
    }
    drop(keys);
    let keys = open(dir.path(), &clock).await.unwrap();
    assert_eq!(current(&keys).await.id(), second.id(), "another start goes on with the newest");
}
